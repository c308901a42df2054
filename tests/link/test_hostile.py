"""Whatever a hub, or what answers in its place, says: the edge lives, keeps what it has, and serves again after it."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.link import branch as branch_
from mcp_mailbox.link import notes
from mcp_mailbox.link.hub import Strange, parsed
from tests.conftest import DEADLINE
from tests.link.hostile import HELLO, Json, Pretender, edge, events, http, say

pytestmark = pytest.mark.anyio


@pytest.fixture
async def hub() -> AsyncIterator[Pretender]:
    found = Pretender()
    async with found.running():
        yield found


DEEP = b"[" * 200_000
JUNK = {
    "deep": http(DEEP),
    "no JSON": http(b"nonsense"),
    "no object": http(b"[1]"),
    "no text": http(b"\xff\xfe\x00"),
    "empty": http(b""),
    "null": http(b"null"),
    "an empty object": http(b"{}"),
    "other types": http(b'{"address":1,"messages":{"a":1},"mailboxes":3,"settled":"x","id":[]}'),
    "messages of nothing": http(b'{"messages":[1,{"body":1},{"id":[],"preview":1}]}'),
    "packed": http(gzip.compress(b" " * 50_000_000), content_encoding="gzip"),
    "not packed": http(b"nonsense", content_encoding="gzip"),
    "a redirect": http(b"", status=302, location="http://127.0.0.1:1/"),
    "a redirect to nowhere": http(b"", status=301, location="http://[::"),
    "a page": http(b"<html>", "text/html"),
    "refused deep": http(DEEP, status=400),
    "refused oddly": http(b'{"error":{"a":[]},"message":[]}', status=400),
    "a status": http(b"", status=418),
    "no HTTP": b"nonsense\r\n\r\n\r\nconnection: close",
    "a long head": b"HTTP/1.1 200 OK\r\nx: " + b"x" * 500_000 + b"\r\nconnection: close\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{",
    "cookies": http(b"{}", set_cookie="a=" + "x" * 4000),
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
async def test_answers_that_are_none_end_nothing_and_lose_nothing(hub: Pretender, tmp_path: Path, junk: bytes) -> None:
    with anyio.fail_after(DEADLINE):
        async with edge(hub, tmp_path) as branch:
            hub.answer = lambda place, _: None if place == "stream" else junk
            await branch.line.until_up()
            sent = await say(branch, "send", "1", to="alice", body="kept")
            for verb, arguments in (("list_inbox", {}), ("create_mailbox", {"name": "alice"}), ("read", {"id": "x"})):
                with suppress(Refusal):
                    await say(branch, verb, verb, **arguments)
            if sent.get("accepted") == "outbox":
                hub.answer = lambda _, __: None
                while "1" not in hub.stored:
                    await hub.asks(1)


STREAMS = {
    "deep": events(b"event: hello\ndata: " + DEEP + b"\n\n"),
    "no object": events(b"event: hello\ndata: [1]\n\n"),
    "no JSON": events(b"event: ring\ndata: x\n\n"),
    "no text": events(b"event: ring\ndata: \xff\n\n"),
    "another type": events(b"data: {}\n\n", "text/html"),
    "JSON": http(b"{}"),
    "a line without end": events(b"data: " + b"x" * 3_000_000),
    "an event without end": events(b"data: x\n" * 400_000),
    "comments without end": events(b": x\n" * 400_000),
    "odd rings": HELLO + b'event: ring\ndata: {"mailbox":["a"]}\n\nevent: ring\ndata: {"mailbox":"#\\ud800@"}\n\n',
    "odd bells": HELLO + b'event: bell\ndata: {"reader":[],"number":{},"told":7}\n\nevent: bell\ndata: {}\n\n',
    "a long id": HELLO + b"id: " + b"x" * 5000 + b"\nevent: beat\ndata: {}\n\n",
    "a redirect": http(b"", status=307, location="https://evil.example/"),
    "a long refusal": b"HTTP/1.1 500 X\r\nconnection: close\r\n\r\n" + b"x" * 10_000_000,
    "nothing": b"connection: close",
    "packed": events(gzip.compress(b"data: " + b"x" * 30_000_000), "text/event-stream\r\ncontent-encoding: gzip"),
    "halves of letters": events(b'event: hello\ndata: {"epoch":"\\ud800","resumed":false}\n\n'),
    "no numbers": HELLO + b'event: bell\ndata: {"number":1e999,"reader":"relay"}\n\n',
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())
async def test_streams_that_are_none_are_given_up_and_opened_again(
    hub: Pretender, tmp_path: Path, stream: bytes
) -> None:
    with anyio.fail_after(DEADLINE):
        hub.answer = lambda place, _: stream if place == "stream" else None
        async with edge(hub, tmp_path) as branch:
            await hub.asks(1)
            while branch.line.since is None:  # noqa: ASYNC110 - nothing tells of the first attempt
                await anyio.sleep(0.005)
            await say(branch, "send", "1", to="alice", body="kept")
            hub.answer = lambda _, __: None
            branch.line.hurry()
            while "1" not in hub.stored:
                await hub.asks(1)


async def test_an_answer_to_what_was_not_handed_in_settles_nothing(hub: Pretender, tmp_path: Path) -> None:
    """A hub that says that it has everything, up to number 99, after the first."""
    with anyio.fail_after(DEADLINE):
        hub.answer = lambda place, _: http(b"", status=503) if place == "stream" else None
        async with edge(hub, tmp_path) as branch:
            while branch.line.since is None:  # noqa: ASYNC110 - nothing tells of the first attempt
                await anyio.sleep(0.005)
            await say(branch, "send", "1", to="alice", body="x" * 200_000)
            for request in range(2, 9):
                await say(branch, "send", str(request), to="alice", body="x" * 200_000)

            def lie(place: str, _: bytes) -> bytes | None:
                if place != "sends":
                    return None
                return http(b"\n".join(b'{"number":%d,"answer":{"id":"m%d"}}' % (n, n) for n in range(99)))

            hub.answer = lie
            branch.line.hurry()
            await branch.line.until_up()
            while "sends" not in hub.asked:
                await hub.asks(1)
            hub.answer = lambda _, __: None
            while branch.outbox.waiting:  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.005)
            assert hub.stored.keys() >= {"7", "8"}


async def test_a_long_outage_forgets_nothing_that_is_to_be_told(hub: Pretender, tmp_path: Path) -> None:
    async with edge(hub, tmp_path) as branch:
        hub.answer = lambda _, __: http(b"", status=503)
        before = len(branch._notes)
        for _ in range(5):
            branch.line.hurry()
            await hub.asks(1)
        assert len(branch._notes) <= before + 1


@pytest.mark.parametrize("id_", ["outbox-²", "outbox-" + "9" * 30, "outbox--1", "outbox-", "outbox-0"])
async def test_ids_that_no_outbox_has_are_unknown(hub: Pretender, tmp_path: Path, id_: str) -> None:
    hub.answer = lambda _, __: http(b"", status=503)
    async with edge(hub, tmp_path) as branch:
        with pytest.raises(Refusal) as refused:
            await say(branch, "read", "1", id=id_)
        assert refused.value.code is Code.HUB_AWAY
        await say(branch, "send", "2", to="alice", body="x", reply_to=id_)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
LINES = st.lists(
    JSON
    | st.fixed_dictionaries(
        {}, optional={"number": JSON | st.just(1), "answer": JSON, "error": JSON | st.just("stopping")}
    ),
    max_size=4,
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES)
async def test_no_answer_to_a_batch_ends_the_edge(
    tmp_path_factory: pytest.TempPathFactory, lines: list[object]
) -> None:
    hub = Pretender()
    with anyio.fail_after(DEADLINE):
        async with hub.running(), edge(hub, tmp_path_factory.mktemp("e")) as branch:
            answer = http("\n".join(map(json.dumps, lines)).encode(errors="replace"))
            hub.answer = lambda place, _: {"sends": answer, "verbs/send": http(b"", status=500)}.get(place)
            await branch.line.until_up()
            branch.line.suspect("a test wants it in the outbox")
            await say(branch, "send", "1", to="alice", body="kept")
            while "sends" not in hub.asked:
                await hub.asks(1)
            await branch.outbox.entry(1)


@given(text=st.binary() | JSON.map(json.dumps))
def test_what_is_parsed_is_json_or_strange(text: str | bytes) -> None:
    try:
        parsed(text)
    except Strange:
        return


async def test_a_hub_that_takes_no_notes_now_is_told_later_on_the_same_line(
    hub: Pretender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked too much, or its disk is full: a new connection would not help, and what is under way goes on."""
    monkeypatch.setattr(notes, "_AGAIN", 0.01)
    busy = http(b'{"error":"over_rate","message":"Too many.","hint":"Later."}', status=429)
    with anyio.fail_after(DEADLINE):
        hub.answer = lambda place, _: busy if place == "notes" else None
        async with edge(hub, tmp_path) as branch:
            await branch.line.until_up()
            while hub.asked.count("notes") < 5:
                await hub.asks(1)
            assert (branch.line.up, hub.asked.count("stream")) == (True, 1)
            hub.answer = lambda _, __: None
            await say(branch, "list_inbox", "1")  # behind who is here
            assert hub.asked.count("stream") == 1


