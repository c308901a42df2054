"""The edges of this hub: who is there, which mailboxes they listen for, what they have not been told yet.

An edge is its readers' connection. When its stream breaks they count as present for a while, since links break; then
they have gone, and their leases go back as if their relays had closed. Rings carry no data, so what an edge has missed
is a set of mailboxes, however long it was away.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import anyio
import anyio.abc

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import key
from mcp_mailbox.credentials import Credential
from mcp_mailbox.doorbell import Outcome, Pointer, Quiet, Result, StandIn, Terms
from mcp_mailbox.errors import Blame, Code, Refusal
from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.fronts.verbs import Counter, Here
from mcp_mailbox.postoffice import Call, Caller
from mcp_mailbox.recent import trim
from mcp_mailbox.store import Origin

_CLEARED = 60.0
"""Seconds between two looks for files that were handed in and left."""
GRACE_SECONDS = 30.0
"""For which the readers of an edge whose stream broke are still counted as present."""
LISTENS_MOST = 20_000
"""Mailboxes that one edge listens for."""
EDGES_EACH = 200
"""Edges of one principal."""
READERS_MOST = 20_000
"""Readers of all of them that are there at once, and hooks that wait."""
_EDGES_MOST = 10_000
_OVER_MOST = 10_000
"""Waits of one edge, and readers, of which it is remembered that they are over, or have gone."""

Json = dict[str, object]


@dataclass(slots=True)
class _Listening:
    """A mailbox whose rings an edge wants."""

    address: Address
    end: Callable[[], None]
    caller: Caller
    """Who asked for them last: it is who waits there."""
    stay: ExitStack
    rang: int = 0
    """The number of its last ring; 0 for none yet."""


class Edge:
    """One machine, for one principal."""

    def __init__(self, counter: Counter, name: str, owner: str, siblings: Mapping[str, Edge]) -> None:
        """`siblings`: all edges of its principal, itself among them."""
        self.name = name
        self.prefix = f"edge.{owner}."
        """How the ids of its readers begin here: nobody else's do."""
        self.readers: dict[str, Caller] = {}
        self._counter = counter
        self._number = 0
        """The last that something was told under."""
        self._siblings = siblings
        self._listens: dict[tuple[str, str], _Listening] = {}
        self._unsent: dict[Address, int] = {}
        """Rings that are to be told, and the number of each."""
        self._bells: dict[int, tuple[Json, anyio.Event, list[Result]]] = {}
        """Rings of hosts that are not answered yet."""
        self._said: set[int] = set()
        self._moved = anyio.Event()
        self._stream = 0
        """Which stream is the current one: a newer one ends it."""
        self.standing: dict[str, ExitStack] = {}
        """What ends the standing in of each hook that waits."""
        self.staged: dict[str, tuple[int, float]] = {}
        """Files that were handed in: how many bytes each has by now, and until when it is kept."""
        self.forgotten = False
        """Whether the hub does not know it any more: what was on its way comes to another one of this name."""
        self.lost_at: float | None = None
        """When the last stream broke, while there is none."""
        self.life = ""
        """Which life of it is heard now."""
        self.opened_by = ""
        """Which life of it has opened the last stream: it is heard as soon as its readers have come back."""
        self.beginning = anyio.Lock()
        """Held while what an earlier life was handed is put back: before that nothing is handed to the next."""
        self.noting = anyio.Lock()
        """Held while its notes are done, in their order."""
        self._noted = ("", 0)
        """The life that has told the last one, and that one's number."""
        self._gone: OrderedDict[str, bool] = OrderedDict()
        """Readers that have gone, what they have asked may still arrive; whether they have said so themselves."""
        self._looks: dict[str, dict[anyio.Event, None]] = {}
        """Waits that are being done, by reader."""
        self._over: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Waits that are over: one that was on its way for long may arrive after that was told."""

    def _together(self, what: Callable[[Edge], Sized]) -> int:
        """Return how many of these all edges of the principal have."""
        return sum(len(what(each)) for each in self._siblings.values())

    # -- readers

    def here(self, caller: Caller) -> None:
        """Count the reader as present. Raises Refusal(STOPPING) for too many, and as `must_be_known`."""
        self.must_be_known()
        if caller.reader not in self.readers:
            if self._together(lambda each: each.readers) >= READERS_MOST:
                raise _full("readers of one principal")
            self._counter.arrive(caller)
        self.readers[caller.reader] = caller
        self._gone.pop(caller.reader, None)

    def asks(self, caller: Caller) -> None:
        """Count who asks as present, unless it has gone: then this was on its way for long. Raises as `here`."""
        if caller.reader not in self._gone:
            self.here(caller)

    async def gone(self, caller: Caller, *, put_back: bool = True, said: bool = True) -> None:
        """Count it out, until it says that it is here again. Not `said`: it is merely not among those who are here."""
        self._gone[caller.reader] = said
        trim(self._gone, _OVER_MOST)
        await self.through(caller.reader)
        if self.readers.pop(caller.reader, None) is not None:
            await self._counter.depart(caller, put_back=put_back)

    def stand(self, name: str, standing: AbstractContextManager[None]) -> None:
        """Have something rung in the place of a reader, from now on.

        Raises Refusal(BAD_ARGUMENT) for too many, and as `must_be_known`.
        """
        self.must_be_known()
        self.sit(name)
        if self._together(lambda each: each.standing) >= READERS_MOST:
            raise Refusal(Code.BAD_ARGUMENT, f"A principal has {READERS_MOST:,} hooks that wait at most.")
        stay = self.standing[name] = ExitStack()
        stay.enter_context(standing)

    def sit(self, name: str) -> None:
        """Ring it no more."""
        if (known := self.standing.pop(name, None)) is not None:
            known.close()

    async def only(self, readers: set[str]) -> None:
        """Count out everybody else."""
        for caller in [each for each in self.readers.values() if each.reader not in readers]:
            await self.gone(caller, said=False)

    # -- what is told

    def is_new(self, life: str, number: int) -> bool:
        """Whether that note was not done yet, nor is of an earlier life: it may have been on its way for long."""
        return not life or (life >= max(self.life, self.opened_by) and (life, number) > self._noted)

    def noted(self, life: str, number: int) -> None:
        """Note that it was done."""
        if life:
            self._noted = (life, number)

    # -- waits

    def over(self, who: wire.Who) -> None:
        """Note that nobody is interested in an answer to that attempt any more."""
        if who.life:
            self._over[who.reader, who.name] = None
            trim(self._over, _OVER_MOST)

    def is_over(self, who: wire.Who) -> bool:
        """Whether whatever it is handed would be seen by nobody.

        It was given up, is of an earlier life, or its reader has said to have gone.
        """
        if not who.life:
            return False
        gone = self._gone.get(f"{self.prefix}{who.reader}", False)
        return gone or who.life < self.life or (who.reader, who.name) in self._over

    @contextmanager
    def looking(self, reader: str) -> Iterator[None]:
        """Know that mail is being looked for, on behalf of that reader, while the block lasts."""
        over = anyio.Event()
        looks = self._looks.setdefault(reader, {})
        looks[over] = None
        try:
            yield
        finally:
            over.set()
            del looks[over]
            if not looks:
                self._looks.pop(reader, None)

    async def through(self, reader: str) -> None:
        """Return once that reader's waits that are being done have come to their end.

        What they are handed goes back at once if they are over by now: whoever asks after we have returned gets it
        before what came later.
        """
        for each in list(self._looks.get(reader, ())):
            await each.wait()

    # -- rings

    def _next(self) -> int:
        """Return a number that is higher than all before it, also those of an edge of this name that was forgotten.

        It is no count: one of all edges would tell each how much the others are rung.
        """
        self._number = max(self._number + 1, time.monotonic_ns())
        return self._number

    def listen(self, caller: Caller, address: Address, *, again: bool) -> None:
        """Tell of each ring of that mailbox from now on; `again` tells of one at once, for what may have come before.

        Raises Refusal(BAD_ARGUMENT) for too many, and as `must_be_known`.
        """
        self.must_be_known()
        found = self._listens.get(key(address))
        if found is None:
            if len(self._listens) >= LISTENS_MOST:
                raise Refusal(Code.BAD_ARGUMENT, f"An edge listens for {LISTENS_MOST:,} mailboxes at most.")
            stay = ExitStack()
            stay.enter_context(self._counter.waiting(caller, [address]))
            end = self._counter.bell.subscribe(address, lambda: self._ring(address))
            found = self._listens[key(address)] = _Listening(address, end, caller, stay)
        elif found.caller.reader != caller.reader:
            found.stay.close()
            found.caller = caller
            found.stay.enter_context(self._counter.waiting(caller, [address]))
        if again:
            self._ring(address)

    def hears(self, address: Address) -> bool:
        """Whether that mailbox's rings are noted."""
        return key(address) in self._listens

    def deafen(self, address: Address) -> None:
        """Tell no more of its rings."""
        found = self._listens.pop(key(address), None)
        if found is not None:
            found.end()
            found.stay.close()

    def listen_only(self, keys: set[tuple[str, str]]) -> None:
        """Tell of no other mailbox's rings any more."""
        for found in [found for each, found in self._listens.items() if each not in keys]:
            self.deafen(found.address)

    def _ring(self, address: Address) -> None:
        found = self._listens.get(key(address))
        if found is not None:
            found.rang = self._next()
            self._unsent[address] = found.rang
            self._moved.set()

    async def ring_host(self, reader: str, told: Pointer) -> Result:
        """Have a reader's host rung by its machine; return what came of it."""
        number = self._next()
        answered, results = anyio.Event(), list[Result]()
        said: Json = {"reader": reader, "number": number, "told": _spelled(told)}
        self._bells[number] = (said, answered, results)
        self._moved.set()
        try:
            await answered.wait()
        finally:
            self._bells.pop(number, None)
            self._said.discard(number)
        return results[0]

    def belled(self, number: int, outcome: str, reason: str) -> None:
        """Note what came of it."""
        found = self._bells.get(number)
        if found is not None:
            known = outcome if outcome in set(Outcome) else Outcome.FAILED
            found[2].append(Result(Outcome(known), reason))
            found[1].set()

    def catch_up(self, since: int | None) -> None:
        """Tell again what a new stream's edge may not have heard; None: all that it listens for."""
        self._said.clear()
        for found in self._listens.values():
            if since is None or found.rang > since:
                self._unsent[found.address] = found.rang or self._next()
        self._moved.set()

    def begin(self) -> int:
        """Begin a stream, which ends the one before; return its number. Raises Refusal as `must_be_known`."""
        self.must_be_known()
        self.lost_at = None
        self.supersede()
        return self._stream

    def is_newest(self, stream: int) -> bool:
        """Whether no newer stream has ended it."""
        return stream == self._stream

    def broke(self, stream: int) -> None:
        """Note that a stream has ended."""
        if self.is_newest(stream):
            self.lost_at = anyio.current_time()

    def is_lost(self, late: float) -> bool:
        """Whether there has been no stream since then."""
        return self.lost_at is not None and self.lost_at < late

    async def events(self, stream: int) -> AsyncGenerator[tuple[int, str, Json]]:
        """Yield what is to be told, with its number and name, for as long as this is the edge's newest stream."""
        while self.is_newest(stream):
            self._moved = anyio.Event()
            unsent, self._unsent = self._unsent, {}
            due: list[tuple[int, str, Json]] = []
            due += [(number, "ring", {"mailbox": str(address)}) for address, number in unsent.items()]
            due += [(number, "bell", bell[0]) for number, bell in self._bells.items() if number not in self._said]
            # By number: who has seen one has seen all before it, wherever the stream breaks.
            for number, name, said in sorted(due, key=lambda each: each[0]):
                if name == "bell":
                    self._said.add(number)
                yield number, name, said
            await self._moved.wait()

    # -- files

    @contextmanager
    def stage(self, copy: str, size: int) -> Iterator[None]:
        """Count a file that is handed in, which has so many bytes if the block does not fail.

        Raises Refusal(STORE_FULL) for too many, and as `must_be_known`.
        """
        self.must_be_known()
        hint = "Send what was handed in, or try again in ten minutes."
        own, everywhere = (
            self.staged_without(copy),
            sum(each.staged_without(copy) for each in self._siblings.values()),
        )
        if own + size > wire.STAGED_BYTES or everywhere + size > wire.STAGED_BYTES_EACH:
            raise Refusal(Code.STORE_FULL, f"At most {wire.STAGED_BYTES:,} bytes may be handed in and not sent.", hint)
        if copy not in self.staged and self._together(lambda each: each.staged) >= wire.STAGED_MOST:
            raise Refusal(Code.STORE_FULL, f"At most {wire.STAGED_MOST:,} files may be handed in and not sent.", hint)
        before = self.staged.get(copy)
        self.staged[copy] = (size, anyio.current_time() + wire.STAGED_SECONDS)
        try:
            yield
        except Refusal as refusal:
            self.staged.pop(copy, None)
            if before is not None and refusal.blame is not Blame.STORE:  # else what there was has gone with it
                self.staged[copy] = before
            raise

    def staged_without(self, copy: str) -> int:
        """Return how many bytes were handed in, but for that file."""
        return sum(size for name, (size, _) in self.staged.items() if name != copy)

    def stale(self) -> Sequence[str]:
        """Return the files that nobody has named in time, and forget them."""
        now = anyio.current_time()
        found = [name for name, (_, until) in self.staged.items() if until < now]
        for name in found:
            del self.staged[name]
        return found

    def supersede(self) -> None:
        """End the current stream."""
        self._stream += 1
        self._moved.set()

    def must_be_known(self) -> None:
        """Raise Refusal(STOPPING) once the hub has forgotten it: nobody would ever end what is begun here."""
        if self.forgotten:
            raise Refusal(Code.STOPPING, "This hub has just forgotten this machine.", "Ask again.")

    async def end(self) -> None:
        """Forget everybody: the machine has gone."""
        self.forgotten = True
        self.supersede()
        for name in list(self.standing):
            self.sit(name)
        await self.only(set())
        self.listen_only(set())


