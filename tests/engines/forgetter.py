"""A process of its own that removes old mail of a store until it is killed, and prints a line for each slice.

python -m tests.engines.forgetter STORE
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import open_store


async def main(path: Path) -> None:
    """Remove what is settled, then give its room back, for ever."""
    async with open_store(path, SystemClock()) as store:
        while True:
            while await store.forget_settled(store.clock.now()):
                print("removed", flush=True)  # noqa: T201
            while await store.compact():
                print("gave back", flush=True)  # noqa: T201


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
