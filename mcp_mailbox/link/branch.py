"""The counter of an edge: fronts ask it as they ask the post office of a store, and the hub does what they ask.

While the hub cannot be reached, what is sent and settled goes to the outbox, on disk, and to the hub when that is back,
in its order, once, whoever is gone by then. What was fetched can be read, and nobody takes silence for an empty inbox:
answers say since when the hub has not been heard.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import anyio.abc

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import Attachment
from mcp_mailbox.bell import Bell, key
from mcp_mailbox.doorbell import Doorbell, Outcome, Pointer, Result, Terms
from mcp_mailbox.engines.outbox import Entry, Outbox
from mcp_mailbox.errors import Blame, Code, Refusal
from mcp_mailbox.fronts import arguments, render
from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.fronts.verbs import Asking
from mcp_mailbox.fronts.verbs import asking as plainly
from mcp_mailbox.link.hub import Away, Hub, Strange, refused
from mcp_mailbox.link.line import Line
from mcp_mailbox.postoffice import Call, Caller
from mcp_mailbox.postoffice.alarms import Alarms
from mcp_mailbox.postoffice.readers import first_of
from mcp_mailbox.store import Clock

logger = logging.getLogger(__name__)

Json = dict[str, Any]
_Known = tuple[str, str, str | None]
"""A reader, a space, and the name by which it means a mailbox; None is its own."""

MARK = "outbox-"
"""Begins the id of what is on its way: the hub's own is not known yet."""
_DIGITS = 18
"""Of a number that SQLite can hold."""
_KNOWN_MOST = 10_000
_BATCH = 200
_BATCH_BYTES = 1 << 20
_LINGER = 2.0
"""Seconds for which rings of a mailbox are still wanted when nobody listens any more: who waited may wait again."""
_SETTLING = 1_000
"""ms that a wait gives another reader to be noticed as gone, as a post office of its own does."""
_DRAINING = 5_000
"""ms that a wait gives the outbox to be emptied."""
_NOTES_MOST = 20_000
_PRESENT_AFTER = 5.0
"""Seconds after a start until relays have come back: the hub is told who is there, and that the others have gone."""
_AGAIN = 1.0
"""Seconds after which what the hub did not take is handed in again."""
_RINGS_MOST = 1_000
"""Hosts that are rung at once; a hub that wants more is passed over."""
_PREVIEWED = ("id", "from", "subject", "priority", "sent_at")
_NAMING = {"own", "create_mailbox", "settle", "mailboxes"}
"""Verbs whose answers have names that are kept."""
_LATER = {"send", "settle"}
"""Verbs that need no answer of the hub's now."""
_PATIENT = 2
"""Attempts at a request while the line stands: a connection that was idle may have been closed."""


class _Bell(Bell):
    """A bell that tells when the first one listens for a mailbox."""

    def __init__(self, wanted: Callable[[Address], None]) -> None:
        super().__init__()
        self._wanted = wanted

    def subscribe(self, address: Address, hear: Callable[[], None]) -> Callable[[], None]:
        """See `Bell`."""
        new = key(address) not in self.listened
        end = super().subscribe(address, hear)
        if new:
            self._wanted(address)
        return end


@dataclass(slots=True)
class _Here:
    """A reader that is connected."""

    caller: Caller
    count: int = 0
    bell: Doorbell | None = None
    terms: Terms | None = None


