"""A backup put in the place of the store, while nobody has it open. Of mail only numbers are known here.

It is put there by one rename. Before it the old store is whole, after it the new one is; a journal of the one never
lies beside the other, for SQLite would play it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mcp_mailbox.engines.sqlite import failures, packing
from mcp_mailbox.engines.sqlite.files import NO_LINKS, is_ours, problem, unwritable
from mcp_mailbox.engines.sqlite.index import FILE
from mcp_mailbox.engines.sqlite.schema import APPLICATION, beside, number, prepare, sync_directory
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.files import open_private
from mcp_mailbox.store import Told
from mcp_mailbox.view import apply, derived, query
from mcp_mailbox.view.migrations import VERSION

_BLOCK = 1 << 20
_NUMBERS = (1 << 30, 1 << 34)
"""Message numbers that a restored store never uses: more than any store gives out between a backup and its loss, and
some by chance, because the same backup may be restored again when that store is lost too. Ids have 11 characters."""
_GENERATIONS = (1 << 20, 1 << 24)
"""Generations likewise, for each delivery that was not settled when the backup was made."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that was copied and made sure of: where it is, and how many of its attachments are lost."""

    path: Path
    missing: int


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of a restore: where the store before it is kept, whether its tokens were, how much is missing."""

    aside: Path | None
    tokens_kept: bool
    missing: int


@contextlib.contextmanager
def taken_in(file: Path, store: Path, told: Told) -> Iterator[Taken]:
    """Copy a backup beside the store and make sure of it; yield it, and remove it unless it was put in place.

    Contents of its attachments are put where the store has its own; those that nobody names go away by themselves.

    Raises Refusal(BAD_ARGUMENT) for what is no backup, (STORE_NEWER), (STORE_DAMAGED), (STORE_FULL).
    """
    copy = beside(store, ".restoring")
    try:
        descriptor = open_private(str(copy), os.O_RDWR)
    except OSError as error:
        raise unwritable(copy, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refusal(Code.STORE_FAILED, "Another restore is under way.", "Wait for it, then look.") from None
        try:
            _read_in(file, copy, descriptor, told)
            _make_sure(file, copy, told)
            yield Taken(copy, _unpack(file, copy, store))
        finally:
            if _is_same(copy, descriptor):
                for suffix in ("", "-wal", "-shm"):
                    beside(copy, suffix).unlink(missing_ok=True)
    finally:
        os.close(descriptor)  # last: closing any descriptor of a file drops the locks that SQLite has on it


def _read_in(file: Path, copy: Path, descriptor: int, told: Told) -> None:
    """Copy the file, and the journal beside it: a store that nobody closed has its last commits there."""
    journal = beside(copy, "-wal")
    try:
        for leftover in (journal, beside(copy, "-shm")):
            leftover.unlink(missing_ok=True)
        os.ftruncate(descriptor, 0)
        _pour(file, descriptor, told)
        if beside(file, "-wal").exists():
            with journal.open("xb", buffering=0) as written:
                os.fchmod(written.fileno(), 0o600)
                _pour(beside(file, "-wal"), written.fileno(), told)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise unwritable(copy, error) from error
        raise Refusal(Code.BAD_ARGUMENT, f"{file} cannot be read: {error.strerror}.", "Name a backup.") from error


def _pour(file: Path, descriptor: int, told: Told) -> None:
    with file.open("rb", buffering=0) as source:
        total = os.fstat(source.fileno()).st_size
        done = 0
        while block := source.read(_BLOCK):
            done += len(block)
            told(done, total)
            while block:
                block = block[os.write(descriptor, block) :]
    os.fsync(descriptor)


def _make_sure(file: Path, copy: Path, told: Told) -> None:
    """Check the copy, and bring it to today's version: what does not succeed has touched nothing."""
    if not is_ours(copy):
        raise Refusal(Code.BAD_ARGUMENT, f"{file} is no backup of a store.", "Name what `mcp-mailbox backup` made.")
    try:
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as db:
            version = number(db, "user_version")
            if version > VERSION:
                raise Refusal(
                    Code.STORE_NEWER,
                    f"The backup {file} has schema {version}; this program knows {VERSION}.",
                    "Upgrade mcp-mailbox, then restore it.",
                )
            found = problem(db, partial(told, 1, 1))
            if found is None:
                db.execute("PRAGMA journal_mode = WAL")
        if found is None:
            with contextlib.closing(prepare(copy)) as db:
                db.execute("BEGIN IMMEDIATE")
                derived.rebuild(db)
                db.execute("COMMIT")
    except sqlite3.Error as error:
        found = str(error)
    if found is not None:
        raise Refusal(
            Code.STORE_DAMAGED,
            f"The backup {file} is damaged ({found}).",
            "Restore another one; the store is as it was.",
        )


