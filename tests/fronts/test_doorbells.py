"""From `send` to the bell of another host, through real relays and a real post office."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from mcp_mailbox.doorbells.journal import last
from tests.cli.street import Agent, Street
from tests.relay.door import Door
from tests.relay.opencode import OpenCode
from tests.relay.world import DEADLINE

CLAUDE = "claude-code"


@pytest.fixture
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    one = Street(tmp_path_factory.mktemp("s"))
    yield one
    one.end()


@pytest.fixture
def door(street: Street) -> Iterator[Door]:
    with closing(Door(street.directory / "door")) as one:
        yield one


def told(door: Door) -> str:
    """What a host's model would be told."""
    _, said = door.heard()
    assert said["type"] == "user"
    return str(said["message"]["content"])


def is_silent(door: Door, seconds: float = 1.0) -> bool:
    door.socket.settimeout(seconds)
    try:
        door.socket.accept()[0].close()
    except TimeoutError:
        return True
    return False


def test_an_idle_host_is_told_of_mail_by_its_own_relay(street: Street, door: Door) -> None:
    street.agent(None, CLAUDE, **door.environment, MCP_MAILBOX_ADDRESS="builder")
    street.agent("planner").send(subject="a secret")
    text = told(door)
    assert text.endswith("1 new message from planner in builder; call wait_for_message.")
    assert "secret" not in text
    until(street, "")
    [ring] = last(street.home.path, 10)
    assert (ring["kind"], ring["outcome"], ring["mailbox"]) == ("claude", "rung", "builder@default")


def test_a_mailbox_that_is_made_later_is_rung_for_too(street: Street, door: Door) -> None:
    street.agent("builder", CLAUDE, **door.environment)
    street.agent("planner").send()
    assert "in builder" in told(door)


def test_a_host_that_is_another_one_is_not_rung_by_what_it_inherited(street: Street, door: Door) -> None:
    """Claude Code's shell hands its environment on to whatever is started there, other agents among them."""
    street.agent("builder", "some-other-host", **door.environment)
    street.agent("planner").send()
    assert is_silent(door)
    assert last(street.home.path, 10) == []


def test_a_host_is_rung_after_its_post_office_was_killed(street: Street, door: Door) -> None:
    street.agent("builder", CLAUDE, **door.environment)
    planner = street.agent("planner")
    planner.send()
    told(door)
    kept(street, planner)
    street.home.kill_office()
    planner.send()
    assert "2 new messages from planner in builder" in told(door)


def test_what_was_rung_for_is_not_rung_for_again_by_the_next_post_office(street: Street, door: Door) -> None:
    street.agent("builder", CLAUDE, **door.environment)
    planner = street.agent("planner")
    planner.send()
    told(door)
    kept(street, planner)
    street.home.kill_office()
    planner.call("find_mailboxes")
    assert is_silent(door, 2.0)


def test_a_host_that_asked_for_quiet_hours_that_are_none_is_told_so(street: Street) -> None:
    agent = street.agent(None, CLAUDE, MCP_MAILBOX_QUIET="at night")
    answer = agent.ask("tools/call", {"name": "list_inbox", "arguments": {}})
    assert answer["isError"]
    assert "MCP_MAILBOX_QUIET" in answer["content"][0]["text"]
    assert "22:00-07:00" in answer["content"][0]["text"]


def test_a_host_whose_bell_is_broken_is_on_record(street: Street, door: Door) -> None:
    street.agent("builder", CLAUDE, **door.environment)
    planner = street.agent("planner")
    door.close()
    planner.send()
    until(street, "connection refused")


