"""The file of an edge: what cannot be used is refused, and left as it was."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mcp_mailbox.engines.outbox import open_outbox, waiting
from mcp_mailbox.errors import Code, Refusal

pytestmark = pytest.mark.anyio


async def refused(path: Path) -> Code:
    with pytest.raises(Refusal) as refusal:
        async with open_outbox(path):
            pass
    return refusal.value.code


async def test_what_was_put_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    async with open_outbox(path) as outbox:
        entry = await outbox.put("send", {"reader": "r", "request": "1"}, {"to": "bob"}, 5)
    async with open_outbox(path) as outbox:
        assert (outbox.waiting, await outbox.next(9)) == (1, [entry])


async def test_what_waits_is_counted_whether_somebody_has_the_file_open_or_not(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    assert waiting(path) == (0, None)
    assert not path.exists()
    path.touch()
    assert waiting(path) == (0, None), "somebody was killed who was about to make it"
    async with open_outbox(path) as outbox:
        for request in "123":
            entry = await outbox.put("send", {"reader": "r", "request": request}, {}, 5)
        await outbox.answered({entry.number: {}}, 6)
        assert waiting(path) == (2, 5)
    assert waiting(path) == (2, 5)


async def test_what_waits_in_a_file_that_cannot_be_read_is_not_taken_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "damaged").write_bytes(b"no database")
    for name in ("folder", "damaged"):
        with pytest.raises(Refusal) as refusal:
            waiting(tmp_path / name)
        assert refusal.value.code is Code.STORE_FAILED


async def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "edge.db").mkdir()
    assert await refused(tmp_path / "edge.db") is Code.STORE_FAILED


@pytest.mark.parametrize(
    ("pragma", "code"),
    [("user_version = 999", Code.STORE_NEWER), ("application_id = 7", Code.STORE_DAMAGED)],
    ids=["of a newer program", "of another program"],
)
async def test_a_file_that_is_not_ours_is_refused(tmp_path: Path, pragma: str, code: Code) -> None:
    async with open_outbox(tmp_path / "edge.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "edge.db")) as db:
        db.execute(f"PRAGMA {pragma}")
    assert await refused(tmp_path / "edge.db") is code


async def test_who_was_bound_last_is_known_again_and_more_than_are_asked_for_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    async with open_outbox(path) as outbox:
        for reader, mailbox in (("one", "a@s"), ("two", "b@s"), ("three", "c@s"), ("one", "d@s")):
            await outbox.bind(reader, mailbox)
        await outbox.bind(None, "e@s")
    async with open_outbox(path) as outbox:
        assert await outbox.readers(2) == [("three", "c@s"), ("one", "d@s")]
        assert await outbox.readers(9) == [("three", "c@s"), ("one", "d@s")]
        assert await outbox.mailboxes() == ["a@s", "b@s", "c@s", "d@s", "e@s"]


SCHEMA_1 = """
CREATE TABLE outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, reader TEXT NOT NULL, request TEXT NOT NULL,
    verb TEXT NOT NULL, who TEXT NOT NULL, given TEXT NOT NULL, asked_at INTEGER NOT NULL, answer TEXT,
    answered_at INTEGER, UNIQUE (reader, request));
CREATE TABLE fetched (number INTEGER PRIMARY KEY AUTOINCREMENT, mailbox TEXT NOT NULL, id TEXT NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0, message TEXT NOT NULL, UNIQUE (mailbox, id));
CREATE TABLE reader (id TEXT PRIMARY KEY, mailbox TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE mailbox (address TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO outbox (reader, request, verb, who, given, asked_at) VALUES ('r', '1', 'send', '{}', '{"to": "bob"}', 5);
INSERT INTO reader VALUES ('r', 'a@s');
INSERT INTO mailbox VALUES ('a@s');
PRAGMA application_id = 0x6D626F78;
"""


@pytest.mark.parametrize("version", [1, 2])
async def test_a_file_of_an_older_program_is_taken_over_with_all_that_waits_in_it(tmp_path: Path, version: int) -> None:
    path = tmp_path / "edge.db"
    with closing(sqlite3.connect(path)) as db:
        later = "ALTER TABLE outbox ADD COLUMN files TEXT NOT NULL DEFAULT '[]';" if version > 1 else ""
        db.executescript(f"{SCHEMA_1}{later} PRAGMA user_version = {version};")
    for _ in range(2):
        async with open_outbox(path) as outbox:
            assert [each.given for each in await outbox.next(9)] == [{"to": "bob"}]
            assert await outbox.readers(9) == [("r", "a@s")]
            assert await outbox.mailboxes() == ["a@s"]
            assert await outbox.pins.all() == []


async def test_what_an_older_version_fetched_is_nobodys_word_until_it_is_fetched_again(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    async with open_outbox(path) as outbox:
        outbox.keep("bob@team", [{"id": "m1.2", "body": "obey"}], waits=True)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "DROP TABLE pin; DROP TABLE signed_once; DROP TABLE life; ALTER TABLE outbox DROP COLUMN tried;"
            " PRAGMA user_version = 3;"
        )
    async with open_outbox(path) as outbox:
        found = await outbox.fetched("bob@team", "m1")
        assert found is not None
        assert (found["body"], found["untrusted"]) == ("obey", True)
        assert found["verified"].startswith("not checked")
        assert await outbox.pins.all() == []
        outbox.keep("bob@team", [{"id": "m1", "body": "obey"}], waits=True)
        assert await outbox.fetched("bob@team", "m1") == {"id": "m1", "body": "obey"}


async def test_a_later_life_of_a_machine_sorts_behind_earlier_ones_whatever_its_clock_says(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    begun: list[int] = []
    for now in (1_000, 2_000, 500, 600, 3_000):
        async with open_outbox(path) as outbox:
            begun.append(await outbox.later(now))
    assert begun == [1_000, 2_000, 2_001, 2_002, 3_000]
