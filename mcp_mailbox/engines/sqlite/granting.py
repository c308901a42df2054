"""Credentials kept, found, ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mcp_mailbox.credentials import Credential
from mcp_mailbox.engines.sqlite.rows import to_credential
from mcp_mailbox.view import apply, query


def grant(db: sqlite3.Connection, credential: Credential, digest: bytes) -> None:
    """Keep it."""
    row = (
        credential.id,
        digest,
        credential.name,
        credential.principal,
        " ".join(sorted(credential.scopes)),
        credential.mailbox,
        credential.space,
        credential.created_at,
        credential.expires_at,
        credential.revoked_at,
    )
    apply.grant(db, row)


def by_digest(db: sqlite3.Connection, digest: bytes) -> Credential | None:
    """Return the credential whose token has that digest."""
    return _find(db, query.TOKEN_BY_DIGEST, digest)


def every(db: sqlite3.Connection) -> Sequence[Credential]:
    """Return all, the oldest first."""
    return [to_credential(row) for row in db.execute(query.TOKENS).fetchall()]


def revoke(db: sqlite3.Connection, token: str, at: int) -> Credential | None:
    """End it, unless it has ended; return it, if there is one."""
    apply.revoke(db, token, at)
    return _find(db, query.TOKEN_BY_ID, token)


def regrant(db: sqlite3.Connection, token: str, digest: bytes) -> Credential | None:
    """Give it another digest; None when there is none that is good for that."""
    found = _find(db, query.TOKEN_BY_ID, token)
    if found is None or found.revoked_at is not None:
        return None
    apply.regrant(db, token, digest)
    return found


def _find(db: sqlite3.Connection, sql: str, key: object) -> Credential | None:
    row = db.execute(sql, (key,)).fetchone()
    return to_credential(row) if row else None
