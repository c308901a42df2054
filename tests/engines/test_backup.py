"""Copies of the file under trouble: whoever asked goes, the store closes, kill -9 at each step of a restore."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.engines.sqlite import open_store, restore
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Listing, Origin, Submission
from tests.clocks import START, SteppedClock
from tests.conftest import DEADLINE, ROOT
from tests.view.bulk import build

pytestmark = pytest.mark.anyio
BOX, OTHER = Address("box-1", "default"), Address("box-2", "default")


def quiet(_done: int, _of: int) -> None:
    pass


class Told:
    """Who is told how far a backup is, and holds it up at its first word."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self._may_go_on = threading.Event()

    def __call__(self, done: int, _of: int) -> None:
        self.done.append(done)
        assert self._may_go_on.wait(DEADLINE)

    async def first(self) -> None:
        while not self.done:
            await anyio.lowlevel.checkpoint()

    async def goes_on(self) -> None:
        """Let it go on, once whatever this test does has been done."""
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
        self._may_go_on.set()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_a_backup_that_nobody_waits_for_ends_and_leaves_nothing(tmp_path: Path) -> None:
    build(tmp_path / "store.db", 50_000, START)
    told = Told()
    async with open_store(tmp_path / "store.db", SteppedClock()) as store:
        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as tasks:

                async def take() -> None:
                    await store.backup(tmp_path / "backup.db", told)

                tasks.start_soon(take)
                await told.first()
                tasks.cancel_scope.cancel()
                await told.goes_on()
        assert names(tmp_path) == ["store.db", "store.db-shm", "store.db-wal"]
        assert max(told.done) < 1000, "it went on to its end"
        assert await store.backup(tmp_path / "backup.db", quiet) > 0


async def test_a_store_that_closes_ends_its_backups_first_and_says_so(tmp_path: Path) -> None:
    build(tmp_path / "store.db", 50_000, START)
    told = Told()
    refusals: list[Refusal] = []
    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks, open_store(tmp_path / "store.db", SteppedClock()) as store:

            async def take() -> None:
                with pytest.raises(Refusal) as refusal:
                    await store.backup(tmp_path / "backup.db", told)
                refusals.append(refusal.value)

            tasks.start_soon(take)
            await told.first()
            tasks.start_soon(told.goes_on)
    assert [refusal.code for refusal in refusals] == [Code.STOPPING]
    assert names(tmp_path) == ["store.db"], "the journal is cleared away, nothing half is left"
    with pytest.raises(Refusal):
        await store.backup(tmp_path / "backup.db", quiet)


