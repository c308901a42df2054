"""The log of rings: a file of JSON lines beside the store, bounded, for `mcp-mailbox doorbells`.

A file and not a table: it outlives a post office that is killed, is read without one, and costs a ring no transaction.
What a line says is what a doorbell says: names and numbers.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from mcp_mailbox import files
from mcp_mailbox.doorbell import Ring

logger = logging.getLogger(__name__)

FILE = "doorbells.log"
LIMIT = 256 * 1024
"""Bytes after which it begins anew; the one before is kept."""
_OLDER = ".1"


class Journal:
    """Writes the log in the directory of a store."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE
        self._failed = False

    def note(self, ring: Ring) -> None:
        """Append a line; what goes wrong is said once in the post office's own log."""
        line = {
            "at": ring.pointer.at,
            "mailbox": str(ring.pointer.mailbox),
            "kind": ring.kind,
            "outcome": ring.result.outcome.value,
            "reason": ring.result.reason,
            "messages": ring.pointer.count,
            "urgent": ring.pointer.urgent,
            "from": list(ring.pointer.names()),
            "by": ring.pointer.channels(),
        }
        try:
            descriptor = files.open_private(str(self._path), os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, json.dumps(line).encode() + b"\n")
                full = os.fstat(descriptor).st_size >= LIMIT
            finally:
                os.close(descriptor)
            if full:
                self._path.replace(self._path.with_name(FILE + _OLDER))
            self._failed = False
        except OSError as error:
            if not self._failed:
                logger.warning("rings are not logged: %s", error)
            self._failed = True


def last(home: Path, count: int) -> list[dict[str, Any]]:
    """Return the last lines of the log, the newest last."""
    lines: list[str] = []
    for path in (home / (FILE + _OLDER), home / FILE):
        try:
            lines += path.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
    return [found for line in lines[-count:] if isinstance(found := _read(line), dict)]


def _read(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None  # half of a line, when the disk was full
