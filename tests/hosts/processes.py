"""Runs a program to its end under a time limit, and finds what the proof has left running.

A process is only ever ended by its id. Knows nothing of hosts or mail.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_GRACE = 5.0
_PROC = Path("/proc")


class Process:
    """A started program whose output goes to a file; leaving the context ends it."""

    def __init__(self, command: list[str], cwd: Path, environment: dict[str, str], log: Path) -> None:
        self._command = command
        self._cwd = cwd
        self._environment = environment
        self._log = log

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C is for this command, not for the host
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._popen.poll() is None:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(_GRACE)
        self.kill()

    def ended(self, within: float) -> int | None:
        """The exit code, or None when it is still running."""
        try:
            return self._popen.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> int:
        """End it with signal 9, its children untouched: what a machine without memory does to a host."""
        if self._popen.poll() is None:
            self._popen.kill()
        return self._popen.wait()


def gone(mark: str, within: float) -> list[str]:
    """Wait until no process carries the mark in its environment or command; say which still do."""
    deadline = time.monotonic() + within
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)  # nothing tells of the end of a process that is not our child
    return list(left.values())


def end_all(mark: str, program: str = "") -> None:
    """End those that carry the mark; only those whose command names the program, if one is given."""
    for pid, command in _marked(mark).items():
        if program not in command:
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _marked(mark: str) -> dict[int, str]:
    """Processes by id; none where the system has no /proc, as on macOS."""
    found = {}
    for directory in _PROC.glob("[0-9]*"):
        pid = int(directory.name)
        with contextlib.suppress(OSError):
            command = (directory / "cmdline").read_bytes()
            if pid != os.getpid() and mark.encode() in command + (directory / "environ").read_bytes():
                found[pid] = command.replace(b"\0", b" ").decode(errors="replace").strip()[:120]
    return found


def computed(pid: int) -> float:
    """Return the seconds of processor time of a process and of what it has started and not outlived."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        below = [each for one in (_PROC / str(pid) / "task").glob("*/children") for each in one.read_text().split()]
    except OSError:
        return 0.0  # it has ended
    own = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(computed(int(each)) for each in below)
