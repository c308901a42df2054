"""A host, a home and an office for one test: real processes, a clean environment, ended by their ids.

Waiting here is always for an event of the operating system under a deadline; only the journal of the tiny office is
polled, because a file gives no event.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TINY = Path(__file__).with_name("tiny.py")
DEADLINE = 15.0


class Host:
    """Plays the program that starts a relay and talks with it over pipes."""

    def __init__(self, process: subprocess.Popen[bytes], output: int) -> None:
        self.process = process
        self.output = output
        self.received = bytearray()
        self.ids = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def send_raw(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, method: str, params: object = None) -> int:
        self.ids += 1
        self.send_raw(json.dumps({"id": self.ids, "method": method, "params": params}).encode() + b"\n")
        return self.ids

    def line(self, seconds: float = DEADLINE) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while b"\n" not in self.received:
            self._fill(deadline)
        line, _, rest = bytes(self.received).partition(b"\n")
        self.received = bytearray(rest)
        found: dict[str, Any] = json.loads(line)
        return found

    def _fill(self, deadline: float) -> None:
        ready, _, _ = select.select([self.output], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"the relay said nothing more in time; so far: {bytes(self.received[:300])!r}"
        block = os.read(self.output, 1 << 20)
        assert block, "the relay closed its output"
        self.received += block

    def ask(self, method: str, params: object = None) -> Any:
        wanted = self.send(method, params)
        answer = self.line()
        assert answer["id"] == wanted
        return answer.get("result", answer.get("error"))

    def is_connected(self) -> None:
        """Return once the relay has a socket: the office it talks to may be too busy to notice."""
        deadline = time.monotonic() + DEADLINE
        while not any(target.startswith("socket:") for target in self._open_files()):
            assert time.monotonic() < deadline, "the relay does not connect"
            time.sleep(0.005)

    def _open_files(self) -> list[str]:
        found = []
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed while we look
                found.append(str(link.readlink()))
        return found

    def says_nothing_more(self) -> bool:
        """Whether the output ends without another byte; only after the relay has gone."""
        return not self.received and not os.read(self.output, 1)

    def close(self) -> None:
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def wait(self, seconds: float = DEADLINE) -> int:
        return self.process.wait(seconds)

    def errors(self) -> str:
        assert self.process.stderr
        return self.process.stderr.read().decode()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stderr):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        with contextlib.suppress(OSError):
            os.close(self.output)


class World:
    """A home of its own, and all that runs in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "h"
        self.hosts: list[Host] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of the surrounding shell: it may hold a real host's tokens."""
        return {
            "HOME": str(self.directory),
            "PATH": "/usr/bin:/bin",
            "MCP_MAILBOX_HOME": str(self.home),
            **more,
        }

    def want(self, **wants: object) -> None:
        """Say how the tiny office is to behave."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.home / "tiny.json").write_text(json.dumps(wants))

    def program(self, package: Path = ROOT) -> list[str]:
        return [sys.executable, "-P", str(TINY), str(package), "office"]

    def code(
        self, package: Path = ROOT, patches: dict[str, object] | None = None, program: list[str] | None = None
    ) -> str:
        lines = [f"import sys; sys.path.insert(0, {str(package)!r})", "from mcp_mailbox import relay, rendezvous"]
        lines += [f"{name} = {value!r}" for name, value in (patches or {}).items()]
        lines += [f"sys.exit(relay.run({program or self.program(package)!r}))"]
        return "\n".join(lines)

    def host(
        self,
        *,
        package: Path = ROOT,
        patches: dict[str, object] | None = None,
        env: dict[str, str] | None = None,
        program: list[str] | None = None,
        **popen: Any,
    ) -> Host:
        read, write = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", self.code(package, patches, program)],
            stdin=subprocess.PIPE,
            stdout=write,
            stderr=subprocess.PIPE,
            env=self.environment(**(env or {})),
            **popen,
        )
        os.close(write)
        host = Host(process, read)
        self.hosts.append(host)
        return host

    def office(self, package: Path = ROOT, **env: str) -> subprocess.Popen[bytes]:
        """Start an office by hand."""
        process = subprocess.Popen(self.program(package), env=self.environment(**env), stdin=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def journal(self, event: str = "") -> list[dict[str, Any]]:
        try:
            text = (self.home / "journal").read_text()
        except FileNotFoundError:
            return []
        entries = [json.loads(line) for line in text.splitlines()]
        return [entry for entry in entries if not event or entry["event"] == event]

    def frames(self, *kinds: str) -> list[dict[str, Any]]:
        return [entry for entry in self.journal("frame") if not kinds or entry["kind"] in kinds]

    def wait_for(self, event: str, count: int = 1, **like: object) -> list[dict[str, Any]]:
        """Return the entries of this event that look so, once there are `count`."""
        deadline = time.monotonic() + DEADLINE
        while True:
            found = [e for e in self.journal(event) if all(e.get(key) == value for key, value in like.items())]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"no {event} {like}: {self.journal()}\n{self.log()}"
            time.sleep(0.005)

    def log(self) -> str:
        try:
            return (self.home / "office.log").read_text()
        except FileNotFoundError:
            return ""

    def office_pid(self) -> int:
        pid: int = self.journal("start")[-1]["pid"]
        return pid

    def kill_office(self, number: int = signal.SIGKILL) -> None:
        """Send the signal and return once the process has ended."""
        pid = self.office_pid()
        descriptor = os.pidfd_open(pid)
        signal.pidfd_send_signal(descriptor, number)
        ended(descriptor)

    def office_ended(self, pid: int) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        ended(descriptor)

    def talk(self, first: bytes, *, reply: bool = True) -> bytes:
        """Speak to the office like a stranger would, and return what it says until it closes."""
        kind, _, place = (self.home / "office.endpoint").read_text().strip().partition(" ")
        with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as channel:
            channel.settimeout(DEADLINE)
            channel.connect(place if kind == "unix" else ("127.0.0.1", int(place)))
            channel.sendall(first)
            if reply:
                channel.shutdown(socket.SHUT_WR)
            said = b""
            with contextlib.suppress(ConnectionResetError):
                while block := channel.recv(65536):
                    said += block
            return said

    def newer(self, version: str) -> Path:
        """Copy the package under another version number; return the directory to import it from."""
        directory = self.directory / f"v{version}"
        shutil.copytree(ROOT / "mcp_mailbox", directory / "mcp_mailbox", ignore=shutil.ignore_patterns("__pycache__"))
        init = directory / "mcp_mailbox" / "__init__.py"
        lines = [line for line in init.read_text().splitlines() if not line.startswith("__version__")]
        init.write_text("\n".join([*lines, f'__version__ = "{version}"', ""]))
        return directory

    def end(self) -> None:
        if self.home.is_dir():
            self.want(die="start")  # an office that begins from here on ends by itself
        for host in self.hosts:
            host.end()
        for process in self.processes:
            process.kill()
            process.wait()
        # One that began before may be about to fork, or have no command line yet: look until two looks find none.
        looks = 0
        while looks < 2:
            looks = 0 if sum(_kill_tiny(pid, self.directory) for pid in _pids()) else looks + 1
            time.sleep(0.02)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names, not paths


def ended(descriptor: int) -> None:
    try:
        ready, _, _ = select.select([descriptor], [], [], DEADLINE)
        assert ready, "the process did not end in time"
    finally:
        os.close(descriptor)


def _kill_tiny(pid: int, directory: Path) -> bool:
    """End an office of this world, and nothing else: it says so in its command and its environment."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        proc = Path(f"/proc/{pid}")
        ours = TINY.name.encode() in (proc / "cmdline").read_bytes()
        ours = ours and os.fsencode(f"{directory}/") in (proc / "environ").read_bytes()
        if ours:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], DEADLINE)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return ours