def test_codex_is_rung_in_the_thread_of_its_last_call(street: Street) -> None:
    said = street.directory / "said"
    program = street.directory / "codex"
    program.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >> {said}.part && mv {said}.part {said}\n')
    program.chmod(0o755)
    codex = street.agent("builder", "codex-mcp-client", PATH=f"{street.directory}:/usr/bin:/bin")
    planner = street.agent("planner")
    planner.send()
    until(street, "its thread is not known before its first call")
    codex.ask("tools/call", {"name": "list_inbox", "arguments": {}, "_meta": {"threadId": "thread-7"}})
    planner.send()
    until(street, "")
    words = said.read_text().split("|")
    assert words[:4] == ["queue", "--thread", "thread-7", "--message"]
    assert words[4].endswith("from planner in builder; call wait_for_message.")
    # Also when the post office that has learnt it is dead: an idle host does not say it again.
    said.unlink()
    street.home.kill_office()
    planner.send()
    eventually(said.exists)
    assert said.read_text().split("|")[2] == "thread-7"


@pytest.mark.parametrize(("name", "code"), [("codex-mcp-client", None), ("some-other-host", "read_elsewhere")])
def test_a_new_thread_of_codex_reads_where_the_old_one_was_left(street: Street, name: str, code: str | None) -> None:
    """It starts a server for each thread, and ends the old one's a minute later; another program has several agents."""
    street.agent("builder", name).call("wait_for_message", timeout=0)
    thread = street.agent(None, name, MCP_MAILBOX_ADDRESS="builder")
    street.agent("planner").send()
    answer = thread.ask("tools/call", {"name": "wait_for_message", "arguments": {"timeout": 20}})
    assert answer["structuredContent"].get("error") == code


@pytest.fixture
def opencode() -> Iterator[OpenCode]:
    with closing(OpenCode()) as one:
        yield one


def test_opencode_is_prompted_in_the_newest_session_of_its_directory(street: Street, opencode: OpenCode) -> None:
    here = Path.cwd()  # where the relay is started
    opencode.session("ses_old", here, 1)
    model = {"id": "m", "providerID": "p", "variant": "v"}
    opencode.session("ses_ours", here, 2, agent="plan", model=model)
    opencode.session("ses_away", here, 3, time={"archived": 4})
    opencode.session("ses_subagent", here, 5, parentID="ses_ours")
    opencode.session("ses_other", here.parent, 6)
    street.agent("builder", "opencode", **opencode.environment)
    street.agent("planner").send(subject="a secret")
    session, prompt = opencode.prompted()
    assert session == "ses_ours"
    # As who works there: the default agent may do more than the one that its user has chosen.
    assert prompt["agent"] == "plan"
    assert (prompt["model"], prompt["variant"]) == ({"providerID": "p", "modelID": "m"}, "v")
    [part] = prompt["parts"]
    assert part["text"].endswith("1 new message from planner in builder; call wait_for_message.")
    until(street, "")
    assert all(f"directory={quote(str(here), safe='')}" in each for each in opencode.asked)


@pytest.mark.soak
def test_opencode_is_prompted_where_it_called_last_though_another_session_is_newer(
    street: Street, opencode: OpenCode
) -> None:
    """Two windows in one directory are two processes with the same sessions; only what is busy is a process's own."""
    opencode.session("ses_ours", Path.cwd(), 1)
    opencode.session("ses_window", Path.cwd(), 9)
    agent = street.agent("builder", "opencode", **opencode.environment)
    opencode.busy = {"ses_ours"}

    def is_learnt() -> bool:
        agent.call("list_inbox")  # asks anew when what was asked before is known
        return sum("/session/status" in each for each in opencode.asked) > 1

    eventually(is_learnt)
    opencode.busy = set()
    planner = street.agent("planner")
    planner.send()
    assert opencode.prompted()[0] == "ses_ours"
    # Also when the post office that has learnt it is dead; and what is gone by then is not spoken to.
    kept(street, planner)
    street.home.kill_office()
    planner.send()
    assert opencode.prompted()[0] == "ses_ours"
    del opencode.sessions["ses_ours"]
    agent.call("wait_for_message", timeout=0)
    planner.send()
    assert opencode.prompted()[0] == "ses_window"


def test_opencode_is_left_alone_when_only_other_projects_have_sessions(street: Street, opencode: OpenCode) -> None:
    opencode.session("ses_other", "/somewhere/else", 1)
    street.agent("builder", "opencode", **opencode.environment)
    street.agent("planner").send()
    until(street, "opencode has no session in its directory")
    assert opencode.was_not_prompted()


