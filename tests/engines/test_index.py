"""The search index: behind the mail by itself, lost without harm, made anew, never taken for another store's."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from zlib import crc32

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.delivery import Outcome, Settlement
from mcp_mailbox.engines.sqlite import SqliteStore, index, open_store, searching, words
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Accepted, Hits, Listing, Origin, Query, Submission
from tests.clocks import START, SteppedClock
from tests.conftest import DEADLINE
from tests.engines.sender import READER
from tests.engines.test_damage import modes
from tests.engines.test_kill import _send_until_killed

pytestmark = pytest.mark.anyio
ANN, BOB = Address("ann", "default"), Address("bob", "default")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_mailbox.engines.sqlite.engine.AT_START", 0)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    with anyio.fail_after(DEADLINE):
        async with open_store(path, SteppedClock()) as store:
            for address in (ANN, BOB):
                await store.open(address, "someone", Profile(), Origin(address.name, "open"))
            yield store


async def send(store: SqliteStore, *bodies: str) -> list[Accepted]:
    return [
        await store.accept(Submission(ANN, [BOB], Draft(("b",), body), Origin("a", f"{crc32(body.encode())}")))
        for body in bodies
    ]


async def search(store: SqliteStore, text: str, limit: int = 100, cursor: str | None = None) -> Hits:
    return await store.search(BOB, Query(limit, text, cursor=cursor))


async def found(store: SqliteStore, text: str) -> list[str]:
    answer = await search(store, text)
    assert answer.complete_until is None
    return [hit.message.body for hit in answer.hits]


def whole(path: Path) -> bool:
    """Whether SQLite and FTS5 find nothing wrong with the index, and how far it goes is what it has."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO said (said) VALUES ('integrity-check')")
        rows = [row[0] for row in db.execute(f"SELECT rowid FROM said WHERE said MATCH '{words.window(0)}'")]
        through = db.execute("SELECT seq FROM progress").fetchone()[0]
        return bool(rows == list(range(1, through + 1)) and db.execute("PRAGMA quick_check").fetchone()[0] == "ok")


async def test_the_index_follows_the_mail_by_itself_and_its_files_are_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "mail.db"
    before = os.umask(0)
    try:
        async with opened(path) as store:
            await send(store, *(f"word {number}" for number in range(500)))
            await store.follower.rest()
            assert store._searching._index.through == 500
            assert {name: mode for name, mode in modes(tmp_path).items() if "search" in name} == dict.fromkeys(
                ("search.db", "search.db-wal", "search.db-shm"), 0o600
            )
    finally:
        os.umask(before)
    assert whole(tmp_path / "search.db")
    assert sorted(modes(tmp_path)) == ["mail.db", "search.db"]


async def test_a_store_without_mail_has_no_index(tmp_path: Path) -> None:
    async with opened(tmp_path / "mail.db") as store:
        assert await found(store, "word") == []
    assert sorted(modes(tmp_path)) == ["mail.db"]


def lose(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 5000)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flood(path: Path) -> None:
    """Damage every page but the first."""
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 999")


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (a)")