class Edges:
    """All edges. `running` must be entered for as long as they are served."""

    def __init__(self, counter: Here) -> None:
        self.counter = counter
        self._office = counter.office
        self.epoch = secrets.token_hex(6)
        """Numbers begin anew in another life of this process."""
        self._hearts: dict[Callable[[], object], None] = {}
        self._edges: dict[str, dict[str, Edge]] = {}
        """By principal and name."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let go of edges that have gone."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._sweep)
            tasks.start_soon(self._beat)
            yield
            tasks.cancel_scope.cancel()

    def __len__(self) -> int:
        """Return how many are known."""
        return sum(map(len, self._edges.values()))

    def of(self, credential: Credential, name: str) -> Edge:
        """Return the edge of that name that a credential's principal has."""
        own = self._edges.get(credential.principal, {})
        found = own.get(name)
        if found is None:
            if len(self) >= _EDGES_MOST:
                raise _full("machines")
            if len(own) >= EDGES_EACH:
                raise _full("machines of one principal")
            own = self._edges.setdefault(credential.principal, own)
            found = own[name] = Edge(self.counter, name, _digest(credential.principal, name)[:24], own)
            found.lost_at = anyio.current_time()
        return found

    def caller(self, credential: Credential, edge: Edge, who: wire.Who) -> Caller:
        """Return who asks. Its reader's id is nobody else's: that of another edge or principal is another one."""
        space = addresses.check_name(who.space, "space")
        return Caller(
            f"{edge.prefix}{who.reader}",
            credential.principal,
            space,
            mailbox=who.own if who.own is not None else credential.mailbox,
            binds=who.binds,
            scopes=credential.scopes,
            how=f"edge, token {credential.name}",
            several=who.several,
            credential=credential.id,
            within=credential.within,
        )

    def staged(self, credential: Credential, edge: Edge, copy: str) -> str:
        """Return under which name such a file lies here: nobody else's name is the same."""
        return _digest(credential.principal, edge.name, copy)[:32]

    async def note(self, credential: Credential, edge: Edge, note: wire.Note) -> None:
        """Do what a note says. What it says of others' mailboxes is passed over."""
        if note.note == "present":
            await self.begin(edge, edge.opened_by)
            await edge.only({edge.prefix + reader for reader in note.readers})
        elif note.note == "belled":
            edge.belled(note.number, note.outcome, note.reason)
        elif note.note == "sits":
            edge.sit(note.host)
        elif note.who is not None:
            caller = self.caller(credential, edge, note.who)
            if note.note == "stands":
                await self._note_of_standing(caller, edge, note)
            elif note.note in {"rang", "listen", "deafen"}:
                await self._note_of_mailbox(caller, edge, note)
            else:
                await self._note_of_reader(caller, edge, note, note.who)

    async def _note_of_reader(self, caller: Caller, edge: Edge, note: wire.Note, who: wire.Who) -> None:
        match note.note:
            case "here":
                edge.here(caller)
                if note.bell is not None:
                    bell = _RemoteBell(note.bell.kind, edge, caller.reader, who.reader)
                    self.counter.attach(caller, bell, _terms(note.bell), resumed=note.bell.resumed)
                await self.counter.greet(caller)
            case "begins":
                # Of this edge alone: what another one calls its host is its own business.
                host = f"{caller.reader.removesuffix(who.reader)}{note.host}"
                self.counter.begins(caller, host, resumed=note.resumed)
            case "gone":
                await edge.gone(caller, put_back=note.put_back)
            case "reached" if note.former:
                await self._office.seen(
                    lambda asked: asked.reader == caller.reader and wire.is_attempt(asked.request, who.request)
                )
                await self.counter.reached(caller, who.name)
            case "reached":
                edge.over(who)
                await self.counter.reached(caller, who.name)
            case _:
                edge.over(who)
                await edge.through(caller.reader)
                await self.counter.missed(caller, who.name)

    async def _note_of_mailbox(self, caller: Caller, edge: Edge, note: wire.Note) -> None:
        address = await self.heard(caller, note.mailbox)
        if address is None:
            return
        with suppress(Refusal):
            if note.note == "rang":
                await self.counter.rang(address)
            elif note.note == "listen":
                edge.listen(caller, address, again=True)
            else:
                edge.deafen(address)

    async def heard(self, caller: Caller, name: str | None) -> Address | None:
        """Return the address of a mailbox whose rings the caller may hear, its own when none is named; None for others.

        Thousands of names are asked for at once, by whoever: nothing is said of those that it has not.
        """
        with suppress(Refusal):
            if name is None or await self._office.mailboxes.owns(caller, addresses.parse(name, caller.space)):
                return await self.counter.readable(caller, name)
        return None

    async def _note_of_standing(self, caller: Caller, edge: Edge, note: wire.Note) -> None:
        if note.bell is None:
            return
        address = await self.counter.readable(caller, note.mailbox)
        stand = StandIn(
            f"{caller.reader}.{note.host}",
            address,
            _RemoteBell(note.bell.kind, edge, None, note.host),
            _terms(note.bell),
            begins=not note.bell.resumed,
            superseded=bool,  # the edge knows
            leave=lambda: None,
        )
        edge.stand(note.host, self.counter.standing_in(caller, stand))

    def asked(self, credential: Credential, edge: Edge, who: wire.Who, *, now: bool = True) -> Call:
        """Return the call that a request of an edge is; its reader is present from now on, if it asks that now.

        Whoever left something in an outbox may be gone for long.
        """
        caller = self.caller(credential, edge, who)
        if who.binds and now:
            edge.asks(caller)
        return Call(caller, who.name, who.mailbox)

    async def begin(self, edge: Edge, life: str) -> None:
        """Hear a later life of the edge: what an earlier one was handed and nobody saw goes back.

        It does not ask us anything by which that happens before it has let those come back who are `unseen`.
        """
        async with edge.beginning:
            if life > edge.life:
                await self._office.lost(_of_others(edge, life))
                edge.life = life

    async def unseen(self, edge: Edge, life: str) -> Sequence[str]:
        """Return whose hosts are not known to have seen what they were handed in an earlier life of the edge.

        Their relays may know better, and tell it the later life, if they come back.
        """
        if life <= edge.life:
            return []
        found = {each.reader for each in await self._office.unreached(_of_others(edge, life))}
        return sorted(reader.removeprefix(edge.prefix) for reader in found)[: wire.UNSEEN_MOST]

    @contextmanager
    def beating(self, beat: Callable[[], object]) -> Iterator[None]:
        """Call this with every beat while the block lasts: one timer serves all streams."""
        self._hearts[beat] = None
        try:
            yield
        finally:
            del self._hearts[beat]

    async def _beat(self) -> None:
        while True:
            await anyio.sleep(wire.BEAT_SECONDS)
            for beat in list(self._hearts):
                beat()

    async def _sweep(self) -> None:
        look = anyio.current_time()
        while True:
            if anyio.current_time() >= look:  # also for what was handed in to a process that was killed
                await self._office.attachments.clear_away()
                look = anyio.current_time() + _CLEARED
            await anyio.sleep(1)
            late = anyio.current_time() - GRACE_SECONDS
            for principal, own in list(self._edges.items()):
                for edge in list(own.values()):
                    for copy in edge.stale():
                        await self._office.attachments.take_back(copy)
                    if edge.is_lost(late) and not edge.staged:
                        # Also what those were handed who went before: nobody has come back to say that it was seen.
                        async with edge.beginning:
                            await self._office.lost(_of_others(edge, ""))
                        if edge.is_lost(late):
                            del own[edge.name]
                            await edge.end()
                if not own:
                    del self._edges[principal]


