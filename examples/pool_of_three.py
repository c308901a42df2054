"""Three workers share a mailbox; one is killed over its task, and another one does it: each task is answered once.

    .venv/bin/python examples/pool_of_three.py

Each worker is a process of its own with its own connection. What a worker has taken is leased to it; one that dies
answers nothing, and its task comes back when the lease is over: here after 3 s, by default after 10 minutes.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import anyio
from agent import Agent, agent, throw_away_home

TASKS = 9
SETTINGS = {"MCP_MAILBOX_LEASE": "3"}
WORKERS = ("ann", "ben", "carl")
STOP = "no more tasks"


async def work(name: str, home: str) -> None:
    """Take a task, answer it, take the next."""
    async with agent(name, home, mailbox="tasks", **SETTINGS) as worker:
        await worker.call("send", to="boss", subject="ready", body=name)
        while True:
            for task in (await worker.call("wait_for_message"))["messages"]:
                if task["body"] == STOP:
                    await worker.call("settle", ids=[task["id"]], outcome="ack")
                    return
                worker.say(f"takes {task['body']}")
                if name == "carl":  # it is killed over its first task
                    await worker.call("send", to="boss", subject="slow", body=task["body"])
                    await anyio.sleep_forever()
                await worker.call("send", to=task["from"], reply_to=task["id"], body=task["body"])


async def mail(boss: Agent, patience: float) -> list[dict[str, Any]]:
    """Return what comes, and say at once that it is done: here nothing can go wrong with it."""
    got: list[dict[str, Any]] = (await boss.call("wait_for_message", timeout=patience))["messages"]
    if got:
        await boss.call("settle", ids=[each["id"] for each in got], outcome="ack")
    return got


async def lead(boss: Agent, workers: dict[str, subprocess.Popen[bytes]]) -> Counter[str]:
    """Give out the tasks; return how often each was answered."""
    ready: set[str] = set()
    while len(ready) < len(workers):  # so that each of them gets something
        ready |= {each["body"] for each in await mail(boss, 30)}
    for number in range(1, TASKS + 1):
        await boss.call("send", to="tasks", body=f"task {number}")
    answered: Counter[str] = Counter()
    # Once all are answered, none may come again.
    while got := await mail(boss, 30 if len(answered) < TASKS else 0.5):
        for each in got:
            if each["subject"] == "slow":
                workers["carl"].kill()
                boss.say(f"kills carl over {each['body']}")
            else:
                answered[each["body"]] += 1
    return answered


async def main(home: str) -> None:
    """Play it."""
    async with agent("boss", home, **SETTINGS) as boss:
        await boss.call("create_mailbox", name="tasks", kind="pool")
        await boss.call("create_mailbox", name="boss")
        workers = {name: subprocess.Popen([sys.executable, __file__, name, home]) for name in WORKERS}  # noqa: ASYNC220, S603 - this file, at once
        try:
            answered = await lead(boss, workers)
            boss.say(f"has {len(answered)} tasks answered, each once: {set(answered.values()) == {1}}")
            for _ in range(len(workers) - 1):
                await boss.call("send", to="tasks", body=STOP)
            for worker in workers.values():
                await anyio.to_thread.run_sync(worker.wait)
        finally:
            for worker in workers.values():
                worker.kill()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        anyio.run(work, sys.argv[1], sys.argv[2])
    else:
        with throw_away_home() as directory:
            anyio.run(main, directory)
