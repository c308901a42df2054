"""A verb costs the same at ten thousand messages and at a million: SQLite counts the steps of its virtual machine.

MCP_MAILBOX_LARGE sets how many messages the large store has had, for machines that are slow or patient.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import Attachment
from mcp_mailbox.channel import Keep
from mcp_mailbox.delivery import Outcome, Settlement
from mcp_mailbox.directory import Search
from mcp_mailbox.doorbell import NEWS_LIMIT
from mcp_mailbox.engines.sqlite import SqliteStore, open_store
from mcp_mailbox.invitation import Invitation
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.reservation import Terms
from mcp_mailbox.store import Accepted, Lease, Listing, Origin, Portion, Show, Submission, Wanted
from mcp_mailbox.view import query
from tests.clocks import START, SteppedClock
from tests.conftest import DEADLINE
from tests.view.bulk import BOXES, build

pytestmark = [pytest.mark.anyio, pytest.mark.soak]
SMALL = 10_000
LARGE = int(os.environ.get("MCP_MAILBOX_LARGE", "1000000"))
BOX, OTHER = Address("box-1", "default"), Address("box-2", "default")
SENDER = Address("box-21", "default")
LITTLE = Address("box-50", "default")
BEHIND = {"forget_settled": 15_000}
"""Verbs that nobody waits for may make more steps: this one looks at a hundred messages, and removes some."""
ASKS = Address("box-49", "default")
BUSY = Address("#busy", "default")


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

    async def claim_from_who_says_nothing(self, store: SqliteStore) -> object:
        await store.open(Address("silent", "default"), "someone", Profile(), Origin("reader", "silent"))
        wanted = Wanted(Address("silent", "default"))
        found = await store.claim(BOX, wanted, Lease(5, 100_000, 1000), self.origin(), ())
        assert not found
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

    async def mail_from_now_on(self, store: SqliteStore) -> object:
        page = await store.mail_of(BOX, Portion(20, 10_000, latest=True))
        assert page.next is None
        return page

    async def mail_in_thread(self, store: SqliteStore) -> object:
        page = await store.mail_of(BOX, Portion(20, 10_000, thread=store._codec.id(2000)))
        assert len(page.mail) == 3
        return page

    async def accept(self, store: SqliteStore) -> object:
        return await store.accept(Submission(OTHER, [BOX], Draft((str(BOX),), "hello"), self.origin()))

    async def accept_within_what_a_space_keeps(self, store: SqliteStore) -> object:
        return await store.accept(Submission(OTHER, [BOX], Draft((str(BOX),), "hello"), self.origin(), most=1 << 40))

    async def accept_reply(self, store: SqliteStore) -> object:
        found = await store.claim(BOX, Wanted(), Lease(1, 1, 1000), self.origin(), ())
        return await store.accept(Submission(BOX, [OTHER], Draft(("a",), "b", reply_to=found[0].handle), self.origin()))

    async def _asked(self, store: SqliteStore, stranger: int) -> str:
        """Let somebody ask a mailbox that asks first."""
        await store.open(ASKS, "someone", Profile(contact=Contact.ASK), self.origin())
        sender = Address(f"x{stranger}", "default")
        sent = await store.accept(Submission(sender, [ASKS], Draft((str(ASKS),), "may I?"), self.origin()))
        assert sent.recipients[0].held
        return sent.id

    async def ask_and_be_let_in(self, store: SqliteStore) -> object:
        asked = await self._asked(store, 1 + self.number)
        return await store.settle(ASKS, [asked], Settlement(Outcome.ACCEPT), self.origin())

    async def ask_and_be_declined(self, store: SqliteStore) -> object:
        asked = await self._asked(store, 11 + self.number)
        return await store.settle(ASKS, [asked], Settlement(Outcome.REJECT), self.origin())

    async def accept_of_one_that_was_let_in(self, store: SqliteStore) -> object:
        if not self.number:
            asked = await self._asked(store, 21)
            await store.settle(ASKS, [asked], Settlement(Outcome.ACCEPT), self.origin())
        stranger = Address("x21", "default")
        return await store.accept(Submission(stranger, [ASKS], Draft((str(ASKS),), "thanks"), self.origin()))

    async def list_requests(self, store: SqliteStore) -> object:
        page = await store.inbox(ASKS, Listing(20, show=Show.REQUESTS))
        assert len(page.previews) == 20
        return page

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

    async def publish(self, store: SqliteStore, to: str = "#all") -> object:
        sent = await store.accept(
            Submission(OTHER, [Address(to, "default")], Draft((to,), "hello", key=uuid4().hex), self.origin())
        )
        assert sent.recipients[0].members
        return sent

    async def publish_where_much_was_said(self, store: SqliteStore) -> object:
        return await self.publish(store, "#busy")

    async def claim_what_was_published(self, store: SqliteStore) -> object:
        """Each member has something due from two channels: it is delivered and handed out."""
        origin = self.origin()
        await self.publish(store)
        await self.publish(store, "#busy")
        found = await store.claim(BOX, Wanted(Address("#busy", "default")), Lease(1, 1, 1000), origin, ())
        assert found[0].channel == "#busy@default"
        return await store.settle(BOX, [found[0].handle], Settlement(Outcome.ACK), self.origin())

    async def list_what_was_published(self, store: SqliteStore) -> object:
        await self.publish(store)
        return await self.list_20(store)

    async def unread_of_what_was_published(self, store: SqliteStore) -> object:
        await store.inbox(BOX, Listing(1))
        await self.publish(store)
        return await self.unread(store)

    async def _look_where_a_stranger_is_not_heard(self, store: SqliteStore) -> object:
        stranger = Address("stranger", "default")
        await store.open(ASKS, "someone", Profile(contact=Contact.ASK), self.origin())
        await store.open(stranger, "passer-by", Profile(), Origin("stranger", uuid4().hex))
        draft = Draft(("#all",), "hello", key=uuid4().hex)
        sent = await store.accept(Submission(stranger, [Address("#all", "default")], draft, self.origin()))
        before = await store.mailbox(ASKS)
        assert not await store.claim(ASKS, Wanted(stranger), Lease(5, 100_000, 1000), self.origin(), ())
        assert before == await store.mailbox(ASKS), "nothing is counted either"
        return sent

    async def guess_a_code(self, store: SqliteStore) -> object:
        assert await store.redeem(os.urandom(32), os.urandom(32), "t-1") is None
        return await self.reserve(store)

    async def invite_and_redeem(self, store: SqliteStore) -> object:
        now, code = store.clock.now(), os.urandom(32)
        made = Invitation(f"i-{uuid4().hex}", "name", "anna", now, now + 1000, 1000)
        await store.invite(made, code)
        found = await store.redeem(code, os.urandom(32), f"t-{uuid4().hex}")
        assert found is not None
        return found

    async def read_in_a_channel(self, store: SqliteStore) -> object:
        return await store.read(BOX, store._codec.id(2000))

    async def channels(self, store: SqliteStore) -> object:
        page = await store.channels(BOX, "default", 20)
        assert {each.address.name for each, _ in page.channels} >= {"#all", "#busy"}
        return page

    async def join_and_leave(self, store: SqliteStore) -> object:
        await store.unsubscribe(BOX, Address("#busy", "default"), self.origin())
        return await store.subscribe(BOX, Address("#busy", "default"), None, Keep(), self.origin())

    async def join_from_a_time(self, store: SqliteStore) -> object:
        await store.unsubscribe(BOX, Address("#busy", "default"), self.origin())
        last = (await store.channels(BOX, "default", 20)).channels[-1][0].last_at
        assert last
        return await store.subscribe(BOX, Address("#busy", "default"), last + 1, Keep(), self.origin())

    async def create_mailbox(self, store: SqliteStore) -> object:
        self.number += 1
        address = Address(f"new-{self.number:04}", "default")
        return await store.open(address, "someone", Profile(), self.origin())

    async def note_seen(self, store: SqliteStore) -> object:
        await store.note_seen(BOX)
        return await self.reserve(store)  # what is noted goes with the next commit

    async def forget_settled(self, store: SqliteStore) -> object:
        begun = await self._left_of_300(store)
        assert await store.forget_settled(START)
        assert begun - await self._left_of_300(store) >= 20
        return begun

    async def compact(self, store: SqliteStore) -> object:
        return await store.compact()

    async def _left_of_300(self, store: SqliteStore) -> int:
        return await store.writer.do(
            lambda db: int(db.execute("SELECT count(*) FROM message WHERE seq <= 300").fetchone()[0])
        )

    async def accept_attached(self, store: SqliteStore) -> object:
        async with store.attaching() as tray:
            kept = await tray.keep(BytesIO(b"the plan").read, 100)
            assert kept is not None
            attachment = Attachment("plan.md", "text/markdown", kept.size, kept.sha256)
            draft = Draft((str(BOX),), "hello", attachments=(attachment,))
            return await store.accept(Submission(OTHER, [BOX], draft, Origin("reader", os.urandom(8).hex())))

    async def read_attached(self, store: SqliteStore) -> object:
        sent = await self.accept_attached(store)
        assert isinstance(sent, Accepted)
        assert (await store.attachment(BOX, sent.id, "plan.md"))[1] == b"the plan"
        return await store.read(BOX, sent.id)

    async def answered(self, store: SqliteStore) -> object:
        return await store.answered(OTHER, Origin("reader", "never"))


VERBS = [name for name in vars(Asking) if not name.startswith("_") and name != "origin"]


@pytest.mark.parametrize("verb", VERBS)
async def test_a_verb_makes_as_many_steps_in_a_large_store_as_in_a_small_one(
    stores: tuple[Counted, Counted], verb: str
) -> None:
    small, large = [await store.cost(getattr(Asking(), verb)) for store in stores]
    assert small == large
    assert 0 < small < BEHIND.get(verb, 6000)


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
        first = await store.accept(Submission(OTHER, [BOX], Draft(("a",), "question"), asking.origin()))
        for _ in range(200 * long):
            said = await store.accept(
                Submission(OTHER, [BOX], Draft(("a",), "more", reply_to=first.id), asking.origin())
            )
            await store.settle(BOX, [said.id], Settlement(Outcome.ACK), asking.origin())

        async def claim(store: SqliteStore, asking: Asking = asking, thread: str = first.id) -> object:
            return await asking.claim(store, Wanted(thread=thread))

        costs.append(await stores[0].cost(claim))
    assert costs[0] == costs[1]


async def test_whether_a_content_is_named_is_asked_in_as_many_steps_however_many_name_it(
    stores: tuple[Counted, Counted],
) -> None:
    contents = [f"{number:032}".encode() for number in (5, 99, 100)]  # of the last one there is none
    costs = []
    for counted in stores:

        async def ask(store: SqliteStore) -> object:
            def named(db: sqlite3.Connection) -> list[bool]:
                return [db.execute(query.IS_ATTACHED, (one,)).fetchone() is not None for one in contents]

            assert await store._reader.do(named) == [True, True, False]
            return None

        costs.append(await counted.cost(ask))
    assert costs[0] == costs[1] < 100


async def test_the_states_of_what_was_published_are_counted_of_a_thousand_members_and_no_more(
    stores: tuple[Counted, Counted],
) -> None:
    counted = stores[1]
    sent = await counted.store.accept(Submission(OTHER, [BUSY], Draft(("#busy",), "hello"), Origin("reader", "states")))

    async def read(store: SqliteStore) -> object:
        return (await store.read(OTHER, sent.id)).counted

    assert await counted.cost(read) < 120_000
    [found] = (await counted.store.read(OTHER, sent.id)).counted
    assert found.at_least == (LARGE // 100 > 1000)
    most = min(LARGE // 100 + BOXES, 1000)
    assert sum(found.states.values()) in {most - 1, most}  # of whom one may be the publisher


async def test_publishing_costs_as_much_for_a_thousand_members_as_for_ten_and_little_more_than_a_direct_message(
    stores: tuple[Counted, Counted],
) -> None:
    counted = stores[0]
    costs = []
    for members in (10, 1000):
        channel = Address(f"#of-{members:04}", "default")
        boxes = [Address(f"m-{members:04}-{number:04}", "default") for number in range(members)]
        for box in boxes:
            await counted.store.open(box, "someone", Profile(), Origin(box.name, "open"))
            await counted.store.subscribe(box, channel, None, Keep(), Origin(box.name, "join"))

        async def publish(store: SqliteStore, to: Address = channel) -> object:
            draft = Draft((to.name,), "hello", key=uuid4().hex)
            sent = await store.accept(Submission(OTHER, [to], draft, Origin("reader", "publish")))
            assert sent.recipients[0].members == int(to.name[-4:])
            return sent

        costs.append(await counted.cost(publish))
    assert costs[0] == costs[1]
    asking = Asking()
    asking.number = 10_000  # what another test has asked would be answered, and not done
    assert costs[1] <= 10 * await counted.cost(asking.accept)


async def test_who_is_not_heard_costs_the_same_in_a_large_store(stores: tuple[Counted, Counted]) -> None:
    small, large = [await store.cost(Asking()._look_where_a_stranger_is_not_heard) for store in stores]
    assert 0 < small == large < 6000
