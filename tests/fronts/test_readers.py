"""Two agents at one mailbox: one reads, the other is told who and may take over; a pool shares its work."""

from __future__ import annotations

import anyio
import pytest

from tests.fronts.world import LEGACY, Agent, Town

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")]


@pytest.mark.stdio("who reads over HTTP is known by its token and the streams that it holds open")
async def test_a_second_agent_is_told_who_reads_and_may_take_over(town: Town) -> None:
    async with town.agents(("bob", LEGACY), ("bob", LEGACY), ("alice", LEGACY)) as (one, two, alice):
        await one.call("create_mailbox", name="bob", kind="personal")
        await alice.send("bob", "for whoever reads")
        held = await one.wait_one()
        opened = await two.call("create_mailbox", name="bob")
        assert "(stdio), since " in opened["read_by"]
        problem = await two.refused("wait_for_message", timeout=20)  # soon after a start it is not known yet
        assert problem["error"] == "read_elsewhere"
        assert opened["read_by"].split(", since")[0] in problem["message"]
        [taken] = await two.wait(5, take_over=True)
        assert taken["body"] == "for whoever reads"
        [failed] = (await one.call("settle", ids=[held["id"]], outcome="ack"))["failed"]
        assert failed["error"] == "stale_lease"
        assert (await one.refused("wait_for_message", timeout=20))["error"] == "read_elsewhere"


@pytest.mark.stdio("as above")
async def test_who_waits_when_another_takes_over_learns_of_it_at_once(town: Town) -> None:
    async with town.agents(("bob", LEGACY), ("bob", LEGACY)) as (one, two), anyio.create_task_group() as tasks:
        await one.call("create_mailbox", name="bob", kind="personal")

        async def wait() -> None:
            assert (await one.refused("wait_for_message", timeout=50))["error"] == "read_elsewhere"

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()  # it has been written
        await one.is_waiting()
        assert await two.wait(0, take_over=True) == []


@pytest.mark.stdio("a relay that has gone is one that is known to have gone")
async def test_an_agent_that_starts_anew_reads_on_without_asking(town: Town) -> None:
    async with town.agent("alice") as alice:
        async with town.agent("bob") as bob:
            await bob.wait(0)
        await alice.send("bob")
        async with town.agent("bob") as again:
            assert len(await again.wait()) == 1


@pytest.mark.stdio("as above")
async def test_an_agent_whose_relay_was_killed_is_followed_by_the_next(town: Town) -> None:
    async with town.agents(("alice", LEGACY), ("bob", LEGACY)) as (alice, bob):
        await bob.wait(0)
        before = town.home.status()["readers"]
        bob.kill()
        await town.home.readers(before - 1)
        await alice.send("bob")
        async with town.agent("bob") as again:
            assert len(await again.wait()) == 1


async def test_a_pool_of_three_shares_its_work(town: Town) -> None:
    pool = [("pool", LEGACY)] * 3
    async with town.agent("boss", LEGACY) as boss, town.agents(*pool) as workers:
        await workers[0].call("create_mailbox", name="pool", share=1)
        for number in range(9):
            await boss.send("pool", f"task {number}")
        done: list[str] = []

        async def work(worker: Agent) -> int:
            handles: list[str] = []
            count = 0
            while tasks := await worker.wait(0, ack=handles):
                assert len(tasks) == 1, "one at a time"
                handles = [tasks[0]["id"]]
                done.append(tasks[0]["body"])
                count += 1
            return count

        async with anyio.create_task_group() as group:
            for worker in workers:
                group.start_soon(work, worker)
        assert sorted(done) == [f"task {number}" for number in range(9)]


async def test_a_worker_that_holds_its_share_is_told_to_be_done_first(town: Town) -> None:
    async with town.agents(("boss", LEGACY), ("pool", LEGACY)) as (boss, worker):
        await worker.call("create_mailbox", name="pool", kind="pool")
        await boss.send("pool")
        await boss.send("pool")
        held = await worker.wait_one()
        problem = await worker.refused("wait_for_message", timeout=0)
        assert problem["error"] == "lease_limit"
        assert len(await worker.wait(0, ack=[held["id"]])) == 1


@pytest.mark.parametrize("given", [{"kind": "team"}, {"share": 0}, {"share": 101}, {"kind": "pool", "share": "many"}])
async def test_a_pool_that_cannot_be_is_refused(town: Town, given: dict[str, object]) -> None:
    async with town.agent("alice") as alice:
        assert (await alice.refused("create_mailbox", name="pool", **given))["error"] == "bad_argument"
