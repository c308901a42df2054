"""Serve the fixtures over our own transport: `python -m tests.conformance.serve_fixtures DIRECTORY`. Prints its URL."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import anyio

from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.fronts.http import listener
from mcp_mailbox.fronts.http.app import App
from mcp_mailbox.fronts.http.desk import OpenDesk
from mcp_mailbox.fronts.http.gate import Gate
from mcp_mailbox.fronts.http.stream import OpenStreams
from mcp_mailbox.fronts.mcp.http.clients import Clients
from mcp_mailbox.fronts.mcp.http.room import PATH, McpRoom
from mcp_mailbox.fronts.verbs import Here
from mcp_mailbox.postoffice import PostOffice
from tests.conformance.fixtures import fixture_server


async def main(directory: Path) -> None:
    with closing(listener.bind("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        async with open_store(directory / "mail.db", SystemClock()) as store:
            office = PostOffice(store)
            streams = OpenStreams()
            rooms = {PATH: McpRoom(fixture_server(), Clients(Here(office), "default"), streams)}
            app = App(rooms, OpenDesk("local"), Gate(port), streams, office.limits)
            async with office.business(), listener.listening(app, bound, None):
                print(f"http://127.0.0.1:{port}{PATH}", flush=True)  # noqa: T201 - whoever started us reads it
                await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), backend_options={"use_uvloop": True})
