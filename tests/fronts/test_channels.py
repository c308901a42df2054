"""Channels, as agents use them: over stdio and HTTP, each host a process of its own."""

from __future__ import annotations

from typing import Any

import anyio

from mcp_mailbox.fronts.render import PAGE_LIMIT, size
from tests.fronts.world import PATIENCE, Agent, Era, Town, both_eras

pytestmark = both_eras


async def got(agent: Agent, **wanted: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await agent.call("wait_for_message", timeout=0, **wanted))["messages"]
    return found


async def test_who_joins_gets_what_is_published_and_its_publisher_sees_how_far_it_has_come(
    town: Town, era: Era
) -> None:
    async with town.pair(era) as (alice, bob):
        space = alice.address.partition("@")[2]
        made = await alice.call("subscribe", channel="#build")
        assert made == {"channel": f"#build@{space}", "created": True, "members": 1, "keeps": 10_000}
        assert (await bob.call("subscribe", channel="build"))["members"] == 2
        sent = await alice.call("send", to="#build", body="main is red", subject="CI")
        assert sent["to"] == [{"address": f"#build@{space}", "state": "stored", "members": 1}]
        [preview] = (await bob.call("list_inbox"))["messages"]
        assert (preview["channel"], preview["from"]) == (f"#build@{space}", alice.address)
        [message] = await got(bob, **{"from": "#build"})
        assert (message["body"], message["channel"]) == ("main is red", f"#build@{space}")
        await bob.call("send", to=["#build", alice.address], body="on it", reply_to=message["id"])
        [counted] = (await alice.call("read", id=sent["id"]))["sent"]
        assert counted == {"to": f"#build@{space}", "members": {"acked": 1}}
        [answer] = await got(alice)
        assert (answer["body"], answer["thread"]) == ("on it", sent["thread"])
        assert await got(bob) == []


