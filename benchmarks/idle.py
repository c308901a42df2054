"""Agents that wait for mail and get none: what each costs the post office, and how soon one of them is woken.

They wait as Claude Code does, for up to 25 minutes with a sign of life every 25 seconds. Of processes the post office's
alone is measured. This one is all the agents: raw frames on its socket, as their relays would write them, or raw HTTP;
thousands of relays are not started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import anyio

from benchmarks import ratios
from benchmarks.places import Place
from benchmarks.web import resident, serving
from mcp_mailbox import __version__, frames, quotas
from mcp_mailbox.fronts.hub import wire
from tests.http.caller import ENVELOPE, LEGACY, MODERN

__all__ = ["crowd", "rows", "web"]

FEW = 1_000
MANY = 10_000
SECONDS = 50.0
"""For which processor time is counted."""
WARM_UP = 50
"""Agents that come first: what is made once is nobody's."""
AT_ONCE = 200
"""Agents that come at the same time: until the one's wait is under way, over HTTP with its first sign of life."""
EACH = 1_900
"""Sessions of one token: a token may have 2,000."""
PER_EDGE = 200
"""Agents of one machine whose mail a hub keeps."""
WAKES = 200
_HOST = {"name": "claude-code", "version": "1"}
_WAIT = {"timeout": 1500}
_BODY = "Could you look at the failing test in tests/relay? " * 4

Json = dict[str, Any]


def rows(place: Place) -> Iterator[ratios.Row]:
    """Measure a thousand."""
    yield from _measured(place, FEW)


def crowd(place: Place) -> Iterator[ratios.Row]:
    """Measure ten thousand."""
    yield from _measured(place, MANY)


def web(place: Place) -> Iterator[ratios.Row]:
    """Measure ten thousand who come over HTTP."""
    yield from _measured(place, MANY, (_InSession, _Alone))


def _measured(place: Place, many: int, kinds: Sequence[type[_Agent]] = ()) -> Iterator[ratios.Row]:
    for kind in kinds or (_Relayed, _AtEdge, _InSession, _Alone):
        # All are one principal's, and come faster than a hub lets one principal come.
        wide = {quotas.MAILBOXES_VARIABLE: str(2 * MANY), quotas.RATE_VARIABLE: "0"}
        with serving(place, **wide) as (port, _, pid):
            secrets = [_token(place) for _ in range(0, many + WARM_UP, EACH)]
            yield from anyio.run(
                _run, partial(kind, place, port, secrets), many, pid, backend_options={"use_uvloop": True}
            )


def _token(place: Place) -> str:
    command = [str(place.launcher), "token", "create", "idle"]
    made = subprocess.run(command, env=place.environment, check=True, capture_output=True)
    return made.stdout.decode().strip()


async def _run(make: Callable[[int], _Agent], many: int, pid: int) -> Sequence[ratios.Row]:
    agents: list[_Agent] = []
    try:
        await _come(agents, make, WARM_UP)
        before = resident(pid)
        await _come(agents, make, many - WARM_UP)  # a hub keeps no more sessions than so
        await asyncio.sleep(2 * _SETTLES)
        after = resident(pid)
        each = (after - before) / (many - WARM_UP)
        heard, began, spent = sum(agent.heard for agent in agents), time.monotonic(), _processor(pid)
        await asyncio.sleep(SECONDS)
        share = 100 * (_processor(pid) - spent) / (time.monotonic() - began)
        shown = (sum(agent.heard for agent in agents) - heard) / len(agents)
        chosen = random.sample(agents[1:], min(WAKES, many) + 1)
        took = [await _woken(agents[0], agent) for agent in chosen][1:]  # the first one also connects who sends
    finally:
        for agent in agents:
            agent.close()
    what = f"{agents[0].kind}, {many:,} wait"
    middle, worst = ratios.percentile(took, 0.5), ratios.percentile(took, 0.99)
    raw = {"signs_of_life_each": shown, "resident_mb": resident(pid) / 1024}
    whole = after / 1024
    return [
        ratios.Row(f"{what}: a core's share", share, share, share, bar=1, aim=0.1, unit="%", raw=raw),
        ratios.Row(f"{what}: memory of all", whole, whole, whole, bar=200 if many == MANY else None, unit="MB"),
        ratios.Row(f"{what}: memory of each", each, each, each, bar=None, aim=13, unit="KB", raw=raw),
        ratios.Row(f"{what}: send to one that has it, p50", middle, min(took), max(took), unit="ms"),
        ratios.Row(f"{what}: send to one that has it, p99", worst, min(took), max(took), bar=50, unit="ms"),
    ]


