"""A reservation: an advisory, expiring claim on a name or a file pattern; and when two of them conflict.

Advisory: nothing is locked, whoever asks is told who holds what. Which names meet, `patterns` knows; who may see whose
reservations, the post office.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice

from mcp_mailbox.addresses import Address
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.patterns import covers, overlap, spell

NAMES_LIMIT = 20
"""Names in one call."""
HELD_LIMIT = 100
"""Names that one mailbox holds."""
SPACE_LIMIT = 1_000
"""Names that are held in one space: each is held against each name of a call."""
CONFLICT_LIMIT = 100
"""Conflicts that are told of one call."""
NOTE_LIMIT = 200
"""Characters in a note."""
DEFAULT_TERM = 3600 * 1000
LONGEST_TERM = 24 * 3600 * 1000
"""ms after which a reservation ends by itself."""
SOMEBODY = "somebody else"
"""Who holds it, for whom it is nobody's business."""
_MINUTE = 60 * 1000


class Mode(StrEnum):
    """What a reservation keeps others from."""

    EXCLUSIVE = "exclusive"
    """Nobody else may hold what meets it: its holder changes it."""
    SHARED = "shared"
    """Others may share it: its holders rely on it, and nobody changes it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How names are reserved: for `term` ms."""

    mode: Mode = Mode.EXCLUSIVE
    term: int = DEFAULT_TERM
    note: str = ""

    def __post_init__(self) -> None:
        """Raise Refusal(BAD_ARGUMENT) for what cannot be."""
        if not 0 < self.term <= LONGEST_TERM:
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"`ttl` is {self.term / 1000:g} s.",
                f"Give 1 to {LONGEST_TERM // 1000} seconds; reserving again extends it.",
            )
        if len(self.note) > NOTE_LIMIT or not self.note.isprintable():
            raise Refusal(
                Code.BAD_ARGUMENT,
                "`note` is too long, or has characters that cannot be shown.",
                f"It is one line of at most {NOTE_LIMIT} characters.",
            )


@dataclass(frozen=True, slots=True)
class Reservation:
    """A name that is held. `holder` is None for whom it is nobody's business. Times are ms since 1970 UTC."""

    name: str
    holder: Address | None
    owner: str
    """The holder's principal."""
    mode: Mode
    note: str
    made_at: int
    until: int

    def seen_by(self, principal: str) -> Reservation:
        """Return what a principal may know of it: of somebody else's, neither whose it is nor what for."""
        return self if self.owner == principal else replace(self, holder=None, owner="", note="")


@dataclass(frozen=True, slots=True)
class Conflict:
    """A name that cannot be had, and what it meets."""

    name: str
    held: Reservation


class Taken(Refusal):
    """The refusal of names that others hold: nothing was reserved."""

    def __init__(self, conflicts: Sequence[Conflict], now: int) -> None:
        first, more = conflicts[0], len(conflicts) - 1
        holders = dict.fromkeys(str(each.held.holder) for each in conflicts if each.held.holder is not None)
        free = ending(max(each.held.until for each in conflicts))
        write = f", or send to {next(iter(holders))}" if holders else ""
        super().__init__(
            Code.RESERVED,
            f"{first.name!r} is held by {told(first, now)}." + (f" {more} more in the way." if more else ""),
            f"Nothing was reserved. Wait until {free}, reserve other names{write}.",
        )
        self.conflicts = tuple(conflicts)


def told(conflict: Conflict, now: int) -> str:
    """Return who holds it, as what, and until when, in words."""
    held = conflict.held
    holder = str(held.holder) if held.holder is not None else SOMEBODY
    minutes = -(-(held.until - now) // _MINUTE)
    # A name of another principal's is its words: it stands where it can be told from ours.
    as_what = "" if held.name == conflict.name or held.holder is None else f", as {held.name!r}"
    return f"{holder} ({held.mode}{as_what}) until {ending(held.until)}, {minutes} min from now"


def ending(ms: int) -> str:
    """Return the time as RFC 3339 in UTC, rounded up to the second: whoever waits for it does not come too early."""
    return datetime.fromtimestamp(-(-ms // 1000), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def wanted(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of a call, each once and as it is spelled. Raises Refusal(BAD_NAME | BAD_ARGUMENT)."""
    spelt = tuple(dict.fromkeys(spell(name) for name in names))
    if len(spelt) > NAMES_LIMIT:
        raise Refusal(
            Code.BAD_ARGUMENT, f"{len(spelt)} names were given.", f"At most {NAMES_LIMIT}; a folder is one name."
        )
    return spelt


def conflicts(names: Iterable[str], mode: Mode, others: Sequence[Reservation]) -> list[Conflict]:
    """Return what stands in the way of reserving these names, of what others hold; enough of it, when it is much."""
    against = [each for each in others if Mode.EXCLUSIVE in (mode, each.mode)]
    found = (Conflict(name, each) for name in names for each in against if overlap(name, each.name))
    return list(islice(found, CONFLICT_LIMIT))


def touched(paths: Iterable[str], others: Sequence[Reservation]) -> list[Conflict]:
    """Return which of these paths others hold, whatever the mode: who changes a file shares it with nobody."""
    return [Conflict(path, each) for path in paths for each in others if covers(each.name, path)]
