"""Copies of attachments for agents on this machine, each under its own name: a program goes by a file's ending.

The content itself is lent to nobody, for whoever could write to it would change everybody's mail. A copy may be
deleted at any time: it is made anew for whoever asks again, and goes away a day later.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from pathlib import Path

from mcp_mailbox.errors import Code, Refusal

DAY = 24 * 3600.0
_LOOK_EVERY = 3600.0


class Copies:
    """The copies of one store, in a directory of their own. Any thread may call."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._looked = -_LOOK_EVERY

    def put(self, of: str, name: str, content: bytes) -> Path:
        """Return where a copy lies that may be read. `of` tells one message from another.

        Raises Refusal(STORE_FULL) when there is no room.
        """
        self._clear_away()
        place = self._directory / hashlib.sha256(of.encode()).hexdigest()[:16]
        partial = place / f".{secrets.token_hex(8)}"
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o700)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(content)
            partial.replace(place / name)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            hint = "Read it as a resource, or free some space."
            raise Refusal(Code.STORE_FULL, f"No copy can be made: {error.strerror}.", hint) from error
        return place / name

    def _clear_away(self) -> None:
        """Remove copies that are a day old, now and then."""
        if time.monotonic() - self._looked < _LOOK_EVERY:
            return
        self._looked = time.monotonic()
        with contextlib.suppress(OSError):
            for place in list(self._directory.iterdir()):
                if time.time() - place.stat().st_mtime > DAY:
                    shutil.rmtree(place, ignore_errors=True)
