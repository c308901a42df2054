"""The answer to one HTTP request: a JSON body, or server-sent events once there is something to tell before it.

One ticker serves all that is open (`OpenStreams`): whether a client is still there, and the sign of life that proxies
want, cost no task and no timer each. One whose work can be left and taken up again (`rest`) is a few hundred
bytes meanwhile, any other a few kilobytes. A client that does not read delays itself alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Any, Protocol

import anyio
import anyio.abc

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_TICK = 0.5
"""Seconds between two looks at what is open. Answers that take longer are streams, and their clients are watched."""
PING_EVERY = 25.0
"""Seconds between signs of life: proxies close what is silent for 60, hosts give up after 300 (docs/hosts.md)."""
_STALLED = 60.0
"""Seconds after which a client that takes in nothing counts as gone."""
_LAST_WORDS = 0.2
"""Seconds that open requests have to answer when the post office stops."""

_TAKEN_UP = 64
"""Works that were left and are taken up again at the same time, until there is something to be told."""

_STREAMS_EACH = 12_000
"""Requests of one credential that may be open at once."""

_PING = b": ping\r\n\r\n"
JSON = "application/json"
EVENTS = "text/event-stream"
_STREAM_HEADERS: Headers = [
    (b"content-type", EVENTS.encode()),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Hold(Protocol):
    """A hold of the connection on which a request came (`connection.Hold`)."""

    def abort(self) -> None:
        """End it at once, with what is still to be written."""

    def lost(self) -> bool:
        """Whether it has ended."""

    def watch(self, hear: Callable[[], None] | None) -> None:
        """Call this when it ends; None: nothing."""

    def write(self, data: bytes) -> bool:
        """Add to an answer that has begun; return False where that cannot be done at once."""

    def rest(self) -> Send:
        """Let the application return before its answer, of which only a part is there; return what sends the rest."""


class End(Enum):
    """Why a request is ended before its work is."""

    GONE = auto()
    """Its client has gone, or takes in nothing."""
    UNAUTHORIZED = auto()
    """Its credential is not good any more."""
    STOPPING = auto()
    """The post office stops."""


def _ignore(stream: Stream) -> None:
    del stream


class Stream:
    """What goes back on one HTTP request, over ASGI. Nothing may be written after `finish`.

    `owner` is the id of the credential that it was opened with; `good` tells whether that still is, `until` is when it
    ends by itself, by the loop's clock.
    """

    __slots__ = (
        "_connection",
        "_ends",
        "_finished",
        "_headers",
        "_scope",
        "_send",
        "_streams",
        "_turn",
        "_until",
        "_wake",
        "begun",
        "good",
        "owner",
        "told",
        "why",
    )

    def __init__(
        self,
        send: Send,
        headers: Headers | None = None,
        *,
        connection: Hold,
        owner: str = "",
        good: Callable[[], bool] | None = None,
        until: float = math.inf,
    ) -> None:
        self.owner = owner
        self.good = good
        self.why: End | None = None
        """Why it was ended, if it was."""
        self.told: Callable[[Stream], None] = _ignore
        """Is called when something was told by `offer`."""
        self.begun: Callable[[], None] | None = None
        """Is called once what is told is a stream, and its client watched: the work may be left from now on."""
        self._send = send
        self._connection = connection
        self._headers = headers
        self._streams = False
        self._finished = False
        self._turn: anyio.Lock | None = None
        self._until = until
        self._scope: anyio.CancelScope | None = None
        self._wake: Callable[[], None] | None = None
        self._ends: asyncio.TimerHandle | None = None

    @property
    def scope(self) -> anyio.CancelScope:
        """Around the work that the request asks for; cancelled when that is ended. Another one after each rest."""
        if self._scope is None:
            self._scope = anyio.CancelScope(deadline=self._until)
        return self._scope

    # -- resting

    def rest(self, wake: Callable[[], None]) -> None:
        """Be left by the work until `rouse`, or until it is ended; then `wake` is to have it taken up again."""
        ended = self.scope.cancel_called
        self._send = self._connection.rest()
        self._scope = self._headers = self.begun = self.good = None
        if self._turn is not None and not self._turn.locked():
            self._turn = None
        self._wake = wake
        if ended:
            self.cancel()
        elif self._until < math.inf:
            self._ends = asyncio.get_running_loop().call_at(self._until, self.cancel)

    def rouse(self) -> None:
        """Have the work taken up again."""
        wake, self._wake = self._wake, None
        if self._ends is not None:
            self._ends.cancel()
            self._ends = None
        if wake is not None:
            wake()

    def cancel(self) -> None:
        """End the work; one that rests is taken up, to come to its end."""
        self.scope.cancel()
        self.rouse()

    # -- writing

    async def open(self) -> None:
        """Begin the events now; what comes later, the answer included, is one."""
        await self.tell(_PING if not self._streams else b"")  # servers hold the headers back until there is a body

    async def event(self, message: Mapping[str, Any]) -> None:
        """Tell something before the answer. To a client that has gone: nothing happens."""
        await self.tell(_event(message))

    async def tell(self, event: bytes) -> None:
        """Tell something before the answer that is spelled already; none begins the events."""
        if self._turn is None:
            self._turn = anyio.Lock(fast_acquire=True)
        async with self._turn:
            if self._finished:
                return
            if not self._streams:
                self._streams = True
                headers = _STREAM_HEADERS + (self._headers or [])
                await self._put({"type": "http.response.start", "status": 200, "headers": headers})
            if event:
                await self._put({"type": "http.response.body", "body": event, "more_body": True})

    async def finish(self, message: Mapping[str, Any] | None, status: int = 200) -> None:
        """Answer, as JSON with that status unless events have begun; None ends without a word."""
        self._finished = True  # at once: nobody begins to tell anything from here on
        if not self._streams:
            await self._plain(message, status)
            return
        self._turn = self._turn or anyio.Lock(fast_acquire=True)
        async with self._turn:
            last = _event(message) if message is not None else b""
            await self._put({"type": "http.response.body", "body": last, "more_body": False})

    async def _plain(self, message: Mapping[str, Any] | None, status: int) -> None:
        await reply(self._put, status, dump(message) if message is not None else b"", self._headers)

    def leave_unanswered(self) -> bool:
        """Answer no more; whether nothing was written yet, so that the request can be refused instead."""
        self._finished = True
        return not self._streams

    async def ping(self) -> None:
        """Give a sign of life."""
        await self.tell(_PING)

    def ping_now(self) -> bool:
        """Give a sign of life, if that can be done at once; return whether it was."""
        return self.tell_now(_PING)

    def offer(self, line: bytes) -> bool:
        """Tell a message, as JSON, before the answer, if events have begun and it can be done at once."""
        taken = self.tell_now(b"event: message\r\ndata: %b\r\n\r\n" % line)
        if taken:
            self.told(self)
        return taken

    def tell_now(self, event: bytes) -> bool:
        """Tell something that is spelled already, if events have begun and it can be done at once; whether it was."""
        if self._finished or not self._streams or (self._turn is not None and self._turn.locked()):
            return False
        return self._connection.write(event)

    async def _put(self, message: MutableMapping[str, Any]) -> None:
        """Write; a client that takes in nothing for too long has gone, and its connection with what is in it too."""
        with anyio.move_on_after(_STALLED) as patience:
            await self._send(message)
        if patience.cancelled_caught:
            self._connection.abort()
        if patience.cancelled_caught or self._connection.lost():
            self.end(End.GONE)

    # -- its end

    def abort(self) -> None:
        """End its connection at once."""
        self._connection.abort()

    @property
    def gone(self) -> bool:
        """Whether nobody is there to read it."""
        return self.why is End.GONE

    def end(self, why: End) -> None:
        """End the work; the first reason counts, but for a client that has gone."""
        if self.why is None or why is End.GONE:
            self.why = why
        self.cancel()

    def is_gone(self) -> bool:
        """Look whether the client is still there, as far as its connection tells."""
        if not self.gone and self._connection.lost():
            self.end(End.GONE)
        return self.gone

    def watch(self) -> None:
        """End the work when the client goes, from now on."""
        if not self.is_gone():
            self._connection.watch(self._lost)

    def let_go(self) -> None:
        """Hear and tell nothing more: the work is done. Else only the collector would find all of it."""
        self.begun = None
        self._connection.watch(None)

    def _lost(self) -> None:
        if not self._finished:
            self.end(End.GONE)


class OpenStreams:
    """All streams that are open. `open` must be entered for as long as requests are served."""

    def __init__(self) -> None:
        self.closing = False
        self._present: dict[Stream, None] = {}
        self._owned: Counter[str] = Counter()
        self._fresh: dict[Stream, float] = {}
        self._quiet: dict[Stream, float] = {}
        self._empty = anyio.Event()
        self._entered = anyio.Event()
        self._tasks: anyio.abc.TaskGroup
        self.turn = anyio.Semaphore(_TAKEN_UP)
        """Who takes up work that was left takes his turn: thousands may at once, and each would need what it had."""
        self._now: Callable[[], float]
        self._hear = self._told
        """Made once, and not for each of those who are to call it."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Look after the streams."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._now = asyncio.get_running_loop().time  # `anyio.current_time`, which asks first whose time
            tasks.start_soon(self._tick, tasks)
            yield
            tasks.cancel_scope.cancel()

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Take up what was left, in a task of its own. It must not raise."""
        self._tasks.start_soon(work)

    async def close(self) -> None:
        """Let what is open end by itself for a moment, then end it."""
        self.closing = True
        with anyio.move_on_after(_LAST_WORDS):
            await self._until_empty()
        for stream in list(self._present):
            stream.end(End.STOPPING)
        with anyio.move_on_after(_LAST_WORDS):
            await self._until_empty()

    async def _until_empty(self) -> None:
        while self._present:
            self._empty = anyio.Event()
            await self._empty.wait()

    def end_all_of(self, owner: str) -> None:
        """End what was opened with a credential that is not good any more."""
        for stream in list(self._present):
            if stream.owner == owner:
                stream.end(End.UNAUTHORIZED)

    def full(self, owner: str) -> bool:
        """Whether a credential has as many open as it may."""
        return self._owned[owner] >= _STREAMS_EACH

    def enter(self, stream: Stream) -> None:
        """Look after it from now on; one whose credential has ended since it was let in is ended at once."""
        if stream.good is not None and not stream.good():
            stream.end(End.UNAUTHORIZED)
        stream.told = self._hear
        self._entered.set()
        self._present[stream] = None
        self._owned[stream.owner] += 1
        self._fresh[stream] = anyio.current_time()

    def leave(self, stream: Stream) -> None:
        """Forget it."""
        del self._present[stream]
        self._owned[stream.owner] -= 1
        if not self._owned[stream.owner]:
            del self._owned[stream.owner]
        self._fresh.pop(stream, None)
        self._quiet.pop(stream, None)
        stream.let_go()
        if not self._present:
            self._empty.set()

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._present)

    async def _tick(self, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            if not self._present:
                self._entered = anyio.Event()
                await self._entered.wait()
            await anyio.sleep(_TICK)
            now = anyio.current_time()
            # Both are in the order of time, so a tick costs what is due and not what is open.
            for stream in _due(self._fresh, now - _TICK):
                stream.watch()
                tasks.start_soon(self._begin, stream)
            for stream in _due(self._quiet, now - PING_EVERY):
                if stream.ping_now():
                    self._quiet[stream] = now
                else:  # its client takes in nothing, or something is being told
                    tasks.start_soon(self._keep_alive, stream, stream.ping)

    async def _begin(self, stream: Stream) -> None:
        await self._keep_alive(stream, stream.open)
        if stream.begun is not None and stream in self._present:
            stream.begun()

    def _told(self, stream: Stream) -> None:
        """Note that a stream has given a sign of life by itself."""
        if self._quiet.pop(stream, None) is not None:
            self._quiet[stream] = self._now()

    async def _keep_alive(self, stream: Stream, write: Callable[[], Awaitable[None]]) -> None:
        try:
            await write()
        except Exception:
            logger.exception("a stream could not be written")
            stream.end(End.GONE)
        if stream in self._present:
            self._quiet[stream] = anyio.current_time()


def _due(streams: dict[Stream, float], moment: float) -> list[Stream]:
    found = []
    for stream, since in streams.items():
        if since > moment:
            break
        found.append(stream)
    for stream in found:
        del streams[stream]
    return found


async def reply(send: Send, status: int, content: bytes, headers: Headers | None = None) -> None:
    """Answer at once, with JSON or with nothing."""
    about = [(b"content-length", b"%d" % len(content)), *(headers or [])]
    if content:
        about.append((b"content-type", JSON.encode()))
    await send({"type": "http.response.start", "status": status, "headers": about})
    await send({"type": "http.response.body", "body": content})


def dump(message: Mapping[str, Any]) -> bytes:
    """Spell a message as JSON."""
    return json.dumps(message, separators=(",", ":")).encode()


def _event(message: Mapping[str, Any]) -> bytes:
    return b"event: message\r\ndata: %b\r\n\r\n" % dump(message)
