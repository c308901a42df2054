"""Budgets: so many an hour, with room for a burst, for as many keys as there is memory for."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mcp_mailbox import budgets
from mcp_mailbox.budgets import HOUR, PAUSE, Budget, hops_of_answer

NOW = 1_800_000_000_000


def fill(budget: Budget, key: int, now: int) -> int:
    """Take until there is no room; return how many there were."""
    taken = 0
    while budget.free_at(key, now) <= now:
        budget.take(key, now)
        taken += 1
    return taken


def test_a_budget_can_be_spent_at_once_and_comes_back_one_by_one() -> None:
    budget = Budget(60)
    assert fill(budget, 1, NOW) == 60
    assert budget.free_at(1, NOW) == NOW + HOUR // 60
    assert fill(budget, 1, NOW + HOUR // 60 - 1) == 0
    assert fill(budget, 1, NOW + HOUR // 60) == 1
    assert fill(budget, 1, NOW + 10 * HOUR) == 60, "and is never more than whole"


def test_keys_have_nothing_to_do_with_each_other() -> None:
    budget = Budget(2)
    assert (fill(budget, 1, NOW), fill(budget, 2, NOW)) == (2, 2)


def test_a_budget_of_nothing_is_no_budget() -> None:
    budget = Budget(0)
    for _ in range(10):
        budget.take(1, NOW)
    assert (budget.free_at(1, NOW), len(budget)) == (NOW, 0)


def test_a_clock_that_stands_still_or_steps_back_refuses_nobody_for_long() -> None:
    budget = Budget(10)
    assert fill(budget, 1, NOW) == 10
    assert budget.free_at(1, NOW - 5) == budget.free_at(1, NOW)


def test_memory_is_bounded_and_who_has_spent_most_is_remembered() -> None:
    budget = Budget(3)
    fill(budget, 0, NOW)
    for key in range(1, 3 * budgets._KEYS):
        budget.take(key, NOW)
        assert len(budget) <= budgets._KEYS
    assert budget.free_at(0, NOW) > NOW


def test_what_is_whole_again_is_forgotten_first() -> None:
    budget = Budget(3600)
    for key in range(budgets._KEYS + 1):
        budget.take(key, NOW + 10 * key)
    assert len(budget) <= 101, "a second after it was taken the one is back"


def test_an_answer_soon_after_is_a_hop_and_one_after_a_pause_begins_anew() -> None:
    assert hops_of_answer(7, NOW, NOW) == 8
    assert hops_of_answer(7, NOW, NOW + PAUSE - 1) == 8
    assert hops_of_answer(7, NOW, NOW + PAUSE) == 1


class Machine(RuleBasedStateMachine):
    """A budget against a bucket of tokens, of which exactly so many drip into it."""

    AN_HOUR = 7

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(self.AN_HOUR)
        self.now = NOW
        self.tokens: dict[int, Fraction] = dict.fromkeys(range(3), Fraction(self.AN_HOUR))

    @rule(key=st.integers(0, 2))
    def ask(self, key: int) -> None:
        free = self.budget.free_at(key, self.now)
        assert (free <= self.now) is (self.tokens[key] >= 1)
        if free <= self.now:
            self.budget.take(key, self.now)
            self.tokens[key] -= 1
        else:
            missing = 1 - self.tokens[key]
            assert 0 <= free - self.now - missing * HOUR / self.AN_HOUR < 1, "it says when, to the millisecond"

    @rule(ms=st.sampled_from([1, 999, HOUR // 7, HOUR // 7 + 1, HOUR]))
    def time_passes(self, ms: int) -> None:
        self.now += ms
        for key, tokens in self.tokens.items():
            self.tokens[key] = min(Fraction(self.AN_HOUR), tokens + Fraction(ms * self.AN_HOUR, HOUR))

    @invariant()
    def there_is_room_exactly_when_the_bucket_has_a_token(self) -> None:
        for key, tokens in self.tokens.items():
            assert (self.budget.free_at(key, self.now) <= self.now) is (tokens >= 1)


TestBudget = Machine.TestCase
TestBudget.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
