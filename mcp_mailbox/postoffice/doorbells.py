"""When the host of a mailbox's reader is rung: for mail that nobody was told of, once, and not while it is at work.

What is committed rings the bell; somebody who waits takes the mail, and then there is nothing to ring for. Mail that
stays is pointed to at once. What follows within a second, or until the reader has looked, is the same ring. An ack, a
receipt, a Cc and low priority never ring. In quiet hours only urgent mail does, and each thread has a budget of wakes
an hour, so that two agents who answer each other for ever come to rest.

How a host is rung is not known here, nor is anything kept on disk but that a mailbox was rung.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import anyio
import anyio.abc

from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Bell
from mcp_mailbox.doorbell import (
    ANSWERED,
    OVER,
    Doorbell,
    Log,
    Moment,
    Outcome,
    Pointer,
    Result,
    Ring,
    StandIn,
    Terms,
)
from mcp_mailbox.errors import Refusal
from mcp_mailbox.mailbox import Kind
from mcp_mailbox.message import Priority
from mcp_mailbox.postoffice.attendance import Attendance
from mcp_mailbox.postoffice.callers import Caller
from mcp_mailbox.postoffice.readers import first_of
from mcp_mailbox.postoffice.wakes import BURST, DEAF, WORK, Host, Key, Place, Wakes, key, pointer, rings
from mcp_mailbox.store import News, Store

logger = logging.getLogger(__name__)

WAITER = 150
"""ms that somebody who waits has to take what came; a wait for something else does not take it."""
RING_SECONDS = 10.0
"""After which a ring that has come to nothing is taken for failed."""


class Doorbells:
    """Whom to ring, for one post office. `log` is told of every ring, and once why one was skipped."""

    def __init__(self, store: Store, bell: Bell, attendance: Attendance) -> None:
        self.log: Log | None = None
        self._store = store
        self._bell = bell
        self._attendance = attendance
        self._hosts: dict[str, Host] = {}
        self._ears: dict[Address, Callable[[], None]] = {}
        """What ends the listening, for each mailbox of theirs."""
        self._standing: dict[Address, list[str]] = {}
        """Those who stand in for readers of each mailbox, the newest last."""
        self._places: dict[Address, Place] = {}
        self._wakes = Wakes()
        self._looks: dict[Address, int] = {}
        self._open: dict[Address, list[int]] = {}
        """When somebody was rung there who has not looked since."""
        self._moved = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None
        attendance.came_home = self.at_home

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Ring for as long as the block lasts."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._watch)
            yield
            tasks.cancel_scope.cancel()

    # -- who can be rung

    def attach(self, caller: Caller, bell: Doorbell, terms: Terms, *, resumed: bool) -> None:
        """Ring this reader from now on, by this bell. `resumed`: it was here before, and may have been rung then."""
        self.detach(caller)
        self._hosts[caller.reader] = Host(bell, terms, resumed)
        self.at_home(caller)

    def detach(self, caller: Caller) -> None:
        """Ring it no more."""
        host = self._hosts.pop(caller.reader, None)
        if host is not None:
            self._listen_no_more(host)

    def can_ring(self, caller: Caller) -> bool:
        """Whether this reader has a bell of its own."""
        return caller.reader in self._hosts

    @contextmanager
    def standing_in(self, stand: StandIn) -> Iterator[None]:
        """Ring this in a reader's place while the block lasts."""
        name, address = stand.name, stand.mailbox
        if (former := self._hosts.get(name)) is not None:
            self._stand_no_more(name, former)
            former.leave()
        host = self._hosts[name] = Host(
            stand.bell, stand.terms, not stand.begins, superseded=stand.superseded, leave=stand.leave
        )
        self._standing.setdefault(address, []).append(name)
        self._settle_in(host, address)
        try:
            yield
        finally:
            if self._hosts.get(name) is host:
                self._stand_no_more(name, host)

    def _stand_no_more(self, name: str, host: Host) -> None:
        del self._hosts[name]
        if host.home is not None:
            self._standing[host.home].remove(name)
            if not self._standing[host.home]:
                del self._standing[host.home]
        self._listen_no_more(host)

    def at_home(self, caller: Caller) -> None:
        """Note that the reader has come to its own mailbox, where something may wait for it."""
        host = self._hosts.get(caller.reader)
        address = self._attendance.home(caller.reader)
        if host is not None and address is not None:
            self._settle_in(host, address)

    def _settle_in(self, host: Host, address: Address) -> None:
        if host.home != address:
            self._listen_no_more(host)
            host.home = address
            if address not in self._ears:  # a mailbox for which somebody listens hears of its channels, too
                self._ears[address] = self._bell.subscribe(address, partial(self._heard, address))
        if not host.resumed:
            self._places.pop(address, None)  # a host that begins was told of nothing
        self._look(address, self.now())

    def reachable(self, caller: Caller) -> None:
        """Note that what a ring came to nothing for may be mended: look again, once its call is over."""
        host = self._hosts.get(caller.reader)
        if host is not None and host.home is not None:
            self._look(host.home, self.now() + BURST)

    def _listen_no_more(self, host: Host) -> None:
        """Leave off listening for where it was at home, unless others are."""
        home, host.home = host.home, None
        if home is not None and not any(each.home == home for each in self._hosts.values()):
            self._ears.pop(home)()

    # -- what readers do

    def looked(self, caller: Caller, address: Address, *, taken: bool = False) -> None:
        """Note that the reader looks at its mail: its rings are answered. `taken`: it was handed some, and works."""
        now = self.now()
        for at in self._open.pop(address, ()):
            if self.log is not None and now - at <= ANSWERED:
                self.log.answered(address, at, now)
        for host in self._ringable(caller, address):
            host.unanswered = 0
            host.busy = now + WORK if taken else host.busy
            self._look_again(address, host)

    def settled(self, caller: Caller, address: Address) -> None:
        """Note that the reader is done with something."""
        for host in self._ringable(caller, address):
            host.unanswered = 0
            host.busy = 0
            self._look_again(address, host)

    def _ringable(self, caller: Caller, address: Address) -> Sequence[Host]:
        """Return what is rung for the reader: its own bell, else those that stand in where it called."""
        own = self._hosts.get(caller.reader)
        return [own] if own is not None else [self._hosts[name] for name in self._standing.get(address, ())]

    def _look_again(self, address: Address, host: Host) -> None:
        place = self._places.get(address)
        if place is not None and place.pending:
            self._look(address, host.free_at(place, urgent=False))

    # -- who asks by itself

    async def reminder(self, address: Address, moment: Moment) -> Pointer | None:
        """Return what a hook is to say of that mailbox now, None for nothing; it is not said or rung for again.

        A session begins with all that nobody has seen. Later on only what is new is worth the words, and only what
        would ring is worth that a turn goes on for it.
        """
        news = await self._store.news(address)
        place = await self._place(address, news, resumed=True)
        keys = {key(each) for each in news}
        place.said &= keys
        fresh = [each for each in news if key(each) not in place.told | place.said]
        worth = {
            Moment.SESSION_START: news,
            Moment.PROMPT: fresh,
            Moment.STOP: [each for each in fresh if rings(each)],
        }[moment]
        if not worth:
            return None
        place.said |= keys
        if moment is not Moment.SESSION_START:  # then nobody reads it yet, and an idle model is still to be woken
            place.told |= {key(each) for each in news if rings(each)}
            place.pending = set()
        said = pointer(self.now(), address, news)
        await self.rang(f"hook {moment}", Result(Outcome.RUNG), said)
        return said

    async def arrival(self, address: Address, besides: Collection[str]) -> tuple[Pointer, Sequence[str]] | None:
        """Return what would ring somebody at that mailbox now, if there is more than `besides`.

        With it comes what it is of, to be given as `besides` another time. Nothing is leased, and nobody is told.
        """
        news = [each for each in await self._store.news(address) if rings(each)]
        names = [f"{each.id} {each.since}" for each in news]
        return (pointer(self.now(), address, news), names) if not set(names) <= set(besides) else None

    async def rang(self, kind: str, result: Result, told: Pointer) -> None:
        """Note what came of a ring that somebody else has made."""
        if self.log is not None:
            self.log.note(Ring(kind, result, told))
        if result.outcome is Outcome.RUNG:
            self._opened(told)
            await self._store.note_ring(told.mailbox)

    def _opened(self, told: Pointer) -> None:
        """Note a ring to which a look will be the answer."""
        several = self._open.setdefault(told.mailbox, [])
        several.append(told.at)
        del several[:-DEAF]

    # -- when to look

    def _heard(self, address: Address) -> None:
        if self._readers(address):
            self._look(address, self.now() + (WAITER if self._attendance.waits(address) else 0))

    def _readers(self, address: Address) -> Sequence[str]:
        """Return those at home there who can be rung, who was here last first; then those who stand in."""
        own = [reader for reader in self._attendance.owners(address) if reader in self._hosts]
        return own + [name for name in self._standing.get(address, [])[::-1] if not self._hosts[name].superseded()]

    def _look(self, address: Address, moment: int) -> None:
        if moment < self._looks.get(address, moment + 1):
            self._looks[address] = moment
            self._moved.set()

    async def _watch(self) -> None:
        while True:
            self._moved = anyio.Event()
            now = self.now()
            for address in [each for each, moment in self._looks.items() if moment <= now]:
                del self._looks[address]
                await self._consider_safely(address)
            if not self._looks:
                await self._moved.wait()
            elif not self._moved.is_set():
                soonest = min(self._looks.values())
                await first_of(self._moved.wait, lambda: self._store.clock.sleep_until(soonest))  # noqa: B023 - awaited

    async def _consider_safely(self, address: Address) -> None:
        try:
            await self._consider(address)
        except Refusal as refusal:
            logger.warning("nobody is rung for %s yet: %s", address, refusal)
            self._look(address, self.now() + BURST)
        except Exception:  # a bug here costs this look, and no mail
            logger.exception("looking whom to ring for %s failed", address)

    # -- whether to ring

    async def _consider(self, address: Address) -> None:
        """Look at what is new in a mailbox, and ring whom it concerns."""
        news = [each for each in await self._store.news(address) if rings(each)]
        readers = self._readers(address)
        if not readers:
            self._places.pop(address, None)
            return
        resumed = all(self._hosts[reader].resumed for reader in readers)
        place = await self._place(address, news, resumed=resumed)
        readers = self._readers(address)  # somebody may have gone meanwhile
        now = self.now()
        place.told &= {key(each) for each in news}
        fresh = [each for each in news if key(each) not in place.told]
        keys = {key(each) for each in fresh}
        if not keys <= place.pending:
            place.apart = now - place.came >= BURST
            place.came = now
        place.pending = keys
        if place.pool:
            # One wakes for each message, those who have nothing to do and were not rung for longest first.
            hosts = [self._hosts[reader] for reader in readers]
            hosts.sort(key=lambda host: (host.busy > now, host.last))
            hosts = hosts[: len(fresh)]
        else:
            hosts = [self._hosts[each] for each in readers[:1]] if fresh else []
        rung = [self._try(address, place, host, news, fresh) for host in hosts]
        if any(rung):
            place.told |= keys
            place.pending = set()

    async def _place(self, address: Address, news: Sequence[News], *, resumed: bool) -> Place:
        """Return what is known of it. `resumed`: what was rung by the post office before us counts."""
        if address not in self._places:
            mailbox = await self._store.mailbox(address)
            place = self._places[address] = Place(mailbox is not None and mailbox.kind is Kind.POOL)
            if resumed:
                place.told = {key(each) for each in news if each.rung}
        return self._places[address]

    def _try(self, address: Address, place: Place, host: Host, news: Sequence[News], fresh: Sequence[News]) -> bool:
        """Ring the host now, or look again when it may be rung; return whether it is rung."""
        now = self.now()
        wanted, excuse, later = self._allowed(host, fresh, now)
        if wanted:
            urgent = any(each.priority is Priority.URGENT for each in wanted)
            later = host.free_at(place, urgent=urgent)
            excuse = "rung already, not answered yet" if host.unanswered else "at work, or rung a moment ago"
        if not wanted or later > now:
            self._look(address, later)
            if excuse not in place.skipped:
                place.skipped.add(excuse)
                self._note(host, Result(Outcome.SKIPPED, excuse), pointer(now, address, fresh))
            return False
        assert self._tasks is not None  # noqa: S101 - `listening` was entered, or nobody would look
        host.last = now
        host.unanswered += 1
        place.skipped.clear()
        self._wakes.spend({each.thread for each in wanted}, now)
        self._tasks.start_soon(
            self._ring, address, place, host, pointer(now, address, news), {key(each) for each in fresh}
        )
        return True

    def _allowed(self, host: Host, fresh: Sequence[News], now: int) -> tuple[Sequence[News], str, int]:
        """Return what may ring at this hour; when nothing may, why not, and when to look again."""
        urgent = [each for each in fresh if each.priority is Priority.URGENT]
        quiet = host.terms.quiet.left(now) if host.terms.quiet is not None else 0
        if quiet:
            return urgent, "quiet hours", now + quiet
        free = {each.thread: self._wakes.free_at(each.thread, host.terms.wakes, now) for each in fresh}
        wanted = [each for each in fresh if each in urgent or free[each.thread] <= now]
        return wanted, f"its thread has woken agents {host.terms.wakes} {OVER}", min(free.values())

    async def _ring(self, address: Address, place: Place, host: Host, told: Pointer, keys: set[Key]) -> None:
        result = Result(Outcome.FAILED, "the host did not take it in time")
        self._opened(told)  # now: its reader may look before the bell says that it was rung
        with anyio.move_on_after(RING_SECONDS):
            try:
                result = await host.bell.ring(told)
            except Exception as error:  # whatever is wrong with one host's bell, the others are rung
                logger.exception("a doorbell failed")
                result = Result(Outcome.FAILED, f"internal error: {type(error).__name__}")
        self._note(host, result, told)
        if result.outcome is Outcome.RUNG:
            try:
                await self._store.note_ring(address)
            except Refusal as refusal:
                logger.warning("a ring for %s is not noted: %s", address, refusal)
        else:
            # Nobody was told: the next that comes rings for these too.
            if told.at in self._open.get(address, ()):
                self._open[address].remove(told.at)
            place.told -= keys
            host.unanswered = max(0, host.unanswered - 1)

    def _note(self, host: Host, result: Result, told: Pointer) -> None:
        if self.log is not None:
            self.log.note(Ring(host.bell.kind, result, told))

    def now(self) -> int:
        """Return the time by which all of this goes, in ms since 1970 UTC."""
        return self._store.clock.now()
