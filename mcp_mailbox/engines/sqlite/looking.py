"""Listings, reading and what is due: nothing is changed by looking."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Delivery, State
from mcp_mailbox.engines.sqlite.codec import unknown_message
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.messages import message, whole
from mcp_mailbox.engines.sqlite.rows import address_of, known_mailbox, names_of, unread, waiting_delivery
from mcp_mailbox.store import Listing, Page, Preview
from mcp_mailbox.view import query

_NOTHING = (1 << 62) - 1
"""Behind every message: a section that starts there is empty."""


class Looking:
    """The verbs that only look. They run in the reader's thread."""

    def __init__(self, common: Common) -> None:
        self._codec = common.codec
        self._now = common.now

    def inbox(self, db: sqlite3.Connection, mailbox: Address, listing: Listing) -> Page:
        """Return a page: a section a priority, then the rejected ones, each in the order of its index."""
        box = known_mailbox(db, mailbox)
        first = 0
        if listing.since is not None:
            row = db.execute(query.FIRST_SINCE, (max(0, min(listing.since, _NOTHING)),)).fetchone()
            first = row[0] - 1 if row else _NOTHING
        rank, seq = self._codec.read_cursor(listing.cursor) if listing.cursor else (0, 0)
        rows: list[sqlite3.Row] = []
        for section in range(rank, 1 if listing.urgent_only else query.REJECTED_RANK + 1):
            rest = (max(first, seq if section == rank else 0), listing.limit + 1 - len(rows))
            if section == query.REJECTED_RANK:
                rows += db.execute(query.REJECTED_PAGE, (box, *rest)).fetchall()
            else:
                rows += db.execute(query.WAITING_PAGE, (box, section, *rest)).fetchall()
            if len(rows) > listing.limit:
                break
        now = self._now()
        shown = tuple(self._preview(row, now) for row in rows[: listing.limit])
        return Page(shown, unread(db, box, now), len(rows) > listing.limit)

    def _preview(self, row: sqlite3.Row, now: int) -> Preview:
        leased = row["lease_until"] > now
        waiting = State.LEASED if leased else State.STORED
        state = State.REJECTED if row["rank"] == query.REJECTED_RANK else waiting
        preview = message(self._codec, row, (), row["text"])
        delivery = Delivery(preview, preview.id, state, row["lease_until"] if leased else None, row["attempts"])
        return Preview(delivery, row["size"], self._codec.cursor(row["rank"], row["seq"]))

    def read(self, db: sqlite3.Connection, mailbox: Address, text: str) -> Delivery:
        """Return a message that the mailbox received or sent. Raises Refusal(UNKNOWN_MESSAGE)."""
        seq = self._codec.read(text).seq
        box = known_mailbox(db, mailbox)
        found = self._standing(db, box, seq)
        if found is None:
            raise unknown_message(text)
        # Only now: what somebody else's message is, or that it is damaged, is not to be told nor to take time.
        row = db.execute(query.WHOLE, (seq,)).fetchone()
        message_ = whole(self._codec, row, names_of(db, row["recipients"]))
        return Delivery(message_, message_.id, *found)

    def _standing(self, db: sqlite3.Connection, box: int, seq: int) -> tuple[State, int | None, int] | None:
        """Return state, end of the lease and attempts of a delivery; None when it is neither received nor sent."""
        waiting = waiting_delivery(db, box, seq)
        if waiting is not None:
            leased = waiting.lease_until > self._now()
            return State.LEASED if leased else State.STORED, waiting.lease_until if leased else None, waiting.attempts
        done = db.execute(query.DONE, (box, seq)).fetchone()
        if done is not None:
            return State(done["state"]), None, done["attempts"]
        sent = db.execute(query.PARENT, (seq,)).fetchone()
        return (State.STORED, None, 0) if sent is not None and sent["sender"] == box else None

    def due(self, db: sqlite3.Connection, after: int) -> tuple[Sequence[Address], int | None]:
        """Return where leases ran out since, and when the next one will."""
        now = self._now()
        lapsed = [address_of(db, row[0]) for row in db.execute(query.LAPSED, (after, now)).fetchall()]
        return lapsed, db.execute(query.NEXT_LAPSE, (now,)).fetchone()[0]
