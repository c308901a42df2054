"""A process of its own that sends to a store until it is killed, and prints each id once it is acknowledged.

    python -m tests.engines.sender STORE

Eight senders at once, each with a mailbox of its own and numbered bodies to one reader.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from mcp_mailbox.addresses import Address
from mcp_mailbox.budgets import Limits
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Origin, Store, Submission

SENDERS = "abcdefgh"
WIDE = Limits(thread=0, pair=0)
"""They never stop."""
READER = Address("reader", "default")


async def _send(store: Store, name: str, first: int) -> None:
    sender = Address(f"sender-{name}", "default")
    number = first
    while True:
        draft = Draft((str(READER),), f"{name} {number}", key=f"{number}")
        accepted = await store.accept(Submission(sender, [READER], draft, Origin(name, f"send {number}")))
        sys.stdout.write(f"{name} {number} {accepted.id}\n")
        sys.stdout.flush()
        number += 1


async def main(path: Path, first: int) -> None:
    """Send for ever, from number `first` on."""
    async with open_store(path, SystemClock(), WIDE) as store, anyio.create_task_group() as tasks:
        for name in ("reader", *(f"sender-{name}" for name in SENDERS)):
            await store.open(Address(name, "default"), "test", Profile(), Origin(name, f"open {first}"))
        for name in SENDERS:
            tasks.start_soon(_send, store, name, first)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
