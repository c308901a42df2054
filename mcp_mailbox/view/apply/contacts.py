"""Contacts: where a sender stands with a mailbox, and what waits to be let in there."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from mcp_mailbox.consent import Standing
from mcp_mailbox.delivery import State


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A row of `contact` whose sender has asked."""

    mailbox: int
    sender: int
    at: int
    seq: int
    notice: int
    principal: str
    expires: int
    deliver_at: int
    topic: str | None


def ask(db: sqlite3.Connection, new: NewRequest) -> None:
    """Keep a message that waits to be let in, in place of what was known of its sender."""
    db.execute(
        "INSERT OR REPLACE INTO contact (mailbox, sender, standing, at, seq, notice, principal, expires, deliver_at,"
        " topic) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.mailbox,
            new.sender,
            int(Standing.ASKED),
            new.at,
            new.seq,
            new.notice,
            new.principal,
            new.expires,
            new.deliver_at,
            new.topic,
        ),
    )


def place(db: sqlite3.Connection, mailbox: int, sender: int, standing: Standing, at: int) -> None:
    """Keep where a sender stands."""
    db.execute(
        "INSERT INTO contact (mailbox, sender, standing, at) VALUES (?, ?, ?, ?) ON CONFLICT (mailbox, sender)"
        " DO UPDATE SET standing = excluded.standing, at = excluded.at",
        (mailbox, sender, int(standing), at),
    )


def let_in(db: sqlite3.Connection, mailbox: int, sender: int, at: int) -> None:
    """Event.CONSENT for what the sender has waiting."""
    db.execute(
        "INSERT INTO inbox (mailbox, priority, seq, sender, thread, lease_until, expires, topic)"
        " SELECT c.mailbox, m.priority, c.seq, c.sender, m.thread, iif(c.deliver_at > ?, c.deliver_at, 0), m.expires,"
        " c.topic FROM contact c JOIN message m ON m.seq = c.seq WHERE c.mailbox = ? AND c.sender = ?",
        (at, mailbox, sender),
    )
    db.execute("UPDATE counter SET unsettled = unsettled + 1 WHERE mailbox = ?", (mailbox,))


def note_let_in(db: sqlite3.Connection, mailbox: int, sender: int, at: int) -> None:
    """Keep when the message that a sender asked by was let in."""
    db.execute("UPDATE contact SET let_in = ? WHERE mailbox = ? AND sender = ?", (at, mailbox, sender))


def turn_away(db: sqlite3.Connection, mailbox: int, seq: int, state: State, at: int, reason: str = "") -> None:
    """Event.DECLINE or EXPIRE for what is held."""
    db.execute(
        "INSERT INTO done (mailbox, seq, state, generation, attempts, at, reason, listed)"
        " VALUES (?, ?, ?, 0, 0, ?, ?, ?)",
        (mailbox, seq, int(state), at, reason, state.dead_letter),
    )
