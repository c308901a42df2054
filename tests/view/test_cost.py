"""A verb costs the same at ten thousand messages and at a million: SQLite counts the steps of its virtual machine.

MCP_MAILBOX_LARGE sets how many messages the large store has had, for machines that are slow or patient.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Outcome, Settlement
from mcp_mailbox.directory import Search
from mcp_mailbox.engines.sqlite import SqliteStore, open_store
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.reservation import Terms
from mcp_mailbox.store import NEWS_LIMIT, Lease, Listing, Origin, Portion, Wanted
from tests.clocks import START, SteppedClock
from tests.conftest import DEADLINE
from tests.view.bulk import build

pytestmark = pytest.mark.anyio
SMALL = 10_000
LARGE = int(os.environ.get("MCP_MAILBOX_LARGE", "1000000"))
BOX, OTHER = Address("box-1", "default"), Address("box-2", "default")
SENDER = Address("box-21", "default")
LITTLE = Address("box-50", "default")


class Counted:
    """A store and the steps that its connections make."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.steps = 0
        for db in (store.writer._db, store._reader._db):
            db.set_progress_handler(self._count, 1)

    def _count(self) -> int:
        self.steps += 1
        return 0

    async def cost(self, verb: Callable[[SqliteStore], Awaitable[object]]) -> int:
        await verb(self.store)  # statements that are run for the first time are prepared: steps of their own
        before = self.steps
        await verb(self.store)
        return self.steps - before


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Where a small and a large store stand."""
    directory = tmp_path_factory.mktemp("stores")
    found = [directory / "small" / "mail.db", directory / "large" / "mail.db"]
    for path, messages in zip(found, (SMALL, LARGE), strict=True):
        path.parent.mkdir()
        build(path, messages, START - 2 * LARGE)
    return found


@pytest.fixture
async def stores(paths: list[Path]) -> AsyncIterator[tuple[Counted, Counted]]:
    async with AsyncExitStack() as stack:
        small, large = [Counted(await stack.enter_async_context(open_store(path, SteppedClock()))) for path in paths]
        with anyio.fail_after(DEADLINE):
            yield small, large


class Asking:
    """Requests that are never the same."""

    def __init__(self) -> None:
        self.number = 0

    def origin(self) -> Origin:
        self.number += 1
        return Origin("reader", f"request {self.number}")

    async def list_20(self, store: SqliteStore) -> object:
        page = await store.inbox(BOX, Listing(20))
        assert len(page.previews) == 20
        return page

    async def list_next_20(self, store: SqliteStore) -> object:
        page = await store.inbox(BOX, Listing(100))
        page = await store.inbox(BOX, Listing(20, page.previews[-1].cursor))
        assert len(page.previews) == 20
        return page

    async def list_rejected(self, store: SqliteStore) -> object:
        page = await store.inbox(BOX, Listing(20, store._codec.cursor("inbox 1", 3, 0)))
        assert len(page.previews) == 20
        return page

    async def list_urgent(self, store: SqliteStore) -> object:
        return await store.inbox(BOX, Listing(20, urgent_only=True))

    async def list_since(self, store: SqliteStore) -> object:
        return await store.inbox(BOX, Listing(20, since=START - 2 * LARGE + SMALL // 2))

    async def unread(self, store: SqliteStore) -> object:
        found = await store.mailbox(BOX)
        assert found is not None
        assert found.unread > SMALL / 100
        return found

    async def claim(self, store: SqliteStore, wanted: Wanted | None = None) -> object:
        origin = self.origin()
        found = await store.claim(BOX, wanted or Wanted(), Lease(5, 100_000, 1000), origin, ())
        assert found
        await store.give_back("reader", origin.request, surfaced=True)
        return found

    async def claim_of_sender(self, store: SqliteStore) -> object:
        return await self.claim(store, Wanted(sender=SENDER))

    async def claim_in_thread(self, store: SqliteStore) -> object:
        return await self.claim(store, Wanted(thread=store._codec.id(20)))

    async def settle(self, store: SqliteStore) -> object:
        [found] = await store.claim(BOX, Wanted(), Lease(1, 1, 1000), self.origin(), ())
        return await store.settle(BOX, [found.handle], Settlement(Outcome.ACK), self.origin())

    async def news(self, store: SqliteStore) -> object:
        found = await store.news(BOX)
        assert len(found) > NEWS_LIMIT, "a whole look"
        return found

    async def due(self, store: SqliteStore) -> object:
        return await store.due(0)

    async def read(self, store: SqliteStore) -> object:
        return await store.read(BOX, store._codec.id(2000))

    async def mail_of(self, store: SqliteStore) -> object:
        page = await store.mail_of(BOX, Portion(20, 10_000, store._codec.cursor("mail 1", 2000)))
        assert len(page.mail) == 20
        return page

    async def mail_of_somebody_who_has_little(self, store: SqliteStore) -> object:
        page = await store.mail_of(LITTLE, Portion(20, 10_000))
        assert page.next is not None
        return page

    async def mail_in_thread(self, store: SqliteStore) -> object:
        page = await store.mail_of(BOX, Portion(20, 10_000, thread=store._codec.id(2000)))
        assert len(page.mail) == 3
        return page

    async def accept(self, store: SqliteStore) -> object:
        return await store.accept(OTHER, [BOX], Draft((str(BOX),), "hello"), self.origin())

    async def accept_reply(self, store: SqliteStore) -> object:
        found = await store.claim(BOX, Wanted(), Lease(1, 1, 1000), self.origin(), ())
        return await store.accept(BOX, [OTHER], Draft(("a",), "b", reply_to=found[0].handle), self.origin())

    async def open(self, store: SqliteStore) -> object:
        return await store.open(BOX, "someone", Profile(), self.origin())

    async def reserve(self, store: SqliteStore) -> object:
        reserved = await store.reserve(BOX, ["src/", "docs/*.md"], Terms(), self.origin())
        assert reserved.held
        return reserved

    async def release(self, store: SqliteStore) -> object:
        await self.reserve(store)
        return await store.release_reservations(BOX, ["src/"], self.origin())

    async def reservations(self, store: SqliteStore) -> object:
        return await store.reservations("default")

    async def find(self, store: SqliteStore, query: str = "", skill: str = "", count: int = 20) -> object:
        found = await store.find_mailboxes("someone", Search("default", query, skill), 20)
        assert len(found.entries) == count
        return found

    async def find_next(self, store: SqliteStore) -> object:
        page = await store.find_mailboxes("someone", Search("default"), 20)
        page = await store.find_mailboxes("someone", Search("default"), 20, page.next)
        assert len(page.entries) == 20
        return page

    async def find_few(self, store: SqliteStore) -> object:
        return await self.find(store, "few", count=5)

    async def find_few_of_many(self, store: SqliteStore) -> object:
        return await self.find(store, "few nobody", count=0)

    async def describe(self, store: SqliteStore) -> object:
        self.number += 1
        return await store.open(BOX, "someone", Profile(f"about {self.number}"), self.origin())

    async def note_seen(self, store: SqliteStore) -> object:
        await store.note_seen(BOX)
        return await self.reserve(store)  # what is noted goes with the next commit


VERBS = [name for name in vars(Asking) if not name.startswith("_") and name != "origin"]


@pytest.mark.parametrize("verb", VERBS)
async def test_a_verb_makes_as_many_steps_in_a_large_store_as_in_a_small_one(
    stores: tuple[Counted, Counted], verb: str
) -> None:
    small, large = [await store.cost(getattr(Asking(), verb)) for store in stores]
    assert small == large
    assert 0 < small < 5000


@pytest.mark.parametrize(
    ("principal", "query", "skill"),
    [
        ("someone", "all", ""),
        ("someone", "x", ""),
        ("someone", "own", "skill1"),
        ("someone", "word1 all own x", "skill0"),
        ("someone", "word1 word2", ""),
        ("stranger", "", ""),
        ("stranger", "word1 word2", ""),
        ("somebody else", "x word1 word2", ""),
    ],
)
async def test_a_page_of_the_directory_looks_at_so_many_mailboxes_and_no_more(
    stores: tuple[Counted, Counted], principal: str, query: str, skill: str
) -> None:
    """Ten thousand mailboxes have the words, or none has them all: neither makes SQLite look at ten thousand."""

    async def find(store: SqliteStore) -> object:
        return await store.find_mailboxes(principal, Search("default", query, skill), 20)

    assert await stores[1].cost(find) < 25_000


async def test_a_long_thread_costs_what_waits_in_it_and_not_what_was_said(stores: tuple[Counted, Counted]) -> None:
    costs = []
    for long in (False, True):
        store = stores[0].store
        asking = Asking()
        asking.number = 1000 + 1000 * long
        first = await store.accept(OTHER, [BOX], Draft(("a",), "question"), asking.origin())
        for _ in range(200 * long):
            said = await store.accept(OTHER, [BOX], Draft(("a",), "more", reply_to=first.id), asking.origin())
            await store.settle(BOX, [said.id], Settlement(Outcome.ACK), asking.origin())

        async def claim(store: SqliteStore, asking: Asking = asking, thread: str = first.id) -> object:
            return await asking.claim(store, Wanted(thread=thread))

        costs.append(await stores[0].cost(claim))
    assert costs[0] == costs[1]
