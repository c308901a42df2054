"""`mcp-mailbox demo`: two real MCP clients on real relays exchange mail; one of them is offline in between.

Everything happens in a throw-away home, and nothing of it stays. Any step that does not go as told ends the demo
with exit code 1.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from rich.console import Console

from mcp_mailbox import machine, rendezvous
from mcp_mailbox.fronts.cli import registration

_PATIENCE = 60
_console = Console(soft_wrap=True, highlight=False)


class _Unexpected(Exception):  # noqa: N818 - it is reported, not handled
    """A step did not go as told."""


def run() -> int:
    """Play the demo; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="mcp-mailbox-demo-", ignore_cleanup_errors=True) as folder:
        home = str(Path(folder) / "home")
        try:
            anyio.run(_play, home)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - whatever it was, a person reads it
            _console.print("[red]The demo failed:[/red]", _leaf(error), markup=True)
            return 1
        finally:
            _stop(home)
    _console.print(
        "\nNothing was changed so far. `mcp-mailbox setup` registers it in your hosts; by hand, these lines do it:\n"
    )
    for line in registration.lines():
        _console.print(f"  {line}", markup=False)
    return 0


async def _play(home: str) -> None:
    with anyio.fail_after(_PATIENCE):
        async with _agent(home) as bob:
            _tell("bob", "makes a mailbox", await _call(bob, "create_mailbox", name="bob", about="reviews code"))
        _tell("bob", "ends his session: nobody reads his mailbox now", None)
        async with _agent(home) as alice:
            _tell("alice", "makes a mailbox", await _call(alice, "create_mailbox", name="alice"))
            sent = await _call(alice, "send", to="bob", subject="review", body="Please review branch fix-42.")
            _tell("alice", "sends mail to bob, who is offline: stored durably", sent)
            _kill_post_office(home)
            await _answer_while_waiting(home, alice)


async def _answer_while_waiting(home: str, alice: ClientSession) -> None:
    """Let alice wait while bob starts, gets his mail and answers: his answer wakes her."""
    async with anyio.create_task_group() as tasks:
        answered = anyio.Event()
        tasks.start_soon(_wait_and_tell, alice, answered)
        async with _agent(home) as bob:
            await _call(bob, "create_mailbox", name="bob")
            got = await _call(bob, "wait_for_message")
            _tell("bob", "starts again and gets what was sent while he was away", got)
            message = _only_message(got)
            answer = await _call(bob, "send", to=message["from"], body="Looks good. Merged.", reply_to=message["id"])
            _tell("bob", "answers, which also acks it", answer)
            answered.set()


async def _wait_and_tell(alice: ClientSession, answered: anyio.Event) -> None:
    began = time.perf_counter()
    got = await _call(alice, "wait_for_message", timeout=30)
    woken = time.perf_counter() - began
    message = _only_message(got)
    await answered.wait()  # she may have it before bob's own answer is told
    _tell("alice", f"who was waiting, is woken after {woken:.1f} s", got)
    await _call(alice, "settle", ids=[message["id"]], outcome="ack")


@asynccontextmanager
async def _agent(home: str) -> AsyncIterator[ClientSession]:
    """Start what a host starts: a relay of its own, which starts the post office when there is none."""
    program = registration.command()
    # From nothing but what an MCP host hands on: the surrounding shell must not matter.
    environment = {name: os.environ[name] for name in ("HOME", "PATH", "PYTHONPATH") if name in os.environ}
    environment[machine.HOME_VARIABLE] = home
    server = StdioServerParameters(command=program[0], args=program[1:], env=environment)
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        yield session


def _leaf(error: BaseException) -> BaseException:
    """Return the exception that the task groups have wrapped."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _call(session: ClientSession, tool: str, **arguments: object) -> dict[str, Any]:
    result = await session.call_tool(tool, arguments)
    content = result.structured_content
    if result.is_error or not isinstance(content, dict):
        raise _Unexpected(f"{tool} answered {content or result.content}")
    return content


def _only_message(got: dict[str, Any]) -> dict[str, Any]:
    if len(got["messages"]) != 1:
        raise _Unexpected(f"one message was expected: {got}")
    message: dict[str, Any] = got["messages"][0]
    return message


def _kill_post_office(home: str) -> None:
    """Show what store and forward means: not even this loses mail."""
    os.kill(int((Path(home) / "office.lock").read_text()), signal.SIGKILL)
    _tell("kill -9", "the post office dies; the relays start it again and nobody notices", None)


def _stop(home: str) -> None:
    try:
        rendezvous.stop(home, "demo")
    except rendezvous.Refused as refused:
        _console.print(f"The demo's post office did not stop: {refused.hint}")


def _tell(who: str, what: str, answer: dict[str, Any] | None) -> None:
    _console.print(f"[bold]{who:>8}[/bold]  {what}")
    if answer is not None:
        _console.print(f"          [dim]{answer}[/dim]".replace("\n", " "))
