"""`wait_for_message` at an edge: it waits here; the hub says what is there, and rings when there is something new."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import anyio

from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Ending
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import arguments, render
from mcp_mailbox.fronts.verbs import Asking
from mcp_mailbox.fronts.verbs import asking as plainly
from mcp_mailbox.link.asking import Asker
from mcp_mailbox.link.beginning import Beginning
from mcp_mailbox.link.forwarding import Forwarder
from mcp_mailbox.link.hub import Away
from mcp_mailbox.link.intake import Intake
from mcp_mailbox.link.mailboxes import Mailboxes
from mcp_mailbox.postoffice import Call, Caller
from mcp_mailbox.postoffice.alarms import Alarms
from mcp_mailbox.postoffice.readers import first_of
from mcp_mailbox.recent import trim
from mcp_mailbox.store import Clock

Json = dict[str, Any]

_KNOWN_MOST = 10_000
_SETTLING = 1_000
"""ms that a wait gives another reader to be noticed as gone, as a post office of its own does."""
_DRAINING = 5_000
"""ms that a wait gives the outbox to be emptied."""
_ONCE = ("ack_failed", "skipped")
"""What the hub says to a wait once, however often it is asked for it."""


class Waits:
    """Waits, and tells the hub what became of the answers. `gone_told` says whether it knows who has gone from here."""

    def __init__(
        self,
        asker: Asker,
        mailboxes: Mailboxes,
        intake: Intake,
        forwarder: Forwarder,
        beginning: Beginning,
        alarms: Alarms,
        clock: Clock,
        gone_told: Callable[[], bool],
    ) -> None:
        self._asker = asker
        self._mailboxes = mailboxes
        self._intake = intake
        self._forwarder = forwarder
        self._beginning = beginning
        self._alarms = alarms
        self._clock = clock
        self._gone_told = gone_told
        self._attempts = itertools.count()
        self._asked_by: OrderedDict[tuple[str, str], int] = OrderedDict()
        """By which attempt a wait was asked last, as long as nobody has said what became of the answer."""

    def reached(self, caller: Caller, request: str, *, former: bool) -> None:
        """See `Counter`."""
        attempt = self._asked_by.pop((caller.reader, request), None)
        self._asker.note("reached", caller, request, attempt, former=former or None)

    def missed(self, caller: Caller, request: str) -> None:
        """See `Counter`."""
        self._asker.note("missed", caller, request, self._asked_by.pop((caller.reader, request), None))

    async def wait(self, asking: Asking) -> Json:
        """Wait."""
        asked: arguments.WaitForMessage = asking.asked
        clock = self._clock
        lasts = min(asked.timeout, asking.longest) * 1000
        deadline = clock.now() + lasts
        refusable = clock.now() + min(lasts, _SETTLING)
        address = await self._until_known(asking, deadline)
        answer: Json | None = None
        told: Json = {}  # in an answer that was not the last one
        if address is None:
            return self._nothing_heard() | self._unacked(asked.ack)
        said = self._asker.spelled(asking) | {"who": self._attempt(asking.call)}
        with self._mailboxes.bell.listening(address) as ear, asking.ending.telling(ear.hear):
            while True:
                ear.clear()
                until = deadline
                await self._settled_before(deadline)
                try:
                    await self._begun(asking.ending)
                    answer = await self._asker.verb("wait_for_message", said, tries=1)
                    if said["given"].pop("ack", None):
                        failed = {each.get("id") for each in answer.get("ack_failed", ())}
                        self._forwarder.outbox.settled(str(address), [each for each in asked.ack if each not in failed])
                    told |= {name: answer[name] for name in _ONCE if name in answer}
                except Away:
                    answer = None
                    told.pop("skipped", None)  # is said again to another attempt
                    said["who"] = self._attempt(asking.call)
                except Refusal as refusal:
                    again = refusable if self._gone_told() else max(refusable, clock.now() + _SETTLING)
                    if refusal.code is not Code.READ_ELSEWHERE or clock.now() >= min(again, deadline):
                        raise
                    answer, until = None, min(again, deadline)
                over = clock.now() >= deadline or asking.ending.is_set()
                if (answer is not None and answer.get("messages")) or over:
                    break
                with self._alarms.at(until, ear.hear):  # it hears as well when the hub is back, as all who listen do
                    await ear.wait()
        if answer is not None:
            return await self._intake.taken(asking, answer) | told
        unacked = said["given"].get("ack")  # the hub has not said that it did that, in all the time
        return self._nothing_heard() | (await self._ack_later(asking, address) if unacked else {}) | told

    async def _ack_later(self, asking: Asking, address: Address) -> Json:
        """Leave to the outbox what a wait was to ack; return what its answer says of that. Twice does no harm."""
        call = replace(asking.call, request=f"{asking.call.request} ack")
        settling = plainly("settle", {"ids": list(asking.asked.ack), "outcome": "ack"}, call)
        return await self._forwarder.settle(settling, self._asker.who(call), str(address))

    def _unacked(self, ids: Sequence[str]) -> Json:
        """Return what an answer says of what was to be acked, while it is not known whose mailbox it is in."""
        why = render.problem(self._asker.away("It has to say which mailbox is yours."))
        return {"ack_failed": [{"id": each} | why for each in ids]} if ids else {}

    def _nothing_heard(self) -> Json:
        """Return the answer of a wait that the hub has not answered."""
        return {"messages": [], "timed_out": True, **self._asker.about_away()}

    def _attempt(self, call: Call) -> Json:
        """Return as whom a wait is asked: by an attempt of its own.

        What the answer to an earlier one may have handed out was seen by nobody if it did not come. The hub is told so
        before it is asked again, and does that one no more if it arrives later.
        """
        asked, known = self._asked_by, (call.caller.reader, call.request)
        if (former := asked.pop(known, None)) is not None:
            self._asker.note("missed", call.caller, call.request, former)
        asked[known] = next(self._attempts)
        trim(asked, _KNOWN_MOST)
        return self._asker.who(call, asked[known])

    async def _settled_before(self, deadline: float) -> None:
        """Let what was settled without the hub reach it first: else it would hand that out again."""
        line = self._asker.line
        if self._forwarder.waiting and line.up:
            until = min(deadline, self._clock.now() + _DRAINING)
            await first_of(self._forwarder.drained, line.changed, partial(self._clock.sleep_until, until))

    async def _begun(self, ending: Ending) -> None:
        """Let those come back first who alone know what their hosts have seen. Raises Away when nothing is asked yet.

        That takes no longer than until `Beginning.give_up` once the hub has said who these are.
        """
        line, beginning = self._asker.line, self._beginning
        ended = anyio.Event()
        with ending.telling(ended.set):
            while not (beginning.over or ended.is_set()) and (line.up or line.since is None):
                await first_of(beginning.until_over, line.changed, ended.wait)
        if not beginning.over:
            raise Away(line.why)

    async def _until_known(self, asking: Asking, deadline: float) -> Address | None:
        """Return the address to wait at; None when the hub was not there to say, in all that time."""
        while True:
            changed = self._asker.line.changed
            try:
                return await self._mailboxes.readable(asking.call.caller, asking.call.mailbox)
            except Refusal as refusal:
                if refusal.code is not Code.HUB_AWAY:
                    raise
                if self._clock.now() >= deadline or asking.ending.is_set():
                    return None
            ended = anyio.Event()
            with asking.ending.telling(ended.set):
                await first_of(changed, ended.wait, partial(self._clock.sleep_until, deadline))
