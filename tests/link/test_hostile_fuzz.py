"""Whatever JSON a hub tells or answers: an edge takes or refuses it, has no error of its own, and keeps its outbox."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from httpx2 import ServerSentEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_mailbox.errors import Refusal
from mcp_mailbox.link import line
from mcp_mailbox.link.branch import Branch
from mcp_mailbox.link.hub import Strange
from mcp_mailbox.postoffice import Call
from tests.conftest import DEADLINE
from tests.link.hostile import ME, Json, Pretender, edge, events, http, say

pytestmark = pytest.mark.anyio

ODD = [
    "", "x", "\ud800", "a\udfffb", "alice@default", "alice", "@", "#room", "..", "\0", "\r\n", "x" * 5000, "outbox-1",
    0, 1, -1, 2**63, 10**40, 10**4299, 0.5, 1e308, float("inf"), float("nan"), None, True, False, [], {}, [[]], [{}],
    json.loads("[" * 900 + "]" * 900),
]  # fmt: skip
JSON = st.recursive(
    st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "body", "\ud800"]), inner),
    max_leaves=5,
)


def near(**good: object) -> st.SearchStrategy[Json]:
    """Objects that are right but for a member or two, which may be missing."""
    return st.tuples(
        st.dictionaries(st.sampled_from([*good, "more"]), JSON, min_size=1, max_size=2),
        st.sets(st.sampled_from([*good]), max_size=1),
    ).map(lambda odd: {name: each for name, each in (good | odd[0]).items() if name not in odd[1]})


MESSAGE = {"id": "m1.1", "from": "bob@default", "subject": "s", "body": "b", "priority": "normal", "sent_at": "x"}
FILE = {"id": "m1", "attachment": "a.bin", "uri": "mailbox:alice@default/m1/a.bin", "size": 3, "type": "x/y"}
ASKED: dict[str, tuple[Json, st.SearchStrategy[Json]]] = {
    "create_mailbox": ({"name": "alice"}, near(address="alice@default", created=True)),
    "send": ({"to": "bob", "body": "x"}, near(id="m1", thread="m1", to=[{"address": "bob@default"}])),
    "wait_for_message": ({"timeout": 0}, st.lists(near(**MESSAGE), max_size=2).map(lambda them: {"messages": them})),
    "list_inbox": ({}, st.lists(near(**(MESSAGE | {"preview": "p"})), max_size=2).map(lambda them: {"messages": them})),
    "read": ({"id": "m1"}, near(**MESSAGE)),
    "entire": ({"id": "m1"}, near(**MESSAGE)),
    "settle": ({"ids": ["m1.1"], "outcome": "ack"}, near(settled=["m1.1"])),
    "mailboxes": ({}, near(mailboxes=["alice@default"])),
    "own": ({}, near(address="alice@default")),
    "news": ({}, near(mailbox="alice@default", messages=1, urgent=0, news="x")),
}
FUZZED = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
async def hub() -> AsyncIterator[Pretender]:
    found = Pretender()
    async with found.running():
        yield found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is tried again at once."""
    monkeypatch.setattr(line, "_FIRST", 0.001)


def spelled(said: object) -> bytes:
    return http(json.dumps(said).encode())


async def keeps_what_waits(hub: Pretender, branch: Branch, *requests: str) -> None:
    """What was sent, whatever the hub said, is in the outbox or has gone out."""
    hub.answer = lambda _, __: None
    branch.line.hurry()
    while not hub.stored.keys() >= set(requests):
        await hub.asks(1)


