"""How the one post office of a store is found, started, and replaced by a newer one.

Rules that the home directory is private, and the files in it that say where the post office is: its lock, its
endpoint, its token, its program. Refuses to know what is said once connected (`frames.py`), what a post office does
(`office.py`) and what a relay does with a connection (`relay.py`).

One store, one post office: whoever holds `office.lock` is it, and only the holder may remove or replace the socket.
The kernel drops the lock when its holder dies, however it dies, so nothing here takes a process id for a sign of life.
The one in the lock file is for people, and for `stop`, which ends an office that does not answer by it: only when the
kernel says that this process has the file open.

The relay imports this module before the host sees its first answer, so only what costs less than a millisecond is
imported: `_socket` and not `socket`, which pulls in `selectors` and `enum` (17 ms, more than the interpreter's start).
"""

# ruff: noqa: PTH101, PTH102, PTH103, PTH108, PTH112, PTH114, PTH110, PTH116, PTH118, PTH120, PTH121, PTH208, SIM105
# (pathlib would cost 8 ms, contextlib 3 ms)
from __future__ import annotations

import _socket
import errno
import fcntl
import os
import sys
import time

from . import __version__, files, frames, machine

TYPE_CHECKING = False  # type checkers take it for true; `typing` itself would cost 4 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

# What an office inherits of the environment of the host that happened to start it. It outlives that host and serves
# others, so nothing of one host's (tokens, sockets, proxies) may come along.
# PYTHONPATH, because a source checkout is found through it.
INHERITED = (
    "HOME", "PATH", "LANG", "TZ", "TMPDIR", "USER", "LOGNAME", "SYSTEMROOT", "VIRTUAL_ENV", "PYTHONPATH",
    machine.HOME_VARIABLE, *machine.OFFICE_SETTINGS,
)  # fmt: skip
# What speaks to the hub: of a machine that has none, MCP_MAILBOX_TOKEN is the token of its host for a server over HTTP.
INHERITED_BY_EDGES = (machine.HUB_TOKEN_VARIABLE, machine.INSECURE_VARIABLE, machine.PROXY_VARIABLE, "SSL_CERT_FILE")

UNREACHABLE_SECONDS = 10.0  # the lock is held, yet nobody answers
START_SECONDS = 30.0  # a started office does not come up
SPAWNS = 3  # starts of an office within one search
CLAIM_SECONDS = 0.5  # a relay that probes the lock holds it for microseconds
POLL_SECONDS = 0.015
SPARE_BYTES = 256 * 1024  # what a start writes that must be: the store's and the index's -shm, the endpoint
DISK_FULL = 74  # how an office ends that finds no room for its first file: its log has none, either. EX_IOERR
BACKLOG = 1024

_SOCKET_PATH_LIMIT = 100  # sun_path is 108 bytes on Linux, 104 on macOS, a final zero included
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_UNIX_SOCKETS = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPERM, errno.EINVAL, errno.ENOSYS)


class Refused(Exception):  # noqa: N818 - the word of the protocol: an office refuses, it does not err
    """No post office for this caller: `code` is for programs, `hint` says what to do next."""

    def __init__(self, code: str, hint: str) -> None:
        super().__init__(f"{code}: {hint}")
        self.code = code
        self.hint = hint


# ---------------------------------------------------------------- the home directory


def prepare_home(path: str) -> None:
    """Create the home directory for its owner alone, or make sure that it is that already."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        _make_private(path)
        found = os.stat(path)
    except OSError as error:
        raise _unusable(path, error) from error
    if not os.path.isdir(path):
        raise _unusable(path, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if found.st_uid != os.getuid():
        raise Refused(
            "home_unusable",
            f"{path} belongs to another user (uid {found.st_uid})."
            f" Set {machine.HOME_VARIABLE} to a directory of your own.",
        )
    if found.st_mode & 0o077:
        os.chmod(path, 0o700)


def _make_private(path: str) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # another relay was faster
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: str, error: OSError) -> Refused:
    return Refused(
        "home_unusable",
        f"{path}: {error.strerror}. Set {machine.HOME_VARIABLE} to a directory that you can write.",
    )


def _lock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def no_room(error: OSError) -> bool:
    """Tell whether it failed because the disk is full, or what one may have of it."""
    return error.errno in _NO_ROOM


def log_path(home_path: str) -> str:
    """Name the office's log; what an office prints before it has a log goes there too."""
    return os.path.join(home_path, "office.log")


