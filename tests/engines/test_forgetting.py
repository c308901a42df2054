"""Keys are kept for thirty days and not for ever, and what has ended makes way."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.engines.sqlite.common import KEY_AGE
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.reservation import HELD_LIMIT, NAMES_LIMIT, Terms
from mcp_mailbox.store import Origin
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE

pytestmark = pytest.mark.anyio
BOB = Address("bob", "default")


async def test_old_keys_are_dropped_a_few_at_a_time_and_young_ones_kept(tmp_path: Path) -> None:
    clock = SteppedClock()
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "store.db", clock) as store:

            async def send(first: int, count: int) -> set[str]:
                for number in range(first, first + count):
                    await store.accept(BOB, [BOB], Draft(("bob",), "x", key=f"{number}"), Origin("bob", f"{number}"))
                return await store.writer.do(
                    lambda db: {row[0] for row in db.execute("SELECT key FROM idempotency WHERE sender <> 0")}
                )

            await store.open(BOB, "someone", Profile(), Origin("bob", "open"))
            old = await send(0, 250)
            clock.step(KEY_AGE + 1)
            kept = await send(250, 300)
            assert 0 < len(old - kept) <= 200
            kept = await send(550, 600)
            assert not old & kept
            assert {f"k:{number}" for number in range(250, 1150)} == kept


async def test_reservations_that_have_ended_are_dropped_as_fast_as_new_ones_come(tmp_path: Path) -> None:
    clock = SteppedClock()
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "store.db", clock) as store:
            await store.open(BOB, "someone", Profile(), Origin("bob", "open"))
            most = 0
            for round_ in range(10):
                for call in range(HELD_LIMIT // NAMES_LIMIT):
                    names = [f"{round_}/{call}/{number}" for number in range(NAMES_LIMIT)]
                    await store.reserve(BOB, names, Terms(term=1000), Origin("bob", names[0]))
                rows = await store.writer.do(lambda db: db.execute("SELECT count(*) FROM reservation").fetchone()[0])
                most = max(most, rows)
                clock.step(1000)
            assert HELD_LIMIT <= most <= 2 * HELD_LIMIT