async def test_a_store_that_is_damaged_gives_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    build(path, 20_000, START)
    content = bytearray(path.read_bytes())
    for page in range(400, 420):  # of messages; the first hundred are roots, which opening reads
        content[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    path.write_bytes(content)
    async with open_store(path, SteppedClock()) as store:
        with pytest.raises(Refusal) as refusal:
            await store.backup(tmp_path / "backup.db", quiet)
    assert refusal.value.code is Code.STORE_DAMAGED
    assert names(tmp_path) == ["store.db"]


async def test_sends_are_answered_while_a_backup_is_under_way(tmp_path: Path) -> None:
    build(tmp_path / "store.db", 100_000, START)
    sent = 0
    async with open_store(tmp_path / "store.db", SteppedClock()) as store:
        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as tasks:
                taken = anyio.Event()

                async def take() -> None:
                    await store.backup(tmp_path / "backup.db", quiet)
                    taken.set()

                tasks.start_soon(take)
                while not taken.is_set():
                    await store.accept(Submission(OTHER, [BOX], Draft(("a",), "hello"), Origin("r", f"{sent}")))
                    sent += 1
        assert sent > 20
        assert await store.check() == "ok"
    with closing(sqlite3.connect(tmp_path / "backup.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


# -- restoring


async def store_with(path: Path, *said: str) -> None:
    async with open_store(path, SteppedClock()) as store:
        for address in (BOX, OTHER):
            await store.open(address, "someone", Profile(), Origin(address.name, "open"))
        for text in said:
            await store.accept(Submission(OTHER, [BOX], Draft(("a",), text), Origin("r", text)))


async def said_in(path: Path) -> list[str]:
    async with open_store(path, SteppedClock()) as store:
        assert await store.check() == "ok"
        return [each.delivery.message.body for each in (await store.inbox(BOX, Listing(100))).previews]


async def closed(path: Path) -> list[str]:
    await store_with(path, "present")
    return ["present"]


async def killed(path: Path) -> list[str]:
    before = path.with_name("before.db")
    async with open_store(before, SteppedClock()) as store:
        await store.open(BOX, "someone", Profile(), Origin("r", "open"))
        await store.accept(Submission(BOX, [BOX], Draft(("a",), "in the journal"), Origin("r", "1")))
        for suffix in ("", "-wal"):
            shutil.copy(f"{before}{suffix}", f"{path}{suffix}")
    before.unlink()
    return ["in the journal"]


DAMAGE = b"\xa5" * 40_000


async def damaged(path: Path) -> None:
    await anyio.Path(path).write_bytes(DAMAGE)
    await anyio.Path(f"{path}-wal").write_bytes(b"of the damaged one")


async def missing(_path: Path) -> None:
    pass


@pytest.mark.parametrize("present", [closed, killed, damaged, missing])
@pytest.mark.soak
async def test_a_kill_at_any_step_of_a_restore_leaves_the_old_store_or_the_new_one(
    tmp_path: Path, present: Callable[[Path], Awaitable[list[str] | None]]
) -> None:
    file, original, new = tmp_path / "backup.db", tmp_path / "original", ["old", "backed up"]
    await store_with(tmp_path / "made.db", *new)
    async with open_store(tmp_path / "made.db", SteppedClock()) as store:
        await store.backup(file, quiet)
    original.mkdir()
    old = await present(original / "store.db")
    outcomes = []
    for step in range(1, 100):
        home = tmp_path / f"home {step}"
        shutil.copytree(original, home)
        code = await _restore(home / "store.db", file, step)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        outcomes.append(await _found(home / "store.db"))
        assert outcomes[-1] in (old, new)
        if present is not missing:
            assert await _restore(home / "store.db", file, 0) == 0, "again, after whatever the kill left"
            assert await said_in(home / "store.db") == new
            assert not [name for name in names(home) if "restoring" in name]
    assert len(outcomes) > 5
    assert old in outcomes
    assert await said_in(home / "store.db") == new
    asides = [name for name in names(home) if "before-restore" in name]
    assert len(asides) == (0 if present is missing else 1)
    for aside in asides:
        assert await _found(home / aside) == old


async def _found(store: Path) -> list[str] | None:
    """What the store has; None for none, and for the damaged one that was there."""
    file = anyio.Path(store)
    if not await file.exists() or await file.read_bytes() == DAMAGE:
        return None
    return await said_in(store)


async def _restore(store: Path, file: Path, step: int) -> int:
    command = [sys.executable, "-m", "tests.engines.restorer", str(store), str(file), str(step)]
    done = await anyio.run_process(command, cwd=ROOT, check=False, stderr=subprocess.PIPE)
    assert done.returncode <= 0, done.stderr.decode()
    return done.returncode


def empty(file: Path) -> None:
    file.write_bytes(b"")


def text(file: Path) -> None:
    file.write_text("no backup" * 1000)


def theirs(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE theirs (a)")
        db.commit()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8192])


def scratched(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[3 * 4096 : 3 * 4096 + 64] = b"\xff" * 64
    file.write_bytes(content)


def newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 999")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (empty, Code.BAD_ARGUMENT),
        (text, Code.BAD_ARGUMENT),
        (theirs, Code.BAD_ARGUMENT),
        (cut, Code.STORE_DAMAGED),
        (scratched, Code.STORE_DAMAGED),
        (newer, Code.STORE_NEWER),
    ],
)
async def test_what_is_no_sound_backup_is_refused_and_the_store_is_not_touched(
    tmp_path: Path, spoil: Callable[[Path], None], code: Code
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    await store_with(home / "store.db", "present")
    before = (home / "store.db").read_bytes()
    file = tmp_path / "backup.db"
    async with open_store(home / "store.db", SteppedClock()) as store:
        await store.backup(file, quiet)
    spoil(file)
    with pytest.raises(Refusal) as refusal, restore.taken_in(file, home / "store.db", quiet):
        raise AssertionError
    assert refusal.value.code is code
    assert str(file) in str(refusal.value)
    assert refusal.value.hint
    assert names(home) == ["store.db"]
    assert (home / "store.db").read_bytes() == before


async def test_a_store_that_another_program_has_open_is_not_replaced(tmp_path: Path) -> None:
    await store_with(tmp_path / "store.db", "present")
    async with open_store(tmp_path / "store.db", SteppedClock()) as store:
        await store.backup(tmp_path / "backup.db", quiet)
    with closing(sqlite3.connect(tmp_path / "store.db")) as db:
        db.execute("SELECT * FROM meta").fetchall()
        with (
            pytest.raises(Refusal) as refusal,
            restore.taken_in(tmp_path / "backup.db", tmp_path / "store.db", quiet) as copy,
        ):
            restore.put_in_place(copy, tmp_path / "store.db", "then")
        assert refusal.value.code is Code.STORE_FAILED
        assert "Another program" in refusal.value.problem
    assert await said_in(tmp_path / "store.db") == ["present"]


async def test_a_store_that_nobody_closed_is_a_backup_with_its_journal(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db", SteppedClock()) as store:
        for address in (BOX, OTHER):
            await store.open(address, "someone", Profile(), Origin(address.name, "open"))
        await store.accept(Submission(OTHER, [BOX], Draft(("a",), "in the journal"), Origin("r", "1")))
        for name in ("store.db", "store.db-wal"):
            shutil.copy(tmp_path / name, tmp_path / f"copied{name.removeprefix('store')}")
    before = (tmp_path / "copied.db").read_bytes()
    with restore.taken_in(tmp_path / "copied.db", tmp_path / "another.db", quiet) as copy:
        placed = restore.put_in_place(copy, tmp_path / "another.db", "then")
    assert (placed.aside, placed.tokens_kept) == (None, False)
    assert await said_in(tmp_path / "another.db") == ["in the journal"]
    assert (tmp_path / "copied.db").read_bytes() == before


async def test_two_restores_at_once_are_one(tmp_path: Path) -> None:
    await store_with(tmp_path / "store.db", "present")
    async with open_store(tmp_path / "store.db", SteppedClock()) as store:
        await store.backup(tmp_path / "backup.db", quiet)
    with restore.taken_in(tmp_path / "backup.db", tmp_path / "store.db", quiet) as copy:
        with (
            pytest.raises(Refusal, match="Another restore"),
            restore.taken_in(tmp_path / "backup.db", tmp_path / "store.db", quiet),
        ):
            raise AssertionError
        restore.put_in_place(copy, tmp_path / "store.db", "then")
    assert await said_in(tmp_path / "store.db") == ["present"]
