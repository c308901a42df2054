"""A doorbell: how a host that is idle is told that there is mail, and what came of it.

What it carries is a pointer: how much, from whom, where. Never a subject, never a body, and never the claim that
anything was delivered. Whether to ring at all is `postoffice/doorbells.py`'s business, how each host is rung
`doorbells/`'s.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mcp_mailbox.addresses import Address
from mcp_mailbox.errors import Code, Refusal

NEWS_LIMIT = 30
"""Deliveries of each priority, the newest, that a look at the news goes through."""
ANSWERED = 5 * 60_000
"""ms in which a look at the mailbox counts as an answer to a ring: a model's turn may be long."""
OVER = "times within the hour"
"""In why a ring was skipped: its thread has spent its wakes."""
_NAMES = 3
"""Senders that a pointer names, and channels."""
_NAME = 64
"""Characters of a name that a pointer shows."""
_QUIET = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)
_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a ring says: so many messages for this mailbox, some of them urgent, from whom, each once.

    `at`, in ms since 1970 UTC, makes each one another: Claude Code drops what is said to it twice in the same words.
    """

    at: int
    mailbox: Address
    count: int
    senders: tuple[Address, ...]
    urgent: int = 0
    more: bool = False
    """Whether there may be more, which nobody has counted."""
    places: tuple[Address, ...] = ()
    """By which it came, each once: channels, and the mailbox for what came directly. Empty: all of it did."""

    def reminder(self) -> str:
        """Return it as a hook says it."""
        return f"You have {self._said()}: call wait_for_message."

    def names(self) -> tuple[str, ...]:
        """Return the first few senders as they are called in the mailbox's space."""
        return tuple(_shown(sender, self.mailbox.space) for sender in self.senders[:_NAMES])

    def channels(self) -> list[str]:
        """Return the first few channels by which some of it came."""
        return [_shown(place, self.mailbox.space) for place in self.places if place != self.mailbox][:_NAMES]

    def text(self) -> str:
        """Return the one line that is told to a model."""
        clock = time.strftime("%H:%M:%S", time.localtime(self.at / 1000))
        return f"Mail at {clock}: {self._said()}; call wait_for_message."

    def _said(self) -> str:
        count = f"{self.count} or more" if self.more else f"{self.count}"
        urgent = f" ({self.urgent} urgent)" if self.urgent else ""
        noun = "message" if self.count == 1 else "messages"
        more = len(self.senders) - _NAMES
        senders = ", ".join(self.names()) + (f" and {more} more" if more > 0 else "")
        places = [_shown(place, self.mailbox.space) for place in (self.places or (self.mailbox,))]
        others = len(places) - _NAMES
        where = ", ".join(places[:_NAMES]) + (f" and {others} more" if others > 0 else "")
        return f"{count} new {noun}{urgent} from {senders} in {where}"


def _shown(address: Address, space: str) -> str:
    """Return the name, with its space when that is another; only what is shown as it is, and not much of it."""
    name = address.name if address.space == space else str(address)
    return "".join(character if character.isprintable() else "?" for character in name)[:_NAME]


class Moment(StrEnum):
    """When a host asks its hooks whether there is something to say."""

    SESSION_START = "SessionStart"
    PROMPT = "UserPromptSubmit"
    STOP = "Stop"
    """Its turn is over: what is said then goes on with it."""


class Outcome(StrEnum):
    """What came of a ring."""

    RUNG = "rung"
    """The host took it; whether anybody heard is not known."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """It was not tried."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a ring, and why when it was not rung."""

    outcome: Outcome
    reason: str = ""


class Doorbell(Protocol):
    """A host's bell. `kind` is for people: claude, codex."""

    kind: str

    async def ring(self, pointer: Pointer) -> Result:
        """Ring; what goes wrong is a result. May take as long as the host does."""
        ...


@dataclass(frozen=True, slots=True)
class StandIn:
    """What is rung for a mailbox in the place of a reader that is known by its calls alone: a hook that waits."""

    name: str
    """One of the same name takes its place, upon which it has to `leave`."""
    mailbox: Address
    bell: Doorbell
    terms: Terms
    begins: bool
    """Whether its host has just started, and was told of nothing."""
    superseded: Callable[[], bool]
    """Tells whether its host came to have a bell of its own, by which it is rung then."""
    leave: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Ring:
    """A line of the log of rings."""

    kind: str
    result: Result
    pointer: Pointer


class Log(Protocol):
    """Where rings are noted, for people."""

    def note(self, ring: Ring) -> None:
        """Keep it; must not raise nor wait."""
        ...

    def answered(self, mailbox: Address, rung_at: int, at: int) -> None:
        """Keep that the ring of that moment was followed by a look at the mailbox; must not raise nor wait."""
        ...


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours of the day in which only what is urgent rings; minutes after midnight, where the host's machine is.

    `east` is by how many minutes that machine's time is ahead of UTC; None: it is this machine.
    """

    begin: int
    end: int
    east: int | None = None

    @classmethod
    def parse(cls, text: str, east: int | None = None) -> Quiet:
        """Read 22:00-07:00. Raises Refusal(BAD_ARGUMENT)."""
        found = _QUIET.fullmatch(text.strip())
        if found is None:
            raise Refusal(
                Code.BAD_ARGUMENT, f"{text[:20]!a} are no hours.", "Write them as 22:00-07:00, in the local time."
            )
        hour, minute, until_hour, until_minute = map(int, found.groups())
        return cls(hour * 60 + minute, until_hour * 60 + until_minute, east)

    def left(self, now: int) -> int:
        """Return for how many ms it stays quiet from `now` (ms since 1970 UTC) on; 0 when it is not quiet."""
        local = time.localtime(now / 1000) if self.east is None else time.gmtime(now / 1000 + self.east * 60)
        minute = local.tm_hour * 60 + local.tm_min
        if (minute - self.begin) % _DAY >= (self.end - self.begin) % _DAY:
            return 0
        return ((self.end - minute) % _DAY) * 60_000 - local.tm_sec * 1000 - now % 1000


WAKES = 60
"""Rings that one thread is worth in an hour, everybody's together, unless a host says otherwise."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a host says of its bell."""

    quiet: Quiet | None = None
    wakes: int = WAKES
