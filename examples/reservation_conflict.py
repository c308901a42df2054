"""Two agents want the same files: one reserves them, the other is told who has them, asks, and gets them next.

    .venv/bin/python examples/reservation_conflict.py

Both are real MCP clients on stdio, in a throw-away home that is gone afterwards. Alice lets go as soon as she is asked;
had she never answered, her reservation would have ended by itself.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
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
        print(f"{self.name:6}{text}", flush=True)


async def start(name: str, home: str, stack: AsyncExitStack) -> Agent:
    """Start an agent's own connection, as its host would."""
    environment = get_default_environment() | {"MCP_MAILBOX_HOME": home}
    server = StdioServerParameters(command=LAUNCHER, args=["stdio"], env=environment)
    streams = await stack.enter_async_context(stdio_client(server))
    session = await stack.enter_async_context(ClientSession(*streams))
    await session.initialize()
    agent = Agent(name, session)
    await agent.call("create_mailbox", name=name)
    return agent


async def let_go_when_asked(alice: Agent) -> None:
    """Finish, release, and say so."""
    [asked] = (await alice.call("wait_for_message"))["messages"]
    alice.say(f"reads: {asked['body']}")
    released = await alice.call("reserve", names="src/api/", release=True)
    await alice.call("send", to=asked["from"], body="Done, it is yours.", reply_to=asked["id"])
    alice.say(f"releases {', '.join(released['released'])}")


async def get_what_another_holds(bob: Agent) -> None:
    """Ask for it, and wait for the answer instead of trying again and again."""
    wanted = ["src/api/routes.py", "README.md"]
    refused = await bob.call("reserve", names=wanted)
    bob.say(f"is refused: {refused['message']}")
    holder = refused["conflicts"][0]["by"]
    sent = await bob.call("send", to=holder, body="May I have src/api/routes.py?")
    await bob.call("wait_for_message", thread=sent["thread"])
    [held] = (await bob.call("reserve", names=wanted))["reserved"]
    bob.say(f"holds {', '.join(held['names'])} until {held['until']}")


async def main(home: str) -> None:
    """Play it."""
    async with AsyncExitStack() as stack:
        alice, bob = await start("alice", home, stack), await start("bob", home, stack)
        [held] = (await alice.call("reserve", names="src/api/", ttl=1800, note="splitting routes.py"))["reserved"]
        alice.say(f"holds {', '.join(held['names'])} until {held['until']}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(let_go_when_asked, alice)
            await get_what_another_holds(bob)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="mailbox-example-") as directory:
        try:
            anyio.run(main, directory)
        finally:
            environment = get_default_environment() | {"MCP_MAILBOX_HOME": directory}
            subprocess.run([LAUNCHER, "stop"], env=environment, check=False, stdout=subprocess.DEVNULL)  # noqa: S603 - our own program
