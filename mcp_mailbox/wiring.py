"""The only module that knows all parts: it makes the post office's process of a store, the rules and the fronts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from mcp_mailbox import __version__, config, frames, office
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import SqliteStore, open_store
from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts.mcp.client import Client
from mcp_mailbox.fronts.mcp.server import build_server, serve
from mcp_mailbox.fronts.mcp.wire import Wire
from mcp_mailbox.postoffice import Caller, PostOffice

LOCAL = "local"
"""The principal that the local socket speaks for: the user of the machine that owns it."""
STORE_FILE = "mail.db"
_LOOK_EVERY = 1.0
"""Seconds between two looks at whether the store's file is still there."""


@asynccontextmanager
async def open_service(home: str, stop: office.Stop) -> AsyncIterator[office.Service]:
    """Open the store of that home and serve it.

    Raises Refusal when the store or the settings cannot be used.
    """
    term = config.lease_term(os.environ)
    async with open_store(Path(home) / STORE_FILE, SystemClock()) as store:
        post_office = PostOffice(store, lease_term=term)
        async with post_office.business(), anyio.create_task_group() as tasks:
            tasks.start_soon(_leave_a_lost_store, store, stop)
            yield _Relays(post_office)
            tasks.cancel_scope.cancel()


async def _leave_a_lost_store(store: SqliteStore, stop: office.Stop) -> None:
    """Make way for a post office that opens what is there, when somebody removed or replaced the store's file."""
    while store.place.kept:  # noqa: ASYNC110 - a file system gives no event that is the same everywhere
        await anyio.sleep(_LOOK_EVERY)
    stop.request(details="the store's file was removed or replaced")


class _Relays:
    """Serves each relay's host over MCP."""

    def __init__(self, post_office: PostOffice) -> None:
        self._post_office = post_office
        self._server = build_server()

    async def serve(self, connection: office.RelayConnection) -> None:
        """See `office.Service`."""
        hello = connection.hello
        try:
            settings = config.host_settings(hello.env)
        except Refusal as refusal:
            settings = config.HostSettings(config.DEFAULT_SPACE, None)
            bad_space: Refusal | None = Refusal(refusal.code, f"{config.SPACE}: {refusal.problem}", refusal.hint)
        else:
            bad_space = None
        caller = Caller(hello.relay, LOCAL, settings.space)
        changed = hello.previous is not None and hello.previous != __version__
        client = Client(self._post_office, caller, settings.address, resumed=hello.resumed, program_changed=changed)
        client.refuse(bad_space)
        wire = Wire(connection, client, hello.epoch, client.ending)
        self._post_office.arrive(caller)
        try:
            await client.prepare()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.push_updates)
                tasks.start_soon(_end_with, connection, client)
                await serve(self._server, client, wire)
                tasks.cancel_scope.cancel()
        finally:
            client.close()
            with anyio.CancelScope(shield=True):
                await self._post_office.depart(caller)

    def status(self) -> dict[str, Any]:
        """See `office.Service`."""
        return {"readers": self._post_office.present}

    async def command(self, asked: dict[str, Any]) -> dict[str, Any]:
        """See `office.Service`."""
        return {"error": "unknown", "message": f"No command {asked.get('do')!a}."}


async def _end_with(connection: office.RelayConnection, client: Client) -> None:
    await connection.leaving.wait()
    if connection.reason != frames.DRAIN:  # after a hand-over the successor is asked the same again
        client.ending.set()
