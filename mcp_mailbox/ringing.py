"""How a relay rings its own host: by the host's socket or program, without ever waiting for it.

Rules what is written to whom, and how long it may take. Refuses to know whether to ring and what the line says: that
is the post office's. The relay's loop calls `advance` when a descriptor is ready or a time has come, until there is an
outcome. What rings a host (a token, a path) comes from the environment that the host gave the relay, and stays here.

Imported by a relay that is asked to ring, and not before.
"""

# ruff: noqa: PTH115, PTH118, PTH119, PTH123, PTH208
from __future__ import annotations

import _socket
import errno
import os
import select
import time

from . import processes

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
ANSWER_SECONDS = 8.0  # for a host that is asked over HTTP
RETRY_SECONDS = 0.05
ANSWER_LIMIT = 1024 * 1024  # bytes of its answer
ANCESTORS = 8  # processes between a relay and its host: shells, launchers
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


def opencode(line: bytes) -> Ringing:
    """Ask OpenCode: `line` is the method, the path and, behind a space, the body of a request to its own server.

    The outcome is `rung <status> <body>`. Its server is found by who listens, not by what a setting or an argument
    says: an address that our host does not hold may be anybody's. So it is the nearest OpenCode that led to us, and
    the oldest port on loopback that this very process has open.
    """
    method, _, rest = line.partition(b" ")
    path, _, body = rest.partition(b" ")
    if method not in (b"GET", b"POST") or not path.startswith(b"/session"):
        return Failed(b"that is nothing to ask opencode")
    host = _opencode()
    if host == 0:
        return Failed(b"no process opencode has started this relay")
    try:
        place = _listens(host)
    except OSError:
        return Failed(b"this system does not tell which port opencode has open")
    if place is None:
        return Failed(b"opencode has no port open")
    return Question(place, method, path, body, _authorization())


def _opencode() -> int:
    """Return the id of the nearest process that led to this one and is OpenCode; 0 when none is."""
    said = os.environ.get("OPENCODE_PID", "")
    pid = os.getppid()
    for _ in range(ANCESTORS):
        if pid <= 1:
            break
        if str(pid) == said or processes.name_of(pid).startswith("opencode"):
            return pid
        pid = processes.parent_of(pid)
    return 0


def _listens(pid: int) -> tuple[int, str, int] | None:
    """Return family, address and port of the oldest socket that this process listens with and loopback reaches.

    Raises OSError where that cannot be seen: not on Linux, or not by us.
    """
    held = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            held.add(target[8:-1].encode())
    found = []
    for table, family, ends in _TABLES:
        for row in _read(f"/proc/{pid}/net/{table}").splitlines()[1:]:
            fields = row.split()
            if len(fields) > _INODE and fields[3] == b"0A" and fields[_INODE] in held:  # LISTEN
                address, _, port = fields[1].partition(b":")
                if address in ends:
                    found.append((int(fields[_INODE]), family, ends[address], int(port, 16)))
    return min(found)[1:] if found else None


# How /proc/net writes the addresses that loopback reaches (a word at a time, as this machine orders its bytes).
_V4 = {b"0100007F": "127.0.0.1", b"00000000": "127.0.0.1", b"7F000001": "127.0.0.1"}
_V6 = {b"0" * 24 + b"01000000": "::1", b"0" * 31 + b"1": "::1", b"0" * 32: "::1"}
_INODE = 9
_TABLES = (("tcp", _socket.AF_INET, _V4), ("tcp6", _socket.AF_INET6, _V6))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _authorization() -> bytes:
    """Return the line that a server with a password asks for: it is in the environment that the host gave us."""
    password = os.environ.get("OPENCODE_SERVER_PASSWORD", "")
    if not password:
        return b""
    import binascii  # noqa: PLC0415 - only for who has a password

    user = os.environ.get("OPENCODE_SERVER_USERNAME") or "opencode"
    return b"Authorization: Basic " + binascii.b2a_base64(f"{user}:{password}".encode()).strip() + b"\r\n"


class Question:
    """One request over HTTP to a port of loopback, and its answer, read to the end of the connection."""

    def __init__(self, place: tuple[int, str, int], method: bytes, path: bytes, body: bytes, more: bytes) -> None:
        family, self.address, self.port = place
        name = f"[{self.address}]" if family == _socket.AF_INET6 else self.address
        head = b"%b %b HTTP/1.1\r\nHost: %b:%d\r\nConnection: close\r\n" % (method, path, name.encode(), self.port)
        if body:
            head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        self.data = head + more + b"\r\n" + body
        self.answer = bytearray()
        self.channel = _socket.socket(family, _socket.SOCK_STREAM | getattr(_socket, "SOCK_CLOEXEC", 0))
        self.channel.setblocking(False)
        self.descriptor = self.channel.fileno()
        self.events = select.POLLOUT
        self.started = False
        self.limit = self.due = time.monotonic() + ANSWER_SECONDS

    def advance(self) -> bytes | None:
        """Connect, write what fits, read what is there."""
        try:
            if not self.started:
                self.started = True
                self.channel.connect((self.address, self.port))
            if self.data:
                self.data = self.data[self.channel.send(self.data) :]
            if not self.data:
                self.events = select.POLLIN
                while block := self.channel.recv(65536):
                    self.answer += block
                    if len(self.answer) > ANSWER_LIMIT:
                        return b"failed the host said too much"
                return self._said()
        except BlockingIOError:
            pass  # not taken or not answered yet
        except OSError as error:
            return b"failed " + os.strerror(error.errno or errno.EIO).lower().encode()
        if (said := self._whole()) is not None:
            return said
        return b"failed the host did not answer in time" if time.monotonic() >= self.limit else None

    def _whole(self) -> bytes | None:
        """Return the outcome once as much has come as was announced: not everybody closes when asked to."""
        head, found, body = bytes(self.answer).partition(b"\r\n\r\n")
        lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        announced = int(lengths[0]) if lengths and lengths[0].strip().isdigit() else None
        if announced is None and head[9:12] == b"204":
            announced = 0
        return self._said() if found and announced is not None and len(body) >= announced else None

    def _said(self) -> bytes:
        head, found, body = bytes(self.answer).partition(b"\r\n\r\n")
        status = head[9:12]
        if not found or not head.startswith(b"HTTP/1.") or not status.isdigit():
            return b"failed what the host answered is no HTTP"
        return b"%b %b %b" % (RUNG, status, b" ".join(body.split(b"\n")))

    def close(self) -> None:
        """Close it."""
        self.channel.close()
