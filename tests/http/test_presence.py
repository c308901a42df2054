"""Who is there over HTTP: requests count for a minute, streams while they stand, sessions until they end."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.conftest import DEADLINE
from tests.fronts.world import Served
from tests.http.caller import Caller
from tests.http.conftest import Post

HASTY = """
from mcp_mailbox.postoffice import attendance
attendance.LINGER = 200
from mcp_mailbox.__main__ import main
raise SystemExit(main())
"""
"""A server in which a minute is over soon."""


def presence(watcher: Caller, name: str) -> str:
    [entry] = watcher.call("find_mailboxes", query=name)["mailboxes"]
    found: str = entry["presence"]
    return found


def goes_offline(watcher: Caller, name: str) -> bool:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if presence(watcher, name) == "offline":
            return True
        time.sleep(0.01)
    return False


def within(caller: Caller, tool: str, **arguments: object) -> None:
    assert not caller.within("tools/call", name=tool, arguments=arguments).result.get("isError")


def test_a_session_that_ends_is_there_no_more(post: Post) -> None:
    watcher, caller = post.caller(), post.caller()
    caller.begin()
    within(caller, "create_mailbox", name="sess")
    assert presence(watcher, "sess") == "online"
    assert caller.ask("DELETE", **caller.session).status == 204
    assert presence(watcher, "sess") == "offline"


def test_a_session_whose_token_is_revoked_is_there_no_more(post: Post) -> None:
    issued = post.issue()
    watcher, caller = post.caller(), post.caller(issued["token"])
    caller.begin()
    within(caller, "create_mailbox", name="gone")
    with caller.line() as line:
        caller.stand(line)
        assert presence(watcher, "gone") == "online"
        post.command("token revoke", id=issued["id"])
        assert goes_offline(watcher, "gone")


def test_a_request_counts_for_a_minute_whoever_sent_it(post: Post) -> None:
    watcher = post.caller()
    post.caller(mailbox_address="header").call("list_inbox")
    post.caller(post.issue(mailbox="token", space=post.space)["token"]).call("list_inbox")
    post.caller(mailbox_address="header").call("create_mailbox", name="opened")
    post.caller().call("list_inbox", mailbox="opened")
    for name in ("header", "token", "opened"):
        assert presence(watcher, name) == "online"


def test_who_listens_is_there_for_as_long_as_the_stream_lasts(new_home: Callable[..., Served]) -> None:
    post = Post(new_home(program=HASTY).start())
    watcher, listener, other = (post.caller(mailbox_address=name) for name in ("watcher", "listener", "other"))
    listener.call("create_mailbox")
    with listener.line() as line:
        listener.listen(line, f"mailbox:listener@{post.space}")
        other.call("create_mailbox")
        assert goes_offline(watcher, "other")
        assert presence(watcher, "listener") == "online"
    assert goes_offline(watcher, "listener")