async def test_rings_that_are_wanted_again_are_asked_for_after_those_that_were_not(
    hub: Pretender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branch_, "_LINGER", 0.01)
    with anyio.fail_after(DEADLINE):
        async with edge(hub, tmp_path) as branch, anyio.create_task_group() as tasks:
            await branch.line.until_up()
            await say(branch, "list_inbox", "0")  # behind who is here
            hub.holds, hub.held = anyio.Event(), {"notes"}
            told = hub.asked.count("notes")
            await say(branch, "wait_for_message", "1", timeout=0)
            while hub.asked.count("notes") == told:  # that nobody listens any more is on its way
                await hub.asks(1)
            asked = len(hub.asked)
            tasks.start_soon(partial(say, branch, "wait_for_message", "2", timeout=0))
            with anyio.move_on_after(0.3):
                await hub.asks(1)
            assert hub.asked[asked:] == []
            hub.holds.set()
            while "verbs/own" not in hub.asked[asked:]:
                await hub.asks(1)


async def test_what_waits_behind_other_mail_is_not_said_to_wait_for_a_hub_that_is_there(
    hub: Pretender, tmp_path: Path
) -> None:
    with anyio.fail_after(DEADLINE):
        hub.answer = lambda place, _: http(b"", status=503) if place == "stream" else None
        async with edge(hub, tmp_path) as branch:
            while branch.line.since is None:  # noqa: ASYNC110 - nothing tells of the first attempt
                await anyio.sleep(0.005)
            assert "unreachable_since" in await say(branch, "send", "1", to="alice", body="x")
            hub.holds = anyio.Event()
            hub.answer = lambda _, __: None
            branch.line.hurry()
            await branch.line.until_up()
            answer = await say(branch, "settle", "2", ids=["x"], outcome="ack")
            assert (answer["accepted"], "unreachable_since" in answer) == ("outbox", False)
            hub.holds.set()