def stripped(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE said")


def blank(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM progress")


DAMAGE = [lose, empty, garbage, cut, flood, newer, foreign, stripped, blank]


@pytest.mark.parametrize("damage", DAMAGE)
async def test_an_index_that_is_lost_or_not_ours_is_made_anew_and_mail_knows_nothing_of_it(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "mail.db"
    bodies = [f"word {number} " + "x" * 100 for number in range(300)]
    async with opened(path) as store:
        await send(store, *bodies)
        await store.follower.rest()
    damage(tmp_path / "search.db")
    async with opened(path) as store:
        assert len((await store.inbox(BOB, Listing(300))).previews) == 300
        assert await found(store, "word 17") == [bodies[17]]
        await send(store, "word new")
        assert await found(store, "new") == ["word new"]
    assert whole(tmp_path / "search.db")


@pytest.mark.parametrize("damage", [lose, garbage, flood, foreign])
async def test_one_that_is_lost_meanwhile_is_noticed(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    async with opened(tmp_path / "mail.db") as store:
        bodies = [f"word {number} " + "x" * 100 for number in range(300)]
        await send(store, *bodies)
        await store.follower.rest()
        db = store._searching._index._db
        assert db is not None
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA cache_size = 0")
        damage(tmp_path / "search.db")
        assert len(await found(store, "word")) == 100
        assert await found(store, "299") == [bodies[299]]


async def test_an_index_that_is_lost_is_made_anew_without_a_search(tmp_path: Path) -> None:
    async with opened(tmp_path / "mail.db") as store:
        await send(store, "one")
        await store.follower.rest()
        lose(tmp_path / "search.db")
        await send(store, "two")
        await store.follower.rest()
        assert whole(tmp_path / "search.db")
        assert await found(store, "one") == ["one"]


async def test_the_index_of_another_store_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        async with opened(tmp_path / name / "mail.db") as store:
            await send(store, f"of {name}", "the same")
            await store.follower.rest()
    shutil.copy(tmp_path / "one" / "search.db", tmp_path / "two" / "search.db")
    async with opened(tmp_path / "two" / "mail.db") as store:
        assert await found(store, "of") == ["of two"]
        assert await found(store, "one") == []


@pytest.mark.parametrize("later", [0, 1, 7])
async def test_a_store_that_was_restored_is_noticed_also_when_it_went_on_meanwhile(tmp_path: Path, later: int) -> None:
    path = tmp_path / "mail.db"
    async with opened(path) as store:
        await send(store, "kept")
    shutil.copy(path, tmp_path / "backup")
    async with opened(path) as store:
        await send(store, *(f"lost {number}" for number in range(3)))
        await store.follower.rest()
    shutil.copy(tmp_path / "backup", path)
    aside = tmp_path / "aside"
    shutil.move(tmp_path / "search.db", aside)
    async with opened(path) as store:  # by a program that knows of no search
        await send(store, *(f"kept {number}" for number in range(later)))
    shutil.move(aside, tmp_path / "search.db")
    async with opened(path) as store:
        assert await found(store, "lost") == []
        assert len(await found(store, "kept")) == 1 + later


async def test_while_it_is_made_an_answer_says_until_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mail.db"
    async with opened(path) as store:
        for number in range(12):
            await send(store, f"word {number}")
    (tmp_path / "search.db").unlink(missing_ok=True)
    monkeypatch.setattr(searching, "_CATCH_UP", 1)
    monkeypatch.setattr(index, "_SLICE", 5)
    monkeypatch.setattr("mcp_mailbox.engines.sqlite.engine.AT_START", 1000)
    async with opened(path) as store:
        accepted = [preview.delivery.message.accepted_at for preview in (await store.inbox(BOB, Listing(12))).previews]
        answers = [await search(store, "word") for _ in range(3)]
    assert [len(answer.hits) for answer in answers] == [5, 10, 12]
    assert [answer.complete_until for answer in answers] == [accepted[4], accepted[9], None]
    assert accepted[0] >= START


async def test_a_full_disk_leaves_what_is_indexed_and_says_what_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path / "mail.db") as store:
        [sent] = await send(store, "word before")
        assert await found(store, "before") == ["word before"]
        db = store._searching._index._db
        assert db is not None
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 1}")
        await send(store, "word " + " ".join(f"n{number:05}" for number in range(20_000)))
        answer = await search(store, "word")
        assert [hit.message.id for hit in answer.hits] == [sent.id]
        assert answer.complete_until is not None
        assert "Everything else works" in caplog.text
        db.execute("PRAGMA max_page_count = 1000000")
        assert len(await found(store, "word")) == 2


async def test_without_fts5_a_search_says_so_and_everything_else_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_MODULE", "fts99")
    async with opened(tmp_path / "mail.db") as store:
        await send(store, "word")
        for _ in range(2):
            with pytest.raises(Refusal) as refusal:
                await search(store, "word")
            assert refusal.value.code is Code.STORE_FAILED
            assert "FTS5" in refusal.value.problem
        assert len((await store.inbox(BOB, Listing(9))).previews) == 1
    assert sorted(modes(tmp_path)) == ["mail.db"]


async def test_mail_that_is_damaged_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "mail.db"
    async with opened(path) as store:
        await send(store, *(f"word body {number:04} " + "x" * 300 for number in range(200)))
    (tmp_path / "search.db").unlink(missing_ok=True)
    content = bytearray(path.read_bytes())
    page = content.index(b"body 0100 ") // 4096
    content[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    path.write_bytes(content)
    async with opened(path) as store:
        await store.follower.rest()
        assert await found(store, "0010") != []
        assert await found(store, "0190") != []
        assert await found(store, "0100") == []
        assert store._searching._index.through == 200
        assert 150 < len((await search(store, "word", 200)).hits) < 200
    assert "search index is damaged" not in caplog.text


async def test_text_that_was_damaged_is_no_reason_to_find_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mail.db"
    async with opened(path) as store:
        [bad, _] = await send(store, "x" * 200 + " a needle in a body", "whole body")
    (tmp_path / "search.db").unlink(missing_ok=True)
    path.write_bytes(path.read_bytes().replace(b"a needle", b"\xff needle"))
    async with opened(path) as store:
        hits = (await search(store, "body")).hits
        assert hits[0].message.body == "whole body"
        assert hits[1].message.id == bad.id


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_a_page_looks_through_part_of_the_history_and_the_next_ones_through_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, oldest_first: bool
) -> None:
    for module in (index, searching):
        monkeypatch.setattr(module, "WINDOW", 8)
    monkeypatch.setattr(searching, "_PATIENCE", -1)
    async with opened(tmp_path / "mail.db") as store:
        bodies = [f"word {number} {'rare' if number in (3, 4, 60) else 'common'}" for number in range(70)]
        await send(store, *bodies)
        for text, limit in (("rare", 2), ("common", 3), ("common", 100), ("word", 8)):
            seen: list[str] = []
            pages = 0
            cursor: str | None = None
            while pages == 0 or cursor is not None:
                page = await store.search(BOB, Query(limit, text, cursor=cursor, oldest_first=oldest_first))
                seen += [hit.message.body for hit in page.hits]
                assert len(page.hits) <= min(limit, 8)
                pages, cursor = pages + 1, page.next
            expected = [body for body in bodies if text in body]
            assert seen == (expected if oldest_first else expected[::-1])
            assert pages >= 9


async def test_what_was_acknowledged_before_a_kill_is_found_and_the_index_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "mail.db"
    acknowledged: dict[str, str] = {}
    with anyio.fail_after(DEADLINE):
        for kill in range(4):
            for name, number, id_ in await _send_until_killed(path, kill * 1_000_000, 700 + 337 * kill):
                acknowledged[f"{name} {number}"] = id_
            async with open_store(path, SystemClock()) as store:
                for body in (*list(acknowledged)[:20], *list(acknowledged)[-20:]):
                    answer = await store.search(READER, Query(10, body))
                    while answer.complete_until is not None:
                        await store.follower.rest()
                        answer = await store.search(READER, Query(10, body))
                    assert acknowledged[body] in [hit.message.id for hit in answer.hits]
                await store.follower.rest()
            assert whole(tmp_path / "search.db")


def test_the_words_of_a_query_are_words_to_the_index_whatever_they_are_made_of() -> None:
    """MATCH takes a word apart again: were it two, that would be a phrase, which this index has none of."""
    asked = index.Index(Path("unused"), b"")
    letters = [chr(code) for code in range(0x32000) if not 0xD800 <= code < 0xE000]
    every = set(asked.words(" ".join(letters))) | set(asked.words(" ".join(f"a{letter}z" for letter in letters[:5000])))
    assert len(every) > 100_000
    assert set(asked.words(" ".join(every))) == every
    assert not [word for word in every if '"' in word]
    asked.close()


async def test_the_follower_says_once_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(index, "_MODULE", "fts99")
    monkeypatch.setattr("mcp_mailbox.engines.sqlite.follower._RETRY", 0.01)
    caplog.set_level(logging.WARNING)
    tried = anyio.Event()
    async with opened(tmp_path / "mail.db") as store:
        steps = 0
        step = store.follower._step

        loop = asyncio.get_running_loop()

        def counted(mail: sqlite3.Connection) -> bool:
            nonlocal steps
            steps += 1
            if steps == 5:
                loop.call_soon_threadsafe(tried.set)
            return step(mail)

        store.follower._step = counted
        await send(store, "word")
        await tried.wait()
    assert len([record for record in caplog.records if "behind" in record.message]) == 1


async def test_what_is_taken_out_of_the_index_is_taken_out_once_and_put_back_if_the_mail_keeps_it(
    tmp_path: Path,
) -> None:
    """As after a kill between the index and the mail, or a dead letter that was retried there."""
    async with opened(tmp_path / "mail.db") as store:
        await send(store, "plan one", "plan two", "plan three")
        assert len(await found(store, "plan")) == 3
        for _ in range(2):
            await store._searcher.do(lambda mail: store._index.forget(mail, [1, 2]))
            assert await found(store, "plan") == ["plan three"]
            store._index.close()  # as a new process finds it
        await store._searcher.do(lambda mail: store._index.forget(mail, [2]))
        assert await found(store, "plan") == ["plan three", "plan one"]
        await store._searcher.do(lambda mail: store._index.forget(mail, []))
        assert await found(store, "plan") == ["plan three", "plan two", "plan one"]
    assert whole(tmp_path / "search.db")


async def test_an_index_whose_last_message_is_removed_is_still_this_stores(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mail.db"
    async with opened(path) as store:
        sent = await send(store, "plan one", "plan two")
        await store.follower.rest()
        await store.settle(BOB, [sent[1].id], Settlement(Outcome.ACK), Origin("b", "ack"))
        while await store.forget_settled(store.clock.now()):
            pass
        before = (tmp_path / "search.db").stat().st_ino
    async with opened(path) as store:
        assert await found(store, "plan") == ["plan one"]
        assert await found(store, "two") == []
        assert (tmp_path / "search.db").stat().st_ino == before
        await send(store, "plan three")
        assert await found(store, "plan") == ["plan three", "plan one"]
    assert not caplog.records
