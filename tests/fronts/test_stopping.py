"""The post office is told to stop while hosts on stdio are connected: at once, and without a word that is not true."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import anyio.to_thread
import pytest

from mcp_mailbox import frames
from tests.fronts.pretender import Pretender
from tests.fronts.world import SOON, Era, Home, Town, asking, both_eras
from tests.relay.world import ended

pytestmark = [*both_eras, pytest.mark.stdio("about relays"), pytest.mark.soak]


class Stop:
    """A stop that is under way."""

    def __init__(self, home: Home) -> None:
        pid = home.status()["pid"]
        self._descriptor = os.pidfd_open(pid)
        self._began = time.monotonic()
        os.kill(pid, signal.SIGTERM)

    def seconds(self) -> float:
        """Return how long it took, once the process has ended."""
        ended(self._descriptor)
        return time.monotonic() - self._began


async def test_hosts_that_are_connected_do_not_delay_it(new_town: Callable[..., Town], era: Era) -> None:
    town = new_town()
    async with town.agent("alice", era) as alice, town.agent("bob", era) as bob:
        assert await anyio.to_thread.run_sync(Stop(town.home).seconds) < SOON
        await alice.send("bob", "after")
        assert (await bob.wait_one())["body"] == "after"


async def test_a_wait_is_answered_once_and_the_next_one_is_the_next_offices(
    new_town: Callable[..., Town], era: Era
) -> None:
    town = new_town()
    async with town.agent("bob", era) as bob:
        answers: list[int] = []

        async def work() -> str:
            while True:
                messages = await bob.wait(50)
                answers.append(len(messages))
                if messages:
                    return str(messages[0]["body"])

        async with asking(work) as working:
            await bob.is_waiting()
            assert await anyio.to_thread.run_sync(Stop(town.home).seconds) < SOON
            async with town.agent("alice", era) as alice:
                await alice.send("bob", "after")
                assert await working.answer() == "after"
        assert answers == [0, 1]


async def test_a_call_that_comes_while_it_leaves_is_left_to_the_next_one(new_town: Callable[..., Town]) -> None:
    town = new_town()
    async with town.agent("bob") as bob:
        with Pretender(town.home, "a" * 32, 1) as relay:
            relay.tool(3, "create_mailbox", name="late")
            relay.write(4, "tools/call", {"name": "wait_for_message", "arguments": {"timeout": 50}})
            relay.tool(5, "create_mailbox")  # so it is waiting: both go through the store's one writer
            stop = Stop(town.home)
            assert relay.answer(4)["structuredContent"]["timed_out"]
            relay.write(6, "tools/call", {"name": "wait_for_message", "arguments": {"timeout": 50}})
            assert relay.frame() == (frames.BYE, b"stop"), "the relay keeps the line, and asks the next one"
        assert await anyio.to_thread.run_sync(stop.seconds) < SOON
        await bob.send("late", "for the next one")
        with Pretender(town.home, "a" * 32, 2) as relay:
            [message] = relay.tool(6, "wait_for_message", timeout=50)["messages"]
            assert message["body"] == "for the next one"


async def test_what_reaches_a_host_while_it_leaves_stays_taken(new_town: Callable[..., Town]) -> None:
    town = new_town()
    async with town.agent("bob") as bob:
        with Pretender(town.home, "b" * 32, 1) as relay:
            relay.tool(3, "create_mailbox", name="late")
            await bob.send("late", "x")
            relay.tool(4, "wait_for_message")
            relay.write(5, "tools/call", {"name": "wait_for_message", "arguments": {"timeout": 50}})
            relay.tool(6, "create_mailbox")
            Stop(town.home)
            relay.answer(5)
            for serial in (4, 5):
                relay.reached(serial)
            assert relay.frame() == (frames.BYE, b"stop")
        await bob.call("list_inbox")
        with Pretender(town.home, "b" * 32, 2) as relay:
            relay.again = False
            relay.tool(7, "list_inbox", mailbox="late")
        await town.home.readers(1)
        assert await bob.wait(0, mailbox="late") == []


async def test_it_waits_no_longer_than_it_says_for_a_host_that_does_not_read(new_town: Callable[..., Town]) -> None:
    town = new_town()
    async with town.agent("bob") as bob:
        with Pretender(town.home, "c" * 32, 1) as relay:
            relay.tool(3, "create_mailbox", name="late")
            await bob.send("late", "x")
            relay.tool(4, "wait_for_message")  # and nobody says that it has reached the host
            stop = Stop(town.home)
            assert relay.frame() == (frames.BYE, b"stop")
        assert await anyio.to_thread.run_sync(stop.seconds) < SOON
        assert (await bob.wait_one(mailbox="late"))["body"] == "x"