_SETTLES = 2.0
"""Seconds after which streams of HTTP have begun."""


async def _come(agents: list[_Agent], make: Callable[[int], _Agent], many: int) -> None:
    """Have so many more wait."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            agent = make(number)
            agents.append(agent)
            await agent.come()
            agent.wait()
            await agent.begun()

    await asyncio.gather(*[one(number) for number in range(len(agents), len(agents) + many)])


async def _woken(sender: _Agent, agent: _Agent) -> float:
    """Send to it; return the ms after which it has the mail."""
    began = time.perf_counter()
    sent = asyncio.ensure_future(sender.send(agent.name))
    [message] = (await agent.waits())["messages"]
    took = 1000 * (time.perf_counter() - began)
    await sent
    agent.wait(message["id"])
    return took


def _processor(pid: int) -> float:
    """Return the seconds of processor time that all threads of a process have had."""
    spent = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            spent += int((thread / "schedstat").read_text().split()[0])
    return spent / 1e9


class _Wire(asyncio.Protocol):
    """A connection on which one thing at a time is asked. `read` finds the whole answer in what has come."""

    transport: asyncio.Transport

    def __init__(self, read: Callable[[bytes], Json | None]) -> None:
        self._read = read
        self._received = b""
        self._answer: asyncio.Future[Json] | None = None
        self.heard = 0
        self.begun = asyncio.Event()
        """What is asked is answered by a stream, which has begun."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by birth

    def ask(self, data: bytes) -> asyncio.Future[Json]:
        self._answer = asyncio.get_running_loop().create_future()
        self.begun.clear()
        self.transport.write(data)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self.heard += data.count(b"notifications/progress")
        self._received += data
        if b": ping" in data:
            self.begun.set()
        found = self._read(self._received)
        if found is not None and self._answer is not None and not self._answer.done():
            self._received = b""
            self._answer.set_result(found)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or EOFError("the post office has gone"))
            self._answer.exception()  # at the end nobody asks


class _Agent:
    """One of them."""

    kind = ""

    def __init__(self, place: Place, port: int, tokens: Sequence[str], number: int) -> None:
        self.name = f"agent-{number}"
        self._place, self._port, self._token = place, port, tokens[number // EACH]
        self._asked = 0
        self._wire: _Wire
        self._waiting: asyncio.Future[Json]

    @property
    def heard(self) -> int:
        """Signs of life that have come."""
        return self._wire.heard

    async def come(self) -> None:
        """Connect and have a mailbox."""
        raise NotImplementedError

    def _spell(self, method: str, params: Json) -> bytes:
        raise NotImplementedError

    def _message(self, method: str, params: Json) -> bytes:
        self._asked += 1
        return json.dumps({"jsonrpc": "2.0", "id": self._asked, "method": method, "params": params}).encode()

    def _call(self, tool: str, arguments: Json) -> Json:
        return {"name": tool, "arguments": arguments, "_meta": {"progressToken": self._asked}}

    def wait(self, *done: str) -> None:
        """Wait from now on."""
        self._waiting = self._wire.ask(self._spell("tools/call", self._call("wait_for_message", _WAIT | {"ack": done})))

    async def begun(self) -> None:
        """Return when the wait is under way, as far as that shows."""

    async def waits(self) -> Json:
        """Return what the wait has brought."""
        return _content(await self._waiting)

    async def send(self, to: str) -> None:
        """Send somebody something, from beside the wait."""
        async with self._beside() as wire:
            _content(await wire.ask(self._spell("tools/call", self._call("send", {"to": to, "body": _BODY}))))

    def _beside(self) -> contextlib.AbstractAsyncContextManager[_Wire]:
        raise NotImplementedError

    def close(self) -> None:
        """Go."""
        with contextlib.suppress(AttributeError):
            self._wire.transport.close()


def _content(answer: Json) -> Json:
    result = answer["result"]
    if result.get("isError"):
        raise RuntimeError(result["content"][0]["text"])
    content: Json = result["structuredContent"]
    return content


class _Relayed(_Agent):
    kind = "relays"

    async def come(self) -> None:
        self._wire = await self._connect(self.name)

    async def _connect(self, name: str) -> _Wire:
        loop = asyncio.get_running_loop()
        path = str(self._place.home / "mail" / "office.sock")
        _, wire = await loop.create_unix_connection(lambda: _Wire(_in_frames), path)
        relay = f"{name}-{id(self):x}"
        about = {"relay": relay, "version": __version__, "epoch": "1", "replay": "0"}
        wire.transport.write(frames.hello(about))
        hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _HOST}
        await wire.ask(self._spell("initialize", hello))
        self._asked += 1
        done = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode()
        wire.transport.write(frames.frame(frames.MESSAGE, self._asked, done))
        _content(await wire.ask(self._spell("tools/call", self._call("create_mailbox", {"name": name}))))
        return wire

    def _spell(self, method: str, params: Json) -> bytes:
        message = self._message(method, params)
        return frames.frame(frames.MESSAGE, self._asked, message)

    @asynccontextmanager
    async def _beside(self) -> AsyncIterator[_Wire]:
        if not hasattr(self, "_other"):
            self._other = await self._connect("sender")
        yield self._other


