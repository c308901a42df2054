"""A hub that forgets a machine while its next request is on its way: nothing is begun that nobody would ever end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from mcp_mailbox.fronts.hub import wire
from tests.conftest import DEADLINE
from tests.fronts.world import Served
from tests.http.conftest import Post
from tests.http.store import Store

HASTY = """
from mcp_mailbox.fronts.hub import edges
edges.GRACE_SECONDS = 0.0
from mcp_mailbox.__main__ import main
raise SystemExit(main())
"""
"""A hub that forgets a machine within a second when it has no stream."""


@pytest.fixture
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("h"), program=HASTY)
    yield served.start()
    served.end()


def until_forgotten(hub: Served) -> None:
    deadline = time.monotonic() + DEADLINE
    while hub.status()["http"]["edges"]:
        assert time.monotonic() < deadline, "the machine was not forgotten"
        time.sleep(0.01)


@pytest.mark.parametrize("place", ["stream", "verbs/list_inbox"])
def test_what_was_on_its_way_is_to_come_again(hasty: Served, place: str) -> None:
    post = Post(hasty)
    store = Store(post.caller(post.issue("alice")["token"]))
    store.call("create_mailbox", name="alice")
    until_forgotten(hasty)
    body = {"listens": ["alice@default"], "life": ""} if place == "stream" else {"who": store.who(), "given": {}}
    request = store.caller.request("POST", f"{wire.PATH}{place}", body=body, mailbox_edge=store.edge)
    with store.caller.line() as line:
        line.write(request[:-1])
        while not hasty.status()["http"]["edges"]:  # its head was read
            time.sleep(0.001)
        until_forgotten(hasty)
        line.write(request[-1:])
        answer = line.answer()
        assert (answer.status, answer.json["error"]) == (503, "stopping")
    assert store.verb("list_inbox").status == 200
