"""All mail of a mailbox, in order of acceptance: the verb of who takes it elsewhere.

It goes through the store's messages, so many a page, and shows those that are the mailbox's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mcp_mailbox.addresses import Address
from mcp_mailbox.engines.sqlite import fanout
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.messages import progress_in, progress_of_all, thread_of, whole
from mcp_mailbox.engines.sqlite.rows import known_mailbox, names_of, unknown_channel, within
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.store import Archived, MailPage, Portion
from mcp_mailbox.view import query

_LOOKED_THROUGH = 100
"""Messages of the store that one page goes through: some tenths of a ms, in which no other look is served."""


class Archive:
    """The verb that looks back. It runs in the reader's thread."""

    def __init__(self, common: Common) -> None:
        self._codec = common.codec
        self._now = common.now

    def mail_of(self, db: sqlite3.Connection, mailbox: Address, portion: Portion) -> MailPage:
        """Return a page, maybe an empty one."""
        box = known_mailbox(db, mailbox)
        if portion.channel is not None:
            return self._published(db, box, portion.channel, portion)
        of = f"mail {box}"
        thread = thread_of(self._codec, db, box, portion.thread) if portion.thread is not None else None
        after = thread - 1 if thread is not None else 0
        if portion.cursor is not None:
            after = max(after, *self._codec.read_cursor(of, portion.cursor))
        elif portion.latest:
            after = db.execute(query.LAST_MESSAGE).fetchone()[0] or 0
        end = db.execute(query.RANGE_END, (after, _LOOKED_THROUGH - 1)).fetchone()
        last = end[0] if end else max(after, db.execute(query.LAST_MESSAGE).fetchone()[0] or 0)
        values = {"after": after, "last": last, "mailbox": box, "thread": thread, "limit": portion.count + 1}
        found = db.execute(query.MAIL_IN_RANGE, values).fetchall()
        taken = list(within(found[: portion.count], portion.size))
        if len(taken) < len(found):
            last = taken[-1]["seq"]
        more = end is not None or len(taken) < len(found)
        return self._page(db, box, taken, self._codec.cursor(of, last), more=more)

    def _published(self, db: sqlite3.Connection, box: int, channel: Address, portion: Portion) -> MailPage:
        """Return a page of what a channel keeps."""
        owner = db.execute(query.MAILBOX_BY_ID, (box,)).fetchone()["owner"]
        row = fanout.find(db, channel) if fanout.in_reach(db, owner, channel.space) else None
        if row is None:
            raise unknown_channel(str(channel))
        of, now = f"channel {row['id']}", self._now()
        after = fanout.floor(db, row, now)
        if portion.cursor is not None:
            after = max(after, *self._codec.read_cursor(of, portion.cursor))
        found = db.execute(query.POSTED, (row["id"], after, now, portion.count + 1)).fetchall()
        taken = list(within(found[: portion.count], portion.size))
        place = taken[-1]["place"] if taken else after
        return self._page(db, box, taken, self._codec.cursor(of, place), more=len(taken) < len(found))

    def _page(
        self, db: sqlite3.Connection, box: int, rows: Sequence[sqlite3.Row], place: str, *, more: bool
    ) -> MailPage:
        mail, damaged = [], []
        for row in rows:
            try:
                mail.append(self._archived(db, box, row["seq"]))
            except Refusal as refusal:
                if refusal.code is not Code.STORE_DAMAGED:
                    raise
                damaged.append(self._codec.id(row["seq"]))
        return MailPage(tuple(mail), tuple(damaged), place if more else None, place, self._codec.store, self._now())

    def _archived(self, db: sqlite3.Connection, box: int, seq: int) -> Archived:
        row = db.execute(query.WHOLE, (seq,)).fetchone()
        names, now = names_of(db, row["recipients"]), self._now()
        message = whole(db, self._codec, row, names, names_of(db, row["cc"]))
        sent = row["sender"] == box
        others = progress_of_all(db, row["recipients"], names, seq, now) if sent else ()
        return Archived(message, sent, progress_in(db, box, seq, now), others)
