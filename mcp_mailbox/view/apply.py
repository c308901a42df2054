"""The appliers: each writes what one decision means. They run inside a transaction that the engine holds.

An applier checks nothing. Those that move a delivery name the event of `delivery.TRANSITIONS` that they carry out.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mcp_mailbox.delivery import State

_PREVIEW_LENGTH = 120


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """A row of `mailbox`."""

    space: str
    name: str
    folded: str
    looks: str
    capitals: str
    owner: str
    about: str
    skills: Sequence[str]
    created: int
    contact: str


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A row of `message`; no thread: it begins one."""

    thread: int | None
    sender: int
    recipients: Sequence[int]
    reply_to: int | None
    priority: int
    accepted: int
    subject: str
    body: str


def create_mailbox(db: sqlite3.Connection, new: NewMailbox) -> int:
    """Insert a mailbox; return its row's number."""
    cursor = db.execute(
        "INSERT INTO mailbox (space, name, folded, looks, capitals, ascii, owner, about, skills, created,"
        " contact) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.space,
            new.name,
            new.folded,
            new.looks,
            new.capitals,
            new.name.isascii(),
            new.owner,
            new.about,
            json.dumps(new.skills),
            new.created,
            new.contact,
        ),
    )
    db.execute("INSERT INTO counter (mailbox, unsettled) VALUES (?, 0)", (cursor.lastrowid,))
    assert cursor.lastrowid is not None  # noqa: S101 - an INSERT has a row
    return cursor.lastrowid


def describe_mailbox(
    db: sqlite3.Connection, mailbox: int, about: str | None, skills: Sequence[str] | None, contact: str | None
) -> None:
    """Set what is given, leave what is None."""
    if contact is not None:
        db.execute("UPDATE mailbox SET contact = ? WHERE id = ?", (contact, mailbox))
    if about is not None:
        db.execute("UPDATE mailbox SET about = ? WHERE id = ?", (about, mailbox))
    if skills is not None:
        db.execute("UPDATE mailbox SET skills = ? WHERE id = ?", (json.dumps(skills), mailbox))


def bind_reader(db: sqlite3.Connection, reader: str, mailbox: int, at: int) -> None:
    """Note which mailbox the reader opened last."""
    db.execute("INSERT OR REPLACE INTO reader (id, mailbox, at) VALUES (?, ?, ?)", (reader, mailbox, at))


def store_message(db: sqlite3.Connection, new: NewMessage) -> int:
    """Insert a message and a stored delivery for each recipient; return its number."""
    body = new.body.encode()
    cursor = db.execute(
        "INSERT INTO message (thread, sender, recipients, reply_to, priority, accepted, size, checksum,"
        " subject, preview, body)"
        " VALUES (ifnull(?, (SELECT seq + 1 FROM sqlite_sequence WHERE name = 'message')),"
        " ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.thread,
            new.sender,
            f"[{','.join(map(str, new.recipients))}]",
            new.reply_to,
            new.priority,
            new.accepted,
            len(body),
            checksum(new.subject, body),
            new.subject,
            preview(new.body),
            new.body,
        ),
    )
    seq = cursor.lastrowid
    assert seq is not None  # noqa: S101 - an INSERT has a row
    db.executemany(
        "INSERT INTO inbox (mailbox, priority, seq, sender, thread) VALUES (?, ?, ?, ?, ?)",
        [(mailbox, new.priority, seq, new.sender, new.thread or seq) for mailbox in new.recipients],
    )
    db.executemany(
        "UPDATE counter SET unsettled = unsettled + 1 WHERE mailbox = ?",
        [(mailbox,) for mailbox in new.recipients],
    )
    return seq


def lease(db: sqlite3.Connection, rows: Iterable[tuple[int, int, int]], until: int, reader: str, request: str) -> None:
    """Event.CLAIM for each (mailbox, priority, seq)."""
    db.executemany(
        "UPDATE inbox SET generation = generation + 1, lease_until = ?, reader = ?, request = ?, surfaced = 0"
        " WHERE mailbox = ? AND priority = ? AND seq = ?",
        [(until, reader, request, *row) for row in rows],
    )


