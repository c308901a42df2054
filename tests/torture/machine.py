"""One machine of a run: its home, what its programs are told, and the processes that run there.

Rules whose process is whose (by the home that its environment names, never by a name of a program). Refuses to know
what machines are to each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


class Machine:
    """A home and its environment."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.home = home
        self.environment: Mapping[str, str] = {**environment, "MCP_MAILBOX_HOME": str(home)}

    def office(self) -> int | None:
        """Return the pid of the post office, if there is one: the lock file names it."""
        try:
            pid = int((self.home / "office.lock").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if self.has(pid) else None

    def has(self, pid: int) -> bool:
        """Tell whether that process runs here: a number alone may be anybody's by now."""
        try:
            return f"MCP_MAILBOX_HOME={self.home}\0".encode() in (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            return False

    def processes(self) -> Iterator[int]:
        for directory in _PROC.glob("[0-9]*"):
            pid = int(directory.name)
            if pid != os.getpid() and self.has(pid):
                yield pid

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "mcp_mailbox", *words],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,  # what counts is what is left afterwards
        )

    def standing(self) -> dict[str, Any]:
        """Return what `status` says of an edge's hub; nothing when nobody is there to say it."""
        try:
            said = json.loads(self.command("status", "--json").stdout)
        except ValueError:
            return {}
        found: dict[str, Any] = said.get("hub") or {}
        return found
