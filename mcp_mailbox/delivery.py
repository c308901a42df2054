"""A delivery: one message in one mailbox, and the table of what can become of it.

`TRANSITIONS` is the whole behaviour; docs/lifecycle.md is drawn from it, the engines obey it. Time, storage and who
may ask are not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from mcp_mailbox.message import Message


class State(IntEnum):
    """Where a delivery stands. The numbers are what the store holds."""

    STORED = 0
    LEASED = 1
    ACKED = 2
    REJECTED = 3

    @property
    def word(self) -> str:
        """The word that agents read."""
        return self.name.lower()

    @property
    def settled(self) -> bool:
        """Nothing follows."""
        return self in (State.ACKED, State.REJECTED)


class Event(StrEnum):
    """What happens to a delivery."""

    CLAIM = "claim"
    SURFACE = "surface"
    GIVE_BACK = "give back"
    LAPSE = "lapse"
    RELEASE = "release"
    ACK = "ack"
    REJECT = "reject"


MEANING: dict[Event, str] = {
    Event.CLAIM: "a reader's wait takes it; the lease's generation goes up by one",
    Event.SURFACE: "the reader's host has the answer; only now does it count as an attempt",
    Event.GIVE_BACK: "the wait was cancelled, or its client vanished before the answer reached it",
    Event.LAPSE: "the lease ran out and its reader is gone or asks again",
    Event.RELEASE: "the reader puts it back",
    Event.ACK: "the reader is done with it, or has answered it",
    Event.REJECT: "the reader will never do it; it is kept and listed",
}

TRANSITIONS: dict[State, dict[Event, State]] = {
    State.STORED: {
        Event.CLAIM: State.LEASED,
        # One may settle what one saw in a listing, without a lease.
        Event.ACK: State.ACKED,
        Event.REJECT: State.REJECTED,
    },
    State.LEASED: {
        Event.SURFACE: State.LEASED,
        Event.GIVE_BACK: State.STORED,
        Event.LAPSE: State.STORED,
        Event.RELEASE: State.STORED,
        Event.ACK: State.ACKED,
        Event.REJECT: State.REJECTED,
    },
    State.ACKED: {},
    State.REJECTED: {},
}


class Outcome(StrEnum):
    """How a reader ends a lease (AMQP 1.0 section 3.4: accepted, released, rejected)."""

    ACK = "ack"
    RELEASE = "release"
    REJECT = "reject"

    @property
    def event(self) -> Event:
        """The event that it is in the table."""
        return Event(self.value)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as one mailbox holds it.

    `handle` is what a reader settles it by: the message's id and, when leased, the lease's generation, so that a
    stale reader cannot settle its successor's lease. Times are ms since 1970 UTC.
    """

    message: Message
    handle: str
    state: State
    lease_until: int | None = None
    attempts: int = 0
