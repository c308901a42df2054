"""A delivery: one message in one mailbox, and the table of what can become of it.

`TRANSITIONS` is the whole behaviour; docs/lifecycle.md is drawn from it, the engines obey it. Time, storage and who
may ask are not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Message, check_text


class State(IntEnum):
    """Where a delivery stands. The numbers are what the store holds."""

    STORED = 0
    LEASED = 1
    ACKED = 2
    REJECTED = 3
    EXPIRED = 4
    DEAD = 5
    RUNG = 6
    SURFACED = 7
    REPLACED = 8
    HELD = 9

    @property
    def word(self) -> str:
        """The word that agents read."""
        return self.name.lower()

    @property
    def settled(self) -> bool:
        """Nobody is asked any more: a wait will not hand it out."""
        return self in (State.ACKED, State.REPLACED) or self.dead_letter

    @property
    def dead_letter(self) -> bool:
        """It came to nothing: kept and listed until its mailbox's owner retries or purges it."""
        return self in (State.REJECTED, State.EXPIRED, State.DEAD)


class Event(StrEnum):
    """What happens to a delivery."""

    RING = "ring"
    SHOW = "show"
    CLAIM = "claim"
    SURFACE = "surface"
    GIVE_BACK = "give back"
    LAPSE = "lapse"
    RELEASE = "release"
    EXTEND = "extend"
    ACK = "ack"
    REJECT = "reject"
    EXHAUST = "exhaust"
    EXPIRE = "expire"
    REPLACE = "replace"
    RETRY = "retry"
    CONSENT = "consent"
    DECLINE = "decline"


MEANING: dict[Event, str] = {
    Event.RING: "its reader was told that there is mail; nobody is known to have seen it. What was rung once counts as"
    " rung when it is retried, too",
    Event.SHOW: "a listing that shows it is in its reader's hands",
    Event.CLAIM: "a reader's wait takes it; the lease's generation goes up by one",
    Event.SURFACE: "the reader's host has the answer, maybe late; only now does it count as an attempt",
    Event.GIVE_BACK: "the lease ends, and nobody is known to have seen it: the wait was cancelled, its client vanished"
    " before the answer reached it, or time ran out",
    Event.LAPSE: "the lease ends like that, or runs out, of what somebody has seen",
    Event.RELEASE: "the reader puts it back, for now or for later",
    Event.EXTEND: "the reader needs more time; the generation stays. Also when the lease ran out, until somebody else"
    " has it",
    Event.ACK: "the reader is done with it, or has answered it",
    Event.REJECT: "the reader will never do it; it is a dead letter, and the sender is told",
    Event.EXHAUST: "a lease ended without an ack as often as the mailbox allows; a dead letter, and the sender is told",
    Event.EXPIRE: "its time to live is over and nobody holds it, or its sender has waited 30 days to be let in;"
    " a dead letter, and the sender is told",
    Event.REPLACE: "the same sender has sent something newer of the same topic before anybody saw this",
    Event.RETRY: "the mailbox's owner puts a dead letter back; its attempts are counted anew",
    Event.CONSENT: "the mailbox's owner lets the sender in, or the mailbox lets everybody in from now on",
    Event.DECLINE: "the mailbox's owner does not let the sender in; a dead letter, and the sender is told",
}

TRANSITIONS: dict[State, dict[Event, State]] = {
    # A stranger's first message to a mailbox that asks first: there for its owner to decide on, and for nobody to take.
    State.HELD: {
        Event.CONSENT: State.STORED,
        Event.DECLINE: State.REJECTED,
        Event.EXPIRE: State.EXPIRED,
    },
    State.STORED: {
        Event.RING: State.RUNG,
        Event.SHOW: State.SURFACED,
        Event.CLAIM: State.LEASED,
        # One may settle what one saw in a listing, without a lease.
        Event.RELEASE: State.SURFACED,
        Event.ACK: State.ACKED,
        Event.REJECT: State.REJECTED,
        Event.EXPIRE: State.EXPIRED,
        Event.REPLACE: State.REPLACED,
    },
    State.RUNG: {
        Event.RING: State.RUNG,
        Event.SHOW: State.SURFACED,
        Event.CLAIM: State.LEASED,
        Event.SURFACE: State.SURFACED,
        Event.EXTEND: State.LEASED,
        Event.RELEASE: State.SURFACED,
        Event.ACK: State.ACKED,
        Event.REJECT: State.REJECTED,
        Event.EXPIRE: State.EXPIRED,
        Event.REPLACE: State.REPLACED,
    },
    State.SURFACED: {
        Event.CLAIM: State.LEASED,
        Event.SURFACE: State.SURFACED,
        Event.EXTEND: State.LEASED,
        Event.RELEASE: State.SURFACED,
        Event.ACK: State.ACKED,
        Event.REJECT: State.REJECTED,
        Event.EXHAUST: State.DEAD,
        Event.EXPIRE: State.EXPIRED,
    },
    State.LEASED: {
        Event.SURFACE: State.LEASED,
        Event.EXTEND: State.LEASED,
        # Somebody was handed it, but it is not known to have been seen.
        Event.GIVE_BACK: State.RUNG,
        Event.LAPSE: State.SURFACED,
        Event.RELEASE: State.SURFACED,
        Event.ACK: State.ACKED,
        Event.REJECT: State.REJECTED,
        Event.EXHAUST: State.DEAD,
    },
    State.ACKED: {},
    State.REPLACED: {},
    State.REJECTED: {Event.RETRY: State.STORED},
    State.EXPIRED: {Event.RETRY: State.STORED},
    State.DEAD: {Event.RETRY: State.STORED},
}


