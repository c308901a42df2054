"""What is counted of a principal in memory: requests and waits; who is exempt; that nothing is left counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mcp_mailbox.postoffice import Caller
from mcp_mailbox.postoffice.limits import Limits
from mcp_mailbox.quotas import NONE, Over, Quotas
from tests.clocks import SteppedClock

PRINCIPALS = ("ann", "bob")
WAITERS = 3


def caller(principal: str, *, exempt: bool = False) -> Caller:
    return Caller("reader", principal, "default", exempt=exempt)


@contextmanager
def waiting(limits: Limits, caller: Caller, until: float) -> Iterator[None]:
    """Be counted for as long as the block lasts."""
    wait = object()
    limits.begin(caller, wait, until)
    try:
        yield
    finally:
        limits.end(caller, wait)


class Waits(RuleBasedStateMachine):
    """Waits of two principals begin and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = SteppedClock()
        self.limits = Limits(self.clock, Quotas(waiters=WAITERS))
        self.open: list[tuple[str, int, AbstractContextManager[None]]] = []

    @rule(principal=st.sampled_from(PRINCIPALS), lasts=st.integers(1, 1000), exempt=st.booleans())
    def begin(self, principal: str, lasts: int, exempt: bool) -> None:
        own = [until for who, until, _ in self.open if who == principal]
        until = self.clock.now() + lasts
        wait = waiting(self.limits, caller(principal, exempt=exempt), until)
        try:
            wait.__enter__()
        except Over as over:
            assert len(own) == WAITERS
            assert not exempt
            assert over.again == min(own)  # noqa: PT017 - one of two outcomes
        else:
            assert exempt or len(own) < WAITERS
            self.open.append(("" if exempt else principal, until, wait))

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.open:
            wait = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))[2]
            wait.__exit__(None, None, None)

    @rule(principal=st.sampled_from(PRINCIPALS))
    def look(self, principal: str) -> None:
        """A wait that waits for nothing is none."""
        with waiting(self.limits, caller(principal), self.clock.now()):
            pass

    @invariant()
    def nothing_else_is_kept(self) -> None:
        assert set(self.limits._waits) == {who for who, _, _ in self.open if who}


TestWaits = Waits.TestCase
TestWaits.settings = settings(max_examples=50, deadline=None)


def test_a_minutes_requests_may_come_at_once_and_then_so_many_a_second() -> None:
    clock = SteppedClock()
    limits = Limits(clock, Quotas(rate=2))
    assert [limits.request("ann") for _ in range(120)] == [None] * 120
    refused = limits.request("ann")
    assert refused is not None
    assert refused.again == clock.now() + 500
    assert limits.seconds(refused) == 1
    assert limits.request("bob") is None
    clock.step(1000)
    assert [limits.request("ann") is None for _ in range(3)] == [True, True, False]


def test_the_hour_in_which_one_waits_is_told_as_seconds_that_are_left() -> None:
    clock = SteppedClock()
    limits = Limits(clock, Quotas(waiters=1))
    with waiting(limits, caller("ann"), clock.now() + 90_001):
        with pytest.raises(Over) as over, waiting(limits, caller("ann"), clock.now() + 1):
            pass
        assert limits.seconds(over.value) == 91


def test_no_limit_is_none_and_the_machines_own_user_has_none() -> None:
    for limits, who in (
        (Limits(SteppedClock(), NONE), caller("ann")),
        (Limits(SteppedClock(), Quotas(1, 1, 1, 1)), caller("local", exempt=True)),
    ):
        assert (limits.space(who), limits.mailboxes(who)) == (0, 0)
        with waiting(limits, who, 1e18), waiting(limits, who, 1e18):
            pass
    assert all(Limits(SteppedClock(), NONE).request("ann") is None for _ in range(1000))
