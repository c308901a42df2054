"""A hub that answers whatever a test has it answer, and an edge of it in the test's own process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteStream

from mcp_mailbox.attachment import Limits
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.outbox import open_outbox
from mcp_mailbox.fronts.verbs import asking
from mcp_mailbox.link.branch import Branch, Shelves
from mcp_mailbox.link.hub import Hub
from mcp_mailbox.link.parcels import Parcels
from mcp_mailbox.link.seen import Seen
from mcp_mailbox.postoffice import Call, Caller
from mcp_mailbox.postoffice.copies import Copies
from mcp_mailbox.postoffice.handed import Tray

Json = dict[str, Any]
Answer = Callable[[str, bytes], bytes | None]
ME = Caller("relay", "local", "default")


def http(body: bytes, kind: str = "application/json", status: int = 200, **headers: str) -> bytes:
    """Spell an answer."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def events(body: bytes, kind: str = "text/event-stream") -> bytes:
    """Spell a stream that ends with the connection."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode() + body


HELLO = events(b'event: hello\ndata: {"epoch":"e","beat":5,"resumed":false}\n\n')


class Pretender:
    """A server: `answer` says with what a request is answered; None does what a hub does."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _, __: None
        self.asked: list[str] = []
        self.stored: dict[str, Json] = {}
        """What was sent, by its request."""
        self.changed = anyio.Event()
        self.holds: anyio.Event | None = None
        """Until when nothing of this is answered:"""
        self.held = {"verbs/send", "sends"}
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port = listener.extra(SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._serve)
            yield
            tasks.cancel_scope.cancel()

    async def asks(self, count: int) -> None:
        """Return once so much more was asked."""
        wanted = len(self.asked) + count
        while len(self.asked) < wanted:
            self.changed = anyio.Event()
            await self.changed.wait()

    async def _serve(self, stream: SocketStream) -> None:
        async with BufferedByteStream(stream) as lines:
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead):
                while await self._answered(lines):
                    pass

    async def _answered(self, stream: BufferedByteStream) -> bool:
        """Answer a request. Returns whether there may be another one."""
        head = (await stream.receive_until(b"\r\n\r\n", 1 << 16)).decode().lower() + "\r\n"
        length = head.partition("content-length: ")[2].partition("\r\n")[0]
        body = await stream.receive_exactly(int(length or 0))
        place = head.split()[1].removeprefix("/store/v1/")
        self.asked.append(place)
        self.changed.set()
        if self.holds is not None and place in self.held:
            await self.holds.wait()
        said = self.answer(place, body)
        stays = said is None and place == "stream"
        await stream.send(HELLO if stays else self._as_a_hub(place, body) if said is None else said)
        self.changed.set()
        if stays:
            await stream.receive()  # until the edge goes
        return not stays and (said is None or b"connection: close" not in said)

    def _as_a_hub(self, place: str, body: bytes) -> bytes:
        if place == "sends":
            lines = [json.loads(line) for line in body.splitlines()]
            self.stored |= {each["who"]["request"]: each["given"] for each in lines}
            answers = [{"number": each["number"], "answer": {"id": f"m{each['number']}"}} for each in lines]
            return http(b"\n".join(json.dumps(each).encode() for each in answers), "application/x-ndjson")
        if place == "notes":
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        if place.startswith("verbs/send"):
            return http(b"", status=503)
        return http(b'{"address":"alice@default","messages":[],"mailboxes":[]}')


@asynccontextmanager
async def edge(hub: Pretender, directory: Path) -> AsyncIterator[Branch]:
    """An edge with one mailbox that it knows."""
    async with (
        open_outbox(directory / "edge.db") as outbox,
        Hub(f"http://127.0.0.1:{hub.port}", "mbx_x", "e" * 20) as link,
    ):
        await outbox.bind("relay", "alice@default")
        parcels = Parcels(directory / "parcels", Limits(), 1 << 20)
        shelves = Shelves(parcels, Tray(directory / "handed"), Copies(directory / "opened"), Seen(directory / "seen"))
        branch = Branch(link, outbox, SystemClock(), shelves)
        async with branch.running():
            branch.arrive(ME)
            yield branch


async def say(branch: Branch, verb: str, request: str, /, **given: object) -> Json:
    return await branch.ask(asking(verb, given, Call(ME, request)))
