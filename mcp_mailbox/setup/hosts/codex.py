"""Codex: `~/.codex/config.toml`, and `.codex/config.toml` in projects that it trusts.

`codex mcp add` knows neither `required` nor the time-outs, and writes CRLF anew as LF (seen with 0.169.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcp_mailbox.setup.formats import Toml, at
from mcp_mailbox.setup.host import (
    PLUGIN,
    TOKEN,
    TOOL_SECONDS,
    Host,
    Plugin,
    Scope,
    Server,
    Surroundings,
    Written,
    said,
    stdio,
)

_START_SECONDS = 30
"""The day's first host waits for the post office; by default Codex gives a server 10 s, and this one is required."""


def _files(where: Surroundings, scope: Scope) -> Sequence[Path]:
    home = where.directory("CODEX_HOME", ".codex")
    return [(home if scope is Scope.USER else where.project / ".codex") / "config.toml"]


def _is_here(where: Surroundings) -> bool:
    return where.has_program("codex") or where.directory("CODEX_HOME", ".codex").is_dir()


def _write(server: Server) -> Written:
    # Required: else the first turn may begin without our tools. 300 s would end a wait early.
    limits = {"required": True, "startup_timeout_sec": _START_SECONDS, "tool_timeout_sec": TOOL_SECONDS}
    if not server.url:
        return Written(stdio(server), limits)
    # A server that others run may be down: no reason for Codex not to start.
    token = {"bearer_token_env_var": TOKEN} if server.auth else {}
    return Written({"url": server.url, **token}, {"tool_timeout_sec": TOOL_SECONDS})


def _plugin(where: Surroundings) -> Plugin | None:
    [file] = _files(where, Scope.USER)
    found = at(said(file, Toml()), ("plugins", PLUGIN))
    if not isinstance(found, dict) or found.get("enabled") is False:
        return None
    mend = "Put it on the PATH that Codex is started with, or run `mcp-mailbox setup --host codex`."
    # Seen with 0.169.0: of two servers of one name, it starts the one of its file.
    return Plugin(file, f"codex plugin remove {PLUGIN}", mend, gives_way_to="mailbox")


HOST = Host(
    name="codex",
    title="Codex",
    format=Toml(),
    servers=("mcp_servers",),
    files=_files,
    is_here=_is_here,
    write=_write,
    documented="https://developers.openai.com/codex/mcp",
    afterwards="sessions that are open see it after a restart; of a project's file only in a project that Codex trusts",
    plugin=_plugin,
)
