"""A request's body, read within limits."""

from __future__ import annotations

from typing import Any

import anyio

from mcp_mailbox.fronts.http.gate import Head, Refused
from mcp_mailbox.fronts.http.stream import Receive

BODY_BYTES = 2 * 1024 * 1024
"""Bytes of one request; a message's body has at most 256 KiB, each of which JSON may spell with six."""
BODY_SECONDS = 15.0
"""Seconds in which a body must have come, and as many more as it takes at"""
BODY_RATE = 16 * 1024
"""bytes a second: a slow line is no attack."""

_CLOSE = {"connection": "close"}  # what is left of the body would be read as the next request


class ClientGone(Exception):  # noqa: N818
    """The client went before it had said what it wants."""


async def read(head: Head, receive: Receive, most: int = BODY_BYTES) -> bytes:
    """Return the body, of at most so many bytes. Raises Refused(413 | 408) and ClientGone."""
    declared = head.get("content-length")
    if declared is not None and declared.isdigit() and int(declared) > most:
        raise _too_long(most)
    body = bytearray()
    with anyio.move_on_after(BODY_SECONDS) as scope:
        began = scope.deadline
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body += message.get("body", b"")
            if len(body) > most:
                raise _too_long(most)
            scope.deadline = began + len(body) / BODY_RATE
            if not message.get("more_body", False):
                return bytes(body)
    raise Refused(408, f"The body did not come within {BODY_SECONDS:.0f} s, or too slowly.", _CLOSE)


def _too_long(most: int) -> Refused:
    return Refused(413, f"At most {most:,} bytes.", _CLOSE)


class Twice(Exception):  # noqa: N818
    """A name stands twice in one object, where one parser would take the first and another the last."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members, as a hook of `json.loads`. Raises Twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        for name, _ in pairs:
            if name not in found:
                raise Twice(name)
            del found[name]
    return found
