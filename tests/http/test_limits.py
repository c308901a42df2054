"""What one principal may take over HTTP, and that the others and the machine's own user do not notice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime

import pytest

from mcp_mailbox.quotas import MESSAGE_BYTES
from tests.fronts.world import Home, Served, Town
from tests.http.caller import Answer, Caller
from tests.http.conftest import Post

WAITERS = 2
RATE = 1


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with narrow limits for all of this module; each test has principals of its own."""
    settings = {"RATE": RATE, "WAITERS": WAITERS, "SPACE_MIB": 1, "MAILBOXES": 2}
    given = {f"MCP_MAILBOX_{name}": str(value) for name, value in settings.items()}
    served = Served(tmp_path_factory.mktemp("h"), MCP_MAILBOX_AUDIT="on", **given)
    yield served.start()
    served.end()


@pytest.fixture
def post(narrow: Served) -> Post:
    return Post(narrow)


def until_refused(caller: Caller) -> tuple[int, Answer]:
    """Ask until there is no more room; return how often there was, and the refusal."""
    for count in range(200):
        answer = caller.ask(body={})
        if answer.status == 429:
            return count, answer
        assert answer.status == 400
    raise AssertionError("nothing was refused")


def test_who_asks_too_often_hears_when_to_go_on_and_nobody_else_does(post: Post) -> None:
    flood, other = post.stranger("flood"), post.stranger("other")
    began = time.time()
    count, last = until_refused(flood)
    assert 60 * RATE <= count <= 60 * RATE + RATE * (time.time() - began) + 1, "a minute's worth may come at once"
    assert (last.json["error"], "60 requests a minute" in last.json["message"]) == ("over_rate", True)
    again = datetime.fromisoformat(last.json["retry_at"]).timestamp()
    assert 1 <= int(last.headers["retry-after"]) <= 2
    assert began < again < time.time() + 3
    assert other.alone("tools/list").status == 200
    assert post.caller().alone("tools/list").status == 200


def test_another_token_of_the_same_principal_has_no_rate_of_its_own(post: Post) -> None:
    first, second = post.stranger("double"), post.stranger("double")
    until_refused(first)
    assert until_refused(second)[0] <= RATE


def test_a_wait_too_many_is_refused_with_when_one_ends(post: Post) -> None:
    caller = post.stranger("waiter", mailbox="pool")
    caller.call("create_mailbox", kind="pool")
    message = caller.message("tools/call", name="wait_for_message", arguments={"timeout": 30})
    with ExitStack() as stack:
        lines = [stack.enter_context(caller.line()) for _ in range(WAITERS)]
        for line in lines:
            line.write(caller.request(body=message, **caller.modern(message)))
            line.head()  # after half a second: it waits
        refusal = caller.refused("wait_for_message", timeout=30)
        assert (refusal["error"], f"{WAITERS} waits" in refusal["message"]) == ("over_waiters", True)
        assert datetime.fromisoformat(refusal["hint"].split()[3]).timestamp() <= time.time() + 31
        assert caller.call("wait_for_message", timeout=0)["timed_out"], "a look is no wait"


@pytest.mark.anyio
async def test_a_full_space_takes_no_more_but_from_the_machines_own_user(post: Post) -> None:
    caller = post.stranger("hoarder", mailbox="attic")
    caller.call("create_mailbox")
    half = "x" * (200 * 1024)
    sent = [caller.call("send", to="attic", body=half, key=f"{number}") for number in range(5)]
    refusal = caller.refused("send", to="attic", body=half)
    assert (refusal["error"], "of its 1.0 MiB" in refusal["message"]) == ("over_storage", True)
    assert "goes next at" in refusal["hint"]
    assert caller.call("send", to="attic", body=half, key="0")["id"] == sent[0]["id"]
    assert caller.call("send", to="attic", body="x" * (1024 - MESSAGE_BYTES))["id"], "there is room for little"
    who = {"request": "r", "space": post.space, "own": "own"}
    assert post.command("send", who=who, given={"to": "own", "body": half})["id"]
    async with Town(Home(post.home.directory, **post.home.settings), post.space).agent("here") as here:
        await here.call("send", to="here", body=half)


def test_a_principal_has_so_many_mailboxes(post: Post) -> None:
    caller = post.stranger("collector")
    for name in ("one", "two"):
        caller.call("create_mailbox", name=name)
    assert caller.refused("create_mailbox", name="three")["error"] == "over_mailboxes"
    assert not caller.call("create_mailbox", name="one")["created"]


@pytest.mark.parametrize("depth", [150, 1000, 100_000])
def test_what_is_nested_deeply_is_refused_on_every_path(post: Post, depth: int) -> None:
    caller = post.stranger(f"deep {depth}")
    deep = b"[" * depth + b"]" * depth
    for body in (
        deep,
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"send","arguments":{"to":%b,"body":"x"}}}'
        % deep,
    ):
        answer = caller.ask(body=body)
        assert answer.status in {400, 401}, answer.body
    assert caller.alone("tools/list").status == 200
