"""What the examples share: an agent that is a real MCP client on stdio, and a throw-away home with its post office."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import get_default_environment, stdio_client

LAUNCHER = shutil.which("mcp-mailbox", path=Path(sys.executable).parent) or "mcp-mailbox"


class Agent:
    """A mailbox, and the session that acts for it."""

    def __init__(self, name: str, session: ClientSession) -> None:
        self.name = name
        self._session = session

    async def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """Call a tool; a refusal is an answer too: it says what is wrong and what to do."""
        result = await self._session.call_tool(tool, arguments)
        return result.structured_content or {}

    def say(self, text: str) -> None:
        """Tell who watches."""
        print(f"{self.name:7}{text}", flush=True)


@asynccontextmanager
async def agent(name: str, home: str, *, mailbox: str | None = None, **settings: str) -> AsyncIterator[Agent]:
    """Start an agent's own connection, as its host would, and open its mailbox; on leaving, it is gone.

    `settings` are variables of the environment, the same for all agents of a home.
    """
    environment = get_default_environment() | {"MCP_MAILBOX_HOME": home} | settings
    server = StdioServerParameters(command=LAUNCHER, args=["stdio"], env=environment)
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        one = Agent(name, session)
        await one.call("create_mailbox", name=mailbox or name)
        yield one


@contextmanager
def throw_away_home() -> Iterator[str]:
    """Make a home; on leaving, its post office has stopped and nothing is left."""
    with tempfile.TemporaryDirectory(prefix="mailbox-example-") as home:
        try:
            yield home
        finally:
            environment = get_default_environment() | {"MCP_MAILBOX_HOME": home}
            subprocess.run([LAUNCHER, "stop"], env=environment, check=False, stdout=subprocess.DEVNULL)  # noqa: S603 - our own program
