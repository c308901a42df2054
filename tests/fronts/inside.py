"""The front in the test's own process: a relay's connection in memory, the real server, post office and store."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp.server.lowlevel import Server

from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.fronts.mcp.client import PROGRESS_EVERY, Client
from mcp_mailbox.fronts.mcp.server import build_server, serve
from mcp_mailbox.fronts.mcp.wire import Wire
from mcp_mailbox.fronts.verbs import Here
from mcp_mailbox.office import Frame
from mcp_mailbox.postoffice import Caller, PostOffice
from mcp_mailbox.store import Store
from tests.conftest import DEADLINE
from tests.fronts.world import LEGACY

Json = dict[str, Any]


class Line:
    """Both ends of a relay's connection: what the office says of it, and what the test does with it."""

    def __init__(self) -> None:
        self._to_office, self._from_relay = anyio.create_memory_object_stream[Frame](math.inf)
        self._to_relay, self._from_office = anyio.create_memory_object_stream[tuple[str, int, Json]](math.inf)
        self._asked = 0
        self.reads = True
        """Whether the host reads what it is told."""
        self.kept: list[int] = []
        self.forgotten: list[int] = []

    # -- the office's end

    async def receive(self) -> Frame:
        return await self._from_relay.receive()

    async def answer(self, serial: int, line: bytes) -> None:
        await self._to_relay.send(("answer", serial, json.loads(line)))

    async def notify(self, line: bytes) -> bool:
        if self.reads:
            await self._to_relay.send(("notify", 0, json.loads(line)))
        return self.reads

    def offer(self, line: bytes) -> bool:
        if self.reads:
            self._to_relay.send_nowait(("notify", 0, json.loads(line)))
        return self.reads

    async def keep(self, serial: int) -> None:
        self.kept.append(serial)

    async def forget(self, serial: int) -> None:
        self.forgotten.append(serial)

    # -- the test's end

    def write(self, message: Json, kind: bytes = b"m") -> int:
        """Send a line; return its serial."""
        self._asked += 1
        line = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._to_office.send_nowait(Frame(kind, self._asked, line))
        return self._asked

    def ask(self, method: str, params: Json | None = None, kind: bytes = b"m") -> int:
        """Send a request, whose id is its serial."""
        return self.write({"id": self._asked + 1, "method": method, "params": params or {}}, kind)

    def call(self, tool: str, /, **arguments: object) -> int:
        return self.ask("tools/call", {"name": tool, "arguments": arguments})

    def took(self, serial: int) -> None:
        """Say that the host has the answer to that line."""
        self._to_office.send_nowait(Frame(b"w", serial, b""))

    def cancel(self, request: int, reason: str | None = None) -> None:
        """Cancel it, as a host does."""
        why = {"reason": reason} if reason is not None else {}
        self.write({"method": "notifications/cancelled", "params": {"requestId": request, **why}})

    async def heard(self) -> Json:
        """Return the next line for the host."""
        return (await self._from_office.receive())[2]

    async def result(self, serial: int) -> Json:
        """Return the answer to that line, past what else is said."""
        result: Json = (await self._answered(serial))["result"]
        return result

    async def error(self, serial: int) -> Json:
        """Return the error that is the answer to that line."""
        error: Json = (await self._answered(serial))["error"]
        return error

    async def _answered(self, serial: int) -> Json:
        while True:
            kind, number, message = await self._from_office.receive()
            if kind == "answer" and number == serial:
                return message

    async def answered(self, serials: Sequence[int]) -> None:
        """Wait until all of them are answered, in whatever order."""
        open_ = set(serials)
        while open_:
            kind, number, _ = await self._from_office.receive()
            if kind == "answer":
                open_.discard(number)

    async def content(self, serial: int) -> Json:
        content: Json = (await self.result(serial))["structuredContent"]
        return content

    async def greet(self, name: str = "test") -> None:
        client = {"name": name, "version": "1"}
        await self.result(self.ask("initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client}))
        self.write({"method": "notifications/initialized"})

    def close(self) -> None:
        for stream in (self._to_office, self._from_relay, self._to_relay, self._from_office):
            stream.close()


class Inside:
    """A post office whose store the test can reach."""

    def __init__(self, office: PostOffice, store: Store) -> None:
        self.office = office
        self.store = store

    @asynccontextmanager
    async def trouble(self) -> AsyncIterator[None]:
        """Let the store fail for a while: to SQLite it looks as if a table were missing."""
        writer = self.store.writer  # type: ignore[attr-defined]  # a file's trouble is no verb
        await writer.do(lambda db: db.execute("ALTER TABLE mailbox RENAME TO missing").fetchall())
        yield
        await writer.do(lambda db: db.execute("ALTER TABLE missing RENAME TO mailbox").fetchall())

    @asynccontextmanager
    async def line(
        self,
        epoch: int = 1,
        *,
        configured: str | None = None,
        progress_every: float = PROGRESS_EVERY,
        server: Server[Client] | None = None,
    ) -> AsyncIterator[Line]:
        line = Line()
        caller = Caller("relay", "local", "default")
        client = Client(Here(self.office), caller, configured, resumed=epoch > 1, progress_every=progress_every)
        wire = Wire(line, client, epoch, client.ending)
        self.office.arrive(client.caller)
        try:
            await client.prepare()
            async with anyio.create_task_group() as tasks:
                client.push_in(tasks)
                tasks.start_soon(serve, server or build_server(), client, wire)
                yield line
                tasks.cancel_scope.cancel()
        finally:
            client.close()
            line.close()
        await self.office.depart(client.caller)


@asynccontextmanager
async def inside(directory: Path) -> AsyncIterator[Inside]:
    with anyio.fail_after(DEADLINE):
        async with open_store(directory / "mail.db", SystemClock()) as store:
            office = PostOffice(store)
            async with office.business():
                yield Inside(office, store)
