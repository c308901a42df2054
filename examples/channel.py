"""An announcement to a channel: whoever is a member gets it, now or when it comes back; who joins later reads it back.

    .venv/bin/python examples/channel.py

Bob waits and is woken, carol is not running and gets it when she starts, dave joins after it was said.
"""

from __future__ import annotations

import anyio
from agent import Agent, agent, throw_away_home

NEWS = "main is frozen until 18:00: the release is being cut."


async def member(name: str, home: str) -> None:
    """Join and leave: what is said meanwhile will be there."""
    async with agent(name, home) as one:
        await one.call("subscribe", channel="#releases")
        one.say("joins #releases, and leaves")


async def hear(one: Agent) -> None:
    """Take what was announced, and say that it is done with."""
    [news] = (await one.call("wait_for_message"))["messages"]
    one.say(f"hears in {news['channel']} from {news['from']}: {news['body']}")
    await one.call("settle", ids=[news["id"]], outcome="ack")


async def main(home: str) -> None:
    """Play it."""
    await member("carol", home)
    async with agent("bob", home) as bob, agent("alice", home) as alice, anyio.create_task_group() as tasks:
        await bob.call("subscribe", channel="#releases")
        tasks.start_soon(hear, bob)
        sent = await alice.call("send", to="#releases", body=NEWS)
        alice.say(f"announces it to {sent['to'][0]['members']} members")
    async with agent("carol", home) as carol:
        await hear(carol)
    async with agent("dave", home) as dave:
        await dave.call("subscribe", channel="#releases", since="all")
        await hear(dave)


if __name__ == "__main__":
    with throw_away_home() as directory:
        anyio.run(main, directory)
