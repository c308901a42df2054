"""How a relay rings its own host: by the host's socket or program, without ever waiting for it.

Rules what is written to whom, and how long it may take. Refuses to know whether to ring and what the line says: that
is the post office's. The relay's loop calls `advance` when a descriptor is ready or a time has come, until there is an
outcome. What rings a host (a token, a path) comes from the environment that the host gave the relay, and stays here.

Imported by a relay that is asked to ring, and not before.
"""

# ruff: noqa: PTH115, PTH118, PTH119
from __future__ import annotations

import _socket
import errno
import os
import select
import time

TYPE_CHECKING = False  # type checkers take it for true
if TYPE_CHECKING:
    from typing import Protocol

    class Ringing(Protocol):
        """A ring under way: `descriptor` to poll for `events` (-1: none), and `due`, when to go on anyway."""

        descriptor: int
        events: int
        due: float
        started: bool

        def advance(self) -> bytes | None:
            """Go on; return the outcome once there is one: `rung`, or `failed <reason>`."""

        def close(self) -> None:
            """Let go of everything, done or not."""


SECONDS = 2.0  # for a socket that is not taken
SPAWN_SECONDS = 8.0  # for a program that does not end
RETRY_SECONDS = 0.05
RUNG = b"rung"
_UNSAFE = ('"', "\\")


def claude(path: str, token: str, line: bytes) -> Ringing:
    """Ring Claude Code: `line` is the JSON of what a user might have typed."""
    if not token.isprintable() or any(character in token for character in _UNSAFE):
        return Failed(b"the host's token cannot be written")
    return Socket(path, b'{"type":"auth","token":"%b"}\n%b\n' % (token.encode(), line))


class Failed:
    """A ring that cannot even begin."""

    descriptor = -1
    events = 0
    due = 0.0
    started = False

    def __init__(self, reason: bytes) -> None:
        self.reason = reason

    def advance(self) -> bytes | None:
        """Tell why."""
        return b"failed " + self.reason

    def close(self) -> None:
        """Nothing is held."""


class Socket:
    """A few bytes for a Unix socket. Nothing is awaited in return: these sockets acknowledge nothing."""

    events = select.POLLOUT

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self.data = data
        self.channel: _socket.socket | None = None
        self.descriptor = -1
        self.started = False
        self.limit = time.monotonic() + SECONDS
        self.due = 0.0

    def advance(self) -> bytes | None:
        """Connect, then write what fits."""
        self.started = True
        self.due = min(self.limit, time.monotonic() + RETRY_SECONDS)
        try:
            if self.channel is None:
                self._connect()
            if self.channel is not None:
                self.data = self.data[self.channel.send(self.data) :]
        except BlockingIOError:
            pass  # not taken yet
        except OSError as error:
            return b"failed " + os.strerror(error.errno or errno.EIO).lower().encode()
        if not self.data:
            return RUNG
        return b"failed the host did not take it in time" if time.monotonic() >= self.limit else None

    def _connect(self) -> None:
        channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | getattr(_socket, "SOCK_CLOEXEC", 0))
        channel.setblocking(False)
        try:
            channel.connect(self.path)
        except OSError:
            channel.close()  # one whose queue is full (EAGAIN) never tells when it has room
            raise
        self.channel = channel
        self.descriptor = channel.fileno()

    def close(self) -> None:
        """Close it; what was written can still be read."""
        if self.channel is not None:
            self.channel.close()


def codex(line: bytes) -> Ringing:
    """Ring Codex: `line` is the thread and, behind a space, what to queue there."""
    thread, _, text = line.partition(b" ")
    program = _codex()
    if program is None:
        return Failed(b"no program codex is found")
    return Child([program, "queue", "--thread", thread.decode(), "--message", text.decode("utf-8", "replace")])


def _codex() -> str | None:
    """Find the program that started us, else the one that a shell would find."""
    try:
        parent = os.readlink(f"/proc/{os.getppid()}/exe")
    except OSError:
        parent = ""  # not Linux
    if os.path.basename(parent).startswith("codex") and os.access(parent, os.X_OK):
        return parent
    for directory in os.environ.get("PATH", "").split(":"):
        if directory and os.access(path := os.path.join(directory, "codex"), os.X_OK):
            return path
    return None


class Child:
    """A program that is started and left to end; whether it was heard is in its exit code."""

    events = select.POLLIN

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.pid = 0
        self.descriptor = -1
        self.started = False
        self.limit = time.monotonic() + SPAWN_SECONDS
        self.due = 0.0

    def advance(self) -> bytes | None:
        """Start it, then see whether it has ended."""
        self.started = True
        if not self.pid:
            try:
                self._start()
            except OSError as error:
                return b"failed " + os.strerror(error.errno or errno.EIO).lower().encode()
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if ended:
            self.pid = 0
            code = os.waitstatus_to_exitcode(status)
            return RUNG if code == 0 else b"failed codex queue ended with %d" % code
        if time.monotonic() >= self.limit:
            return b"failed codex queue did not end in time"
        # Where the system has no descriptor for a process, it is looked at now and then.
        self.due = self.limit if self.descriptor >= 0 else min(self.limit, time.monotonic() + RETRY_SECONDS)
        return None

    def _start(self) -> None:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            duplicates = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
            self.pid = os.posix_spawn(self.command[0], self.command, os.environ, file_actions=duplicates, setsid=True)
        finally:
            os.close(null)
        try:
            self.descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            self.descriptor = -1

    def close(self) -> None:
        """End what has not ended."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        if self.pid:
            try:
                os.kill(self.pid, 9)
                os.waitpid(self.pid, 0)
            except OSError:
                pass
