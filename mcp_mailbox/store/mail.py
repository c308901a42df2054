"""The promise about mail: accepted, leased, settled, looked at."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Delivery, Progress, Settlement
from mcp_mailbox.errors import Refusal
from mcp_mailbox.message import Draft, Kind, Message, Priority
from mcp_mailbox.report import Notice
from mcp_mailbox.store.basics import Origin


@dataclass(frozen=True, slots=True)
class Recipient:
    """What became of a send for one recipient: stored, held until its owner lets the sender in, or refused with why.

    Of a channel `members` is how many others are members; those that ask first get it only from whom they take mail.
    """

    address: str
    refusal: Refusal | None = None
    members: int | None = None
    held: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """Answer of `accept`. `repeated` tells that the message had been accepted before."""

    id: str
    thread: str
    recipients: tuple[Recipient, ...]
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Submission:
    """A message that is handed in (`accept`): by whom, in which request, and for whom; how much its space keeps.

    `within` is the only space that there is for it.
    """

    sender: Address
    recipients: Sequence[Address]
    draft: Draft
    origin: Origin
    cc: Sequence[Address] = ()
    most: int = 0
    within: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which mail a reader asks for: of one sender or channel, of one thread (any id in it), or any.

    Who asks for one sender's, and there is none, gets the postmaster's reports about what it has sent to that one: what
    it waits for may never come. Of these the latest few are looked at.
    """

    sender: Address | None = None
    thread: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """Terms of a claim: at most `count` deliveries, about `size` bytes of bodies, for `term` ms."""

    count: int
    size: int
    term: int


@dataclass(frozen=True, slots=True)
class Claimer:
    """Who claims, besides its reader's id: `label` is how a person would recognise it.

    `take_over` makes it the one who reads a personal mailbox, whoever did; `several` says that other agents may have
    the same reader's id, so that no count of its leases is one agent's.
    """

    label: str = ""
    take_over: bool = False
    several: bool = False


ANYBODY = Claimer()


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
class Counted:
    """How many members of a channel got a message, by the state in which it is there; by "skipped" who came too late.

    `at_least`: there are more members than were looked at.
    """

    channel: str
    states: Mapping[str, int]
    at_least: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """Answer of `read`: how far the message has come in the mailbox that asks, None when it was not delivered there.

    For its sender, `sent` says the same of each recipient, by address, and `counted` of each channel.
    """

    message: Message
    own: Progress | None
    sent: tuple[tuple[str, Progress], ...] = ()
    counted: tuple[Counted, ...] = ()


@dataclass(frozen=True, slots=True)
class News:
    """A delivery that is ready and would be new to its reader, without what it says.

    `since` is when it became ready or was last taken, in ms since 1970 UTC: with the id it tells one coming from
    another. `copied` is whether the mailbox, or the channel that it came by, stands in Cc alone. `rung` is whether
    somebody was told of it.
    """

    id: str
    thread: str
    sender: Address
    priority: Priority
    kind: Kind
    copied: bool
    since: int
    rung: bool
    channel: Address | None = None
    """By which it came."""


@dataclass(frozen=True, slots=True)
class Due:
    """Answer of `due`: mailboxes where something became ready, when the next thing happens, whether to `sweep`."""

    mailboxes: Sequence[Address]
    next: int | None
    sweep: bool
    channels: Sequence[Address] = ()
    """Where something that was put off may be handed out now."""


class Show(StrEnum):
    """Which part of a mailbox to list."""

    INBOX = "inbox"
    """What waits, then the dead letters."""
    DEAD = "dead"
    """Dead letters alone."""
    OVERDUE = "overdue"
    """What was sent from there, a while ago, and nobody has acked; one row for each recipient, the oldest first."""
    REQUESTS = "requests"
    """What strangers have sent that waits for its owner to let them in, the oldest first; nowhere else is it listed."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of an inbox; `more` follows behind the last preview's cursor."""

    previews: tuple[Preview, ...]
    unread: int
    more: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """What to list: `cursor` from the page before, `since` a time, `overdue` the ms after which an ack is."""

    limit: int
    cursor: str | None = None
    urgent_only: bool = False
    since: int | None = None
    show: Show = Show.INBOX
    overdue: int = 0


