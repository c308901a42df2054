"""What becomes of a store whose file or disk is not what it should be: a clear refusal, and everything else goes on."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Outcome, Settlement
from mcp_mailbox.engines.sqlite import SqliteStore, open_store
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Accepted, Lease, Listing, Origin, Submission, Wanted
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE

pytestmark = pytest.mark.anyio
ANN, BOB = Address("ann", "default"), Address("bob", "default")
PAGE = 4096


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    with anyio.fail_after(DEADLINE):
        async with open_store(path, SteppedClock()) as store:
            for address in (ANN, BOB):
                await store.open(address, "someone", Profile(), Origin(address.name, "open"))
            yield store


async def send(store: SqliteStore, body: str, key: str) -> Accepted:
    return await store.accept(Submission(ANN, [BOB], Draft((str(BOB),), body, key=key), Origin("ann", key)))


def modes(directory: Path) -> dict[str, int]:
    """The files there and their permissions."""
    return {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in directory.iterdir()}


async def refused(path: Path) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        async with opened(path):
            pass
    assert refusal.value.hint
    return refusal.value


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"garbage" * 5000, b"SQLite format 3\x00", b"SQLite format 3\x00" * 999]
)
async def test_a_file_that_is_no_store_is_refused_and_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)
    assert (await refused(path)).code is Code.STORE_DAMAGED
    assert path.read_bytes() == content
    assert list(modes(tmp_path)) == ["store.db"]


@pytest.mark.parametrize("journal", ["delete", "wal"])
async def test_another_programs_database_is_refused_and_not_touched(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute("CREATE TABLE theirs (a)")
        db.commit()
    content = path.read_bytes()
    refusal = await refused(path)
    assert refusal.code is Code.STORE_DAMAGED
    assert "another program" in refusal.problem
    assert path.read_bytes() == content


async def test_a_newer_store_is_refused_and_says_what_to_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 999")
    refusal = await refused(path)
    assert refusal.code is Code.STORE_NEWER
    assert "pgrade" in refusal.hint


@pytest.mark.parametrize("keep", [0, 50, PAGE, 5 * PAGE, 5 * PAGE + 100])
async def test_a_truncated_store_is_detected_and_never_taken_for_a_new_one(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        for number in range(200):
            await send(store, "x" * 500, f"{number}")
    os.truncate(path, keep)
    with pytest.raises(Refusal) as refusal:
        async with opened(path) as store:
            await store.inbox(BOB, Listing(300))
    assert refusal.value.code is Code.STORE_DAMAGED


async def test_a_journal_without_its_store_is_not_played_into_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await send(store, "hello", "1")
        journal = (tmp_path / "store.db-wal").read_bytes()
    path.unlink()
    (tmp_path / "store.db-wal").write_bytes(journal)
    refusal = await refused(path)
    assert refusal.code is Code.STORE_DAMAGED
    assert "store.db-wal" in refusal.problem
    assert not path.exists()


async def test_a_store_where_none_can_be_is_refused(tmp_path: Path) -> None:
    assert (await refused(tmp_path / "nowhere" / "store.db")).code is Code.STORE_FAILED
    (tmp_path / "directory").mkdir()
    assert (await refused(tmp_path / "directory")).code is Code.STORE_FAILED


async def test_a_damaged_page_fails_what_needs_it_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        ids = [(await send(store, f"body {number:04} " + "x" * 300, f"{number}")).id for number in range(200)]
    content = bytearray(path.read_bytes())
    page = content.index(b"body 0100 ") // PAGE
    content[page * PAGE : page * PAGE + 8] = b"\xff" * 8
    path.write_bytes(content)

    async with opened(path) as store:
        with pytest.raises(Refusal) as refusal:
            await store.read(BOB, ids[100])
        assert refusal.value.code is Code.STORE_DAMAGED
        with pytest.raises(Refusal) as refusal:
            await store.inbox(BOB, Listing(200))
        assert refusal.value.code is Code.STORE_DAMAGED
        assert await store.check() != "ok"

        assert (await store.read(BOB, ids[0])).message.body.startswith("body 0000")
        assert len((await store.inbox(BOB, Listing(20))).previews) == 20
        outcomes: dict[str, object] = {}

        async def attempt(name: str, reply_to: str | None) -> None:
            draft = Draft((str(BOB),), "new", key=name, reply_to=reply_to)
            try:
                outcomes[name] = (await store.accept(Submission(ANN, [BOB], draft, Origin("ann", name)))).repeated
            except Refusal as error:
                outcomes[name] = error.code

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt, "before", None)
            tasks.start_soon(attempt, "needs it", ids[100])
            tasks.start_soon(attempt, "after", ids[0])
        assert outcomes == {"before": False, "needs it": Code.STORE_DAMAGED, "after": False}
        claimed = await store.claim(BOB, Wanted(), Lease(5, 10_000, 1000), Origin("bob", "claim"), ())
        done = await store.settle(BOB, [claimed[0].handle], Settlement(Outcome.ACK), Origin("bob", "s"))
        assert [result.refusal for result in done] == [None]
    assert caplog.records


async def test_a_full_disk_is_a_clean_refusal_and_the_store_recovers_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        kept = await send(store, "before", "before")
        writing: sqlite3.Connection = store.writer._db
        pages = writing.execute("PRAGMA page_count").fetchone()[0]
        writing.execute(f"PRAGMA max_page_count = {pages + 5}")

        for _ in range(3):
            with pytest.raises(Refusal) as refusal:
                await send(store, "x" * 200_000, "big")
            assert refusal.value.code is Code.STORE_FULL
            assert refusal.value.hint
        assert (await store.read(BOB, kept.id)).message.body == "before"
        small = await send(store, "small", "small")
        assert [p.delivery.message.id for p in (await store.inbox(BOB, Listing(9))).previews] == [kept.id, small.id]

        writing.execute("PRAGMA max_page_count = 1000000")
        assert not (await send(store, "x" * 200_000, "big")).repeated
        found = await store.mailbox(BOB)
        assert found is not None
        assert found.unread == 3
        assert await store.check() == "ok"
    assert caplog.records


async def test_of_several_that_are_handed_in_none_overtakes_one_that_finds_the_disk_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = ("before", "x" * 200_000, "behind")
    asked = [Submission(ANN, [BOB], Draft((str(BOB),), body), Origin("ann", body[:9])) for body in bodies]
    async with opened(tmp_path / "store.db") as store:
        writing: sqlite3.Connection = store.writer._db
        pages = writing.execute("PRAGMA page_count").fetchone()[0]
        writing.execute(f"PRAGMA max_page_count = {pages + 5}")
        with pytest.raises(Refusal) as refusal:
            await store.accept_all(asked)
        assert refusal.value.code is Code.STORE_FULL
        shown = [each.delivery.message.body for each in (await store.inbox(BOB, Listing(9))).previews]
        assert "behind" not in shown

        writing.execute("PRAGMA max_page_count = 1000000")
        assert all(isinstance(each, Accepted) for each in await store.accept_all(asked))
        shown = [each.delivery.message.body[:6] for each in (await store.inbox(BOB, Listing(9))).previews]
        assert shown == ["before", "xxxxxx", "behind"]
    assert caplog.records


async def test_a_store_that_is_closed_says_that_it_is_stopping(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        pass
    for verb in (lambda: store.inbox(BOB, Listing(1)), lambda: send(store, "late", "late"), store.check):
        with pytest.raises(Refusal) as refusal:
            await verb()
        assert refusal.value.code is Code.STOPPING


async def test_the_files_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with opened(tmp_path / "store.db"):
            found = modes(tmp_path)
    finally:
        os.umask(before)
    assert found == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm"), 0o600)


async def test_a_store_is_found_by_a_relative_path_and_odd_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b#c?d%20é").mkdir()
    async with opened(Path("a b#c?d%20é") / "store.db") as store:
        await send(store, "hello", "1")
        assert len((await store.inbox(BOB, Listing(9))).previews) == 1


async def claim(store: SqliteStore, request: str) -> list[str]:
    lease = Lease(count=1, size=1 << 20, term=1000)
    return [each.message.body for each in await store.claim(BOB, Wanted(), lease, Origin("bob", request), set())]


@pytest.mark.parametrize("damage", [b"h", b"\xff"])
async def test_text_that_was_damaged_on_disk_is_never_handed_out(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        bad = (await send(store, "x" * 200 + "a needle in a body", "1")).id
        await send(store, "whole", "2")
    content = path.read_bytes()
    assert content.count(b"a needle in a body") == 1
    path.write_bytes(content.replace(b"a needle", damage + b" needle"))
    async with opened(path) as store:
        assert await store.check() == "ok"  # SQLite does not see it
        for attempt in (claim(store, "1"), store.read(BOB, bad)):
            with pytest.raises(Refusal) as refusal:
                await attempt
            assert refusal.value.code is Code.STORE_DAMAGED
            assert bad in refusal.value.hint
        assert (await store.inbox(BOB, Listing(10))).previews[0].delivery.handle == bad
        [settled] = await store.settle(BOB, [bad], Settlement(Outcome.REJECT), Origin("bob", "3"))
        assert settled.refusal is None
        assert await claim(store, "4") == ["whole"]


@pytest.mark.parametrize("replaced", [False, True])
async def test_nothing_is_accepted_into_a_file_that_was_removed_or_replaced(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await send(store, "before", "1")
        assert store.place.kept
        path.unlink()
        if replaced:
            path.write_bytes(b"another")
        assert not store.place.kept
        with pytest.raises(Refusal) as refusal:
            await send(store, "lost", "2")
        assert refusal.value.code is Code.STORE_FAILED
        assert "removed or replaced" in refusal.value.problem
