"""A task is handed to an agent that is not running; it starts later, does it, and the answer waits for who asked.

    .venv/bin/python examples/hand_over.py

Alice and bob are never there at the same time. Each message takes one or two calls: get it, and answer it, which says
that it is done.
"""

from __future__ import annotations

import anyio
from agent import agent, throw_away_home

TASK = """\
Goal: `pytest tests/parser` passes on branch `parser`.
Done: the lexer (tests/parser/test_lexer.py). Left: test_tree.py, which still imports the old module.
Do not touch src/api/: carol has it."""


async def alice_hands_over(home: str) -> str:
    """Send the task and leave; return its thread."""
    async with agent("bob", home):
        pass  # bob has a mailbox, and is gone
    async with agent("alice", home) as alice:
        sent = await alice.call("send", to="bob", subject="Port the parser's tests", body=TASK, key="parser-1")
        alice.say("hands the task over and leaves")
        thread: str = sent["thread"]
        return thread


async def bob_does_it(home: str) -> None:
    """Take what waits, and answer."""
    async with agent("bob", home) as bob:
        [task] = (await bob.call("wait_for_message"))["messages"]
        bob.say(f"starts, and takes {task['subject']!r} from {task['from']}")
        await bob.call("send", to=task["from"], reply_to=task["id"], body="Ported: 41 tests pass, commit 3f1c.")
        bob.say("answers and leaves")


async def alice_has_the_answer(home: str, thread: str) -> None:
    """Look for the answer to that task alone; say with the last call that it is done."""
    async with agent("alice", home) as alice:
        [answer] = (await alice.call("wait_for_message", thread=thread))["messages"]
        alice.say(f"starts again, and reads: {answer['body']}")
        await alice.call("settle", ids=[answer["id"]], outcome="ack")


async def main(home: str) -> None:
    """Play it."""
    thread = await alice_hands_over(home)
    await bob_does_it(home)
    await alice_has_the_answer(home, thread)


if __name__ == "__main__":
    with throw_away_home() as directory:
        anyio.run(main, directory)
