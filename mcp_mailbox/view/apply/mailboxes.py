"""Mailboxes: made, described, found; who reads one, and what its owner says of itself."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from mcp_mailbox import directory


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
    attempts: int
    kind: str
    share: int
    written: str


def create_mailbox(db: sqlite3.Connection, new: NewMailbox) -> int:
    """Insert a mailbox; return its row's number."""
    cursor = db.execute(
        "INSERT INTO mailbox (space, name, folded, looks, capitals, ascii, owner, about, skills, created,"
        " contact, attempts, kind, share, written) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
            new.attempts,
            new.kind,
            new.share,
            new.written,
        ),
    )
    db.execute("INSERT INTO counter (mailbox, unsettled) VALUES (?, 0)", (cursor.lastrowid,))
    assert cursor.lastrowid is not None  # noqa: S101 - an INSERT has a row
    list_mailbox(db, cursor.lastrowid, new.space, directory.terms(new.name, new.about, new.skills))
    return cursor.lastrowid


def describe_mailbox(db: sqlite3.Connection, mailbox: int, **columns: object) -> None:
    """Set what is given, leave what is None."""
    for name, value in columns.items():
        if value is not None:
            db.execute(f"UPDATE mailbox SET {name} = ? WHERE id = ?", (value, mailbox))  # noqa: S608 - ours alone


def list_mailbox(db: sqlite3.Connection, mailbox: int, space: str, terms: frozenset[str]) -> None:
    """Let it be found by these terms and no others."""
    before = {row[0] for row in db.execute("SELECT term FROM mailbox_term WHERE mailbox = ?", (mailbox,)).fetchall()}
    gone, fresh = sorted(before - terms), sorted(terms - before)
    db.executemany("DELETE FROM mailbox_term WHERE mailbox = ? AND term = ?", [(mailbox, term) for term in gone])
    db.executemany(
        "INSERT INTO mailbox_term (mailbox, term, space) VALUES (?, ?, ?)", [(mailbox, term, space) for term in fresh]
    )


def note_seen(db: sqlite3.Connection, mailbox: int, at: int) -> None:
    """Keep when a reader of it was last here."""
    db.execute(
        "INSERT INTO presence (mailbox, seen) VALUES (?, ?) ON CONFLICT (mailbox) DO UPDATE SET seen = excluded.seen",
        (mailbox, at),
    )


def say_status(db: sqlite3.Connection, mailbox: int, status: str, away: bool, until: int) -> None:
    """Keep what its owner says of itself, until when."""
    db.execute(
        "INSERT INTO presence (mailbox, status, away, until) VALUES (?, ?, ?, ?) ON CONFLICT (mailbox)"
        " DO UPDATE SET status = excluded.status, away = excluded.away, until = excluded.until",
        (mailbox, status, away, until),
    )


def bind_reader(db: sqlite3.Connection, reader: str, mailbox: int, at: int) -> None:
    """Note which mailbox the reader opened last."""
    db.execute("INSERT OR REPLACE INTO reader (id, mailbox, at) VALUES (?, ?, ?)", (reader, mailbox, at))


def forget_readers(db: sqlite3.Connection, before: int, most: int) -> None:
    """Drop what readers opened that have opened nothing since, at most so many."""
    db.execute(
        "DELETE FROM reader WHERE id IN (SELECT id FROM reader INDEXED BY reader_at WHERE at < ? LIMIT ?)",
        (before, most),
    )


def occupy(db: sqlite3.Connection, mailbox: int, reader: str, label: str, at: int) -> None:
    """Let the reader be the one who reads that mailbox."""
    db.execute(
        "INSERT OR REPLACE INTO occupant (mailbox, reader, label, since) VALUES (?, ?, ?, ?)",
        (mailbox, reader, label, at),
    )
