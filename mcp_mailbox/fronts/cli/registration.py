"""The lines that register this installation in a host, with its absolute path."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

REMOVE = "`claude mcp remove -s user mailbox`"
_LAUNCHER = "mcp-mailbox"
_UV_CACHED = ("archive-v", "environments-v")
"""Begin the directories of uv's cache that uvx runs programs from (seen with uv 0.13)."""


def launcher() -> list[str]:
    """Return what starts this program: the launcher beside its interpreter, or else that with the module.

    What uvx made for one run lies in uv's cache and may be gone tomorrow; then it is uvx that starts the program.
    """
    if any(part.startswith(_UV_CACHED) for part in Path(sys.prefix).parts) and (uv := os.environ.get("UV")):
        return [str(Path(uv).with_name("uvx")), *_source(), _LAUNCHER]
    beside = Path(sys.executable).with_name(_LAUNCHER)
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "mcp_mailbox"]


def _source() -> list[str]:
    """Return what tells uvx to take the package from where this one came: by its name it could be another's."""
    import json  # noqa: PLC0415 - both only under uvx
    from importlib import metadata  # noqa: PLC0415

    text = metadata.distribution(_LAUNCHER).read_text("direct_url.json")  # PEP 610: there unless from an index
    if text is None:
        return []
    origin = json.loads(text)
    version = origin.get("vcs_info")
    url = origin["url"]
    return ["--from", f"{version['vcs']}+{url}@{version['commit_id']}" if version else url]


def command() -> list[str]:
    """Return what a host must run."""
    return [*launcher(), "stdio"]


def token_line(home: str) -> str:
    """Return the line that puts the token of this machine's server into a shell's environment."""
    return f'export MCP_MAILBOX_TOKEN="$(cat {shlex.quote(str(Path(home) / "token"))})"'


def http_lines(url: str, home: str, *, auth: bool) -> list[str]:
    """Return the lines that register a server over HTTP. The token stays in its file and in a variable."""
    url = shlex.quote(url)  # shells take the brackets of an IPv6 address for a pattern
    # Claude Code speaks 2026-07-28 over HTTP, which has no sessions: a header says whose mailbox it is.
    address = "--header 'Mailbox-Address: ${MCP_MAILBOX_ADDRESS:-}'"
    if not auth:
        return [
            f"claude mcp add -s user -t http mailbox {url} {address}",
            f"codex mcp add mailbox --url {url}",
            f"gemini mcp add -s user -t http mailbox {url}",
        ]
    bearer = "--header 'Authorization: Bearer ${MCP_MAILBOX_TOKEN}'"
    return [
        token_line(home),
        f"claude mcp add -s user -t http mailbox {url} {bearer} {address}",
        f"codex mcp add mailbox --url {url} --bearer-token-env-var MCP_MAILBOX_TOKEN",
        f"gemini mcp add -s user -t http -H 'Authorization: Bearer $MCP_MAILBOX_TOKEN' mailbox {url}",
    ]


def lines() -> list[str]:
    """Return one line for each host that has a command for it."""
    program = shlex.join(command())
    return [f"claude mcp add -s user mailbox -- {program}", f"codex mcp add mailbox -- {program}"]
