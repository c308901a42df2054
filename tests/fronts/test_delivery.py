"""Who gets which message, once, and when: waits, leases, and readers that go away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import anyio
import pytest

from tests.fronts.world import LEGACY, SOON, Agent, Era, Raw, Town, asking

pytestmark = pytest.mark.anyio


async def test_a_waiting_reader_is_woken_by_a_send_in_well_under_a_second(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob), asking(lambda: bob.wait_one(50)) as waiting:
        await bob.is_waiting()
        sent = time.monotonic()
        await alice.send("bob", "wake up")
        assert (await waiting.answer())["body"] == "wake up"
        assert time.monotonic() - sent < SOON


async def test_two_connections_on_one_mailbox_never_both_get_a_message(town: Town) -> None:
    bodies = [f"message {number}" for number in range(60)]
    async with town.agents(("bob", LEGACY), ("bob", LEGACY), ("alice", LEGACY)) as (one, two, alice):
        got: dict[Agent, list[str]] = {one: [], two: []}
        everything = anyio.Event()

        async def read(reader: Agent) -> None:
            done: list[str] = []
            while not everything.is_set():
                messages = await reader.wait(1, ack=done)
                done = [message["id"] for message in messages]
                got[reader] += [message["body"] for message in messages]
                if len(got[one]) + len(got[two]) >= len(bodies):
                    everything.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, one)
            tasks.start_soon(read, two)
            for body in bodies:
                await alice.send("bob", body)
        assert sorted(got[one] + got[two]) == sorted(bodies)


# -- waits that end early leave the message where it was


async def test_a_cancelled_wait_leaves_the_message_to_the_next_reader(town: Town, era: Era) -> None:
    async with town.agents(("alice", era), ("bob", era), ("bob", era)) as (alice, first, second):
        async with asking(lambda: first.wait(50)) as waiting:
            await first.is_waiting()
            waiting.cancel()
        await alice.send("bob", "x")
        assert (await second.wait_one())["body"] == "x"


async def test_a_cancellation_that_crosses_the_answer_gives_the_message_back(town: Town) -> None:
    async with town.agents(("alice", LEGACY), ("bob", LEGACY)) as (alice, second):
        await second.call("create_mailbox", name="bob", kind="pool", share=10)
        raw = Raw(town.host())
        raw.greet()
        raw.call("create_mailbox", name="bob")
        await alice.send("bob", "x")
        # Written together: the wait is answered before, while or after the cancellation is read.
        raw.write(raw.tool("wait_for_message", timeout=50), raw.cancellation())
        assert (await second.wait_one())["body"] == "x"


@pytest.mark.stdio("about the process that a host starts")
async def test_a_killed_client_leaves_what_it_waited_for_to_the_next_reader(town: Town, era: Era) -> None:
    async with town.agents(("alice", era), ("bob", era)) as (alice, second):
        async with town.agent("bob", era) as first, asking(lambda: first.wait(50)):
            await first.is_waiting()
            first.kill()
            await first.relay.process.wait()
        await alice.send("bob", "x")
        assert (await second.wait_one())["body"] == "x"


async def test_a_client_killed_before_it_read_the_answer_leaves_the_message_to_the_next_reader(town: Town) -> None:
    async with town.agents(("alice", LEGACY), ("bob", LEGACY)) as (alice, second):
        await second.call("create_mailbox", name="bob", kind="pool", share=10)
        raw = Raw(town.host())
        raw.greet()
        raw.write(raw.tool("wait_for_message", timeout=50, mailbox="bob"))
        raw.call("create_mailbox", name="bob")
        os.kill(raw.host.pid, signal.SIGSTOP)  # the answer reaches its socket and goes no further
        await alice.send("bob", "x")
        await second.lists("leased")
        async with asking(lambda: second.wait_one(50)) as waiting:
            await second.is_waiting()
            raw.host.process.kill()
            assert (await waiting.answer())["body"] == "x"


@pytest.mark.stdio("about the process that a host starts")
async def test_a_host_that_closes_stdin_during_a_wait_gets_an_answer_and_takes_nothing(town: Town, era: Era) -> None:
    async with town.agents(("alice", era), ("bob", era)) as (alice, second):
        async with town.agent("bob", era) as first, asking(lambda: first.wait(50)) as waiting:
            await first.is_waiting()
            began = time.monotonic()
            await first.relay.close_stdin()
            assert await waiting.answer() == []
            assert await first.relay.process.wait() == 0
            assert time.monotonic() - began < SOON
        await alice.send("bob", "x")
        assert (await second.wait_one())["body"] == "x"


async def test_a_wait_that_timed_out_takes_nothing(town: Town) -> None:
    async with town.agents(("alice", LEGACY), ("bob", LEGACY), ("bob", LEGACY)) as (alice, first, second):
        assert await first.wait(0.05) == []
        await alice.send("bob", "x")
        assert (await second.wait_one())["body"] == "x"


async def test_what_a_host_got_before_it_closed_is_not_handed_out_again(town: Town) -> None:
    """As in `printf … | mcp-mailbox stdio`: all requests at once, then the end."""
    async with town.agents(("alice", LEGACY), ("bob", LEGACY)) as (alice, second):
        await alice.send("bob", "x")
        raw = Raw(town.host())
        raw.greet()
        raw.write(raw.tool("wait_for_message", timeout=5, mailbox="bob"))
        raw.host.close()
        [message] = raw.answer()["structuredContent"]["messages"]
        assert message["body"] == "x"
        assert raw.host.wait() == 0
        await town.home.readers(2)
        assert await second.wait(0) == []
        assert (await second.call("list_inbox"))["messages"][0]["state"] == "leased"


# -- leases


async def test_an_unacked_message_comes_back_after_its_lease_and_wakes_who_waits(
    new_town: Callable[..., Town],
) -> None:
    town = new_town(MCP_MAILBOX_LEASE="0.5")
    async with town.agents(("alice", LEGACY), ("bob", LEGACY)) as (alice, second):
        await second.call("create_mailbox", name="bob", kind="pool", share=10)
        async with town.agent("bob") as first:
            await alice.send("bob", "x")
            taken = await first.wait_one()
            assert "attempts" not in taken
            # The lease of a reader that is here, and does not ask, is not handed to another …
            assert await second.wait(0.8) == []
            # … and comes back to itself when it asks again, waiting or not.
            again = await first.wait_one()
            assert (again["body"], again["attempts"]) == ("x", 1)
            assert again["id"] != taken["id"]
            third = await first.wait_one()  # waits until the lease ends
            assert third["attempts"] == 2
            stale = (await first.call("settle", ids=[again["id"]], outcome="ack"))["failed"]
            assert [each["error"] for each in stale] == ["stale_lease"]
            refusal = await first.refused("send", to="alice", body="late", reply_to=again["id"])
            assert refusal["error"] == "stale_lease"
        # It has left without an ack: another one, who waits, is woken when the lease ends.
        fourth = await second.wait_one()
        assert (fourth["body"], fourth["attempts"]) == ("x", 3)
        await second.call("settle", ids=[fourth["id"]], outcome="ack")
        assert await second.wait(0.7) == []


async def test_released_mail_wakes_another_waiter(town: Town, era: Era) -> None:
    async with town.agents(("alice", era), ("bob", era), ("bob", era)) as (alice, first, second):
        await alice.send("bob", "x")
        taken = await first.wait_one()
        async with asking(lambda: second.wait_one(50)) as waiting:
            await second.is_waiting()
            await first.call("settle", ids=[taken["id"]], outcome="release")
            assert (await waiting.answer())["body"] == "x"


async def test_another_readers_lease_cannot_be_settled_by_the_plain_id(town: Town) -> None:
    async with town.agents(("alice", LEGACY), ("bob", LEGACY), ("bob", LEGACY)) as (alice, first, second):
        sent = await alice.send("bob", "x")
        await first.wait_one()
        [failed] = (await second.call("settle", ids=[sent["id"]], outcome="ack"))["failed"]
        assert failed["error"] == "leased_elsewhere"


async def test_a_reply_acks_what_it_answers(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        sent = await alice.send("bob", "ping")
        taken = await bob.wait_one()
        await bob.send("alice", "pong", reply_to=taken["id"])
        assert (await bob.call("read", id=sent["id"]))["state"] == "acked"
        answer = await alice.wait_one()
        assert (await alice.call("read", id=answer["id"]))["reply_to"] == sent["id"]


async def test_urgent_mail_comes_first_then_each_senders_order(town: Town) -> None:
    async with town.pair() as (alice, bob):
        for number, priority in enumerate(["low", "normal", "urgent", "normal", "urgent"]):
            await alice.send("bob", f"{priority} {number}", priority=priority)
        assert [each["body"] for each in await bob.wait()] == [
            "urgent 2",
            "urgent 4",
            "normal 1",
            "normal 3",
            "low 0",
        ]


async def test_a_wait_for_one_sender_or_thread_leaves_other_mail(town: Town) -> None:
    async with town.agents(("alice", LEGACY), ("bob", LEGACY), ("carol", LEGACY)) as (alice, bob, carol):
        await alice.send("bob", "from alice")
        sent = await carol.send("bob", "from carol")
        assert (await bob.wait_one(from_="carol"))["body"] == "from carol"
        await alice.send("bob", "again from alice")
        async with asking(lambda: bob.wait_one(50, thread=sent["id"])) as waiting:
            await carol.send("bob", "more", reply_to=sent["id"])
            assert (await waiting.answer())["body"] == "more"
        assert [each["body"] for each in await bob.wait()] == ["from alice", "again from alice"]
