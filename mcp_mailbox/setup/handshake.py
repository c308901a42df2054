"""The registered server started, or called, as the host would: `initialize`, `tools/list`, and its end.

Knows newline-delimited JSON-RPC and as much HTTP as that needs; nothing of the SDK, which takes a second to import.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from mcp_mailbox import __version__
from mcp_mailbox.setup.host import TOKEN, Launch
from mcp_mailbox.setup.trouble import Unfit

_PROTOCOL = "2025-11-25"
SECONDS = 40.0
"""Longer than the post office may take to start (`rendezvous.START_SECONDS`)."""
_HANDED_ON = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER")
"""What the MCP SDK's stdio client hands on, and so the least that a host does."""
_SAID = 300
"""Characters that are shown of what a server says."""
_BLOCK = 65536
_GRACE = 5.0
"""Seconds for a server to leave by itself."""
_REFERENCE = re.compile(r"\$\w|\$\{|\{(env|file):")


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the server said of itself."""

    server: str
    version: str
    protocol: str
    tools: int
    seconds: float


class _Line(Protocol):
    def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]: ...

    def tell(self, method: str) -> None: ...


def greet(launch: Launch, directory: Path, environ: Mapping[str, str]) -> Greeting:
    """Meet the server that an entry registers. Raises Unfit when it does not answer as one."""
    started = time.monotonic()
    with _calling(launch.url, environ) if launch.url else _starting(launch, directory, environ) as line:
        client = {"name": "mcp-mailbox-setup", "version": __version__}
        hello = line.ask("initialize", {"protocolVersion": _PROTOCOL, "capabilities": {}, "clientInfo": client})
        line.tell("notifications/initialized")
        tools = line.ask("tools/list", {})
    try:
        about, protocol = hello["serverInfo"], hello["protocolVersion"]
        spent = time.monotonic() - started
        return Greeting(about["name"], about["version"], protocol, len(tools["tools"]), spent)
    except (KeyError, TypeError):
        raise Unfit("It does not answer as an MCP server does.", "Is something else there?") from None


def _result(message: Mapping[str, Any]) -> dict[str, Any]:
    if "error" in message:
        said = message["error"].get("message") if isinstance(message["error"], dict) else None
        raise Unfit(f"It refused: {str(said)[:_SAID]!a}.", "Look at `mcp-mailbox status`.")
    result = message.get("result")
    return result if isinstance(result, dict) else {}


# -- stdio


class _Pipe:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._asked = 0
        self._until = time.monotonic() + SECONDS
        self._rest = b""

    @property
    def left(self) -> float:
        """Seconds until it has had its time."""
        return max(0.0, self._until - time.monotonic())

    def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        self._asked += 1
        self._write({"jsonrpc": "2.0", "id": self._asked, "method": method, "params": params})
        while (line := self._line()) is not None:
            try:
                message = json.loads(line)
            except ValueError:
                raise Unfit(f"It writes what is no JSON: {line[:_SAID]!a}.", "Is it another program?") from None
            if isinstance(message, dict) and message.get("id") == self._asked and "method" not in message:
                return _result(message)
        raise Unfit(f"It ended without an answer to {method}, or gave none in {SECONDS:.0f} s.", "")

    def tell(self, method: str) -> None:
        self._write({"jsonrpc": "2.0", "method": method})

    def _line(self) -> bytes | None:
        """Return the next line; None at the end of its output or of its time.

        The end alone would not do: whatever it has started has its output open as well, and may outlive it.
        """
        assert self._process.stdout is not None  # noqa: S101 - it was started with a pipe
        output = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            if not select.select([output], [], [], self.left)[0]:
                return None
            block = os.read(output, _BLOCK)
            if not block:
                last, self._rest = self._rest, b""
                return last or None
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _write(self, message: Mapping[str, Any]) -> None:
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # then there is no answer either
                self._process.stdin.write(json.dumps(message).encode() + b"\n")
                self._process.stdin.flush()


@contextlib.contextmanager
def _starting(launch: Launch, directory: Path, environ: Mapping[str, str]) -> Iterator[_Line]:
    # What refers to something else is filled in by the host, each in its own way: without it there is a default.
    plain = {key: value for key, value in launch.env.items() if not _REFERENCE.search(value)}
    env = {key: environ[key] for key in _HANDED_ON if key in environ} | plain
    with tempfile.TemporaryFile() as said:  # no pipe: who left its group may have it open for ever
        try:
            process = _start(launch.command, directory, env, said)
        except OSError as error:
            raise Unfit(f"{launch.command[0]} does not start: {error.strerror}.", "Is it installed there?") from None
        pipe = _Pipe(process)
        try:
            yield pipe
        except Unfit as unfit:
            _end(process, pipe.left)
            words = _tail(said)
            raise Unfit(
                unfit.problem, f"It said: {words}" if words else unfit.hint or "Start it by hand to see why."
            ) from None
        finally:
            _end(process, pipe.left)


def _start(command: Sequence[str], directory: Path, env: Mapping[str, str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start it as the host does, in a group of its own, in which is what a launcher (`uvx`) starts in turn."""
    pipe = subprocess.PIPE
    return subprocess.Popen(  # noqa: S603 - what the host starts
        command, cwd=directory, env=env, stdin=pipe, stdout=pipe, stderr=said, start_new_session=True
    )