def _unpack(file: Path, copy: Path, store: Path) -> int:
    try:
        return packing.unpack(file, copy, store, time.time_ns() // 1_000_000)
    except sqlite3.Error as error:
        raise failures.translate(error) from error
    except OSError as error:
        raise unwritable(store, error) from error


def put_in_place(taken: Taken, store: Path, moment: str) -> Placed:
    """Make the copy the store; keep the one that is there under another name, which has `moment` in it.

    To be called with the post office's lock. Raises Refusal(STORE_FAILED) when another program has the store open.
    """
    copy = taken.path
    try:
        present = _close_up(store) if store.exists() else None
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous = FULL")
            tokens_kept = _go_on(db, present)
        aside = _set_aside(store, moment) if store.exists() else None
        # The index may lack what was removed since the backup and is there again; it is made anew.
        for suffix in ("", "-wal", "-shm"):
            beside(store.with_name(FILE), suffix).unlink(missing_ok=True)
        if aside is not None:
            packing.set_aside(store, aside)
        copy.rename(store)
        sync_directory(store.parent)
    except sqlite3.Error as error:
        raise failures.translate(error) from error
    except OSError as error:
        raise unwritable(store, error) from error
    return Placed(aside, tokens_kept, taken.missing)


@dataclass(frozen=True, slots=True)
class _Known:
    """What a store has given out, and the one in its place must not give out again."""

    secret: bytes
    time: int
    seq: int
    generation: int
    tokens: Sequence[sqlite3.Row]
    invitations: Sequence[sqlite3.Row]
    reservations: Sequence[sqlite3.Row]


def _known(db: sqlite3.Connection) -> _Known:
    return _Known(
        _meta(db, "secret"),
        _meta(db, "time"),
        db.execute(query.LAST_NUMBER).fetchone()[0],
        _meta(db, "restored_generation") or 0,
        db.execute(query.TOKENS_WHOLE).fetchall(),
        db.execute(query.INVITATIONS_WHOLE).fetchall(),
        db.execute(query.RESERVATIONS_WHOLE).fetchall(),
    )


def _meta(db: sqlite3.Connection, name: str) -> Any:
    row = db.execute(query.META, (name,)).fetchone()
    return row[0] if row else None


def _close_up(store: Path) -> _Known | None:
    """Write its journal into it, so that the file is all of it; None when it is damaged or of another version.

    Raises Refusal(STORE_FAILED) when another program has it open.
    """
    known = None
    try:
        with contextlib.closing(sqlite3.connect(store, isolation_level=None, timeout=0)) as db:
            db.row_factory = sqlite3.Row
            if number(db, "application_id") == APPLICATION and number(db, "user_version") == VERSION:
                known = _known(db)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise _in_use(store) from error
        return None
    if beside(store, "-wal").exists():  # SQLite removes it with the last connection, unless it is somebody else's
        raise _in_use(store)
    return known


def _go_on(db: sqlite3.Connection, present: _Known | None) -> bool:
    """Use no number, no generation and no moment again that may have been used since the backup.

    What was handed out before the backup stays good, so the ids' secret must stay, and so must the numbers.
    Tokens are not mail: where the store that is replaced can be read its tokens stay, or one that was revoked since
    the backup would be good again; so do invitations, or one that was redeemed since could be redeemed again. Nor are
    reservations, which are of files and not of what was said: those who hold them go on holding them. Return whether
    they did.
    """
    own = _known(db)
    kept = present is not None and present.secret == own.secret
    line = [own, present] if present is not None and kept else [own]
    generation = max(db.execute(query.LAST_GENERATION).fetchone()[0] or 0, *(each.generation for each in line))
    values = {
        "time": max(own.time, present.time if present is not None else 0),
        "restored_seq": own.seq,
        "restored_generation": generation + _skip(*_GENERATIONS),
    }
    db.execute("BEGIN IMMEDIATE")
    apply.go_on(db, max(each.seq for each in line) + _skip(*_NUMBERS), values)
    if present is not None and kept:
        apply.replace_tokens(db, present.tokens)
        apply.replace_invitations(db, present.invitations)
        apply.replace_reservations(db, present.reservations)
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return kept


def _skip(least: int, chance: int) -> int:
    return least + secrets.randbelow(chance)


def _set_aside(store: Path, moment: str) -> Path:
    """Give the file a second name and leave it the first: a kill between this and the rename loses nothing."""
    aside = beside(store, f".before-restore-{moment}")
    count = 1
    while os.path.lexists(aside):
        count += 1
        aside = beside(store, f".before-restore-{moment}-{count}")
    for suffix in ("", "-wal"):  # the journal only of a store that is damaged
        file = beside(store, suffix)
        if file.exists():
            _second_name(file, beside(aside, suffix))
    sync_directory(store.parent)
    for suffix in ("-wal", "-shm"):
        beside(store, suffix).unlink(missing_ok=True)
    sync_directory(store.parent)
    return aside


def _second_name(file: Path, name: Path) -> None:
    try:
        name.hardlink_to(file)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(file, name)
        with name.open("rb") as copied:
            os.fchmod(copied.fileno(), 0o600)
            os.fsync(copied.fileno())


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _in_use(store: Path) -> Refusal:
    return Refusal(Code.STORE_FAILED, f"Another program has {store} open.", "Close it, then restore again.")
