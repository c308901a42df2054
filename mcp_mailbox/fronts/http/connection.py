"""One client's connection: what may come in before there is a request that somebody could be asked about.

uvicorn and httptools read HTTP, but bound neither the time nor the size of a head, lose the body of a request that
offers an upgrade, and take trailers for headers. Nobody has shown a token yet, so all of that is decided here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
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
"""The ASGI extension by which an application has a hold of its connection: `abort` ends it at once, with what is still
to be written; `lost` tells whether it has ended, and `watch` takes what is to be called when it does. `write` adds to
an answer that has begun, and returns False where that cannot be done at once."""


class Connection(HttpToolsProtocol):
    """Keeps a head until it is whole, then lets uvicorn read it."""

    _patience: asyncio.TimerHandle | None = None
    """Set while a head is being waited for."""
    _head: bytearray | None = None
    """What has come of a head; None while the parser reads a request."""
    _read = 0
    """Bytes of this request that the parser was given."""
    _behind = 0
    """Bytes that came behind one that is not answered yet."""
    _lost = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watchers: dict[RequestResponseCycle, Callable[[], None]] = {}
        self._running: list[RequestResponseCycle] = []
        """Requests that are not answered, in their order. uvicorn itself knows the last one only."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
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
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more; whoever is still at an answer learns that nobody will read it."""
        self._stop_waiting()
        self._lost = True
        for cycle in self._running:
            cycle.disconnected = True
            cycle.message_event.set()
        for hear in self._watchers.values():
            hear()
        self._watchers.clear()
        super().connection_lost(exc)

    def leave(self) -> None:
        """Close the connection, with whatever its client has not taken in."""
        if any(not cycle.response_complete for cycle in self._running) or self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    # -- what the parser finds

    def on_message_begin(self) -> None:
        """Begin a request, which may be another one in bytes that were passed on already."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"abort": self.transport.abort, "lost": lambda: self._lost}}
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
        self._running = [cycle for cycle in self._running if not cycle.response_complete]
        self._running.append(self.cycle)
        for cycle in [cycle for cycle in self._watchers if cycle.response_complete]:
            del self._watchers[cycle]
        hold = self.scope["extensions"][EXTENSION]
        hold["watch"] = partial(self._watchers.__setitem__, self.cycle)
        hold["write"] = partial(_write, self.cycle)
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


def _write(cycle: RequestResponseCycle, data: bytes) -> bool:
    """Add a chunk to an answer that has begun, as `cycle.send` would, where nothing has to be waited for."""
    if cycle.flow.write_paused or cycle.disconnected or cycle.response_complete or not cycle.response_started:
        return False
    if not cycle.chunked_encoding:
        return False
    cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
    return True
