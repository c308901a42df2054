"""The table of what can become of a delivery, and the page that is drawn from it."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_mailbox.delivery import (
    EVENT_OF,
    MEANING,
    POSTPONE_LIMIT,
    REASON_LIMIT,
    TRANSITIONS,
    Event,
    Outcome,
    Settlement,
    State,
)
from mcp_mailbox.errors import Code, Refusal
from tests.domain import lifecycle


def test_the_page_shows_the_table() -> None:
    assert lifecycle.PAGE.read_text(encoding="utf-8") == lifecycle.draw(), f"rewrite it with: {lifecycle.COMMAND}"


def test_every_state_has_a_row_and_every_event_a_meaning_and_a_use() -> None:
    assert set(TRANSITIONS) == set(State)
    assert set(MEANING) == set(Event) == {event for events in TRANSITIONS.values() for event in events}


@pytest.mark.parametrize("state", State)
def test_a_dead_letter_can_be_retried_and_nothing_else_follows_what_is_settled(state: State) -> None:
    events = set(TRANSITIONS[state])
    if state.settled:
        assert events == ({Event.RETRY} if state.dead_letter else set())
    else:
        assert events


@pytest.mark.parametrize("state", [state for state in State if not state.settled and state is not State.HELD])
def test_whatever_is_not_settled_can_be_acked_rejected_and_come_to_an_end_by_time(state: State) -> None:
    assert {State.ACKED, State.REJECTED} < {target for target in TRANSITIONS[state].values() if target.settled}
    assert {Event.EXPIRE, Event.EXHAUST} & set(TRANSITIONS[state])


def test_what_is_held_is_let_in_or_comes_to_nothing_and_nobody_can_take_it() -> None:
    assert TRANSITIONS[State.HELD] == {
        Event.CONSENT: State.STORED,
        Event.DECLINE: State.REJECTED,
        Event.EXPIRE: State.EXPIRED,
    }
    assert State.HELD not in {target for events in TRANSITIONS.values() for target in events.values()}


@pytest.mark.parametrize("state", [State.SURFACED, State.LEASED])
def test_what_somebody_may_have_seen_is_not_replaced(state: State) -> None:
    assert Event.REPLACE not in TRANSITIONS[state]


def test_every_state_can_be_reached() -> None:
    reached = {State.STORED, State.HELD}
    while more := {target for state in reached for target in TRANSITIONS[state].values()} - reached:
        reached |= more
    assert reached == set(State)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_but_a_purge_is_an_event(outcome: Outcome) -> None:
    assert (outcome in EVENT_OF) is (outcome is not Outcome.PURGE)


@pytest.mark.parametrize(
    "settlement",
    [
        {"outcome": Outcome.ACK, "delay": 1},
        {"outcome": Outcome.RELEASE, "delay": -1},
        {"outcome": Outcome.RELEASE, "delay": POSTPONE_LIMIT + 1},
        {"outcome": Outcome.ACK, "reason": "because"},
        {"outcome": Outcome.REJECT, "reason": "x" * (REASON_LIMIT + 1)},
        {"outcome": Outcome.REJECT, "reason": "\ud800"},
    ],
)
def test_a_settlement_that_makes_no_sense_is_refused(settlement: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refusal:
        Settlement(**settlement)
    assert refusal.value.code is Code.BAD_ARGUMENT


def test_only_what_nobody_holds_can_be_claimed() -> None:
    claimable = {state for state, events in TRANSITIONS.items() if Event.CLAIM in events}
    assert claimable == {State.STORED, State.RUNG, State.SURFACED}