class Branch:
    """See `Counter`. `running` must be entered for as long as it is asked."""

    def __init__(self, hub: Hub, outbox: Outbox, clock: Clock) -> None:
        self.bell: Bell = _Bell(self._wanted)
        self.alarms = Alarms(clock)
        self.hub = hub
        self.outbox = outbox
        self.line = Line(hub, self._opening, self._told, clock.now)
        self._clock = clock
        self._readers: dict[str, _Here] = {}
        self._own: OrderedDict[_Known, Address] = OrderedDict()
        self._listens: dict[tuple[str, str], Address] = {}
        """Whose rings the hub was asked for."""
        self._notes: list[Json] = []
        self._noted = anyio.Event()
        self._filled = anyio.Event()
        self._drained = anyio.Event()
        self._ringing = 0
        self._epoch = secrets.token_hex(4)
        self._attempts = 0
        self._asked_as: OrderedDict[tuple[str, str], str] = OrderedDict()
        """Under which name a wait was asked last, where that is not its own."""
        self._tasks: anyio.abc.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the line, forward what waits, tell what is to be told."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self.alarms.run)
            tasks.start_soon(self.line.run)
            tasks.start_soon(self._forward)
            tasks.start_soon(self._tell_notes)
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
        return (
            said
            | ({"unreachable_since": _moment(line.since)} if line.since is not None else {})
            | ({"why": line.why} if line.why else {})
        )

    # -- readers

    def arrive(self, caller: Caller) -> None:
        """See `Counter`."""
        here = self._readers.setdefault(caller.reader, _Here(caller))
        here.count += 1
        if here.count == 1:
            self._note("here", caller)

    async def depart(self, caller: Caller, *, put_back: bool = True) -> None:
        """See `Counter`."""
        here = self._readers.get(caller.reader)
        if here is not None:
            here.count -= 1
            if here.count <= 0:
                del self._readers[caller.reader]
                self._note("gone", caller, put_back=put_back)

    def ended(self, caller: Caller) -> None:
        """See `Counter`."""

    def attach(self, caller: Caller, bell: Doorbell, terms: Terms, *, resumed: bool) -> None:
        """See `Counter`."""
        here = self._readers.get(caller.reader)
        if here is not None:
            here.bell, here.terms = bell, terms
            self._note("here", caller, bell=_bell(bell, terms, resumed=resumed))

    def reachable(self, caller: Caller) -> None:
        """See `Counter`."""
        here = self._readers.get(caller.reader)
        if here is not None and here.bell is not None:
            self._note("here", caller, bell=_bell(here.bell, here.terms, resumed=True))

    def begins(self, caller: Caller, host: str, *, resumed: bool) -> None:
        """See `Counter`."""
        self._note("begins", caller, host=host, resumed=resumed)

    async def greet(self, caller: Caller) -> None:
        """See `Counter`: `here` has told it."""

    async def reached(self, caller: Caller, request: str) -> None:
        """See `Counter`."""
        self._note("reached", caller, self._asked_as.pop((caller.reader, request), request))

    async def missed(self, caller: Caller, request: str) -> None:
        """See `Counter`."""
        self._note("missed", caller, self._asked_as.pop((caller.reader, request), request))

    async def rang(self, address: Address) -> None:
        """See `Counter`."""
        self._note("rang", None, mailbox=str(address))

    @contextmanager
    def _nothing(self) -> Iterator[None]:
        yield

    def waiting(self, caller: Caller, places: Iterable[Address]) -> AbstractContextManager[None]:
        """See `Counter`: who listens is there."""
        del caller, places
        return self._nothing()

    # -- what fronts ask besides

    async def ensure(self, call: Call, name: str) -> None:
        """See `Counter`. One that is known is opened when the hub is back."""
        await self.ask(plainly("create_mailbox", {"name": name}, call))

    async def readable(self, caller: Caller, name: str | None) -> Address:
        """See `Counter`."""
        known = (caller.reader, caller.space, name)
        address = self._own.get(known)
        if address is None or key(address) not in self._listens:  # it is rung from here on, before anybody listens
            address = await self._own_address(caller, name)
            self._own[known] = address
            while len(self._own) > _KNOWN_MOST:
                self._own.popitem(last=False)
        return address

    async def _own_address(self, caller: Caller, name: str | None) -> Address:
        try:
            said = await self._hub("own", _asked(plainly("own", {}, Call(caller, "own", name))))
        except Away:
            return await self._remembered(caller, name)
        address = addresses.parse(said["address"], caller.space)
        self._listens[key(address)] = address
        self.outbox.bind(caller.reader if name is None and caller.binds else None, str(address))
        return address

    async def _remembered(self, caller: Caller, name: str | None) -> Address:
        """Return the address of a mailbox that was ours when the hub was last heard."""
        name = name if name is not None else caller.mailbox
        if name is None:
            bound = await self.outbox.bound(caller.reader)
            if bound is None:
                raise self._away("It has to say which mailbox is yours.")
            return addresses.parse(bound, caller.space)
        asked = addresses.parse(name, caller.space)
        for each in await self.outbox.mailboxes():
            address = addresses.parse(each, caller.space)
            if key(address) == key(asked):
                return address
        raise self._away(f"It has to say whether you have a mailbox {name!r}.")

    async def listed(self, caller: Caller, limit: int, after: str = "") -> Sequence[Address]:
        """See `Counter`."""
        return await self._named(caller, {"limit": limit, "after": after})

    async def complete(self, caller: Caller, prefix: str, limit: int) -> Sequence[Address]:
        """See `Counter`."""
        return await self._named(caller, {"limit": limit, "prefix": prefix})

    async def _named(self, caller: Caller, given: Mapping[str, object]) -> Sequence[Address]:
        said = await self._asked_now(plainly("mailboxes", given, Call(caller, "mailboxes")))
        return [addresses.parse(each, caller.space) for each in said["mailboxes"]]

    async def content(self, call: Call, id: str, name: str) -> tuple[Attachment, bytes]:  # noqa: A002
        """See `Counter`."""
        try:
            with self.line.relying():
                said, content = await self.hub.attachment({"who": _who(call), "given": {"id": id, "name": name}})
        except (Away, Strange) as error:
            self.line.suspect(str(error))
            raise self._away("Attachments are read there.") from None
        return Attachment(str(said["name"]), str(said["type"]), int(said["size"]), ""), content

    # -- asking

    async def ask(self, asking: Asking) -> Json:
        """See `Counter`."""
        asking = await self._translated(asking)
        if isinstance(asking.asked, arguments.WaitForMessage):
            return await self._wait(asking)
        if isinstance(asking.asked, arguments.Send) and asking.asked.attach:
            raise Refusal(
                Code.NO_FILE,
                "From this machine no files can be attached yet: its mail is kept by a hub.",
                "Say where the file is.",
            )
        queued = asking.verb in _LATER and self.outbox.waiting > 0
        if not queued:
            try:
                return self._seen(asking, await self._hub(asking.verb, _asked(asking)))
            except Away:
                pass
        return await self._without_hub(asking)

    async def _asked_now(self, asking: Asking) -> Json:
        try:
            return await self._hub(asking.verb, _asked(asking))
        except Away:
            raise self._away() from None

    async def _hub(self, verb: str, said: Mapping[str, object]) -> Json:
        """Ask the hub. Raises Refusal as it does; Away when it cannot be reached, and is known or found not to be."""
        if not self.line.up:
            self.line.hurry()
            if self.line.since is not None or self.line.why:
                raise Away(self.line.why)
        for attempt in range(_PATIENT):
            try:
                with self.line.relying():
                    return _plausible(verb, await self.hub.verb(verb, said))
            except Away as away:
                if attempt + 1 == _PATIENT or self.line.since is not None:
                    self.line.suspect(str(away))
                    raise
            except Strange as odd:
                self.line.suspect(str(odd))
                raise Away(str(odd)) from None
        raise AssertionError

    def _away(self, why: str = "") -> Refusal:
        """Return the refusal for what has to wait for the hub."""
        return Refusal(
            Code.HUB_AWAY,
            " ".join(filter(None, (self._unreachable(), why))),
            "Nothing is lost: do the same again later. Mail can be sent meanwhile, and what was fetched be read.",
        )

    def _unreachable(self) -> str:
        since = f" since {_moment(self.line.since)}" if self.line.since is not None else ""
        return f"The hub {self.hub.url} has not been reached{since} ({self.line.why or 'no connection yet'})."

    def _about_away(self) -> Json:
        """Return what an answer says that is given without the hub."""
        since = self.line.since if self.line.since is not None else self._clock.now()
        return {"unreachable_since": _moment(since), "hint": self._unreachable()}

    def _seen(self, asking: Asking, answer: Json) -> Json:
        """Keep what the hub has answered, for when it cannot be reached."""
        caller = asking.call.caller
        if isinstance(asking.asked, arguments.CreateMailbox):
            self.outbox.bind(caller.reader if caller.binds else None, answer["address"])
            address = addresses.parse(answer["address"], caller.space)
            self._own = OrderedDict((known, each) for known, each in self._own.items() if known[0] != caller.reader)
            if caller.binds:
                self._own[caller.reader, caller.space, None] = address
        mailbox = self._known(asking.call)
        if mailbox is not None:
            if asking.verb in {"wait_for_message", "list_inbox"}:
                fetched = [each for each in answer.get("messages", []) if "body" in each or "preview" in each]
                if fetched:
                    self.outbox.keep(mailbox, fetched)
            elif asking.verb in {"read", "entire"} and "body" in answer and "attachment" not in answer:
                self.outbox.keep(mailbox, [answer])
            elif asking.verb == "settle":
                self.outbox.settled(mailbox, answer.get("settled", []))
            elif isinstance(asking.asked, arguments.Send) and asking.asked.reply_to:
                self.outbox.settled(mailbox, [asking.asked.reply_to])
        return answer

    def _known(self, call: Call) -> str | None:
        found = self._own.get((call.caller.reader, call.caller.space, call.mailbox))
        return str(found) if found is not None else None

    # -- waiting

    async def _wait(self, asking: Asking) -> Json:
        """Wait here: the hub says what is there, and rings when there is something new."""
        asked: arguments.WaitForMessage = asking.asked
        clock = self._clock
        lasts = min(asked.timeout, asking.longest) * 1000
        deadline = clock.now() + lasts
        refusable = clock.now() + min(lasts, _SETTLING)
        address = await self._until_known(asking, deadline)
        said = _asked(asking)
        answer: Json | None = None
        if address is None:
            return {"messages": [], "timed_out": True, **self._about_away()}
        with self.bell.listening(address) as ear, asking.ending.telling(ear.hear):
            while True:
                ear.clear()
                changed = self.line.changed
                until = deadline
                await self._settled_before(deadline)
                try:
                    answer = await self._hub("wait_for_message", said)
                    said["given"] = {name: each for name, each in said["given"].items() if name != "ack"}
                except Away:
                    answer = None
                    said["who"] = self._again(asking.call, said["who"])
                except Refusal as refusal:
                    if refusal.code is not Code.READ_ELSEWHERE or clock.now() >= refusable:
                        raise
                    answer, until = None, min(refusable, deadline)
                over = clock.now() >= deadline or asking.ending.is_set()
                if (answer is not None and answer.get("messages")) or over:
                    break
                await first_of(ear.wait, changed, partial(clock.sleep_until, until))
        if answer is None:
            return {"messages": [], "timed_out": True, **self._about_away()}
        return self._seen(asking, answer)

    def _again(self, call: Call, who: Json) -> Json:
        """Return as whom to ask again when no answer came: under a new name.

        What the lost answer may have handed out was seen by nobody. The hub is told so under the old name, which then
        must not be that of what it hands out next.
        """
        self._note("missed", call.caller, who["request"])
        self._attempts += 1
        request = f"{call.request}+{self._epoch}{self._attempts}"
        known = self._asked_as
        known[call.caller.reader, call.request] = request
        while len(known) > _KNOWN_MOST:
            known.popitem(last=False)
        return {**who, "request": request}

    async def _settled_before(self, deadline: float) -> None:
        """Let what was settled without the hub reach it first: else it would hand that out again."""
        if self.outbox.waiting and self.line.up:
            until = min(deadline, self._clock.now() + _DRAINING)
            await first_of(self._drained.wait, self.line.changed, partial(self._clock.sleep_until, until))

    async def _until_known(self, asking: Asking, deadline: float) -> Address | None:
        """Return the address to wait at; None when the hub was not there to say, in all that time."""
        while True:
            changed = self.line.changed
            try:
                return await self.readable(asking.call.caller, asking.call.mailbox)
            except Refusal as refusal:
                if refusal.code is not Code.HUB_AWAY:
                    raise
                if self._clock.now() >= deadline or asking.ending.is_set():
                    return None
            ended = anyio.Event()
            with asking.ending.telling(ended.set):
                await first_of(changed, ended.wait, partial(self._clock.sleep_until, deadline))

    # -- without the hub

    async def _without_hub(self, asking: Asking) -> Json:
        """Answer what can be answered here."""
        asked = asking.asked
        if isinstance(asked, arguments.Send):
            return await self._post_later(asking, asked)
        if isinstance(asked, arguments.Settle):
            address = await self.readable(asking.call.caller, asking.call.mailbox)
            await self._put(asking)
            self.outbox.settled(str(address), asked.ids)
            return {"settled": list(asked.ids), "accepted": "outbox", **self._about_away()}
        if isinstance(asked, arguments.CreateMailbox):
            name = asked.name if asked.name is not None else asking.default
            address = await self.readable(asking.call.caller, name)
            return {"address": str(address), "created": False, **self._about_away()}
        address = await self.readable(asking.call.caller, asking.call.mailbox)
        if isinstance(asked, arguments.ListInbox) and not asked.searches and asked.show in {None, "inbox"}:
            found = [_preview(each) for each in await self.outbox.unsettled(str(address), asked.limit)]
            return {"messages": found, **self._about_away()}
        if isinstance(asked, arguments.Read | arguments.Entire):
            return await self._read_here(str(address), asked.id)
        raise self._away()

    async def _read_here(self, mailbox: str, id_: str) -> Json:
        pending = await self._pending(id_)
        if pending is not None:
            given = pending.given
            return {
                "id": id_,
                "to": given.get("to"),
                "subject": given.get("subject", ""),
                "body": given.get("body"),
                "sent_at": _moment(pending.asked_at),
                "state": "outbox",
                **self._about_away(),
            }
        found = await self.outbox.fetched(mailbox, id_)
        if found is None or "body" not in found:
            raise self._away(f"{id_[:40]!a} was not fetched before.")
        return {**found, **self._about_away()}

    async def _post_later(self, asking: Asking, asked: arguments.Send) -> Json:
        """Take a message in for the hub: it is on this machine's disk when this returns."""
        space = asking.call.caller.space
        draft = asked.draft  # refuses what no mailbox could hold
        everybody = [addresses.parse_any(each, space) for each in (*draft.to, *draft.cc)]
        mailbox = await self.readable(asking.call.caller, asking.call.mailbox)
        entry = await self._put(asking)
        if asked.reply_to is not None:
            self.outbox.settled(str(mailbox), [asked.reply_to])
        if entry.answer is not None:
            return _answer(entry.answer)
        to = [{"address": str(each), "state": "outbox"} for each in dict.fromkeys(everybody)]
        id_ = f"{MARK}{entry.number}"
        hint = "It is on this machine's disk, and goes out by itself once the hub is reached, also when you are gone."
        return {"id": id_, "accepted": "outbox", "to": to} | (
            {**self._about_away(), "hint": f"{self._unreachable()} {hint}"} if not self.line.up else {"hint": hint}
        )

    async def _put(self, asking: Asking) -> Entry:
        entry = await self.outbox.put(asking.verb, _who(asking.call), dict(asking.given), self._clock.now())
        self._filled.set()
        return entry

    async def _pending(self, id_: str) -> Entry | None:
        """Return what is on its way under that id."""
        number = _number(id_)
        entry = await self.outbox.entry(number) if number is not None else None
        return entry if entry is not None and entry.answer is None else None

    async def _translated(self, asking: Asking) -> Asking:
        """Put the hub's id in the place of one of the outbox, where that is known by now."""
        if MARK not in json.dumps(asking.given):
            return asking
        given = await _replaced(asking.given, self._hubs_id)
        if given == asking.given:
            return asking
        return Asking(
            asking.verb,
            given,
            type(asking.asked).model_validate(given, by_alias=True),
            asking.call,
            asking.label,
            asking.longest,
            asking.ending,
            asking.room,
            asking.full,
            asking.default,
        )

    async def _hubs_id(self, id_: str) -> str:
        number = _number(id_)
        entry = await self.outbox.entry(number) if number is not None else None
        known = entry.answer.get("id") if entry is not None and entry.answer is not None else None
        return str(known) if known is not None else id_

    # -- forwarding

    async def _forward(self) -> None:
        """Bring what waits to the hub, in its order."""
        while True:
            self._filled = anyio.Event()
            if not self.outbox.waiting:
                self._drained.set()
                self._drained = anyio.Event()
                await self._filled.wait()
            await self.line.until_up()
            try:
                await self._forward_batch()
            except Away as away:
                self.line.suspect(str(away))
                self.line.hurry()
            except (Strange, Refusal) as odd:
                logger.warning("what waits is not forwarded yet: %s", odd)
                await anyio.sleep(_AGAIN)

    async def _forward_batch(self) -> None:
        batch = await self.outbox.next(_BATCH)
        answers: dict[int, Json] = {}
        lines: list[Json] = []
        size = 0
        for entry in batch:
            given = await _replaced(entry.given, self._hubs_id)
            line = {"number": entry.number, "verb": entry.verb, "who": entry.who, "given": given, "at": entry.asked_at}
            size += len(json.dumps(line))
            if lines and (size > _BATCH_BYTES or _refers(given)):
                break  # what it refers to has to be answered first
            lines.append(line)
        handed_in = {line["number"] for line in lines}
        with self.line.relying():
            said_of = await self.hub.sends(lines) if lines else []
        for said in said_of:
            number = said.pop("number", None)
            if not isinstance(number, int) or number not in handed_in:
                raise Strange("it answers what it was not asked")
            if "error" in said and refused(said).blame is Blame.STORE:
                break  # it is to come again
            answer = said.get("answer", said)
            if not isinstance(answer, dict):
                raise Strange("its answer is no object")
            answers[number] = answer
        if not answers and lines:
            raise Away("it takes nothing now")
        await self.outbox.answered(answers, self._clock.now())

    # -- the line

    def _opening(self) -> Mapping[str, object]:
        self._listens = {each: address for each, address in self._listens.items() if each in self.bell.listened}
        return {"listens": [str(address) for address in self._listens.values()]}

    async def _told(self, event: str, said: Json) -> None:
        if event == "ring":
            self.bell.ring(addresses.parse(str(said.get("mailbox", "")), addresses.DEFAULT_SPACE))
        elif event == "bell" and self._tasks is not None:
            if self._ringing < _RINGS_MOST and isinstance(said.get("number"), int):
                self._ringing += 1
                self._tasks.start_soon(self._ring_host, said)
        elif event == "hello":
            for here in self._readers.values():
                self._note("here", here.caller, bell=_bell(here.bell, here.terms, resumed=True))
            for address in list(self._listens.values()):
                self.bell.ring(address)

    async def _ring_host(self, said: Json) -> None:
        here = self._readers.get(str(said.get("reader")))
        result = Result(Outcome.FAILED, "its host is not connected")
        if here is not None and here.bell is not None:
            try:
                result = await here.bell.ring(_pointer(said["told"]))
            except Exception:  # whatever is wrong with one host's bell, the others are rung
                logger.exception("a doorbell failed")
                result = Result(Outcome.FAILED, "internal error")
        self._ringing -= 1
        self._note("belled", None, number=said["number"], outcome=str(result.outcome), reason=result.reason[:200])

    def _wanted(self, address: Address) -> None:
        if key(address) not in self._listens:
            self._listens[key(address)] = address
            self._note("listen", None, mailbox=str(address))

    async def _forget_rings(self) -> None:
        while True:
            await anyio.sleep(_LINGER)
            for each, address in list(self._listens.items()):
                if each not in self.bell.listened:
                    del self._listens[each]
                    self._note("deafen", None, mailbox=str(address))

    # -- notes

    def _note(self, note: str, caller: Caller | None, request: str = "note", **about: object) -> None:
        who = _who(Call(caller, request)) if caller is not None else {"reader": "edge", "request": "note"}
        if len(self._notes) < _NOTES_MOST:
            said = {name: each for name, each in about.items() if each is not None}
            self._notes.append({"note": note, "who": who, **said})
        self._noted.set()

    async def _tell_notes(self) -> None:
        while True:
            self._noted = anyio.Event()
            if not self._notes:
                await self._noted.wait()
            await self.line.until_up()
            notes, self._notes = self._notes[: wire.NOTES_MOST], self._notes[wire.NOTES_MOST :]
            try:
                with self.line.relying():
                    await self.hub.notes(notes)
            except (Away, Refusal) as error:
                self._notes = notes + self._notes
                self.line.suspect(str(error))
                await self.line.changed()
            except Strange as odd:
                logger.warning("notes are lost: %s", odd)

    async def _tell_present(self) -> None:
        await anyio.sleep(_PRESENT_AFTER)
        while True:
            await self.line.until_up()
            self._note("present", None, readers=list(self._readers))
            await self.line.changed()


