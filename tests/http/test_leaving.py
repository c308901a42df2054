"""Clients that go, clients that do not read, and a server that goes."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

import pytest

from tests.conftest import DEADLINE
from tests.fronts.world import Served
from tests.http.caller import LEGACY, Caller, Line
from tests.http.conftest import Post
from tests.relay.world import ended

pytestmark = pytest.mark.soak

BEGIN = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
IMPATIENT = """
from mcp_mailbox.fronts.http import stream
stream._STALLED = stream.PING_EVERY = 0.5
from mcp_mailbox.__main__ import main
raise SystemExit(main())
"""
"""A server that gives up on whoever does not read after half a second."""

HURRIED = """
from mcp_mailbox.fronts.mcp import client
client._WAIT_CAP = 0.2
from mcp_mailbox.__main__ import main
raise SystemExit(main())
"""
"""A server whose unknown hosts give up at once."""


def wait(caller: Caller, line: Line, **arguments: object) -> None:
    """Begin a wait; returns once it has become a stream, so it is waiting."""
    message = caller.message("tools/call", name="wait_for_message", arguments={"timeout": 50, **arguments})
    line.write(caller.request(body=message, **caller.modern(message)))
    assert line.head()[1]["content-type"] == "text/event-stream"


def test_mail_that_comes_for_a_client_that_has_gone_is_there_for_the_next(post: Post) -> None:
    bob = post.caller(mailbox_address="bob")
    bob.call("create_mailbox")
    for era in ("alone", "session"):
        with bob.line() as line:
            if era == "alone":
                wait(bob, line)
            else:
                bob.begin()
                line.write(bob.spell("tools/call", name="wait_for_message", arguments={}))
                line.head()
        bob.call("send", to="bob", body=era)
        [message] = bob.call("wait_for_message", timeout=20)["messages"]
        assert message["body"] == era
        assert message["id"].endswith((".1", ".2")), "it may have been leased to who had gone, for a moment"
        bob.call("settle", ids=[message["id"]], outcome="ack")


def test_a_client_that_resets_its_connection_at_once_takes_nothing(post: Post) -> None:
    bob = post.caller(mailbox_address="bob")
    bob.call("create_mailbox")
    bob.call("send", to="bob", body="x")
    message = bob.message("tools/call", name="wait_for_message", arguments={"timeout": 50})
    for _ in range(20):
        line = Line(post.home.port)
        line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
        line.write(bob.request(body=message, **bob.modern(message)))
        line.close()
    got = bob.call("wait_for_message", timeout=30)["messages"]
    assert [each["body"] for each in got] == ["x"]


def test_a_wait_that_was_cut_for_the_hosts_sake_says_so(new_home: Callable[..., Served]) -> None:
    home = new_home(program=HURRIED).start()
    caller = Caller(home.port, home.token, mailbox_address="bob")
    about = "On this host a wait lasts 0.2 s at most. "
    assert caller.call("wait_for_message", timeout=50)["hint"].startswith(about + "Nothing yet.")
    assert caller.call("wait_for_message", timeout=0.1)["hint"].startswith("Nothing yet.")


def test_a_client_that_takes_in_nothing_counts_as_gone(new_home: Callable[..., Served]) -> None:
    home = new_home(program=IMPATIENT).start()
    stalled = Caller(home.port, home.token, mailbox_address="bob")
    stalled.call("create_mailbox")
    message = stalled.message("subscriptions/listen", notifications={"resourceSubscriptions": ["mailbox:bob@default"]})
    message["id"] = "x" * 1_000_000  # stands in each event, so that a few fill all buffers
    with stalled.line() as line:
        line.write(stalled.request(body=message, **stalled.modern(message)))
        while home.status()["http"]["requests"] == 0:
            pass
        deadline = time.monotonic() + DEADLINE
        while home.status()["http"]["requests"] and time.monotonic() < deadline:
            stalled.call("send", to="bob", body="x")
        assert home.status()["http"]["requests"] == 0


def test_a_reader_that_stands_still_delays_nobody(post: Post) -> None:
    stalled, bob = post.caller(mailbox_address="bob"), post.caller(mailbox_address="bob")
    bob.call("create_mailbox")
    uri = f"mailbox:bob@{post.space}"
    with stalled.line() as standing, stalled.line() as full, bob.line() as reading:
        long = stalled.message("subscriptions/listen", notifications={"resourceSubscriptions": [uri]})
        long["id"] = "x" * 1_000_000  # stands in each event, so that a few fill all buffers
        standing.write(stalled.request(body=long, **stalled.modern(long)))
        bob.listen(reading, uri)
        message = stalled.message("tools/list")
        try:
            full.socket.settimeout(1)
            full.write(stalled.request(body=message, **stalled.modern(message)) * 1000)  # 8 MB of answers
        except OSError:
            pass  # there is a limit to what may come while nobody takes what is answered
        slowest = 0.0
        for number in range(300):  # nobody reads these on the standing line
            began = time.monotonic()
            bob.call("send", to="bob", body="x" * 1000, key=f"{number}")
            assert reading.event()["params"]["uri"] == uri
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 5


def test_a_token_that_is_revoked_closes_what_it_has_open(post: Post) -> None:
    issued = post.issue()
    caller = post.caller(issued["token"], mailbox_address="carol")
    caller.call("create_mailbox")
    caller.begin()
    with caller.line() as listening, caller.line() as standing, caller.line() as waiting:
        caller.listen(listening, f"mailbox:carol@{post.space}")
        caller.stand(standing)
        wait(caller, waiting)
        post.command("token revoke", id=issued["id"])
        assert standing.ended()
        assert listening.ended()
        assert waiting.ended()
    assert caller.alone("tools/list").status == 401
    assert caller.within("tools/list").status == 401


@pytest.mark.parametrize("ends", ["revoke", "rotate"])
@pytest.mark.parametrize("what", ["tools/call", "subscriptions/listen", "initialize"])
def test_a_token_that_ends_while_a_request_is_still_coming_does_not_let_it_in(post: Post, what: str, ends: str) -> None:
    issued = post.issue()
    caller = post.caller(issued["token"], mailbox_address="carol")
    caller.call("create_mailbox")
    message = {
        "tools/call": caller.message("tools/call", name="send", arguments={"to": "carol", "body": "late"}),
        "subscriptions/listen": caller.message("subscriptions/listen", notifications={}),
        "initialize": {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": BEGIN},
    }[what]
    headers = caller.modern(message) if what != "initialize" else {}
    request = caller.request(body=message, **headers)
    sessions = post.home.status()["http"]["sessions"]
    with caller.line() as line:
        line.write(request[:-5])
        post.command(f"token {ends}", id=issued["id"])
        line.write(request[-5:])
        assert line.answer().status == 401
    assert post.caller(mailbox_address="carol").call("list_inbox")["unread"] == 0
    assert post.home.status()["http"]["sessions"] == sessions


def test_what_a_token_that_expires_had_begun_is_no_success(post: Post) -> None:
    caller = post.caller(post.issue(lasts=400)["token"], mailbox_address="carol")
    caller.call("create_mailbox")
    assert caller.tool("wait_for_message", timeout=20).status == 401


def test_a_token_that_expires_closes_what_it_has_open(post: Post) -> None:
    caller = post.caller(post.issue(lasts=1500)["token"], mailbox_address="carol")
    caller.call("create_mailbox")
    with caller.line() as line:
        caller.listen(line, f"mailbox:carol@{post.space}")
        assert line.ended()
    assert caller.alone("tools/list").status == 401


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_end_answers_and_ends_whatever_is_open(
    new_home: Callable[..., Served], number: signal.Signals
) -> None:
    home = new_home().start()
    caller = Caller(home.port, home.token, mailbox_address="bob")
    caller.call("create_mailbox")
    caller.begin()
    with caller.line() as listening, caller.line() as standing, caller.line() as waiting, caller.line() as idle:
        caller.listen(listening, "mailbox:bob@default")
        caller.stand(standing)
        wait(caller, waiting)
        idle.write(b"POST /mcp HTTP/1.1\r\n")
        pid = home.status()["pid"]
        descriptor = os.pidfd_open(pid)
        os.kill(pid, number)
        assert waiting.event()["result"]["structuredContent"]["timed_out"], "a wait is answered"
        assert "result" in listening.event(), "a stream of a modern client has an end"
        assert standing.ended()
        ended(descriptor)  # `python -m benchmarks` says how soon
    assert home.process is not None
    assert home.process.wait() == 0


def test_serve_takes_over_from_a_post_office_that_was_started_on_demand(new_home: Callable[..., Served]) -> None:
    home = new_home()
    host = home.host()
    host.send_raw(
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
        b'"capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}\n'
    )
    assert host.line()["id"] == 1
    call = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"%b","arguments":%b}}\n'
    host.send_raw(call % (2, b"create_mailbox", b'{"name":"bob"}'))
    assert host.line()["id"] == 2
    host.send_raw(call % (3, b"wait_for_message", b'{"timeout":50}'))
    before = home.status()["pid"]
    home.start()
    assert home.status()["pid"] != before
    caller = Caller(home.port, home.token)
    caller.call("create_mailbox", name="alice")
    caller.call("send", to="bob", body="over HTTP to stdio", mailbox="alice")
    answer = host.line()
    [message] = answer["result"]["structuredContent"]["messages"]
    assert (answer["id"], message["body"]) == (3, "over HTTP to stdio")
    host.end()


def test_mail_of_before_is_there_after_a_kill(new_home: Callable[..., Served]) -> None:
    home = new_home().start()
    port = home.port
    caller = Caller(port, home.token, mailbox_address="bob")
    caller.call("create_mailbox")
    caller.call("send", to="bob", body="kept")
    [leased] = caller.call("wait_for_message")["messages"]
    home.kill_office()
    assert home.process is not None
    home.process.wait()
    home.start(port=port)
    assert caller.call("settle", ids=[leased["id"]], outcome="ack") == {"settled": [leased["id"]]}