def _in_frames(data: bytes) -> Json | None:
    for line in data.split(b"\n")[:-1]:
        if line.startswith(frames.ANSWER):
            answer: Json = json.loads(line.split(b" ", 2)[2])
            return answer
    return None


class _Web(_Agent):
    """Over HTTP."""

    path = "/mcp"

    async def begun(self) -> None:
        await self._wire.begun.wait()

    async def _connect(self) -> _Wire:
        return (await asyncio.get_running_loop().create_connection(lambda: _Wire(_in_http), "127.0.0.1", self._port))[1]

    def _request(self, content: bytes, **headers: str) -> bytes:
        about = {
            "host": f"127.0.0.1:{self._port}",
            "authorization": f"Bearer {self._token}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "content-length": str(len(content)),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in about.items()), "", ""]
        return "\r\n".join(lines).encode() + content

    @asynccontextmanager
    async def _beside(self) -> AsyncIterator[_Wire]:
        if not hasattr(self, "_other"):
            self._other = await self._connect()
        yield self._other


class _InSession(_Web):
    kind = f"HTTP, {LEGACY}"
    _session = ""

    async def come(self) -> None:
        self._wire = await self._connect()
        hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _HOST}
        greeted = await self._wire.ask(self._request(self._message("initialize", hello)))
        self._session = str(greeted["session"])
        done = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode()
        await self._wire.ask(self._request(done, mcp_session_id=self._session))
        _content(await self._wire.ask(self._spell("tools/call", self._call("create_mailbox", {"name": self.name}))))

    def _spell(self, method: str, params: Json) -> bytes:
        return self._request(self._message(method, params), mcp_session_id=self._session, mcp_protocol_version=LEGACY)


class _Alone(_Web):
    kind = f"HTTP, {MODERN}"

    async def come(self) -> None:
        self._wire = await self._connect()
        _content(await self._wire.ask(self._spell("tools/call", self._call("create_mailbox", {"name": self.name}))))

    def _spell(self, method: str, params: Json) -> bytes:
        envelope = ENVELOPE | {"io.modelcontextprotocol/clientInfo": _HOST} | params["_meta"]
        arguments = (
            params["arguments"] if params["name"] == "create_mailbox" else {**params["arguments"], "mailbox": self.name}
        )
        content = self._message(method, params | {"arguments": arguments, "_meta": envelope})
        about = {"mcp_protocol_version": MODERN, "mcp_method": method, "mcp_name": params["name"]}
        return self._request(content, **about)


_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_SESSION = re.compile(rb"mcp-session-id: (\S+)", re.IGNORECASE)


