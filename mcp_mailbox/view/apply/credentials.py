"""Tokens and invitations for them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence


def grant(db: sqlite3.Connection, row: Sequence[object]) -> None:
    """Insert a row of `token`, its columns in order."""
    db.execute(
        "INSERT INTO token (id, digest, name, principal, scopes, mailbox, space, created, expires, revoked, confined)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )


def revoke(db: sqlite3.Connection, token: str, at: int) -> None:
    """End a token, unless it has ended."""
    db.execute("UPDATE token SET revoked = ? WHERE id = ? AND revoked IS NULL", (at, token))


def regrant(db: sqlite3.Connection, token: str, digest: bytes) -> None:
    """Give a token another secret."""
    db.execute("UPDATE token SET digest = ? WHERE id = ?", (digest, token))


def replace_tokens(db: sqlite3.Connection, rows: Iterable[Sequence[object]]) -> None:
    """Have these and no others."""
    db.execute("DELETE FROM token")
    for row in rows:
        grant(db, row)


def invite(db: sqlite3.Connection, row: Sequence[object]) -> None:
    """Insert a row of `invitation`, its columns in order."""
    db.execute(
        "INSERT INTO invitation (id, digest, name, principal, scopes, mailbox, space, lasts, created, expires, revoked,"
        " redeemed, token) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )


def redeem(db: sqlite3.Connection, invitation: str, token: str, at: int) -> None:
    """Note for which token an invitation was redeemed."""
    db.execute("UPDATE invitation SET redeemed = ?, token = ? WHERE id = ?", (at, token, invitation))


def uninvite(db: sqlite3.Connection, invitation: str, at: int) -> None:
    """End an invitation, unless it has ended."""
    db.execute(
        "UPDATE invitation SET revoked = ? WHERE id = ? AND revoked IS NULL AND redeemed IS NULL", (at, invitation)
    )


def forget_invitations(db: sqlite3.Connection, before: int) -> None:
    """Drop those whose term was over before that."""
    db.execute("DELETE FROM invitation WHERE expires < ?", (before,))


def replace_invitations(db: sqlite3.Connection, rows: Iterable[Sequence[object]]) -> None:
    """Have these and no others."""
    db.execute("DELETE FROM invitation")
    for row in rows:
        invite(db, row)
