"""OpenCode: `~/.config/opencode/opencode.json` or `.jsonc`, and `opencode.json` or `.jsonc` in projects.

It adds its `$schema` to a file without one (1.18.33), so a file that we make begins with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcp_mailbox.setup.formats import Json
from mcp_mailbox.setup.host import TOKEN, Host, Scope, Server, Surroundings, Written, bearer
from mcp_mailbox.setup.jsonc import Dialect

_TIMEOUT = 60_000
"""ms: it gives a server 5 s by default, less than a post office may take to start on a busy machine."""


def _files(where: Surroundings, scope: Scope) -> Sequence[Path]:
    if scope is Scope.USER:
        base = where.directory("XDG_CONFIG_HOME", ".config") / "opencode"
        return [base / "opencode.json", base / "opencode.jsonc", base / "config.json"]
    base = where.project
    return [base / name for name in ("opencode.json", "opencode.jsonc", ".opencode/opencode.json")]


def _is_here(where: Surroundings) -> bool:
    return where.has_program("opencode") or (where.directory("XDG_CONFIG_HOME", ".config") / "opencode").is_dir()


def _write(server: Server) -> Written:
    advised = {"enabled": True, "timeout": _TIMEOUT}
    if not server.url:
        env = {"environment": dict(server.env)} if server.env else {}
        return Written({"type": "local", "command": list(server.command), **env}, advised)
    needed = {"type": "remote", "url": server.url, "oauth": False, **bearer(server, f"{{env:{TOKEN}}}")}
    return Written(needed, advised)


HOST = Host(
    name="opencode",
    title="OpenCode",
    format=Json(Dialect.JSONC),
    servers=("mcp",),
    files=_files,
    is_here=_is_here,
    write=_write,
    documented="https://opencode.ai/docs/mcp-servers",
    fresh='{\n  "$schema": "https://opencode.ai/config.json"\n}\n',
)
