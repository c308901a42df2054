"""Listings, reading and what is due: nothing is changed by looking."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Delivery
from mcp_mailbox.engines.sqlite.codec import unknown_message
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.messages import message, progress, progress_in, settled, whole
from mcp_mailbox.engines.sqlite.rows import (
    address_of,
    find_mailbox,
    known_mailbox,
    names_of,
    unknown_mailbox,
    unread,
)
from mcp_mailbox.mailbox import Kind as MailboxKind
from mcp_mailbox.message import Kind, Priority
from mcp_mailbox.store import Due, Listing, News, Page, Preview, Reading, Show
from mcp_mailbox.view import query

_NOTHING = (1 << 62) - 1
"""Behind every message: a section that starts there is empty."""


class Looking:
    """The verbs that only look. They run in the reader's thread."""

    def __init__(self, common: Common) -> None:
        self._codec = common.codec
        self._now = common.now

    def inbox(self, db: sqlite3.Connection, mailbox: Address, listing: Listing) -> Page:
        """Return a page: a section a priority, then the dead letters, each in the order of its index."""
        if listing.show is Show.OVERDUE:
            return self._overdue(db, mailbox, listing)
        box = known_mailbox(db, mailbox)
        first = 0
        if listing.since is not None:
            row = db.execute(query.FIRST_SINCE, (max(0, min(listing.since, _NOTHING)),)).fetchone()
            first = row[0] - 1 if row else _NOTHING
        begin = query.DEAD_RANK if listing.show is Show.DEAD else 0
        rank, seq = self._codec.read_cursor(f"inbox {box}", listing.cursor) if listing.cursor else (begin, 0)
        rows: list[sqlite3.Row] = []
        for section in range(rank, 1 if listing.urgent_only else query.DEAD_RANK + 1):
            rest = (max(first, seq if section == rank else 0), listing.limit + 1 - len(rows))
            if section == query.DEAD_RANK:
                rows += db.execute(query.DEAD_PAGE, (box, *rest)).fetchall()
            else:
                rows += db.execute(query.WAITING_PAGE, (box, section, *rest)).fetchall()
            if len(rows) > listing.limit:
                break
        now = self._now()
        shown = tuple(self._preview(box, row, now) for row in rows[: listing.limit])
        return Page(shown, unread(db, box, now), len(rows) > listing.limit)

    def _preview(self, box: int, row: sqlite3.Row, now: int) -> Preview:
        dead = row["rank"] == query.DEAD_RANK
        shown = message(self._codec, row, (), row["text"])
        delivery = Delivery(shown, shown.id, settled(row) if dead else progress(row, now))
        return Preview(delivery, row["size"], self._codec.cursor(f"inbox {box}", row["rank"], row["seq"]))

    def _overdue(self, db: sqlite3.Connection, mailbox: Address, listing: Listing) -> Page:
        """Return what the mailbox has sent up to a while ago and nobody has acked, the oldest first."""
        box, now = known_mailbox(db, mailbox), self._now()
        of = f"overdue {box}"
        seq, other = self._codec.read_cursor(of, listing.cursor) if listing.cursor else (0, 0)
        last = db.execute(query.LAST_BEFORE, (now - listing.overdue,)).fetchone()
        key = (box, seq, other, last[0] if last else 0, listing.limit + 1)
        rows = db.execute(query.OVERDUE_PAGE, key).fetchall()
        shown = tuple(self._sent(of, row, now) for row in rows[: listing.limit])
        return Page(shown, unread(db, box, now), len(rows) > listing.limit)

    def _sent(self, of: str, row: sqlite3.Row, now: int) -> Preview:
        sent = message(self._codec, row, (f"{row['to_name']}@{row['to_space']}",), row["text"])
        delivery = Delivery(sent, sent.id, progress(row, now))
        return Preview(delivery, row["size"], self._codec.cursor(of, row["seq"], row["mailbox"]))

    def read(self, db: sqlite3.Connection, mailbox: Address, text: str) -> Reading:
        """Return a message that the mailbox received or sent. Raises Refusal(UNKNOWN_MESSAGE)."""
        seq = self._codec.read(text).seq
        box = known_mailbox(db, mailbox)
        now = self._now()
        own = progress_in(db, box, seq, now)
        about = db.execute(query.PARENT, (seq,)).fetchone()
        if about is None or (own is None and about["sender"] != box):
            raise unknown_message(text)
        # Only now: what somebody else's message is, or that it is damaged, is not to be told nor to take time.
        row = db.execute(query.WHOLE, (seq,)).fetchone()
        names = names_of(db, row["recipients"])
        found = whole(self._codec, row, names, names_of(db, row["cc"]))
        if about["sender"] != box:
            return Reading(found, own)
        boxes = json.loads(row["recipients"])
        sent = [(name, progress_in(db, other, seq, now)) for name, other in zip(names, boxes, strict=True)]
        return Reading(found, own, tuple((name, each) for name, each in sent if each is not None))

    def news(self, db: sqlite3.Connection, mailbox: Address) -> Sequence[News]:
        """Return what is ready and new to the mailbox's reader."""
        box = find_mailbox(db, mailbox)
        if box is None:
            raise unknown_mailbox(str(mailbox))
        last = db.execute(query.LAST_RUNG, (box.id,)).fetchone()
        rung = last[0] if last else 0
        values = {"mailbox": box.id, "now": self._now(), "pool": box.kind is MailboxKind.POOL}
        return [
            News(
                self._codec.id(row["seq"]),
                self._codec.id(row["thread"]),
                Address(row["sender_name"], row["sender_space"]),
                Priority(row["priority"]),
                Kind(row["kind"]),
                box.id in json.loads(row["cc"]),
                row["since"],
                row["seq"] <= rung,
            )
            for priority in Priority
            for row in db.execute(query.NEWS, {**values, "priority": priority.value})
        ]

    def due(self, db: sqlite3.Connection, after: int) -> Due:
        """Return where something became ready since, when the next thing happens, and whether something is over."""
        now = self._now()
        lapsed = [address_of(db, row[0]) for row in db.execute(query.LAPSED, (after, now)).fetchall()]
        moments = [db.execute(sql, (now,)).fetchone()[0] for sql in (query.NEXT_LAPSE, query.NEXT_EXPIRY)]
        over = (
            db.execute(query.OVER_BY_EXPIRY, {"now": now}).fetchone()
            or db.execute(query.OVER_BY_LAPSE, {"now": now, "after": after}).fetchone()
        )
        return Due(lapsed, min((moment for moment in moments if moment is not None), default=None), over is not None)

    def left(self, db: sqlite3.Connection, reader: str) -> tuple[Sequence[Address], bool]:
        """Return where a reader holds leases that ran out, and whether some of them are over."""
        now = self._now()
        lapsed = [address_of(db, row[0]) for row in db.execute(query.LAPSED_OF_READER, (reader, now)).fetchall()]
        over = db.execute(query.OVER_OF_READER, {"reader": reader, "now": now}).fetchone()
        return lapsed, over is not None
