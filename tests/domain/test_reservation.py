"""What is said of a conflict, and what of a reservation others may know."""

from __future__ import annotations

import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.errors import BLAME, Blame, Code, Refusal
from mcp_mailbox.reservation import (
    CONFLICT_LIMIT,
    LONGEST_TERM,
    NAMES_LIMIT,
    Conflict,
    Mode,
    Reservation,
    Taken,
    Terms,
    conflicts,
    touched,
    wanted,
)
from tests.clocks import START

MINUTE = 60_000


def held(name: str, by: str = "ann", minutes: float = 10, mode: Mode = Mode.EXCLUSIVE) -> Reservation:
    return Reservation(name, Address(by, "default"), "someone", mode, "why", START, START + int(minutes * MINUTE))


def test_a_refusal_names_the_first_and_says_when_all_will_be_free() -> None:
    found = [Conflict("a/b.py", held("a/")), Conflict("c", held("c", "bob", 90)), Conflict("c", held("c", "ann", 0.5))]
    refusal = Taken(found, START)
    assert (refusal.code, BLAME[refusal.code]) == (Code.RESERVED, Blame.STATE)
    assert refusal.problem == (
        "'a/b.py' is held by ann@default (exclusive, as 'a/') until 2027-01-15T08:10:00Z, 10 min from now."
        " 2 more in the way."
    )
    assert refusal.hint == (
        "Nothing was reserved. Wait until 2027-01-15T09:30:00Z, reserve other names, or send to ann@default."
    )
    assert refusal.conflicts == tuple(found)


def test_an_end_is_told_as_the_second_by_which_it_has_come() -> None:
    ends = Reservation("a", Address("ann", "default"), "someone", Mode.SHARED, "", START, START + 1)
    assert "until 2027-01-15T08:00:01Z, 1 min from now." in Taken([Conflict("a", ends)], START).problem


def test_of_somebody_elses_is_seen_that_it_is_held_and_no_more() -> None:
    mine = held("a/")
    assert mine.seen_by("someone") == mine
    seen = mine.seen_by("eve")
    assert (seen.name, seen.mode, seen.made_at, seen.until) == (mine.name, mine.mode, mine.made_at, mine.until)
    assert "ann" not in str(seen) + str(Taken([Conflict("a/b", seen)], START))
    assert "why" not in str(seen)
    assert "someone" not in str(seen)
    assert "send to" not in Taken([Conflict("a/b", seen)], START).hint


def test_whoever_changes_a_file_shares_it_with_nobody() -> None:
    shared = held("a/", mode=Mode.SHARED)
    assert conflicts(["a/b.py"], Mode.SHARED, [shared]) == []
    assert conflicts(["a/b.py"], Mode.EXCLUSIVE, [shared]) == [Conflict("a/b.py", shared)]
    assert touched(["a/b.py", "b.py"], [shared]) == [Conflict("a/b.py", shared)]


def test_of_very_many_conflicts_enough_are_told() -> None:
    assert len(conflicts(["**"], Mode.EXCLUSIVE, [held(str(number)) for number in range(1000)])) == CONFLICT_LIMIT


def test_the_names_of_a_call_are_spelt_and_each_counts_once() -> None:
    assert wanted(["./a//b", "a/b", "docs/**", "docs/"]) == ("a/b", "docs/")
    assert len(wanted(["a"] * 1000)) == 1
    with pytest.raises(Refusal) as refusal:
        wanted(str(number) for number in range(NAMES_LIMIT + 1))
    assert refusal.value.code is Code.BAD_ARGUMENT


@pytest.mark.parametrize("term", [0, -1, LONGEST_TERM + 1])
def test_a_reservation_lasts_for_a_while_and_not_for_ever(term: int) -> None:
    Terms(term=LONGEST_TERM)
    with pytest.raises(Refusal) as refusal:
        Terms(term=term)
    assert refusal.value.code is Code.BAD_ARGUMENT
    assert "86400" in refusal.value.hint
