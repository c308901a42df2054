"""Keys are kept for thirty days and not for ever, and what has ended makes way."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.delivery import Outcome, Settlement
from mcp_mailbox.engines.sqlite import SqliteStore, open_store
from mcp_mailbox.engines.sqlite.common import KEY_AGE
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.reservation import HELD_LIMIT, NAMES_LIMIT, Terms
from mcp_mailbox.store import Listing, Origin, Portion, Query, Submission
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE, ROOT

pytestmark = pytest.mark.anyio
Send = Callable[[int, int], Awaitable[None]]
BOB = Address("bob", "default")


def size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


async def keys(store: SqliteStore) -> list[str]:
    return await store.writer.do(
        lambda db: [row[0] for row in db.execute("SELECT key FROM idempotency WHERE sender <> 0 ORDER BY rowid")]
    )


@pytest.fixture
async def sends(tmp_path: Path) -> AsyncIterator[tuple[SteppedClock, SqliteStore, Send]]:
    clock = SteppedClock()
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "store.db", clock) as store:
            await store.open(BOB, "someone", Profile(), Origin("bob", "open"))

            async def send(first: int, count: int) -> None:
                for number in range(first, first + count):
                    await store.accept(
                        Submission(BOB, [BOB], Draft(("bob",), "x", key=f"{number}"), Origin("bob", f"{number}"))
                    )

            yield clock, store, send


async def test_who_sends_nothing_more_is_rid_of_old_keys_too(sends: tuple[SteppedClock, SqliteStore, Send]) -> None:
    clock, store, send = sends
    await send(0, 150)
    clock.step(KEY_AGE + 1)
    left = [150]
    while left[-1]:
        assert not await store.forget_settled(0)
        left.append(len(await keys(store)))
    assert left == [150, 52, 0]  # a hundred at a time, of which two were those of opening the mailbox


async def test_old_keys_are_dropped_a_few_at_a_time_and_young_ones_kept(
    sends: tuple[SteppedClock, SqliteStore, Send],
) -> None:
    clock, store, send = sends
    await send(0, 550)
    clock.step(KEY_AGE + 1)
    most, before = 0, len(await keys(store))
    for number in range(550, 1150):
        await send(number, 1)
        left = len(await keys(store))
        most, before = max(most, before + 1 - left), left
    assert most == 100
    assert await keys(store) == [f"k:{number}" for number in range(550, 1150)]


@pytest.mark.soak
async def test_what_is_kept_does_not_grow_from_month_to_month(sends: tuple[SteppedClock, SqliteStore, Send]) -> None:
    clock, store, send = sends
    for month in range(4):
        await send(month * 1000, 1000)
        clock.step(KEY_AGE + 1)
    assert len(await keys(store)) <= 1000


async def test_a_signature_and_when_it_was_written_go_with_a_message(
    sends: tuple[SteppedClock, SqliteStore, Send],
) -> None:
    clock, store, _ = sends
    draft = Draft(("bob",), "x", signature="a.b.c", written=clock.now())
    sent = await store.accept(Submission(BOB, [BOB], draft, Origin("bob", "signed")))
    await store.settle(BOB, [sent.id], Settlement(Outcome.ACK), Origin("bob", "ack"))
    clock.step(1000)
    while await store.forget_settled(clock.now()):
        pass
    kept = "SELECT (SELECT count(*) FROM signature) + (SELECT count(*) FROM written)"
    assert await store.writer.do(lambda db: db.execute(kept).fetchone()[0]) == 0


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


@pytest.mark.soak
async def test_a_kill_while_old_mail_is_removed_leaves_a_sound_store_with_all_that_is_to_stay(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with anyio.fail_after(DEADLINE):
        async with open_store(path, SystemClock()) as store:
            await store.open(BOB, "someone", Profile(), Origin("bob", "open"))

            async def send(number: int) -> None:
                draft = Draft(("bob",), f"plan {number} " + "word " * 400)
                sent = await store.accept(Submission(BOB, [BOB], draft, Origin("bob", f"{number}")))
                if number % 10:
                    await store.settle(BOB, [sent.id], Settlement(Outcome.ACK), Origin("bob", f"ack {number}"))

            async with anyio.create_task_group() as tasks:
                for number in range(600):
                    tasks.start_soon(send, number)
            await store.follower.rest()
        full = size(tmp_path)
        for lines in (1, 2, 3, 9):
            process = await anyio.open_process([sys.executable, "-m", "tests.engines.forgetter", str(path)], cwd=ROOT)
            assert process.stdout is not None
            text = b""
            async with process:
                async for chunk in process.stdout:
                    text += chunk
                    if text.count(b"\n") >= lines:
                        process.kill()
                        break
            async with open_store(path, SystemClock()) as store:
                assert await store.check() == "ok"
                assert len((await store.inbox(BOB, Listing(500))).previews) == 60
        async with open_store(path, SystemClock()) as store:
            while await store.forget_settled(store.clock.now()):
                pass
            while await store.compact():
                pass
            for asked in (Query(500, "plan"), Query(500)):
                assert len((await store.search(BOB, asked)).hits) == 60
            page = await store.mail_of(BOB, Portion(500, 1 << 30))
            assert len(page.mail) == 60
            assert page.next is None
        assert size(tmp_path) < full / 3
