"""One client's connection: what may come in before there is a request that somebody could be asked about.

uvicorn and httptools read HTTP, but bound neither the time nor the size of a head, lose the body of a request that
offers an upgrade, and take trailers for headers. Nobody has shown a token yet, so all of that is decided here.

Ten thousand that wait for mail are ten thousand of these, with an answer that has begun and mostly nothing to say. So
there is room for what they need and for nothing else, and of a request that rests only that is left.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, MutableMapping
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mcp_mailbox.fronts.http.body import BODY_BYTES

HEAD_SECONDS = 10.0
"""Seconds in which the head of a request must have come."""
HEAD_BYTES = 64 * 1024
"""Bytes of a head."""
_MESSAGE_BYTES = 2 * BODY_BYTES
"""Bytes of a request with all that chunks and trailers add."""
_BEHIND_BYTES = 64 * 1024
"""Bytes that may come behind a request that is not answered yet."""

_HEAD_BEGINS = re.compile(rb"[A-Z]+ [^\r\n]*(\r\n|\r?\Z)|[A-Z]*\Z")
"""What the parser need not see yet: anything else it refuses at once."""
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:[^\r\n]*(?=\r\n)", re.IGNORECASE)
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


EXTENSION = "mcp_mailbox.connection"
"""The ASGI extension by which an application has a `Hold` of its connection. It takes it out of the scope, which would
else be part of what it belongs to, and stay until the collector comes by."""


class Hold:
    """One request's hold of its connection."""

    __slots__ = ("_connection", "cycle", "hear")

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self.cycle: RequestResponseCycle | _Rest = cycle
        self.hear: Callable[[], None] | None = None

    def abort(self) -> None:
        """End the connection at once, with what is still to be written."""
        self._connection.transport.abort()

    def lost(self) -> bool:
        """Whether the connection has ended."""
        return self._connection.lost

    def watch(self, hear: Callable[[], None] | None) -> None:
        """Call this when it ends; None: nothing."""
        self.hear = hear

    def write(self, data: bytes) -> bool:
        """Add to an answer that has begun; return False where that cannot be done at once."""
        cycle, connection = self.cycle, self._connection
        if connection.flow.write_paused or cycle.disconnected or cycle.response_complete or not cycle.response_started:
            return False
        if not cycle.chunked_encoding:
            return False
        connection.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def rest(self) -> Callable[[MutableMapping[str, Any]], Any]:
        """Let the application return before its answer, of which only a part is there; return what sends the rest."""
        if isinstance(self.cycle, RequestResponseCycle):
            self.cycle = self._connection.rest(self.cycle)
        return self.cycle.send


class _Rest:
    """What is left of a request whose task has ended, as far as uvicorn asks for it."""

    __slots__ = ("_connection", "disconnected", "keep_alive", "response_complete")

    response_started = True
    chunked_encoding = True

    def __init__(self, connection: Connection, *, keep_alive: bool) -> None:
        self._connection = connection
        self.keep_alive = keep_alive
        self.disconnected = connection.lost
        self.response_complete = False

    @property
    def transport(self) -> asyncio.Transport:
        return self._connection.transport

    @property
    def flow(self) -> FlowControl:
        return self._connection.flow

    @property
    def message_event(self) -> _Deaf:
        return _DEAF  # the whole request has come

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Send a part of the body, as `RequestResponseCycle.send` does."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        self.transport.write((b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n"))
        if not more:
            self.response_complete = True
            if not self.keep_alive:
                self.transport.close()
            self._connection.on_response_complete()


class _Deaf:
    """An event that nobody waits for."""

    def set(self) -> None:
        """Do nothing."""


_DEAF = _Deaf()


