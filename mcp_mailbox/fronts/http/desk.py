"""Whom a request speaks for: the principal of its token."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mcp_mailbox.credentials import ALL_SCOPES, Credential
from mcp_mailbox.tokens import Tokens


class TokenDesk:
    """Knows who comes by their bearer token."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
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

        return Visitor(credential, left)

    def _note_end(self, credential: str) -> None:
        self._ended[credential] += 1

    def on_revoked(self, hear: Callable[[str], None]) -> None:
        """Call `hear` with the id of a credential that is not good any more."""
        self._tokens.on_revoked(hear)


class OpenDesk:
    """Lets everybody in as the machine's own user: only for a server that nobody else can reach."""

    def __init__(self, principal: str) -> None:
        credential = Credential(id="anybody", name="anybody", principal=principal, scopes=ALL_SCOPES, created_at=0)
        self._visitor = Visitor(credential, lambda: math.inf)

    async def visitor(self, token: Callable[[], str]) -> Visitor | None:
        """See `TokenDesk.visitor`; no token is asked for."""
        del token
        return self._visitor

    def on_revoked(self, hear: Callable[[str], None]) -> None:
        """See `TokenDesk.on_revoked`; there is nothing to hear."""


class Desk(Protocol):
    """Knows whom a request speaks for."""

    async def visitor(self, token: Callable[[], str]) -> Visitor | None:
        """Return whom the token of a request stands for; None for one that is not good. Raises gate.Refused."""
        ...

    def on_revoked(self, hear: Callable[[str], None]) -> None:
        """Call `hear` with the id of a credential that is not good any more."""
        ...


@dataclass(frozen=True, slots=True)
class Visitor:
    """For whom a request speaks: a credential that is good now."""

    credential: Credential
    left: Callable[[], float]
    """For how many more seconds the credential is good; 0 when it is not any more."""

    @property
    def id(self) -> str:
        """The credential's id."""
        return self.credential.id

    def good(self) -> bool:
        """Whether it still is: a request may take a while to come, and a secret may end meanwhile."""
        return self.left() > 0
