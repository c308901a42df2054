"""One relay, spoken to as a host does: MCP as JSON-RPC lines over its pipes.

Rules the handshake, requests and their time-outs. Refuses to know what a tool is for.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.torture.session import Json, Lost, TimedOut, content, result

PROTOCOL = "2025-11-25"
LEAVE_SECONDS = 6.0
"""A relay whose host closed stdin waits for answers for 5 s."""
_READ = 1 << 18


class Relay:
    """A relay's process and the conversation with it."""

    def __init__(self, environment: Mapping[str, str], errors: Path) -> None:
        with errors.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mcp_mailbox", "stdio"],
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
            )
        self.pid = self._process.pid
        self._received = bytearray()
        self._asked = 0

    def greet(self, name: str, patience: float) -> None:
        """Shake hands."""
        client = {"name": name, "version": "0"}
        self._ask("initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client}, patience)
        self._write({"method": "notifications/initialized"})

    def call(self, tool: str, arguments: Mapping[str, Any], patience: float) -> Json:
        """Return the structured answer of a tool. Raises Lost, TimedOut or Refused."""
        return content(self._ask("tools/call", {"name": tool, "arguments": arguments}, patience))

    def close(self) -> None:
        """Leave as a host does: close stdin, and let the relay go by itself; a stuck one is killed."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, method: str, params: Mapping[str, Any], patience: float) -> Json:
        self._asked += 1
        number = self._asked
        self._write({"id": number, "method": method, "params": params})
        deadline = time.monotonic() + patience
        while True:
            try:
                message = self._line(deadline)
            except TimedOut:
                self._write({"method": "notifications/cancelled", "params": {"requestId": number}})
                raise
            if message.get("id") != number or "method" in message:
                continue  # a notification, or the late answer to what was given up
            return result(message)

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin
        rest = memoryview(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        try:
            while rest:
                rest = rest[self._process.stdin.write(rest) or 0 :]
        except OSError as error:
            raise Lost from error

    def _line(self, deadline: float) -> Json:
        assert self._process.stdout
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimedOut
            block = os.read(self._process.stdout.fileno(), _READ)
            if not block:
                raise Lost
            self._received += block
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        message: Json = json.loads(line)
        return message
