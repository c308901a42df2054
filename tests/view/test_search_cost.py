"""A search costs what it shows: whatever the history, whether its words are rare or in every message."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.engines.sqlite import SqliteStore, open_store
from mcp_mailbox.store import Query
from tests.clocks import START, SteppedClock
from tests.view.bulk import add_words, build
from tests.view.test_cost import BOX, SENDER, SMALL

pytestmark = [pytest.mark.anyio, pytest.mark.soak]
LARGE = min(int(os.environ.get("MCP_MAILBOX_LARGE", "1000000")), 200_000)
PATIENCE = 300
"""Seconds in which the large store is indexed."""

SEARCHES = {
    "common": Query(20, "hello"),
    "two common": Query(20, "even hello"),
    "rare": Query(20, "rare"),
    "sender": Query(20, sender=SENDER),
    "common of sender": Query(20, "hello", sender=SENDER),
    "since": Query(20, "hello", since=START - 2 * LARGE + SMALL // 2),
}


class Counted:
    """A store that is indexed, and the steps of a search in it."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.steps = 0
        for db in (store._searcher._db, store._searching._index._db):
            assert db is not None
            db.set_progress_handler(self._count, 1)

    def _count(self) -> int:
        self.steps += 1
        return 0

    async def cost(self, query: Query, hits: int) -> int:
        await self.store.search(BOX, query)  # statements that are run for the first time are prepared
        before = self.steps
        found = await self.store.search(BOX, query)
        assert found.complete_until is None
        assert len(found.hits) == hits
        return self.steps - before


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    found = []
    for messages in (SMALL, LARGE):
        path = tmp_path_factory.mktemp("search") / "mail.db"
        build(path, messages, START - 2 * LARGE)
        add_words(path)
        found.append(path)
    return found


@pytest.fixture
async def stores(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Counted]]:
    monkeypatch.setattr("mcp_mailbox.engines.sqlite.engine.AT_START", 0)
    monkeypatch.setattr("mcp_mailbox.engines.sqlite.searching._PATIENCE", 1000)
    async with AsyncExitStack() as stack:
        with anyio.fail_after(PATIENCE):
            found = []
            for path in paths:
                store = await stack.enter_async_context(open_store(path, SteppedClock()))
                await store.follower.rest()
                found.append(Counted(store))
            yield found


async def test_a_search_costs_the_same_in_a_large_store_and_a_common_word_no_more_than_a_rare_one(
    stores: list[Counted],
) -> None:
    costs = {
        name: [await store.cost(query, 5 if name == "rare" and store is stores[0] else 20) for store in stores]
        for name, query in SEARCHES.items()
    }
    for name, (small, large) in costs.items():
        assert name == "rare" or large <= 2 * small, costs
        assert large <= 5 * costs["rare"][1], costs


@pytest.mark.parametrize("oldest_first", [True, False])
async def test_a_thread_costs_what_is_in_it_whatever_else_there_is(stores: list[Counted], oldest_first: bool) -> None:
    small, large = [
        await store.cost(Query(20, thread=store.store._codec.id(2000), oldest_first=oldest_first), 3)
        for store in stores
    ]
    assert small == large < 1000


@pytest.mark.soak
async def test_words_that_many_messages_have_and_none_both_are_compared_in_a_part_of_the_history_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FTS5 compares lists without a step of SQLite's machine, so this is time, the least of many."""
    for module in ("index", "searching"):
        monkeypatch.setattr(f"mcp_mailbox.engines.sqlite.{module}.WINDOW", 1 << 12)
    monkeypatch.setattr("mcp_mailbox.engines.sqlite.searching._PATIENCE", -1)
    monkeypatch.setattr("mcp_mailbox.engines.sqlite.engine.AT_START", 0)
    least = []
    for messages in (SMALL, 20 * SMALL):
        path = tmp_path / f"{messages}" / "mail.db"
        path.parent.mkdir()
        build(path, messages, START - 2 * LARGE)
        add_words(path)
        with anyio.fail_after(PATIENCE):
            async with open_store(path, SteppedClock()) as store:
                await store.follower.rest()
                took = []
                for _ in range(50):
                    began = time.perf_counter()
                    found = await store.search(BOX, Query(20, "odd"))
                    took.append(time.perf_counter() - began)
                    assert (found.hits, found.next is not None) == ((), True)
                least.append(min(took))
    assert least[1] < 4 * least[0]