def surface(db: sqlite3.Connection, reader: str, request: str) -> None:
    """Event.SURFACE for what that request leased."""
    db.execute(
        "UPDATE inbox SET surfaced = 1, attempts = attempts + 1 WHERE reader = ? AND request = ? AND surfaced = 0",
        (reader, request),
    )


def free(db: sqlite3.Connection, mailbox: int, priority: int, seq: int) -> None:
    """Event.RELEASE or Event.GIVE_BACK: ready for anybody at once. The generation stays, so a late ack still counts."""
    db.execute(
        "UPDATE inbox SET lease_until = 0, reader = NULL, request = NULL, surfaced = 0"
        " WHERE mailbox = ? AND priority = ? AND seq = ?",
        (mailbox, priority, seq),
    )


def settle(db: sqlite3.Connection, mailbox: int, priority: int, seq: int, state: State, at: int) -> None:
    """Event.ACK or Event.REJECT: from the hot table to the cold one."""
    key = (mailbox, priority, seq)
    db.execute(
        "INSERT INTO done (mailbox, seq, state, generation, attempts, at)"
        " SELECT mailbox, seq, ?, generation, attempts, ? FROM inbox WHERE mailbox = ? AND priority = ? AND seq = ?",
        (int(state), at, *key),
    )
    db.execute("DELETE FROM inbox WHERE mailbox = ? AND priority = ? AND seq = ?", key)
    db.execute("UPDATE counter SET unsettled = unsettled - 1 WHERE mailbox = ?", (mailbox,))


def remember(db: sqlite3.Connection, sender: int, key: str, digest: bytes, answer: str, at: int) -> None:
    """Keep what a repeated request is answered from."""
    db.execute(
        "INSERT INTO idempotency (sender, key, hash, answer, at) VALUES (?, ?, ?, ?, ?)",
        (sender, key, digest, answer, at),
    )


def grant(db: sqlite3.Connection, row: Sequence[object]) -> None:
    """Insert a row of `token`, its columns in order."""
    db.execute(
        "INSERT INTO token (id, digest, name, principal, scopes, mailbox, space, created, expires, revoked)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )


def revoke(db: sqlite3.Connection, token: str, at: int) -> None:
    """End a token, unless it has ended."""
    db.execute("UPDATE token SET revoked = ? WHERE id = ? AND revoked IS NULL", (at, token))


def regrant(db: sqlite3.Connection, token: str, digest: bytes) -> None:
    """Give a token another secret."""
    db.execute("UPDATE token SET digest = ? WHERE id = ?", (digest, token))


@dataclass(frozen=True, slots=True)
class Holding:
    """A row of `reservation`."""

    mailbox: int
    name: str
    space: str
    mode: str
    note: str
    made: int
    until: int


def hold(db: sqlite3.Connection, new: Holding) -> None:
    """Reserve a name for a mailbox, in place of what it holds under that name."""
    db.execute(
        "INSERT OR REPLACE INTO reservation (mailbox, name, space, mode, note, made, until)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (new.mailbox, new.name, new.space, new.mode, new.note, new.made, new.until),
    )


def let_go(db: sqlite3.Connection, mailbox: int, name: str) -> None:
    """End a reservation."""
    db.execute("DELETE FROM reservation WHERE mailbox = ? AND name = ?", (mailbox, name))


def note_time(db: sqlite3.Connection, now: int) -> None:
    """Keep what time it is, so that it goes on from here."""
    db.execute("UPDATE meta SET value = ? WHERE name = 'time'", (now,))


def forget(db: sqlite3.Connection, before: int, most: int) -> int:
    """Drop the oldest keys, at most so many, so that no transaction grows long."""
    keys = db.execute(
        "DELETE FROM idempotency WHERE rowid < (SELECT min(rowid) FROM idempotency) + ? AND at < ?", (most, before)
    )
    return keys.rowcount


def checksum(subject: str, body: bytes) -> int:
    """Return the CRC-32 of a message's text."""
    return zlib.crc32(body, zlib.crc32(subject.encode()))


def preview(body: str) -> str:
    """Return the body's beginning on one line."""
    beginning = " ".join(body[: 2 * _PREVIEW_LENGTH].split())
    return beginning if len(beginning) <= _PREVIEW_LENGTH else beginning[: _PREVIEW_LENGTH - 1] + "…"
