"""What an agent sees of the life of its mail, received and sent, in both eras and over both transports."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.fronts.world import Agent, Era, Json, Town, both_eras

pytestmark = both_eras


async def track(agent: Agent, id_: str) -> Json:
    """How far a message to one recipient has come, as its sender sees it."""
    [found] = (await agent.call("read", id=id_))["sent"]
    result: Json = found
    return result


async def report(agent: Agent) -> Json:
    """The next thing that the postmaster has written."""
    found = await agent.wait_one(from_="postmaster")
    assert found["from"].startswith("postmaster@")
    return found


async def failed(agent: Agent, id_: str, outcome: str) -> Json:
    """Why that cannot be settled so."""
    [found] = (await agent.call("settle", ids=[id_], outcome=outcome))["failed"]
    result: Json = found
    return result


async def test_a_sender_follows_its_mail(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        sent = await alice.send("bob")
        assert set(await track(alice, sent["id"])) == {"to", "state", "at"}
        assert (await track(alice, sent["id"]))["state"] == "stored"
        await bob.call("list_inbox")
        state = "stored"
        while state == "stored":  # bob has the answer before it is noted, with the next commit
            await alice.send("alice")
            state = (await track(alice, sent["id"]))["state"]
        assert state == "surfaced"
        handle = (await bob.wait_one())["id"]
        leased = await track(alice, sent["id"])
        assert (leased["state"], "lease_until" in leased["at"]) == ("leased", True)
        await bob.call("settle", ids=[handle], outcome="ack")
        done = await track(alice, sent["id"])
        assert done["state"] == "acked"
        assert {"stored", "surfaced", "leased", "acked"} <= set(done["at"])
        assert "sent" not in await bob.call("read", id=sent["id"])


async def test_mail_that_a_subscriber_was_told_of_has_rung(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        async with bob.watching(bob.uri) as update:
            sent = await alice.send("bob")
            await update()
            state = "stored"
            while state == "stored":  # it is noted after the host was told, with the next commit
                await alice.send("alice")
                state = (await track(alice, sent["id"]))["state"]
        assert state == "rung"


async def test_a_rejection_is_told_to_the_sender_with_its_reason(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        sent = await alice.send("bob", "Do it", subject="Task")
        handle = (await bob.wait_one())["id"]
        await bob.call("settle", ids=[handle], outcome="reject", reason="not my job")
        told = await report(alice)
        assert (told["kind"], told["thread"]) == ("report", sent["thread"])
        assert told["subject"] == "Not delivered: Task"
        assert "not my job" in told["body"]
        assert (await track(alice, sent["id"]))["reason"] == "not my job"
        [dead] = (await bob.call("list_inbox", show="dead"))["messages"]
        assert (dead["state"], dead["reason"]) == ("rejected", "not my job")


async def test_a_dead_letter_is_retried_and_purged(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        sent = await alice.send("bob")
        await bob.call("settle", ids=[sent["id"]], outcome="reject")
        assert (await failed(bob, sent["id"], "ack"))["error"] == "already_settled"
        await bob.call("settle", ids=[sent["id"]], outcome="retry")
        again = await bob.wait_one()
        assert again["body"] == "hello"
        await bob.call("settle", ids=[again["id"]], outcome="reject")
        await bob.call("settle", ids=[sent["id"]], outcome="purge")
        assert (await bob.call("list_inbox"))["messages"] == []
        assert (await failed(bob, "nonsense", "purge"))["error"] == "unknown_message"


async def test_what_is_released_too_often_is_a_dead_letter(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        await bob.call("create_mailbox", name="bob", attempts=2)
        await alice.send("bob")
        for _ in range(2):
            await bob.call("settle", ids=[(await bob.wait_one())["id"]], outcome="release")
        [dead] = (await bob.call("list_inbox", show="dead"))["messages"]
        assert dead["state"] == "dead"
        assert "taken 2 times" in (await report(alice))["body"]


async def test_a_message_expires_by_itself_and_its_sender_is_told(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, _):
        sent = await alice.send("bob", ttl=0.2)
        assert "expired" in (await report(alice))["body"]
        assert (await track(alice, sent["id"]))["state"] == "expired"


async def test_a_delayed_message_wakes_a_reader_when_its_time_has_come(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        await alice.send("bob", "in an hour", delay=3600)
        [preview] = (await bob.call("list_inbox"))["messages"]
        assert "deliver_at" in preview
        assert (await bob.call("list_inbox"))["unread"] == 0
        began = time.monotonic()
        await alice.send("bob", "later", delay=0.5)
        assert (await bob.wait_one())["body"] == "later"
        assert time.monotonic() - began > 0.49


async def test_a_lease_is_extended_and_put_off(town: Town) -> None:
    async with town.pair() as (alice, bob):
        await alice.send("bob")
        got = await bob.wait_one()
        await bob.call("settle", ids=[got["id"]], outcome="extend", delay=7200)
        [held] = (await bob.call("list_inbox"))["messages"]
        assert held["state"] == "leased"
        assert (await bob.call("read", id=got["id"]))["state"] == "leased"
        began = time.monotonic()
        await bob.call("settle", ids=[got["id"]], outcome="release", delay="0.5")
        assert (await bob.wait_one())["attempts"] == 1
        assert time.monotonic() - began > 0.49


async def test_a_receipt_comes_for_an_ack_if_it_was_asked_for(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        sent = await alice.send("bob", receipt=True)
        await bob.call("wait_for_message", ack=[(await bob.wait_one())["id"]], timeout=0)
        told = await report(alice)
        assert (told["kind"], told["thread"]) == ("receipt", sent["thread"])


async def test_what_nobody_acks_is_overdue_in_time(town: Town) -> None:
    async with town.pair() as (alice, _):
        await alice.send("bob")
        assert (await alice.call("list_inbox", show="overdue"))["messages"] == [], "not for ten minutes"


BODIES: list[Any] = [{"a": [1, 2.5, None, True, "ü"]}, [], ["x"], 0, 1.5, True, {"nested": {"deep": {}}}]


@pytest.mark.parametrize("body", BODIES, ids=str)
async def test_a_body_that_is_json_arrives_as_json(town: Town, body: Any) -> None:
    async with town.pair() as (alice, bob):
        sent = await alice.send("bob", body)
        got = await bob.wait_one()
        assert got["body"] == body
        assert type(got["body"]) is type(body)
        assert (await bob.call("read", id=sent["id"]))["body"] == body


async def test_text_that_looks_like_json_stays_text(town: Town) -> None:
    async with town.pair() as (alice, bob):
        await alice.send("bob", '{"a": 1}')
        assert (await bob.wait_one())["body"] == '{"a": 1}'


async def test_a_long_json_body_is_read_in_pages_as_text(town: Town) -> None:
    async with town.pair() as (alice, bob):
        body = {"numbers": list(range(10_000))}
        sent = await alice.send("bob", body)
        shown = await bob.wait_one()
        text = shown["body"]
        assert isinstance(text, str)
        while "more" in shown:
            shown = await bob.call("read", id=sent["id"], offset=shown["more"])
            text += shown["body"]
        assert json.loads(text) == body


async def test_who_is_in_cc_gets_it_and_is_not_woken(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob), town.agent("carol", era) as carol:
        await alice.send("bob", cc="carol")
        assert (await bob.wait_one())["cc"] == [carol.address]
        [preview] = (await carol.call("list_inbox"))["messages"]
        assert preview["from"] == alice.address
        assert (await carol.wait_one(timeout=0))["body"] == "hello"


async def test_a_newer_message_of_a_topic_takes_the_place_of_one_that_nobody_has_seen(town: Town) -> None:
    async with town.pair() as (alice, bob):
        first = await alice.send("bob", "10 %", topic="progress")
        await alice.send("bob", "20 %", topic="progress")
        assert [each["body"] for each in await bob.wait()] == ["20 %"]
        assert (await track(alice, first["id"]))["state"] == "replaced"
