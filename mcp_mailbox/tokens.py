"""Tokens: made, promised, checked, revoked. The secret is told once and kept by nobody here.

One process makes all changes, so what is remembered of a token is never stale.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio.to_thread

from mcp_mailbox import addresses, credentials, files, invitation
from mcp_mailbox.credentials import ALL_SCOPES, Credential, Scope
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.invitation import Invitation
from mcp_mailbox.store import Store

logger = logging.getLogger(__name__)

LOCAL = "local"
"""The principal of the user who owns the store: whom the local socket speaks for."""
DEFAULT_NAME = "default"
_REMEMBERED = 10_000
_NAMED = 5
"""Tokens of one name that are told."""


class Tokens:
    """The tokens of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[bytes, Credential] = {}
        self._changes = 0
        """How often a token ended: what was read before that may be of yesterday."""
        self._hear: list[Callable[[str], None]] = []

    async def authenticate(self, token: str) -> Credential | None:
        """Return what the token stands for; None for one that is unknown, expired or revoked, all alike.

        Looked up by digest, so how long it takes tells nothing of tokens that there are.
        """
        digest = credentials.digest(token)
        found = self._known.get(digest)
        while found is None:
            changes = self._changes
            found = await self._store.credential(digest)
            if found is None:
                return None
            if self._changes != changes:
                found = None  # a token ended while this was read, in a thread of its own
                continue
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[digest] = found
        return found if found.good(self._store.clock.now()) else None

    def left(self, credential: Credential) -> float:
        """Return for how many more seconds it is good, by the store's time."""
        if credential.expires_at is None:
            return math.inf
        return max(0.0, (credential.expires_at - self._store.clock.now()) / 1000)

    async def issue(
        self,
        name: str,
        *,
        principal: str = LOCAL,
        scopes: frozenset[Scope] = ALL_SCOPES,
        mailbox: str | None = None,
        space: str | None = None,
        lasts: int | None = None,
        confined: bool = False,
    ) -> tuple[Credential, str]:
        """Make a token that lasts so many ms (None: until it is revoked); return it with its secret.

        For one that is `confined` there is its space alone. Raises Refusal(BAD_ARGUMENT | BAD_NAME) for what cannot be.
        """
        _check(mailbox, space, confined=confined)
        now = self._store.clock.now()
        credential = Credential(
            credentials.new_id(),
            name,
            principal,
            now,
            scopes,
            mailbox,
            space,
            None if lasts is None else now + lasts,
            confined=confined,
        )
        secret = credentials.new_token()
        await self._store.grant(credential, credentials.digest(secret))
        logger.info("token %s (%s) was made for %s", credential.id, name, principal)
        return credential, secret

    async def rival(self, credential: Credential) -> str | None:
        """Return the other principal to whom the token's mailbox belongs: each call without `mailbox` would fail."""
        if credential.mailbox is None:
            return None
        address = addresses.parse(credential.mailbox, credential.space or addresses.DEFAULT_SPACE)
        mailbox = await self._store.mailbox(address)
        return mailbox.owner if mailbox is not None and mailbox.owner != credential.principal else None

    async def listed(self) -> Sequence[Credential]:
        """Return all tokens, the oldest first."""
        return await self._store.credentials()

    async def revoke(self, id: str) -> Credential:  # noqa: A002 - the domain's word
        """End a token at once. Raises Refusal(BAD_ARGUMENT) for an unknown id; repeating it is no error."""
        revoked = await self._store.revoke(id)
        if revoked is None:
            raise await self._unknown(id)
        self._forget(id)
        logger.info("token %s (%s) was revoked", id, revoked.name)
        return revoked

    async def rotate(self, id: str) -> tuple[Credential, str]:  # noqa: A002
        """Give a token a new secret; the old one ends at once. Raises Refusal(BAD_ARGUMENT)."""
        secret = credentials.new_token()
        rotated = await self._store.regrant(id, credentials.digest(secret))
        if rotated is None:
            raise await self._unknown(id)
        self._forget(id)
        logger.info("token %s (%s) has a new secret", id, rotated.name)
        return rotated, secret

    async def invite(
        self,
        name: str,
        *,
        principal: str,
        scopes: frozenset[Scope] = ALL_SCOPES,
        mailbox: str | None = None,
        space: str | None = None,
        good_for: int = invitation.TERM,
        lasts: int = invitation.TOKEN_TERM,
    ) -> tuple[Invitation, str]:
        """Promise a token to whoever brings a code within so many ms; return the invitation with its code.

        With a space, that is the only one that there will be for it. Raises Refusal(BAD_ARGUMENT | BAD_NAME).
        """
        _check(mailbox, space, confined=space is not None)
        now = self._store.clock.now()
        made = Invitation(invitation.new_id(), name, principal, now, now + good_for, lasts, scopes, mailbox, space)
        made.credential("", now)  # what could not be redeemed is refused here
        code = invitation.new_code()
        await self._store.invite(made, invitation.digest(invitation.read_code(code)))
        logger.info("invitation %s (%s) was made for %s", made.id, name, principal)
        return made, code

    async def redeem(self, code: str, token: bytes) -> Credential | None:
        """Return what a code was redeemed for, by who keeps the token with that digest.

        None for a code that is mistyped, unknown, expired, revoked or somebody else's, all alike.
        """
        try:
            spelt = invitation.read_code(code)
        except Refusal:
            spelt = ""
        found = await self._store.redeem(invitation.digest(spelt), token, credentials.new_id())
        if found is not None:
            logger.info("token %s (%s) was made for %s, who was invited", found.id, found.name, found.principal)
        return found

    async def invitations(self) -> Sequence[Invitation]:
        """Return the invitations, the oldest first."""
        return await self._store.invitations()

    async def uninvite(self, id: str) -> Invitation:  # noqa: A002 - the domain's word
        """Let an invitation be redeemed no more. Raises Refusal(BAD_ARGUMENT) for one that is unknown, or was."""
        found = await self._store.uninvite(id)
        if found is None:
            raise Refusal(
                Code.BAD_ARGUMENT, f"No invitation has the id {id[:40]!a}.", "See `mcp-mailbox invite --list`."
            )
        if found.redeemed_at is not None:
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"Invitation {id} was redeemed, for token {found.token}.",
                f"`mcp-mailbox token revoke {found.token}` ends what came of it.",
            )
        logger.info("invitation %s (%s) was revoked", id, found.name)
        return found

    def on_revoked(self, hear: Callable[[str], None]) -> None:
        """Call `hear` with the id of each token whose secret ends, so that what it opened can be closed."""
        self._hear.append(hear)

    async def default(self, path: Path) -> str:
        """Return the token of the machine's own user, which stands in that file (0600); make both when need be."""
        found = (await anyio.to_thread.run_sync(_read, path)).strip()
        if found and await self.authenticate(found) is not None:
            return found
        _, secret = await self.issue(DEFAULT_NAME)
        await anyio.to_thread.run_sync(files.replace, str(path), f"{secret}\n")
        return secret

    def _forget(self, id_: str) -> None:
        self._changes += 1
        self._known = {digest: known for digest, known in self._known.items() if known.id != id_}
        for hear in self._hear:
            hear(id_)

    async def _unknown(self, id_: str) -> Refusal:
        now = self._store.clock.now()
        named = [each.id for each in await self.listed() if each.name == id_ and each.good(now)]
        hint = "See `mcp-mailbox token list`."
        if named:
            give = "give that" if len(named) == 1 else "give one of them"
            hint = f"{id_!a} is the name of {' and '.join(named[:_NAMED])}: {give}."
        return Refusal(Code.BAD_ARGUMENT, f"No valid token has the id {id_[:40]!a}.", hint)


def _check(mailbox: str | None, space: str | None, *, confined: bool) -> None:
    """Raise Refusal(BAD_ARGUMENT | BAD_NAME) for names that cannot be, and for a mailbox that is out of reach."""
    if space is not None:
        addresses.check_name(space, "space")
    if mailbox is None:
        return
    address = addresses.parse(mailbox, space or addresses.DEFAULT_SPACE)
    if confined and address.space != space:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"{mailbox!a} is not in the space {space!a}, which is the only one that there is for the token.",
            "Give the bare name, or another space.",
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
