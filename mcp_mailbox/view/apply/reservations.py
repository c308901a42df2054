"""Reservations: names that a mailbox holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


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


def replace_reservations(db: sqlite3.Connection, rows: Iterable[Sequence[object]]) -> None:
    """Have these rows of RESERVATIONS_WHOLE and no others, but for holders that are not there."""
    db.execute("DELETE FROM reservation")
    db.executemany(
        "INSERT INTO reservation (mailbox, name, space, mode, note, made, until)"
        " SELECT id, ?, space, ?, ?, ?, ? FROM mailbox WHERE space = ? AND folded = ? AND owner = ?",
        rows,
    )
