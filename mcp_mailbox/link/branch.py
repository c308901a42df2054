"""The counter of an edge: fronts ask it as they ask the post office of a store, and the hub does what they ask.

While the hub cannot be reached, what is sent and settled goes to the outbox, on disk, and to the hub when that is back,
in its order, once, whoever is gone by then. What was fetched can be read, and nobody takes silence for an empty inbox:
answers say since when the hub has not been heard.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.abc
from anyio import to_thread

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Bell
from mcp_mailbox.budgets import PAIR_BUDGET
from mcp_mailbox.doorbell import Doorbell, Log, Outcome, Pointer, Result, Ring, StandIn, Terms
from mcp_mailbox.engines.outbox import Entry, Outbox
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import arguments, render
from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.fronts.verbs import Asking
from mcp_mailbox.fronts.verbs import asking as plainly
from mcp_mailbox.link import spelling
from mcp_mailbox.link.asking import Asker
from mcp_mailbox.link.attachments import Attachments
from mcp_mailbox.link.beginning import Beginning
from mcp_mailbox.link.forwarding import Forwarder
from mcp_mailbox.link.hub import Away, Hub, Unanswered
from mcp_mailbox.link.intake import Intake
from mcp_mailbox.link.keyring import Keyring
from mcp_mailbox.link.line import Line
from mcp_mailbox.link.mailboxes import Mailboxes
from mcp_mailbox.link.mailing import Mailing
from mcp_mailbox.link.names import Names
from mcp_mailbox.link.notes import Notes
from mcp_mailbox.link.offline import Offline
from mcp_mailbox.link.pace import Pace
from mcp_mailbox.link.parcels import Parcels
from mcp_mailbox.link.seen import Seen
from mcp_mailbox.link.signatures import Key
from mcp_mailbox.link.signing import Signing
from mcp_mailbox.link.together import Together
from mcp_mailbox.link.waiting import Waits
from mcp_mailbox.postoffice import Call, Caller
from mcp_mailbox.postoffice.alarms import Alarms
from mcp_mailbox.postoffice.attachments import Given
from mcp_mailbox.postoffice.copies import Copies
from mcp_mailbox.postoffice.handed import Tray
from mcp_mailbox.store import Clock

logger = logging.getLogger(__name__)

Json = dict[str, Any]

_LINGER = 2.0
"""Seconds for which rings of a mailbox are still wanted when nobody listens any more: who waited may wait again."""
_PRESENT_AFTER = 3.0
"""Seconds after a start until relays have come back: the hub is told who is there, and that the others have gone."""
_RINGS_MOST = 1_000
"""Hosts that are rung at once; a hub that wants more is passed over."""
_DOING = {"create_mailbox", "subscribe", "reserve"}
"""Verbs that change something, and do not go by the outbox."""


class Shelves(NamedTuple):
    """Where files lie: on their way to the hub, handed in by a front of this machine, fetched for its agents.

    And what its hosts have seen.
    """

    parcels: Parcels
    handed: Tray
    copies: Copies
    seen: Seen


@dataclass(slots=True)
class _Here:
    """A reader that is connected."""

    caller: Caller
    count: int = 0
    bell: Doorbell | None = None
    terms: Terms | None = None


class Branch:
    """See `Counter`. `running` must be entered for as long as it is asked."""

    def __init__(
        self,
        hub: Hub,
        outbox: Outbox,
        clock: Clock,
        shelves: Shelves,
        signing: Key | None = None,
        pair_budget: int = PAIR_BUDGET,
    ) -> None:
        """`signing` is the key with which it signs what it sends; `pair_budget` is for what waits in the outbox."""
        self.alarms = Alarms(clock)
        self.clock = clock
        self.log: Log | None = None
        """Told of every ring of this machine's hosts."""
        self.hub = hub
        self.outbox = outbox
        self.keyring = Keyring(outbox.pins, clock, signing)
        self.line = Line(hub, self._opening, self._told, clock.now)
        self._parcels = shelves.parcels
        self._readers: dict[str, _Here] = {}
        self._standing: dict[str, tuple[Caller, StandIn]] = {}
        """What is rung in the place of readers, and who speaks for it."""
        self._names = Names(outbox)
        self._notes = Notes(hub, self.line, shelves.seen)
        self._beginning = Beginning()
        self._asker = asker = Asker(hub, self.line, self._notes, self._names, clock)
        self._mailboxes = mailboxes = Mailboxes(asker, self._names)
        self.bell: Bell = mailboxes.bell
        self._intake = intake = Intake(asker, mailboxes, self._names, outbox, self.keyring)
        self._attachments = Attachments(asker, mailboxes, intake, shelves.copies)
        sign = Signing(self.keyring, mailboxes, asker, clock)
        self._forwarder = forwarder = Forwarder(hub, self.line, outbox, self._parcels, clock, sign.late)
        self._together = Together(asker)
        self._mailing = Mailing(
            asker,
            self._together,
            mailboxes,
            intake,
            sign,
            forwarder,
            self._parcels,
            shelves.handed,
            Pace(pair_budget, clock),
        )
        self._offline = Offline(asker, mailboxes, self._names, outbox, forwarder)
        self._waits = Waits(
            asker, mailboxes, intake, forwarder, self._beginning, self.alarms, clock, lambda: self._gone_told
        )
        self._gone_told = False
        """Whether the hub knows which readers of our former life have gone."""
        self._ringing = 0
        self._tasks: anyio.abc.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the line, forward what waits, tell what is to be told. Raises Refusal for a disk that cannot be used."""
        await self._names.load()
        copies = await self.outbox.copies()
        await to_thread.run_sync(self._parcels.begin, copies)
        began = self.clock.now()
        with suppress(Refusal):  # a full disk keeps nobody from reading
            began = await self.outbox.later(began)
        await self._asker.begin(began)
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self.alarms.run)
            tasks.start_soon(self.line.run)
            tasks.start_soon(self._forwarder.run)
            tasks.start_soon(self._notes.run)
            tasks.start_soon(self._together.run)
            tasks.start_soon(self._forget_rings)
            tasks.start_soon(self._tell_present)
            yield
            tasks.cancel_scope.cancel()

    @property
    def present(self) -> int:
        """How many readers are here."""
        return len(self._readers)

    def status(self) -> Json:
        """Say how things stand."""
        line = self.line
        said: Json = {"url": self.hub.url, "reached": line.up, "outbox": self.outbox.waiting}
        oldest = self.outbox.oldest
        return (
            said
            | ({"oldest": render.moment(oldest)} if oldest is not None else {})
            | ({"outbox_bytes": self._parcels.size} if self._parcels.size else {})
            | ({"unreachable_since": render.moment(line.since)} if line.since is not None else {})
            | ({"why": line.why} if line.why else {})
            | ({"untold": [_refused(each) for each in self.outbox.untold]} if self.outbox.untold else {})
        )

    # -- readers

    def arrive(self, caller: Caller) -> None:
        """See `Counter`."""
        here = self._readers.setdefault(caller.reader, _Here(caller))
        here.count += 1
        if here.count == 1:
            self._asker.note("here", caller)

    async def depart(self, caller: Caller, *, put_back: bool = True) -> None:
        """See `Counter`."""
        here = self._readers.get(caller.reader)
        if here is not None:
            here.count -= 1
            if here.count <= 0:
                del self._readers[caller.reader]
                self._asker.note("gone", caller, put_back=put_back)

    def ended(self, caller: Caller) -> None:
        """See `Counter`."""

    def attach(self, caller: Caller, bell: Doorbell, terms: Terms, *, resumed: bool) -> None:
        """See `Counter`."""
        here = self._readers.setdefault(caller.reader, _Here(caller))  # a host that is known by its relay's word
        here.bell, here.terms = bell, terms  # is introduced before it arrives
        self._asker.note("here", caller, bell=spelling.bell(bell, terms, resumed=resumed))

    def reachable(self, caller: Caller) -> None:
        """See `Counter`."""
        here = self._readers.get(caller.reader)
        if here is not None and here.bell is not None:
            self._note_again(here)

    def _note_again(self, here: _Here) -> None:
        self._asker.note("here", here.caller, bell=spelling.bell(here.bell, here.terms, resumed=True))

    def _note_all_again(self) -> None:
        for here in self._readers.values():
            self._note_again(here)
        for caller, stand in self._standing.values():
            self._note_standing(caller, stand, resumed=True)

    def begins(self, caller: Caller, host: str, *, resumed: bool) -> None:
        """See `Counter`."""
        self._asker.note("begins", caller, host=host, resumed=resumed)

    async def greet(self, caller: Caller) -> None:
        """See `Counter`: `here` has told it."""

    async def reached(self, caller: Caller, request: str, *, former: bool = False) -> None:
        """See `Counter`."""
        self._waits.reached(caller, request, former=former)

    def recalled(self, caller: Caller) -> None:
        """See `Counter`."""
        self._beginning.recalled(caller.reader)

    async def missed(self, caller: Caller, request: str) -> None:
        """See `Counter`."""
        self._waits.missed(caller, request)

    async def rang(self, address: Address) -> None:
        """See `Counter`."""
        self._asker.note("rang", None, mailbox=str(address))

    def waiting(self, caller: Caller, places: Iterable[Address]) -> AbstractContextManager[None]:
        """See `Counter`: who listens is there."""
        del caller, places
        return nullcontext()

    def can_ring(self, caller: Caller) -> bool:
        """See `Counter`."""
        here = self._readers.get(caller.reader)
        return here is not None and here.bell is not None

    async def rung(self, kind: str, result: Result, told: Pointer) -> None:
        """See `Counter`."""
        if self.log is not None:
            self.log.note(Ring(kind, result, told))
        if result.outcome is Outcome.RUNG:
            await self.rang(told.mailbox)

    @contextmanager
    def standing_in(self, caller: Caller, stand: StandIn) -> Iterator[None]:
        """See `Counter`: the hub decides when it is rung."""
        if (former := self._standing.get(stand.name)) is not None:
            former[1].leave()
        mine = self._standing[stand.name] = (caller, stand)
        self._note_standing(caller, stand, resumed=not stand.begins)
        try:
            yield
        finally:
            if self._standing.get(stand.name) is mine:
                del self._standing[stand.name]
                self._asker.note("sits", None, host=stand.name)

    def _note_standing(self, caller: Caller, stand: StandIn, *, resumed: bool) -> None:
        bell = spelling.bell(stand.bell, stand.terms, resumed=resumed)
        self._asker.note("stands", caller, mailbox=str(stand.mailbox), bell=bell, host=stand.name)

    # -- what fronts ask

    async def ask(self, asking: Asking) -> Json:
        """See `Counter`."""
        asking = await self._forwarder.translated(asking)
        if isinstance(asking.asked, arguments.WaitForMessage):
            return await self._waits.wait(asking)
        if isinstance(asking.asked, arguments.Send):
            return await self._mailing.send(asking)
        if (unsent := await self._offline.unsent(asking)) is not None:
            return unsent
        lost = False
        if not (isinstance(asking.asked, arguments.Settle) and self._forwarder.waiting):  # what waits goes first
            try:
                answer = await self._asker.verb(asking.verb, self._asker.spelled(asking))
                answer = await self._intake.taken(asking, answer)
            except Away as away:
                lost = asking.verb in _DOING and isinstance(away, Unanswered)
            else:
                if isinstance(asking.asked, arguments.Read) and asking.asked.attachment is not None:
                    return await self._attachments.read(asking, asking.asked, answer)
                return answer
        try:
            return await self._offline.ask(asking)
        except Refusal as refusal:
            if lost and refusal.code is Code.HUB_AWAY:
                raise self._asker.lost() from None
            raise

    async def place(self, sizes: Mapping[str, int]) -> Path:
        """See `Counter`."""
        return await self._mailing.place(sizes)

    async def check(self) -> str:
        """See `Counter`."""
        return await self.outbox.check()

    async def ensure(self, call: Call, name: str) -> Address | None:
        """See `Counter`. One that is known is opened when the hub is back."""
        opened = await self.ask(plainly("create_mailbox", {"name": name}, call))
        return addresses.parse(opened["address"], call.caller.space) if opened["created"] else None

    async def home(self, caller: Caller) -> Address | None:
        """See `Counter`."""
        return await self._mailboxes.home(caller)

    async def readable(self, caller: Caller, name: str | None) -> Address:
        """See `Counter`."""
        return await self._mailboxes.readable(caller, name)

    async def listed(self, caller: Caller, limit: int, after: str = "") -> Sequence[Address]:
        """See `Counter`."""
        return await self._mailboxes.listed(caller, limit, after)

    async def complete(self, caller: Caller, prefix: str, limit: int) -> Sequence[Address]:
        """See `Counter`."""
        return await self._mailboxes.complete(caller, prefix, limit)

    async def content(self, call: Call, id: str, name: str) -> Given:  # noqa: A002
        """See `Counter`."""
        return await self._attachments.content(call, id, name)

    # -- what the line tells

    def _opening(self) -> Mapping[str, object]:
        return {"life": self._asker.life, "listens": self._mailboxes.opening()}

    async def _told(self, event: str, said: Json) -> None:
        if event == "ring":
            self.bell.ring(addresses.parse(str(said.get("mailbox", "")), addresses.DEFAULT_SPACE))
        elif event == "bell" and self._tasks is not None:
            if self._ringing < _RINGS_MOST and isinstance(said.get("number"), int):
                self._ringing += 1
                self._tasks.start_soon(self._ring_host, said)
        elif event == "hello":
            unseen = said.get("unseen")
            self._beginning.said([str(each) for each in unseen] if isinstance(unseen, list) else ())
            self._note_all_again()
            self._mailboxes.ring_all()

    async def _ring_host(self, said: Json) -> None:
        name = str(said.get("reader"))
        here, (_, stand) = self._readers.get(name), self._standing.get(name, (None, None))
        bell = here.bell if here is not None else stand.bell if stand is not None else None
        result = Result(Outcome.FAILED, "its host is not connected")
        try:
            told = spelling.pointer(said["told"])
            if stand is not None and stand.superseded():
                result = Result(Outcome.SKIPPED, "its host has a bell of its own")
            elif bell is not None:
                result = await bell.ring(told)
            if self.log is not None and bell is not None:
                self.log.note(Ring(bell.kind, result, told))
        except Exception:  # whatever is wrong with one host's bell, or with what the hub tells, the others are rung
            logger.exception("a doorbell failed")
            result = Result(Outcome.FAILED, "internal error")
        finally:
            self._ringing -= 1
        self._asker.note("belled", None, number=said["number"], outcome=str(result.outcome), reason=result.reason[:200])

    async def _forget_rings(self) -> None:
        east = spelling.east()
        while True:
            await anyio.sleep(_LINGER)
            if east != (east := spelling.east()):  # the clocks were put forward or back: quiet hours go with them
                self._note_all_again()
            self._mailboxes.forget_unheard()

    async def _tell_present(self) -> None:
        await anyio.sleep(_PRESENT_AFTER)
        self._beginning.give_up()
        while True:
            await self.line.until_up()
            changed = self.line.changed
            self._asker.note("present", None, readers=list(self._readers))
            await self._notes.until_told(self._notes.made)
            self._gone_told = self._gone_told or self.line.up
            await changed()


def _refused(entry: Entry) -> Json:
    """Say of what was refused whose it was, and why: its mailbox is not there, or not for this machine's token."""
    given, answer = entry.given, entry.answer or {}
    return {
        "id": f"{wire.MARK}{entry.number}",
        "from": str(entry.who.get("address", "")),
        "to": given.get("to"),
        "subject": given.get("subject", ""),
        "why": answer.get("message", ""),
    }
