"""One HTTP request of somebody who was let in: its head, for whom it speaks, and where the answer goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from mcp_mailbox.fronts.http.desk import Visitor
from mcp_mailbox.fronts.http.gate import Head
from mcp_mailbox.fronts.http.stream import Headers, Hold, Receive, Send, Stream, reply


@dataclass(frozen=True, slots=True)
class Visit:
    """The request."""

    head: Head
    visitor: Visitor
    key: str
    """Names it for good: no other request of this store has the same."""
    receive: Receive
    send: Send
    connection: Hold

    def stream(self, headers: Headers | None = None) -> Stream:
        """Return the answer that is to be written; it ends with the credential."""
        who = self.visitor
        until = anyio.current_time() + who.left()
        return Stream(self.send, headers, connection=self.connection, owner=who.id, good=who.good, until=until)

    async def reply(self, status: int) -> None:
        """Answer with a status alone."""
        await reply(self.send, status, b"")


class Room(Protocol):
    """What is served behind one path."""

    async def serve(self, visit: Visit) -> None:
        """Serve one request. Raises gate.Refused and body.ClientGone."""

    def leave(self) -> None:
        """Let what waits answer: the post office stops."""

    def close(self) -> None:
        """Forget what was kept from one request to the next."""

    def ended(self, credential: str) -> None:
        """Forget what was kept for a credential that is not good any more."""

    def status(self) -> dict[str, Any]:
        """Say how things stand."""


class Porch(Protocol):
    """What is served behind one path to those who have no token yet."""

    async def serve(self, head: Head, client: str, receive: Receive, send: Send) -> None:
        """Serve one request that comes from that address. Raises gate.Refused and body.ClientGone."""
