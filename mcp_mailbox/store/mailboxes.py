"""The promise about mailboxes: made, opened, described, found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mcp_mailbox.addresses import Address
from mcp_mailbox.mailbox import Mailbox, Occupant, Profile
from mcp_mailbox.store.basics import Origin


@dataclass(frozen=True, slots=True)
class Opened:
    """Answer of `open`."""

    mailbox: Mailbox
    created: bool
    occupant: Occupant | None = None
    """Who read it last, where it is personal; whether that one is still here is not the store's to know."""


class MailboxStore(Protocol):
    """The verbs about mailboxes."""

    async def open(
        self, address: Address | None, owner: str, profile: Profile, origin: Origin, *, bind: bool = True, most: int = 0
    ) -> Opened:
        """Open a mailbox of one's own, or create it, and `bind` the reader to it durably.

        `address.space` counts when the name is empty: the engine gives a readable, unused name; a repeated request
        gets the same mailbox. What it holds of senders whom a changed `contact` admits is stored.

        Raises Refusal(NAME_CONFUSABLE) when another name looks alike, (NAME_TAKEN) when it is someone else's. Neither
        tells anything of somebody else's mailbox but that there is one. (OVER_MAILBOXES) for a new one when the owner
        has `most` of them; 0 for any number.
        """
        ...

    async def bound(self, reader: str) -> Mailbox | None:
        """Return the mailbox that this reader opened last."""
        ...

    async def mailbox(self, address: Address) -> Mailbox | None:
        """Return the mailbox of that name."""
        ...

    async def occupant(self, address: Address) -> Occupant | None:
        """Return who read a personal mailbox last; None for nobody yet, for a pool, and where there is none."""
        ...

    async def mailboxes(self, owner: str, space: str, prefix: str, limit: int, after: str = "") -> Sequence[Address]:
        """Return the owner's addresses whose folded name begins with `prefix`, in order; those behind `after`."""
        ...

    async def similar(self, address: Address, owner: str, within: str | None = None) -> Address | None:
        """Return the owner's address most like this one, if any is; with `within`, of that space alone."""
        ...
