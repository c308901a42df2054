"""Credentials: what a bearer token stands for, and how one is spelled. Only its digest is ever kept.

A token speaks for a principal: the person or program to whom mailboxes belong. Which verbs it may use is its scopes'.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum

from mcp_mailbox.errors import Code, Refusal

TOKEN_PREFIX = "mbx_"  # noqa: S105 - what tokens begin with, so that leaked ones can be searched for
_TOKEN_BYTES = 32
DIGEST_BYTES = 32
_NAME_LIMIT = 64


class Scope(StrEnum):
    """What a credential allows."""

    READ = "read"
    """List, read, wait for, settle and subscribe to the mail of the principal's mailboxes."""
    SEND = "send"
    """Send from the principal's mailboxes, and reserve names for them."""
    CREATE = "create"
    """Make mailboxes and change what they say of themselves."""


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Credential:
    """A token without its secret. Times are ms since 1970 UTC."""

    id: str
    name: str
    """What a person calls it."""
    principal: str
    created_at: int
    scopes: frozenset[Scope] = ALL_SCOPES
    mailbox: str | None = None
    """The mailbox of calls that name none."""
    space: str | None = None
    """The space of bare names."""
    expires_at: int | None = None
    revoked_at: int | None = None
    confined: bool = False
    """Whether that space is the only one that there is for it."""

    def __post_init__(self) -> None:
        """Raise Refusal(BAD_ARGUMENT) for what could not be listed."""
        for what, text in (("name", self.name), ("principal", self.principal)):
            if not 0 < len(text) <= _NAME_LIMIT or not text.isprintable():
                raise Refusal(
                    Code.BAD_ARGUMENT,
                    f"The token's {what} {text[:_NAME_LIMIT]!a} cannot be used.",
                    f"Give 1 to {_NAME_LIMIT} printable characters.",
                )
        if self.confined and self.space is None:
            raise Refusal(Code.BAD_ARGUMENT, "The token is confined to no space.", "Say which space it is.")
        if not self.scopes:
            raise Refusal(Code.BAD_ARGUMENT, "The token would allow nothing.", f"Scopes are {', '.join(Scope)}.")

    @property
    def within(self) -> str | None:
        """The only space that there is for it; None for one that sees all of them."""
        return self.space if self.confined else None

    def good(self, now: int) -> bool:
        """Tell whether it may still be used."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def new_id() -> str:
    """Return a new credential's id, which is no secret."""
    return f"t-{secrets.token_hex(4)}"


def new_token() -> str:
    """Return a new secret of 256 bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def digest(token: str) -> bytes:
    """Return what is kept of a token: its SHA-256. A secret of 256 random bits needs no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
