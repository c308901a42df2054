"""How SQLite means to run each query: by an index, in its order, whatever the size of the tables."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import Attachment
from mcp_mailbox.channel import Keep
from mcp_mailbox.delivery import Outcome, Settlement
from mcp_mailbox.directory import EVERY_SPACE, Search
from mcp_mailbox.engines.sqlite import SqliteStore, attaching, open_store, sending
from mcp_mailbox.engines.sqlite import directory as finding
from mcp_mailbox.engines.sqlite.schema import prepare
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.presence import Status
from mcp_mailbox.reservation import Terms
from mcp_mailbox.store import Lease, Listing, Origin, Portion, Query, Show, Submission, Wanted
from mcp_mailbox.view import query
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE

QUERIES = {
    name: sql.strip()
    for name, sql in vars(query).items()
    if isinstance(sql, str) and not name.startswith("_") and sql.strip().startswith("SELECT") and "FROM" in sql
}
SORTS = {
    "LEASED_BY_REQUEST": "what one request leased",
    "LAPSED": "one mailbox once, of the leases that ran out just now",
    "LAPSED_OF_READER": "one mailbox once, of one reader's leases",
    "ARRIVING": "each of a thousand messages once",
    "LATER_CHANNELS": "one channel once, of what was put off until just now",
    "READY_ABOUT": "of the latest thirty notices those about one sender",
    "SKIPS": "one mailbox once, of what nobody was told yet",
}
"""Queries that may sort, and over how little."""
WHOLE = {"TOKENS", "TOKENS_WHOLE", "INVITATIONS", "INVITATIONS_WHOLE", "RESERVATIONS_WHOLE", "SKIPS", "ALL_ATTACHED"}
"""Queries whose answer is the whole table."""

# A scan of these is no scan of a table: a list that was handed in, the one row of the sequence, what has a LIMIT.
_HARMLESS = re.compile(
    r"SCAN (json_each|r VIRTUAL|sqlite_sequence|CONSTANT ROW|\(?subquery|some\b|p$|newest)", re.IGNORECASE
)


def plan(db: sqlite3.Connection, sql: str) -> list[str]:
    named: defaultdict[str, None] = defaultdict(lambda: None)
    candidates: Iterator[object] = iter([named, *([None] * count for count in range(12))])
    for parameters in candidates:
        try:
            return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]  # type: ignore[arg-type]
        except sqlite3.ProgrammingError:
            continue  # another number of parameters
    raise AssertionError(sql)


def scans(steps: list[str]) -> list[str]:
    return [step for step in steps if step.startswith("SCAN") and not _HARMLESS.match(step)]


def sorts(steps: list[str]) -> list[str]:
    return [step for step in steps if "TEMP B-TREE" in step]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    with closing(prepare(tmp_path_factory.mktemp("plans") / "store.db")) as db:
        yield db


@pytest.mark.parametrize("name", QUERIES)
def test_no_query_scans_a_table(db: sqlite3.Connection, name: str) -> None:
    assert bool(scans(plan(db, QUERIES[name]))) == (name in WHOLE)


@pytest.mark.parametrize("name", QUERIES)
def test_no_query_sorts_what_an_index_has_in_order(db: sqlite3.Connection, name: str) -> None:
    found = sorts(plan(db, QUERIES[name]))
    assert bool(found) == (name in SORTS), found


def test_the_queries_are_found() -> None:
    assert {"WAITING_PAGE", "READY", "READY_FROM", "READY_IN_THREAD", "UNREAD", "LAPSED", "KNOWN"} <= set(QUERIES)
    assert len(QUERIES) > 20


@pytest.fixture
async def statements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What the verbs really ran, values filled in."""
    monkeypatch.setattr(sending, "_FORGET_EVERY", 1)
    found: set[str] = set()
    clock = SteppedClock()
    async with open_store(tmp_path / "store.db", clock) as store:
        for connection in (store.writer._db, store._reader._db, store._searcher._db):
            connection.set_trace_callback(found.add)
        with anyio.fail_after(DEADLINE):
            await _every_verb(store, clock, monkeypatch)
        for connection in (store.writer._db, store._reader._db, store._searcher._db):
            connection.set_trace_callback(None)
    return found


