"""Who is where: of each mailbox, whether a reader of it is here, and when one last was.

A relay is at the mailbox that is its own for as long as it is connected. Others come by one request after another: they
are there while a request waits there or a stream of their session stands, and for a minute after the last call. On disk
stands only when somebody was there, noted at most once a minute.

A host may start a server for each of its conversations (Codex), and keep that of one that was left. Such a reader is
connected and will not call again: once a newer one of the same host is there, and nothing has come from it since, it
does not keep the newer one from their mailbox.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from mcp_mailbox.addresses import Address
from mcp_mailbox.postoffice.callers import Caller
from mcp_mailbox.store import Store

LINGER = 60 * 1000
"""ms for which a call tells that somebody is there."""
NOTE_EVERY = 60 * 1000
"""ms between two notes of one mailbox."""
_PLACES = 10_000
"""Mailboxes that are remembered; beyond, those where somebody is."""


@dataclass(frozen=True, slots=True)
class _Visit:
    """A reader's last call. Once one that `connects` is not here any more, it has gone; of others nobody knows."""

    at: int
    connects: bool


@dataclass(slots=True)
class _Place:
    """What is known of one mailbox."""

    visits: dict[str, _Visit] = field(default_factory=dict)
    owners: set[str] = field(default_factory=set)
    """Readers whose own it is."""
    waiting: int = 0
    """Waits and streams that are about this mailbox."""
    seen: int = 0
    noted: int = -NOTE_EVERY


class Attendance:
    """Who is where, for one post office. `is_here` tells whether a reader has a connection or a request open."""

    def __init__(self, store: Store, is_here: Callable[[str], bool]) -> None:
        self._store = store
        self._is_here = is_here
        self._places: dict[Address, _Place] = {}
        self._own: dict[str, Address] = {}
        """Where a reader is for as long as it is here."""
        self._room = _PLACES
        self._calls = 0
        self._last: dict[str, int] = {}
        """The number of each reader's last call."""
        self._hosts: dict[str, tuple[str, int]] = {}
        """Of readers that are one conversation of a host: which host's, and after how many calls it began."""
        self._waits: Counter[str] = Counter()
        self.came_home: Callable[[Caller], None] = lambda _: None
        """Is told of a reader that has come to its own mailbox."""

    async def came(self, caller: Caller, address: Address, *, own: bool) -> None:
        """Note a call that acts for that mailbox, which is the caller's `own` when it named no other."""
        place = self._place(address)
        self._calls += 1
        self._last[caller.reader] = self._calls
        if caller.reader not in place.visits:
            place.visits = {reader: visit for reader, visit in place.visits.items() if self._counts(reader, visit)}
        place.seen = self._store.clock.now()
        place.visits[caller.reader] = _Visit(place.seen, caller.binds)
        if own and not caller.several and self._own.get(caller.reader) != address:
            self._forget(caller.reader)
            self._own[caller.reader] = address
            place.owners.add(caller.reader)
            self.came_home(caller)
        await self._note(address, place)

    @contextmanager
    def waiting(self, caller: Caller, addresses: Iterable[Address]) -> Iterator[None]:
        """Count the caller as being there for as long as the block lasts. Addresses are as the store has them."""
        there = list(addresses)
        self.begin(caller, there)
        try:
            yield
        finally:
            self.end(caller, there)

    def begin(self, caller: Caller, addresses: Iterable[Address]) -> None:
        """Count the caller as being there, until `end` of the same."""
        for address in addresses:
            self._place(address).waiting += 1
        self._waits[caller.reader] += 1

    def end(self, caller: Caller, addresses: Iterable[Address]) -> None:
        """Count it no more."""
        self._waits[caller.reader] -= 1
        if not self._waits[caller.reader]:
            del self._waits[caller.reader]
        for place in map(self._place, addresses):  # it is still remembered: somebody was there
            place.waiting -= 1
            self._touch(place, caller.reader)

    def begins(self, caller: Caller, host: str, *, resumed: bool) -> None:
        """Note that the reader is one conversation of that host, and the newest unless it was `resumed`."""
        self._hosts[caller.reader] = (host, 0 if resumed else self._calls + 1)

    def abandoned(self, caller: Caller) -> AbstractSet[str]:
        """Return the older conversations of the caller's host from which nothing has come since it began."""
        if caller.reader not in self._hosts:
            return frozenset()
        ours, began = self._hosts[caller.reader]
        return {
            reader
            for reader, (host, before) in self._hosts.items()
            if host == ours and before < began and self._last.get(reader, 0) < began and not self._waits[reader]
        }

    async def left(self, caller: Caller) -> None:
        """Note that the reader was at its own mailbox until now. One that connects is there no more."""
        self._last.pop(caller.reader, None)
        self._hosts.pop(caller.reader, None)
        address = self._own.get(caller.reader)
        if address is not None:
            place = self._place(address)
            self._touch(place, caller.reader)
            if caller.binds:
                self._forget(caller.reader)
            await self._note(address, place)

    def ended(self, caller: Caller) -> None:
        """Note that the reader will not come back."""
        self._last.pop(caller.reader, None)
        address = self._own.get(caller.reader)
        if address is not None:
            place = self._place(address)
            self._touch(place, caller.reader)
            place.visits.pop(caller.reader, None)
            self._forget(caller.reader)

    def home(self, reader: str) -> Address | None:
        """Return the mailbox that is the reader's own, as far as it has come there."""
        return self._own.get(reader)

    def owners(self, address: Address) -> Sequence[str]:
        """Return the readers whose own it is, who called last first."""
        place = self._places.get(address)
        if place is None:
            return ()
        return sorted(place.owners, key=lambda reader: -place.visits[reader].at if reader in place.visits else 0)

    def waits(self, address: Address) -> bool:
        """Whether somebody waits there, for whatever mail."""
        place = self._places.get(address)
        return place is not None and place.waiting > 0

    def seen(self, address: Address) -> tuple[bool, int | None]:
        """Return whether somebody is there, and when somebody last was, if that is remembered."""
        place = self._places.get(address)
        if place is None:
            return False, None
        here = self._is_anybody_at(place)
        return here, self._store.clock.now() if here else place.seen or None

    def _is_anybody_at(self, place: _Place) -> bool:
        return (
            place.waiting > 0
            or any(map(self._is_here, place.owners))
            or any(self._counts(reader, visit) for reader, visit in place.visits.items())
        )

    def _counts(self, reader: str, visit: _Visit) -> bool:
        """Whether a call still tells that its reader is there."""
        lately = self._store.clock.now() - visit.at < LINGER
        return lately and (not visit.connects or self._is_here(reader))

    def _forget(self, reader: str) -> None:
        """Take it out of where it was at home."""
        address = self._own.pop(reader, None)
        if address is not None:
            self._place(address).owners.discard(reader)

    def _touch(self, place: _Place, reader: str) -> None:
        place.seen = self._store.clock.now()
        if reader in place.visits:
            place.visits[reader] = replace(place.visits[reader], at=place.seen)

    async def _note(self, address: Address, place: _Place) -> None:
        if place.seen - place.noted >= NOTE_EVERY:
            place.noted = place.seen
            await self._store.note_seen(address)

    def _place(self, address: Address) -> _Place:
        found = self._places.get(address)
        if found is None:
            if len(self._places) >= self._room:
                kept = {
                    each: place for each, place in self._places.items() if place.owners or self._is_anybody_at(place)
                }
                self._places, self._room = kept, max(_PLACES, 2 * len(kept))
            found = self._places[address] = _Place()
        return found