def _of_others(edge: Edge, life: str) -> Callable[[Origin], bool]:
    """Return what tells a wait that was asked in another life of the edge."""
    return lambda asked: asked.reader.startswith(edge.prefix) and wire.is_of_another_life(asked.request, life)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _full(of_what: str) -> Refusal:
    return Refusal(Code.STOPPING, f"This hub serves as many {of_what} as it can.", "Try again later.")


class _RemoteBell:
    """The bell of a host at an edge."""

    def __init__(self, kind: str, edge: Edge, reader: str | None, name: str) -> None:
        self.kind = kind
        self._edge = edge
        self._reader = reader
        self._name = name

    async def ring(self, pointer: Pointer) -> Result:
        """See `Doorbell`."""
        there = self._reader in self._edge.readers if self._reader is not None else self._name in self._edge.standing
        if not there:
            return Result(Outcome.FAILED, "its machine is not connected")
        return await self._edge.ring_host(self._name, pointer)


def _terms(bell: wire.Bell) -> Terms:
    quiet = Quiet.parse(bell.quiet, bell.east) if bell.quiet else None
    return Terms(quiet, bell.wakes if bell.wakes is not None else Terms().wakes)


def _spelled(told: Pointer) -> Json:
    return {
        "at": told.at,
        "mailbox": str(told.mailbox),
        "count": told.count,
        "senders": [str(sender) for sender in told.senders],
        "urgent": told.urgent,
        "more": told.more,
        "places": [str(place) for place in told.places],
    }
