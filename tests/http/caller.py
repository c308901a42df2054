"""A client that writes its own HTTP, for what no library would send. It blocks, under a deadline."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.conftest import DEADLINE

Json = dict[str, Any]
LEGACY = "2025-11-25"
MODERN = "2026-07-28"
BOTH = "application/json, text/event-stream"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        """What is told as JSON, or as the last event: which of them it is, is also a matter of time."""
        found: Json = (
            self.events[-1] if self.headers.get("content-type") == "text/event-stream" else json.loads(self.body)
        )
        return found

    @property
    def result(self) -> Json:
        """The result of a JSON-RPC request."""
        message = self.json
        assert "result" in message, message
        found: Json = message["result"]
        return found

    @property
    def content(self) -> Json:
        """What a model sees of a tool's result."""
        found: Json = self.result["structuredContent"]
        return found

    @property
    def events(self) -> list[Json]:
        return [json.loads(line[6:]) for line in self.body.split(b"\r\n") if line.startswith(b"data: ")]


class Line:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._file = self.socket.makefile("rb")

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self) -> tuple[int, dict[str, str]]:
        """Read the head of an answer."""
        status = self._file.readline()
        assert status, "the server closed the connection"
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(": ")
            headers[name.lower()] = value
        return int(status.split()[1]), headers

    def answer(self) -> Answer:
        """Read a whole answer."""
        status, headers = self.head()
        if "content-length" in headers:
            return Answer(status, headers, self._file.read(int(headers["content-length"])))
        return Answer(status, headers, b"".join(self.chunks()))

    def event(self) -> Json:
        """Read the next event of a stream whose head was read."""
        for chunk in self.chunks():
            for line in chunk.split(b"\r\n"):
                if line.startswith(b"data: "):
                    found: Json = json.loads(line[6:])
                    return found
        raise AssertionError("the stream ended")

    def ended(self) -> bool:
        """Whether the stream ends without another event."""
        return not any(b"data: " in chunk for chunk in self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """Yield the chunks of a body that has no length."""
        while True:
            line = self._file.readline()
            size = int(line, 16) if line.strip() else 0
            chunk = self._file.read(size + 2)[:-2]
            if not size:
                return
            yield chunk

    def closed(self) -> bool:
        """Whether the server has closed it, once it does."""
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self.socket.close()


class Caller:
    """Whoever has this token, in this space."""

    def __init__(self, port: int, token: str | None, space: str = "default", **headers: str) -> None:
        self.port = port
        self.token = token
        self.headers = {"mailbox-space": space, **{name.replace("_", "-"): value for name, value in headers.items()}}
        self._ids = iter(range(1, 1_000_000))
        self.session: dict[str, str] = {}

    # -- HTTP

    @contextmanager
    def line(self) -> Iterator[Line]:
        line = Line(self.port)
        try:
            yield line
        finally:
            line.close()

    def request(self, method: str = "POST", path: str = "/mcp", /, body: object = None, **headers: str | None) -> bytes:
        """Spell a request; a header that is None is left out."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        usual: dict[str, str | None] = {"host": f"127.0.0.1:{self.port}", "content-length": str(len(content))}
        if self.token is not None:
            usual["authorization"] = f"Bearer {self.token}"
        if method == "POST":
            usual |= {"content-type": "application/json", "accept": BOTH}
        if method == "GET":
            usual |= {"accept": "text/event-stream"}
        usual |= self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in usual.items() if value is not None),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + content

    def ask(self, method: str = "POST", path: str = "/mcp", /, body: object = None, **headers: str | None) -> Answer:
        with self.line() as line:
            line.write(self.request(method, path, body=body, **headers))
            return line.answer()

    # -- 2026-07-28

    def message(self, method: str, **params: object) -> Json:
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": {**params, "_meta": ENVELOPE}}

    def modern(self, message: Json) -> dict[str, str | None]:
        """The headers that this message wants."""
        params = message["params"]
        name = params.get("name") or params.get("uri")
        return {"mcp_protocol_version": MODERN, "mcp_method": message["method"], "mcp_name": name}

    def alone(self, method: str, **params: object) -> Answer:
        """Ask as 2026-07-28 has it."""
        message = self.message(method, **params)
        return self.ask(body=message, **self.modern(message))

    def tool(self, name: str, /, **arguments: object) -> Answer:
        """Call a tool; `from_` is the parameter `from`."""
        return self.alone("tools/call", name=name, arguments={key.rstrip("_"): each for key, each in arguments.items()})

    def call(self, name: str, /, **arguments: object) -> Json:
        """Return what the model sees of a call that succeeds."""
        answer = self.tool(name, **arguments)
        assert not answer.result.get("isError"), answer.body
        return answer.content

    def refused(self, name: str, /, **arguments: object) -> Json:
        """Return the refusal that the model sees."""
        answer = self.tool(name, **arguments)
        assert answer.result["isError"], answer.body
        return answer.content

    def listen(self, line: Line, *uris: str) -> None:
        """Open a stream, and read its acknowledgement."""
        message = self.message("subscriptions/listen", notifications={"resourceSubscriptions": list(uris)})
        line.write(self.request(body=message, **self.modern(message)))
        status, headers = line.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert line.event()["method"] == "notifications/subscriptions/acknowledged"

    # -- 2025-11-25

    def begin(self) -> Answer:
        """Begin a session."""
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
        answer = self.ask(body={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        self.session = {"mcp_session_id": answer.headers["mcp-session-id"], "mcp_protocol_version": LEGACY}
        assert self.tell("notifications/initialized").status == 202
        return answer

    def spell(self, method: str, **params: object) -> bytes:
        """Spell a request in the session."""
        message = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        return self.request(body=message, **self.session)

    def within(self, method: str, **params: object) -> Answer:
        """Ask in the session."""
        with self.line() as line:
            line.write(self.spell(method, **params))
            return line.answer()

    def tell(self, method: str, **params: object) -> Answer:
        """Send a notification in the session."""
        return self.ask(body={"jsonrpc": "2.0", "method": method, "params": params}, **self.session)

    def stand(self, line: Line) -> None:
        """Open the session's standing stream."""
        line.write(self.request("GET", **self.session))
        status, headers = line.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