async def test_who_asks_a_channel_for_a_receipt_is_told_that_none_comes(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        await bob.call("subscribe", channel="#build")
        sent = await alice.call("send", to="#build", body="x", receipt=True)
        assert sent["hint"] == "A channel sends no receipts; read counts how far its members are."
        assert "hint" not in await alice.call("send", to="#build", body="x")
        assert "hint" not in await alice.call("send", to=bob.address, body="x", receipt=True)


async def test_a_member_that_waits_is_woken_by_what_is_published(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob), anyio.create_task_group() as tasks:
        await bob.call("subscribe", channel="#build")

        async def publish() -> None:
            await bob.is_waiting()
            await alice.send("#build", "now")

        tasks.start_soon(publish)
        with anyio.fail_after(PATIENCE):
            message = await bob.wait_one(timeout=PATIENCE)
        assert message["body"] == "now"


async def test_a_channel_that_is_not_there_is_refused_with_what_would_do(town: Town) -> None:
    async with town.agent("alice") as alice:
        problem = await alice.refused("send", to="#biuld", body="x")
        assert problem["error"] == "unknown_channel"
        assert problem["hint"] == "subscribe(channel='#biuld') makes it."
        await alice.call("subscribe", channel="#build")
        problem = await alice.refused("send", to="#biuld", body="x")
        assert problem["message"] == "No channel '#biuld'."
        assert problem["hint"] == "Did you mean '#build'? subscribe(channel='#biuld') makes it."
        sent = await alice.call("send", to=["#build", "#biuld"], body="x")
        assert [each.get("error") for each in sent["to"]] == [None, "unknown_channel"]
        problem = await alice.refused("send", to="Build", body="x")
        assert (problem["error"], problem["hint"]) == ("unknown_mailbox", "Did you mean '#build'?")
        problem = await alice.refused("list_inbox", **{"from": "#biuld"})
        assert problem["error"] == "unknown_channel"
        problem = await alice.refused("subscribe", channel="#biuld", leave=True)
        assert problem["error"] == "unknown_channel"
        problem = await alice.refused("create_mailbox", name="#build")
        assert problem["error"] == "bad_name"
        for given in ({"leave": True}, {"channel": "#b", "leave": True, "since": "all"}, {"channel": "#b", "keep": 0}):
            assert (await alice.refused("subscribe", **given))["error"] == "bad_argument"
        problem = await alice.refused("subscribe", channel="#all", keep=5)
        assert problem["error"] == "forbidden"


async def test_channels_are_listed_joined_from_the_beginning_and_left(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        await alice.call("subscribe", channel="#build")
        ids = [(await alice.call("send", to="#build", body=str(number)))["id"] for number in range(3)]
        listed = (await bob.call("subscribe"))["channels"]
        names = [(each["channel"].partition("@")[0], each["members"], each.get("yours", False)) for each in listed]
        assert names == [("#all", 2, True), ("#build", 1, False)]
        assert "last_at" in listed[1]
        assert (await bob.call("subscribe", channel="#build", since=ids[1]))["waiting"] == 2
        assert [each["body"] for each in await got(bob)] == ["1", "2"]
        await bob.call("subscribe", channel="#build", since="all")
        assert [each["body"] for each in await got(bob)] == ["0"]
        left = await bob.call("subscribe", channel="#build", leave=True)
        assert left == {"left": listed[1]["channel"]}
        assert "hint" in await bob.call("subscribe", channel="#build", leave=True)
        await alice.call("send", to="#build", body="3")
        assert await got(bob) == []
        history = (await bob.call("list_inbox", **{"from": "#build", "limit": 3}))["messages"]
        assert [each["preview"] for each in history] == ["3", "2", "1"]
        assert (await bob.call("read", id=history[0]["id"]))["body"] == "3"


async def test_what_was_missed_is_said_once(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        await alice.call("subscribe", channel="#build", keep=2)
        channel = (await bob.call("subscribe", channel="#build"))["channel"]
        for number in range(5):
            await alice.call("send", to="#build", body=str(number))
        answer = await bob.call("wait_for_message", timeout=0)
        assert [each["body"] for each in answer["messages"]] == ["3", "4"]
        assert answer["skipped"] == [{"channel": channel, "count": 3}]
        assert "skipped" not in await bob.call("list_inbox")
        assert "skipped" not in await bob.call("wait_for_message", timeout=0)


async def test_everybody_of_a_space_is_in_all(town: Town) -> None:
    async with town.agent("alice") as alice, town.agent("bob") as bob:
        sent = await alice.call("send", to="#all", body="hello all", priority="low")
        assert sent["to"][0]["members"] == 1
        assert [each["body"] for each in await got(bob)] == ["hello all"]
        assert await got(alice) == []


async def test_a_page_of_channels_is_bounded_and_goes_on(town: Town) -> None:
    async with town.agent("alice") as alice:
        names = {f"#a-rather-long-name-of-a-channel-{number:03}" for number in range(60)}
        for name in names:
            await alice.call("subscribe", channel=name)
        found, cursor = set(), None
        while True:
            page = await alice.call("subscribe", **({"cursor": cursor} if cursor else {}))
            assert size(page) <= PAGE_LIMIT
            found |= {each["channel"].partition("@")[0] for each in page["channels"]}
            if (cursor := page.get("next")) is None:
                break
        assert found == names | {"#all"}


async def test_a_subscriber_of_an_inbox_hears_of_what_is_published(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        await bob.call("subscribe", channel="#build")
        async with bob.watching(bob.uri) as updated:
            await alice.send("#build", "now")
            with anyio.fail_after(PATIENCE):
                await updated()
        [shown] = (await bob.resource(bob.uri))["messages"]
        assert shown["channel"].startswith("#build@")


async def test_a_channel_in_which_nothing_was_said_is_read_back_as_nothing(town: Town) -> None:
    async with town.agent("alice") as alice:
        await alice.call("subscribe", channel="#quiet")
        assert await alice.call("list_inbox", **{"from": "#quiet"}) == {"messages": []}
        assert await got(alice, **{"from": "#quiet"}) == []
