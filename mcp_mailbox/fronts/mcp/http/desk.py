"""Whom a request speaks for: its token's principal, with a mailbox that the token, a header or the call names.

2026-07-28 has no sessions, and one token may be several agents': nothing that one request opens is the next one's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mcp_mailbox import addresses
from mcp_mailbox.credentials import ALL_SCOPES, Credential
from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts.mcp.client import Client
from mcp_mailbox.postoffice import Caller, PostOffice
from mcp_mailbox.tokens import Tokens

_PREPARED = 10_000
"""Mailboxes of headers and tokens that are known to be there."""


class TokenDesk:
    """Knows who comes by their bearer token."""

    def __init__(self, office: PostOffice, tokens: Tokens, space: str) -> None:
        self._tokens = tokens
        self._clients = _Clients(office, space)
        self._ended: Counter[str] = Counter()
        tokens.on_revoked(self._note_end)

    async def visitor(self, token: Callable[[], str]) -> Visitor | None:
        """Return whom the token of a request stands for; None for one that is not good."""
        credential = await self._tokens.authenticate(token())
        if credential is None:
            return None
        before = self._ended[credential.id]

        def left() -> float:
            return self._tokens.left(credential) if self._ended[credential.id] == before else 0.0

        return Visitor(credential, self._clients, left)

    def _note_end(self, credential: str) -> None:
        self._ended[credential] += 1

    def on_revoked(self, hear: Callable[[str], None]) -> None:
        """Call `hear` with the id of a credential that is not good any more."""
        self._tokens.on_revoked(hear)


class OpenDesk:
    """Lets everybody in as the machine's own user: only for a server that nobody else can reach."""

    def __init__(self, office: PostOffice, principal: str, space: str) -> None:
        credential = Credential(id="anybody", name="anybody", principal=principal, scopes=ALL_SCOPES, created_at=0)
        self._visitor = Visitor(credential, _Clients(office, space), lambda: math.inf)

    async def visitor(self, token: Callable[[], str]) -> Visitor | None:
        """See `TokenDesk.visitor`; no token is asked for."""
        del token
        return self._visitor

    def on_revoked(self, hear: Callable[[str], None]) -> None:
        """See `TokenDesk.on_revoked`; there is nothing to hear."""


Desk = TokenDesk | OpenDesk


class _Clients:
    """Makes the state of a request or session."""

    def __init__(self, office: PostOffice, space: str) -> None:
        self._office = office
        self._space = space
        self._prepared: dict[tuple[str, str, str], None] = {}

    async def make(self, credential: Credential, address: str | None, space: str | None, session: str | None) -> Client:
        """Return it, its mailbox opened."""
        configured = address or credential.mailbox
        bad_space: Refusal | None = None
        try:
            space = addresses.check_name(space, "space") if space else credential.space or self._space
        except Refusal as refusal:
            space, bad_space = self._space, Refusal(refusal.code, f"Mailbox-Space: {refusal.problem}", refusal.hint)
        caller = Caller(
            f"http.{session or credential.id}",
            credential.principal,
            space,
            mailbox=configured,
            binds=False,
            scopes=credential.scopes,
            shared=session is None,
        )
        by = "Mailbox-Address" if address else "The token's mailbox"
        client = Client(self._office, caller, configured, configured_by=by, forgets=session is None and not configured)
        client.refuse(bad_space)
        key = (credential.principal, configured or "", space)
        if configured is not None and key not in self._prepared:
            await client.prepare()
            if not client.refused:
                self._note(key)
        return client

    def _note(self, key: tuple[str, str, str]) -> None:
        if len(self._prepared) >= _PREPARED:
            self._prepared.clear()
        self._prepared[key] = None


@dataclass(frozen=True, slots=True)
class Visitor:
    """For whom a request speaks: a credential that is good now."""

    credential: Credential
    _clients: _Clients
    left: Callable[[], float]
    """For how many more seconds the credential is good; 0 when it is not any more."""

    @property
    def id(self) -> str:
        """The credential's id."""
        return self.credential.id

    def good(self) -> bool:
        """Whether it still is: a request may take a while to come, and a secret may end meanwhile."""
        return self.left() > 0

    async def client(self, address: str | None, space: str | None, *, session: str | None) -> Client:
        """Return the state of a session, or of one request."""
        return await self._clients.make(self.credential, address, space, session)
