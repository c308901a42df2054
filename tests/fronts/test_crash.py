"""The post office is killed, or replaced, and no host notices."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import anyio
import mcp_types as types
import pytest
from mcp.client.subscriptions import ResourceUpdated, ToolsListChanged

from tests.fronts.pretender import Pretender
from tests.fronts.world import LEGACY, MODERN, Agent, Era, Town, asking, both_eras, installation
from tests.relay.world import World

pytestmark = [*both_eras, pytest.mark.stdio("about relays")]


async def test_a_host_does_not_notice_that_the_office_was_killed(new_town: Callable[..., Town], era: Era) -> None:
    town = new_town()
    notices: list[types.LoggingMessageNotificationParams] = []

    async def note(params: types.LoggingMessageNotificationParams) -> None:
        notices.append(params)

    async with town.agent("bob", era, logging_callback=note) as bob, town.agent("alice", era) as alice:
        if era == LEGACY:
            await bob.client.set_logging_level("info")
        async with bob.watching(bob.uri) as update:
            await alice.send("bob", "before")
            await update()
            before = await bob.wait_one()
            async with asking(lambda: bob.wait_one(50)) as waiting:
                await bob.is_waiting()
                town.home.kill_office()
                await update()  # what rang meanwhile was not heard, so it rings once
                sent = await alice.send("bob", "after")  # from the mailbox that it had
                assert (await waiting.answer())["body"] == "after"
                await update()
            assert (await bob.call("read", id=sent["id"]))["from"] == alice.address
            answer = await bob.call("settle", ids=[before["id"]], outcome="release")
            assert answer == {"settled": [before["id"]]}
            await update()
            # The first answer had reached the host, which the office before may not have put on disk.
            assert (await bob.wait_one())["attempts"] == 1
    assert [notice.level for notice in notices] == (["notice"] if era == LEGACY else [])


async def test_several_kills_under_load_lose_nothing_double_nothing_and_keep_order(
    new_town: Callable[..., Town],
) -> None:
    town = new_town()
    async with town.agents(("alice", LEGACY), ("carol", MODERN), ("bob", LEGACY)) as (alice, carol, bob):
        accepted: dict[str, list[str]] = {alice.address: [], carol.address: []}
        got: dict[str, list[str]] = {alice.address: [], carol.address: []}
        over = anyio.Event()
        sending = {alice.address, carol.address}

        async def send(agent: Agent) -> None:
            for number in count():
                if over.is_set():
                    sending.discard(agent.address)
                    return
                await agent.send("bob", str(number))
                accepted[agent.address].append(str(number))

        async def read() -> None:
            done: list[str] = []
            while sending or got != accepted:
                messages = await bob.wait(1, ack=done)
                done = [each["id"] for each in messages]
                for each in messages:
                    got[each["from"]].append(each["body"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, alice)
            tasks.start_soon(send, carol)
            tasks.start_soon(read)
            for _ in range(2):
                so_far = sum(map(len, accepted.values()))
                while sum(map(len, accepted.values())) < so_far + 30:
                    await anyio.lowlevel.checkpoint()
                town.home.kill_office()
            over.set()
        assert got == accepted
        assert min(map(len, got.values())) > 10


async def test_what_was_done_and_not_answered_is_not_done_twice(new_town: Callable[..., Town]) -> None:
    """The answers of the first epoch are read by nobody: the relay asks again, under the same serials."""
    town = new_town()
    async with town.agent("bob") as bob:
        with Pretender(town.home, "a" * 32, 1) as relay:
            made = relay.tool(3, "create_mailbox")
            sent = relay.tool(4, "send", to="bob", body="once")
            own = relay.tool(5, "send", to=made["address"], body="to myself")
            taken = relay.tool(6, "wait_for_message")
            town.home.kill_office()
        await bob.call("list_inbox")  # starts the next one
        with Pretender(town.home, "a" * 32, 2) as relay:
            assert relay.tool(3, "create_mailbox") == made
            assert relay.tool(4, "send", to="bob", body="once") == {**sent, "repeated": True}
            assert relay.tool(5, "send", to=made["address"], body="to myself") == {**own, "repeated": True}
            again = relay.tool(6, "wait_for_message")
            # The same lease: an ack of the first answer would still count.
            assert [each["id"] for each in again["messages"]] == [each["id"] for each in taken["messages"]]
            assert relay.tool(7, "create_mailbox") == {**made, "created": False}
        assert await bob.bodies() == ["once"]
        resources = (await bob.client.list_resources()).resources
        assert {each.name for each in resources} == {bob.address, made["address"]}
        # It has left without a word of the answer's reaching its host: the message is there for the next.
        await town.home.readers(1)
        assert (await bob.wait_one(mailbox=made["address"]))["body"] == "to myself"


async def test_an_answer_that_reached_the_host_while_the_office_died_stays_taken(
    new_town: Callable[..., Town],
) -> None:
    town = new_town()
    async with town.agent("bob") as bob:
        with Pretender(town.home, "b" * 32, 1) as relay:
            await bob.send("bob", "y")
            relay.tool(3, "wait_for_message", mailbox="bob")
            town.home.kill_office()
        await bob.call("list_inbox")
        with Pretender(town.home, "b" * 32, 2, written=[3]) as relay:
            relay.again = False
            relay.tool(4, "list_inbox", mailbox="bob")
        await town.home.readers(1)
        assert await bob.wait(0) == []


async def test_a_newer_version_takes_over_and_hosts_hear_that_tools_may_have_changed(
    new_town: Callable[..., Town], tmp_path: Path
) -> None:
    town = new_town(PYTHONPATH="")
    world = World(tmp_path)
    old, new = (installation(tmp_path / f"python{version}", world.newer(version)) for version in ("98.0", "99.0"))
    async with town.agent("bob", LEGACY, python=old) as bob, town.agent("carol", MODERN, python=old) as carol:
        async with (
            asking(lambda: bob.wait_one(50)) as waiting,
            carol.client.listen(tools_list_changed=True, resource_subscriptions=[carol.uri]) as stream,
        ):
            await bob.is_waiting()
            async with town.agent("alice", python=new) as alice:
                assert town.home.status()["version"] == "99.0"
                heard = {await anext(stream), await anext(stream)}
                assert heard == {ToolsListChanged(), ResourceUpdated(carol.uri)}
                await alice.send(["bob", "carol"], "x")
                assert (await waiting.answer())["body"] == "x"
                assert await anext(stream) == ResourceUpdated(carol.uri)
        await bob.heard.take(lambda message: isinstance(message, types.ToolListChangedNotification))
