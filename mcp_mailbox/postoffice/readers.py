"""Whose leases are kept and whose go back: readers come and go, terms run out, a store may be in trouble.

One timer for all. What is done here is never asked for by a call, so nobody is there to try again: what a store could
not do is owed to it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
import anyio.abc

from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Bell
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.postoffice.audience import Audience
from mcp_mailbox.store import Origin, Published, Store

T = TypeVar("T")

logger = logging.getLogger(__name__)

_RETURN_GRACE = 3_000
"""ms after a start in which every reader counts as present: relays need a moment to reconnect. Never over a lease."""
_RETRY = 1_000
"""ms after which a store that could not is asked again."""
_HOLDERS = 10_000
"""Readers of which it is remembered that they hold leases."""


@dataclass(frozen=True, slots=True)
class _Owed:
    """Leases to give back: those of a request, or of all (None); also what reached the reader, if `surfaced`."""

    reader: str
    request: str | None
    surfaced: bool = False


class Readers:
    """Who is here, and the leases of those who are not. `term` is how long a lease lasts, in ms."""

    def __init__(self, store: Store, bell: Bell, audience: Audience, term: int) -> None:
        self._store = store
        self._bell = bell
        self._audience = audience
        self._term = term
        self._here: Counter[str] = Counter()
        self._everybody = True
        self._known = anyio.Event()
        self._doubted: set[tuple[str, Address]] = set()
        """Who looked for mail, and where, before it was known who is here."""
        self._holders: dict[str, int] = {}
        """Who leased something, and when the first of that may run out."""
        self._looked = 0
        self._next: int | None = None
        self._moved = anyio.Event()
        self._owed: list[_Owed] = []
        self._owing = anyio.Event()

    async def start(self, tasks: anyio.abc.TaskGroup) -> None:
        """Learn who holds leases from before; watch the time, for as long as the tasks last."""
        for reader, until in await self._patiently(self._store.holders):
            self.leased(reader, until)
        tasks.start_soon(self._watch_time)
        tasks.start_soon(self._end_grace)
        tasks.start_soon(self._pay_back)

    def arrive(self, reader: str) -> None:
        """Count it as present: its leases are not handed to others."""
        self._here[reader] += 1

    async def depart(self, reader: str, *, put_back: bool = True) -> bool:
        """Count it out; return whether it is gone. It is not when it has reconnected already.

        What never reached it is given back, if `put_back`, and what ran out while it was here is handed to others
        from now on. The first is asked for at once: who comes after it is not to be handed later mail before.
        """
        self._here[reader] -= 1
        if self._here[reader] > 0:
            return False
        del self._here[reader]
        if put_back:
            await self.put_back(reader)
        now = self._store.clock.now()
        if self._holders.get(reader, now + 1) <= now:
            await self._ring_lapsed(reader)
        return True

    def is_here(self, reader: str) -> bool:
        """Whether it is."""
        return reader in self._here

    def __len__(self) -> int:
        return len(self._here)

    @property
    def present(self) -> AbstractSet[str] | None:
        """Who is here; None while that is not known yet, soon after a start."""
        return None if self._everybody else self._here.keys()

    async def known(self) -> None:
        """Return once it is known who is here."""
        await self._known.wait()

    def doubt(self, reader: str, address: Address) -> None:
        """Ring there once it is known who is here, if another reader has it: what is there was held back for that."""
        self._doubted.add((reader, address))

    async def put_back(self, reader: str, request: str | None = None) -> None:
        """Give back what that request leased; None: all that never reached the reader."""
        await self._put_back(_Owed(reader, request, surfaced=request is not None))

    def expect(self, moment: int) -> None:
        """Look again then: something becomes ready, or is over."""
        if self._next is None or moment < self._next:
            self._moved.set()

    def leased(self, reader: str, until: int) -> None:
        """Note a lease: it may run out then."""
        if len(self._holders) >= _HOLDERS:
            # What ran out while its reader was not here has rung by itself.
            now = self._store.clock.now()
            self._holders = {each: at for each, at in self._holders.items() if at > now or self.is_here(each)}
        self._holders[reader] = min(until, self._holders.get(reader, until))
        self.expect(until)

    async def _ring_lapsed(self, reader: str) -> None:
        try:
            lapsed = await self._store.leave(reader)
        except Refusal as refusal:
            logger.warning("what a reader held is not handed on yet: %s", refusal)
            self._look_again()
            return
        if not lapsed:
            self._holders.pop(reader, None)
        for address in lapsed:
            self._bell.ring(address)

    def _look_again(self) -> None:
        """Ring for all that has ever lapsed and is still there."""
        self._looked = 0
        self._moved.set()

    async def _put_back(self, owed: _Owed) -> None:
        """Give leases back now, or as soon as the store can: whoever held them is not there to try again."""
        try:
            await self._store.give_back(owed.reader, owed.request, surfaced=owed.surfaced)
        except Refusal as refusal:
            if refusal.code is not Code.STOPPING:
                logger.warning("leases are not given back yet: %s", refusal)
                self._owed.append(owed)
                self._owing.set()

    async def _pay_back(self) -> None:
        while True:
            await self._owing.wait()
            await self._pause(_RETRY)
            self._owing = anyio.Event()
            owed, self._owed = self._owed, []
            for each in owed:
                # Who has come back holds again what it held: its answers may be on their way.
                if each.request is not None or not self.is_here(each.reader):
                    await self._put_back(each)

    async def _watch_time(self) -> None:
        """Ring where something becomes ready, and carry off what is over: one timer for all."""
        clock = self._store.clock
        while True:
            self._moved = anyio.Event()
            after, self._looked = self._looked, clock.now()
            self._next = None  # what is leased while the store looks may be the first to run out
            try:
                due = await self._store.due(after)
                while due.sweep and self.present is not None and await self._store.sweep(after, self.present):
                    pass
            except Refusal as refusal:
                logger.warning("what is due is not seen yet: %s", refusal)
                self._looked = min(self._looked, after)
                await self._pause(_RETRY)
                continue
            self._next = due.next
            for address in due.mailboxes:
                self._bell.ring(address)
            for channel in due.channels:
                self._audience.publish(Published(channel))
            await self._until(due.next)

    async def _until(self, moment: int | None) -> None:
        """Wait for it, or until something earlier is expected."""
        if moment is None:
            await self._moved.wait()
        else:
            await first_of(self._moved.wait, lambda: self._store.clock.sleep_until(moment))

    async def _pause(self, ms: float) -> None:
        await self._store.clock.sleep_until(self._store.clock.now() + ms)

    async def _end_grace(self) -> None:
        await self._pause(min(_RETURN_GRACE, self._term))
        # Readers that ended together with the post office before us: nobody has seen what they were handed. It goes
        # back before anybody else may read in their place, for it is older than what that one would be handed.
        for reader in {each.reader for each in await self._patiently(self._store.unreached)}:
            if not self.is_here(reader):
                await self._put_back(_Owed(reader, None))
        self._everybody = False
        self._look_again()
        self._known.set()
        doubted, self._doubted = self._doubted, set()
        for reader, address in doubted:
            occupant = await self._patiently(partial(self._store.occupant, address))
            if occupant is not None and occupant.reader != reader:
                self._bell.ring(address)

    async def put_back_those(self, lost: Callable[[Origin], bool]) -> None:
        """Give back what was leased by these requests, for whose answers nobody waits any more.

        What is just being noted to have reached somebody stays with it.
        """
        for each in await self._patiently(self._store.unreached):
            if lost(each):
                await self._put_back(_Owed(each.reader, each.request))

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except Refusal as refusal:
                logger.warning("readers of before are not seen yet: %s", refusal)
                await self._pause(_RETRY)


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return when the first of them does; cancel the others."""
    async with anyio.create_task_group() as tasks:

        async def run(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            tasks.cancel_scope.cancel()

        for wait in waits:
            tasks.start_soon(run, wait)