class _Flow(FlowControl):
    """uvicorn's, but an event is made for who waits: it is a kilobyte."""

    __slots__ = ("_transport", "_writable", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._writable: asyncio.Event | None = None
        self.read_paused = False
        self.write_paused = False

    async def drain(self) -> None:
        if self.write_paused:
            self._writable = self._writable or asyncio.Event()
            await self._writable.wait()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()
            self._writable = None


_SERVERS: dict[tuple[str, int | None], tuple[str, int | None]] = {}
"""Where clients have reached us: each once, of few."""


class _Queue(list[Any]):
    """What uvicorn wants of a deque, which takes room for 64 at once."""

    __slots__ = ()

    def appendleft(self, item: Any) -> None:
        self.insert(0, item)


class Connection(HttpToolsProtocol):
    """Keeps a head until it is whole, then lets uvicorn read it."""

    __slots__ = (  # uvicorn's, too: so many would be a dictionary of a kilobyte and a half
        "_behind", "_head", "_patience", "_read", "_running", "access_log", "access_logger", "app", "app_state",
        "asgi_version", "client", "config", "connections", "cycle", "expect_100_continue", "flow", "headers",
        "limit_concurrency", "logger", "loop", "lost", "parser", "pipeline", "root_path", "scheme", "scope", "server",
        "server_state", "tasks", "timeout_keep_alive", "timeout_keep_alive_task", "transport", "url",
        "ws_protocol_class",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pipeline = _Queue()  # type: ignore[assignment]
        self.lost = False
        """Whether the connection has ended."""
        self._patience: asyncio.TimerHandle | None = None
        """Set while a head is being waited for."""
        self._head: bytearray | None = None
        """What has come of a head; None while the parser reads a request."""
        self._read = 0
        """Bytes of this request that the parser was given."""
        self._behind = 0
        """Bytes that came behind one that is not answered yet."""
        self._running: list[Hold] = []
        """Requests that are not answered, in their order. uvicorn itself knows the last one only."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        if self.server is not None:
            self.server = _SERVERS.setdefault(self.server, self.server)
        self.flow = _Flow(transport)
        self._head = bytearray()
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Pass on a head as a whole, and the rest as it comes."""
        if self.pipeline:
            self._behind += len(data)
            if self._behind > _BEHIND_BYTES:
                self._give_up()
                return
        if self._head is not None:
            self._head += data
            if len(self._head) <= HEAD_BYTES and b"\r\n\r\n" not in self._head and _HEAD_BEGINS.match(self._head):
                self._unset_keepalive_if_required()
                if self._patience is None:
                    self._wait_for_head()
                return
            data, self._head = bytes(self._head), None
            head, end, rest = data.partition(b"\r\n\r\n")
            if len(head) > HEAD_BYTES:
                self._refuse()
                return
            # Nothing is upgraded here, and need not be (RFC 9110 section 7.8). Java's client offers h2c each time, and
            # the parser would take what follows such a head for the other protocol.
            data = _UPGRADE.sub(b"", head + end) + rest
        self._read += len(data)
        if self._read > (_MESSAGE_BYTES if self._patience is None else 2 * HEAD_BYTES):
            self._refuse()
            return
        if self.parser is None:
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more; whoever is still at an answer learns that nobody will read it."""
        self._stop_waiting()
        self.lost = True
        running, self._running = self._running, []
        for hold in running:
            hold.cycle.disconnected = True
            hold.cycle.message_event.set()
        for hold in running:
            if hold.hear is not None and not hold.cycle.response_complete:
                hold.hear()
        super().connection_lost(exc)

    def leave(self) -> None:
        """Close the connection, with whatever its client has not taken in."""
        if any(not hold.cycle.response_complete for hold in self._running) or self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def rest(self, cycle: RequestResponseCycle) -> _Rest:
        """Take leave of a request that is answered later, by what is returned."""
        left = _Rest(self, keep_alive=cycle.keep_alive)
        if self.cycle is cycle:
            self.cycle = left  # type: ignore[assignment]
            if self._head is not None and not cycle.more_body and not self.pipeline:
                # The next head begins with a parser of its own, unless this one has some of it already.
                self.parser = self.scope = self.headers = None  # type: ignore[assignment]
                self.url = b""
        cycle.disconnected = True  # so that uvicorn does not miss the rest of the answer
        return left

    # -- what the parser finds

    def on_message_begin(self) -> None:
        """Begin a request, which may be another one in bytes that were passed on already."""
        super().on_message_begin()
        self._head = None
        self._read = 0
        self._wait_for_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header. Trailers are dropped: none has a meaning here (RFC 9110 section 6.5.1)."""
        if self._patience is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the request be served."""
        self._stop_waiting()
        if not self.url.startswith((b"/", b"*")):
            self._take_host_of_target()
        super().on_headers_complete()
        hold = Hold(self, self.cycle)
        self.scope["extensions"] = {EXTENSION: hold}  # type: ignore[dict-item]
        self._running = [each for each in self._running if not each.cycle.response_complete]
        self._running.append(hold)
        if self.pipeline:
            # uvicorn would read no more until it is answered, and so not notice that its client goes.
            self.flow.resume_reading()
        else:
            self._behind = 0

    def on_message_complete(self) -> None:
        """Wait for the next head."""
        super().on_message_complete()
        self._head = bytearray()

    def _take_host_of_target(self) -> None:
        """Let the host of an absolute target be the Host, whatever the header says (RFC 9112 section 3.2.2)."""
        target = httptools.parse_url(self.url)
        host = b"[%b]" % target.host if b":" in target.host else target.host
        others = [(name, value) for name, value in self.headers if name != b"host"]
        self.headers[:] = [(b"host", host + (b":%d" % target.port if target.port else b"")), *others]

    # -- patience

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()

    def _refuse(self) -> None:
        if self._patience is not None and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        else:
            self._give_up()  # an answer is under way, there is no place for another one