def office_lives(home_path: str) -> bool:
    """Tell whether somebody holds the lock. A shared lock is taken and dropped; `claim` is patient with that."""
    try:
        descriptor = os.open(os.path.join(home_path, "office.lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- programs and their versions


def version_key(version: str) -> tuple[tuple[int, ...], bool, tuple[tuple[str, int], ...]]:
    """Order versions: numbers first, a pre-release (0.2.0rc1) before its release. No `re`, no `packaging`."""
    numbers: list[int] = []
    parts = version.partition("+")[0].split(".")
    rest = ""
    for index, part in enumerate(parts):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            numbers.append(int(digits))
        if digits != part:
            rest = ".".join([part[len(digits) :], *parts[index + 1 :]])
            break
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers), not rest or rest.startswith("post"), _counted(rest)


def _counted(rest: str) -> tuple[tuple[str, int], ...]:
    """Part words from the numbers behind them: as text, rc10 would come before rc2."""
    parts: list[tuple[str, int]] = []
    word = digits = ""
    for each in rest:
        if each in "0123456789":
            digits += each
        elif digits:
            parts.append((word, int(digits)))
            word, digits = each, ""
        else:
            word += each
    return (*parts, (word, int(digits or "0")))


def own_program() -> list[str]:
    """Name the command that runs this package as an office.

    -P keeps the working directory, which is some host's project, off the module path.
    """
    return [sys.executable, "-P", "-m", "mcp_mailbox", "office"]


def record_program(home_path: str, version: str, program: Sequence[str]) -> None:
    """Note the newest program that ran as this store's office. Only the lock's holder writes it."""
    path = os.path.join(home_path, "program")
    recorded = files.read(path).splitlines()
    if recorded and (version_key(recorded[0]) > version_key(version) or recorded == [version, *program]):
        return
    if program and not any("\n" in word for word in program):
        files.replace(path, "\n".join([version, *program]) + "\n")


def newest_program(home_path: str, version: str, program: Sequence[str]) -> list[str]:
    """Choose what to start: the recorded program when it is newer than `version` and still there."""
    recorded = files.read(os.path.join(home_path, "program")).splitlines()
    if len(recorded) > 1 and version_key(recorded[0]) > version_key(version) and os.access(recorded[1], os.X_OK):
        return recorded[1:]
    return list(program)


# ---------------------------------------------------------------- connecting


def connect(home_path: str) -> _socket.socket | None:
    """Connect to the store's office; None while there is none. The socket does not block."""
    kind, _, place = files.read(os.path.join(home_path, "office.endpoint")).strip().partition(" ")
    if kind == "unix":
        return _connect_unix(place)
    # A stale port may be anybody's by now, and the token would go to them: ask the lock first.
    if kind == "tcp" and office_lives(home_path):
        return _connect_tcp(int(place))
    return None


def _connect_unix(path: str) -> _socket.socket | None:
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    channel.setblocking(False)  # a stopped office with a full backlog would hold us for ever
    try:
        channel.connect(path)
    except OSError:
        channel.close()
        return None
    if peer_uid(channel) not in (None, os.getuid()):
        channel.close()
        return None
    return channel


def _connect_tcp(port: int) -> _socket.socket | None:
    channel = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    channel.settimeout(1)
    try:
        channel.connect(("127.0.0.1", port))
        channel.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    except OSError:
        channel.close()
        return None
    channel.setblocking(False)
    return channel


def peer_uid(channel: _socket.socket) -> int | None:
    """Ask the kernel who is at the other end; None where it cannot say (TCP, not Linux)."""
    if sys.platform != "linux" or channel.family != _socket.AF_UNIX:
        return None
    credentials = channel.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)  # pid, uid, gid
    return int.from_bytes(credentials[4:8], sys.byteorder)


def token(home_path: str) -> str:
    """Read what proves to an office on TCP that we may read its home; empty where sockets have owners."""
    if not files.read(os.path.join(home_path, "office.endpoint")).startswith("tcp "):
        return ""
    return files.read(os.path.join(home_path, "office.token")).strip()


