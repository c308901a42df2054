"""A program in a terminal of its own, as a person would run it: a pseudo-terminal that is always read.

It is only ever ended by its id. Knows nothing of hosts or mail.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import threading
import time
from typing import TYPE_CHECKING, Self

from tests.hosts import processes

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_SIZE = struct.pack("HHHH", 50, 160, 0, 0)
_GRACE = 5.0
_IDLE = 0.05
"""Seconds of processor time within one: a program that draws a cursor, and waits."""


class Terminal:
    """A started program; leaving the context ends it. `log` gets what it draws."""

    def __init__(self, command: list[str], cwd: Path, environment: dict[str, str], log: Path) -> None:
        self._command = command
        self._cwd = cwd
        self._environment = environment
        self._log = log
        self.drawn = bytearray()

    def __enter__(self) -> Self:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(self._cwd)
                os.execve(self._command[0], self._command, self._environment)
            finally:
                os._exit(127)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, _SIZE)
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self._ended(0.0 if number == signal.SIGTERM else _GRACE):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)
        self._ended(_GRACE)
        self._reading.join(_GRACE)
        os.close(self._fd)
        self._log.write_bytes(bytes(self.drawn))

    def settles(self, within: float) -> bool:
        """Wait until it has started: for a second it, and what it started, compute next to nothing."""
        deadline = time.monotonic() + within
        spent = processes.computed(self.pid)
        while time.monotonic() < deadline:
            time.sleep(1)  # it is over that time
            before, spent = spent, processes.computed(self.pid)
            if spent - before <= _IDLE:
                return True
        return False

    def type(self, text: str) -> None:
        """Type it, then the return key a moment later: together they would be taken for something pasted."""
        os.write(self._fd, text.encode())
        time.sleep(0.3)  # a terminal gives no event for that
        os.write(self._fd, b"\r")

    def press(self, keys: bytes) -> None:
        """Send what keys send, and no more."""
        os.write(self._fd, keys)

    def _ended(self, within: float) -> bool:
        deadline = time.monotonic() + within
        while True:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                    if time.monotonic() >= deadline:
                        return False
                    time.sleep(0.02)
                    continue
            return True

    def _read(self) -> None:
        while True:
            try:
                select.select([self._fd], [], [])
                block = os.read(self._fd, 65536)
            except OSError:
                return  # its other end is closed
            if not block:
                return
            self.drawn += block
