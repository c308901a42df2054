"""The keys of an authorization server: fetched from the one place that was configured, kept, fetched again in time.

Against requests that are led astray (SSRF): nothing in a token says where keys are (`jku`, `x5u`, `jwk` are not read);
what the issuer's own metadata says counts only within the issuer's origin; no redirect is followed, no proxy is asked,
and an answer that is large or slow is none. A token with a key that is not known has them fetched anew at most once a
minute, whoever sends how many.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import jwt

logger = logging.getLogger(__name__)

ANSWER_BYTES = 256 * 1024
"""Bytes of an answer: a key set of a hundred keys is a fifth of that."""
SECONDS = 5.0
"""For one answer, all of it."""
UNKNOWN_EVERY = 60.0
"""Seconds between two fetches that were for the sake of an unknown key."""
RETRY = 10.0
"""Seconds after which keys that could not be had are asked for again."""
FRESH = 3600.0
"""Seconds after which keys are fetched again, so that one that was withdrawn is."""
STALE = 24 * 3600.0
"""Seconds after which keys are good for nothing, although no others can be had."""
_RSA_BITS = 2048
_KEYS = 100
ALGORITHMS: Mapping[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Which signatures count, and of which kind of key each is: no `none`, and nothing that a public key could make."""


class Unavailable(Exception):  # noqa: N818 - nobody's mistake here
    """No keys can be had, so that no token can be judged."""


class Keys:
    """The keys of `issuer`, which are at `url`, or where its metadata says (RFC 8414, OpenID Connect Discovery)."""

    def __init__(self, issuer: str, url: str | None, now: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._url = url
        self._now = now
        self._keys: Sequence[Mapping[str, Any]] = ()
        self._fetched: float | None = None
        self._tried: float | None = None
        self._looked: float | None = None
        """When they were last fetched for an unknown key."""
        self._turn = anyio.Lock()
        self.changed: Callable[[], None] = lambda: None
        """Is called when they are others than before."""

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key of that id, or the only one that there is when a token names none. Raises Unavailable."""
        if self._older_than(FRESH):
            await self._fetch_once(self._fetched, due=self._tried is None or self._now() - self._tried >= RETRY)
        if self._older_than(STALE):
            raise Unavailable
        found = self._match(kid, algorithm)
        if found is None and (self._looked is None or self._now() - self._looked >= UNKNOWN_EVERY):
            self._looked = self._now()
            await self._fetch_once(self._fetched, due=True)
            found = self._match(kid, algorithm)
        return found

    def _older_than(self, seconds: float) -> bool:
        return self._fetched is None or self._now() - self._fetched >= seconds

    async def _fetch_once(self, before: float | None, *, due: bool) -> None:
        """Fetch them, unless somebody has done so since `before`."""
        if not due and not self._turn.locked():
            return
        async with self._turn:
            if self._fetched != before or not due:
                return
            self._tried = self._now()
            try:
                found = await anyio.to_thread.run_sync(self._load, abandon_on_cancel=True)
            except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
                logger.warning("the keys of %s cannot be fetched: %s", self._issuer, error)
                return
            self._fetched = self._now()
            if found != self._keys:
                self._keys = found
                self.changed()
                logger.info("%d keys of %s", len(found), self._issuer)

    def _load(self) -> Sequence[Mapping[str, Any]]:
        url = self._url or self._discovered()
        keys = _get(url).get("keys")
        if not isinstance(keys, list):
            raise ValueError(f"{url} has no keys")  # noqa: TRY004 - of what came, not of ours
        return [key for key in keys[:_KEYS] if isinstance(key, dict) and key.get("use", "sig") == "sig"]

    def _discovered(self) -> str:
        """Return where the issuer's metadata says that its keys are: a place of its own. Raises ValueError, OSError."""
        parts = urlsplit(self._issuer)
        origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        places = (
            f"{origin}/.well-known/oauth-authorization-server{path}",
            f"{origin}{path}/.well-known/openid-configuration",
        )
        said: Mapping[str, Any] = {}
        for place in places:
            with suppress(ValueError):
                said = _get(place)
                break
        url = said.get("jwks_uri")
        if said.get("issuer") != self._issuer or not isinstance(url, str):
            raise ValueError("its metadata is not to be had, or another issuer's; --oauth-jwks says where the keys are")
        if not url.startswith(f"{origin}/"):
            raise ValueError(f"its keys are at {url[:100]!a}, another origin; --oauth-jwks confirms that")
        return url

    def _match(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        kind, curve = ALGORITHMS[algorithm]
        fitting = [
            key
            for key in self._keys
            if key.get("kty") == kind
            and (curve is None or key.get("crv") == curve)
            and key.get("alg", algorithm) == algorithm
            and (kid is None or key.get("kid") == kid)
        ]
        if len(fitting) != 1:
            return None
        try:
            made = jwt.PyJWK(dict(fitting[0]), algorithm)
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return made if kind != "RSA" or made.key.key_size >= _RSA_BITS else None


def _get(url: str) -> Mapping[str, Any]:
    """Return the JSON object that is there. Raises ValueError for anything else, OSError, HTTPException."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            host, parts.port, timeout=SECONDS, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=SECONDS)
    late = False

    def cut() -> None:
        nonlocal late
        late = True
        with suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    # A time-out of the socket is one for each step, and an answer may come a byte at a time.
    limit = threading.Timer(SECONDS, cut)
    limit.daemon = True
    limit.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"Accept": "application/json", "User-Agent": "mcp-mailbox"})
        # Closed by itself: of a server that ends the connection, the connection does not know its answer any more.
        with connection.getresponse() as answer:
            body = answer.read(ANSWER_BYTES + 1)
    finally:
        limit.cancel()
        connection.close()
    if late:
        raise TimeoutError(f"{url} did not answer in time")
    if answer.status != 200:  # noqa: PLR2004
        raise ValueError(f"{url} answered {answer.status}")
    if len(body) > ANSWER_BYTES:
        raise ValueError(f"{url} answered more than {ANSWER_BYTES:,} bytes")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError(f"{url} is no JSON object")  # noqa: TRY004 - of what came, not of ours
    return found
