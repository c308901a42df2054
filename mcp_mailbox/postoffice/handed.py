"""Files that a front of this machine hands in itself: copies that whoever attaches has put into a directory of ours.

So the post office opens no path that it is told: who attaches has read the file with its own rights, and only what it
could read is there. What stands there for ten minutes was left by somebody who has died, and goes away.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.postoffice.roots import File

LEFT = 600.0
"""Seconds after which what stands there is nobody's."""
_LOOKED = 60.0
"""Seconds for which pieces come without another look at all that stands there, which may be thousands."""
_NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN = os.O_RDONLY | _SAFE


@dataclass(frozen=True, slots=True)
class Handed:
    """A file that was handed in: what it is called, and under which name its copy stands here."""

    name: str
    copy: str


class Tray:
    """The directory. Blocks; any thread may call."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._look = 0.0
        """When to look again, as `time.monotonic` has it."""

    def place(self, *, piece: bool = False) -> Path:
        """Return where copies may be put, each under 32 hex digits. Raises Refusal(STORE_FULL).

        What was left goes away, now and then when it is only for a piece.
        """
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._directory.chmod(0o700)
            if not piece or time.monotonic() > self._look:
                self.clear_away()
        except OSError as error:
            hint = "Free some space, and see to its permissions."
            raise Refusal(Code.STORE_FULL, f"{self._directory}: {error.strerror}.", hint) from error
        return self._directory

    def open(self, handed: Handed) -> File:
        """Open a copy. Raises Refusal(NO_FILE) for what is none."""
        try:
            if not _NAME.fullmatch(handed.copy):
                raise FileNotFoundError
            descriptor = os.open(self._directory / handed.copy, _OPEN)
        except OSError:
            raise _gone(handed) from None
        found = os.fstat(descriptor)
        # A second name of a file, or somebody else's, is none that was copied here.
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.getuid():
            os.close(descriptor)
            raise _gone(handed)
        return File(handed.name, descriptor)

    def append(self, copy: str, offset: int, piece: bytes) -> None:
        """Write a piece of a copy, which begins anew at 0. Raises Refusal(STORE_FULL), (NO_FILE) for a gap."""
        self.place(piece=True)
        try:
            begin = os.O_CREAT | os.O_TRUNC if offset == 0 else 0
            descriptor = os.open(self._directory / copy, os.O_WRONLY | os.O_APPEND | _SAFE | begin, 0o600)
            try:
                if os.fstat(descriptor).st_size != offset:
                    raise _gone(Handed("It", copy))
                with open(descriptor, "ab", closefd=False) as file:
                    file.write(piece)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise _gone(Handed("It", copy)) from None
        except OSError as error:
            self.remove(copy)  # half of a piece: it begins anew
            hint = "Free some space, and see to its permissions."
            raise Refusal(Code.STORE_FULL, f"{self._directory}: {error.strerror}.", hint) from error

    def remove(self, copy: str) -> None:
        """Let go of a copy, if it is there."""
        with contextlib.suppress(OSError):
            (self._directory / copy).unlink()

    def clear_away(self) -> None:
        """Let go of what was left."""
        self._look = time.monotonic() + _LOOKED
        with contextlib.suppress(FileNotFoundError):
            for each in list(self._directory.iterdir()):
                with contextlib.suppress(OSError):
                    if time.time() - each.lstat().st_mtime > LEFT:
                        each.unlink()


def _gone(handed: Handed) -> Refusal:
    return Refusal(Code.NO_FILE, f"{handed.name!r} was not handed in.", "Attach it again.")
