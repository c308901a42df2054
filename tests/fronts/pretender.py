"""A relay played by the test, frame by frame: for answers that get lost at a chosen moment."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from mcp_mailbox import __version__, frames, rendezvous
from tests.fronts.world import LEGACY, Home
from tests.relay.world import DEADLINE

Json = dict[str, Any]


class Pretender:
    """One epoch of a relay. Every line has the serial that the test gives it, which is also its JSON-RPC id."""

    def __init__(
        self,
        home: Home,
        relay: str,
        epoch: int,
        written: Sequence[int] = (),
        *,
        owes: int | None = None,
        space: str | None = None,
    ) -> None:
        """`owes`: how many more answers of earlier epochs the host is to read."""
        channel = rendezvous.connect(str(home.path))
        assert channel is not None, "there is no office"
        self._channel = socket.socket(fileno=channel.detach())
        self._channel.settimeout(DEADLINE)
        self._received = b""
        fields = {
            "relay": relay,
            "version": __version__,
            "program": "",
            "epoch": str(epoch),
            "replay": "0",
        }
        if owes is not None:
            fields["written"] = str(len(written) + owes)
        if space is not None:
            fields["env.MCP_MAILBOX_SPACE"] = space
        if epoch > 1:
            fields["previous"] = __version__
        self._channel.sendall(frames.hello(fields))
        for serial in written:  # said again, in case the office before did not hear it
            self._channel.sendall(frames.frame(frames.WRITTEN, serial))
        assert self.frame()[0] == frames.HELLO
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "pretender", "version": "1"}}
        self.again = epoch > 1
        self.write(1, "initialize", params)
        self.answer(1)
        if epoch == 1:
            initialized = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode()
            self._channel.sendall(frames.frame(frames.MESSAGE, 2, initialized))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.close()

    def write(self, serial: int, method: str, params: Json) -> None:
        line = json.dumps({"jsonrpc": "2.0", "id": serial, "method": method, "params": params}).encode()
        kind = frames.REPLAY if self.again else frames.MESSAGE
        self._channel.sendall(frames.frame(kind, serial, line))

    def tool(self, serial: int, tool: str, /, **arguments: object) -> Json:
        """Call it and return what the model would see."""
        self.write(serial, "tools/call", {"name": tool, "arguments": arguments})
        result = self.answer(serial)
        assert not result.get("isError"), result
        content: Json = result["structuredContent"]
        return content

    def reached(self, serial: int) -> None:
        """Say that the answer has been written to the host."""
        self._channel.sendall(frames.frame(frames.WRITTEN, serial))

    def answer(self, serial: int) -> Json:
        while True:
            kind, rest = self.frame()
            if kind == frames.ANSWER:
                number, _, line = rest.partition(b" ")
                if int(number) == serial:
                    result: Json = json.loads(line)["result"]
                    return result

    def frame(self) -> tuple[bytes, bytes]:
        while b"\n" not in self._received:
            block = self._channel.recv(1 << 20)
            assert block, "the office closed the connection"
            self._received += block
        line, _, self._received = self._received.partition(b"\n")
        return line[:1], line[2:]
