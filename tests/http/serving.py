"""The application over HTTP in the test's own process."""

from __future__ import annotations

from mcp.server.lowlevel import Server

from mcp_mailbox.fronts.http.app import App
from mcp_mailbox.fronts.http.desk import OpenDesk
from mcp_mailbox.fronts.http.gate import Gate
from mcp_mailbox.fronts.http.stream import OpenStreams
from mcp_mailbox.fronts.mcp.client import Client
from mcp_mailbox.fronts.mcp.http.clients import Clients
from mcp_mailbox.fronts.mcp.http.room import PATH, McpRoom
from mcp_mailbox.fronts.verbs import Here
from mcp_mailbox.postoffice import PostOffice


def open_app(server: Server[Client], office: PostOffice, port: int) -> App:
    """MCP alone, open to everybody."""
    streams = OpenStreams()
    rooms = {PATH: McpRoom(server, Clients(Here(office), "default"), streams)}
    return App(rooms, OpenDesk("local"), Gate(port), streams, office.limits)
