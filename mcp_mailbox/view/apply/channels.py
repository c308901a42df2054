"""Channels: what one keeps, who is a member since when, and what each has got of it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from mcp_mailbox.view.query import FOREVER


@dataclass(frozen=True, slots=True)
class NewChannel:
    """A row of `channel`."""

    space: str
    name: str
    folded: str
    looks: str
    capitals: str
    owner: str
    created: int
    keep_age: int
    keep_count: int
    keep_bytes: int


def create_channel(db: sqlite3.Connection, new: NewChannel) -> int:
    """Insert a channel; return its row's number."""
    cursor = db.execute(
        "INSERT INTO channel (space, name, folded, looks, capitals, ascii, owner, created, keep_age, keep_count,"
        " keep_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.space,
            new.name,
            new.folded,
            new.looks,
            new.capitals,
            new.name.isascii(),
            new.owner,
            new.created,
            new.keep_age,
            new.keep_count,
            new.keep_bytes,
        ),
    )
    assert cursor.lastrowid is not None  # noqa: S101 - an INSERT has a row
    return cursor.lastrowid


def keep(db: sqlite3.Connection, channel: int, **limits: int | None) -> None:
    """Set what a channel keeps; leave what is None."""
    for name, value in limits.items():
        if value is not None:
            db.execute(f"UPDATE channel SET keep_{name} = ? WHERE id = ?", (value, channel))  # noqa: S608 - ours alone


def join(db: sqlite3.Connection, mailbox: int, channel: int, since: int, *, known: bool = False) -> None:
    """Begin a membership behind that place, of all or of what is `known`. It covers what there was of others."""
    db.execute("DELETE FROM subscription WHERE mailbox = ? AND channel = ? AND since >= ?", (mailbox, channel, since))
    db.execute(
        "UPDATE subscription SET until = ?3, place = min(place, ?3)"
        " WHERE mailbox = ?1 AND channel = ?2 AND +until > ?3",
        (mailbox, channel, since),
    )
    db.execute(
        f"INSERT INTO subscription (mailbox, channel, since, place, until, known) VALUES (?, ?, ?, ?, {FOREVER}, ?)",  # noqa: S608
        (mailbox, channel, since, since, known),
    )


def count_members(db: sqlite3.Connection, channel: int, more: int) -> None:
    """Let the channel have so many members more, or fewer."""
    db.execute("UPDATE channel SET members = members + ? WHERE id = ?", (more, channel))


def leave_channel(db: sqlite3.Connection, mailbox: int, channel: int, last: int) -> None:
    """End a membership with that place. One in which nothing was published leaves nothing behind."""
    db.execute(
        f"UPDATE subscription SET until = ? WHERE mailbox = ? AND channel = ? AND +until = {FOREVER}",  # noqa: S608
        (last, mailbox, channel),
    )
    db.execute(
        "DELETE FROM subscription WHERE mailbox = ? AND channel = ? AND since = until AND +until = ?",
        (mailbox, channel, last),
    )


def advance(db: sqlite3.Connection, mailbox: int, channel: int, since: int, place: int) -> None:
    """Note that a member has got what was published up to that place."""
    db.execute(
        "UPDATE subscription SET place = ? WHERE mailbox = ? AND channel = ? AND since = ?",
        (place, mailbox, channel, since),
    )


def deliver(db: sqlite3.Connection, mailbox: int, channel: int, post: sqlite3.Row, topic: str | None) -> bool:
    """Put what was published into a member's inbox, unless it is there or was; return whether it is there now."""
    changed = db.execute(
        "INSERT OR IGNORE INTO inbox (mailbox, priority, seq, sender, thread, lease_until, expires, topic, channel)"
        " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9"
        " WHERE NOT EXISTS (SELECT 1 FROM done WHERE mailbox = ?1 AND seq = ?3)",
        (
            mailbox,
            post["priority"],
            post["seq"],
            post["sender"],
            post["thread"],
            post["deliver_at"],
            post["expires"],
            topic,
            channel,
        ),
    ).rowcount
    if changed:
        db.execute("UPDATE counter SET unsettled = unsettled + 1 WHERE mailbox = ?", (mailbox,))
    return bool(changed)


def supersede(db: sqlite3.Connection, channel: int, place: int) -> None:
    """Deliver it to nobody any more: there is something newer of its topic."""
    db.execute("UPDATE channel_message SET replaced = 1 WHERE channel = ? AND place = ?", (channel, place))


def skip(db: sqlite3.Connection, mailbox: int, channel: int, count: int) -> None:
    """Note that so much was gone when the member came to read it; a negative count takes back what was told."""
    db.execute(
        "INSERT INTO skip (mailbox, channel, count) VALUES (?, ?, ?)"
        " ON CONFLICT (mailbox, channel) DO UPDATE SET count = count + excluded.count",
        (mailbox, channel, count),
    )
    db.execute("DELETE FROM skip WHERE mailbox = ? AND channel = ? AND count <= 0", (mailbox, channel))


def trim(db: sqlite3.Connection, channel: int, floor: int, most: int) -> bool:
    """Drop what a channel keeps no more, and memberships that are over and told: at most so many rows of each.

    Return whether there may be more. The messages themselves stay.
    """
    gone = db.execute(
        "DELETE FROM channel_message WHERE channel = ?1 AND place <= min(?2, ?3 - 1 + ("
        " SELECT min(place) FROM channel_message WHERE channel = ?1))",
        (channel, floor, most),
    ).rowcount
    db.execute(
        "DELETE FROM subscription WHERE (mailbox, channel, since) IN ("
        " SELECT mailbox, channel, since FROM subscription INDEXED BY subscription_channel"
        " WHERE channel = ? AND until <= ? AND place = until LIMIT ?)",
        (channel, floor, most),
    )
    return gone >= most