async def test_why_a_line_is_suspected_is_what_is_said_of_it(hub: Pretender, tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with edge(hub, tmp_path) as branch:
            await branch.line.until_up()
            streams, renewed = hub.asked.count("stream"), branch.hub.renew
            said: list[str] = []

            async def renew() -> None:
                said.append(branch.line.why)
                await renewed()

            branch.hub.renew = renew  # type: ignore[method-assign]  # it comes after the state was set
            branch.line.suspect("it does not answer in time")
            while hub.asked.count("stream") == streams:
                await hub.asks(1)
            assert said == ["it does not answer in time"]


async def test_what_a_hub_cannot_read_is_given_up_by_itself_and_told(hub: Pretender, tmp_path: Path) -> None:
    """As when something before it takes less at once: all else goes on."""
    told: list[Json] = []

    def limited(place: str, body: bytes) -> bytes | None:
        lines = [json.loads(line) for line in body.splitlines()] if place == "sends" else []
        if any("too much" in json.dumps(each) for each in lines):
            return http(b"too large", status=413)
        told.extend(each for each in lines if "refused" in each)
        return None

    with anyio.fail_after(DEADLINE):
        hub.answer = lambda place, _: http(b"", status=503) if place == "stream" else None
        async with edge(hub, tmp_path) as branch:
            while branch.line.since is None:  # noqa: ASYNC110 - nothing tells of the first attempt
                await anyio.sleep(0.005)
            await say(branch, "send", "1", to="alice", body="first")
            await say(branch, "send", "2", to="alice", body="too much", subject="the plan")
            await say(branch, "settle", "3", ids=["too much"], outcome="ack")
            await say(branch, "send", "4", to="alice", body="last")
            hub.answer = limited
            branch.line.hurry()
            while branch.outbox.waiting:  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.005)
    assert [hub.stored[number]["body"] for number in ("1", "2", "4")] == ["first", "", "last"]
    [report] = told
    assert (report["given"]["subject"], report["refused"]["error"]) == ("the plan", "bad_argument")


async def test_what_no_hub_would_read_is_refused_at_once(hub: Pretender, tmp_path: Path) -> None:
    async with edge(hub, tmp_path) as branch:
        await branch.line.until_up()
        asked = len(hub.asked)
        for given in ({"subject": "s" + "\n" * wire.GIVEN_BYTES}, {"ttl": "10m" + " " * wire.GIVEN_BYTES}):
            with pytest.raises(Refusal) as refusal:
                await say(branch, "send", "1", to="alice", body="x", **given)
            assert refusal.value.code is Code.BAD_ARGUMENT
        assert "verbs/send" not in hub.asked[asked:]
        assert branch.outbox.waiting == 0


async def test_on_a_line_that_is_too_slow_for_a_batch_a_smaller_one_goes(hub: Pretender, tmp_path: Path) -> None:
    def slow(place: str, body: bytes) -> bytes | None:
        return http(b"too slow", status=408) if place == "sends" and len(body) > 60_000 else None

    with anyio.fail_after(DEADLINE):
        hub.answer = lambda place, _: http(b"", status=503) if place == "stream" else None
        async with edge(hub, tmp_path) as branch:
            while branch.line.since is None:  # noqa: ASYNC110 - nothing tells of the first attempt
                await anyio.sleep(0.005)
            for number in range(50):
                await say(branch, "send", str(number), to="alice", body="x" * 5_000)
            hub.answer = slow
            branch.line.hurry()
            while branch.outbox.waiting:  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.005)
    assert len(hub.stored) == 50
