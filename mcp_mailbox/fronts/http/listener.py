"""The HTTP server: uvicorn with httptools on sockets of ours, inside the post office's process.

uvicorn speaks HTTP; signals and the order of leaving are the office's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager

import anyio
import uvicorn

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts.http.app import App
from mcp_mailbox.fronts.http.connection import Connection

_BACKLOG = 2048


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the office has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def main_loop(self) -> None:
        """Keep the Date of answers right; its own way looks ten times a second whether to end, which it is told."""
        while True:
            await self.on_tick(0)
            await asyncio.sleep(1)

    def leave(self) -> None:
        """Close what it has open. Its own way takes a third of a second more, in steps of a tenth."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Connection)  # noqa: S101 - it is what `http` below names
            connection.leave()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound there. Raises Refusal(BAD_ARGUMENT)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise Refusal(
            Code.BAD_ARGUMENT, f"Cannot listen on {host} port {port}: {reason}.", "Choose another --host or --port."
        ) from error
    listener.setblocking(False)
    return listener


def load_tls(certificate: str, key: str | None) -> ssl.SSLContext:
    """Read a certificate and its key (PEM). Raises Refusal(BAD_ARGUMENT)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        files = f"{certificate} and {key}" if key else certificate
        raise Refusal(
            Code.BAD_ARGUMENT, f"The TLS files cannot be used ({files}): {error}.", "See --tls-cert."
        ) from error
    return context


@asynccontextmanager
async def listening(app: App, listener: socket.socket, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
    """Serve the application on that socket; on the way out what is open ends at once."""
    settings = uvicorn.Config(
        app,
        http=Connection,
        loop="none",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=1,
        ssl_context_factory=(lambda *_: tls) if tls else None,
    )
    settings.load()
    server = _Server(settings)
    async with anyio.create_task_group() as tasks, app.running():
        tasks.start_soon(server.serve, [listener])
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await app.close()
            server.leave()
        tasks.cancel_scope.cancel()
