"""OAuth 2.1 access tokens beside tokens of ours: this server as a resource of somebody's authorization server.

JWTs alone (RFC 9068), judged here; tokens are never passed on. Whom one speaks for stands under its issuer's name, so
that no issuer can speak for `local`, for a principal of our own tokens, or for another issuer's. Where clients get one
is in `resource`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from mcp.server.auth.provider import AccessToken, TokenVerifier

from mcp_mailbox.credentials import TOKEN_PREFIX, Credential, Scope
from mcp_mailbox.fronts.http.desk import TokenDesk, Visitor
from mcp_mailbox.fronts.http.gate import Refused
from mcp_mailbox.fronts.http.issuer import ALGORITHMS, Keys, Unavailable
from mcp_mailbox.fronts.http.resource import SCOPES

_TYPES = {"at+jwt", "application/at+jwt"}
"""RFC 9068 section 4: anything else, an ID token for one, is no access token."""
_TOKEN_BYTES = 8 * 1024
_LEEWAY = 30
"""Seconds by which clocks may differ, when a token begins; it ends when it says."""
_REMEMBERED = 10_000
_PRINCIPAL = 64
"""Characters of a principal (`credentials`)."""
_ISSUER = 36
"""Characters of an issuer that is spelled out in it."""


class Verifier:
    """The SDK's `TokenVerifier`: tokens of one issuer, for one audience."""

    def __init__(self, issuer: str, audience: str, keys: Keys) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys
        self._known: dict[bytes, AccessToken] = {}
        keys.changed = self._known.clear  # what was signed by a key that is withdrawn is good no more

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token says; None for one that is not good, whatever is wrong. Raises Unavailable."""
        if len(token) > _TOKEN_BYTES or not token.isascii():
            return None
        digest = hashlib.sha256(token.encode()).digest()
        found = self._known.get(digest)
        if found is None:
            found = await self._read(token)
            if found is None:
                return None
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[digest] = found
        return found if (found.expires_at or 0) > time.time() else None

    async def _read(self, token: str) -> AccessToken | None:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or not _is_access_token(header):
            return None
        key = await self._keys.find(kid, algorithm)
        if key is None:
            return None
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY,
                options={"require": ["iss", "aud", "sub", "exp", "iat"]},
            )
            return self._said(token, claims)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None

    def _said(self, token: str, claims: Mapping[str, Any]) -> AccessToken | None:
        subject, scope = claims["sub"], claims.get("scope", "")
        client = claims.get("client_id", "")
        if not isinstance(subject, str) or not subject or not isinstance(scope, str) or not isinstance(client, str):
            return None
        return AccessToken(
            token=token,
            client_id=client,
            scopes=scope.split(),
            expires_at=int(claims["exp"]),
            resource=self._audience,
            subject=subject,
            claims={"iss": self._issuer},
        )


def _is_access_token(header: Mapping[str, Any]) -> bool:
    """Tell whether a token is of the kind that counts, by what it says of itself."""
    kind = header.get("typ")
    return (
        header["alg"] in ALGORITHMS
        and isinstance(kind, str)
        and kind.lower() in _TYPES
        and "crit" not in header  # RFC 7515 section 4.1.11: it must be understood
        and isinstance(header.get("kid"), str | None)
    )


class OAuthDesk:
    """Tokens of ours first, which are known by how they begin; what does not begin so is for the verifier.

    `now` is the time in seconds since 1970 UTC.
    """

    def __init__(self, own: TokenDesk, issuer: str, verifier: TokenVerifier, now: Callable[[], float]) -> None:
        self._own = own
        self._issuer = issuer
        self._verifier = verifier
        self._now = now

    async def visitor(self, token: Callable[[], str]) -> Visitor | None:
        """See `TokenDesk.visitor`. Raises Refused(403) for a token that allows nothing here, (503) without keys."""
        secret = token()
        if secret.startswith(TOKEN_PREFIX):
            return await self._own.visitor(lambda: secret)
        try:
            found = await self._verifier.verify_token(secret)
        except Unavailable:
            problem = "The authorization server's keys cannot be had: the token is neither good nor bad. Try again."
            raise Refused(503, problem, {"retry-after": "10"}) from None
        if found is None:
            return None
        scopes = frozenset(SCOPES[scope] for scope in found.scopes if scope in SCOPES)
        if not scopes:
            wanted = " ".join(SCOPES)
            raise Refused(
                403,
                f"The token allows nothing here. Ask for one of these scopes: {wanted}.",
                {"www-authenticate": f'Bearer realm="mcp-mailbox", error="insufficient_scope", scope="{wanted}"'},
            )
        credential = _credential(self._issuer, found, scopes)
        ends = found.expires_at or 0
        return Visitor(credential, lambda: max(0.0, ends - self._now()))

    def on_revoked(self, hear: Callable[[str], None]) -> None:
        """See `TokenDesk.on_revoked`; of others' tokens nothing is heard, they end in time."""
        self._own.on_revoked(hear)


def _credential(issuer: str, token: AccessToken, scopes: frozenset[Scope]) -> Credential:
    """Return what a token stands for. The next one of the same subject, client and scopes is the same credential."""
    subject = token.subject or ""
    same = json.dumps([issuer, subject, token.client_id, sorted(scopes)]).encode()
    client = "".join(filter(str.isprintable, token.client_id))[:40]
    return Credential(
        id=f"o-{hashlib.sha256(same).hexdigest()[:16]}",
        name=f"oauth {client}".strip(),
        principal=principal_of(issuer, subject),
        created_at=0,
        scopes=scopes,
        expires_at=(token.expires_at or 0) * 1000,
    )


def principal_of(issuer: str, subject: str) -> str:
    """Return the principal of an issuer's subject: `ISSUER#SUBJECT`; what is long or odd as a hash, behind a `~`.

    An issuer has no `#`, so two of them never mean the same.
    """
    known = issuer if len(issuer) <= _ISSUER else f"oauth~{_short(issuer)}"
    spelled = f"{known}#{subject}"
    if len(spelled) <= _PRINCIPAL and spelled.isprintable() and not subject.startswith("~"):
        return spelled
    return f"{known}#~{_short(subject)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
