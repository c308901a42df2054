"""Deliveries: each applier that moves one names the event of `delivery.TRANSITIONS` that it carries out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from mcp_mailbox.delivery import State
from mcp_mailbox.view import query

_KEY = "mailbox = ? AND priority = ? AND seq = ?"
Key = tuple[int, int, int]
"""Of a row of `inbox`: (mailbox, priority, seq)."""


def delivered(after: str, last: str) -> str:
    """Return SQL for whether anything came to mailbox ?1 behind `after`, up to `last`."""
    where = f"WHERE d.mailbox = ?1 AND d.seq > {after} AND d.seq <= {last}"
    return (
        f"(EXISTS (SELECT 1 FROM done d {where})"  # noqa: S608 - constants only
        f" OR EXISTS (SELECT 1 FROM inbox d {where} AND d.priority IN (0, 1, 2)))"
    )


_RUNG_SO_FAR = "ifnull((SELECT max(seq) FROM ring WHERE mailbox = ?1), 0)"


def ring(db: sqlite3.Connection, mailbox: int, at: int) -> None:
    """Event.RING for all that has come to that mailbox so far, or is due there, unless it was rung before."""
    db.execute(
        "INSERT OR IGNORE INTO ring (mailbox, seq, at)"  # noqa: S608 - constants only
        " SELECT ?1, seq, ?2 FROM sqlite_sequence WHERE name = 'message'"
        f" AND ({delivered(_RUNG_SO_FAR, 'sqlite_sequence.seq')} OR EXISTS ({query.DUE_SOMEWHERE}))",
        (mailbox, at),
    )


def show(db: sqlite3.Connection, rows: Iterable[Key], at: int) -> None:
    """Event.SHOW for what has not been seen."""
    db.executemany(
        f"UPDATE inbox SET seen = ? WHERE {_KEY} AND seen = 0",  # noqa: S608 - constants only
        [(at, *row) for row in rows],
    )


def lease(
    db: sqlite3.Connection, rows: Iterable[tuple[int, Key]], at: int, until: int, reader: str, request: str
) -> None:
    """Event.CLAIM for each key, with the generation of its new lease."""
    db.executemany(
        "UPDATE inbox SET generation = ?, leased = ?, lease_until = ?, reader = ?, request = ?,"  # noqa: S608
        f" surfaced = 0 WHERE {_KEY}",
        [(generation, at, until, reader, request, *key) for generation, key in rows],
    )


def surface(db: sqlite3.Connection, reader: str, request: str, at: int) -> None:
    """Event.SURFACE for what that request leased."""
    db.execute(
        "UPDATE inbox SET surfaced = 1, attempts = attempts + 1, seen = iif(seen, seen, ?)"
        " WHERE reader = ? AND request = ? AND surfaced = 0",
        (at, reader, request),
    )


def give_back(db: sqlite3.Connection, key: Key) -> None:
    """Event.GIVE_BACK: ready for anybody at once. The generation stays, so a late ack still counts."""
    db.execute(
        f"UPDATE inbox SET lease_until = 0, reader = NULL, request = NULL, surfaced = 0 WHERE {_KEY}",  # noqa: S608
        key,
    )


def release(db: sqlite3.Connection, key: Key, at: int, until: int) -> None:
    """Event.RELEASE: ready for anybody then; 0 for at once. Who releases it has seen it."""
    give_back(db, key)
    db.execute(
        f"UPDATE inbox SET lease_until = ?, seen = iif(seen, seen, ?) WHERE {_KEY}",  # noqa: S608
        (until, at, *key),
    )


def extend(db: sqlite3.Connection, key: Key, until: int) -> None:
    """Event.EXTEND."""
    db.execute(f"UPDATE inbox SET lease_until = ? WHERE {_KEY}", (until, *key))  # noqa: S608


def settle(db: sqlite3.Connection, key: Key, state: State, at: int, reason: str = "") -> None:
    """Event.ACK, REJECT, EXHAUST, EXPIRE or REPLACE: from the hot table to the cold one."""
    db.execute(
        "INSERT INTO done (mailbox, seq, state, generation, attempts, at, leased, seen, reason, listed, channel)"  # noqa: S608
        f" SELECT mailbox, seq, ?, generation, attempts, ?, leased, seen, ?, ?, channel FROM inbox WHERE {_KEY}",
        (int(state), at, reason, state.dead_letter, *key),
    )
    db.execute(f"DELETE FROM inbox WHERE {_KEY}", key)  # noqa: S608
    db.execute("UPDATE counter SET unsettled = unsettled - 1 WHERE mailbox = ?", (key[0],))


def revive(db: sqlite3.Connection, mailbox: int, seq: int) -> None:
    """Event.RETRY: back to the hot table, as if it had never been seen; its generation goes on."""
    db.execute(
        "INSERT INTO inbox (mailbox, priority, seq, sender, thread, generation, channel)"
        " SELECT d.mailbox, m.priority, d.seq, m.sender, m.thread, d.generation, d.channel"
        " FROM done d JOIN message m ON m.seq = d.seq WHERE d.mailbox = ? AND d.seq = ?",
        (mailbox, seq),
    )
    db.execute("DELETE FROM done WHERE mailbox = ? AND seq = ?", (mailbox, seq))
    db.execute("UPDATE counter SET unsettled = unsettled + 1 WHERE mailbox = ?", (mailbox,))


def purge(db: sqlite3.Connection, mailbox: int, seq: int) -> None:
    """List a dead letter no more."""
    db.execute("UPDATE done SET listed = 0 WHERE mailbox = ? AND seq = ?", (mailbox, seq))
