"""Who may come in, by the head of an HTTP request alone; a refusal says what to do instead, and nothing else.

Host and Origin keep web pages out (DNS rebinding, MCP basic/transports "Security Warning"), a bearer token (RFC 6750)
says for whom a request speaks. A token in an address is refused whatever it is: addresses end up in logs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from mcp_mailbox.budgets import moment
from mcp_mailbox.credentials import TOKEN_PREFIX
from mcp_mailbox.quotas import Over

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_TOKEN_PARAMETERS = (b"access_token=", b"token=", b"api_key=")
_LOGGED = 80
"""Characters of a header that the log shows, escaped: anybody may have written it."""
_REALM = 'Bearer realm="mcp-mailbox"'


class Refused(Exception):  # noqa: N818 - the client's mistake, answered
    """What a client gets instead of being served; `about` is for the log alone."""

    def __init__(
        self,
        status: int,
        problem: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        about: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.status = status
        self.about = f" ({about})" if about is not None else ""
        self.headers = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.body = json.dumps(body if body is not None else {"error": problem}).encode()


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request. Names are lower case; of headers that may stand once, a second one is refused."""

    method: str
    path: str
    values: Mapping[str, str]
    raw: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        """Return a header's value."""
        return self.values.get(name)


_SINGLE = frozenset({"host", "origin", "authorization", "content-type", "mcp-session-id", "mailbox-address"})


def read_head(scope: Mapping[str, Any]) -> Head:
    """Read the head of a request. Raises Refused for one that says the same twice."""
    raw = tuple((name.decode("latin-1"), _text(value)) for name, value in scope["headers"])
    values: dict[str, str] = {}
    for name, value in raw:
        if name in values and (name in _SINGLE or name.startswith("mcp-param-")):
            raise Refused(400, f"The header {name} appears more than once.")
        # RFC 9110 section 5.3: several lines are one list.
        values[name] = f"{values[name]}, {value}" if name in values else value
    return Head(scope["method"], scope["path"], values, raw)


def _text(value: bytes) -> str:
    try:
        return value.decode().strip(" \t")  # RFC 9110 section 5.5; not every parser does
    except UnicodeDecodeError:
        return value.decode("latin-1").strip(" \t")


@dataclass(frozen=True, slots=True)
class Gate:
    """Which names this server answers to, and which pages may call it."""

    port: int
    hosts: frozenset[str] = LOOPBACK_NAMES
    """Host names, at our own port."""
    public: frozenset[str] = field(default_factory=frozenset)
    """How else we are called, or a proxy in front of us: `name` (at our port, or the usual ones) or `name:port`."""
    origins: frozenset[str] = field(default_factory=frozenset)
    """Other origins whose pages may call us: `https://name`."""

    def foreign(self, scope: Mapping[str, Any]) -> str | None:
        """Return the other origin, one of those that may, whose page asks."""
        named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        return named[0] if len(named) == 1 and named[0] in self.origins else None

    def check(self, scope: Mapping[str, Any], head: Head) -> None:
        """Raise Refused for what a browser was tricked into, and for tokens where they do not belong."""
        if not self._is_ours(head.get("host")):
            about = f"Host {(head.get('host') or '')[:_LOGGED]!a}"
            raise Refused(421, "This Host is not served here; `serve --allow-host` adds a name.", about=about)
        origin = head.get("origin")
        if origin is not None and origin not in self.origins and not self._is_same(origin):
            problem = "Pages of this Origin may not call this server; `serve --allow-origin` lets them."
            raise Refused(403, problem, about=f"Origin {origin[:_LOGGED]!a}")
        target = unquote_to_bytes(scope.get("raw_path", b"") + b"?" + scope.get("query_string", b""))
        if TOKEN_PREFIX.encode() in target or any(name in target.lower() for name in _TOKEN_PARAMETERS):
            raise Refused(
                400, "A token does not belong in an address. Send it in the Authorization header, and rotate it."
            )

    def _is_ours(self, host: str | None) -> bool:
        if host is None:
            return False
        name, _, port = (
            host.lower().rpartition(":") if not host.endswith("]") and ":" in host else (host.lower(), "", "")
        )
        if host.lower() in self.public or (name in self.public and port in {"", "80", "443", str(self.port)}):
            return True
        return name in self.hosts and port == ("" if self.port in {80, 443} and not port else str(self.port))

    def _is_same(self, origin: str) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in {"http", "https"} and self._is_ours(parts.netloc)


def bearer(head: Head) -> str:
    """Return the token that a request brings (RFC 6750 section 2.1). Raises Refused(401) for none."""
    scheme, _, token = (head.get("authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        # Without an error code: RFC 6750 section 3.1.
        raise Refused(
            401, "A bearer token is required: `mcp-mailbox status` says how to send it.", {"www-authenticate": _REALM}
        )
    return token.strip()


def stopping() -> Refused:
    """Return the answer to what comes too late; it has had no effect, or none that is known."""
    return Refused(503, "The post office is stopping. Do the same again.", {"retry-after": "1"})


def over_rate(over: Over, seconds: int) -> Refused:
    """Return the answer to one request too many (RFC 6585 section 4); there is room for one in so many seconds."""
    told = {"error": over.code.value, "message": over.problem, "hint": over.hint, "retry_at": moment(over.again)}
    return Refused(429, over.problem, {"retry-after": str(seconds)}, told)


def unauthorized() -> Refused:
    """Return the one answer to a token that is unknown, has expired or was revoked."""
    description = "The token is unknown, has expired or was revoked."
    return Refused(
        401,
        description,
        {"www-authenticate": f'{_REALM}, error="invalid_token", error_description="{description}"'},
        {"error": "invalid_token", "error_description": description},
    )


def accepts(head: Head, kinds: Iterable[str]) -> bool:
    """Tell whether the client takes all of these media types (RFC 9110 section 12.5.1)."""
    accepted = {part.partition(";")[0].strip().lower() for part in (head.get("accept") or "").split(",")}
    return all(kind in accepted or "*/*" in accepted or f"{kind.partition('/')[0]}/*" in accepted for kind in kinds)


def must_be(head: Head, kind: str) -> None:
    """Raise Refused(415) for a body of another media type, or one that has to be unpacked first."""
    if (head.get("content-type") or "").partition(";")[0].strip().lower() != kind:
        raise Refused(415, f"The Content-Type must be {kind}.")
    if (head.get("content-encoding") or "identity").lower() != "identity":
        raise Refused(415, "Send the body as it is, without a Content-Encoding.", {"accept-encoding": "identity"})
