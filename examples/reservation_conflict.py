"""Two agents want the same files: one reserves them, the other is told who has them, asks, and gets them next.

    .venv/bin/python examples/reservation_conflict.py

Both are real MCP clients on stdio, in a throw-away home that is gone afterwards. Alice lets go as soon as she is asked;
had she never answered, her reservation would have ended by itself.
"""

from __future__ import annotations

import anyio
from agent import Agent, agent, throw_away_home


async def let_go_when_asked(alice: Agent) -> None:
    """Finish, release, and say so."""
    [asked] = (await alice.call("wait_for_message"))["messages"]
    alice.say(f"reads: {asked['body']}")
    released = await alice.call("reserve", names="src/api/", release=True)
    alice.say(f"releases {', '.join(released['released'])}")
    await alice.call("send", to=asked["from"], body="Done, it is yours.", reply_to=asked["id"])


async def get_what_another_holds(bob: Agent) -> None:
    """Ask for it, and wait for the answer instead of trying again and again."""
    wanted = ["src/api/routes.py", "README.md"]
    refused = await bob.call("reserve", names=wanted)
    bob.say(f"is refused: {refused['message']}")
    holder = refused["conflicts"][0]["by"]
    sent = await bob.call("send", to=holder, body="May I have src/api/routes.py?")
    await bob.call("wait_for_message", thread=sent["thread"])
    [held] = (await bob.call("reserve", names=wanted))["reserved"]
    bob.say(f"holds {', '.join(held['names'])} until {held['until']}")


async def main(home: str) -> None:
    """Play it."""
    async with agent("alice", home) as alice, agent("bob", home) as bob, anyio.create_task_group() as tasks:
        [held] = (await alice.call("reserve", names="src/api/", ttl=1800, note="splitting routes.py"))["reserved"]
        alice.say(f"holds {', '.join(held['names'])} until {held['until']}")
        tasks.start_soon(let_go_when_asked, alice)
        await get_what_another_holds(bob)


if __name__ == "__main__":
    with throw_away_home() as directory:
        anyio.run(main, directory)