def _in_http(data: bytes) -> Json | None:
    """Return the answer, with its session's id."""
    head, _, body = data.partition(b"\r\n\r\n")
    declared = _LENGTH.search(head)
    if (len(body) < int(declared[1])) if declared else not body.endswith(b"0\r\n\r\n"):
        return None
    if b" 202 " in head.split(b"\r\n", 1)[0]:
        return {}
    text = body if declared else [line for line in body.split(b"\r\n") if line.startswith(b"data: ")][-1][6:]
    answer: Json = json.loads(text)
    if (session := _SESSION.search(head)) is not None:
        answer["session"] = session[1].decode()
    return answer


class _AtEdge(_Web):
    """At a machine whose mail the hub keeps: it has one stream for all of them, and a wait is the machine's own."""

    kind = "edges"
    _edges: ClassVar[dict[int, _Edge]] = {}

    async def come(self) -> None:
        place = int(self.name.rpartition("-")[2]) // PER_EDGE
        if place not in self._edges:
            self._edges[place] = _Edge(self, place)
        self._edge = self._edges[place]
        await self._ask("create_mailbox", {"name": self.name})

    def wait(self, *done: str) -> None:
        self._waiting = asyncio.ensure_future(self._waited(done))

    async def begun(self) -> None:
        """Its wait is its machine's own."""

    async def _waited(self, done: Sequence[str]) -> Json:
        rung = self._edge.rung.setdefault(self.name, asyncio.Event())
        while True:
            rung.clear()
            answer = await self._ask("wait_for_message", {"ack": done})
            if answer["messages"]:
                return {"result": {"structuredContent": answer}}
            done = ()
            await rung.wait()

    async def send(self, to: str) -> None:
        await self._ask("send", {"to": to, "body": _BODY})

    async def _ask(self, verb: str, given: Json) -> Json:
        self._asked += 1
        return await self._edge.ask(f"verbs/{verb}", {"who": self._who(), "given": given})

    def _who(self) -> Json:
        return {"reader": self.name, "request": str(self._asked)}

    @property
    def heard(self) -> int:
        return 0

    def close(self) -> None:
        self._waiting.cancel()
        self._edge.close()
        self._edges.clear()


class _Edge:
    """Such a machine: its stream, and a connection on which one of its agents after another asks."""

    def __init__(self, agent: _AtEdge, number: int) -> None:
        self.rung: dict[str, asyncio.Event] = {}
        self._agent = agent
        self._name = f"benchmark-edge-{number:04}"
        self._turn = asyncio.Lock()
        self._wire: _Wire | None = None
        self._stream: asyncio.Transport

    async def ask(self, place: str, said: Json) -> Json:
        async with self._turn:
            if self._wire is None:
                await self._listen()
            if self._wire is None or self._wire.transport.is_closing():  # a server keeps no connection that idles
                self._wire = await self._agent._connect()  # noqa: SLF001 - one of us
            return await self._wire.ask(self._request(place, said))

    async def _listen(self) -> None:
        connected = asyncio.get_running_loop().create_connection(
            lambda: _Rings(self.rung),
            "127.0.0.1",
            self._agent._port,  # noqa: SLF001
        )
        self._stream = (await connected)[0]
        self._stream.write(self._request("stream", {}))

    def _request(self, place: str, said: Json) -> bytes:
        agent = self._agent
        agent.path = f"{wire.PATH}{place}"
        accept = "text/event-stream" if place == "stream" else "application/json"
        return agent._request(json.dumps(said).encode(), mailbox_edge=self._name, accept=accept)  # noqa: SLF001

    def close(self) -> None:
        for transport in (self._wire.transport if self._wire is not None else None, getattr(self, "_stream", None)):
            if transport is not None:
                transport.close()


class _Rings(asyncio.Protocol):
    """The stream: tells whose mailbox was rung."""

    def __init__(self, rung: dict[str, asyncio.Event]) -> None:
        self._rung = rung
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        *events, self._received = self._received.split(b"\n\n")
        for event in events:
            if b"event: ring" in event:
                name = json.loads(event.rpartition(b"data: ")[2])["mailbox"].partition("@")[0]
                if name in self._rung:
                    self._rung[name].set()
