"""The promise about what outlives a store: copies of it, and all mail of a mailbox, one page after the other.

Restoring is no verb, for no store is open while it happens. What holds of a store that was restored: everything that
the backup had is as it was, ids, handles and cursors that were given out before it are good, and none that was given
out since the backup ever names anything else. Credentials and reservations are of now and not of then: where the
store that is replaced can be read, they are as that one had them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Progress
from mcp_mailbox.message import Message

Told = Callable[[int, int], None]
"""Called now and then, from any thread, with how much is done and how much there is; raises nothing."""


@dataclass(frozen=True, slots=True)
class Archived:
    """A message as one mailbox has it: sent, received, or both; how far it has come there, None if it was only sent.

    `recipients` is how far it has come with each of those it was sent to, for whoever sent it alone.
    """

    message: Message
    sent: bool
    own: Progress | None
    recipients: tuple[tuple[str, Progress], ...] = ()


@dataclass(frozen=True, slots=True)
class MailPage:
    """Some of a mailbox's mail, maybe none, in order of acceptance; `next` goes on behind it, None at the end.

    `place` goes on behind it always: at the end, with what comes later.
    `damaged` are ids of messages that cannot be read any more. `store` tells this store's ids from another's.
    """

    mail: tuple[Archived, ...]
    damaged: tuple[str, ...]
    next: str | None
    place: str
    store: str
    now: int
    """The store's time: what was accepted later had not come when the page was made."""


@dataclass(frozen=True, slots=True)
class Portion:
    """How much of it: at most `count` messages and about `size` bytes of bodies.

    `cursor` is `next` or `place` of the page before.
    """

    count: int
    size: int
    cursor: str | None = None
    thread: str | None = None
    """Any id in the thread whose mail alone is wanted."""
    latest: bool = False
    """Without a cursor: nothing of what there is, only the place behind it."""
    channel: Address | None = None
    """Instead: what this channel keeps, in the order in which it was published. No thread, and not the latest."""


class ArchiveStore(Protocol):
    """The verbs about copies and history."""

    async def backup(self, path: Path, told: Told, *, replace: bool = False) -> int:
        """Copy the whole store to a file, checked and durable, while everybody goes on; return its bytes.

        It has every verb that was answered before it was asked for. A file that is there is left alone, unless it is
        another backup and to be replaced. Ends soon when cancelled, and leaves nothing.

        Raises Refusal(BAD_ARGUMENT) when it cannot be written there.
        """
        ...

    async def mail_of(self, mailbox: Address, portion: Portion) -> MailPage:
        """Return mail that this mailbox received or sent, whatever became of it, the postmaster's notices too.

        Nothing is left out or told twice when pages follow one another, whatever happens in between. A page costs the
        same in a long history as in a short one, so it may be empty before the end. Nor is what comes meanwhile, or
        after the end, to who goes on from `place`.

        A channel's mail is told to every mailbox that could join it.

        Raises Refusal(UNKNOWN_MESSAGE) for a thread of which this mailbox has seen nothing, (UNKNOWN_CHANNEL).
        """
        ...
