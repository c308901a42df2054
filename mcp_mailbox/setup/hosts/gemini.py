"""Gemini CLI: `~/.gemini/settings.json`, and `.gemini/settings.json` in projects.

It reads comments and no trailing commas (0.61.0). `gemini mcp add` twice at project scope erased the first entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcp_mailbox.setup.formats import Json
from mcp_mailbox.setup.host import TOKEN, Host, Scope, Server, Surroundings, Written, bearer, stdio
from mcp_mailbox.setup.jsonc import Dialect


def _files(where: Surroundings, scope: Scope) -> Sequence[Path]:
    home = where.directory("GEMINI_CLI_HOME")
    return [(home if scope is Scope.USER else where.project) / ".gemini/settings.json"]


def _is_here(where: Surroundings) -> bool:
    return where.has_program("gemini") or (where.directory("GEMINI_CLI_HOME") / ".gemini").is_dir()


def _write(server: Server) -> Written:
    if not server.url:
        return Written(stdio(server))
    return Written({"url": server.url, "type": "http", **bearer(server, f"${TOKEN}")})


HOST = Host(
    name="gemini",
    title="Gemini CLI",
    format=Json(Dialect.COMMENTS),
    servers=("mcpServers",),
    files=_files,
    is_here=_is_here,
    write=_write,
    documented="https://github.com/google-gemini/gemini-cli/blob/main/docs/tools/mcp-server.md",
    afterwards="in a folder that is not trusted it shows every server as disabled",
)
