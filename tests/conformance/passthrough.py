"""Between the suite's client, which knows no tokens, and a server that wants one: adds the header, and nothing else.

One request a connection, as the suite's client is content with; answers are passed on as they come.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.abc

_HEAD_LIMIT = 65536


@asynccontextmanager
async def passthrough(port: int, token: str) -> AsyncIterator[int]:
    """Serve on a port of its own, which is yielded."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, partial(_pass, port, token))
        yield int(listener.extra(anyio.abc.SocketAttribute.local_port))
        tasks.cancel_scope.cancel()


async def _pass(port: int, token: str, client: anyio.abc.SocketStream) -> None:
    async with client:
        try:
            async with await anyio.connect_tcp("127.0.0.1", port) as server:
                head, rest = await _head(client)
                # Our own port, so that what the suite says of other hosts stays what it says.
                ours = f"127.0.0.1:{client.extra(anyio.abc.SocketAttribute.local_port)}".encode()
                for name in (b"127.0.0.1", b"localhost"):
                    head = head.replace(ours.replace(b"127.0.0.1", name), name + b":%d" % port)
                added = b"\r\nauthorization: Bearer " + token.encode() + b"\r\nconnection: close\r\n"
                kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
                await server.send(b"\r\n".join(kept) + added + b"\r\n" + rest)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_pump, client, server, tasks.cancel_scope)
                    tasks.start_soon(_pump, server, client, tasks.cancel_scope)
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream):
            pass  # one of them has gone


async def _head(client: anyio.abc.SocketStream) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received and len(received) < _HEAD_LIMIT:
        received += await client.receive()
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


async def _pump(source: anyio.abc.SocketStream, sink: anyio.abc.SocketStream, scope: anyio.CancelScope) -> None:
    try:
        async for block in source:
            await sink.send(block)
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass
    scope.cancel()
