"""What each tool answers when all goes well, in both eras."""

from __future__ import annotations

import re

import pytest

from tests.fronts.world import Era, Town

pytestmark = pytest.mark.anyio

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
TOOLS = [
    "create_mailbox",
    "send",
    "wait_for_message",
    "list_inbox",
    "read",
    "settle",
    "reserve",
    "find_mailboxes",
    "subscribe",
]


async def test_a_mailbox_is_made_once_and_opened_from_then_on(town: Town, era: Era) -> None:
    async with town.agent(era=era) as agent:
        address = f"alice@{town.space}"
        made = await agent.call("create_mailbox", name="alice")
        assert made == {"address": address, "created": True, "unread": 0, **agent.advice(made)}
        again = await agent.call("create_mailbox", **({} if agent.remembers else {"name": "ALICE"}))
        assert again == {"address": address, "created": False, "unread": 0, **agent.advice(made)}


async def test_without_a_name_one_gets_a_readable_one_and_keeps_it(town: Town, era: Era) -> None:
    async with town.agent(era=era) as agent:
        made = await agent.call("create_mailbox", about="I test.", skills=["testing"])
        assert made["created"]
        name, _, space = made["address"].partition("@")
        assert space == town.space
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", name)
        again = await agent.call("create_mailbox")
        assert again == {**made, "created": False} or not agent.remembers


