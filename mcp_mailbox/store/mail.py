"""The promise about mail: accepted, leased, settled, looked at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Delivery, Outcome
from mcp_mailbox.errors import Refusal
from mcp_mailbox.message import Draft
from mcp_mailbox.store.basics import Origin


@dataclass(frozen=True, slots=True)
class Recipient:
    """What became of a send for one recipient: stored, or refused with the reason."""

    address: str
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """Answer of `accept`. `repeated` tells that the message had been accepted before."""

    id: str
    thread: str
    recipients: tuple[Recipient, ...]
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which mail a reader asks for: of one sender, of one thread (any id in it), or any."""

    sender: Address | None = None
    thread: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """Terms of a claim: at most `count` deliveries, about `size` bytes of bodies, for `term` ms."""

    count: int
    size: int
    term: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one handle: done, or refused with the reason."""

    handle: str
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """A delivery in a listing: its message's body is only the beginning of one that has `size` bytes.

    `cursor` continues the listing behind it, so that a page may be cut anywhere.
    """

    delivery: Delivery
    size: int
    cursor: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page of an inbox; `more` follows behind the last preview's cursor."""

    previews: tuple[Preview, ...]
    unread: int
    more: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """What to list: `cursor` from the page before, `since` a time."""

    limit: int
    cursor: str | None = None
    urgent_only: bool = False
    since: int | None = None


class MailStore(Protocol):
    """The verbs about mail."""

    async def accept(self, sender: Address, recipients: Sequence[Address], draft: Draft, origin: Origin) -> Accepted:
        """Store a message for every recipient that exists; one result each.

        The key is the draft's, else the origin's: the same key from the same sender with the same content gives the
        same id again, with other content Refusal(KEY_CONFLICT). Keys outlive the longest outbox age (30 days).
        `reply_to` puts it in that message's thread and acks that delivery in the sender's mailbox, fenced by its
        handle.

        A mailbox whose `Contact` does not admit the sender is as if it did not exist.

        Raises Refusal(UNKNOWN_MESSAGE | STALE_LEASE) for `reply_to`, (UNKNOWN_MAILBOX) when no recipient exists.
        """
        ...

    async def claim(
        self, mailbox: Address, wanted: Wanted, lease: Lease, origin: Origin, present: Collection[str] | None
    ) -> Sequence[Delivery]:
        """Lease what is ready, urgent first, then in order of acceptance; empty when nothing is.

        One delivery has one live lease. A repeated request gets the deliveries that it leased before, generation
        unchanged. A lease that ran out goes back to its own reader, and to others unless its reader is `present`
        (None: everybody is).
        """
        ...

    async def surface(self, origin: Origin) -> None:
        """Note that the answer of that request reached its reader: each of its deliveries had an attempt.

        Soon on disk, not at once: a crash may forget it, and an attempt is then not counted.
        """
        ...

    async def give_back(self, reader: str, request: str | None, *, surfaced: bool) -> int:
        """Put back what that request (None: any of the reader's) leased and is not settled; ring; return how many.

        `surfaced` False leaves what has reached the reader.
        """
        ...

    async def settle(
        self, mailbox: Address, handles: Sequence[str], outcome: Outcome, origin: Origin
    ) -> Sequence[Settled]:
        """End leases, one result each. Repeating an outcome is not an error.

        A handle with a generation settles only that lease, also after it ran out, until somebody else has leased it;
        a plain message id settles what is not leased by another reader.
        """
        ...

    async def inbox(self, mailbox: Address, listing: Listing) -> Page:
        """List what is not settled, urgent first, then what was rejected; nothing is leased by looking.

        A cursor never skips what was there when its page was made.
        """
        ...

    async def read(self, mailbox: Address, id: str) -> Delivery:  # noqa: A002 - the domain's word
        """Return a message that this mailbox received or sent, with where its delivery stands.

        Raises Refusal(UNKNOWN_MESSAGE).
        """
        ...

    async def due(self, after: int) -> tuple[Sequence[Address], int | None]:
        """Return the mailboxes where a lease ran out after `after` and by now, and when the next one will."""
        ...

    async def unreached(self) -> Sequence[str]:
        """Return the readers that hold leases whose answer has not reached them, as far as is known."""
        ...

    async def leased_by(self, reader: str) -> Sequence[Address]:
        """Return the mailboxes in which that reader holds leases that ran out: ring them when it leaves."""
        ...