@pytest.mark.parametrize("verb", ASKED)
@pytest.mark.usefixtures("quick")
async def test_whatever_a_verb_is_answered_is_an_answer_or_a_refusal(
    hub: Pretender, tmp_path: Path, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    arguments, answers = ASKED[verb]
    said: list[Any] = []

    @FUZZED
    @given(answer=answers | JSON)
    def gather(answer: object) -> None:
        said.append(answer)

    gather()
    with anyio.fail_after(DEADLINE):
        async with edge(hub, tmp_path) as branch:
            for number, each in enumerate(said):
                await branch.line.until_up()
                answer = spelled(each)
                hub.answer = lambda place, _, answer=answer: answer if place[:6] == "verbs/" else None  # type: ignore[misc]
                with suppress(Refusal):
                    await say(branch, verb, f"{verb}{number}", **arguments)
                with suppress(Refusal):
                    await branch.readable(ME, None)
                with suppress(Refusal):
                    await branch.listed(ME, 10)
                hub.answer = lambda _, __: http(b"", status=503)  # and what was kept of it is told
                branch.line.suspect("a test wants it")
                for later, more in (("list_inbox", {}), ("read", {"id": "m1"}), ("entire", {"id": "m1"})):
                    with suppress(Refusal):
                        await say(branch, later, f"{later}{number}", **more)
                hub.answer = lambda _, __: None
            await branch.line.until_up()
            branch.line.suspect("a test wants it in the outbox")
            hub.answer = lambda _, __: http(b"", status=503)
            await say(branch, "send", "last", to="alice", body="kept")
            await keeps_what_waits(hub, branch, "last")
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


@pytest.mark.usefixtures("quick")
async def test_whatever_is_said_of_an_attachment_it_is_one_or_a_refusal(hub: Pretender, tmp_path: Path) -> None:
    said: list[Any] = []

    @FUZZED
    @given(answer=near(name="a.bin", type="x/y", size=3, sha256="0" * 64) | JSON)
    def gather(answer: object) -> None:
        said.append(answer)

    gather()
    with anyio.fail_after(DEADLINE):
        async with edge(hub, tmp_path) as branch:
            for each in said:
                await branch.line.until_up()
                answer = http(b"abc", "application/octet-stream", mailbox_attachment=json.dumps(each))
                hub.answer = lambda place, _, answer=answer: answer if place == "attachment" else None  # type: ignore[misc]
                with suppress(Refusal):
                    found, content, *_ = await branch.content(Call(ME, "r"), "m1", "a.bin")
                    assert (content, type(found.name), type(found.size)) == (b"abc", str, int)


EVENTS = st.tuples(
    st.sampled_from(["hello", "ring", "bell", "beat", "", "x"]),
    near(epoch="e", beat=5, resumed=False)
    | near(mailbox="alice@default")
    | near(number=1, reader="relay")
    | st.tuples(
        st.just({"number": 1, "reader": "relay"}),
        near(at=1, mailbox="alice@default", count=1, senders=["bob@default"], urgent=0, more=False, places=[]),
    ).map(lambda both: {**both[0], "told": both[1]})
    | JSON,
)


@pytest.mark.usefixtures("quick")
async def test_whatever_a_stream_tells_the_next_one_is_opened_and_what_waits_goes_out(
    hub: Pretender, tmp_path: Path
) -> None:
    told: list[list[tuple[str, Any]]] = []

    @FUZZED
    @given(several=st.lists(EVENTS, min_size=1, max_size=6))
    def gather(several: list[tuple[str, Any]]) -> None:
        told.append(several)

    gather()
    with anyio.fail_after(DEADLINE):
        async with edge(hub, tmp_path) as branch:
            for number, several in enumerate(told):
                body = "".join(f"event: {name}\nid: e.{number}\ndata: {json.dumps(said)}\n\n" for name, said in several)
                stream = events(body.encode())
                hub.answer = lambda place, _, stream=stream: stream if place == "stream" else None  # type: ignore[misc]
                opened = hub.asked.count("stream") + 2
                while hub.asked.count("stream") < opened:
                    branch.line.suspect("a test wants another one")
                    branch.line.hurry()
                    await anyio.sleep(0.001)
            hub.answer = lambda _, __: http(b"", status=503)
            branch.line.suspect("a test wants it in the outbox")
            await say(branch, "send", "last", to="alice", body="kept")
            await keeps_what_waits(hub, branch, "last")


@given(data=st.text() | JSON.map(json.dumps), name=st.text())
def test_an_event_says_an_object_or_is_strange(data: str, name: str) -> None:
    with suppress(Strange):
        assert isinstance(line._read(ServerSentEvent(name, data)), dict)
