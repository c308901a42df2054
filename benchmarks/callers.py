"""Raw HTTP clients, a connection each and no library. Cheap: on two cores they run beside the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import cast

import anyio

Good = Callable[[bytes, bytes], bool]
"""Tells by its head and body whether an answer is what was asked for."""


def timed(port: int, requests: Sequence[Sequence[bytes]], good: Good) -> float:
    """Return the seconds in which all clients have made their requests, each client its own, one after another."""
    return anyio.run(_load, port, requests, good, backend_options={"use_uvloop": True})


async def _load(port: int, requests: Sequence[Sequence[bytes]], good: Good) -> float:
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(lambda: _Client(loop, good), "127.0.0.1", port))[1] for _ in requests]
    began = time.perf_counter()
    await asyncio.gather(*[client.call(each) for client, each in zip(clients, requests, strict=True)])
    took = time.perf_counter() - began
    for client in clients:
        client.transport.close()
    return took


class _Client(asyncio.Protocol):
    """Makes one request after another on one connection."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, good: Good) -> None:
        self._done: asyncio.Future[None] = loop.create_future()
        self._good = good
        self._received = b""

    async def call(self, requests: Sequence[bytes]) -> None:
        self._next = iter(requests)
        self.transport.write(next(self._next))
        await self._done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by birth

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or not _is_whole(head.lower(), body):
            return
        if not self._good(head, body):
            self._done.set_exception(RuntimeError(self._received.decode()))
            return
        self._received = b""
        following = next(self._next, None)
        if following is None:
            self._done.set_result(None)
        else:
            self.transport.write(following)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or EOFError("the server has gone"))


def _is_whole(head: bytes, body: bytes) -> bool:
    _, declared, length = head.partition(b"content-length: ")
    if declared:
        return len(body) >= int(length.partition(b"\r\n")[0])
    return body.endswith(b"0\r\n\r\n")
