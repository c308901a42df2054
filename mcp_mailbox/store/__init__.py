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
    Opaque         ids, handles and cursors are made and understood by the engine alone. They have ASCII letters,
                   digits, `.`, `_` and `-`, so what else stands around one is not part of it.
    Commit, ring   the bell rings after the commit, never for what may still roll back.
    Fresh          a look sees every verb that was answered before it through the same store; counts are what the
                   look saw, and no rule rests on them.
    Time           is the engine's: it never runs backwards, and callers' clocks are not asked.

All times are ms since 1970 UTC, all durations ms.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from mcp_mailbox.store.archive import Archived, ArchiveStore, MailPage, Portion, Told
from mcp_mailbox.store.attachments import AttachmentStore, Source, Tray
from mcp_mailbox.store.basics import Clock, Origin, Ring
from mcp_mailbox.store.channels import ChannelPage, ChannelStore, Published, Subscribed
from mcp_mailbox.store.credentials import CredentialStore
from mcp_mailbox.store.directory import DirectoryStore, Found
from mcp_mailbox.store.mail import (
    ANYBODY,
    Accepted,
    Claimer,
    Counted,
    Due,
    Lease,
    Listing,
    MailStore,
    News,
    Page,
    Preview,
    Reading,
    Recipient,
    Settled,
    Show,
    Submission,
    Wanted,
)
from mcp_mailbox.store.mailboxes import MailboxStore, Opened
from mcp_mailbox.store.reservations import Released, ReservationStore, Reserved
from mcp_mailbox.store.retention import RetentionStore
from mcp_mailbox.store.search import Hit, Hits, Query, SearchStore

__all__ = [
    "ANYBODY",
    "Accepted",
    "ArchiveStore",
    "Archived",
    "AttachmentStore",
    "ChannelPage",
    "ChannelStore",
    "Claimer",
    "Clock",
    "Counted",
    "CredentialStore",
    "DirectoryStore",
    "Due",
    "Found",
    "Hit",
    "Hits",
    "Lease",
    "Listing",
    "MailPage",
    "MailStore",
    "MailboxStore",
    "News",
    "Opened",
    "Origin",
    "Page",
    "Portion",
    "Preview",
    "Published",
    "Query",
    "Reading",
    "Recipient",
    "Released",
    "ReservationStore",
    "Reserved",
    "RetentionStore",
    "Ring",
    "SearchStore",
    "Settled",
    "Show",
    "Source",
    "Store",
    "Submission",
    "Subscribed",
    "Told",
    "Tray",
    "Wanted",
]


class Store(
    MailboxStore,
    MailStore,
    CredentialStore,
    ReservationStore,
    ArchiveStore,
    DirectoryStore,
    SearchStore,
    RetentionStore,
    ChannelStore,
    AttachmentStore,
    Protocol,
):
    """All verbs. Every one may raise Refusal(STORE_FULL | STORE_FAILED | STORE_DAMAGED)."""

    clock: Clock

    def on_ring(self, ring: Ring) -> AbstractContextManager[None]:
        """Ring for every mailbox that may have something new to hand out, after the commit.

        A ring may be late or come twice; it is never missed for a delivery that became ready through a verb. What
        becomes ready as time passes is told by `due`.
        """
        ...

    async def check(self) -> str:
        """Return "ok", or what is wrong with the store."""
        ...
