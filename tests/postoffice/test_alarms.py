"""Alarms: any order of setting, unsetting and time, against a model that keeps a moment for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import anyio
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mcp_mailbox.postoffice.alarms import Alarms
from tests.clocks import START, SteppedClock
from tests.conftest import DEADLINE

pytestmark = pytest.mark.anyio


class AlarmsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = SteppedClock()
        self.runner = asyncio.Runner()
        self.alarms = self.runner.run(self.begin())
        self.told: list[int] = []
        self.ends: dict[int, Callable[[], None]] = {}
        self.model: dict[int, int] = {}
        """When each that is set is due."""
        self.due: list[int] = []
        self.number = 0

    async def begin(self) -> Alarms:
        alarms = Alarms(self.clock)
        self.task = asyncio.get_running_loop().create_task(alarms.run())
        return alarms

    def teardown(self) -> None:
        self.runner.close()  # ends the task

    @rule(after=st.integers(-5, 50))
    def set(self, after: int) -> None:
        number = self.number = self.number + 1
        self.model[number] = self.clock.now() + after
        self.settle(lambda: self.ends.update({number: self.alarms.set(self.model[number], lambda: self.tell(number))}))

    @precondition(lambda self: self.ends)
    @rule(data=st.data())
    def unset(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.ends)))
        self.model.pop(number, None)
        self.settle(self.ends[number])  # also one that was told or unset before

    @rule(many=st.integers(65, 200))
    def come_and_go(self, many: int) -> None:
        def come() -> None:
            for end in [self.alarms.set(self.clock.now() + 30, lambda: self.tell(0)) for _ in range(many)]:
                end()

        self.settle(come)

    @rule(ms=st.integers(1, 40))
    def step(self, ms: int) -> None:
        self.settle(lambda: self.clock.step(ms))

    def tell(self, number: int) -> None:
        self.told.append(number)

    def settle(self, do: Callable[[], object]) -> None:
        async def done() -> None:
            do()
            await anyio.wait_all_tasks_blocked()

        self.runner.run(done())
        over = [number for number, moment in self.model.items() if moment <= self.clock.now()]
        self.due += sorted(over, key=lambda number: (self.model.pop(number), number))

    @invariant()
    def each_is_told_once_at_its_time_and_in_order(self) -> None:
        assert self.told == self.due
        assert len(self.alarms) == len(self.model)


TestAlarms = AlarmsMachine.TestCase


async def test_ten_thousand_who_wait_are_one_task() -> None:
    clock = SteppedClock()
    alarms = Alarms(clock)
    told: list[int] = []
    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alarms.run)
            await anyio.wait_all_tasks_blocked()
            before = len(asyncio.all_tasks())
            for number in range(10_000):
                alarms.set(START + 1000 + number % 10, partial(told.append, number))
            await anyio.wait_all_tasks_blocked()
            assert len(asyncio.all_tasks()) == before
            clock.step(1010)
            await anyio.wait_all_tasks_blocked()
            assert len(told) == 10_000
            tasks.cancel_scope.cancel()
