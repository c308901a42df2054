"""A wait over HTTP that idles has no task, and its client does not notice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.fronts.http.listener import bind, listening
from mcp_mailbox.fronts.mcp.server import build_server
from mcp_mailbox.postoffice import PostOffice
from tests.conftest import DEADLINE
from tests.http.caller import LEGACY, MODERN, Caller, Json, Line
from tests.http.conftest import Post
from tests.http.serving import open_app

ERAS = pytest.mark.parametrize("era", [LEGACY, MODERN])
SETTLED = 0.3
"""Seconds after the first sign of life in which a wait has left its task."""


def come(us: Caller, era: str, name: str = "alice") -> None:
    if era == LEGACY:
        us.begin()
        us.within("tools/call", name="create_mailbox", arguments={"name": name})
    else:
        us.call("create_mailbox", name=name)


def spell(us: Caller, era: str, tool: str, /, **arguments: object) -> bytes:
    params = {"name": tool, "arguments": {key.rstrip("_"): each for key, each in arguments.items()}}
    if era == LEGACY:
        return us.spell("tools/call", **params)
    message = us.message("tools/call", **params)
    return us.request(body=message, **us.modern(message))


@contextmanager
def parked(us: Caller, era: str, **arguments: object) -> Iterator[Line]:
    """Have a wait that is parked by now."""
    with us.line() as line:
        line.write(spell(us, era, "wait_for_message", mailbox="alice", **arguments))
        assert line.head()[1]["content-type"] == "text/event-stream"
        time.sleep(SETTLED)
        yield line


def bodies(message: Json) -> list[str]:
    return [each["body"] for each in message["result"]["structuredContent"]["messages"]]


@ERAS
@pytest.mark.anyio
async def test_it_has_no_task(tmp_path: Path, era: str) -> None:
    listener = bind("127.0.0.1", 0)
    us = Caller(listener.getsockname()[1], None)
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "mail.db", SystemClock()) as store:
            office = PostOffice(store)
            app = open_app(build_server(), office, us.port)
            async with office.business(), listening(app, listener, None):
                await anyio.to_thread.run_sync(come, us, era)
                await anyio.sleep(SETTLED)
                before = len(asyncio.all_tasks())
                wait = parked(us, era)
                line = await anyio.to_thread.run_sync(wait.__enter__)
                assert (len(asyncio.all_tasks()), app.status()["requests"]) == (before, 1)
                await anyio.to_thread.run_sync(us.ask, "POST", "/mcp")
                await anyio.to_thread.run_sync(lambda: us.call("send", mailbox="alice", to="alice", body="x"))
                assert bodies(await anyio.to_thread.run_sync(line.event)) == ["x"]
                await anyio.to_thread.run_sync(wait.__exit__, None, None, None)
                assert app.status()["requests"] == 0


@ERAS
def test_mail_that_it_does_not_want_leaves_it_where_it_is(post: Post, era: str) -> None:
    us = post.caller()
    come(us, era)
    us.call("create_mailbox", name="bob")
    with parked(us, era, from_="bob") as line:
        us.call("send", mailbox="alice", to="alice", body="not this")
        time.sleep(SETTLED)
        us.call("send", mailbox="bob", to="alice", body="this")
        assert bodies(line.event()) == ["this"]
        assert line.ended()


@ERAS
def test_its_time_is_what_it_asked_for(post: Post, era: str) -> None:
    us = post.caller()
    come(us, era)
    began = time.monotonic()
    with parked(us, era, timeout=1.5) as line:
        assert line.event()["result"]["structuredContent"]["timed_out"]
        assert 1.4 < time.monotonic() - began < 4


def both_answered(us: Caller, line: Line, rest: bytes) -> None:
    """Send the rest of a list that comes behind a wait: both are answered, in their order."""
    line.write(rest)
    us.call("send", mailbox="alice", to="alice", body="x")
    assert bodies(line.event()) == ["x"]
    assert line.ended()
    assert len(line.answer().content["messages"]) == 1


@ERAS
def test_the_connection_serves_what_comes_behind_it(post: Post, era: str) -> None:
    us = post.caller()
    come(us, era)
    with parked(us, era) as line:
        half, rest = (whole := spell(us, era, "list_inbox", mailbox="alice"))[:40], whole[40:]
        line.write(half)
        time.sleep(SETTLED)
        both_answered(us, line, rest)
        line.write(spell(us, era, "list_inbox", mailbox="alice"))
        assert len(line.answer().content["messages"]) == 1


@ERAS
def test_a_head_of_which_the_beginning_came_with_it_is_read(post: Post, era: str) -> None:
    us = post.caller()
    come(us, era)
    half, rest = (whole := spell(us, era, "list_inbox", mailbox="alice"))[:40], whole[40:]
    with us.line() as line:
        line.write(spell(us, era, "wait_for_message", mailbox="alice") + half)
        assert line.head()[0] == 200
        time.sleep(SETTLED)
        both_answered(us, line, rest)


@ERAS
def test_what_comes_to_a_client_that_has_gone_is_the_next_ones(post: Post, era: str) -> None:
    us = post.caller()
    come(us, era)
    with parked(us, era):
        pass
    us.call("send", mailbox="alice", to="alice", body="x")
    [got] = us.call("wait_for_message", mailbox="alice", timeout=5)["messages"]
    assert (got["body"], got.get("attempt", 1)) == ("x", 1)


@ERAS
def test_it_ends_with_its_token(post: Post, era: str) -> None:
    issued = post.issue("alice")
    us = post.caller(issued["token"])
    come(us, era)
    with parked(us, era) as line:
        post.command("token revoke", id=issued["id"])
        if era == LEGACY:
            assert line.event()["error"]["code"] == -32800
        assert line.ended()


@ERAS
def test_it_ends_when_its_token_does(post: Post, era: str) -> None:
    us = post.caller(post.issue("alice", lasts=3000)["token"])
    come(us, era)
    with parked(us, era) as line:
        assert line.ended()


def test_it_ends_with_its_session(post: Post) -> None:
    us = post.caller()
    come(us, LEGACY)
    with parked(us, LEGACY) as line:
        assert us.ask("DELETE", **us.session).status == 204
        assert line.event()["error"]["code"] == -32800
        assert line.ended()


def test_hundreds_that_are_rung_at_once_are_all_answered(post: Post) -> None:
    us = post.caller()
    come(us, MODERN)
    many = 150
    lines = []
    for _ in range(many):
        line = Line(us.port)
        lines.append(line)
        line.write(spell(us, MODERN, "wait_for_message", mailbox="alice", timeout=3, take_over=True))
    for line in lines:
        assert line.head()[0] == 200
    for line in lines:
        assert "result" in line.event()
        line.close()
