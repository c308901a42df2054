"""Presence: whether somebody is there, and what a mailbox's owner last said of itself, until when.

Who is connected the post office knows; what an owner says is believed for a while and then forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mcp_mailbox.errors import Code, Refusal

STATUS_LIMIT = 100
"""Characters in a status."""
DEFAULT_TERM = 3600 * 1000
LONGEST_TERM = 7 * 24 * 3600 * 1000
"""ms after which a status is forgotten."""


class Presence(StrEnum):
    """Whether mail will soon be read (RFC 6121 section 4.7)."""

    ONLINE = "online"
    """A reader of it is here."""
    AWAY = "away"
    """A reader is here, and its owner said that it does not look."""
    OFFLINE = "offline"
    """Nobody is here."""


@dataclass(frozen=True, slots=True)
class Status:
    """What an owner says of itself for `term` ms: a line, and whether it is away. Empty, it takes back the last."""

    text: str = ""
    away: bool = False
    term: int = DEFAULT_TERM

    def __post_init__(self) -> None:
        """Raise Refusal(BAD_ARGUMENT) for what cannot be."""
        if len(self.text) > STATUS_LIMIT or not self.text.isprintable():
            raise Refusal(
                Code.BAD_ARGUMENT,
                "`status` is too long, or has characters that cannot be shown.",
                f"It is one line of at most {STATUS_LIMIT} characters.",
            )
        if not 0 < self.term <= LONGEST_TERM:
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"`status_ttl` is {self.term / 1000:g} s.",
                f"Give 1 to {LONGEST_TERM // 1000} seconds; saying it again extends it.",
            )
