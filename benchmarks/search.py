"""Search at a million messages: a word that all have against a rare one, and what sends notice of the index."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from benchmarks import ratios
from mcp_mailbox.addresses import Address
from mcp_mailbox.budgets import Limits
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import SqliteStore, open_store
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Origin, Query, Submission
from tests.view.bulk import add_words, build

MESSAGES = 1_000_000
_BUSIEST, _OTHER = Address("box-1", "default"), Address("box-2", "default")
_TIMES = 200
_SENDS = 1000
WIDE = Limits(thread=1_000_000, pair=1_000_000)
"""Budgets that are counted and never spent."""


def rows() -> Iterator[ratios.Row]:
    """Measure."""
    with TemporaryDirectory(prefix="mcp-mailbox-search-") as folder:
        path = Path(folder, "mail.db")
        build(path, MESSAGES, start=0)
        add_words(path)
        yield from anyio.run(_measure, path)


async def _measure(path: Path) -> list[ratios.Row]:
    async with open_store(path, SystemClock(), WIDE) as store:
        await _sends(store, 100, "warm")
        store.follower.wake(0)
        began = time.monotonic()
        while store._searching._index.through == 0:  # noqa: SLF001 - no verb tells that it has begun
            await _sends(store, 10, f"begin {time.monotonic()}")
        behind = await _sends(store, _SENDS, "behind")
        if store._searching._index.through >= MESSAGES:  # noqa: SLF001
            raise RuntimeError("the index was made before the sends were sent")
        await store.follower.rest()
        took = time.monotonic() - began
        alone = await _sends(store, _SENDS, "alone")
        size = path.with_name("search.db").stat().st_size
        common, rare, apart = [await _search(store, words) for words in ("hello", "rare", "odd")]
    sends, searches, none = ratios.Pair(behind, alone), ratios.Pair(common, rare), ratios.Pair(apart, rare)
    return [
        searches.row("search of a common / a rare word, hot mailbox, 1M messages", bar=5, aim=1),
        searches.row("the same, p99 / p50", 0.99),
        none.row("search of a word that only others' mail has / a rare word"),
        sends.row("send while 1M messages are indexed / alone, p50"),
        sends.row("the same, p99 / p50", 0.99),
        ratios.Pair(alone, alone).row("send alone, p99 / p50", 0.99),
        ratios.Row("seconds to index 1M messages behind everything else", took, took, took, unit="s"),
        ratios.Row("index, bytes a message", size / MESSAGES, size / MESSAGES, size / MESSAGES, unit="B"),
    ]


async def _sends(store: SqliteStore, count: int, key: str) -> list[float]:
    took = []
    for number in range(count):
        draft = Draft((str(_BUSIEST),), f"hello again {number}")
        began = time.perf_counter()
        await store.accept(Submission(_OTHER, [_BUSIEST], draft, Origin("benchmark", f"{key} {number}")))
        took.append(time.perf_counter() - began)
    return took


async def _search(store: SqliteStore, words: str) -> list[float]:
    took = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        await store.search(_BUSIEST, Query(20, words))
        took.append(time.perf_counter() - began)
    return took
