"""The writer: many verbs in one transaction, each with its own fate."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.engines.sqlite.writer import Writer
from mcp_mailbox.errors import Code, Refusal
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE

pytestmark = pytest.mark.anyio


class Desk:
    """A writer on a table of words, and how often it sealed and undid."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("CREATE TABLE word (word TEXT UNIQUE)")
        self.sealed = self.undone = 0
        self.writer = Writer(self.db, self._seal, self._undo)

    def _seal(self, db: sqlite3.Connection) -> None:
        assert db.in_transaction
        self.sealed += 1

    def _undo(self) -> None:
        self.undone += 1

    def on_disk(self) -> list[str]:
        with sqlite3.connect(self.path) as other:
            words = [row[0] for row in other.execute("SELECT word FROM word ORDER BY rowid")]
        other.close()
        return words

    async def outcomes(self, *works: Callable[[sqlite3.Connection], str]) -> list[object]:
        """Hand them in together; return each one's result or exception."""
        found: dict[int, object] = {}

        async def do(number: int, work: Callable[[sqlite3.Connection], str]) -> None:
            try:
                found[number] = await self.writer.do(work)
            except Exception as error:  # noqa: BLE001 - it is what is asked for
                found[number] = error

        async with anyio.create_task_group() as tasks:
            for number, work in enumerate(works):
                tasks.start_soon(do, number, work)
        return [found[number] for number in range(len(works))]


def write(word: str) -> Callable[[sqlite3.Connection], str]:
    def work(db: sqlite3.Connection) -> str:
        db.execute("INSERT INTO word VALUES (?)", (word,))
        return word

    return work


def poison(db: sqlite3.Connection) -> str:
    db.execute("INSERT INTO word VALUES ('half')")
    raise ZeroDivisionError


def refuse(_: sqlite3.Connection) -> str:
    raise Refusal(Code.KEY_CONFLICT, "no")


def refuse_late(db: sqlite3.Connection) -> str:
    db.execute("INSERT INTO word VALUES ('too early')")
    raise Refusal(Code.KEY_CONFLICT, "no")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "words.db")
    with anyio.fail_after(DEADLINE):
        yield desk
        await desk.writer.close()
    desk.db.close()


async def test_verbs_that_come_together_share_a_transaction(desk: Desk) -> None:
    words = [f"word {number}" for number in range(100)]
    assert await desk.outcomes(*map(write, words)) == words
    assert desk.on_disk() == words
    assert desk.sealed < 20


async def test_an_answer_means_that_it_is_on_disk(desk: Desk) -> None:
    for word in ("one", "two"):
        await desk.writer.do(write(word))
        assert desk.on_disk()[-1] == word


async def test_one_that_fails_fails_alone(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        first, bad, last = await desk.outcomes(write("first"), poison, write("last"))
    assert (first, last) == ("first", "last")
    assert isinstance(bad, ZeroDivisionError)
    assert desk.on_disk() == ["first", "last"]
    assert desk.undone >= 1


async def test_a_refusal_costs_the_others_nothing(desk: Desk) -> None:
    first, no, last = await desk.outcomes(write("first"), refuse, write("last"))
    assert (first, last) == ("first", "last")
    assert isinstance(no, Refusal)
    assert desk.undone == 0


async def test_a_refusal_after_a_write_is_a_bug_and_is_rolled_back(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        first, bug, last = await desk.outcomes(write("first"), refuse_late, write("last"))
    assert (first, last) == ("first", "last")
    assert isinstance(bug, RuntimeError)
    assert desk.on_disk() == ["first", "last"]


async def test_a_constraint_that_breaks_is_a_bug_and_no_refusal(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        outcomes = await desk.outcomes(write("same"), write("same"))
    assert outcomes[0] == "same"
    assert isinstance(outcomes[1], sqlite3.IntegrityError)


async def test_verbs_happen_in_the_order_in_which_they_came(desk: Desk) -> None:
    words = [f"word {number}" for number in range(1000)]
    await desk.outcomes(*map(write, words))
    assert desk.on_disk() == words


async def test_who_gives_up_waiting_does_not_undo_it(desk: Desk) -> None:
    rung: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.writer.do, write("word"), rung.append)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert desk.on_disk() == rung == ["word"]


async def test_what_follows_a_verb_does_not_follow_its_refusal(desk: Desk) -> None:
    rung: list[str] = []
    with pytest.raises(Refusal):
        await desk.writer.do(refuse, rung.append)
    assert rung == []


async def test_work_that_nobody_waits_for_is_done_soon(desk: Desk) -> None:
    desk.writer.later(lambda db: (write("word")(db), None)[1])
    while "word" not in desk.on_disk():
        await anyio.lowlevel.checkpoint()


async def test_work_that_nobody_waits_for_keeps_its_place(desk: Desk) -> None:
    desk.writer.later(lambda db: (write("first")(db), None)[1])
    await desk.writer.do(write("second"))
    assert desk.on_disk() == ["first", "second"]


async def test_closing_does_what_was_handed_in_and_takes_no_more(desk: Desk) -> None:
    outcomes: list[object] = []
    async with anyio.create_task_group() as tasks:

        async def hand_in() -> None:
            outcomes.extend(await desk.outcomes(*(write(str(number)) for number in range(300))))

        tasks.start_soon(hand_in)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        desk.writer.later(lambda db: (write("later")(db), None)[1])
        await desk.writer.close()
    done = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert desk.on_disk() == [*done, "later"]
    assert all(isinstance(o, str) or (isinstance(o, Refusal) and o.code is Code.STOPPING) for o in outcomes)
    with pytest.raises(Refusal) as refusal:
        await desk.writer.do(write("too late"))
    assert refusal.value.code is Code.STOPPING
    assert refusal.value.hint
    await desk.writer.close()


@pytest.mark.parametrize("error", [StopIteration, MemoryError, sqlite3.OperationalError])
async def test_whatever_a_verb_raises_nobody_waits_for_ever(
    desk: Desk, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: sqlite3.Connection) -> str:
        raise error

    with caplog.at_level(logging.CRITICAL):
        first, failed, last = await desk.outcomes(write("first"), fail, write("last"))
    assert (first, last) == ("first", "last")
    assert isinstance(failed, Exception)


async def test_a_bell_that_breaks_fails_nobody(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    def bell(_: str) -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.CRITICAL):
        assert await desk.writer.do(write("word"), bell) == "word"
        assert await desk.writer.do(write("next")) == "next"


async def test_the_store_syncs_what_it_commits(tmp_path: Path) -> None:
    names = ("synchronous", "journal_mode", "auto_vacuum")
    # A kill cannot show it, only the loss of power can; so this reads what the engine asks SQLite for.
    async with open_store(tmp_path / "store.db", SteppedClock()) as store:
        asked = await store.writer.do(lambda db: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names])
    assert asked == [2, "wal", 2]


async def test_who_looks_in_vain_writes_nothing(desk: Desk) -> None:
    """Else each wait that ends with nothing would cost a sync."""
    log = desk.path.with_name(f"{desk.path.name}-wal")
    before = log.stat().st_size
    assert await desk.outcomes(lambda db: str(db.execute("SELECT count(*) FROM word").fetchone()[0])) == ["0"]
    assert (desk.sealed, log.stat().st_size) == (0, before)
