"""What an outbox takes in from one mailbox for another is bounded, and what came to nothing is not counted."""

from __future__ import annotations

import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.link.pace import Pace
from tests.clocks import SteppedClock

ANN, BOB, EVE = (Address(name, "default") for name in ("ann", "bob", "eve"))


def is_full(pace: Pace, *to: Address) -> bool:
    try:
        with pace.taking(ANN, to):
            return False
    except Refusal as refusal:
        return refusal.code is Code.OVER_BUDGET


def test_one_mailbox_takes_so_many_of_another_an_hour() -> None:
    clock = SteppedClock()
    pace = Pace(2, clock)
    assert [is_full(pace, BOB) for _ in range(3)] == [False, False, True]
    assert not is_full(pace, EVE)
    clock.step(1800 * 1000)
    assert [is_full(pace, BOB) for _ in range(2)] == [False, True]


def test_who_is_refused_for_one_recipient_has_written_to_none() -> None:
    pace = Pace(1, SteppedClock())
    assert not is_full(pace, BOB)
    assert is_full(pace, EVE, BOB)
    assert not is_full(pace, EVE)


def test_what_could_not_be_kept_is_not_counted() -> None:
    pace = Pace(1, SteppedClock())
    for _ in range(3):
        with pytest.raises(OSError, match="full"), pace.taking(ANN, [BOB]):
            raise OSError("full")
    assert not is_full(pace, BOB)