class Outcome(StrEnum):
    """What a reader does with a delivery (AMQP 1.0 section 3.4: accepted, released, rejected), or its owner later."""

    ACK = "ack"
    RELEASE = "release"
    REJECT = "reject"
    EXTEND = "extend"
    RETRY = "retry"
    PURGE = "purge"
    ACCEPT = "accept"


EVENT_OF: dict[Outcome, Event] = {
    Outcome.ACK: Event.ACK,
    Outcome.RELEASE: Event.RELEASE,
    Outcome.REJECT: Event.REJECT,
    Outcome.EXTEND: Event.EXTEND,
    Outcome.RETRY: Event.RETRY,
    Outcome.ACCEPT: Event.CONSENT,
}
"""What each outcome is in the table. A purge changes no state: it ends the listing of a dead letter. To reject what is
held is to decline it."""

REASON_LIMIT = 500
"""Characters of a reason."""
POSTPONE_LIMIT = 30 * 24 * 3600 * 1000
"""ms by which a delivery may be put off or a lease extended."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a delivery.

    `delay` in ms: until a released one is handed out again, or how long an extended lease lasts from now. `reason` is
    told to the sender.
    """

    outcome: Outcome
    delay: int = 0
    reason: str = ""

    def __post_init__(self) -> None:
        """Raise Refusal(BAD_ARGUMENT) for what makes no sense."""
        if not 0 <= self.delay <= POSTPONE_LIMIT:
            raise Refusal(Code.BAD_ARGUMENT, "`delay` is out of range.", "Give 0 to 30 days, in seconds.")
        if self.delay and self.outcome not in {Outcome.RELEASE, Outcome.EXTEND}:
            raise Refusal(Code.BAD_ARGUMENT, f"`delay` has no meaning with {self.outcome}.", "Leave it out.")
        if self.reason and self.outcome not in {Outcome.RELEASE, Outcome.REJECT}:
            raise Refusal(Code.BAD_ARGUMENT, f"`reason` has no meaning with {self.outcome}.", "Leave it out.")
        check_text("reason", self.reason)
        if len(self.reason) > REASON_LIMIT:
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"`reason` has {len(self.reason):,} characters.",
                f"At most {REASON_LIMIT} are allowed.",
            )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a delivery has come. Times are ms since 1970 UTC, None for what has not happened.

    `rung_at` is when its reader was first told of it, `surfaced_at` when it was first in its reader's hands,
    `leased_at` when it was last leased, `settled_at` when it came to an end.
    """

    state: State
    attempts: int = 0
    lease_until: int | None = None
    deliver_at: int | None = None
    """Not to be handed out before, where it was put off."""
    rung_at: int | None = None
    surfaced_at: int | None = None
    leased_at: int | None = None
    settled_at: int | None = None
    reason: str = ""
    held_at: int | None = None
    """Since when it waited for its sender to be let in, where it had to."""
    let_in_at: int | None = None
    """When that was let in: stored from then on."""
    by: str | None = None
    """Whose words the reason is, where it is told to somebody else."""

    @property
    def since(self) -> int | None:
        """When it came to its state, None for what is only stored, and where nobody noted it."""
        if self.state.settled:
            return self.settled_at
        times = {State.LEASED: self.leased_at, State.SURFACED: self.surfaced_at, State.RUNG: self.rung_at}
        return times.get(self.state)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as one mailbox holds it.

    `handle` is what a reader settles it by: the message's id and, when leased, the lease's generation, so that a
    stale reader cannot settle its successor's lease.
    """

    message: Message
    handle: str
    progress: Progress
    channel: str | None = None
    """The address of the channel by which it came."""

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.progress.state

    @property
    def lease_until(self) -> int | None:
        """When its lease ends, in ms since 1970 UTC."""
        return self.progress.lease_until

    @property
    def attempts(self) -> int:
        """How often it has been in a reader's hands by a lease."""
        return self.progress.attempts