def _end(process: subprocess.Popen[bytes], left: float) -> None:
    """End it as a host does, by the end of its input; then whatever is left of its group. Twice is once."""
    if process.stdin:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    if process.returncode is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(_GRACE, left))
        with contextlib.suppress(ProcessLookupError, PermissionError):  # of a group whose last process has gone
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout:
        process.stdout.close()


def _tail(said: IO[bytes]) -> str:
    """Return the end of what it said on standard error."""
    said.seek(max(0, said.seek(0, os.SEEK_END) - 4 * _SAID))
    return said.read().decode(errors="replace").strip()[-_SAID:]


# -- HTTP


class _Calls:
    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        self._parts = urlsplit(url)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if token := environ.get(TOKEN):
            self._headers["Authorization"] = f"Bearer {token}"
        self._asked = 0

    def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        self._asked += 1
        message = self._post({"jsonrpc": "2.0", "id": self._asked, "method": method, "params": params})
        if not isinstance(message, dict):
            raise Unfit(f"It gives no answer to {method}.", "Is it an MCP server?")
        result = _result(message)
        if method == "initialize":
            self._headers["MCP-Protocol-Version"] = str(result.get("protocolVersion"))
        return result

    def tell(self, method: str) -> None:
        self._post({"jsonrpc": "2.0", "method": method})

    def leave(self) -> None:
        """End the session, if there is one."""
        if "Mcp-Session-Id" in self._headers:
            with contextlib.suppress(OSError, http.client.HTTPException, Unfit):
                self._request("DELETE", None)

    def _post(self, message: Mapping[str, Any]) -> Any:
        status, kind, text = self._request("POST", json.dumps(message))
        if status in {401, 403}:
            raise Unfit(f"It answers {status}: it wants another token.", f"Set {TOKEN} to one that it knows.")
        if status >= 400:  # noqa: PLR2004 - HTTP's errors
            raise Unfit(f"It answers with status {status}.", "Is the address right, its path included?")
        try:
            if kind.startswith("text/event-stream"):
                events = [line[5:] for line in text.splitlines() if line.startswith("data:") and line[5:].strip()]
                return next((each for each in map(json.loads, events) if each.get("id") == self._asked), None)
            return json.loads(text) if text.strip() else None
        except (ValueError, AttributeError):
            raise Unfit("It answers with what is no JSON.", "Is the address right, its path included?") from None

    def _request(self, method: str, body: str | None) -> tuple[int, str, str]:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=SECONDS)
        try:
            connection.request(method, self._parts.path or "/", body, self._headers)
            answer = connection.getresponse()
            if session := answer.getheader("Mcp-Session-Id"):
                self._headers["Mcp-Session-Id"] = session
            return answer.status, answer.getheader("Content-Type") or "", answer.read().decode(errors="replace")
        finally:
            connection.close()


@contextlib.contextmanager
def _calling(url: str, environ: Mapping[str, str]) -> Iterator[_Line]:
    calls = _Calls(url, environ)
    try:
        yield calls
    except (OSError, http.client.HTTPException) as error:
        raise Unfit(f"{url} does not answer: {error}.", "Is `mcp-mailbox serve` running there?") from None
    finally:
        calls.leave()
