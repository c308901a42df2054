"""Contents as files: whole or not at all, mended, told when they are lost; a full disk, kill -9, many at once."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from mcp_mailbox.attachment import Attachment
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.delivery import Outcome, Settlement
from mcp_mailbox.engines.sqlite import SqliteStore, attaching, open_store, restore
from mcp_mailbox.engines.sqlite.blobs import Blobs
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Accepted, Lease, Listing, Origin, Store, Submission, Wanted
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE, ROOT
from tests.engines.attacher import BOX, MESSAGES, content

pytestmark = pytest.mark.anyio
MIB = 1 << 20
_ACK = Settlement(Outcome.ACK)


def path_of(directory: Path, data: bytes) -> Path:
    digest = hashlib.sha256(data).hexdigest()
    return directory / "mail.db.attachments" / digest[:2] / digest[2:]


def left_in(directory: Path) -> list[Path]:
    """All files of attachments, those that are not whole too."""
    return [path for path in (directory / "mail.db.attachments").rglob("*") if path.is_file()]


async def attach(store: Store, *contents: bytes, key: str | None = None) -> Accepted:
    async with store.attaching() as tray:
        attachments = []
        for number, data in enumerate(contents):
            kept = await tray.keep(BytesIO(data).read, 1 << 30)
            assert kept is not None
            attachments.append(Attachment(f"{number}", "text/plain", kept.size, kept.sha256))
        draft = Draft(("box",), "hello", key=key, attachments=tuple(attachments))
        return await store.accept(Submission(BOX, [BOX], draft, Origin("r", f"{time.monotonic_ns()}")))


async def opened(store: Store) -> None:
    await store.open(BOX, "someone", Profile(), Origin("r", "open"))


async def test_contents_are_their_owners_alone_and_nobody_writes_to_them(tmp_path: Path) -> None:
    async with open_store(tmp_path / "mail.db", SteppedClock()) as store:
        await opened(store)
        assert not (tmp_path / "mail.db.attachments").exists(), "who attaches nothing has no directory"
        await attach(store, b"x")
        path = path_of(tmp_path, b"x")
        assert path.read_bytes() == b"x"
        assert path.stat().st_mode & 0o777 == 0o400
        for directory in (path.parent, path.parent.parent):
            assert directory.stat().st_mode & 0o777 == 0o700
        assert left_in(tmp_path) == [path]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.chmod(0o600) or path.write_bytes(b"y" * 1000), "is damaged"),
        (lambda path: path.chmod(0o600) or path.write_bytes(b""), "is damaged"),
        (lambda path: path.unlink() or path.mkdir(), "cannot be read"),
    ],
)
async def test_a_content_that_is_lost_is_told_in_a_sentence_and_the_message_is_readable(
    tmp_path: Path, harm: Callable[[Path], object], said: str
) -> None:
    async with open_store(tmp_path / "mail.db", SteppedClock()) as store:
        await opened(store)
        sent = await attach(store, b"x" * 1000, b"fine")
        harm(path_of(tmp_path, b"x" * 1000))
        with pytest.raises(Refusal, match=f"The attachment '0' {said}") as refusal:
            await store.attachment(BOX, sent.id, "0")
        assert refusal.value.code is Code.STORE_DAMAGED
        assert (await store.attachment(BOX, sent.id, "1"))[1] == b"fine"
        assert (await store.read(BOX, sent.id)).message.body == "hello"
        assert len((await store.inbox(BOX, Listing(10))).previews) == 1
        [claimed] = await store.claim(BOX, Wanted(), Lease(1, 100, 1000), Origin("r", "claim"), ())
        assert len(claimed.message.attachments) == 2
        await store.collect()


async def test_a_content_that_was_damaged_is_mended_by_whoever_sends_it_again(tmp_path: Path) -> None:
    async with open_store(tmp_path / "mail.db", SteppedClock()) as store:
        await opened(store)
        first = await attach(store, b"x" * 1000)
        path = path_of(tmp_path, b"x" * 1000)
        path.chmod(0o600)
        path.write_bytes(b"y")
        await attach(store, b"x" * 1000)
        assert (await store.attachment(BOX, first.id, "0"))[1] == b"x" * 1000


async def test_what_goes_wrong_behind_a_send_changes_nothing_of_its_answer(tmp_path: Path) -> None:
    async with open_store(tmp_path / "mail.db", SteppedClock()) as store:
        await opened(store)
        async with store.attaching() as tray:
            kept = await tray.keep(BytesIO(b"x").read, 10)
            assert kept is not None
            draft = Draft(("box",), "hello", attachments=(Attachment("x", "text/plain", 1, kept.sha256),))
            sent = await store.accept(Submission(BOX, [BOX], draft, Origin("r", "1")))
            await store._reader.close()  # as a store that closes does
    async with open_store(tmp_path / "mail.db", SteppedClock()) as store:
        assert (await store.attachment(BOX, sent.id, "x"))[1] == b"x"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE attachment SET name = 'other'",
        "UPDATE attachment SET size = 7",
        "UPDATE attachment SET type = 'text/html'",
        "UPDATE attachment SET sha256 = zeroblob(32)",
        "UPDATE attachment SET position = 5 WHERE position = 0",
        "DELETE FROM attachment WHERE position = 1",
        "UPDATE message SET format = 0",
    ],
)
async def test_what_is_changed_behind_the_stores_back_is_noticed(tmp_path: Path, change: str) -> None:
    async with open_store(tmp_path / "mail.db", SteppedClock()) as store:
        await opened(store)
        sent = await attach(store, b"one", b"two")
        await store.writer.do(lambda db: db.execute(change).fetchall())
        with pytest.raises(Refusal) as refusal:
            await store.read(BOX, sent.id)
        assert refusal.value.code is Code.STORE_DAMAGED


# -- for those who attach nothing


async def test_who_attaches_nothing_asks_for_no_attachments(tmp_path: Path) -> None:
    """Not one statement more than before there were any, in a store that has some."""
    said: list[str] = []
    async with open_store(tmp_path / "mail.db", SteppedClock()) as store:
        await opened(store)
        await store.settle(BOX, [(await attach(store, b"x")).id], _ACK, Origin("r", "ack"))
        for db in (store.writer._db, store._reader._db):
            db.set_trace_callback(said.append)
        sent = await store.accept(Submission(BOX, [BOX], Draft(("box",), "hello"), Origin("r", "1")))
        assert len((await store.inbox(BOX, Listing(10))).previews) == 1
        [claimed] = await store.claim(BOX, Wanted(), Lease(1, 100, 1000), Origin("r", "claim"), ())
        await store.read(BOX, sent.id)
        await store.settle(BOX, [claimed.handle], _ACK, Origin("r", "2"))
        for db in (store.writer._db, store._reader._db):
            db.set_trace_callback(None)
    assert len(said) > 10
    assert [each for each in said if " attachment" in each] == []


# -- a disk that is full

if sys.platform == "linux" and os.geteuid() == 0:

    @contextmanager
    def small_disk(place: Path) -> Iterator[Path]:
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)

    async def test_on_a_full_disk_a_send_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
        with small_disk(tmp_path / "small") as place:
            async with open_store(place / "mail.db", SteppedClock()) as store:
                await opened(store)
                first = await attach(store, b"first")
                free = shutil.disk_usage(place).free
                for _ in range(3):
                    with pytest.raises(Refusal) as refusal:
                        await attach(store, b"a" * 100_000, b"b" * 2_000_000)
                    assert refusal.value.code is Code.STORE_FULL
                    assert "nothing was stored" in refusal.value.problem
                assert left_in(place) == [path_of(place, b"first")]
                assert free - shutil.disk_usage(place).free < 20_000, "a directory, and the journal"
                assert len((await store.inbox(BOX, Listing(10))).previews) == 1
                again = await attach(store, b"a" * 100_000)
                assert (await store.attachment(BOX, again.id, "0"))[1] == b"a" * 100_000
                assert (await store.attachment(BOX, first.id, "0"))[1] == b"first"


# -- kill -9


@pytest.mark.soak
async def test_whenever_it_is_killed_what_was_acknowledged_has_its_attachments_and_the_rest_goes(
    tmp_path: Path,
) -> None:
    killed = 0
    for step in range(1, 100):
        directory = tmp_path / f"{step}"
        directory.mkdir()
        command = [sys.executable, "-m", "tests.engines.attacher", str(directory / "mail.db"), str(step)]
        with anyio.fail_after(DEADLINE):
            done = await anyio.run_process(command, cwd=ROOT, check=False)
        acknowledged = [int(line) for line in done.stdout.split()]
        await _is_sound(directory, acknowledged)
        if done.returncode == 0:
            assert len(acknowledged) == MESSAGES
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed += 1
    assert killed >= 12, "before the file, while it is named, before its directory is synced, between that and the send"


async def _is_sound(directory: Path, acknowledged: list[int]) -> None:
    later = SteppedClock()  # much later than what the process called now
    async with open_store(directory / "mail.db", later) as store:
        assert await store.check() == "ok"
        if await store.mailbox(BOX) is None:
            return
        said = {}
        for preview in (await store.inbox(BOX, Listing(10))).previews:
            message = preview.delivery.message
            said[int(message.body)] = message.id
            for name, expected in (("own", content(int(message.body))), ("same", b"same")):
                assert (await store.attachment(BOX, message.id, name))[1] == expected
        assert set(acknowledged) <= set(said)
        later.step(attaching.GRACE)
        await store.collect()
        named = {content(number) for number in said} | ({b"same"} if said else set())
        assert sorted(left_in(directory)) == sorted(path_of(directory, each) for each in named)


# -- many at once


async def test_large_contents_are_kept_while_others_are_served(tmp_path: Path) -> None:
    """Four times 10 MiB: meanwhile the loop never stands still for long, and sends are answered."""
    data = os.urandom(10 * MIB)
    longest, sends = 0.0, 0
    async with open_store(tmp_path / "mail.db", SystemClock()) as store:
        await opened(store)
        done = anyio.Event()

        async def attach_all() -> None:
            async with anyio.create_task_group() as tasks:
                for number in range(4):
                    tasks.start_soon(attach, store, bytes([number]) + data)
            done.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attach_all)
            while not done.is_set():
                began = time.monotonic()
                await anyio.lowlevel.checkpoint()
                longest = max(longest, time.monotonic() - began)
                await store.accept(Submission(BOX, [BOX], Draft(("box",), "hello"), Origin("r", f"{sends}")))
                sends += 1
    assert sends > 3
    assert longest < 0.5


async def test_whatever_comes_at_once_nothing_that_is_named_is_let_go(tmp_path: Path) -> None:
    """Senders of a few contents, half of whom send nothing in the end; two who go through all, without any grace."""
    contents = [bytes([number]) * 10 for number in range(3)]
    async with open_store(tmp_path / "mail.db", SystemClock()) as store:
        await opened(store)
        attaching.GRACE, before = 0, attaching.GRACE
        sent: list[tuple[str, bytes]] = []
        done = anyio.Event()

        async def send(number: int) -> None:
            for turn in range(40):
                data = contents[(number + turn) % 3]
                if turn % 2:
                    async with store.attaching() as tray:
                        await tray.keep(BytesIO(data).read, 100)
                else:
                    accepted = await attach(store, data)
                    sent.append((accepted.id, data))
                    assert (await store.attachment(BOX, accepted.id, "0"))[1] == data
                    if turn % 4:
                        await _forget(store, accepted)
                        sent.remove((accepted.id, data))

        async def collect() -> None:
            while not done.is_set():
                await store.collect()

        try:
            with anyio.fail_after(DEADLINE):
                async with anyio.create_task_group() as tasks:
                    for _ in range(2):
                        tasks.start_soon(collect)
                    try:
                        async with anyio.create_task_group() as senders:
                            for number in range(4):
                                senders.start_soon(send, number)
                    finally:
                        done.set()
        finally:
            attaching.GRACE = before
        for id_, data in sent:
            assert (await store.attachment(BOX, id_, "0"))[1] == data
        assert len(left_in(tmp_path)) <= 3


async def _forget(store: SqliteStore, accepted: Accepted) -> None:
    seq = store._codec.read(accepted.id).seq
    await store.writer.do(lambda db: db.execute("DELETE FROM attachment WHERE message = ?", (seq,)).fetchall())


# -- copies of the store


async def test_the_store_that_a_restore_sets_aside_keeps_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "mail.db"
    clock = SteppedClock()
    async with open_store(path, clock) as store:
        await opened(store)
        await attach(store, b"before")
        await store.backup(tmp_path / "backup.db", lambda *_: None)
        since = await attach(store, b"since")
    with restore.taken_in(tmp_path / "backup.db", path, lambda *_: None) as taken:
        placed = restore.put_in_place(taken, path, "then")
    assert placed.aside is not None
    assert placed.missing == 0
    clock.step(attaching.GRACE)
    async with open_store(path, clock) as store:
        assert await store.collect() == 1
        with pytest.raises(Refusal):
            await store.attachment(BOX, since.id, "0")
    with restore.taken_in(placed.aside, path, lambda *_: None) as taken:
        assert restore.put_in_place(taken, path, "again").missing == 0
    async with open_store(path, clock) as store:
        assert (await store.attachment(BOX, since.id, "0"))[1] == b"since"


async def test_a_restore_makes_sure_of_contents_and_says_how_many_are_lost(tmp_path: Path) -> None:
    path, file = tmp_path / "mail.db", tmp_path / "backup.db"
    async with open_store(path, SteppedClock()) as store:
        await opened(store)
        sent = await attach(store, b"good", b"bad", b"gone")
        path_of(tmp_path, b"gone").unlink()
        await store.backup(file, lambda *_: None)
    shutil.rmtree(tmp_path / "mail.db.attachments")
    with sqlite3.connect(file) as db:
        db.execute("UPDATE attachment_content SET bytes = x'00' WHERE bytes = x'626164'")
    db.close()
    with restore.taken_in(file, path, lambda *_: None) as taken:
        assert restore.put_in_place(taken, path, "then").missing == 2
    async with open_store(path, SteppedClock()) as store:
        assert (await store.attachment(BOX, sent.id, "0"))[1] == b"good"
        for name in ("1", "2"):
            with pytest.raises(Refusal, match="is missing"):
                await store.attachment(BOX, sent.id, name)


async def test_a_backup_that_somebody_puts_in_place_himself_has_its_contents(tmp_path: Path) -> None:
    file, there = tmp_path / "backup.db", tmp_path / "there"
    async with open_store(tmp_path / "mail.db", SteppedClock()) as store:
        await opened(store)
        sent = await attach(store, b"x" * MIB)
        await store.backup(file, lambda *_: None)
    there.mkdir()
    shutil.copy(file, there / "mail.db")
    async with open_store(there / "mail.db", SteppedClock()) as store:
        assert (await store.attachment(BOX, sent.id, "0"))[1] == b"x" * MIB
        assert await store.check() == "ok"
    assert (there / "mail.db").stat().st_size < MIB // 2, "not twice"
    assert file.stat().st_size > MIB


async def test_a_store_that_was_copied_by_hand_is_restored_with_its_contents(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    async with open_store(old / "mail.db", SteppedClock()) as store:
        await opened(store)
        sent = await attach(store, b"x")
    with restore.taken_in(old / "mail.db", new / "mail.db", lambda *_: None) as taken:
        assert restore.put_in_place(taken, new / "mail.db", "then").missing == 0
    async with open_store(new / "mail.db", SteppedClock()) as store:
        assert (await store.attachment(BOX, sent.id, "0"))[1] == b"x"


async def test_while_a_backup_is_under_way_nothing_is_let_go(tmp_path: Path) -> None:
    clock = SteppedClock()
    began, forgotten = anyio.Event(), threading.Event()
    async with open_store(tmp_path / "mail.db", clock) as store:
        await opened(store)
        sent = await attach(store, b"x")
        clock.step(attaching.GRACE)

        def told(_done: int, _of: int) -> None:
            anyio.from_thread.run_sync(began.set, token=loop)
            assert forgotten.wait(DEADLINE)

        loop = anyio.lowlevel.current_token()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.backup, tmp_path / "backup.db", told)
            await began.wait()
            await _forget(store, sent)
            assert await store.collect() == 0
            forgotten.set()
        assert await store.collect() == 1
    with closing(sqlite3.connect(tmp_path / "backup.db")) as db:
        assert db.execute("SELECT bytes FROM attachment_content").fetchall() == [(b"x",)]


def test_a_content_that_was_kept_again_since_it_was_found_stays(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "a")

    def keep() -> str:
        kept = blobs.keep(BytesIO(b"x").read, 10, 0)
        assert kept is not None
        return kept.sha256

    first = blobs.let_go(keep())
    held = keep()
    assert first is not None
    assert not blobs.remove(first), "somebody holds it"
    assert [list(each) for each in blobs.slices()] == [[]]
    second = blobs.let_go(held)
    assert second is not None
    assert not blobs.remove(first), "somebody may have named it"
    assert blobs.remove(second)
    assert not blobs.remove(second)
