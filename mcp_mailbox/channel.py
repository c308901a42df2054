"""A channel: a name that fans out. What is published is stored once, and delivered to a member when it reads.

Rules what a channel keeps and for how long, and how many there may be. Who is a member and what became of a message at
each of them is the store's business.

What is published has a place in its channel: 1, 2, 3 … A member's subscription goes from one place to another; leaving
ends it, joining again begins a new one. What a channel keeps no more, it keeps for nobody: a member that has not read
it is told how much it has missed (`Skipped`).
"""

from __future__ import annotations

from dataclasses import dataclass

from mcp_mailbox.addresses import CHANNEL_MARK, Address
from mcp_mailbox.errors import Code, Refusal

EVERYBODY = f"{CHANNEL_MARK}all"
"""The channel of each space that a mailbox is a member of from the beginning. It may leave."""
KEEP_AGE = 30 * 24 * 3600 * 1000
"""ms that a message stays in a channel,"""
KEEP_COUNT = 10_000
"""how many of them,"""
KEEP_BYTES = 64 * 1024 * 1024
"""and bytes of their bodies; the newest message always stays."""
MOST_COUNT = 1_000_000
MOST_BYTES = 16 * 1024 * 1024 * 1024
MOST_AGE = 10 * 365 * 24 * 3600 * 1000
SUBSCRIPTION_LIMIT = 200
"""Channels that one mailbox may be a member of: what a wait looks at."""
CHANNEL_LIMIT = 1_000
"""Channels in a space that one principal has made: nobody takes the room for another's."""


@dataclass(frozen=True, slots=True)
class Keep:
    """What a channel keeps: messages of at most `age` ms, at most `count` of them, at most `bytes`.

    None leaves what is there, or what is usual.
    """

    age: int | None = None
    count: int | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        """Raise Refusal(BAD_ARGUMENT) for what cannot be."""
        for what, value, most in (
            ("age", self.age, MOST_AGE),
            ("count", self.count, MOST_COUNT),
            ("bytes", self.bytes, MOST_BYTES),
        ):
            if value is not None and not 0 < value <= most:
                raise Refusal(Code.BAD_ARGUMENT, f"A channel cannot keep {value:,} ({what}).", f"Give 1 to {most:,}.")

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return any(value is not None for value in (self.age, self.count, self.bytes))


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as its space sees it. Times are ms since 1970 UTC."""

    address: Address
    owner: str
    """The principal that made it, empty where the post office did: who may say what it keeps."""
    created_at: int
    members: int
    keep: Keep
    last_at: int | None = None
    """When something was last published."""
    yours: bool = False
    """Whether the mailbox that asks is a member."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """How many messages a channel no longer kept when a member came to read them."""

    channel: Address
    count: int
