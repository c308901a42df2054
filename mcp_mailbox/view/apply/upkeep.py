"""What the store knows of itself: keys of requests, its time, where numbers go on."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping


def remember(db: sqlite3.Connection, sender: int, key: str, digest: bytes, answer: str, at: int) -> None:
    """Keep what a repeated request is answered from."""
    db.execute(
        "INSERT INTO idempotency (sender, key, hash, answer, at) VALUES (?, ?, ?, ?, ?)",
        (sender, key, digest, answer, at),
    )


def note_told(db: sqlite3.Connection, sender: int, key: str, at: int) -> None:
    """Keep when something was told that is told once in a while."""
    db.execute(
        "INSERT OR REPLACE INTO idempotency (sender, key, hash, answer, at) VALUES (?, ?, x'', '', ?)",
        (sender, key, at),
    )


def forget_keys(db: sqlite3.Connection, before: int, most: int) -> None:
    """Drop the oldest keys, at most so many, so that no transaction grows long."""
    db.execute(
        "DELETE FROM idempotency WHERE rowid < (SELECT min(rowid) FROM idempotency) + ? AND at < ?", (most, before)
    )


def note_time(db: sqlite3.Connection, now: int) -> None:
    """Keep what time it is, so that it goes on from here."""
    db.execute("UPDATE meta SET value = ? WHERE name = 'time'", (now,))


def go_on(db: sqlite3.Connection, seq: int, values: Mapping[str, int]) -> None:
    """Give the next message a number behind `seq`, and keep these values in `meta`."""
    db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'message'", (seq,))
    db.executemany("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", values.items())
