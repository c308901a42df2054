"""The promise: the verbs that an engine keeps mail by.

Above stands the post office, which owns every rule of the domain; below stand the engines, which own durability,
ids, cursors and time. Every promise here is listed with its source and its test in `tests/contract/promises.py`,
and the one suite there runs against every engine.

What all verbs share
    Durable        a verb that has answered survives the loss of power.
    Atomic         each verb is atomic per message and per delivery, and no further: copies for several recipients
                   derive from one commit record under deterministic ids.
    Idempotent     a verb repeated with the same `Origin` has one effect and gives the same answer again.
    Unknown        Refusal(STORE_FAILED) means that it may or may not have happened: only the same request with the
                   same key tells. What certainly had no effect is refused under another code.
    Opaque         ids, handles and cursors are made and understood by the engine alone.
    Commit, ring   the bell rings after the commit, never for what may still roll back.
    Fresh          a look sees every verb that was answered before it through the same store; counts are what the
                   look saw, and no rule rests on them.
    Time           is the engine's: it never runs backwards, and callers' clocks are not asked.

All times are ms since 1970 UTC, all durations ms.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from mcp_mailbox.addresses import Address
from mcp_mailbox.credentials import Credential
from mcp_mailbox.delivery import Delivery, Outcome
from mcp_mailbox.errors import Refusal
from mcp_mailbox.mailbox import Mailbox, Profile
from mcp_mailbox.message import Draft


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks, and by which request: the key under which a repeated request is known.

    `reader` is durable (a relay's id), `request` is unique for that reader and repeated only when the same request
    is.
    """

    reader: str
    request: str


@dataclass(frozen=True, slots=True)
class Opened:
    """Answer of `open`."""

    mailbox: Mailbox
    created: bool


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


class Clock(Protocol):
    """Time and waiting for it, so that tests can step both."""

    def now(self) -> int:
        """Return ms since 1970 UTC."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Return at that time; at once when it has passed. A moment and not a span: time goes on before one sleeps."""
        ...


Ring = Callable[[Address], None]
"""Called in the event loop with the mailbox that has something new to hand out. Carries no data: look again."""


class Store(Protocol):
    """The verbs. Every one may raise Refusal(STORE_FULL | STORE_FAILED | STORE_DAMAGED)."""

    clock: Clock

    def on_ring(self, ring: Ring) -> AbstractContextManager[None]:
        """Ring for every mailbox that may have something new to hand out, after the commit.

        A ring may be late or come twice; it is never missed for a delivery that became ready through a verb. What
        becomes ready as time passes is told by `due`.
        """
        ...

    async def open(
        self, address: Address | None, owner: str, profile: Profile, origin: Origin, *, bind: bool = True
    ) -> Opened:
        """Open a mailbox of one's own, or create it, and `bind` the reader to it durably.

        `address.space` counts when the name is empty: the engine gives a readable, unused name; a repeated request
        gets the same mailbox.

        Raises Refusal(NAME_CONFUSABLE) when another name looks alike, (NAME_TAKEN) when it is someone else's. Neither
        tells anything of somebody else's mailbox but that there is one.
        """
        ...

    async def bound(self, reader: str) -> Mailbox | None:
        """Return the mailbox that this reader opened last."""
        ...

    async def mailbox(self, address: Address) -> Mailbox | None:
        """Return the mailbox of that name."""
        ...

    async def mailboxes(self, owner: str, space: str, prefix: str, limit: int) -> Sequence[Address]:
        """Return the owner's addresses whose folded name begins with `prefix`, in order."""
        ...

    async def similar(self, address: Address, owner: str) -> Address | None:
        """Return the owner's address most like this one, if any is."""
        ...

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

    async def grant(self, credential: Credential, digest: bytes) -> None:
        """Keep a credential, to be found by the digest of its token."""
        ...

    async def credential(self, digest: bytes) -> Credential | None:
        """Return the credential of the token with that digest, expired and revoked ones too."""
        ...

    async def credentials(self) -> Sequence[Credential]:
        """Return all credentials, the oldest first."""
        ...

    async def revoke(self, id: str) -> Credential | None:  # noqa: A002 - the domain's word
        """Note that the credential is not good any more, once; None when there is none of that id."""
        ...

    async def regrant(self, id: str, digest: bytes) -> Credential | None:  # noqa: A002
        """Give a credential that is not revoked another digest in place of its own; None when there is none."""
        ...

    async def check(self) -> str:
        """Return "ok", or what is wrong with the store."""
        ...