def _who(call: Call) -> Json:
    caller = call.caller
    said = {
        "reader": caller.reader,
        "request": call.request,
        "space": caller.space,
        "own": caller.mailbox,
        "mailbox": call.mailbox,
        "binds": caller.binds,
        "several": caller.several,
    }
    return {name: each for name, each in said.items() if each is not None}


def _asked(asking: Asking) -> Json:
    said: Json = {
        "who": _who(asking.call),
        "given": dict(asking.given),
        "label": asking.label,
        "room": asking.room,
        "full": asking.full,
    }
    if asking.longest != float("inf"):
        said["longest"] = asking.longest
    if asking.default is not None:
        said["default"] = asking.default
    return said


def _plausible(verb: str, answer: Json) -> Json:
    """Return an answer in which stands what is kept of it here. Raises Strange."""
    messages = answer.get("messages", [])
    names = [*_list(answer.get("settled", [])), *_list(answer.get("mailboxes", []))]
    if verb in {"own", "create_mailbox"}:
        names.append(answer.get("address"))
    if verb in {"read", "entire"} and "body" in answer:
        messages = [answer]
    if not all(isinstance(each, dict) and isinstance(each.get("id"), str) for each in _list(messages)):
        raise Strange("its answer has messages without ids")
    if verb in _NAMING and not all(isinstance(each, str) for each in names):
        raise Strange("its answer has other things than names")
    return answer