class MailStore(Protocol):
    """The verbs about mail."""

    async def accept(self, submission: Submission) -> Accepted:
        """Store a message for every recipient that exists; one result each, those of `cc` last. These are not rung.

        The key is the draft's, else the origin's: the same key from the same sender with the same content gives the
        same id again, with other content Refusal(KEY_CONFLICT). Keys outlive the longest outbox age (30 days).
        `reply_to` puts it in that message's thread and acks that delivery in the sender's mailbox, fenced by its
        handle. What the sender has under the same `topic` in a recipient's mailbox, and nobody has seen, it replaces.
        It is handed out from its `delay` on, and until its `ttl` is over.

        A mailbox whose `Contact` does not admit the sender is as if it did not exist, and so is a channel of a space
        in which the sender's principal has no mailbox. Members of a channel get what is published, its sender does not.
        With `within`, so are all recipients of other spaces. One that asks first holds a stranger's first message for
        its owner to decide on, who is told by the postmaster; a stranger that waits, or was declined, is refused there
        (CONTACT_PENDING | CONTACT_DECLINED). Who answers what is held, or writes to whom it is from, lets that sender
        in.

        The loop guard's budgets (`budgets`) are asked behind the key, so that what is repeated is answered, and before
        anything is stored; they may be forgotten, and are then whole. Notices of the postmaster are not counted.

        The sender's space keeps at most `most` bytes with it, as `quotas.footprint` counts them; 0 for any number.
        What was removed (`forget_settled`) is not kept any more.

        Raises Refusal(UNKNOWN_MESSAGE | STALE_LEASE) for `reply_to`, (TOO_MANY_HOPS | OVER_BUDGET) for its thread,
        (OVER_STORAGE) behind the key and before anything is stored, or why the first recipient does not get it when
        none does.
        """
        ...

    async def accept_all(self, submissions: Sequence[Submission]) -> Sequence[Accepted | Refusal]:
        """Accept these in their order; of each what `accept` answers, or why it refuses.

        None overtakes another: when the store fails at one, nothing behind it is stored. It raises Refusal(blame: the
        store) then, and what was stored by that time is what the same requests are answered when they come again.
        """
        ...

    async def answered(self, sender: Address, origin: Origin) -> Accepted | None:
        """Return what `accept` answered to that request when it came without a key, None when it never did."""
        ...

    async def report(self, mailbox: Address, notice: Notice, origin: Origin) -> bool:
        """Put what the post office says of that request into the mailbox, once for each request, and ring.

        Return whether it is new. Raises Refusal(UNKNOWN_MAILBOX).
        """
        ...

    async def claim(
        self,
        mailbox: Address,
        wanted: Wanted,
        lease: Lease,
        origin: Origin,
        present: Collection[str] | None,
        claimer: Claimer = ANYBODY,
    ) -> Sequence[Delivery]:
        """Lease what is ready, urgent first, then in order of acceptance; empty when nothing is.

        One delivery has one live lease. A repeated request gets the deliveries that it leased before, generation
        unchanged. A lease that ran out goes back to its own reader, and to others unless its reader is `present`
        (None: that is not known), but to nobody once it was in readers' hands as often as its mailbox allows.

        A personal mailbox has one reader: another one gets nothing while that is not known to be gone, or takes over,
        and with the mailbox what was leased. A reader of a pool holds as many leases as the pool allows.

        Raises Refusal(UNKNOWN_MAILBOX), (UNKNOWN_MESSAGE) for a thread of which the mailbox has nothing,
        (READ_ELSEWHERE) while its reader is present, (LEASE_LIMIT) for who holds enough.
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

    async def show(self, mailbox: Address, ids: Sequence[str]) -> None:
        """Note that previews of these reached the mailbox's reader. Soon on disk, as `surface`."""
        ...

    async def note_ring(self, mailbox: Address) -> None:
        """Note that somebody was told that there is mail. Soon on disk, as `surface`."""
        ...

    async def settle(
        self, mailbox: Address, handles: Sequence[str], settlement: Settlement, origin: Origin
    ) -> Sequence[Settled]:
        """Do this with deliveries, one result each. Repeating it is not an error.

        A handle with a generation settles only that lease, also after it ran out, until somebody else has leased it;
        a plain message id settles what is not leased by another reader. What is released for the last time that the
        mailbox allows is a dead letter. Dead letters are retried, or purged, which ends their being listed.

        A request, which is what is held or the postmaster's notice of it, is accepted: the message is stored and its
        sender let in from then on; or rejected: the message is a dead letter and its sender declined. By the notice
        either may be done at any time again, and the last word counts.

        The sender is told, by mail from the postmaster, what was rejected or died, and of an ack if it asked for that;
        but not of its own mail to itself, nor of what the postmaster wrote.
        """
        ...

    async def sweep(self, after: int, present: Collection[str]) -> bool:
        """Carry out what time has done; return whether there is more, since it is done in slices.

        What expired, and what was in readers' hands too often when its lease ran out after `after`, becomes a dead
        letter, unless its reader is present; so does what was held for its time. Senders are told as in `settle`.
        """
        ...

    async def inbox(self, mailbox: Address, listing: Listing) -> Page:
        """List what is not settled, urgent first, then dead letters; nothing is leased by looking.

        A cursor never skips what was there when its page was made. Raises Refusal(UNKNOWN_MAILBOX), (BAD_ARGUMENT) for
        a cursor that is not of this listing.
        """
        ...

    async def read(self, mailbox: Address, id: str) -> Reading:  # noqa: A002 - the domain's word
        """Return a message that this mailbox received or sent, and how far its deliveries have come.

        What is in a channel can be read by all who could join it.

        Raises Refusal(UNKNOWN_MAILBOX | UNKNOWN_MESSAGE).
        """
        ...

    async def check_within(self, mailbox: Address, id: str, within: str) -> None:  # noqa: A002
        """Do nothing but refuse: a message that this mailbox did not receive or send is there in that space's channels.

        Raises Refusal(UNKNOWN_MESSAGE) for one that only channels of other spaces have, as for one that nobody has.
        """
        ...

    async def news(self, mailbox: Address) -> Sequence[News]:
        """Return what is ready and new to the mailbox's reader, the newest of each priority first.

        New is what nobody has seen, and what was put off until now; in a pool all that is ready, whoever saw it. What
        was published to the mailbox is in it from then on, so that who is told of it finds it there. A look goes
        through the newest `NEWS_LIMIT` of each priority and no further. Raises Refusal(UNKNOWN_MAILBOX).
        """
        ...

    async def due(self, after: int) -> Due:
        """Return where something became ready to be handed out after `after` and by now, and when to look again."""
        ...

    async def unreached(self) -> Sequence[Origin]:
        """Return by which requests leases are held whose answer has not reached its reader, as far as is known."""
        ...

    async def holders(self) -> Sequence[tuple[str, int]]:
        """Return each reader that holds leases, and when the first of these runs out."""
        ...

    async def leave(self, reader: str) -> Sequence[Address]:
        """Carry out what `sweep` left to a reader that was present; return where it holds leases that ran out."""
        ...
