"""The promise about credentials: kept, found by the digest of their token, ended; and about invitations to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mcp_mailbox.credentials import Credential
from mcp_mailbox.invitation import Invitation


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

    async def invite(self, invitation: Invitation, digest: bytes) -> None:
        """Keep an invitation, to be redeemed by who knows what has that digest.

        Raises Refusal(BAD_ARGUMENT) when too many are open. Those that ended long ago go meanwhile.
        """
        ...

    async def redeem(self, code: bytes, token: bytes, id: str) -> Credential | None:  # noqa: A002
        """Make the credential that an invitation promises, under that id, for the token with that digest: once.

        The same code and token again are given the same credential while it is good and the code or its `REPEAT_TERM`
        lasts. None for everything else: a code that nobody has made, that has expired, was revoked, or was redeemed for
        another token; and a token that is somebody's already.
        """
        ...

    async def invitations(self) -> Sequence[Invitation]:
        """Return the invitations, the oldest first."""
        ...

    async def uninvite(self, id: str) -> Invitation | None:  # noqa: A002
        """Note that it can be redeemed no more, once, and return it as it is now; None when there is none of that id.

        One that was redeemed is left as it is.
        """
        ...
