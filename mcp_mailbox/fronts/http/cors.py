"""What a browser has to hear before it lets a page of another origin call us and read what we answer (Fetch, "CORS").

Only what `gate.py` lets in is told so. No credentials mode: a page sends its token itself, in a header; cookies and
client certificates of the browser's user never count here.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from mcp_mailbox.fronts.http.gate import Head
from mcp_mailbox.fronts.http.stream import Headers, Send

_METHODS = b"GET, POST, DELETE"
_SENT = (
    b"accept, authorization, content-type, last-event-id, mailbox-address, mailbox-space,"
    b" mcp-method, mcp-name, mcp-protocol-version, mcp-session-id"
)
_READ = b"mcp-session-id, retry-after, www-authenticate"
_REMEMBERED = b"7200"
"""Seconds; browsers remember for no longer."""

PREFLIGHT: Headers = [
    (b"access-control-allow-methods", _METHODS),
    (b"access-control-allow-headers", _SENT),  # by name: `*` does not cover Authorization
    (b"access-control-max-age", _REMEMBERED),
]


def is_preflight(head: Head) -> bool:
    """Tell whether a browser asks on a page's behalf; it sends no token then."""
    return head.method == "OPTIONS" and head.get("access-control-request-method") is not None


def readable(send: Send, origin: str) -> Send:
    """Return what sends answers that pages of that origin may read."""
    about = [
        (b"access-control-allow-origin", origin.encode()),
        (b"access-control-expose-headers", _READ),
        (b"vary", b"Origin"),
    ]

    async def tell(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *about]}
        await send(message)

    return tell
