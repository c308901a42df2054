"""The promise about channels: joined, left, published to once, delivered to who was a member then.

Publishing is `accept` with a channel among its recipients. It stores one message, however many members there are; it
is in a member's mailbox from the moment when anybody looks there, with all that this means: order, leases, attempts,
expiry, dead letters. But nobody is told what became of it: a thousand members would be a storm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from mcp_mailbox.addresses import Address
from mcp_mailbox.channel import Channel, Keep, Skipped
from mcp_mailbox.store.basics import Origin


@dataclass(frozen=True, slots=True)
class Published:
    """There is something new in that channel, from `publisher` (None: it was put off, and its time has come)."""

    channel: Address
    publisher: Address | None = None


Hear = Callable[[Published], None]
"""Called in the event loop after the commit, as `Ring`."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Answer of `subscribe`. `waiting` messages of before it will be delivered (a thousand stands for more)."""

    channel: Channel
    created: bool
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class ChannelPage:
    """A page of a space's channels, by folded name; `next` goes on behind it, None at the end."""

    channels: tuple[tuple[Channel, str], ...]
    """Each with the cursor behind it."""
    next: str | None = None


class ChannelStore(Protocol):
    """The verbs about channels. A channel whose space the mailbox's principal has no mailbox in does not exist."""

    def on_publish(self, hear: Hear) -> AbstractContextManager[None]:
        """Hear of what is published and may be handed out now, where members are to be rung."""
        ...

    async def subscribe(
        self,
        mailbox: Address,
        channel: Address,
        since: int | str | None,
        keep: Keep,
        origin: Origin,
        *,
        make: bool = True,
    ) -> Subscribed:
        """Make the mailbox a member, and with `make` the channel where there is none.

        What is published from now on is delivered, and with `since` what was published from that time or that message
        on, as far as the channel keeps it and the mailbox has not got it yet. Who is a member stays one.

        Raises Refusal(UNKNOWN_MAILBOX | UNKNOWN_CHANNEL | NAME_CONFUSABLE), (UNKNOWN_MESSAGE) for `since`,
        (FORBIDDEN) for `keep` of somebody else's channel, (BAD_ARGUMENT) for too many.
        """
        ...

    async def unsubscribe(self, mailbox: Address, channel: Address, origin: Origin) -> bool:
        """End the membership; return whether there was one. What was published before is delivered all the same.

        Raises Refusal(UNKNOWN_MAILBOX | UNKNOWN_CHANNEL).
        """
        ...

    async def channels(self, mailbox: Address, space: str, limit: int, cursor: str | None = None) -> ChannelPage:
        """Return the channels of a space. Raises Refusal(BAD_ARGUMENT) for a cursor that is not of this listing."""
        ...

    async def subscriptions(self, mailbox: Address) -> Sequence[Address]:
        """Return the channels that the mailbox is a member of."""
        ...

    async def skipped(self, mailbox: Address) -> Sequence[Skipped]:
        """Return what the channels kept no more when the mailbox came to read it, and nobody was told yet."""
        ...

    async def note_told(self, mailbox: Address, skipped: Sequence[Skipped]) -> None:
        """Note that somebody was told."""
        ...

    async def similar_channel(self, mailbox: Address, channel: Address) -> Address | None:
        """Return the channel of that space most like this one, if any is."""
        ...
