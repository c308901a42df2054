"""A list of 20 at 10 thousand and at a million messages: the same number of steps of SQLite's virtual machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from benchmarks import ratios
from mcp_mailbox.addresses import Address
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.store import Listing
from tests.view.bulk import build

SMALL, LARGE = 10_000, 1_000_000
_BUSIEST = Address("box-1", "default")
"""It has half of the messages."""


def rows() -> Iterator[ratios.Row]:
    """Measure."""
    small, large = anyio.run(steps, SMALL), anyio.run(steps, LARGE)
    raw = {"steps_small": float(small), "steps_large": float(large)}
    value = large / small
    yield ratios.Row("VM steps of a list of 20: at 1M / at 10k messages", value, value, value, bar=1, aim=1, raw=raw)


async def steps(messages: int) -> int:
    """Return the steps that a page takes in a store that has had so many messages."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    with TemporaryDirectory(prefix="mcp-mailbox-view-") as folder:
        path = Path(folder, "mail.db")
        build(path, messages, start=0)
        async with open_store(path, SystemClock()) as store:
            await store.inbox(_BUSIEST, Listing(20))  # preparing the statement has steps of its own
            store._reader._db.set_progress_handler(step, 1)  # noqa: SLF001 - no verb tells its steps
            page = await store.inbox(_BUSIEST, Listing(20))
    if len(page.previews) != 20:
        raise RuntimeError(f"{len(page.previews)} messages listed")
    return count
