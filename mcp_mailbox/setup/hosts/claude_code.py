"""Claude Code: `~/.claude.json`, and `.mcp.json` in projects.

It rewrites `~/.claude.json` often, whole, from what it read under a lock of its own: a directory `.claude.json.lock`.
Under the same lock our edit is as safe as `claude mcp add`, which does nothing else, yet writes the file's other
settings as well and needs its program (both seen with 2.1.332).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcp_mailbox.setup.formats import Json, at
from mcp_mailbox.setup.host import (
    PLUGIN,
    PLUGIN_PROGRAM,
    TOKEN,
    Host,
    Plugin,
    Scope,
    Server,
    Surroundings,
    Written,
    bearer,
    said,
    stdio,
)
from mcp_mailbox.setup.jsonc import Dialect

_JSON = Json(Dialect.JSON)
_LONGEST_CALL = 1_800_000
"""ms: it would end a call earlier over HTTP than our longest wait for it (25 minutes)."""


def _files(where: Surroundings, scope: Scope) -> Sequence[Path]:
    if scope is Scope.PROJECT:
        return [where.project / ".mcp.json"]
    return [where.directory("CLAUDE_CONFIG_DIR") / ".claude.json"]


def _is_here(where: Surroundings) -> bool:
    return where.has_program("claude") or _files(where, Scope.USER)[0].exists()


def _write(server: Server) -> Written:
    if not server.url:
        return Written({"type": "stdio", **stdio(server)})
    token = bearer(server, f"${{{TOKEN}}}").get("headers", {})
    # It speaks 2026-07-28 over HTTP, which has no sessions: a header says whose mailbox it is.
    headers = token | {"Mailbox-Address": "${MCP_MAILBOX_ADDRESS:-}"}
    return Written({"type": "http", "url": server.url, "headers": headers}, {"timeout": _LONGEST_CALL})


def _plugin(where: Surroundings) -> Plugin | None:
    """Find it in the settings, where 2.1.332 notes which plugins are on, and what their users chose for them."""
    user = where.directory("CLAUDE_CONFIG_DIR", ".claude") / "settings.json"
    chosen = at(said(user, _JSON), ("pluginConfigs", PLUGIN, "options", "program"))
    program = chosen if isinstance(chosen, str) else PLUGIN_PROGRAM
    for file in (user, *(where.project / ".claude" / name for name in ("settings.json", "settings.local.json"))):
        if at(said(file, _JSON), ("enabledPlugins", PLUGIN)) is True:
            mend = f"`claude plugin install {PLUGIN} --config program=PATH` sets its path."
            return Plugin(file, f"claude plugin uninstall {PLUGIN}", mend, program)
    return None


HOST = Host(
    name="claude",
    title="Claude Code",
    format=_JSON,
    servers=("mcpServers",),
    files=_files,
    is_here=_is_here,
    write=_write,
    documented="https://code.claude.com/docs/en/mcp",
    locked=True,
    afterwards="sessions that are open see it after /mcp or a restart",
    plugin=_plugin,
)
