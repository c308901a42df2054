"""Rows of what a channel keeps no more go by and by, those of messages stay; nobody waits for it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.channel import Keep
from mcp_mailbox.engines.sqlite import SqliteStore, fanout, open_store
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Origin, Portion, Submission
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE

pytestmark = pytest.mark.anyio
ANN, BUILD = Address("ann", "default"), Address("#build", "default")
DAY = 24 * 3600 * 1000


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def store(tmp_path: Path, clock: SteppedClock) -> AsyncIterator[SqliteStore]:
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "store.db", clock) as store:
            await store.open(ANN, "someone", Profile(), Origin("ann", "open"))
            yield store


async def send(store: SqliteStore, to: Address, first: int, count: int) -> list[str]:
    return [
        (await store.accept(Submission(ANN, [to], Draft((str(to),), "x"), Origin("ann", f"{to} {number}")))).id
        for number in range(first, first + count)
    ]


async def rows(store: SqliteStore, table: str) -> int:
    return await store.writer.do(lambda db: int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]))


async def test_a_channel_that_is_spoken_in_is_trimmed_as_fast_as_it_grows(store: SqliteStore) -> None:
    await store.subscribe(ANN, BUILD, None, Keep(count=10), Origin("ann", "join"))
    ids = await send(store, BUILD, 0, 5 * fanout.TRIM_EVERY + 1)
    assert await rows(store, "channel_message") <= 10 + fanout.TRIM_EVERY
    assert await rows(store, "message") == len(ids)

    def kept(db: sqlite3.Connection) -> list[bool]:
        seqs = [store._codec.read(id_).seq for id_ in (ids[0], ids[-1])]
        return [
            db.execute("SELECT 1 FROM channel_message WHERE seq = ?", (seq,)).fetchone() is not None for seq in seqs
        ]

    assert await store.writer.do(kept) == [False, True]


async def test_a_channel_in_which_nobody_speaks_any_more_is_emptied_while_others_send(
    store: SqliteStore, clock: SteppedClock
) -> None:
    await store.subscribe(ANN, BUILD, None, Keep(age=DAY), Origin("ann", "join"))
    await send(store, BUILD, 0, 2 * fanout.TRIM)
    clock.step(2 * DAY)
    await send(store, ANN, 0, 64 * 8)
    assert await rows(store, "channel_message") == 0


async def test_memberships_that_are_over_go_with_what_was_published_meanwhile(store: SqliteStore) -> None:
    await store.subscribe(ANN, BUILD, None, Keep(count=1), Origin("ann", "join"))
    await store.open(Address("bob", "default"), "someone", Profile(), Origin("bob", "open"))
    before = await rows(store, "subscription")
    for number in range(3):
        bob = Address("bob", "default")
        await store.subscribe(bob, BUILD, None, Keep(), Origin("bob", f"join {number}"))
        await send(store, BUILD, number, 1)
        await store.unsubscribe(bob, BUILD, Origin("bob", f"leave {number}"))
    assert await rows(store, "subscription") == before + 3
    assert await store.skipped(bob) == ()
    await store.mail_of(bob, Portion(1, 1))
    await send(store, BUILD, 100, 2 * fanout.TRIM_EVERY)
    assert await rows(store, "subscription") == before
