"""Cursor: `~/.cursor/mcp.json`, and `.cursor/mcp.json` in projects. By its documentation; not tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcp_mailbox.setup.formats import Json
from mcp_mailbox.setup.host import TOKEN, Host, Scope, Server, Surroundings, Written, bearer, stdio
from mcp_mailbox.setup.jsonc import Dialect


def _files(where: Surroundings, scope: Scope) -> Sequence[Path]:
    return [where.base(scope) / ".cursor/mcp.json"]


def _is_here(where: Surroundings) -> bool:
    return where.has_program("cursor") or (where.home / ".cursor").is_dir()


def _write(server: Server) -> Written:
    return Written({"url": server.url, **bearer(server, f"${{env:{TOKEN}}}")} if server.url else stdio(server))


HOST = Host(
    name="cursor",
    title="Cursor",
    format=Json(Dialect.JSONC),
    servers=("mcpServers",),
    files=_files,
    is_here=_is_here,
    write=_write,
    documented="https://cursor.com/docs/context/mcp",
    afterwards="switch the server on in Settings, MCP, if it is off",
)
