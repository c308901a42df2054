"""The counter of an edge: fronts ask it as they ask the post office of a store, and the hub does what they ask.

While the hub cannot be reached, what is sent and settled goes to the outbox, on disk, and to the hub when that is back,
in its order, once, whoever is gone by then. What was fetched can be read, and nobody takes silence for an empty inbox:
answers say since when the hub has not been heard.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import secrets
import unicodedata
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.abc
from anyio import to_thread

from mcp_mailbox import addresses, attachment
from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import Attachment
from mcp_mailbox.bell import Bell, Ending, key
from mcp_mailbox.doorbell import Doorbell, Log, Outcome, Pointer, Result, Ring, StandIn, Terms
from mcp_mailbox.engines.outbox import Entry, Outbox, Parcel, plain
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import arguments, fence, render
from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.fronts.verbs import Asking
from mcp_mailbox.fronts.verbs import asking as plainly
from mcp_mailbox.link import spelling
from mcp_mailbox.link.beginning import Beginning
from mcp_mailbox.link.forwarding import Forwarder, named
from mcp_mailbox.link.hub import Away, Hub, Strange, Unanswered, refused
from mcp_mailbox.link.keyring import Keyring
from mcp_mailbox.link.line import Line
from mcp_mailbox.link.names import Names
from mcp_mailbox.link.notes import Notes
from mcp_mailbox.link.parcels import Opener, Parcels
from mcp_mailbox.link.seen import Seen
from mcp_mailbox.link.signatures import Key
from mcp_mailbox.link.verdicts import Verdicts, is_judged, of_attachment, shown
from mcp_mailbox.postoffice import Call, Caller, roots
from mcp_mailbox.postoffice.alarms import Alarms
from mcp_mailbox.postoffice.attachments import Given, Opened
from mcp_mailbox.postoffice.copies import Copies
from mcp_mailbox.postoffice.handed import Tray
from mcp_mailbox.postoffice.readers import first_of
from mcp_mailbox.recent import trim
from mcp_mailbox.store import Clock

logger = logging.getLogger(__name__)

Json = dict[str, Any]

MARK = wire.MARK
_KNOWN_MOST = 10_000
_OPENED_MOST = 1_000
_LINGER = 2.0
"""Seconds for which rings of a mailbox are still wanted when nobody listens any more: who waited may wait again."""
_SETTLING = 1_000
"""ms that a wait gives another reader to be noticed as gone, as a post office of its own does."""
_DRAINING = 5_000
"""ms that a wait gives the outbox to be emptied."""
_PRESENT_AFTER = 3.0
"""Seconds after a start until relays have come back: the hub is told who is there, and that the others have gone."""
_RINGS_MOST = 1_000
"""Hosts that are rung at once; a hub that wants more is passed over."""
_PREVIEWED = ("id", "from", "subject", "priority", "sent_at", "kind", "untrusted", "verified")
_WHOSE = ("from", fence.UNTRUSTED, "verified")
"""What an answer says of whose words an attachment is."""
_ONCE = ("ack_failed", "skipped")
"""What the hub says to a wait once, however often it is asked for it."""
_DOING = {"create_mailbox", "subscribe", "reserve"}
"""Verbs that change something, and do not go by the outbox."""
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

    def __init__(self, hub: Hub, outbox: Outbox, clock: Clock, shelves: Shelves, signing: Key | None = None) -> None:
        self.bell: Bell = _Bell(self._wanted)
        self.alarms = Alarms(clock)
        self.clock = clock
        self.log: Log | None = None
        """Told of every ring of this machine's hosts."""
        self.hub = hub
        self.outbox = outbox
        self.keyring = Keyring(outbox.pins, clock, signing)
        self._verdicts = Verdicts(self.keyring, self._mine, self._all_of)
        self.line = Line(hub, self._opening, self._told, clock.now)
        self._parcels, self._handed, self._copies, seen = shelves
        self._opened: OrderedDict[tuple[str, str, str, str], Path] = OrderedDict()
        """Where copies of what is attached to messages lie, by mailbox, id, name, and what it was found to be worth."""
        self._readers: dict[str, _Here] = {}
        self._standing: dict[str, tuple[Caller, StandIn]] = {}
        """What is rung in the place of readers, and who speaks for it."""
        self.names = Names(outbox)
        self._listens: dict[tuple[str, str], Address] = {}
        """Whose rings the hub was asked for."""
        self._notes = Notes(hub, self.line, seen)
        self._forwarder = Forwarder(hub, self.line, outbox, self._parcels, clock, self._late_signature)
        self._beginning = Beginning()
        self._gone_told = False
        """Whether the hub knows which readers of our former life have gone."""
        self._ringing = 0
        self._life = ""
        """Tells what this process asks from what others did that had its file before: these sort before it."""
        self._attempts = itertools.count()
        self._asked_by: OrderedDict[tuple[str, str], int] = OrderedDict()
        """By which attempt a wait was asked last, as long as nobody has said what became of the answer."""
        self._tasks: anyio.abc.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the line, forward what waits, tell what is to be told. Raises Refusal for a disk that cannot be used."""
        await self.names.load()
        copies = await self.outbox.copies()
        await to_thread.run_sync(self._parcels.begin, copies)
        began = self.clock.now()
        with suppress(Refusal):  # a full disk keeps nobody from reading
            began = await self.outbox.later(began)
        self._life = f"{began:012x}{secrets.token_hex(4)}"
        await self._notes.begin(self._life)
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self.alarms.run)
            tasks.start_soon(self.line.run)
            tasks.start_soon(self._forwarder.run)
            tasks.start_soon(self._notes.run)
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
        here = self._readers.setdefault(caller.reader, _Here(caller))  # a host that is known by its relay's word
        here.bell, here.terms = bell, terms  # is introduced before it arrives
        self._note("here", caller, bell=spelling.bell(bell, terms, resumed=resumed))

    def reachable(self, caller: Caller) -> None:
        """See `Counter`."""
        here = self._readers.get(caller.reader)
        if here is not None and here.bell is not None:
            self._note_again(here)

    def _note_again(self, here: _Here) -> None:
        self._note("here", here.caller, bell=spelling.bell(here.bell, here.terms, resumed=True))

    def begins(self, caller: Caller, host: str, *, resumed: bool) -> None:
        """See `Counter`."""
        self._note("begins", caller, host=host, resumed=resumed)

    async def greet(self, caller: Caller) -> None:
        """See `Counter`: `here` has told it."""

    async def reached(self, caller: Caller, request: str, *, former: bool = False) -> None:
        """See `Counter`."""
        attempt = self._asked_by.pop((caller.reader, request), None)
        self._note("reached", caller, request, attempt, former=former or None)

    def recalled(self, caller: Caller) -> None:
        """See `Counter`."""
        self._beginning.recalled(caller.reader)

    async def missed(self, caller: Caller, request: str) -> None:
        """See `Counter`."""
        self._note("missed", caller, request, self._asked_by.pop((caller.reader, request), None))

    async def rang(self, address: Address) -> None:
        """See `Counter`."""
        self._note("rang", None, mailbox=str(address))

    def waiting(self, caller: Caller, places: Iterable[Address]) -> AbstractContextManager[None]:
        """See `Counter`: who listens is there."""
        del caller, places
        return nullcontext()

    async def home(self, caller: Caller) -> Address | None:
        """See `Counter`."""
        with suppress(Refusal):
            return await self.readable(caller, None)
        return None

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
                self._note("sits", None, host=stand.name)

    def _note_standing(self, caller: Caller, stand: StandIn, *, resumed: bool) -> None:
        bell = spelling.bell(stand.bell, stand.terms, resumed=resumed)
        self._note("stands", caller, mailbox=str(stand.mailbox), bell=bell, host=stand.name)

    # -- what fronts ask besides

    async def place(self, sizes: Mapping[str, int]) -> Path:
        """See `Counter`."""
        self._parcels.check_sizes(sizes)
        return await to_thread.run_sync(self._handed.place)

    async def check(self) -> str:
        """See `Counter`."""
        return await self.outbox.check()

    async def ensure(self, call: Call, name: str) -> None:
        """See `Counter`. One that is known is opened when the hub is back."""
        await self.ask(plainly("create_mailbox", {"name": name}, call))

    async def readable(self, caller: Caller, name: str | None) -> Address:
        """See `Counter`."""
        address = self.names.of(caller, name)
        if address is None or key(address) not in self._listens:  # it is rung from here on, before anybody listens
            try:
                said = await self._hub("own", self._asked(plainly("own", {}, Call(caller, "own", name))))
            except Away:
                return self._remembered(caller, name)
            address = addresses.parse(said["address"], caller.space)
            self._listens[key(address)] = address
            await self.names.keep(caller, name, address)
        return address

    def _remembered(self, caller: Caller, name: str | None) -> Address:
        """Return the address of a mailbox that was ours when the hub was last heard."""
        known = self.names.of(caller, name)
        name = name if name is not None else caller.mailbox
        if known is None and name is None:
            raise self._away("It has to say which mailbox is yours.")
        if known is None and name is not None:
            known = self.names.ours(caller, name)
        if known is None:
            raise self._away(f"It has to say whether you have a mailbox {name!r}.")
        return known

    async def listed(self, caller: Caller, limit: int, after: str = "") -> Sequence[Address]:
        """See `Counter`."""
        return await self._named(caller, {"limit": limit, "after": after})

    async def complete(self, caller: Caller, prefix: str, limit: int) -> Sequence[Address]:
        """See `Counter`."""
        return await self._named(caller, {"limit": limit, "prefix": prefix})

    async def _named(self, caller: Caller, given: Mapping[str, object]) -> Sequence[Address]:
        said = await self._asked_now(plainly("mailboxes", given, Call(caller, "mailboxes")))
        return [addresses.parse(each, caller.space) for each in said["mailboxes"]]

    async def content(self, call: Call, id: str, name: str) -> Given:  # noqa: A002
        """See `Counter`."""
        try:
            with self._suspecting(), self.line.relying():
                said, content = await self.hub.attachment({"who": self._who(call), "given": {"id": id, "name": name}})
        except Away:
            raise self._away("Attachments are read there.") from None
        sha256 = (await to_thread.run_sync(hashlib.sha256, content)).hexdigest()
        found = Attachment(unicodedata.normalize("NFC", name), said["type"], len(content), sha256)
        return of_attachment(await self._judged(call, id), Given(found, content))

    async def _judged(self, call: Call, id_: str) -> Json:
        """Return a message as it was judged here: what is kept, or else the hub is asked for it."""
        kept = await self.outbox.fetched(str(await self._mine(call)), id_)
        if kept is not None and is_judged(kept):
            return kept
        asking = plainly("entire", {"id": plain(id_)}, call)
        try:
            return await self._seen(asking, await self._verdicts.judged(asking, await self._all_of(call, plain(id_))))
        except Away:
            raise self._away("It has to say whose words these are.") from None

    async def _attachment(self, asking: Asking, asked: arguments.Read, answer: Json) -> Json:
        """Return an attachment as its message was judged; of a signed one the content is asked for, and shown."""
        message = await self._judged(asking.call, asked.id)
        name, given = str(asked.attachment), None
        if message.get("verified") in {fence.SIGNATURE, fence.FIRST}:
            given = await self.content(asking.call, asked.id, name)
            text = await to_thread.run_sync(attachment.text, given.content)
            uri = render.uri(await self._mine(asking.call), asked.id, name)
            opened = Opened(given.attachment, text, None, given.stranger, given.verified)
            answer = render.attachment(opened, asked.id, asked.offset, uri)
        else:
            answer = {each: said for each, said in answer.items() if each not in {*_WHOSE, "path"}}
            answer |= {each: message[each] for each in _WHOSE if message.get(fence.UNTRUSTED) and each in message}
        return await self._with_copy(asking, asked, answer, given)

    async def _with_copy(self, asking: Asking, asked: arguments.Read, answer: Json, given: Given | None) -> Json:
        """Put a copy of an attachment where the caller's programs can open it, as a post office of its own does."""
        whole = "body" in answer and "uri" not in answer
        if asking.call.caller.files is None or whole or int(answer.get("size", 0)) == 0:
            return answer
        name = str(answer["attachment"])
        known = (self._known(asking.call) or "", plain(asked.id), name, str(answer.get("verified")))
        path = self._opened.get(known)
        if path is None or not await to_thread.run_sync(path.is_file):
            found, content, *_ = given or await self.content(asking.call, asked.id, name)
            of = f"{plain(asked.id)} {found.sha256}"
            path = await to_thread.run_sync(self._copies.put, of, attachment.clean_name(found.name), content)
            self._opened[known] = path
            trim(self._opened, _OPENED_MOST)
        return render.with_copy(answer, str(path), asked.offset)

    # -- asking

    async def ask(self, asking: Asking) -> Json:
        """See `Counter`."""
        asking = await self._forwarder.translated(asking)
        if isinstance(asking.asked, arguments.WaitForMessage):
            return await self._wait(asking)
        if isinstance(asking.asked, arguments.Send) and (asking.asked.attach or asking.handed):
            return await self._send_files(asking, asking.asked)
        queued = asking.verb in _LATER and self.outbox.waiting > 0
        lost = False
        if not queued:
            try:
                said = self._asked(asking) | await self._signature(asking)
                answer = await self._taken(asking, await self._hub(asking.verb, said))
            except Away as away:
                lost = asking.verb in _DOING and isinstance(away, Unanswered)
            else:
                if isinstance(asking.asked, arguments.Read) and asking.asked.attachment is not None:
                    return await self._attachment(asking, asking.asked, answer)
                return answer
        try:
            return await self._without_hub(asking)
        except Refusal as refusal:
            if lost and refusal.code is Code.HUB_AWAY:
                raise self._lost() from None
            raise

    async def _send_files(self, asking: Asking, asked: arguments.Send) -> Json:
        """Send with files: copies of them stay here until the hub has the message."""
        asked.draft  # noqa: B018 - refuses what no mailbox could hold, before anything is copied
        files = await to_thread.run_sync(self._parcels.take, self._openers(asking, asked))
        given = {name: each for name, each in asking.given.items() if asked.also.get(name, name) != "attach"}
        asking = replace(asking, given=given, asked=asked.model_copy(update={"attach": ()}), handed=())
        kept = False
        try:
            if not self.outbox.waiting:
                try:
                    return await self._taken(asking, await self._hand_over(asking, files))
                except Away:
                    pass
                except Refusal as refusal:
                    if refusal.code is not Code.STORE_FAILED:  # what was handed in is gone: it goes with the rest
                        raise
            kept = True  # from here on it may be on disk, even if nobody waits for the answer any more
            answer, kept = await self._post_later(asking, asking.asked, files)
        except Refusal:
            kept = False
            raise
        else:
            return answer
        finally:
            if not kept:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(self._parcels.remove, files)

    def _openers(self, asking: Asking, asked: arguments.Send) -> list[tuple[str, Opener]]:
        """Return what opens each file. Raises Refusal(FORBIDDEN) for paths of another machine."""
        files = asking.call.caller.files
        if asked.attach and files is None:
            hint = "Put the text into the body."
            raise Refusal(Code.FORBIDDEN, "A path would name one of another machine's files.", hint)
        paths: list[tuple[str, Opener]] = [
            (path, partial(roots.open_file, files, path)) for path in asked.attach if files is not None
        ]
        return paths + [(each.name, partial(self._handed.open, each)) for each in asking.handed]

    async def _hand_over(self, asking: Asking, files: Sequence[Parcel]) -> Json:
        """Send with the files to the hub, now. Raises as `_hub`."""
        self._must_stand()
        with self._suspecting():
            for each in files:
                await self.hub.hand_in(each.copy, await to_thread.run_sync(self._parcels.content, each))
        signature = await self._signature(asking, files)
        return await self._hub(asking.verb, self._asked(asking) | {"files": named(files)} | signature)

    # -- signatures

    async def _taken(self, asking: Asking, answer: Json) -> Json:
        """Return an answer of the hub's as who asked gets it: judged here, kept, and then shown."""
        return shown(asking, await self._seen(asking, await self._verdicts.judged(asking, answer)))

    async def _mine(self, call: Call) -> Address:
        """Return the mailbox that a call acts for; the hub is asked once, and not whether it is rung."""
        known = self.names.of(call.caller, call.mailbox)
        return known if known is not None else await self.readable(call.caller, call.mailbox)

    async def _all_of(self, call: Call, id_: str) -> Json:
        """Return a message whole, as the hub keeps it. Raises Away, and Refusal as it does."""
        said = self._asked(plainly("entire", {"id": id_}, call))
        said["who"]["request"] = f"verify {id_}"
        return await self._hub("entire", said)

    async def _signature(self, asking: Asking, files: Sequence[Parcel] = ()) -> Json:
        """Return what is said besides where this machine signs what it sends."""
        if not isinstance(asking.asked, arguments.Send) or not self.keyring.signs:
            return {}
        sender = await self._mine(asking.call)
        return await self._signed(str(sender), asking.asked, self._who(asking.call), self.clock.now(), files)

    async def _late_signature(self, entry: Entry, given: Json) -> Json:
        """Return the signature of what has waited here: only now the ids in it are the hub's."""
        sender = entry.who.get("address")
        if entry.verb != "send" or sender is None or not self.keyring.signs:
            return {}
        asked = arguments.parse(arguments.Send, "send", given)
        return await self._signed(str(sender), asked, entry.who, entry.asked_at, entry.files)

    async def _signed(
        self, sender: str, asked: arguments.Send, who: Mapping[str, Any], at: int, files: Sequence[Parcel]
    ) -> Json:
        names = attachment.apart(each.name for each in files)  # as the hub calls them
        attached = [(name, each.sha256) for name, each in zip(names, files, strict=True)]
        if not all(sha256 for _, sha256 in attached):
            return {}  # taken in by an older version, which signed nothing
        space = str(who.get("space", addresses.DEFAULT_SPACE))
        once = hashlib.sha256(f"{who['reader']}\0{who['request']}".encode()).hexdigest()[:32]
        signature = await self.keyring.sign(addresses.parse(sender, space), asked, space, once, at, attached)
        return {"signature": signature} if signature is not None else {}

    async def _asked_now(self, asking: Asking) -> Json:
        try:
            return await self._hub(asking.verb, self._asked(asking))
        except Away:
            raise self._away() from None

    async def _hub(self, verb: str, said: Mapping[str, object], tries: int = _PATIENT) -> Json:
        """Ask the hub. Raises Refusal as it does; Away when it cannot be reached, and is known or found not to be.

        Unanswered when it may have done it.
        """
        self._must_stand()
        await self._notes.first_told()
        with self._suspecting():
            asked = False
            for left in range(tries - 1, -1, -1):
                try:
                    return await self._ask_once(verb, said)
                except Away as away:
                    asked = asked or isinstance(away, Unanswered)
                    if not left or self.line.since is not None:
                        raise (Unanswered if asked else Away)(str(away)) from None
        raise AssertionError("it is tried once at least")

    async def _ask_once(self, verb: str, said: Mapping[str, object]) -> Json:
        with self.line.relying():
            answer = await self.hub.verb(verb, said)
        try:
            return spelling.plausible(verb, answer)
        except Strange as odd:  # it did something, whatever it was
            raise Unanswered(str(odd)) from None

    def _must_stand(self) -> None:
        """Raise Away when the line is known not to stand, upon which it is tried at once."""
        if not self.line.up:
            self.line.hurry()
            if self.line.since is not None or self.line.why:
                raise Away(self.line.why)

    @contextmanager
    def _suspecting(self) -> Iterator[None]:
        """Suspect the line when the block comes to nothing. Raises Away, also for what is strange."""
        try:
            yield
        except Away as away:
            self.line.suspect(str(away))
            raise
        except Strange as odd:
            self.line.suspect(str(odd))
            raise Away(str(odd)) from None

    def _who(self, call: Call, attempt: int | None = None) -> Json:
        caller = call.caller
        said = {
            "reader": caller.reader,
            "request": call.request,
            "space": caller.space,
            "own": self.names.own(caller),
            "mailbox": call.mailbox,
            "binds": caller.binds,
            "several": caller.several,
            "life": self._life if attempt is not None else None,
            "attempt": attempt,
        }
        return {name: each for name, each in said.items() if each is not None}

    def _asked(self, asking: Asking) -> Json:
        said: Json = {
            "who": self._who(asking.call),
            "given": dict(asking.given),
            "label": asking.label,
            "room": asking.room,
            "full": asking.full,
            "raw": True,
        }
        if asking.longest != float("inf"):
            said["longest"] = asking.longest
        if asking.default is not None:
            said["default"] = asking.default
        return said

    def _away(self, why: str = "") -> Refusal:
        """Return the refusal for what has to wait for the hub."""
        return Refusal(
            Code.HUB_AWAY,
            " ".join(filter(None, (self._unreachable(), why))),
            "Nothing is lost: do the same again later. Mail can be sent meanwhile, and what was fetched be read.",
        )

    def _lost(self) -> Refusal:
        """Return the refusal for what the hub may have done or not."""
        return Refusal(
            Code.STORE_FAILED,
            f"{self._unreachable()} It was asked, and its answer was lost: whether this was done is not known.",
            "Do the same again later, or look what holds then.",
        )

    def _unreachable(self) -> str:
        since = f" since {render.moment(self.line.since)}" if self.line.since is not None else ""
        return f"The hub {self.hub.url} has not been reached{since} ({self.line.why or 'no connection yet'})."

    def _about_away(self) -> Json:
        """Return what an answer says that is given without the hub."""
        since = self.line.since if self.line.since is not None else self.clock.now()
        return {"unreachable_since": render.moment(since), "hint": self._unreachable()}

    async def _seen(self, asking: Asking, answer: Json) -> Json:
        """Keep what the hub has answered, for when it cannot be reached."""
        caller = asking.call.caller
        if isinstance(asking.asked, arguments.CreateMailbox):
            address = addresses.parse(answer["address"], caller.space)
            if caller.binds:
                await self.names.become(caller, address)
            else:
                name = asking.asked.name if asking.asked.name is not None else asking.default
                await self.names.keep(caller, name, address)
        mailbox = self._known(asking.call)
        if mailbox is not None:
            if asking.verb in {"wait_for_message", "list_inbox"}:
                fetched = [each for each in answer.get("messages", []) if "body" in each or "preview" in each]
                if fetched:
                    self.outbox.keep(mailbox, fetched)
            elif asking.verb in {"read", "entire"} and "body" in answer and not _is_part(asking):
                self.outbox.keep(mailbox, [answer])
            elif asking.verb == "settle":
                self.outbox.settled(mailbox, answer.get("settled", []))
            elif isinstance(asking.asked, arguments.Send) and asking.asked.reply_to:
                self.outbox.settled(mailbox, [asking.asked.reply_to])
        return answer

    def _known(self, call: Call) -> str | None:
        found = self.names.of(call.caller, call.mailbox)
        return str(found) if found is not None else None

    # -- waiting

    async def _wait(self, asking: Asking) -> Json:
        """Wait here: the hub says what is there, and rings when there is something new."""
        asked: arguments.WaitForMessage = asking.asked
        clock = self.clock
        lasts = min(asked.timeout, asking.longest) * 1000
        deadline = clock.now() + lasts
        refusable = clock.now() + min(lasts, _SETTLING)
        address = await self._until_known(asking, deadline)
        answer: Json | None = None
        told: Json = {}  # in an answer that was not the last one
        if address is None:
            return self._nothing_heard()
        said = self._asked(asking) | {"who": self._attempt(asking.call)}
        with self.bell.listening(address) as ear, asking.ending.telling(ear.hear):
            while True:
                ear.clear()
                until = deadline
                await self._settled_before(deadline)
                try:
                    await self._begun(asking.ending)
                    answer = await self._hub("wait_for_message", said, tries=1)
                    said["given"] = {name: each for name, each in said["given"].items() if name != "ack"}
                    told |= {name: answer[name] for name in _ONCE if name in answer}
                except Away:
                    answer = None
                    told.pop("skipped", None)  # is said again to another attempt
                    said["who"] = self._attempt(asking.call)
                except Refusal as refusal:
                    again = refusable if self._gone_told else max(refusable, clock.now() + _SETTLING)
                    if refusal.code is not Code.READ_ELSEWHERE or clock.now() >= min(again, deadline):
                        raise
                    answer, until = None, min(again, deadline)
                over = clock.now() >= deadline or asking.ending.is_set()
                if (answer is not None and answer.get("messages")) or over:
                    break
                with self.alarms.at(until, ear.hear):  # it hears as well when the hub is back, for whoever listens does
                    await ear.wait()
        return (await self._taken(asking, answer) if answer is not None else self._nothing_heard()) | told

    def _nothing_heard(self) -> Json:
        """Return the answer of a wait that the hub has not answered."""
        return {"messages": [], "timed_out": True, **self._about_away()}

    def _attempt(self, call: Call) -> Json:
        """Return as whom a wait is asked: by an attempt of its own.

        What the answer to an earlier one may have handed out was seen by nobody if it did not come. The hub is told so
        before it is asked again, and does that one no more if it arrives later.
        """
        asked, known = self._asked_by, (call.caller.reader, call.request)
        if (former := asked.pop(known, None)) is not None:
            self._note("missed", call.caller, call.request, former)
        asked[known] = next(self._attempts)
        trim(asked, _KNOWN_MOST)
        return self._who(call, asked[known])

    async def _settled_before(self, deadline: float) -> None:
        """Let what was settled without the hub reach it first: else it would hand that out again."""
        if self.outbox.waiting and self.line.up:
            until = min(deadline, self.clock.now() + _DRAINING)
            await first_of(self._forwarder.drained, self.line.changed, partial(self.clock.sleep_until, until))

    async def _begun(self, ending: Ending) -> None:
        """Let those come back first who alone know what their hosts have seen. Raises Away when nothing is asked yet.

        That takes no longer than `_PRESENT_AFTER` once the hub has said who these are.
        """
        ended = anyio.Event()
        with ending.telling(ended.set):
            while not (self._beginning.over or ended.is_set()) and (self.line.up or self.line.since is None):
                await first_of(self._beginning.until_over, self.line.changed, ended.wait)
        if not self._beginning.over:
            raise Away(self.line.why)

    async def _until_known(self, asking: Asking, deadline: float) -> Address | None:
        """Return the address to wait at; None when the hub was not there to say, in all that time."""
        while True:
            changed = self.line.changed
            try:
                return await self.readable(asking.call.caller, asking.call.mailbox)
            except Refusal as refusal:
                if refusal.code is not Code.HUB_AWAY:
                    raise
                if self.clock.now() >= deadline or asking.ending.is_set():
                    return None
            ended = anyio.Event()
            with asking.ending.telling(ended.set):
                await first_of(changed, ended.wait, partial(self.clock.sleep_until, deadline))

    # -- without the hub

    async def _without_hub(self, asking: Asking) -> Json:
        """Answer what can be answered here."""
        asked = asking.asked
        if isinstance(asked, arguments.Send):
            return (await self._post_later(asking, asked))[0]
        if isinstance(asked, arguments.Settle):
            address = await self.readable(asking.call.caller, asking.call.mailbox)
            await self._put(asking)
            self.outbox.settled(str(address), asked.ids)
            return {"settled": list(asked.ids), "accepted": "outbox", **self._about_away()}
        if isinstance(asked, arguments.CreateMailbox):
            name = asked.name if asked.name is not None else asking.default
            caller = asking.call.caller
            address = await self.readable(caller, name)
            if caller.binds:
                await self.names.become(caller, address)
            return {"address": str(address), "created": False, **self._about_away()}
        address = await self.readable(asking.call.caller, asking.call.mailbox)
        if isinstance(asked, arguments.ListInbox) and not asked.searches and asked.show in {None, "inbox"}:
            found = [_preview(each) for each in await self.outbox.unsettled(str(address), asked.limit)]
            return {"messages": found, **self._about_away()}
        if isinstance(asked, arguments.Read) and asked.attachment is not None:
            raise self._away("What is attached is read there.")
        if isinstance(asked, arguments.Read | arguments.Entire):
            read = await self._read_here(str(address), asked.id)
            return shown(asking, self._page(read, asked) if isinstance(asked, arguments.Read) else _entire(read))
        raise self._away()

    async def _read_here(self, mailbox: str, id_: str) -> Json:
        pending = await self._forwarder.pending(id_)
        if pending is not None:
            given = pending.given
            files = [{"name": each.name, "size": each.size} for each in pending.files]
            return {
                "id": id_,
                "from": mailbox,
                "to": [to] if isinstance(to := given.get("to"), str) else to,
                "subject": given.get("subject", ""),
                "body": given.get("body"),
                "sent_at": render.moment(pending.asked_at),
                "state": "outbox",
                **({"attachments": files} if files else {}),
                **self._about_away(),
            }
        found = await self.outbox.fetched(mailbox, id_)
        if found is None or "body" not in found:
            raise self._away(f"{id_[:40]!a} was not fetched before.")
        return {**found, **self._about_away()}

    def _page(self, message: Json, asked: arguments.Read) -> Json:
        """Return a message from that character on, as far as it was fetched. Raises Refusal(HUB_AWAY)."""
        body = message["body"]
        if asked.offset == 0:
            return message
        if not isinstance(body, str) or asked.offset >= message.get("more", len(body) + 1):
            raise self._away(f"Only the beginning of {asked.id[:40]!a} was fetched before.")
        return {**message, "body": body[asked.offset :]}

    async def _post_later(
        self, asking: Asking, asked: arguments.Send, files: Sequence[Parcel] = ()
    ) -> tuple[Json, bool]:
        """Take a message in for the hub: it is on disk here when this returns. Say whether it needs the files."""
        space = asking.call.caller.space
        draft = asked.draft  # refuses what no mailbox could hold
        everybody = [addresses.parse_any(each, space) for each in (*draft.to, *draft.cc)]
        mailbox = await self.readable(asking.call.caller, asking.call.mailbox)
        entry = await self._put(asking, files, mailbox)
        if asked.reply_to is not None:
            self.outbox.settled(str(mailbox), [asked.reply_to])
        if entry.answer is not None:
            return _answer(entry.answer), False
        to = [{"address": str(each), "state": "outbox"} for each in dict.fromkeys(everybody)]
        id_ = f"{MARK}{entry.number}"
        hint = "It is on this machine's disk, and goes out by itself once the hub is reached, also when you are gone."
        answer = {"id": id_, "accepted": "outbox", "to": to} | (
            {**self._about_away(), "hint": f"{self._unreachable()} {hint}"} if not self.line.up else {"hint": hint}
        )
        return answer, entry.files == tuple(files)

    async def _put(self, asking: Asking, files: Sequence[Parcel] = (), sender: Address | None = None) -> Entry:
        who = self._who(asking.call) | ({"address": str(sender)} if sender is not None else {})
        entry = await self.outbox.put(asking.verb, who, dict(asking.given), self.clock.now(), files)
        self._forwarder.filled()
        return entry

    # -- the line

    def _opening(self) -> Mapping[str, object]:
        self._listens = {each: address for each, address in self._listens.items() if each in self.bell.listened}
        return {"life": self._life, "listens": [str(address) for address in self._listens.values()]}

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
            for here in self._readers.values():
                self._note_again(here)
            for caller, stand in self._standing.values():
                self._note_standing(caller, stand, resumed=True)
            for address in list(self._listens.values()):
                self.bell.ring(address)

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
        self._note("belled", None, number=said["number"], outcome=str(result.outcome), reason=result.reason[:200])

    def _wanted(self, address: Address) -> None:
        if key(address) not in self._listens:
            self._listens[key(address)] = address
            self._note("listen", None, mailbox=str(address))

    async def _forget_rings(self) -> None:
        east = spelling.east()
        while True:
            await anyio.sleep(_LINGER)
            if east != (east := spelling.east()):  # the clocks were put forward or back: quiet hours go with them
                for here in self._readers.values():
                    self._note_again(here)
            for each, address in list(self._listens.items()):
                if each not in self.bell.listened:
                    del self._listens[each]
                    self._note("deafen", None, mailbox=str(address))

    # -- notes

    def _note(
        self, note: str, caller: Caller | None, request: str = "note", attempt: int | None = None, **about: object
    ) -> None:
        who = self._who(Call(caller, request), attempt) if caller is not None else {"reader": "edge", "request": "note"}
        self._notes.add({"note": note, "who": who, **{name: each for name, each in about.items() if each is not None}})

    async def _tell_present(self) -> None:
        await anyio.sleep(_PRESENT_AFTER)
        self._beginning.give_up()
        while True:
            await self.line.until_up()
            changed = self.line.changed
            self._note("present", None, readers=list(self._readers))
            await self._notes.until_told(self._notes.made)
            self._gone_told = self._gone_told or self.line.up
            await changed()


def _is_part(asking: Asking) -> bool:
    """Whether what is read is less than a message: an attachment, or a later page."""
    asked = asking.asked
    return isinstance(asked, arguments.Read) and (asked.attachment is not None or asked.offset > 0)


def _answer(answer: Json) -> Json:
    """Return what the hub has answered to what was taken in before. Raises its Refusal."""
    if "error" in answer:
        raise refused(answer)
    return answer


def _entire(message: Json) -> Json:
    """Return a message as `entire` gives it: its body as text, and what that is."""
    body = message["body"]
    text, kind = (body, "text") if isinstance(body, str) else (render.dump(body), "json")
    return {"thread": plain(message["id"]), "priority": "normal", "format": kind, **message, "body": text}


def _preview(message: Json) -> Json:
    """Return a message as a listing shows it."""
    if "preview" in message:
        return message
    body = message.get("body", "")
    text = body if isinstance(body, str) else render.dump(body)
    kept: Json = {name: message[name] for name in _PREVIEWED if name in message}
    return {**kept, "preview": text[:200]}
