"""Finding whom to write to, as agents do it: over stdio and HTTP, in both eras."""

from __future__ import annotations

import json
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mcp_mailbox.fronts.render import NOBODY, PAGE_LIMIT, size
from tests.fronts.world import LEGACY, MODERN, Agent, Era, Json, Town, asking, both_eras

pytestmark = both_eras


async def found(agent: Agent, **asked: object) -> list[Json]:
    """Return all pages, one behind the other."""
    every: list[Json] = []
    cursor: dict[str, str] = {}
    while True:
        page = await agent.call("find_mailboxes", **asked, **cursor)
        assert size(page) <= PAGE_LIMIT
        every += page["mailboxes"]
        if "next" not in page:
            return every
        cursor = {"cursor": page["next"]}


async def names(agent: Agent, **asked: object) -> list[str]:
    return [each["address"] for each in await found(agent, **asked)]


async def entry(agent: Agent, address: str) -> Json:
    [one] = [each for each in await found(agent) if each["address"] == address]
    return one


async def test_somebody_is_found_by_what_they_do(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        await alice.call("create_mailbox", name="alice", about="Reviews  SQL,\nfast.", skills=["sql", "code review"])
        await bob.send("alice")
        [shown] = await found(bob, query="rev SQ")
        age = (datetime.now(UTC) - datetime.fromisoformat(shown.pop("last_seen"))).total_seconds()
        assert 0 <= age < 60
        assert shown == {
            "address": alice.address,
            "about": "Reviews SQL, fast.",
            "skills": ["sql", "code review"],
            "presence": "online",
            "unread": 1,
        }
        assert await names(bob, skill="Code Review") == await names(bob, query="ALI") == [alice.address]
        assert await names(bob) == [alice.address, bob.address]
        assert await bob.call("find_mailboxes", query="sql cobol") == {"mailboxes": [], "hint": NOBODY}


async def test_who_is_busy_says_so_and_takes_it_back(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        await alice.call("create_mailbox", name="alice", status="busy until 15:00")
        shown = await entry(bob, alice.address)
        assert (shown["presence"], shown["status"]) == ("online", "busy until 15:00")
        await alice.call("create_mailbox", name="alice", away=True, status_ttl=600)
        shown = await entry(bob, alice.address)
        assert shown["presence"] == "away"
        assert "status" not in shown
        await alice.call("create_mailbox", name="alice", status="")
        assert (await entry(bob, alice.address))["presence"] == "online"


async def test_spaces_are_apart_unless_all_are_asked_for(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        there = f"carol@{town.space}-else"
        await alice.call("create_mailbox", name=there)
        assert await names(bob) == await names(bob, space=town.space) == [alice.address, bob.address]
        assert await names(bob, space=f"{town.space}-else") == [there]
        ours = {alice.address, bob.address, there}
        everywhere = await names(bob, space="*")
        assert [each for each in everywhere if each in ours] == [alice.address, bob.address, there]
        assert there in await names(bob, space="*", query="carol")


@pytest.mark.stdio("relays are connected, or not")
async def test_who_has_gone_is_offline_at_once(town: Town) -> None:
    async with AsyncExitStack() as stack:
        alice = await stack.enter_async_context(town.agent("alice"))
        async with town.agent("bob") as bob:
            assert (await entry(alice, bob.address))["presence"] == "online"
        await is_offline(alice, bob.address)
        async with town.agent(env={"MCP_MAILBOX_ADDRESS": "bob"}):
            assert (await entry(alice, bob.address))["presence"] == "online", "before its first call"


async def is_offline(agent: Agent, address: str) -> None:
    """Return once it is: the relay has ended, and the post office hears of that."""
    while (await entry(agent, address))["presence"] != "offline":  # noqa: ASYNC110 - nothing tells
        await anyio.sleep(0.005)


@pytest.mark.stdio("kills a relay")
async def test_who_was_killed_is_offline_at_once(town: Town) -> None:
    async with town.pair() as (alice, bob):
        bob.kill()
        await is_offline(alice, bob.address)


@pytest.mark.stdio("kills the post office")
async def test_who_is_here_and_what_was_said_outlives_the_post_office(new_town: Any) -> None:
    town = new_town()
    async with town.pair() as (alice, bob):
        await bob.call("create_mailbox", status="on call", skills=["night"])
        town.home.signal_office(signal.SIGKILL)
        shown = await entry(alice, bob.address)
        while shown["presence"] != "online":  # its relay connects again by itself
            shown = await entry(alice, bob.address)
        assert (shown["status"], shown["skills"]) == ("on call", ["night"])


async def test_who_waits_is_online(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob), asking(lambda: bob.wait(20)) as waiting:
        await bob.is_waiting()
        assert (await entry(alice, bob.address))["presence"] == "online"
        await alice.send("bob")
        await waiting.answer()


async def test_many_are_told_page_by_page_each_once_and_a_page_is_small(town: Town) -> None:
    async with town.agent("aaa") as agent:
        for number in range(12):
            about, skills = "ü" * 500, [f"{number}-{skill}" + "ü" * 40 for skill in range(20)]
            await agent.call("create_mailbox", name=f"n{number:02}", about=about, skills=skills, status="ü" * 100)
        every = await found(agent, query="n")
        assert [each["address"] for each in every] == [f"n{number:02}@{town.space}" for number in range(12)]
        assert all(len(each["about"]) == 120 and each["more_skills"] + len(each["skills"]) == 20 for each in every)
        page = await agent.call("find_mailboxes", query="n", limit=2)
        assert len(page["mailboxes"]) == 2
        assert len(await found(agent, query="n", limit=1)) == 12


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("find_mailboxes", {"space": "a b"}, "bad_name"),
        ("find_mailboxes", {"space": "**"}, "bad_name"),
        ("find_mailboxes", {"query": "a b c d e f g h i j k l"}, "bad_argument"),
        ("find_mailboxes", {"query": "x" * 100_000}, "bad_argument"),
        ("find_mailboxes", {"skill": "x" * 100_000}, "bad_argument"),
        ("find_mailboxes", {"query": [7]}, "bad_argument"),
        ("find_mailboxes", {"limit": 0}, "bad_argument"),
        ("find_mailboxes", {"cursor": "c1.zzzz"}, "bad_argument"),
        ("find_mailboxes", {"cursor": ""}, "bad_argument"),
        ("find_mailboxes", {"words": "alice"}, "bad_argument"),
        ("create_mailbox", {"name": "alice", "status": "x" * 101}, "bad_argument"),
        ("create_mailbox", {"name": "alice", "status": "a\nb"}, "bad_argument"),
        ("create_mailbox", {"name": "alice", "status": "x", "status_ttl": 0}, "bad_argument"),
        ("create_mailbox", {"name": "alice", "status": "x", "status_ttl": 1e300}, "bad_argument"),
        ("create_mailbox", {"name": "alice", "status_ttl": 60}, "bad_argument"),
        ("create_mailbox", {"name": "alice", "away": "at lunch"}, "bad_argument"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_hint(
    town: Town, tool: str, arguments: dict[str, Any], code: str
) -> None:
    async with town.agent("alice") as alice:
        problem = await alice.refused(tool, **arguments)
        assert problem["error"] == code
        assert len(json.dumps(problem)) < 1000


async def test_what_was_meant_is_read(town: Town) -> None:
    async with town.agent("alice") as alice:
        asked: dict[str, Any] = {"query": None, "skill": None, "space": None, "limit": "5", "cursor": None}
        assert await names(alice, **asked) == await names(alice, query="*", space="") == [alice.address]


async def test_before_one_has_a_mailbox_one_can_look_who_is_there(town: Town) -> None:
    async with town.agents(("alice", LEGACY), (None, MODERN)) as (alice, nobody):
        assert await names(nobody) == [alice.address]
