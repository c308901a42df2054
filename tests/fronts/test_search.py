"""Searching, as agents do it: over stdio and HTTP, in both eras."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from mcp_mailbox.fronts.render import PAGE_LIMIT, size
from tests.fronts.test_tools import TIME
from tests.fronts.world import Agent, Era, Town, both_eras

pytestmark = both_eras


async def found(agent: Agent, **asked: object) -> list[str]:
    return [each["preview"] for each in (await agent.call("list_inbox", **asked))["messages"]]


async def test_mail_is_found_by_words_sender_and_thread_whatever_became_of_it(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        first = await alice.send("bob", "Did the deploy of the API fail?", subject="Deploy")
        got = await bob.wait_one()
        await bob.send(alice.address, "It failed: deploys of the API need a token.", reply_to=got["id"])
        await alice.send("bob", "Lunch?")

        answer = await bob.call("list_inbox", query="deploy failed")
        received, sent = answer.pop("messages")[::-1]
        assert answer == {}
        for message in (received, sent):
            assert TIME.fullmatch(message.pop("sent_at"))
        assert received == {
            "id": first["id"],
            "from": alice.address,
            "preview": "Did the deploy of the API fail?",
            "subject": "Deploy",
            "state": "acked",
        }
        assert sent.pop("id") != first["id"]
        assert sent == {
            "from": bob.address,
            "to": [alice.address],
            "preview": "It failed: deploys of the API need a token.",
        }
        assert await found(bob, query="api", from_="alice") == ["Did the deploy of the API fail?"]
        assert await found(bob, from_=alice.address) == ["Lunch?", "Did the deploy of the API fail?"]
        thread = ["Did the deploy of the API fail?", "It failed: deploys of the API need a token."]
        for agent in (alice, bob):
            assert await found(agent, thread=got["thread"]) == thread
            assert await found(agent, thread=first["id"], limit=1) == thread[:1]
        assert await found(bob, query="api", since="2901-01-01") == []
        assert await found(bob, query="", from_="", thread="") == ["Lunch?"], "what is empty asks for nothing"


async def test_pages_of_a_search_fit_and_go_on(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        for number in range(30):
            await alice.send("bob", f"word {number} " + "ü" * 1000, subject="ü" * 150)
        seen: list[str] = []
        asked: dict[str, Any] = {"query": "word", "limit": 25}
        while True:
            page = await bob.call("list_inbox", **asked)
            assert size(page) <= PAGE_LIMIT
            seen += [each["preview"].split()[1] for each in page["messages"]]
            if "next" not in page:
                break
            asked["cursor"] = page["next"]
        assert seen == [str(number) for number in reversed(range(30))]


async def test_what_is_shown_of_a_long_message_is_the_line_that_was_looked_for(town: Town) -> None:
    async with town.pair() as (alice, bob):
        await alice.send("bob", "filler " * 500 + "here is the\n\tneedle! " + "filler " * 500)
        [message] = (await bob.call("list_inbox", query="NEEDLE"))["messages"]
        assert "here is the needle! filler" in message["preview"]
        assert message["bytes"] > 7000
        await alice.send([f"bob-{number}" for number in range(5)] + ["bob"], "to many")
        [message] = (await bob.call("list_inbox", query="many"))["messages"]
        assert "to" not in message


async def test_a_hit_that_was_shown_has_surfaced_for_its_sender(town: Town) -> None:
    async with town.pair() as (alice, bob):
        sent = await alice.send("bob", "word")
        await bob.call("list_inbox", query="word")
        while (await alice.call("read", id=sent["id"]))["sent"][0]["state"] != "surfaced":
            pass


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"query": "!!!"}, "bad_argument"),
        ({"query": "x" * 201}, "bad_argument"),
        ({"query": 7}, "bad_argument"),
        ({"query": [7]}, "bad_argument"),
        ({"query": "a", "show": "dead"}, "bad_argument"),
        ({"query": "a", "urgent_only": True}, "bad_argument"),
        ({"thread": "x", "show": "inbox"}, "bad_argument"),
        ({"query": "a", "cursor": "c1.zzzz"}, "bad_argument"),
        ({"query": "a", "limit": 0}, "bad_argument"),
        ({"query": "a", "since": "soon"}, "bad_argument"),
        ({"query": "a", "from": "not an address!"}, "bad_name"),
        ({"query": "a", "thread": "zzzzz"}, "unknown_message"),
        ({"thread": "zzzzz"}, "unknown_message"),
        ({"query": "a", "mailbox": "nobody-at-all"}, "unknown_mailbox"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_a_hint(town: Town, arguments: dict[str, Any], code: str) -> None:
    async with town.agent("alice") as alice:
        await alice.send("alice", "a")
        assert (await alice.refused("list_inbox", **arguments))["error"] == code


async def test_words_that_look_like_a_language_are_words(town: Town) -> None:
    async with town.agent("alice") as alice:
        await alice.send("alice", "either this or that")
        for query in ("this OR that", '"this" that', "this* -that", "(this)", "either^this"):
            assert await found(alice, query=query) == ["either this or that"]
        assert await found(alice, query="NEAR(this that)") == []


@pytest.mark.stdio("kills the post office, takes away its file")
async def test_mail_is_found_after_a_kill_and_without_the_index(new_town: Any) -> None:
    town = new_town()
    async with town.agent("alice") as alice:
        await alice.send("alice", "needle")
        assert await found(alice, query="needle") == ["needle"]
        town.home.signal_office(signal.SIGKILL)
        assert await found(alice, query="needle") == ["needle"]
        [index] = town.home.path.rglob("search.db")
        assert index.stat().st_mode & 0o777 == 0o600
        index.unlink()
        assert await found(alice, query="needle") == ["needle"]
        assert index.exists()
