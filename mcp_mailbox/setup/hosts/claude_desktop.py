"""Claude Desktop: `claude_desktop_config.json`, for the user alone. By its documentation; not tried.

Servers over HTTP are its connectors, which are added in its settings and not in this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcp_mailbox.setup.formats import Json
from mcp_mailbox.setup.host import Host, Scope, Server, Surroundings, Written, stdio
from mcp_mailbox.setup.jsonc import Dialect


def _files(where: Surroundings, scope: Scope) -> Sequence[Path]:
    return [where.applications() / "Claude/claude_desktop_config.json"] if scope is Scope.USER else []


def _is_here(where: Surroundings) -> bool:
    return (where.applications() / "Claude").is_dir()


def _write(server: Server) -> Written | None:
    return None if server.url else Written(stdio(server))


HOST = Host(
    name="claude-desktop",
    title="Claude Desktop",
    format=Json(Dialect.JSON),
    servers=("mcpServers",),
    files=_files,
    is_here=_is_here,
    write=_write,
    documented="https://modelcontextprotocol.io/docs/develop/connect-local-servers",
    afterwards="quit it and start it again",
)
