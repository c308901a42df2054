"""Channels inside: found, delivered from when a member looks, trimmed.

What is published has one row, however many members there are. It moves into a member's inbox when somebody looks
there: all that is due, in slices, before anything is handed out, so that no order and no filter has to know of two
places where mail may be. What a channel keeps is a matter of its numbers and not of when its rows are removed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from mcp_mailbox import addresses
from mcp_mailbox.addresses import CHANNEL_MARK, Address
from mcp_mailbox.channel import EVERYBODY, KEEP_AGE, KEEP_BYTES, KEEP_COUNT, Keep
from mcp_mailbox.delivery import State
from mcp_mailbox.engines.sqlite.rows import Box
from mcp_mailbox.mailbox import Contact
from mcp_mailbox.report import SYSTEM
from mcp_mailbox.view import apply, query

SLICE = 200
"""Messages that one transaction moves into an inbox: some ms, in which no other verb is served."""
TRIM = 100
"""Rows that one transaction removes."""
TRIM_EVERY = 64
"""Messages after which a channel is trimmed: fewer come than go."""


class Look(NamedTuple):
    """What the name of a channel looks like; to find that out takes a while."""

    looks: str
    capitals: str
    written: str


def look(name: str) -> Look:
    """Look at it."""
    return Look(addresses.skeletons(name)[0], addresses.upper_skeleton(name), addresses.written_skeleton(name))


class Found(NamedTuple):
    """A channel that somebody may publish to: its number, its address as it was chosen, and how many get it."""

    id: int
    address: Address
    members: int


def address(row: sqlite3.Row) -> Address:
    """Return the address of the channel in a row that has its name and space."""
    return Address(CHANNEL_MARK + row["name"], row["space"])


def find(db: sqlite3.Connection, wanted: Address) -> sqlite3.Row | None:
    """Return the channel of that address: a row of CHANNEL."""
    row: sqlite3.Row | None = db.execute(
        query.CHANNEL, (wanted.space, wanted.folded.removeprefix(CHANNEL_MARK))
    ).fetchone()
    return row


def in_reach(db: sqlite3.Connection, owner: str, space: str) -> bool:
    """Whether the channels of a space are there for a principal: it has a mailbox in it."""
    return db.execute(query.MEMBER, (owner, space)).fetchone() is not None


def publishable(db: sqlite3.Connection, sender: Box, wanted: Address) -> Found | None:
    """Return the channel if the sender may publish there."""
    row = find(db, wanted) if in_reach(db, sender.owner, wanted.space) else None
    if row is None:
        return None
    own = db.execute(query.SUBSCRIBED, (sender.id, row["id"])).fetchone() is not None
    return Found(row["id"], address(row), row["members"] - own)


def floor(db: sqlite3.Connection, channel: sqlite3.Row, now: int) -> int:
    """Return behind which place a channel keeps what was published."""
    last = int(channel["last"])
    young = db.execute(query.PLACE_SINCE, (channel["id"], now - channel["keep_age"])).fetchone()
    if young is None:
        return last
    small = db.execute(query.FLOOR_BY_BYTES, (channel["id"], channel["bytes"] - channel["keep_bytes"])).fetchone()
    by_bytes = small[0] - 1 if small is not None else last - 1
    return max(int(young[0]) - 1, int(by_bytes), last - int(channel["keep_count"]), 0)


def is_due(db: sqlite3.Connection, mailbox: int) -> bool:
    """Whether something was published to the mailbox that is not in its inbox yet."""
    return db.execute(query.DUE_SUBSCRIPTIONS, (mailbox,)).fetchone() is not None


class Caught(NamedTuple):
    """What a slice has done: something or nothing, whether more is due, how much the channels kept no more."""

    written: bool
    more: bool
    skipped: int


def catch_up(db: sqlite3.Connection, mailbox: int, now: int) -> Caught:
    """Move what is due into the inbox, a slice of it."""
    due = db.execute(query.DUE_SUBSCRIPTIONS, (mailbox,)).fetchall()
    room, skipped = SLICE, 0
    for row in due:
        if room <= 0:
            return Caught(written=True, more=True, skipped=skipped)
        looked_at, gone = _catch_up(db, row, now, room)
        room, skipped = room - looked_at, skipped + gone
    return Caught(bool(due), bool(due) and is_due(db, mailbox), skipped)


def _catch_up(db: sqlite3.Connection, row: sqlite3.Row, now: int, room: int) -> tuple[int, int]:
    """Go on with one subscription; return how much was looked at, and how much was gone."""
    mailbox, channel = row["mailbox"], row["id"]
    place, end = row["place"], min(row["until"], row["last"])
    gone = max(0, min(floor(db, row, now), end) - place)
    if gone:
        apply.skip(db, mailbox, channel, gone)
        place += gone
    values = {"mailbox": mailbox, "channel": channel, "place": place, "end": end, "most": room, "known": row["known"]}
    posts = db.execute(query.POSTS, values).fetchall()
    for post in posts:
        _deliver(db, mailbox, channel, post, now)
    apply.advance(db, mailbox, channel, row["since"], posts[-1]["place"] if len(posts) == room else end)
    return len(posts) + 1, gone


def deliver_one(db: sqlite3.Connection, mailbox: int, seq: int, now: int) -> None:
    """Move one message into the inbox if it is due there, whatever else is: somebody speaks of it by its id."""
    post = due_post(db, mailbox, seq, now)
    if post is not None:
        _deliver(db, mailbox, post["channel"], post, now)


def due_post(db: sqlite3.Connection, mailbox: int, seq: int, now: int) -> sqlite3.Row | None:
    """Return a message that is due to the mailbox and can still be delivered: a row of COVERING."""
    post: sqlite3.Row | None = db.execute(query.COVERING, {"mailbox": mailbox, "seq": seq, "now": now}).fetchone()
    return post if post is not None and _is_for(post, mailbox, now) else None


def _is_for(post: sqlite3.Row, mailbox: int, now: int) -> bool:
    young = post["expires"] == 0 or post["expires"] > now
    return bool(post["sender"] != mailbox and post["heard"] and not post["replaced"] and young)


def _deliver(db: sqlite3.Connection, mailbox: int, channel: int, post: sqlite3.Row, now: int) -> None:
    if not _is_for(post, mailbox, now):
        return
    # Topics of a channel and of what comes directly are apart: no topic has a line break.
    topic = f"{CHANNEL_MARK}{channel}\n{post['topic']}" if post["topic"] is not None else None
    if topic is not None:
        began = db.execute(query.BEGAN, (post["seq"],)).fetchone()[0]
        for older in db.execute(query.REPLACEABLE, (mailbox, post["sender"], topic)).fetchall():
            if older["seq"] < post["seq"] and older["began"] <= began:
                apply.settle(db, (older["mailbox"], older["priority"], older["seq"]), State.REPLACED, now)
    apply.deliver(db, mailbox, channel, post, topic)


def trim(db: sqlite3.Connection, channel: sqlite3.Row, now: int) -> bool:
    """Remove a slice of what the channel keeps no more; return whether there may be more."""
    return apply.trim(db, channel["id"], floor(db, channel, now), TRIM)


def ever_subscribed(db: sqlite3.Connection, mailbox: int) -> Sequence[int]:
    """Return the channels of which the mailbox is a member, or was one as far as that is known, in order."""
    return sorted({row[0] for row in db.execute(query.EVER_SUBSCRIBED, (mailbox,))})


def welcome(db: sqlite3.Connection, mailbox: int, space: str, contact: Contact, now: int) -> None:
    """Make a new mailbox a member of its space's #all, which is made when there is none.

    One that is closed joins on purpose or not at all; one that asks first hears there only whom it takes mail from.
    """
    if not contact.is_in_all:
        return
    everybody = Address(EVERYBODY, space)
    found = find(db, everybody)
    if found is None:
        name = EVERYBODY.removeprefix(CHANNEL_MARK)
        number, last = create(db, everybody, SYSTEM, Keep(), look(name), now), 0
    else:
        number, last = found["id"], found["last"]
    apply.join(db, mailbox, number, last, known=contact.hears_known)
    apply.count_members(db, number, 1)


def review(db: sqlite3.Connection, mailbox: int, space: str, contact: Contact) -> None:
    """Let the membership of a mailbox in its space's #all, if there is one, be as whom it takes mail from now says.

    What was published so far comes as it would have.
    """
    found = find(db, Address(EVERYBODY, space))
    member = db.execute(query.SUBSCRIBED, (mailbox, found["id"])).fetchone() if found is not None else None
    if found is None or member is None:
        return
    if not contact.is_in_all:
        leave(db, mailbox, found)
    elif bool(member["known"]) != contact.hears_known:
        apply.join(db, mailbox, found["id"], found["last"], known=contact.hears_known)


def leave(db: sqlite3.Connection, mailbox: int, channel: sqlite3.Row) -> bool:
    """End a membership with what has been published so far; return whether there was one."""
    was = db.execute(query.SUBSCRIBED, (mailbox, channel["id"])).fetchone() is not None
    if was:
        apply.leave_channel(db, mailbox, channel["id"], channel["last"])
        apply.count_members(db, channel["id"], -1)
    return was


def create(db: sqlite3.Connection, channel: Address, owner: str, keep: Keep, seen: Look, now: int) -> int:
    """Make a channel; return its number."""
    new = apply.NewChannel(
        channel.space,
        channel.name.removeprefix(CHANNEL_MARK),
        channel.folded.removeprefix(CHANNEL_MARK),
        seen.looks,
        seen.capitals,
        owner,
        now,
        keep.age or KEEP_AGE,
        keep.count or KEEP_COUNT,
        keep.bytes or KEEP_BYTES,
    )
    return apply.create_channel(db, new)
