"""The sessions of 2025-11-25, and the standing stream that pushes into them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mcp_mailbox.fronts.mcp.http.sessions import SESSIONS_EACH
from tests.fronts.world import Served
from tests.http.caller import LEGACY, Caller, Json
from tests.http.conftest import Post

HASTY = """
from mcp_mailbox.fronts.mcp import patience
patience.LEAST = 0.05
from mcp_mailbox.__main__ import main
raise SystemExit(main())
"""
"""A server that believes of clients that they wait for less than a second."""


def test_a_session_remembers_the_mailbox_that_was_opened_in_it(post: Post) -> None:
    one, two = post.caller(), post.caller()
    for caller, name in ((one, "alice"), (two, "bob")):
        caller.begin()
        caller.within("tools/call", name="create_mailbox", arguments={"name": name})
    sent = one.within("tools/call", name="send", arguments={"to": "bob", "body": "x"}).content
    assert sent["to"][0]["state"] == "stored"
    [message] = two.within("tools/call", name="wait_for_message", arguments={}).content["messages"]
    assert message["from"] == f"alice@{post.space}"


def test_a_session_is_named_in_every_answer_and_only_begins_with_initialize(post: Post) -> None:
    caller = post.caller()
    first = caller.begin().headers["mcp-session-id"]
    assert caller.within("ping").headers["mcp-session-id"] == first
    caller.begin()
    assert caller.session["mcp_session_id"] != first
    answer = post.caller().ask(body={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert (answer.status, answer.json["error"]["code"]) == (400, -32600)


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("whose", ["nobody's", "another token's", "another principal's", "one that was ended"])
def test_a_session_that_is_not_ones_own_is_not_there(post: Post, method: str, whose: str) -> None:
    caller = post.caller()
    owner = {"another token's": post.stranger("local"), "another principal's": post.stranger("eve")}.get(whose, caller)
    owner.begin()
    session = owner.session["mcp_session_id"]
    if whose == "one that was ended":
        assert owner.ask("DELETE", **owner.session).status == 204
    if whose == "nobody's":
        session = "0" * 32
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"} if method == "POST" else None
    answer = caller.ask(method, body=body, mcp_session_id=session, mcp_protocol_version=LEGACY)
    assert answer.status == 404
    assert answer.json["error"]["message"] == "The Mcp-Session-Id is unknown. Begin with initialize."


def test_who_begins_too_many_sessions_forgets_ones_own(post: Post) -> None:
    mine = post.caller()
    mine.begin()
    issued = post.issue("eve")
    eve = post.caller(issued["token"])
    eve.begin()
    first = eve.session
    about = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "many", "version": "1"}}
    request = eve.request(body={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": about})
    with eve.line() as line:
        for _ in range(SESSIONS_EACH):
            line.write(request)
            last = line.answer().headers["mcp-session-id"]
    assert mine.within("ping").status == 200
    assert eve.within("ping").status == 404
    eve.session = first | {"mcp_session_id": last}
    assert eve.within("ping").status == 200
    post.command("token revoke", id=issued["id"])
    assert post.home.status()["http"]["sessions"] < SESSIONS_EACH


def test_a_session_has_one_standing_stream(post: Post) -> None:
    caller = post.caller()
    caller.begin()
    with caller.line() as line:
        caller.stand(line)
        assert caller.ask("GET", **caller.session).status == 409


def test_what_rang_while_no_stream_was_open_is_told_when_one_is(post: Post) -> None:
    caller = post.caller()
    caller.begin()
    caller.within("tools/call", name="create_mailbox", arguments={"name": "alice"})
    uri = f"mailbox:alice@{post.space}"
    assert caller.within("resources/subscribe", uri=uri).result == {}
    send = {"name": "send", "arguments": {"to": "alice", "body": "x"}}
    for _ in range(3):
        caller.within("tools/call", **send)
    with caller.line() as line:
        caller.stand(line)
        update = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}
        assert line.event() == update
        caller.within("tools/call", **send)
        assert line.event() == update


def test_a_session_that_ends_ends_its_stream(post: Post) -> None:
    caller = post.caller()
    caller.begin()
    with caller.line() as line:
        caller.stand(line)
        assert caller.ask("DELETE", **caller.session).status == 204
        assert line.ended()


def test_a_cancelled_wait_ends_and_leaves_the_mail(post: Post) -> None:
    caller = post.caller()
    caller.begin()
    caller.within("tools/call", name="create_mailbox", arguments={"name": "alice"})
    wait = {
        "jsonrpc": "2.0",
        "id": "w",
        "method": "tools/call",
        "params": {"name": "wait_for_message", "arguments": {}},
    }
    with caller.line() as line:
        line.write(caller.request(body=wait, **caller.session))
        assert line.head()[0] == 200  # it has become a stream, so it is waiting
        again = caller.ask(body=wait, **caller.session)
        assert (again.status, again.json["error"]["code"]) == (400, -32600)
        assert "under way" in again.json["error"]["message"]
        assert caller.tell("notifications/cancelled", requestId="w").status == 202
        assert line.event()["error"]["code"] == -32800
        assert line.ended()
    caller.within("tools/call", name="send", arguments={"to": "alice", "body": "x"})
    got = caller.within("tools/call", name="wait_for_message", arguments={}).content["messages"]
    assert [message["body"] for message in got] == ["x"]


def test_a_client_that_was_seen_to_wait_longer_is_not_hurried_by_who_interrupts_it(
    new_home: Callable[..., Served],
) -> None:
    home = new_home(program=HASTY).start()
    caller = Caller(home.port, home.token)
    caller.begin()
    caller.within("tools/call", name="create_mailbox", arguments={"name": "alice"})
    wait(caller, 0.7)  # long enough to be left, and taken up again
    for number in range(2):
        with caller.line() as line:
            params = {"name": "wait_for_message", "arguments": {}}
            asked = {"jsonrpc": "2.0", "id": f"w{number}", "method": "tools/call", "params": params}
            line.write(caller.request(body=asked, **caller.session))
            wait(caller, 0.3)
            caller.tell("notifications/cancelled", requestId=f"w{number}")
            assert b"-32800" in line.answer().body
    assert wait(caller, 0.3)["hint"].startswith("Nothing yet")


def wait(caller: Caller, seconds: float) -> Json:
    """Wait in vain; return what is said then."""
    return caller.within("tools/call", name="wait_for_message", arguments={"timeout": seconds}).content


def test_a_wait_shows_that_it_lives_before_any_host_gives_up(post: Post) -> None:
    caller = post.caller()
    caller.call("create_mailbox", name="alice")
    message = caller.message("tools/call", name="wait_for_message", arguments={"timeout": 1, "mailbox": "alice"})
    with caller.line() as line:
        line.write(caller.request(body=message, **caller.modern(message)))
        assert line.head()[1]["content-type"] == "text/event-stream"
        assert line.event()["result"]["structuredContent"]["timed_out"]


def test_an_id_may_be_used_again_as_soon_as_its_answer_is_there(post: Post) -> None:
    caller = post.caller()
    caller.begin()
    message = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
    with caller.line() as line:
        for _ in range(300):
            line.write(caller.request(body=message, **caller.session))
            assert line.answer().json == {"jsonrpc": "2.0", "id": 7, "result": {}}
