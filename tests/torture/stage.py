"""Where a run happens: a home, a copy of the program, the hosts' processes, the server, and their end.

Rules environments (built from nothing), processes (ended by id, never by name) and where files lie. Refuses to know
what clients say and which faults there are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from tests.torture import plan
from tests.torture.clients import Spec
from tests.torture.history import Timeline
from tests.torture.web import await_server

ROOT = Path(__file__).resolve().parents[2]
_PROC = Path("/proc")
_LEAVE_SECONDS = 12.0
_IDLE_SECONDS = "20"


def copy_program(to: Path) -> Path:
    """Copy the package, so that a run sees one state of it whatever is edited meanwhile; return where to import it."""
    to.mkdir(parents=True)
    for name in ("mcp_mailbox", "prompts"):
        shutil.copytree(ROOT / name, to / name)
    return to


class Stage:
    """One run's directory and processes."""

    def __init__(self, directory: Path, program: Path, lease: float, seed: int) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.timeline = Timeline.start()
        self.hosts: dict[str, subprocess.Popen[bytes]] = {}
        self.specs: dict[str, Spec] = {}
        self.fell: list[str] = []
        """Hosts and servers that ended by themselves, which none should."""
        self.port = 0
        """Where HTTP is served; 0: nowhere."""
        self.served = 0
        """How often a server was started."""
        self._seed = seed
        self._server: subprocess.Popen[bytes] | None = None
        self._serve_at = 0.0
        self._struck: set[int] = set()
        for name in ("history", "relays"):
            (directory / name).mkdir()
        bare = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "LANG": "C.UTF-8"}
        self.environment: Mapping[str, str] = bare | {
            "PYTHONPATH": str(program),
            "MCP_MAILBOX_HOME": str(self.home),
            "MCP_MAILBOX_LEASE": str(lease),
            "MCP_MAILBOX_IDLE": _IDLE_SECONDS,
            # What is tortured here says more in a minute than the loop guard lets anybody say in an hour.
            "MCP_MAILBOX_THREAD_BUDGET": "0",
            "MCP_MAILBOX_PAIR_BUDGET": "0",
            "MCP_MAILBOX_HOPS": "0",
        }
        self._host_environment = bare | {"PYTHONPATH": str(ROOT)}

    # -- hosts

    def start(self, spec: Spec) -> None:
        self.specs[spec.name] = spec
        with (self.directory / "hosts.err").open("ab") as errors:
            self.hosts[spec.name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.torture.clients", spec.dump()],
                env=self._host_environment,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )

    def strike(self, name: str) -> int | None:
        """Return the pid of a host that is about to be killed on purpose."""
        process = self.hosts.get(name)
        if process is None or process.poll() is not None:
            return None
        self._struck.add(process.pid)
        return process.pid

    def ended(self) -> list[str]:
        """Return the hosts that have ended."""
        gone = [name for name, process in self.hosts.items() if process.poll() is not None]
        for name in gone:
            process = self.hosts.pop(name)
            if process.pid not in self._struck:
                self.fell.append(f"{name} (exit code {process.returncode})")
        return gone

    def relay(self, name: str) -> int | None:
        """Return the pid of that host's relay, if it is alive."""
        try:
            pid = int(self.specs[name].relay_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    def dismiss(self) -> None:
        """Ask all hosts to finish and leave; who does not is killed."""
        for process in self.hosts.values():
            self._struck.add(process.pid)
            process.terminate()
        deadline = time.monotonic() + _LEAVE_SECONDS
        while self.ended() or (self.hosts and time.monotonic() < deadline):
            self.keep_serving()  # they finish what they have begun
            time.sleep(0.01)
        for name, process in self.hosts.items():
            self.fell.append(f"{name} (did not leave)")
            process.kill()
            process.wait()
        self.hosts.clear()

    # -- HTTP

    def serve(self) -> None:
        """Begin to serve HTTP; `keep_serving` has to be called from then on."""
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        self.keep_serving()
        await_server(self.port, _LEAVE_SECONDS)

    def keep_serving(self) -> None:
        """Start a server when there is none: at once, or when relays have started a post office of their own."""
        if not self.port or (self._server is not None and self._server.poll() is None):
            return
        now = time.monotonic()
        if self._server is not None:
            if self._server.returncode != -signal.SIGKILL:
                self.fell.append(f"server {self.served} (exit code {self._server.returncode})")
            self._server = None
            self._serve_at = now + plan.choices(self._seed, "serve", self.served).choice((0.0, 0.2, 1.0))
        if now >= self._serve_at:
            self.served += 1
            with (self.directory / "serve.log").open("ab") as log:
                self._server = subprocess.Popen(
                    [sys.executable, "-P", "-m", "mcp_mailbox", "serve", "--port", str(self.port)],
                    env=dict(self.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    def token(self, name: str) -> str:
        """Make a token of the machine's own user."""
        return self._command("token", "create", name).stdout.strip()

    # -- the post office

    def office(self) -> int | None:
        """Return the pid of the post office, if there is one: the lock file names it."""
        try:
            pid = int((self.home / "office.lock").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    def stop_office(self) -> None:
        self.port = 0
        self._command("stop")
        if self._server is not None:
            self._server.wait(_LEAVE_SECONDS)

    def _command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "mcp_mailbox", *words],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,  # what counts is what is left afterwards
        )

    # -- all of them

    def _is_ours(self, pid: int) -> bool:
        """Tell whether that process runs in this home: a number alone may be anybody's by now."""
        try:
            return str(self.home).encode() in (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            return False

    def _ours(self) -> Iterator[int]:
        for directory in _PROC.glob("[0-9]*"):
            pid = int(directory.name)
            if pid != os.getpid() and self._is_ours(pid):
                yield pid

    def end(self) -> list[int]:
        """End what is left; return what had to be ended by force."""
        for process in self.hosts.values():
            process.kill()
            process.wait()
        self.stop_office()
        deadline = time.monotonic() + _LEAVE_SECONDS
        while (left := list(self._ours())) and time.monotonic() < deadline:
            time.sleep(0.05)  # nothing tells of the end of a process that is not our child
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left


def send_signal(pids: Sequence[int], number: int) -> list[int]:
    """Signal the processes, as close together as can be; return those that were there."""
    hit = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            hit.append(pid)
    return hit
