"""Any order of mail, looking, working, failing and time passing, against a model that keeps lists.

What must hold whatever happens: nobody is rung more often than once a second, nor by a thread more often than its
budget, nor in quiet hours but by urgent mail, nor for what never rings; what a ring says is what is there; and whatever
rings is rung for once it has been quiet for long enough. MCP_MAILBOX_EXAMPLES sets how many stories are told.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from mcp_mailbox.budgets import HOUR
from mcp_mailbox.doorbell import NEWS_LIMIT, Outcome, Pointer, Quiet, Result, Terms
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.message import Priority
from mcp_mailbox.postoffice.wakes import BURST, DEAF_PAUSE
from tests.clocks import START, SteppedClock
from tests.contract.machine import EXAMPLES
from tests.postoffice.test_doorbells import HOST, Bell, World

T = TypeVar("T")
WAKES = 3
SENDERS = ["ann", "cid"]
QUIET_IN = 20 * 60
"""Minutes after the start at which it is quiet for an hour."""


@dataclass
class Sent:
    """A message that builder got."""

    thread: str
    priority: Priority
    copied: bool
    at: int
    seen: bool = False
    rung: bool = False

    @property
    def rings(self) -> bool:
        return not self.copied and self.priority is not Priority.LOW


class Watched(Bell):
    """A bell that says when it was rung."""

    def __init__(self, clock: SteppedClock) -> None:
        super().__init__()
        self.clock = clock
        self.times: list[tuple[int, Pointer, Result]] = []

    async def ring(self, pointer: Pointer) -> Result:
        self.times.append((self.clock.now(), pointer, self.result))
        return await super().ring(pointer)


class Machine(RuleBasedStateMachine):
    """What can happen, as rules."""

    stands_in = False
    """Whether the bell is that of one who stands in for the reader."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.clock = SteppedClock()
        self.sent: dict[str, Sent] = {}
        self.threads: list[str] = []
        self.held: list[str] = []
        self.judged = 0
        local = time.localtime(START / 1000)
        begin = local.tm_hour * 60 + local.tm_min + QUIET_IN
        self.quiet = Quiet(begin % 1440, (begin + 60) % 1440)
        self.stop = self.runner.run(self.event())
        self.life = self.runner.get_loop().create_task(self.live())
        self.runner.run(self.begun())

    async def event(self) -> asyncio.Event:
        self.ready = asyncio.Event()
        return asyncio.Event()

    async def begun(self) -> None:
        await self.ready.wait()

    async def live(self) -> None:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(self.directory / "mail.db", self.clock))
            self.world = World(store, self.clock)
            await stack.enter_async_context(self.world.office.business())
            self.bell = Watched(self.clock)
            await self.world.host()
            terms = Terms(self.quiet, WAKES)
            if self.stands_in:
                self.world.office.doorbells.detach(HOST)
                stack.enter_context(self.world.standing_in(self.bell, terms))
            else:
                self.world.office.doorbells.attach(HOST, self.bell, terms, resumed=False)
            await self.world.settle()
            self.ready.set()
            await self.stop.wait()

    def run(self, verb: Coroutine[Any, Any, T]) -> T:
        async def all_of_it() -> T:
            result = await verb
            await self.world.settle()
            return result

        return self.runner.run(all_of_it())

    def teardown(self) -> None:
        async def end() -> None:
            self.stop.set()
            await self.life

        self.runner.run(end())
        self.runner.close()
        shutil.rmtree(self.directory)

    # -- what can happen

    @rule(
        sender=st.sampled_from(SENDERS),
        priority=st.sampled_from([Priority.NORMAL, Priority.NORMAL, Priority.LOW, Priority.URGENT]),
        copied=st.sampled_from([False, False, False, True]),
        thread=st.integers(0, 3),
        count=st.sampled_from([1, 1, 5]),
    )
    def send(self, sender: str, priority: Priority, copied: bool, thread: int, count: int) -> None:
        for _ in range(count):
            to, cc = (sender, ("builder",)) if copied else ("builder", ())
            options: dict[str, Any] = {"priority": priority, "cc": cc}
            if thread < len(self.threads):
                options["reply_to"] = self.threads[thread]
            id_ = self.run(self.world.send("ann", to, **options))
            root = options.get("reply_to", id_)
            if root == id_ and len(self.threads) < 3:
                self.threads.append(id_)
            self.sent[id_] = Sent(root, priority, copied, self.clock.now())

    @rule()
    def look(self) -> None:
        self.run(self.world.look())
        for each in self.sent.values():
            each.seen = True

    @rule()
    def take(self) -> None:
        for handle in self.run(self.world.wait()):
            self.held.append(handle)
            self.sent[handle.partition(".")[0]].seen = True

    @rule()
    def settle(self) -> None:
        if self.held:
            self.run(self.world.ack(self.held))
            self.held = []

    @rule(broken=st.booleans())
    def break_or_mend(self, broken: bool) -> None:
        self.bell.result = Result(Outcome.FAILED, "broken") if broken else Result(Outcome.RUNG)

    @rule(ms=st.sampled_from([1, 500, BURST, 10_000, 60_000, 10 * 60_000]))
    def step(self, ms: int) -> None:
        for _ in range(3):
            self.run(self.world.step(ms // 3 or 1))

    # -- what must hold

    @invariant()
    def rings_are_right(self) -> None:
        times = self.bell.times
        for before, (at, pointer, _) in zip([None, *times], times, strict=False):
            assert before is None or at - before[0] >= BURST
            assert pointer.count >= 1
        for at, pointer, result in times[self.judged :]:
            new = [each for each in self.sent.values() if each.rings and not each.seen and each.at <= at]
            assert pointer.count <= len([each for each in self.sent.values() if each.rings])
            assert pointer.urgent or not self.quiet.left(at)
            if result.outcome is Outcome.RUNG:
                for each in new:
                    each.rung = True
        self.judged = len(times)

    @invariant()
    def threads_keep_to_their_budget(self) -> None:
        """Every ring counts for some thread; with a few threads that bounds all rings that are not urgent."""
        hours: Counter[int] = Counter()
        for at, pointer, _ in self.bell.times:
            if not pointer.urgent:
                hours[(at - START) // HOUR] += 1
        threads = len({each.thread for each in self.sent.values()})
        assert all(count <= 2 * WAKES * max(1, threads) for count in hours.values())

    @rule()
    def in_the_end_everything_that_rings_was_rung_for(self) -> None:
        """Something new comes when everything has been at rest for a day: it rings for all that is there."""
        self.bell.result = Result(Outcome.RUNG)
        for _ in range(3):
            self.run(self.world.step(HOUR))
        while self.quiet.left(self.clock.now()):
            self.run(self.world.step(HOUR // 2))
            self.run(self.world.step(HOUR // 2))
        self.run(self.world.step(DEAF_PAUSE))
        before = len(self.bell.times)
        id_ = self.run(self.world.send("ann", "builder"))
        self.sent[id_] = Sent(id_, Priority.NORMAL, False, self.clock.now())
        self.run(self.world.settle())
        self.rings_are_right()
        assert len(self.bell.times) == before + 1
        unseen = [each for each in self.sent.values() if each.rings and not each.seen]
        assert self.bell.times[-1][1].count == len(unseen) or len(unseen) >= NEWS_LIMIT
        assert all(each.rung for each in unseen)


class StandIn(Machine):
    """The same, where a reader without a bell is rung by one that stands in for it."""

    stands_in = True


@pytest.mark.parametrize("machine", [Machine, StandIn])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whatever_happens_hosts_are_rung_as_promised(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(5, EXAMPLES // (12 if machine.stands_in else 6)),
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
