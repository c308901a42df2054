"""The table of what can become of a delivery, and the page that is drawn from it."""

from __future__ import annotations

import pytest

from mcp_mailbox.delivery import MEANING, TRANSITIONS, Event, Outcome, State
from tests.domain import lifecycle


def test_the_page_shows_the_table() -> None:
    assert lifecycle.PAGE.read_text(encoding="utf-8") == lifecycle.draw(), f"rewrite it with: {lifecycle.COMMAND}"


def test_every_state_has_a_row_and_every_event_a_meaning_and_a_use() -> None:
    assert set(TRANSITIONS) == set(State)
    assert set(MEANING) == set(Event) == {event for events in TRANSITIONS.values() for event in events}


@pytest.mark.parametrize("state", State)
def test_nothing_follows_what_is_settled_and_something_what_is_not(state: State) -> None:
    assert bool(TRANSITIONS[state]) is not state.settled


@pytest.mark.parametrize("state", [state for state in State if not state.settled])
def test_whatever_is_not_settled_can_be(state: State) -> None:
    assert {target for target in TRANSITIONS[state].values() if target.settled} == {State.ACKED, State.REJECTED}


def test_every_state_can_be_reached() -> None:
    reached = {State.STORED}
    while more := {target for state in reached for target in TRANSITIONS[state].values()} - reached:
        reached |= more
    assert reached == set(State)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_ends_a_lease(outcome: Outcome) -> None:
    assert TRANSITIONS[State.LEASED][outcome.event] is not State.LEASED


def test_only_what_is_stored_can_be_claimed() -> None:
    assert [state for state, events in TRANSITIONS.items() if Event.CLAIM in events] == [State.STORED]
