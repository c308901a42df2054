"""The lines that register this installation in a host, with its absolute path."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

_LAUNCHER = "mcp-mailbox"


def command() -> list[str]:
    """Return what a host must run: the launcher beside this interpreter, or else the interpreter with the module."""
    launcher = Path(sys.executable).with_name(_LAUNCHER)
    started = [str(launcher)] if launcher.exists() else [sys.executable, "-m", "mcp_mailbox"]
    return [*started, "stdio"]


def lines() -> list[str]:
    """Return one line for each host that has a command for it."""
    program = shlex.join(command())
    return [f"claude mcp add -s user mailbox -- {program}", f"codex mcp add mailbox -- {program}"]