async def _every_verb(store: SqliteStore, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bob = Address("ann", "default"), Address("bob", "default")
    origins = (Origin("reader", f"{number}") for number in range(200))
    lease = Lease(5, 10_000, 1000)
    for address in (ann, bob, bob, Address("", "default")):
        await store.open(address, "someone", Profile("about", ("skill",)), next(origins))
    await store.bound("reader")
    await store.mailbox(bob)
    await store.mailboxes("someone", "default", "b", 10)
    await store.similar(Address("bobb", "default"), "someone")
    options: dict[str, Any] = {"ttl": 900, "topic": "t", "receipt": True}
    sent = [
        await store.accept(Submission(ann, [bob], Draft(("bob",), "hello"), next(origins), [ann])) for _ in range(5)
    ]
    for _ in range(2):
        await store.accept(Submission(ann, [bob], Draft(("bob",), "hello", **options), next(origins)))
    for wanted in (Wanted(ann), Wanted(ann, sent[1].id), Wanted(thread=sent[2].id), Wanted()):
        origin = next(origins)
        held = await store.claim(bob, wanted, Lease(1, 1, 1000), origin, ["someone else"])
        await store.surface(origin)
        await store.due(0)
    await store.accept(Submission(bob, [ann], Draft(("ann",), "answer", reply_to=held[0].handle), next(origins)))
    for outcome in (Outcome.EXTEND, Outcome.RELEASE, Outcome.REJECT, Outcome.RETRY, Outcome.REJECT, Outcome.PURGE):
        await store.settle(bob, [sent[0].id], Settlement(outcome), next(origins))
    await store.show(bob, [sent[1].id])
    await store.note_ring(bob)
    await store.give_back("reader", None, surfaced=True)
    for _ in range(6):
        origin = next(origins)
        await store.claim(bob, Wanted(), lease, origin, ())
        await store.surface(origin)
        clock.step(1000)
    await store.leave("reader")
    await store.sweep(0, ())
    await store.due(0)
    await store.claim(bob, Wanted(), lease, next(origins), None)
    page = await store.inbox(bob, Listing(2))
    await store.inbox(bob, Listing(2, page.previews[-1].cursor, since=1))
    await store.inbox(bob, Listing(2, show=Show.DEAD))
    await store.inbox(ann, Listing(2, show=Show.OVERDUE))
    await store.read(ann, sent[0].id)
    mail = await store.mail_of(bob, Portion(1, 1000))
    await store.mail_of(bob, Portion(10, 1000, mail.next, sent[0].id))
    assert (await store.search(bob, Query(2, "hello", ann, 1, sent[0].id))).hits
    await _attach(store, clock, ann, bob)
    for mailbox, names in ((ann, ["src/"]), (bob, ["src/a.py"]), (bob, ["docs/"])):
        await store.reserve(mailbox, names, Terms(), next(origins))
    await store.reservations("default")
    await store.release_reservations(ann, ["src/"], next(origins))
    await store.release_reservations(bob, None, next(origins))
    await _requests(store, clock, origins)
    said = Profile("something else", ("other skill",), Contact.CLOSED, status=Status("busy"))
    await store.open(bob, "someone", said, next(origins))
    await store.note_seen(bob)
    await _every_verb_about_channels(store, ann, bob, origins)
    for principal in ("someone", "somebody else"):
        for search in (Search("default"), Search(EVERY_SPACE, "some e", "other skill")):
            found = await store.find_mailboxes(principal, search, 1)
            await store.find_mailboxes(principal, search, 1, found.next)
    monkeypatch.setattr(finding, "_RARE", 0)
    await store.find_mailboxes("someone", Search("default", "some e"), 10)


async def _requests(store: SqliteStore, clock: SteppedClock, origins: Iterator[Origin]) -> None:
    """Let somebody ask, let it in and turn it away in all ways."""
    eve, asks = Address("eve", "default"), Address("asks", "default")
    await store.open(eve, "eve", Profile(), next(origins))
    await store.open(asks, "someone", Profile(contact=Contact.ASK), next(origins))
    asked = await store.accept(Submission(eve, [asks], Draft(("asks",), "may I?"), next(origins)))
    await store.inbox(asks, Listing(2, show=Show.REQUESTS))
    await store.read(eve, asked.id)
    await store.settle(asks, [asked.id], Settlement(Outcome.ACK), next(origins))
    await store.open(asks, "someone", Profile(contact=Contact.OPEN), next(origins))
    await store.open(asks, "someone", Profile(contact=Contact.ASK), next(origins))
    asked = await store.accept(Submission(eve, [asks], Draft(("asks",), "may I?", ttl=500), next(origins)))
    clock.step(500)
    await store.sweep(0, ())
    for outcome in (Outcome.ACCEPT, Outcome.REJECT):
        await store.settle(asks, [asked.id], Settlement(outcome), next(origins))


async def _attach(store: SqliteStore, clock: SteppedClock, ann: Address, bob: Address) -> None:
    async with store.attaching() as tray:
        kept = await tray.keep(BytesIO(b"x").read, 1)
        assert kept is not None
        attached = Draft(("bob",), "hello", attachments=(Attachment("x", "text/plain", kept.size, kept.sha256),))
        with_x = await store.accept(Submission(ann, [bob], attached, Origin("reader", "attached")))
    await store.attachment(bob, with_x.id, "x")
    clock.step(attaching.GRACE)
    await store.collect()
    await store.answered(ann, Origin("reader", "never"))


async def _every_verb_about_channels(store: SqliteStore, ann: Address, bob: Address, origins: Iterator[Origin]) -> None:
    await store.news(bob)
    build = Address("#build", "default")
    for box in (ann, bob):
        await store.subscribe(box, build, None, Keep(count=3), next(origins))
    posts = [
        await store.accept(
            Submission(ann, [build, Address("#all", "default")], Draft(("#build",), "said", **options), next(origins))
        )
        for options in ({}, {"topic": "t"}, {"topic": "t"}, {"delay": 5000}, {}, {})
    ]
    await store.mailbox(bob)
    await store.read(ann, posts[-1].id)
    await store.settle(bob, [posts[-1].id], Settlement(Outcome.ACK), next(origins))
    await store.accept(Submission(bob, [ann], Draft(("ann",), "answer", reply_to=posts[-2].id), next(origins)))
    await store.claim(bob, Wanted(build), Lease(1, 1, 1000), next(origins), ())
    await store.claim(bob, Wanted(build, posts[0].id), Lease(1, 1, 1000), next(origins), ())
    assert await store.skipped(bob)
    await store.note_told(bob, await store.skipped(bob))
    await store.due(0)
    await store.search(bob, Query(2, sender=build))
    await store.similar_channel(bob, Address("#biuld", "default"))
    page = await store.channels(bob, "default", 1)
    await store.channels(bob, "default", 1, page.next)
    await store.unsubscribe(bob, build, next(origins))
    await store.subscribe(bob, build, posts[-1].id, Keep(age=1), next(origins))
    await store.subscribe(bob, build, 1, Keep(), next(origins))
    await store.subscriptions(bob)


@pytest.mark.anyio
async def test_nothing_that_a_verb_runs_scans_a_table(statements: set[str], db: sqlite3.Connection) -> None:
    assert len(statements) > 40
    explained = [sql for sql in statements if sql.split()[0] in {"SELECT", "INSERT", "UPDATE", "DELETE"}]
    assert {sql: scans(plan(db, sql)) for sql in explained if scans(plan(db, sql))} == {}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_that_is_asked_again_is_not_prepared_again(name: str, tmp_path: Path) -> None:
    """SQLite does where it has held a parameter's value against a partial index, and asks its authorizer meanwhile."""
    sql = QUERIES[name]
    asked: list[object] = []

    def note(*about: object) -> int:
        asked.append(about)
        return sqlite3.SQLITE_OK

    with closing(prepare(tmp_path / "mail.db")) as db:
        db.set_authorizer(note)
        for value in (1, 50):
            asked.clear()
            db.execute(sql, values(sql, value)).fetchall()
    assert asked == []


def values(sql: str, value: int) -> dict[str, object] | tuple[int, ...]:
    """Return a number for each parameter, whichever way they are written; for a list that is handed in, none."""
    named = set(re.findall(r":([a-z_]+)", sql))
    if named:
        return {each: "[]" if each == "gone" else value for each in named}
    numbered = [int(each) for each in re.findall(r"\?(\d+)", sql)]
    return (value,) * (max(numbered) if numbered else sql.count("?"))
