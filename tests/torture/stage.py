"""Where a run happens: its machines, a copy of the program, the hosts' processes, the server, and their end.

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
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from tests.torture import plan
from tests.torture.clients import Over, Role, Spec
from tests.torture.history import Timeline
from tests.torture.links import Link
from tests.torture.machine import Machine
from tests.torture.web import await_server

ROOT = Path(__file__).resolve().parents[2]
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
        for name in ("history", "relays", "files"):
            (directory / name).mkdir()
        bare = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "LANG": "C.UTF-8"}
        self._settings = bare | {
            "PYTHONPATH": str(program),
            "MCP_MAILBOX_LEASE": str(lease),
            "MCP_MAILBOX_ATTACH": str(directory / "files"),
            "MCP_MAILBOX_IDLE": _IDLE_SECONDS,
            # What is tortured here says more in a minute than the loop guard lets anybody say in an hour.
            "MCP_MAILBOX_THREAD_BUDGET": "0",
            "MCP_MAILBOX_PAIR_BUDGET": "0",
            "MCP_MAILBOX_HOPS": "0",
        }
        self.hub = Machine(directory / "home", self._settings)
        """Where the mail is, also when there is no edge."""
        self.edge: Machine | None = None
        self.link: Link | None = None
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
        return pid if any(machine.has(pid) for machine in self.machines) else None

    def dismiss(self, role: Role) -> None:
        """Ask all hosts of that role to finish and leave; who does not is killed."""
        leaving = [name for name in self.hosts if self.specs[name].role == role]
        for name in leaving:
            self._struck.add(self.hosts[name].pid)
            self.hosts[name].terminate()
        # Over a link that has failed it may take a while until it is known that nothing is answered.
        deadline = time.monotonic() + _LEAVE_SECONDS * (2 if self.edge else 1)
        while any(self.hosts[name].poll() is None for name in leaving) and time.monotonic() < deadline:
            self.keep_serving()  # they finish what they have begun
            time.sleep(0.01)
        for name in leaving:
            process = self.hosts.pop(name)
            if process.poll() is None:
                self.fell.append(f"{name} (did not leave)")
                process.kill()
                process.wait()

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
            names = ("--allow-host", self.link.host) if self.link else ()
            with (self.directory / "serve.log").open("ab") as log:
                self._server = subprocess.Popen(
                    [sys.executable, "-P", "-m", "mcp_mailbox", "serve", "--port", str(self.port), *names],
                    env=dict(self.hub.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    def token(self, name: str) -> str:
        """Make a token of the machine's own user."""
        return self.hub.command("token", "create", name).stdout.strip()

    def serve_an_edge(self) -> None:
        """Begin to serve HTTP, and have another machine whose mail is kept by this one."""
        self.link = Link()
        self.serve()
        self.link.lead_to(self.port)
        hub = {"MCP_MAILBOX_HUB": self.link.url, "MCP_MAILBOX_TOKEN": self.token("edge")}
        sign = {"MCP_MAILBOX_SIGN": "on"} if self._seed % 2 else {}
        self.edge = Machine(self.directory / "edge", self._settings | hub | sign)

    # -- the machines

    @property
    def machines(self) -> Sequence[Machine]:
        """Return all there are, those first that need the others."""
        return [self.edge, self.hub] if self.edge else [self.hub]

    def environment(self, over: Over) -> Mapping[str, str]:
        """Return what a host's relay is told."""
        return self.edge.environment if self.edge and over == "edge" else self.hub.environment

    def office_of(self, over: Over) -> int | None:
        """Return the pid of the post office that a host asks."""
        return self.edge.office() if self.edge and over == "edge" else self.hub.office()

    def stop_offices(self) -> None:
        self.port = 0
        for machine in self.machines:
            machine.command("stop")
        if self._server is not None:
            self._server.wait(_LEAVE_SECONDS)
        if self.link is not None:
            self.link.end()

    # -- all of them

    def _processes(self) -> list[int]:
        return [pid for machine in self.machines for pid in machine.processes()]

    def end(self) -> list[int]:
        """End what is left; return what had to be ended by force."""
        for process in self.hosts.values():
            process.kill()
            process.wait()
        self.stop_offices()
        deadline = time.monotonic() + _LEAVE_SECONDS
        while (left := self._processes()) and time.monotonic() < deadline:
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
