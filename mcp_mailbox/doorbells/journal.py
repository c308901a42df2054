"""The log of rings: a file of JSON lines beside the store, bounded, for `mcp-mailbox doorbells`.

A file and not a table: it outlives a post office that is killed, is read without one, and costs a ring no transaction.
What a line says is what a doorbell says: names and numbers.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_mailbox import files

if TYPE_CHECKING:  # a person who only looks at the log does not wait for these
    from mcp_mailbox.addresses import Address
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
        self._append(line)

    def answered(self, mailbox: Address, rung_at: int, at: int) -> None:
        """Append when somebody looked after that ring."""
        self._append({"at": rung_at, "mailbox": str(mailbox), "answered_at": at})

    def _append(self, line: dict[str, Any]) -> None:
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
    """Return the last rings of the log, the newest last; `answered_at` says when somebody looked after one."""
    lines: list[str] = []
    for path in (home / (FILE + _OLDER), home / FILE):
        try:
            lines += path.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
    found = [each for line in lines if isinstance(each := _read(line), dict)]
    answers = {(each.get("mailbox"), each.get("at")): each for each in found if "answered_at" in each}
    rings = [each for each in found if "answered_at" not in each][-count:]
    for each in rings:
        answer = answers.get((each.get("mailbox"), each.get("at"))) if each.get("outcome") == "rung" else None
        if answer is not None:
            each["answered_at"] = answer["answered_at"]
    return rings


def _read(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None  # half of a line, when the disk was full
