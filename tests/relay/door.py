"""A host's socket, as Claude Code makes one: what it is told, nobody acknowledges."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

from .world import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "token-4711"


class Door:
    """A host's socket, as Claude Code makes one."""

    def __init__(self, path: Path, backlog: int = 8) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(backlog)
        self.socket.settimeout(DEADLINE)

    @property
    def environment(self) -> dict[str, str]:
        return {"CLAUDE_CODE_MESSAGING_SOCKET": str(self.path), "CLAUDE_CODE_MESSAGING_TOKEN": TOKEN}

    def heard(self) -> list[Any]:
        """What one caller said, line by line."""
        caller, _ = self.socket.accept()
        with closing(caller), caller.makefile() as lines:
            return [json.loads(line) for line in lines]

    def close(self) -> None:
        self.socket.close()
