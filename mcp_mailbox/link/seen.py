"""What has reached its host while the hub does not know it: kept beside the outbox, for the life after a kill.

What was seen must not be handed to anybody else, and the relay, which knows it, may come back too late to say so, or
have forgotten it: it says its last 64 answers again. Appended and not synced: if the machine dies, so do its hosts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mcp_mailbox import files
from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.link.hub import wire_json

logger = logging.getLogger(__name__)

Json = dict[str, Any]


class Seen:
    """The file: a note a line (`wire.Note`, `reached`). Without a disk that takes it the hub is told all the same."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._untold = 0

    def load(self) -> list[Json]:
        """Return what an earlier life has left untold."""
        lines: list[bytes] = []
        with self._trouble(), suppress(FileNotFoundError):
            lines = self._path.read_bytes().splitlines()
        found: list[Json] = []
        for line in lines:
            with suppress(ValidationError):  # somebody was killed over it
                found.append(wire.Note.model_validate_json(line).model_dump(exclude_unset=True))
        self._untold = len(found)
        return found

    def add(self, note: Json) -> None:
        """Keep one until it is `told`."""
        self._untold += 1
        with self._trouble():
            descriptor = files.open_private(str(self._path), os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, wire_json(note) + b"\n")
            finally:
                os.close(descriptor)

    def told(self, count: int) -> None:
        """Let go of what the hub knows, once it knows all: the file is as long as what it has not heard of."""
        self._untold -= count
        if count and not self._untold:
            with self._trouble(), suppress(FileNotFoundError):
                os.truncate(self._path, 0)

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            logger.warning("what has reached a host cannot be kept: %s", error)
