"""VS Code: `mcp.json` of the user's profile, and `.vscode/mcp.json` in projects. By its documentation; not tried.

Variables of the environment are not put into headers (microsoft/vscode#336232), so it asks for the token once, and
keeps it in its own secret storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcp_mailbox.setup.formats import Json
from mcp_mailbox.setup.host import Host, Scope, Server, Surroundings, Written, bearer, stdio
from mcp_mailbox.setup.jsonc import Dialect

_INPUT = {"type": "promptString", "id": "mailbox-token", "description": "Mailbox token", "password": True}


def _files(where: Surroundings, scope: Scope) -> Sequence[Path]:
    if scope is Scope.PROJECT:
        return [where.project / ".vscode/mcp.json"]
    return [where.applications() / "Code/User/mcp.json"]


def _is_here(where: Surroundings) -> bool:
    return where.has_program("code") or (where.applications() / "Code/User").is_dir()


def _write(server: Server) -> Written:
    if not server.url:
        return Written({"type": "stdio", **stdio(server)})
    needed = {"type": "http", "url": server.url, **bearer(server, f"${{input:{_INPUT['id']}}}")}
    return Written(needed, beside=(("inputs",), _INPUT) if server.auth else None)


HOST = Host(
    name="vscode",
    title="VS Code",
    format=Json(Dialect.JSONC),
    servers=("servers",),
    files=_files,
    is_here=_is_here,
    write=_write,
    documented="https://code.visualstudio.com/docs/agents/reference/mcp-configuration",
    afterwards="it asks whether to trust the server when it starts it first",
)
