"""Sends a second through the store, against the bare inserts of the same rows with as many senders to a commit."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from benchmarks import ratios
from mcp_mailbox.addresses import Address
from mcp_mailbox.budgets import Limits
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.engines.sqlite.schema import prepare
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Origin, Store, Submission

SENDERS = (1, 8, 64)
ROUNDS = 12
WIDE = Limits(thread=1_000_000, pair=1_000_000)
"""Budgets that are counted and never spent."""
_EACH = {1: 100, 8: 40, 64: 16}
"""Sends of each sender in a round."""
BODY = "Could you look at the failing test in tests/relay? " * 4


async def rows() -> AsyncIterator[ratios.Row]:
    """Measure."""
    with TemporaryDirectory(prefix="mcp-mailbox-limits-") as folder:
        async with open_store(Path(folder, "mail.db"), SystemClock(), WIDE) as store:
            senders = [await _open(store, number) for number in range(max(SENDERS))]
            with contextlib.closing(prepare(Path(folder, "bare.db"))) as bare:
                for many in SENDERS:
                    pair = ratios.Pair()
                    for turn in range(ROUNDS):
                        pair.ours.append(await _send(store, senders[:many], f"{many}.{turn}"))
                        pair.theirs.append(insert(bare, many, _EACH[many]))
                    yield _row(many, pair)


def _row(many: int, pair: ratios.Pair) -> ratios.Row:
    # In sends a second the ratio is the other way round.
    inverse = ratios.Pair(pair.theirs, pair.ours).row(f"sends/s of the store / bare inserts, {many} senders")
    sends = 1000 * many * _EACH[many]
    raw = {f"{side}_per_second": sends / inverse.raw[f"{was}_ms"] for side, was in _SIDES.items()}
    return ratios.Row(inverse.name, inverse.value, inverse.low, inverse.high, smaller_is_better=False, raw=raw)


_SIDES = {"store": "theirs", "bare": "ours"}


async def _open(store: Store, number: int) -> Address:
    opened = await store.open(Address(f"m{number}", "default"), "local", Profile(), Origin(f"reader{number}", "open"))
    return opened.mailbox.address


async def _send(store: Store, senders: list[Address], turn: str) -> float:
    async def one(sender: Address) -> None:
        for number in range(_EACH[len(senders)]):
            draft = Draft((sender.name,), BODY)
            await store.accept(Submission(sender, [sender], draft, Origin(sender.name, f"{turn}.{number}")))

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for sender in senders:
            tasks.start_soon(one, sender)
    return time.perf_counter() - began


def insert(db: sqlite3.Connection, many: int, commits: int) -> float:
    """Return the seconds that so many commits of so many messages take: what all engines are measured by."""
    (last,) = db.execute("SELECT ifnull(max(seq), 0) FROM message").fetchone()
    began = time.perf_counter()
    for commit in range(commits):
        seqs = range(last + 1 + commit * many, last + 1 + (commit + 1) * many)
        db.execute("BEGIN IMMEDIATE")
        db.executemany(
            "INSERT INTO message (seq, thread, sender, recipients, priority, accepted, size, checksum, subject,"
            " preview, body) VALUES (?, ?, 1, '[1]', 1, ?, 204, 0, '', ?, ?)",
            [(seq, seq, seq, BODY[:119], BODY) for seq in seqs],
        )
        db.executemany(
            "INSERT INTO inbox (mailbox, priority, seq, sender, thread) VALUES (?, 1, ?, 1, ?)",
            [(seq % many, seq, seq) for seq in seqs],
        )
        db.executemany(
            "INSERT INTO idempotency (sender, key, hash, answer, at) VALUES (?, ?, ?, '{}', ?)",
            [(seq % many, f"r:{seq}", b"0123456789abcdef", seq) for seq in seqs],
        )
        db.execute("COMMIT")
    return time.perf_counter() - began


def measure() -> Iterator[ratios.Row]:
    """Measure, for callers without an event loop."""

    async def all_rows() -> list[ratios.Row]:
        return [row async for row in rows()]

    yield from anyio.run(all_rows)