def _list(found: object) -> list[Any]:
    if not isinstance(found, list):
        raise Strange("its answer is no list where one belongs")
    return found


def _answer(answer: Json) -> Json:
    """Return what the hub has answered to what was taken in before. Raises its Refusal."""
    if "error" in answer:
        raise refused(answer)
    return answer


def _bell(bell: Doorbell | None, terms: Terms | None, *, resumed: bool) -> Json | None:
    if bell is None or terms is None:
        return None
    quiet = terms.quiet
    hours = f"{quiet.begin // 60:02}:{quiet.begin % 60:02}-{quiet.end // 60:02}:{quiet.end % 60:02}" if quiet else None
    said = {"kind": bell.kind, "wakes": terms.wakes, "resumed": resumed, "quiet": hours}
    return {name: each for name, each in said.items() if each is not None}


def _pointer(told: Mapping[str, Any]) -> Pointer:
    def parse(text: object) -> Address:
        return addresses.parse_any(str(text), addresses.DEFAULT_SPACE)

    return Pointer(
        int(told["at"]),
        parse(told["mailbox"]),
        int(told["count"]),
        tuple(map(parse, told["senders"])),
        int(told["urgent"]),
        bool(told["more"]),
        tuple(map(parse, told["places"])),
    )


def _preview(message: Json) -> Json:
    """Return a message as a listing shows it."""
    if "preview" in message:
        return message
    body = message.get("body", "")
    text = body if isinstance(body, str) else render.dump(body)
    kept: Json = {name: message[name] for name in _PREVIEWED if name in message}
    return {**kept, "preview": text[:200]}


def _number(id_: str) -> int | None:
    """Return the number in an id of the outbox; None for any other id."""
    number = id_.removeprefix(MARK)
    good = number != id_ and number.isascii() and number.isdigit() and len(number) <= _DIGITS
    return int(number) if good else None


def _refers(given: Mapping[str, Any]) -> bool:
    """Whether arguments name an id of the outbox."""
    several = [given.get("reply_to"), *(given.get("ids") or ())]
    return any(isinstance(each, str) and each.startswith(MARK) for each in several)


async def _replaced(given: Mapping[str, Any], hubs: Callable[[str], Any]) -> Json:
    """Return arguments with ids of the hub's for those of the outbox."""
    found: Json = {}
    for name, each in given.items():
        if name in {"id", "ids", "thread", "reply_to", "ack"} and isinstance(each, str) and each.startswith(MARK):
            found[name] = await hubs(each)
        elif name in {"ids", "ack"} and isinstance(each, list):
            found[name] = [await hubs(one) if isinstance(one, str) and one.startswith(MARK) else one for one in each]
        else:
            found[name] = each
    return found


def _moment(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
