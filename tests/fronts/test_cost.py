"""How many calls mail costs a worker: one or two a message, never three."""

from __future__ import annotations

from collections import Counter

from tests.fronts.world import Agent, Json, Town, both_eras

pytestmark = both_eras

_MESSAGES = 10


class Worker:
    """An agent whose calls are counted."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.calls: Counter[str] = Counter()

    async def call(self, tool: str, **arguments: object) -> Json:
        self.calls[tool] += 1
        return await self._agent.call(tool, **arguments)


async def sent(boss: Agent, *, pool: bool) -> None:
    """Have ten messages waiting, that one reader gets one at a time or all at once."""
    await boss.call("create_mailbox", name="work", kind="pool" if pool else "personal")
    await boss.call("create_mailbox", name="boss")
    for number in range(_MESSAGES):
        await boss.send("work", f"task {number}")


async def nothing_waits(agent: Agent) -> None:
    assert await agent.call("list_inbox", mailbox="work") == {"messages": [], "unread": 0}


async def test_a_worker_who_answers_makes_two_calls_a_message(town: Town) -> None:
    async with town.pair(first="boss", second="helper") as (boss, helper):
        await sent(boss, pool=True)
        worker = Worker(helper)
        for number in range(_MESSAGES):
            [task] = (await worker.call("wait_for_message", mailbox="work"))["messages"]
            assert task["body"] == f"task {number}"
            await worker.call("send", to="boss", body=f"done {number}", reply_to=task["id"], mailbox="work")
        assert worker.calls == {"wait_for_message": _MESSAGES, "send": _MESSAGES}
        await nothing_waits(boss)
        assert [each["body"] for each in await boss.wait()] == [f"done {number}" for number in range(_MESSAGES)]


async def test_a_worker_who_does_not_answer_makes_one_call_a_message(town: Town) -> None:
    async with town.pair(first="boss", second="helper") as (boss, helper):
        await sent(boss, pool=True)
        worker = Worker(helper)
        done: list[str] = []
        for number in range(_MESSAGES):
            [task] = (await worker.call("wait_for_message", mailbox="work", ack=done))["messages"]
            assert task["body"] == f"task {number}"
            done = [task["id"]]
        last = await worker.call("wait_for_message", mailbox="work", ack=done, timeout=0)
        assert (last["messages"], "ack_failed" in last) == ([], False)
        assert worker.calls == {"wait_for_message": _MESSAGES + 1}
        await nothing_waits(boss)


async def test_a_reader_who_finds_several_messages_gets_them_in_one_call_and_acks_them_in_the_next(town: Town) -> None:
    async with town.pair(first="boss", second="helper") as (boss, helper):
        await sent(boss, pool=False)
        worker = Worker(helper)
        tasks = (await worker.call("wait_for_message", mailbox="work"))["messages"]
        done = [task["id"] for task in tasks]
        assert len(done) == _MESSAGES
        await worker.call("wait_for_message", mailbox="work", ack=done, timeout=0)
        assert worker.calls == {"wait_for_message": 2}
        await nothing_waits(boss)
