"""A client that costs next to nothing: JSON-RPC lines over pipes, blocking. The same for both sides.

The SDK's client takes longer for a call than most servers: it would hide what is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

PROTOCOL = "2025-11-25"


class Peer:
    """A running stdio server and its client."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env=dict(environment), cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.process.stdin is not None  # noqa: S101 - asked for above
        assert self.process.stdout is not None  # noqa: S101
        self._stdin, self._stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._received = b""
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave as hosts do, and wait."""
        with self.process:
            assert self.process.stdin is not None  # noqa: S101
            self.process.stdin.close()

    def start(self) -> None:
        """Go through the handshake."""
        self.initialize()
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def initialize(self) -> None:
        """Ask for the first answer that there is."""
        about = {"name": "benchmarks", "version": "1"}
        self.request("initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": about})

    def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool; return its structured content."""
        return self.request("tools/call", {"name": tool, "arguments": arguments})

    def request(self, method: str, params: Mapping[str, Any]) -> Any:
        """Ask and wait for the answer."""
        return self.answer(self.post(method, params))

    def post(self, method: str, params: Mapping[str, Any]) -> int:
        """Ask; return what the answer will be known by."""
        self._next += 1
        self._write({"jsonrpc": "2.0", "id": self._next, "method": method, "params": params})
        return self._next

    def answer(self, number: int) -> Any:
        """Wait for that answer, and pass over what else comes."""
        while True:
            message = self.message()
            if message.get("id") == number:
                result = message["result"]
                if result.get("isError"):
                    raise RuntimeError(result["content"][0]["text"])
                return result.get("structuredContent")

    def message(self) -> dict[str, Any]:
        """Wait for whatever comes next."""
        message: dict[str, Any] = json.loads(self._line())
        return message

    @property
    def peak(self) -> float:
        """Return the most memory that the process ever had, in MB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123 - no file
            found = next(line for line in status if line.startswith("VmHWM"))
        return int(found.split()[1]) / 1024

    def _write(self, message: Mapping[str, Any]) -> None:
        os.write(self._stdin, json.dumps(message).encode() + b"\n")

    def _line(self) -> bytes:
        while b"\n" not in self._received:
            block = os.read(self._stdout, 1 << 20)
            if not block:
                raise EOFError("the server has gone")
            self._received += block
        line, _, self._received = self._received.partition(b"\n")
        return line
