"""Between a relay's frames and the SDK: numbers of our own requests, signs of life, what a relay is to keep."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import mcp_types as types
import pytest
from mcp.server.lowlevel import Server
from mcp_types.methods import serialize_server_result

from mcp_mailbox.fronts import render
from mcp_mailbox.fronts.mcp import wire
from mcp_mailbox.fronts.mcp.client import Client, Context
from tests.conftest import DEADLINE
from tests.fronts.inside import Json, Line, inside
from tests.fronts.world import both_eras
from tests.http.caller import ENVELOPE

COMPLETION = {
    "ref": {"type": "ref/resource", "uri": "mailbox:{address}"},
    "argument": {"name": "address", "value": "a"},
}

pytestmark = [*both_eras, pytest.mark.stdio("about relays")]


async def test_an_answer_to_a_question_of_an_earlier_epoch_does_not_land_on_a_new_one(tmp_path: Path) -> None:
    async def ask_back(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        del params
        await context.session.send_ping()
        return types.CallToolResult(content=[])

    server: Server[Client] = Server("asks back", on_call_tool=ask_back)
    async with inside(tmp_path) as office, office.line(epoch=3, server=server) as line:
        await line.greet()
        asked = line.call("any")
        question = await line.heard()
        assert (question["method"], question["id"]) == ("ping", "3.1")
        for stale in ("2.1", "1", 1, "3.2", "3.x", "31"):
            line.write({"id": stale, "result": {}})
        line.write({"id": "2.1", "error": {"code": 1, "message": "no"}})
        assert await line.result(line.ask("ping")) == {}  # they have all been read, and the tool still waits
        line.write({"id": "3.1", "result": {}})
        assert (await line.result(asked))["content"] == []


@pytest.mark.parametrize(
    ("host", "cap"),
    [
        *(("claude-code", 1500), ("codex-mcp-client", 270), ("gemini-cli-mcp-client", 570), ("opencode", 600)),
        *(("claude-ai", 55), ("cursor", 55), ("", 55)),
    ],
)
async def test_a_wait_shows_signs_of_life_and_is_capped_by_host(tmp_path: Path, host: str, cap: float) -> None:
    async with inside(tmp_path) as office, office.line(progress_every=0.01) as line:
        await line.greet(host)
        await line.content(line.call("create_mailbox", name="alice"))
        line.ask(
            "tools/call",
            {"name": "wait_for_message", "arguments": {"timeout": 1e9}, "_meta": {"progressToken": "token"}},
        )
        first, second = [(await line.heard())["params"] for _ in range(2)]
        assert first["progressToken"] == "token"
        assert 0 < first["progress"] < second["progress"]
        assert first["total"] == cap


async def test_progress_is_not_shown_to_who_did_not_ask_nor_queued_for_who_does_not_read(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line(progress_every=0.001) as line:
        await line.greet()
        await line.content(line.call("create_mailbox", name="alice"))
        silent = line.call("wait_for_message", timeout=0.05)
        assert (await line.heard())["id"] == silent
        line.reads = False
        shown = line.ask(
            "tools/call",
            {"name": "wait_for_message", "arguments": {"timeout": 0.05}, "_meta": {"progressToken": 1}},
        )
        assert (await line.heard())["id"] == shown


async def test_an_update_waits_for_a_host_that_does_not_read_and_many_are_one(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await line.content(line.call("create_mailbox", name="alice"))
        await line.result(line.ask("resources/subscribe", {"uri": "mailbox:alice"}))
        line.reads = False
        for _ in range(5):
            await line.content(line.call("send", to="alice", body="x"))
        line.reads = True
        # The one that was on its way, and one for all that rang behind it.
        for _ in range(2):
            assert (await line.heard())["method"] == "notifications/resources/updated"
        last = line.ask("ping")
        assert (await line.heard())["id"] == last


async def test_the_relay_keeps_what_makes_the_connection_and_nothing_else(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await line.content(line.call("create_mailbox", name="alice"))
        level = line.ask("logging/setLevel", {"level": "info"})
        await line.result(level)
        subscribed = line.ask("resources/subscribe", {"uri": "mailbox:alice"})
        await line.result(subscribed)
        again = line.ask("resources/subscribe", {"uri": "mailbox:alice"})
        await line.result(again)
        refused = line.ask("resources/subscribe", {"uri": "mailbox:nobody"})
        while (await line.heard()).get("id") != refused:
            pass
        assert line.kept == [1, level, subscribed, again]
        assert subscribed in line.forgotten
        await line.result(line.ask("resources/unsubscribe", {"uri": "mailbox:alice"}))
        assert again in line.forgotten


async def test_a_repeated_handshake_needs_no_initialized(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line(epoch=2) as line:
        info = {"name": "test", "version": "1"}
        line.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}, b"r")
        assert (await line.content(line.call("create_mailbox", name="alice")))["created"]


async def test_a_cancelled_request_is_forgotten_and_never_answered(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await line.content(line.call("create_mailbox", name="alice"))
        waiting = line.call("wait_for_message")
        line.write({"method": "notifications/cancelled", "params": {"requestId": waiting}})
        with anyio.fail_after(DEADLINE):
            while waiting not in line.forgotten:
                await anyio.lowlevel.checkpoint()
        assert (await line.content(line.call("list_inbox")))["unread"] == 0


async def test_a_bug_is_answered_with_a_number_and_not_with_its_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await line.content(line.call("create_mailbox", name="alice"))
        own = office.office.mailboxes._own
        del office.office.mailboxes._own  # as good a bug as any
        result = await line.result(line.call("list_inbox"))
        office.office.mailboxes._own = own
        assert result["isError"]
        problem = result["structuredContent"]
        assert problem["error"] == "internal"
        assert "_own" not in str(result)
        assert problem["message"].split()[-1].removesuffix(".") in caplog.text


async def test_a_bug_outside_of_tools_is_told_in_the_same_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        owned = office.office.mailboxes._owned
        del office.office.mailboxes._owned  # as good a bug as any
        error = await line.error(line.ask("resources/read", {"uri": "mailbox:alice"}))
        office.office.mailboxes._owned = owned
        assert error["code"] == types.INTERNAL_ERROR
        assert error["data"]["error"] == "internal"
        assert "_owned" not in str(error)
        assert error["message"].split()[-1].removesuffix(".") in caplog.text


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("resources/list", {}),
        ("resources/read", {"uri": "mailbox:bob"}),
        ("resources/read", {"uri": "mailbox:alice"}),
        ("resources/subscribe", {"uri": "mailbox:bob"}),
        ("completion/complete", COMPLETION),
    ],
)
async def test_a_store_that_fails_is_told_as_that_and_not_as_something_missing(
    tmp_path: Path, method: str, params: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await line.content(line.call("create_mailbox", name="alice"))
        async with office.trouble():
            error = await line.error(line.ask(method, params))
        assert error["code"] == types.INTERNAL_ERROR
        assert error["data"]["error"] == "store_failed"
        assert "Traceback" not in caplog.text


async def test_a_stream_is_refused_when_it_is_not_known_what_it_may_tell(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        listen = {"notifications": {"resourceSubscriptions": ["mailbox:bob"]}, "_meta": ENVELOPE}
        async with office.trouble():
            error = await line.error(line.ask("subscriptions/listen", listen))
        assert error["data"]["error"] == "store_failed"


async def test_a_full_store_refuses_what_would_grow_it_and_recovers_by_itself(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await line.content(line.call("create_mailbox", name="alice"))
        await line.content(line.call("send", to="alice", body="before"))
        writer = office.store.writer  # type: ignore[attr-defined]  # SQLite's own way to play a full disk
        await writer.do(lambda db: db.execute("PRAGMA max_page_count = 1").fetchall())
        problem = await line.content(line.call("send", to="alice", body="x" * 100_000))
        assert problem["error"] == "store_full"
        assert problem["hint"].startswith("Free some space")
        page = await line.content(line.call("list_inbox"))
        assert [each["preview"] for each in page["messages"]] == ["before"]
        assert (await line.content(line.call("read", id=page["messages"][0]["id"])))["body"] == "before"
        await writer.do(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchall())
        assert "id" in await line.content(line.call("send", to="alice", body="x" * 100_000))


async def test_a_mailbox_that_could_not_be_opened_while_the_store_failed_is_opened_by_the_next_call(
    tmp_path: Path,
) -> None:
    async with inside(tmp_path) as office, AsyncExitStack() as connection:
        async with office.trouble():
            line = await connection.enter_async_context(office.line(configured="bob"))
            await line.greet()
            problem = await line.content(line.call("list_inbox"))
            assert problem["error"] == "store_failed"
            assert problem["message"].startswith("MCP_MAILBOX_ADDRESS: ")
        await line.content(line.call("send", to="bob", body="to myself"))
        assert (await line.content(line.call("list_inbox")))["unread"] == 1


async def test_a_mailbox_that_cannot_be_ones_own_stays_refused(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line(configured="../x") as line:
        await line.greet()
        for _ in range(2):
            assert (await line.content(line.call("list_inbox")))["error"] == "bad_name"


async def test_paging_through_500_messages_shows_each_once(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await line.content(line.call("create_mailbox", name="alice"))
        sends = [
            line.call("send", to="alice", body=f"message {number}", priority=("urgent", "normal", "low")[number % 3])
            for number in range(500)
        ]
        await line.answered(sends)
        seen: list[str] = []
        cursor: str | None = None
        pages = 0
        while pages == 0 or cursor:
            page = await line.content(line.call("list_inbox", limit=100, cursor=cursor))
            assert len(render.dump(page).encode()) <= 4000
            assert page["unread"] == 500
            seen += [each["preview"] for each in page["messages"]]
            cursor = page.get("next")
            pages += 1
        # All were sent at once: which of them came first is nobody's promise.
        assert [int(text.removeprefix("message ")) % 3 for text in seen] == [n * 3 // 500 for n in range(500)]
        assert sorted(seen) == sorted(f"message {n}" for n in range(500))


async def test_a_cancellation_behind_the_answer_gives_back_what_it_carried(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await line.content(line.call("create_mailbox", name="alice"))
        await line.content(line.call("send", to="alice", body="x"))
        waiting = line.call("wait_for_message")
        assert len((await line.content(waiting))["messages"]) == 1
        line.write({"method": "notifications/cancelled", "params": {"requestId": waiting}})
        assert (await line.content(line.call("list_inbox")))["unread"] == 1


ABORTED = "AbortError: The operation was aborted."
"""What OpenCode says behind each answer: it is done with the call."""


async def done_with(line: Line, request: int) -> Json:
    """Take an answer as OpenCode does; return it."""
    content = await line.content(request)
    line.took(request)
    line.cancel(request, ABORTED)
    return content


async def test_a_host_that_cancels_what_it_is_done_with_keeps_the_mail_that_it_got(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await done_with(line, line.call("create_mailbox", name="alice"))
        await done_with(line, line.call("send", to="alice", body="x"))
        [message] = (await done_with(line, line.call("wait_for_message")))["messages"]
        assert (await done_with(line, line.call("wait_for_message", timeout=0)))["messages"] == []
        acked = await done_with(line, line.call("settle", ids=[message["id"]], outcome="ack"))
        assert acked["settled"] == [message["id"]]


async def test_a_host_that_does_so_after_two_waits_is_known_by_them(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line(configured="alice") as line:
        await line.greet()
        await line.content(line.call("send", to="alice", body="x"))
        handles = [
            [each["id"] for each in (await done_with(line, line.call("wait_for_message", timeout=0)))["messages"]]
            for _ in range(3)
        ]
        # The first time it may as well have given up: the mail goes back, and is there again.
        assert [len(each) for each in handles] == [1, 1, 0]


async def test_a_host_whose_limits_are_crossed_by_answers_is_no_such_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "LEAST", 0.05)
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await line.content(line.call("create_mailbox", name="alice"))
        for _ in range(3):
            waiting = line.call("wait_for_message")
            clock = line.call("wait_for_message", timeout=0.1)
            await line.content(clock)
            sent = line.call("send", to="alice", body="x")
            await line.answered([waiting, sent])
            line.took(waiting)
            line.cancel(waiting, "MCP request cancelled by caller")  # Codex says no more
            [message] = (await line.content(line.call("wait_for_message")))["messages"]
            await line.content(line.call("settle", ids=[message["id"]], outcome="ack"))


@pytest.mark.parametrize("reason", ["McpError: MCP error -32001: Request timed out", ABORTED])
async def test_such_a_host_that_gave_up_before_it_had_the_answer_gives_back_what_it_carried(
    tmp_path: Path, reason: str
) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await done_with(line, line.call("create_mailbox", name="alice"))
        await done_with(line, line.call("send", to="alice", body="x"))
        waiting = line.call("wait_for_message")
        assert len((await line.content(waiting))["messages"]) == 1
        if reason != ABORTED:
            line.took(waiting)  # into a pipe: whether the host would still show it, its reason tells
        line.cancel(waiting, reason)
        line.cancel(waiting, ABORTED)
        assert (await line.content(line.call("list_inbox")))["unread"] == 1


async def test_whenever_a_wait_is_cancelled_its_message_is_there_for_the_next(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await line.content(line.call("create_mailbox", name="alice"))
        await line.content(line.call("send", to="alice", body="x"))
        for later in range(120):
            waiting = line.call("wait_for_message")
            for _ in range(later % 40):
                await anyio.lowlevel.checkpoint()
            line.write({"method": "notifications/cancelled", "params": {"requestId": waiting}})
            while (await line.content(line.call("list_inbox")))["unread"] == 0:
                pass


async def test_a_plain_call_is_answered_as_the_sdk_would_have_it(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await line.greet()
        await line.content(line.call("create_mailbox", name="alice"))
        sent = await line.content(line.call("send", to="alice", body="é"))
        calls: list[tuple[str, object]] = [
            ("list_inbox", {"limit": 5}),
            ("list_inbox", None),
            ("read", {"id": sent["id"]}),
            ("read", {"id": "none"}),
            ("settle", {"ids": ["none"], "outcome": "ack"}),
            ("send", {"to": "alice"}),
        ]
        for name, arguments in calls:
            plain = {"name": name, "arguments": arguments, "_meta": {"progressToken": 7, "host/own": 1}}
            ours, theirs = [await line.result(line.ask("tools/call", each)) for each in (plain, plain | {"more": 1})]
            assert ours == theirs
            assert ours == serialize_server_result("tools/call", "2025-11-25", ours)
        for wrong in ({"name": "none"}, {"name": 1}, {}, {"name": "read", "arguments": []}):
            ours, theirs = [await line.error(line.ask("tools/call", each)) for each in (wrong, wrong | {"more": 1})]
            assert ours == theirs


async def test_what_comes_before_the_first_request_is_heard_and_a_session_takes_no_envelope(
    tmp_path: Path,
) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        line.write({"method": "notifications/initialized"})
        for _ in range(20):
            line.write({"method": "notifications/roots/list_changed"})
        # The handshake is over as far as the host is concerned (the SDK takes it so), and it calls at once.
        await line.content(line.call("create_mailbox", name="alice"))
        refused = await line.error(line.ask("tools/list", {"_meta": ENVELOPE}))
        assert refused["code"] == types.INVALID_REQUEST