class Search:
    """One search for the office, in steps that never block: connect, else start it, else wait for who starts it.

    `attempt` every POLL_SECONDS until it returns a connection; it raises Refused when there will be none.
    """

    def __init__(self, home_path: str, program: Sequence[str] | None = None, version: str = __version__) -> None:
        self.home = home_path
        self.program = list(program or own_program())
        self.version = version
        self._began = time.monotonic()
        self._held_since = 0.0  # when the lock was first seen held by somebody who does not answer
        self._start_lock = -1
        self._child = 0
        self._spawns = 0
        self._failed = False
        prepare_home(home_path)

    def attempt(self) -> _socket.socket | None:
        """Take one step."""
        channel = connect(self.home)
        if channel is not None:
            self.close()
            return channel
        if self._child:
            self._reap()
        if office_lives(self.home):
            self._wait_for_holder()
        else:
            self._held_since = 0.0
            try:
                self._start()
            except OSError as error:
                self.close()
                raise (full(self.home) if no_room(error) else error) from None
        return None

    def close(self) -> None:
        """Let others start the office."""
        if self._start_lock >= 0:
            os.close(self._start_lock)
            self._start_lock = -1
        for _ in range(20):  # it leaves as soon as it listens; leave no zombie, but never wait long for that
            if not self._child or _reaped(self._child) is not None:
                break
            time.sleep(0.002)
        self._child = 0

    def _wait_for_holder(self) -> None:
        now = time.monotonic()
        self._held_since = self._held_since or now
        if now - self._held_since > UNREACHABLE_SECONDS:
            self.close()
            raise unreachable(self.home)

    def _start(self) -> None:
        if time.monotonic() - self._began > START_SECONDS:
            self.close()
            raise self._no_start("It did not come up.")
        if self._child or not self._may_start():
            return
        if self._spawns >= SPAWNS:
            self.close()
            raise self._no_start("It ended before it could be reached.")
        self._spawns += 1
        # The recorded program may be broken; then the next try is our own, which runs at least this far. But one that
        # found somebody else in the place, who has left since for a newer one, is not broken.
        newest = newest_program(self.home, self.version, self.program)
        self._child = spawn(self.home, self.program if self._failed or self._spawns >= SPAWNS else newest)

    def _may_start(self) -> bool:
        """Of many relays that find no office, the one with this lock starts it."""
        if self._start_lock < 0:
            descriptor = files.open_private(os.path.join(self.home, "start.lock"), os.O_RDWR)
            if not _lock(descriptor, fcntl.LOCK_EX):
                os.close(descriptor)
                return False
            self._start_lock = descriptor
            # It may have come up between our look at the lock and this moment.
            return not office_lives(self.home)
        return True

    def _reap(self) -> None:
        """Look for the office's first process: it leaves once its second one listens, with 0, else it failed."""
        status = _reaped(self._child)
        if status is None:
            return
        self._child = 0
        self._failed = self._failed or status != 0
        if status == DISK_FULL:
            self.close()
            raise full(self.home)
        if status and self._spawns > 1:
            self.close()
            raise self._no_start(f"It ended with status {status}.")

    def _no_start(self, what: str) -> Refused:
        last = _read_tail(log_path(self.home))
        return Refused(
            "no_start",
            f"The post office of {self.home} does not start. {what} {last} See {log_path(self.home)}, then run"
            f" `{' '.join(self.program)}` by hand.",
        )


def reach(home_path: str, program: Sequence[str] | None = None) -> _socket.socket:
    """Connect, start the office if need be, and wait for it (for the command line)."""
    search = Search(home_path, program)
    while True:
        channel = search.attempt()
        if channel is not None:
            return channel
        time.sleep(POLL_SECONDS)


