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

FOR_GOOD = {"unknown_mailbox", "body_too_large"}
"""An answer that was refused so will be refused again: its sender takes no mail, or it is too long."""


class RefusedError(Exception):
    """The mailbox said no; the text says why, and what to do instead."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(f"{content.get('message')} {content.get('hint', '')}".strip())
        self.code = content.get("error")


async def work(message: dict[str, Any]) -> str:
    """Do what the message asks; here: say it louder."""
    return str(message["body"]).upper()


async def call(session: ClientSession, tool: str, **arguments: object) -> dict[str, Any]:
    """Call a tool; a refusal says what to do instead."""
    result = await session.call_tool(tool, arguments)
    content: dict[str, Any] = result.structured_content or {}
    if result.is_error:
        raise RefusedError(content)
    return content


async def complete(session: ClientSession, message: dict[str, Any]) -> dict[str, Any]:
    """Read on where a long body was cut: `more` says from where, page after page."""
    body, page = str(message["body"]), message
    while "more" in page:
        page = await call(session, "read", id=message["id"], offset=page["more"])
        body += page["body"]
    return {**message, "body": body}


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
                answer = await work(await complete(session, message))
                try:
                    await call(session, "send", to=message["from"], body=answer, reply_to=message["id"])
                except RefusedError as refused:
                    if refused.code not in FOR_GOOD:
                        raise
                    # Kept and listed, never handed out again.
                    print(f"no answer to {message['from']}: {refused}", flush=True)
                    await call(session, "settle", ids=[message["id"]], outcome="reject")
                else:
                    print(f"answered {message['from']}", flush=True)


def refusals(error: BaseException) -> list[str]:
    """Return what was refused; task groups wrap it."""
    if isinstance(error, BaseExceptionGroup):
        return [each for one in error.exceptions for each in refusals(one)]
    return [str(error)] if isinstance(error, RefusedError) else []


if __name__ == "__main__":
    try:
        anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "echo", sys.argv[2] if len(sys.argv) > 2 else None)
    except KeyboardInterrupt:
        print("The mailbox keeps what comes meanwhile.")
    except (RefusedError, ExceptionGroup) as error:
        if told := refusals(error):
            sys.exit(told[0])
        raise
