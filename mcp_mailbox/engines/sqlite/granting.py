"""Credentials kept, found, ended; invitations redeemed for them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mcp_mailbox.credentials import Credential
from mcp_mailbox.engines.sqlite.rows import to_credential, to_invitation
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.invitation import OPEN_LIMIT, REMEMBERED, Invitation
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
        credential.confined,
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


def invite(db: sqlite3.Connection, invitation: Invitation, digest: bytes, now: int) -> None:
    """Keep it, and let go of what ended long ago. Raises Refusal(BAD_ARGUMENT)."""
    if db.execute(query.INVITATIONS_OPEN, (now,)).fetchone()[0] >= OPEN_LIMIT:
        raise Refusal(
            Code.BAD_ARGUMENT, f"{OPEN_LIMIT} invitations are open.", "Revoke some: `mcp-mailbox invite --list`."
        )
    apply.forget_invitations(db, now - REMEMBERED)
    row = (
        invitation.id,
        digest,
        invitation.name,
        invitation.principal,
        " ".join(sorted(invitation.scopes)),
        invitation.mailbox,
        invitation.space,
        invitation.lasts,
        invitation.created_at,
        invitation.expires_at,
        invitation.revoked_at,
        invitation.redeemed_at,
        invitation.token,
    )
    apply.invite(db, row)


def may_be_redeemed(db: sqlite3.Connection, code: bytes, now: int) -> bool:
    """Whether it is worth a transaction: whoever guesses makes the disk do nothing."""
    found = _invited(db, query.INVITATION_BY_DIGEST, code)
    return found is not None and (found.open(now) or found.repeats(now))


def redeem(db: sqlite3.Connection, code: bytes, token: bytes, token_id: str, now: int) -> Credential | None:
    """Return what the code was redeemed for, now or before by the same token; None for everything else."""
    found = _invited(db, query.INVITATION_BY_DIGEST, code)
    taken = db.execute(query.TOKEN_WITH_DIGEST, (token,)).fetchone()
    if found is None:
        return None
    if found.repeats(now) and taken is not None and taken["id"] == found.token:
        same = _find(db, query.TOKEN_BY_ID, found.token)
        return same if same is not None and same.good(now) else None
    if taken is not None or not found.open(now):
        return None
    credential = found.credential(token_id, now)
    grant(db, credential, token)
    apply.redeem(db, found.id, token_id, now)
    return credential


def invited(db: sqlite3.Connection) -> Sequence[Invitation]:
    """Return all, the oldest first."""
    return [to_invitation(row) for row in db.execute(query.INVITATIONS).fetchall()]


def uninvite(db: sqlite3.Connection, invitation: str, at: int) -> Invitation | None:
    """End it, unless it has ended; return it, if there is one."""
    apply.uninvite(db, invitation, at)
    return _invited(db, query.INVITATION_BY_ID, invitation)


def _invited(db: sqlite3.Connection, sql: str, key: object) -> Invitation | None:
    row = db.execute(sql, (key,)).fetchone()
    return to_invitation(row) if row else None


def _find(db: sqlite3.Connection, sql: str, key: object) -> Credential | None:
    row = db.execute(sql, (key,)).fetchone()
    return to_credential(row) if row else None
