"""One HTTP request of somebody who was let in: its head, for whom it speaks, and where the answer goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
from mcp.shared.inbound import decode_header_value

from mcp_mailbox.fronts.mcp.client import Client, Request
from mcp_mailbox.fronts.mcp.http.desk import Visitor
from mcp_mailbox.fronts.mcp.http.gate import Head, Refused
from mcp_mailbox.fronts.mcp.http.stream import Headers, Receive, Send, Stream, reply

ADDRESS_HEADER = "mailbox-address"
SPACE_HEADER = "mailbox-space"


@dataclass(frozen=True, slots=True)
class Visit:
    """The request."""

    head: Head
    visitor: Visitor
    key: str
    """Names it for good: no other request of this store has the same."""
    receive: Receive
    send: Send
    connection: Mapping[str, Callable[..., Any]]
    """See `connection.EXTENSION`."""

    def request(self) -> Request:
        """Return it as the handlers know it."""
        return Request(self.key)

    async def client(self, session: str | None) -> Client:
        """Return the state of a session that begins, or of this request (None)."""
        address, space = self._header(ADDRESS_HEADER), self._header(SPACE_HEADER)
        return await self.visitor.client(address, space, session=session)

    def stream(self, headers: Headers | None = None) -> Stream:
        """Return the answer that is to be written; it ends with the credential."""
        who = self.visitor
        stream = Stream(self.send, headers, connection=self.connection, owner=who.id, good=who.good)
        stream.scope.deadline = anyio.current_time() + who.left()
        return stream

    async def reply(self, status: int) -> None:
        """Answer with a status alone."""
        await reply(self.send, status, b"")

    def _header(self, name: str) -> str | None:
        """Return a header that may be spelled as SEP-2243 spells what is not ASCII. Raises Refused(400)."""
        value = self.head.get(name)
        decoded = decode_header_value(value)
        if value is not None and decoded is None:
            raise Refused(400, f"The header {name} is no valid base64.")
        return decoded or None
