"""Listings, reading and what is due: nothing is changed by looking."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Delivery, Progress, State
from mcp_mailbox.engines.sqlite import fanout
from mcp_mailbox.engines.sqlite.codec import unknown_message
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.messages import (
    in_a_channel_within_reach,
    message,
    progress,
    progress_in,
    progress_of_all,
    settled,
    whole,
)
from mcp_mailbox.engines.sqlite.rows import (
    address_of,
    attached,
    came_by,
    channel_of,
    find_mailbox,
    known_mailbox,
    names_of,
    unknown_mailbox,
    unread,
)
from mcp_mailbox.mailbox import Kind as MailboxKind
from mcp_mailbox.message import Kind, Priority
from mcp_mailbox.store import Counted, Due, Listing, News, Page, Preview, Reading, Show
from mcp_mailbox.view import query

_NOTHING = (1 << 62) - 1
"""Behind every message: a section that starts there is empty."""
_MEMBERS_COUNTED = 1_000
"""Members of a channel of whom a sender is told: a ms or two."""
_NEXT = (query.NEXT_LAPSE, query.NEXT_EXPIRY, query.NEXT_LATER, query.NEXT_REQUEST)


class Looking:
    """The verbs that only look. They run in the reader's thread."""

    def __init__(self, common: Common) -> None:
        self._codec = common.codec
        self._now = common.now

    def inbox(self, db: sqlite3.Connection, mailbox: Address, listing: Listing) -> Page:
        """Return a page: a section a priority, then the dead letters, each in the order of its index."""
        if listing.show is Show.OVERDUE:
            return self._overdue(db, mailbox, listing)
        if listing.show is Show.REQUESTS:
            return self._requests(db, mailbox, listing)
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
        shown = tuple(self._preview(db, box, row, now) for row in rows[: listing.limit])
        return Page(shown, unread(db, box, now), len(rows) > listing.limit)

    def _preview(self, db: sqlite3.Connection, box: int, row: sqlite3.Row, now: int) -> Preview:
        dead = row["rank"] == query.DEAD_RANK
        shown = message(db, self._codec, row, (), row["text"], attachments=attached(db, row))
        delivery = Delivery(shown, shown.id, settled(row) if dead else progress(row, now), came_by(db, row))
        return Preview(delivery, row["size"], self._codec.cursor(f"inbox {box}", row["rank"], row["seq"]))

    def _requests(self, db: sqlite3.Connection, mailbox: Address, listing: Listing) -> Page:
        """Return what strangers have sent that waits to be let in, the oldest first."""
        box = known_mailbox(db, mailbox)
        of = f"requests {box}"
        [seq] = self._codec.read_cursor(of, listing.cursor) if listing.cursor else (0,)
        rows = db.execute(query.REQUESTS_PAGE, (box, seq, listing.limit + 1)).fetchall()
        shown = tuple(self._held(db, of, row) for row in rows[: listing.limit])
        return Page(shown, unread(db, box, self._now()), len(rows) > listing.limit)

    def _held(self, db: sqlite3.Connection, of: str, row: sqlite3.Row) -> Preview:
        shown = message(db, self._codec, row, (), row["text"])
        delivery = Delivery(shown, shown.id, Progress(State.HELD, held_at=row["accepted"]))
        return Preview(delivery, row["size"], self._codec.cursor(of, row["seq"]))

    def _overdue(self, db: sqlite3.Connection, mailbox: Address, listing: Listing) -> Page:
        """Return what the mailbox has sent up to a while ago and nobody has acked, the oldest first."""
        box, now = known_mailbox(db, mailbox), self._now()
        of = f"overdue {box}"
        seq, other = self._codec.read_cursor(of, listing.cursor) if listing.cursor else (0, 0)
        last = db.execute(query.LAST_BEFORE, (now - listing.overdue,)).fetchone()
        key = (box, seq, other, last[0] if last else 0, listing.limit + 1)
        rows = db.execute(query.OVERDUE_PAGE, key).fetchall()
        shown = tuple(self._sent(db, of, row, now) for row in rows[: listing.limit])
        return Page(shown, unread(db, box, now), len(rows) > listing.limit)

    def _sent(self, db: sqlite3.Connection, of: str, row: sqlite3.Row, now: int) -> Preview:
        to = (f"{row['to_name']}@{row['to_space']}",)
        sent = message(db, self._codec, row, to, row["text"], attachments=attached(db, row))
        delivery = Delivery(sent, sent.id, progress(row, now))
        return Preview(delivery, row["size"], self._codec.cursor(of, row["seq"], row["mailbox"]))

    def read(self, db: sqlite3.Connection, mailbox: Address, text: str) -> Reading:
        """Return a message that the mailbox received, sent or could find in a channel.

        Raises Refusal(UNKNOWN_MESSAGE).
        """
        seq = self._codec.read(text).seq
        box = known_mailbox(db, mailbox)
        now = self._now()
        own = progress_in(db, box, seq, now)
        about = db.execute(query.PARENT, (seq,)).fetchone()
        if about is None or (own is None and about["sender"] != box and not in_a_channel_within_reach(db, box, seq)):
            raise unknown_message(text)
        # Only now: what somebody else's message is, or that it is damaged, is not to be told nor to take time.
        row = db.execute(query.WHOLE, (seq,)).fetchone()
        names = names_of(db, row["recipients"])
        found = whole(db, self._codec, row, names, names_of(db, row["cc"]))
        if about["sender"] != box:
            return Reading(found, own)
        boxes = json.loads(row["recipients"])
        counted = [
            (name, _counted(db, -other, about, seq, now)) for name, other in zip(names, boxes, strict=True) if other < 0
        ]
        return Reading(
            found,
            own,
            progress_of_all(db, row["recipients"], names, seq, now),
            tuple(Counted(name, *each) for name, each in counted if each is not None),
        )

    def check_within(self, db: sqlite3.Connection, mailbox: Address, text: str, within: str) -> None:
        """Raise Refusal(UNKNOWN_MESSAGE) for what could be read in channels of other spaces alone."""
        seq = self._codec.read(text).seq
        box = known_mailbox(db, mailbox)
        about = db.execute(query.PARENT, (seq,)).fetchone()
        if about is None or about["sender"] == box or progress_in(db, box, seq, self._now()) is not None:
            return
        if not in_a_channel_within_reach(db, box, seq, within):
            raise unknown_message(text)

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
                (box.id if row["channel"] is None else -row["channel"]) in json.loads(row["cc"]),
                row["since"],
                row["seq"] <= rung,
                channel_of(db, row["channel"]) if row["channel"] is not None else None,
            )
            for priority in Priority
            for row in db.execute(query.NEWS, {**values, "priority": priority.value})
        ]

    def due(self, db: sqlite3.Connection, after: int) -> Due:
        """Return where something became ready since, when the next thing happens, and whether something is over."""
        now = self._now()
        lapsed = [address_of(db, row[0]) for row in db.execute(query.LAPSED, (after, now)).fetchall()]
        channels = tuple(map(fanout.address, db.execute(query.LATER_CHANNELS, (after, now)).fetchall()))
        moments = [db.execute(sql, (now,)).fetchone()[0] for sql in _NEXT]
        over = (
            db.execute(query.OVER_BY_EXPIRY, {"now": now}).fetchone()
            or db.execute(query.OVER_BY_LAPSE, {"now": now, "after": after}).fetchone()
            or db.execute(query.LAPSED_REQUESTS, (now, 1)).fetchone()
        )
        following = min((moment for moment in moments if moment is not None), default=None)
        return Due(lapsed, following, over is not None, channels)

    def left(self, db: sqlite3.Connection, reader: str) -> tuple[Sequence[Address], bool]:
        """Return where a reader holds leases that ran out, and whether some of them are over."""
        now = self._now()
        lapsed = [address_of(db, row[0]) for row in db.execute(query.LAPSED_OF_READER, (reader, now)).fetchall()]
        over = db.execute(query.OVER_OF_READER, {"reader": reader, "now": now}).fetchone()
        return lapsed, over is not None


def _counted(
    db: sqlite3.Connection, channel: int, about: sqlite3.Row, seq: int, now: int
) -> tuple[dict[str, int], bool] | None:
    """Return how many members have come how far, and whether there are more; None for what the channel lost."""
    post = db.execute(query.PLACE_OF, (channel, seq)).fetchone()
    if post is None or post["seq"] != seq:
        return None
    values = {"channel": channel, "place": post["place"], "seq": seq, "priority": about["priority"]}
    values |= {"sender": about["sender"], "most": _MEMBERS_COUNTED}
    rows = db.execute(query.MEMBERS_STATES, values).fetchall()
    (members,) = db.execute(query.MEMBERS_FROM, (channel, post["place"], _MEMBERS_COUNTED + 1)).fetchone()
    return Counter(_state(row, post["place"], now) for row in rows), members > _MEMBERS_COUNTED


def _state(row: sqlite3.Row, place: int, now: int) -> str:
    if row["state"] is not None:
        return State(row["state"]).word
    if row["seq"] is not None:
        return progress(row, now, row["rung"] or None).state.word
    if row["place"] >= place:
        return "skipped"
    return (State.RUNG if row["rung"] else State.STORED).word