async def test_mail_goes_from_one_to_the_other_and_back(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        sent = await alice.send("bob", "How are you?", subject="Hello")
        assert sent == {
            "id": sent["id"],
            "thread": sent["id"],
            "to": [{"address": bob.address, "state": "stored"}],
        }
        got = await bob.wait_one()
        assert TIME.fullmatch(got.pop("sent_at"))
        assert TIME.fullmatch(got.pop("lease_until"))
        handle = got.pop("id")
        assert got == {
            "from": alice.address,
            "subject": "Hello",
            "body": "How are you?",
            "thread": sent["id"],
            "priority": "normal",
        }
        answer = await bob.send(alice.address, "Fine.", reply_to=handle)
        assert answer["thread"] == sent["id"]
        assert answer["id"] != sent["id"]
        assert (await alice.wait_one(thread=sent["id"], from_="bob"))["body"] == "Fine."
        assert await bob.bodies() == []


async def test_a_wait_in_which_nothing_comes_says_so(town: Town, era: Era) -> None:
    async with town.agent("alice", era) as alice:
        answer = await alice.call("wait_for_message", timeout=0)
        assert answer == {"messages": [], "timed_out": True, "hint": answer["hint"]}
        assert "call wait_for_message again" in answer["hint"]


async def test_a_listing_shows_previews_and_takes_nothing(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        long = "word " * 500
        sent = await alice.send("bob", long, subject="Long", priority="low")
        await alice.send("bob", "Now!", priority="urgent")
        page = await bob.call("list_inbox")
        urgent, low = page.pop("messages")
        assert page == {"unread": 2}
        assert TIME.fullmatch(low.pop("sent_at"))
        assert len(low["preview"]) <= 120
        assert long.startswith(low.pop("preview").removesuffix("…"))
        assert low == {
            "id": sent["id"],
            "from": alice.address,
            "subject": "Long",
            "priority": "low",
            "bytes": len(long),
        }
        assert (urgent["preview"], urgent["priority"], "subject" in urgent) == ("Now!", "urgent", False)
        only = await bob.call("list_inbox", urgent_only=True)
        assert [each["preview"] for each in only["messages"]] == ["Now!"]
        assert [each["body"] for each in await bob.wait()] == ["Now!", long]
        leased = await bob.call("list_inbox")
        assert leased["unread"] == 0
        assert {each["state"] for each in leased["messages"]} == {"leased"}


async def test_a_listing_begins_at_a_time(town: Town) -> None:
    async with town.pair() as (alice, bob):
        await alice.send("bob")
        assert len((await bob.call("list_inbox", since="2001-01-01"))["messages"]) == 1
        assert (await bob.call("list_inbox", since="2901-01-01T00:00:00Z"))["messages"] == []


async def test_a_message_is_read_whole_by_who_sent_and_who_got_it(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        sent = await alice.send(["bob", "alice"], "Text", subject="Subject", priority="urgent")
        for reader in (alice, bob):
            whole = await reader.call("read", id=sent["id"])
            assert TIME.fullmatch(whole.pop("sent_at"))
            tracks = whole.pop("sent", [])
            assert [each["to"] for each in tracks] == ([bob.address, alice.address] if reader is alice else [])
            assert whole == {
                "id": sent["id"],
                "from": alice.address,
                "to": [bob.address, alice.address],
                "subject": "Subject",
                "body": "Text",
                "thread": sent["id"],
                "priority": "urgent",
                "state": "stored",
            }


async def test_each_outcome_of_settle_ends_the_lease_in_its_way(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        for body in ("done", "later", "never"):
            await alice.send("bob", body)
        done, later, never = [each["id"] for each in await bob.wait()]
        assert await bob.call("settle", ids=[done], outcome="ack") == {"settled": [done]}
        assert await bob.call("settle", ids=[later], outcome="release") == {"settled": [later]}
        assert await bob.call("settle", ids=[never], outcome="reject") == {"settled": [never]}
        listed = (await bob.call("list_inbox"))["messages"]
        assert [(each["preview"], each.get("state")) for each in listed] == [("later", None), ("never", "rejected")]
        again = await bob.wait_one()
        assert (again["body"], again["attempts"]) == ("later", 1)
        assert again["id"] != later


async def test_settle_answers_for_each_id(town: Town) -> None:
    async with town.pair() as (alice, bob):
        await alice.send("bob")
        handle = (await bob.wait_one())["id"]
        answer = await bob.call("settle", ids=[handle, "nonsense"], outcome="ack")
        assert answer["settled"] == [handle]
        [failed] = answer["failed"]
        assert (failed["id"], failed["error"]) == ("nonsense", "unknown_message")
        assert failed["hint"]


async def test_a_wait_acks_what_is_done_and_asks_for_more(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        await alice.send("bob", "first")
        first = await bob.wait_one()
        await alice.send("bob", "second")
        answer = await bob.call("wait_for_message", ack=[first["id"], "nonsense"])
        assert [each["body"] for each in answer["messages"]] == ["second"]
        [failed] = answer["ack_failed"]
        assert (failed["id"], failed["error"]) == ("nonsense", "unknown_message")
        assert (await bob.call("read", id=first["id"]))["state"] == "acked"


async def test_several_recipients_get_one_result_each(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        sent = await alice.send(["bob", "BOB", "nobody-at-all"], "x")
        bobs, nobody = sent["to"]
        assert bobs == {"address": bob.address, "state": "stored"}
        assert nobody["address"] == f"nobody-at-all@{town.space}"
        assert nobody["error"] == "unknown_mailbox"
        assert await bob.bodies() == ["x"]


@pytest.mark.parametrize(
    "to", ["bob, alice", "bob;alice", '["bob", "alice"]', ["bob,alice"], ["bob", "alice"]], ids=str
)
async def test_several_recipients_are_read_however_they_are_written(town: Town, to: str | list[str]) -> None:
    async with town.pair() as (alice, bob):
        sent = await alice.send(to)
        assert [each["address"] for each in sent["to"]] == [bob.address, alice.address]


async def test_the_same_key_stores_one_message(town: Town) -> None:
    async with town.pair() as (alice, bob):
        sent = await alice.send("bob", "once", key="k")
        assert await alice.send("bob", "once", key="k") == {**sent, "repeated": True}
        assert await bob.bodies() == ["once"]
        conflict = await alice.refused("send", to="bob", body="other", key="k")
        assert conflict["error"] == "key_conflict"


async def test_a_call_can_name_another_mailbox_of_ones_own(town: Town) -> None:
    async with town.agent("first") as agent:
        await agent.call("create_mailbox", name="second")
        await agent.send("first", "from second")
        await agent.send("second", "from first", mailbox="first")
        assert (await agent.wait_one(mailbox="first"))["from"] == f"second@{town.space}"
        assert (await agent.wait_one())["from"] == f"first@{town.space}"


async def test_the_configuration_names_the_mailbox_and_mail_reaches_it_before_the_first_call(town: Town) -> None:
    async with town.agent("alice") as alice, town.agent(env={"MCP_MAILBOX_ADDRESS": "bob"}) as bob:
        await bob.client.list_tools()
        await alice.send("bob", "early")
        assert (await bob.wait_one())["body"] == "early"
        assert (await bob.call("create_mailbox"))["address"] == f"bob@{town.space}"


async def test_left_out_and_null_are_the_same(town: Town) -> None:
    async with town.agent("alice") as alice:
        await alice.send("alice", "x", subject=None, priority=None, reply_to=None, key=None, mailbox=None)
        await alice.call("list_inbox", limit=None, cursor=None, urgent_only=None, since=None)
        assert len(await alice.wait(mailbox=None, ack=None, from_=None, thread=None)) == 1


async def test_numbers_as_text_are_read_as_meant(town: Town) -> None:
    async with town.agent("alice") as alice:
        await alice.send("alice", "x")
        assert len((await alice.call("list_inbox", limit="5", urgent_only="false"))["messages"]) == 1
        assert len((await alice.call("wait_for_message", timeout="0", ack="")).get("ack_failed", [])) == 1


@pytest.mark.parametrize("tool", TOOLS)
async def test_an_unknown_parameter_is_refused_with_a_hint(town: Town, tool: str) -> None:
    async with town.agent("alice") as alice:
        problem = await alice.refused(tool, zzzz=1)
        assert problem["error"] == "bad_argument"
        assert f"{tool} has no parameter `zzzz`." in problem["message"]
        assert f"{tool} takes " in problem["hint"]


async def test_a_misspelt_parameter_is_refused_with_what_was_meant(town: Town) -> None:
    async with town.agent("alice") as alice:
        problem = await alice.refused("send", to="alice", body="x", replyto="y")
        assert problem == {
            "error": "bad_argument",
            "message": "send has no parameter `replyto`.",
            "hint": "Did you mean `reply_to`?",
        }
        assert await alice.bodies() == []


async def test_the_list_of_tools_is_stable_and_lean(town: Town) -> None:
    async with town.agent(era="2025-11-25") as old, town.agent(era="2026-07-28") as new:
        first, again, modern = [(await agent.client.list_tools()).tools for agent in (old, old, new)]
        assert [tool.name for tool in first] == TOOLS
        assert first == again == modern
        assert all(tool.output_schema is None for tool in first)
        # Claude Code hides tools behind a search unless they say this (docs/hosts.md).
        assert {tool.name for tool in first if tool.meta} == {"create_mailbox", "send", "wait_for_message"}


async def test_the_server_teaches_two_habits(town: Town, era: Era) -> None:
    async with town.agent(era=era) as agent:
        instructions = agent.client.instructions
        assert instructions
        assert "create_mailbox" in instructions
        assert "reply_to" in instructions
