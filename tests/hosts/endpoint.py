"""The model's place: an HTTP server on loopback that plays a script and records every request of a host.

It knows HTTP. What a request means and how an event is spelled is its dialect's business (messages_api, responses_api,
chat_api, gemini_api), what to answer is the script's.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Protocol, Self

from tests.hosts.conversation import Call, Conversation, Exchange, Move, Script

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

Json = dict[str, Any]


class Dialect(Protocol):
    """A wire format; messages_api, responses_api, chat_api and gemini_api are its kinds."""

    def serves(self, path: str, /) -> bool: ...
    def key_in(self, headers: dict[str, str], /) -> str: ...
    def read(self, request: Json, /) -> Conversation: ...
    def offered(self, request: Json, /) -> frozenset[str]: ...
    def possible(self, request: Json, move: Move, /) -> Move: ...
    def answer(self, request: Json, move: Move, /) -> list[Json]: ...
    def spell(self, event: Json, /) -> str: ...


@dataclass(frozen=True)
class Recorded:
    """One request for the model's next move, and the move that it got."""

    at: float
    text: str
    key: str
    conversation: Conversation
    offered: frozenset[str]
    move: Move

    def latest(self) -> Exchange | None:
        """What is new to the model in this request."""
        return self.conversation.exchanges[-1] if self.conversation.exchanges else None


class Endpoint:
    """Open for one run of one host; `logs` gets each request as a file."""

    def __init__(self, dialect: Dialect, script: Script, logs: Path) -> None:
        self.requests: list[Recorded] = []
        self.refused: list[str] = []
        self._dialect = dialect
        self._script = script
        self._logs = logs
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def has_called(self, tool: str, within: float) -> bool:
        """Wait until the model has called this tool."""
        with self._changed:
            return self._changed.wait_for(lambda: self._called(tool), within)

    def conversation(self) -> Conversation:
        """All that the model came to see in this run."""
        return self.requests[-1].conversation if self.requests else Conversation()

    def first_with(self, text: str) -> Recorded | None:
        """The request that first brought this text to the model as a tool's result."""
        for request in self.requests:
            latest = request.latest()
            if latest is not None and text in latest.result:
                return request
        return None

    def play(self, path: str, headers: dict[str, str], body: str) -> list[Json] | None:
        """Record a request and move; None for a path that is not the model's."""
        if not self._dialect.serves(path.partition("?")[0]):
            self.refuse(path)
            return None
        request = json.loads(body)
        conversation = self._dialect.read(request)
        move = self._dialect.possible(request, self._script(conversation))
        recorded = Recorded(
            at=time.monotonic(),
            text=json.dumps(request, ensure_ascii=False),
            key=self._dialect.key_in(headers),
            conversation=conversation,
            offered=self._dialect.offered(request),
            move=move,
        )
        with self._changed:
            self.requests.append(recorded)
            log = self._logs / f"request-{len(self.requests):02}.json"
            self._changed.notify_all()
        log.write_text(json.dumps(request, indent=1, ensure_ascii=False), encoding="utf-8")
        return self._dialect.answer(request, move)

    def spell(self, event: Json) -> str:
        return self._dialect.spell(event)

    def refuse(self, what: str) -> None:
        with self._changed:
            self.refused.append(what)

    def _called(self, tool: str) -> bool:
        moves = (request.move for request in self.requests)
        return any(isinstance(move, Call) and move.tool == tool for move in moves)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 30

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                events = endpoint.play(self.path, headers, body)
                if events is None:
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                self.send_response(HTTPStatus.OK)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # a host may be ended at any time
                    self.wfile.write("".join(map(endpoint.spell, events)).encode())

            def _refuse(self) -> None:
                endpoint.refuse(f"{self.command} {self.path}")
                self.send_error(HTTPStatus.FORBIDDEN)

            # A host that was told to use us as its proxy asks with CONNECT for what is not loopback.
            do_CONNECT = do_GET = do_HEAD = do_PUT = _refuse  # noqa: N815 the base class names them

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class named it
                """Stay silent: the requests are recorded anyway."""

        return Handler