# -- channels


def said_in_channel(agent: Agent) -> Any:
    """What the host is told next by a notification of that kind."""
    while (line := agent.host.line()).get("method") != "notifications/claude/channel":
        pass
    return line["params"]


def test_a_host_with_channels_is_told_by_a_notification_and_by_nothing_else(street: Street, door: Door) -> None:
    agent = street.agent("builder", CLAUDE, **door.environment, MCP_MAILBOX_CHANNELS="on")
    planner = street.agent("planner")
    planner.send(subject="a secret")
    params = said_in_channel(agent)
    assert params["content"].endswith("1 new message from planner in builder; call wait_for_message.")
    assert params["meta"] == {"mailbox": "builder@default", "from": "planner", "messages": "1", "urgent": "0"}
    until(street, "")
    assert last(street.home.path, 1)[0]["kind"] == "channel"
    # Also after a crash: an idle host says nothing by which it could be known.
    kept(street, planner)
    street.home.kill_office()
    planner.send()
    assert "2 new messages" in said_in_channel(agent)["content"]
    assert is_silent(door)


def test_channels_are_for_those_who_want_them_and_are_not_silent(street: Street) -> None:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": CLAUDE, "version": "1"}}
    for switch, declared in (("on", {"claude/channel": {}}), ("off", None)):
        host = street.home.host(MCP_MAILBOX_CHANNELS=switch)
        street.hosts.append(host)
        host.send_raw(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}).encode() + b"\n")
        assert (host.line()["result"]["capabilities"].get("experimental") or None) == declared
    quiet = street.agent("quiet", CLAUDE, MCP_MAILBOX_CHANNELS="on", MCP_MAILBOX_DOORBELL="off")
    street.agent("planner").send("quiet")
    wrong = street.agent(None, CLAUDE, MCP_MAILBOX_CHANNELS="perhaps")
    answer = wrong.ask("tools/call", {"name": "list_inbox", "arguments": {}})
    assert "MCP_MAILBOX_CHANNELS" in answer["content"][0]["text"]
    quiet.call("list_inbox")  # what had been said before would have come before its answer
    assert last(street.home.path, 10) == []


@pytest.mark.anyio
async def test_a_client_that_would_speak_the_newest_protocol_is_led_to_the_one_that_has_channels(
    street: Street,
) -> None:
    """2026-07-28 has no way to say something unasked, and Claude Code registers no channel there."""
    program = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "mcp_mailbox", "stdio"],
        env=street.home.environment(MCP_MAILBOX_CHANNELS="on", MCP_MAILBOX_ADDRESS="builder"),
    )
    came = anyio.Event()
    heard: list[Any] = []

    async def hear(message: Any) -> None:
        heard.append(message)
        came.set()

    with anyio.fail_after(DEADLINE):
        async with Client(stdio_client(program), mode="auto", message_handler=hear) as client:
            assert client.server_capabilities.experimental == {"claude/channel": {}}
            assert client.protocol_version == "2025-11-25"
            await client.call_tool("list_inbox", {})
            planner = await anyio.to_thread.run_sync(street.agent, "planner")
            await anyio.to_thread.run_sync(planner.send)
            await anyio.to_thread.run_sync(until, street, "")
    assert last(street.home.path, 1)[0]["kind"] == "channel"


def kept(street: Street, other: Agent) -> None:
    """Return once the last ring would be known after a crash: what is on its way to the disk goes with a message.

    A host hears its bell before the post office hears that it did, so what another agent sends may overtake that.
    """
    until(street, "")
    other.send("planner")


def until(street: Street, reason: str) -> None:
    """Return once the last ring came to that."""
    eventually(lambda: [ring["reason"] for ring in last(street.home.path, 1)] == [reason])


def eventually(holds: Callable[[], bool]) -> None:
    """Return once it does: a file gives no event."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
