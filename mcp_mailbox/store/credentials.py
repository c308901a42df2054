"""The promise about credentials: kept, found by the digest of their token, ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mcp_mailbox.credentials import Credential


class CredentialStore(Protocol):
    """The verbs about credentials."""

    async def grant(self, credential: Credential, digest: bytes) -> None:
        """Keep a credential, to be found by the digest of its token."""
        ...

    async def credential(self, digest: bytes) -> Credential | None:
        """Return the credential of the token with that digest, expired and revoked ones too."""
        ...

    async def credentials(self) -> Sequence[Credential]:
        """Return all credentials, the oldest first."""
        ...

    async def revoke(self, id: str) -> Credential | None:  # noqa: A002 - the domain's word
        """Note that the credential is not good any more, once; None when there is none of that id."""
        ...

    async def regrant(self, id: str, digest: bytes) -> Credential | None:  # noqa: A002
        """Give a credential that is not revoked another digest in place of its own; None when there is none."""
        ...