def ask(
    home_path: str,
    kind: bytes,
    words: str = "",
    seconds: float = 30.0,
    *,
    start: bool = False,
    told: Callable[[bytes], None] = lambda _: None,
    use: Callable[[bytes], None] = lambda _: None,
) -> bytes | None:
    """Put one question of the command line to the office; None when there is none and it is not to `start`.

    Raises Refused: `leaving` when it is on its way out, `unreachable` when it does not answer.
    `ask(home, frames.STATUS)` returns the status as JSON; `ask(home, frames.QUIT, "upgrade")` returns b"". What takes
    long is `told` how far it is, and `seconds` is the longest silence. Once the answer to a COMMAND has been put to
    `use` the office learns that; whatever that raises goes through, and then the office does not.
    """
    channel = reach(home_path) if start else connect(home_path)
    deadline = time.monotonic() + CLAIM_SECONDS
    while channel is None and office_lives(home_path):
        if time.monotonic() > deadline:
            raise _no_answer(home_path)
        time.sleep(POLL_SECONDS)  # it has the lock, and is about to listen
        channel = connect(home_path)
    if channel is None:
        return None
    fields = [word for word in (words.replace(" ", "-"), token(home_path)) if word]
    try:
        channel.settimeout(seconds)
        answer = _exchange(home_path, channel, frames.frame(kind, line=" ".join(fields).encode()), told)
        use(answer)
        if kind == frames.COMMAND:
            try:
                channel.sendall(frames.frame(frames.WRITTEN))
            except OSError:
                pass  # it ended meanwhile: whoever looks after leases takes them for unseen
    finally:
        channel.close()
    return answer


def _exchange(home_path: str, channel: _socket.socket, question: bytes, told: Callable[[bytes], None]) -> bytes:
    received = bytearray()
    _transfer(home_path, lambda: channel.sendall(question))
    while True:
        line, end, rest = received.partition(b"\n")
        if end and line[:1] == frames.PROGRESS:
            told(bytes(line[2:]))
            received = rest
            continue
        block = b"" if end else _transfer(home_path, lambda: channel.recv(65536))
        if not block:
            break
        received += block
    if not received.endswith(b"\n"):
        raise _no_answer(home_path)  # it was asked to leave before it looked, or before it was done
    if received[:1] == frames.REFUSE:
        code, _, hint = received[2:].decode("utf-8", "replace").strip().partition(" ")
        raise Refused(code, hint)
    return bytes(received[2:-1])


def _transfer(home_path: str, step: Callable[[], bytes | None]) -> bytes | None:
    """Take one step; what whoever is told raises is another matter."""
    try:
        return step()
    except OSError as error:
        raise _no_answer(home_path) from error


def stop(home_path: str, reason: str = "asked", seconds: float = 15.0) -> bool:
    """Stop the office and wait until it has gone; False when there was none.

    One that does not answer is killed, which loses nothing (the store survives a kill), but only when it is certain
    that the process in the lock file is the one that holds the lock: it may be a number of another container.
    """
    deadline = time.monotonic() + seconds
    killed = False
    if not office_lives(home_path):
        return False
    try:
        ask(home_path, frames.QUIT, reason, seconds / 3)
    except Refused as refused:
        if refused.code == "unreachable":
            killed = _kill_holder(home_path)
        if not killed and refused.code != "leaving":
            raise
    while office_lives(home_path):
        if time.monotonic() > deadline:
            if killed or not _kill_holder(home_path):
                raise unreachable(home_path)
            killed, deadline = True, deadline + seconds
        time.sleep(POLL_SECONDS)
    return True


def _kill_holder(home_path: str) -> bool:
    path = os.path.join(home_path, "office.lock")
    holder = files.read(path).strip()
    if not holder.isdigit():
        return False
    try:
        # Only Linux shows who has a file open; elsewhere people have to end the process themselves.
        links = [f"/proc/{holder}/fd/{name}" for name in os.listdir(f"/proc/{holder}/fd")]
        if not any(os.path.exists(link) and os.path.samefile(link, path) for link in links):
            return False
        os.kill(int(holder), 9)
    except OSError:
        return False
    return True


def _no_answer(home_path: str) -> Refused:
    """Tell one that is leaving, which removes its endpoint first, or has died, from one that says nothing."""
    if files.read(os.path.join(home_path, "office.endpoint")) and office_lives(home_path):
        return unreachable(home_path)
    return Refused(
        "leaving",
        f"The post office of {home_path} is leaving, which takes it a moment. Then a host's next call starts another"
        " one; ask again.",
    )


