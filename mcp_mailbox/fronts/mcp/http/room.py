"""What is behind `/mcp`, in both eras.

2026-07-28 requests stand alone (`alone.py`); those of the handshake era belong to a session (`handshake.py`). Which it
is, and what is the same for both, is decided here.
"""

from __future__ import annotations

from typing import Any

from mcp.server.lowlevel import Server
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from mcp_mailbox.fronts.http import body, gate
from mcp_mailbox.fronts.http.gate import Refused
from mcp_mailbox.fronts.http.stream import EVENTS, JSON, OpenStreams
from mcp_mailbox.fronts.http.visit import Visit
from mcp_mailbox.fronts.mcp.client import Client
from mcp_mailbox.fronts.mcp.http import message
from mcp_mailbox.fronts.mcp.http.alone import Alone, is_alone
from mcp_mailbox.fronts.mcp.http.clients import Clients
from mcp_mailbox.fronts.mcp.http.handshake import SESSION_HEADER, Handshake

PATH = "/mcp"


class McpRoom:
    """See `Room`."""

    def __init__(self, server: Server[Client], clients: Clients, streams: OpenStreams) -> None:
        self._alone = Alone(server, clients, streams)
        self._handshake = Handshake(server, clients, streams)

    def leave(self) -> None:
        """See `Room`."""
        self._alone.leave()
        self._handshake.sessions.leave()

    def close(self) -> None:
        """See `Room`."""
        self._handshake.sessions.close()

    def ended(self, credential: str) -> None:
        """See `Room`."""
        self._handshake.sessions.end_all_of(credential)

    def status(self) -> dict[str, Any]:
        """See `Room`."""
        return {"sessions": len(self._handshake.sessions)}

    async def serve(self, visit: Visit) -> None:
        """See `Room`."""
        method = visit.head.method
        version = visit.head.get(MCP_PROTOCOL_VERSION_HEADER)
        alone = version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS
        if method == "POST":
            await self._post(visit, alone=alone)
        elif method == "GET" and not alone:
            await self._handshake.get(visit)
        elif method == "DELETE" and not alone:
            await self._handshake.delete(visit)
        else:
            raise Refused(405, f"{method} means nothing here.", {"allow": "POST" if alone else "GET, POST, DELETE"})

    async def _post(self, visit: Visit, *, alone: bool) -> None:
        head = visit.head
        gate.must_be(head, JSON)
        if not gate.accepts(head, (JSON, EVENTS)):
            raise Refused(406, f"Accept both {JSON} and {EVENTS}.")
        content = await body.read(head, visit.receive)
        posted = message.parse(content)
        if not visit.visitor.good():  # a body may take its time
            raise gate.unauthorized()
        if alone or (head.get(SESSION_HEADER) is None and is_alone(posted)):
            await self._alone.serve(visit, posted, content)
        else:
            await self._handshake.post(visit, posted, content)
