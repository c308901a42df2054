"""An MCP client without a host or a model: sends and gets mail, as a third agent would.

It knows newline-delimited JSON-RPC and no more, so that it needs nothing of the SDK that the server is built on.
"""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.hosts import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hosts.hosts import Server

_SECONDS = 30.0
_NAME = "bystander"


class NoAnswerError(Exception):
    """The server did not answer in time, or refused."""


def send(server: Server, home: Path, to: str, body: str) -> dict[str, Any]:
    """Deliver one message and leave; the result is that of the tool `send`."""
    with agent(server, home, _NAME) as line:
        return line.call("send", {"to": to, "body": body})


@contextmanager
def agent(server: Server, home: Path, name: str, seconds: float = _SECONDS) -> Iterator[Line]:
    """Be an agent with a mailbox of that name, for at most so many seconds."""
    with connected(server, home, seconds) as line:
        line.call("create_mailbox", {"name": name})
        yield line


@contextmanager
def connected(server: Server, home: Path, seconds: float) -> Iterator[Line]:
    """Connect for as long as the block lasts, and no longer than so many seconds."""
    with subprocess.Popen(
        server.command,
        env=environment.bare(home) | server.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        # A server that is killed closes its output, so whoever reads is never stuck.
        limit = threading.Timer(seconds, process.kill)
        limit.start()
        try:
            line = Line(process, seconds)
            line.greet()
            yield line
        finally:
            limit.cancel()
            process.kill()


class Line:
    """One connection's requests and their answers, one after another."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self._seconds = seconds
        if process.stdin is None or process.stdout is None:
            raise NoAnswerError("the server was started without pipes")
        self._to = process.stdin
        self._from = process.stdout
        self._asked = 0

    def greet(self) -> None:
        client = {"name": _NAME, "version": "0"}
        self._ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        result = self._ask("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise NoAnswerError(f"{tool} was refused: {result['content']}")
        structured: dict[str, Any] = result["structuredContent"]
        return structured

    def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._asked += 1
        self._write({"jsonrpc": "2.0", "id": self._asked, "method": method, "params": params})
        for text in self._from:
            message: dict[str, Any] = json.loads(text)
            if message.get("id") != self._asked or "method" in message:
                continue  # a notification, or a question to a client that has no answers
            if "error" in message:
                raise NoAnswerError(f"{method}: {message['error']}")
            result: dict[str, Any] = message["result"]
            return result
        raise NoAnswerError(f"the server closed its output, or was not done in {self._seconds:.0f} s, after {method}")

    def _write(self, message: dict[str, Any]) -> None:
        self._to.write(json.dumps(message) + "\n")
        self._to.flush()