def unreachable(home_path: str) -> Refused:
    """Say that somebody has the store whom we cannot talk to. Never open the store a second time instead."""
    holder = files.read(os.path.join(home_path, "office.lock")).strip() or "unknown"
    return Refused(
        "unreachable",
        f"The post office of {home_path} is running (process {holder}) but does not answer. If that process is stuck,"
        f" run `mcp-mailbox stop`. If it runs in a container or on another machine, let that one serve as a hub"
        f" (`mcp-mailbox serve`) and set {machine.HOME_VARIABLE} to a directory of this machine's own.",
    )


def full(home_path: str) -> Refused:
    """Say that there is no room to start in."""
    return Refused(
        "store_full",
        f"The disk of {home_path} is full, and no post office can start. Free some space, then do the same again.",
    )


def _read_tail(path: str) -> str:
    """Return the log's last line that says something: a traceback ends with its reason."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        size = os.fstat(descriptor).st_size
        block = os.pread(descriptor, 2000, max(0, size - 2000))
    finally:
        os.close(descriptor)
    lines = [line.strip() for line in block.decode("utf-8", "replace").splitlines() if line.strip()]
    return f"Last line of its log: {lines[-1][:300]}." if lines else ""


# ---------------------------------------------------------------- starting


def spawn(home_path: str, program: Sequence[str]) -> int:
    """Start an office that owes its starter nothing: own session, no terminal, a clean environment."""
    log = log_path(home_path)
    os.close(files.open_private(log, os.O_WRONLY | os.O_APPEND))
    names = (*INHERITED, *INHERITED_BY_EDGES) if machine.has_hub(home_path) else INHERITED
    environment = {name: value for name, value in os.environ.items() if name in names or name.startswith("LC_")}
    environment[machine.HOME_VARIABLE] = home_path
    try:
        return os.posix_spawn(
            program[0],
            list(program),
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_APPEND, 0),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],  # a host may have blocked signals, and the office must hear its SIGTERM
            setsigdef=[1, 2, 15],  # SIGHUP, SIGINT, SIGTERM: `nohup`ped hosts hand them on ignored
        )
    except OSError as error:
        raise Refused("no_start", f"{program[0]}: {error.strerror}. Install mcp-mailbox again.") from error


def _reaped(child: int) -> int | None:
    try:
        pid, status = os.waitpid(child, os.WNOHANG)
    except ChildProcessError:
        return 0  # whoever embeds us ignores SIGCHLD
    return os.waitstatus_to_exitcode(status) if pid else None


# ---------------------------------------------------------------- being the office


class Claimed:
    """The place of the store's office: its lock and a socket that listens, both held until `release`."""

    def __init__(self, home_path: str, program: Sequence[str], lock: int) -> None:
        self.home = home_path
        self.program = list(program)
        self.lock = lock
        self.token = ""
        self.detached = False
        self.endpoint = ""
        self._unlink("spare")
        self.listener = self._listen()
        files.replace(os.path.join(home_path, "office.endpoint"), self.endpoint + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def detach(self) -> None:
        """Leave the starter's process tree. The parent ends here with 0, which tells the starter that we listen.

        To be called before the first thread, hence before the heavy imports.
        """
        if os.fork():
            os._exit(0)
        self.detached = True

    def sign(self) -> None:
        """Write the process id into the lock file: what `unreachable` shows and `stop` may have to kill."""
        os.ftruncate(self.lock, 0)
        try:
            os.pwrite(self.lock, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            if not no_room(error):  # it is for people, who do without it rather than without their mail
                raise

    def lay_aside(self) -> None:
        """Keep room for the next start, which gives it back first: on a full disk nobody could read without it."""
        try:
            descriptor = files.open_private(os.path.join(self.home, "spare"), os.O_WRONLY | os.O_TRUNC)
        except OSError:
            return
        try:
            os.write(descriptor, os.urandom(SPARE_BYTES))  # zeros would take no room where files are compressed
        except OSError:
            pass  # as much as there is
        finally:
            os.close(descriptor)

    def stop_listening(self) -> None:
        """Vanish from the file system first: who comes now waits for the successor."""
        if not self.endpoint:
            return
        if self._home_is_ours():
            self._unlink("office.endpoint")
            kind, _, path = self.endpoint.partition(" ")
            self._unlink(path if kind == "unix" else "office.token")
        self.endpoint = ""

    def release(self) -> None:
        """Let a successor in."""
        self.stop_listening()
        self.listener.close()
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def _home_is_ours(self) -> bool:
        """Somebody may have removed the home under us, and the one there now is another office's."""
        try:
            return os.path.samestat(os.stat(os.path.join(self.home, "office.lock")), os.fstat(self.lock))
        except OSError:
            return False

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(os.path.join(self.home, name))
        except FileNotFoundError:
            pass

    def _listen(self) -> _socket.socket:
        self._unlink("office.endpoint")  # what a killed office left behind
        if os.environ.get(machine.TRANSPORT_VARIABLE) != "tcp" and hasattr(_socket, "AF_UNIX"):
            try:
                return self._listen_unix(socket_path(self.home))
            except OSError as error:
                if error.errno not in _NO_UNIX_SOCKETS:
                    raise
        return self._listen_tcp()

    def _listen_unix(self, path: str) -> _socket.socket:
        self._unlink(path)
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        os.umask(0o177)
        try:
            listener.bind(path)  # born 0600: there is no moment at which another user could connect
        finally:
            os.umask(0o077)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self.endpoint = f"unix {path}"
        return listener

    def _listen_tcp(self) -> _socket.socket:
        self.token = os.urandom(32).hex()
        files.replace(os.path.join(self.home, "office.token"), self.token + "\n")
        listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", 0))
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self.endpoint = f"tcp {listener.getsockname()[1]}"
        return listener


def hold(home_path: str) -> int | None:
    """Take the lock of the store's office, so that there is none; None when there is one. Closing it lets others in."""
    prepare_home(home_path)
    lock = files.open_private(os.path.join(home_path, "office.lock"), os.O_RDWR)
    deadline = time.monotonic() + CLAIM_SECONDS
    while not _lock(lock, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            os.close(lock)
            return None
        time.sleep(0.005)
    return lock


def claim(home_path: str, program: Sequence[str] | None = None) -> Claimed | None:
    """Become the store's office; None when there is one. Listens at once, so that relays can queue up."""
    os.umask(0o077)
    lock = hold(home_path)
    if lock is None:
        return None
    try:
        return Claimed(home_path, program or own_program(), lock)
    except BaseException:
        os.close(lock)
        raise


def take_over(home_path: str, program: Sequence[str] | None = None, seconds: float = 15.0) -> Claimed:
    """Become the store's office in place of the one that is there. Its relays come to us; nothing is lost.

    Raises Refused when that one serves in the foreground: somebody started it by hand, and somebody must end it.
    """
    prepare_home(home_path)
    deadline = time.monotonic() + seconds
    while (place := claim(home_path, program)) is None:
        if time.monotonic() > deadline:
            raise unreachable(home_path)
        try:
            # Meanwhile it may have left, and a relay may have started another one.
            ask(home_path, frames.QUIT, frames.DRAIN, max(CLAIM_SECONDS, deadline - time.monotonic()))
        except Refused as refused:
            if refused.code not in ("unreachable", "leaving"):
                raise
            # One that is leaving has its lock until the last relay is seen off.
    return place


def leave_the_host() -> None:
    """Keep nothing of the host that started us: no descriptor, no directory, no terminal."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
    if os.getsid(0) != os.getpid():
        os.setsid()  # started by hand, as a process group's member


def socket_path(home_path: str) -> str:
    """Name the socket; a home with a long path gets a short, private place in /tmp."""
    path = os.path.join(home_path, "office.sock")
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        return path
    import _blake2  # noqa: PLC0415 - only for long paths; hashlib would cost 2 ms

    directory = f"/tmp/mcp-mailbox-{os.getuid()}"  # noqa: S108 - made private, its owner checked below
    _make_private(directory)
    found = os.lstat(directory)
    private = found.st_uid == os.getuid() and not found.st_mode & 0o077
    if not private or os.path.islink(directory) or not os.path.isdir(directory):
        raise Refused("home_unusable", f"{directory} is not private to you. Remove it, or choose a shorter home.")
    return f"{directory}/{_blake2.blake2b(os.fsencode(home_path), digest_size=12).hexdigest()}.sock"
