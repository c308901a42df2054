"""An agent of your own, without any host: it opens a mailbox, waits for mail and answers each message once.

    .venv/bin/python examples/answering_agent.py echo        # then write to "echo" from any agent; Ctrl-C ends it

`work` is where a model, a test run or a script of yours would go. If this process dies in the middle of it, the message
comes back and is done by the next run; `reply_to` makes the answer and the ack one step.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import get_default_environment, stdio_client

LAUNCHER = shutil.which("mcp-mailbox", path=Path(sys.executable).parent) or "mcp-mailbox"


async def work(message: dict[str, Any]) -> str:
    """Do what the message asks; here: say it louder."""
    return str(message["body"]).upper()


async def call(session: ClientSession, tool: str, **arguments: object) -> dict[str, Any]:
    """Call a tool; a refusal says what to do instead."""
    result = await session.call_tool(tool, arguments)
    content: dict[str, Any] = result.structured_content or {}
    if result.is_error:
        raise SystemExit(f"{content.get('message')} {content.get('hint')}")
    return content


async def main(name: str, home: str | None) -> None:
    """Answer mail until the process ends."""
    environment = get_default_environment() | ({"MCP_MAILBOX_HOME": home} if home else {})
    server = StdioServerParameters(command=LAUNCHER, args=["stdio"], env=environment)
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        mine = await call(session, "create_mailbox", name=name, about="answers in capitals")
        print(f"{mine['address']} has {mine['unread']} unread", flush=True)
        while True:
            for message in (await call(session, "wait_for_message"))["messages"]:
                answer = await work(message)
                await call(session, "send", to=message["from"], body=answer, reply_to=message["id"])
                print(f"answered {message['from']}", flush=True)


if __name__ == "__main__":
    try:
        anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "echo", sys.argv[2] if len(sys.argv) > 2 else None)
    except KeyboardInterrupt:
        print("The mailbox keeps what comes meanwhile.")
