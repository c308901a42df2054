"""The store's file: made, recognised, refused.

The schema has a version from the first commit on (`PRAGMA user_version`); a newer store is never opened by an older
program, and a file that is not ours is never touched.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from importlib.resources import files
from pathlib import Path

from mcp_mailbox import addresses
from mcp_mailbox.engines.sqlite import failures
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.view.migrations import MIGRATIONS, VERSION, terms_of

APPLICATION = 0x4D424F58  # "MBOX"
_PAGES = 50
"""Pages that are given back at once."""


class Place:
    """Where the open file was found. A person may remove or replace it meanwhile; what is open then has no name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found = self._file()

    @property
    def kept(self) -> bool:
        """Whether the name still leads to the file that is open."""
        return self._file() == self._found

    def check(self) -> None:
        """Raise Refusal(STORE_FAILED) when it does not."""
        if not self.kept:
            raise Refusal(
                Code.STORE_FAILED,
                f"The store's file {self.path} was removed or replaced; nothing was stored.",
                "Do the same again: the post office starts anew with what is there now.",
            )

    def _file(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def prepare(path: Path) -> sqlite3.Connection:
    """Open the file for writing, or make it (mode 0600).

    Raises Refusal(STORE_DAMAGED | STORE_NEWER | STORE_FULL | STORE_FAILED).
    """
    try:
        return _open(path)
    except sqlite3.Error as error:
        raise failures.translate(error) from error
    except OSError as error:
        raise Refusal(
            Code.STORE_FAILED,
            f"The store's file {path} cannot be opened: {error.strerror}.",
            "Check its permissions.",
        ) from error


def _open(path: Path) -> sqlite3.Connection:
    if not path.exists():
        _create(path)
    elif path.stat().st_size == 0:
        raise _damaged(path, "it is empty")
    db = _connect(path)
    try:
        _check_kind(db, path)
        _migrate(db)
        db.execute("PRAGMA cache_size = -16000")
        db.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        db.close()
        raise
    return db


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    # FULL: a commit has been synced when it returns (https://sqlite.org/pragma.html#pragma_synchronous).
    db.execute("PRAGMA synchronous = FULL")
    return db


def _check_kind(db: sqlite3.Connection, path: Path) -> None:
    version, application = number(db, "user_version"), number(db, "application_id")
    if application != APPLICATION:
        raise _damaged(path, "it is another program's database")
    if version > VERSION:
        raise Refusal(
            Code.STORE_NEWER,
            f"The store {path} has schema {version}; this program knows {VERSION}.",
            "Upgrade mcp-mailbox in this environment, or register the newer one in the host.",
        )


def _migrate(db: sqlite3.Connection) -> None:
    """Bring an older store to today's version, all steps in one transaction: a kill leaves it as it was."""
    version = number(db, "user_version")
    if version < VERSION:
        db.create_function("terms_of", 3, terms_of, deterministic=True)
        db.create_function("written_skeleton", 1, addresses.written_skeleton, deterministic=True)
        steps = "".join(MIGRATIONS[step] for step in range(version + 1, VERSION + 1))
        try:
            db.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {VERSION}; COMMIT;")
        except BaseException:
            if db.in_transaction:
                db.rollback()
            raise


def _create(path: Path) -> None:
    """Make it beside its place and move it there whole: a kill leaves no half store, and an empty file is damage."""
    wal = beside(path, "-wal")
    if wal.exists() and wal.stat().st_size:
        # SQLite would play the journal of a file that is gone into the new one.
        raise _damaged(path, f"it is gone, but its journal {wal.name} is there")
    unfinished = beside(path, ".new")
    for leftover in (unfinished, beside(unfinished, "-wal"), beside(unfinished, "-shm")):
        leftover.unlink(missing_ok=True)
    with contextlib.closing(_connect(unfinished)) as db:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the file has a page
        db.execute("PRAGMA journal_mode = WAL")
        schema = files("mcp_mailbox.view").joinpath("schema.sql").read_text(encoding="utf-8")
        db.executescript(
            f"BEGIN; {schema}\n"
            "INSERT INTO meta (name, value) VALUES ('secret', randomblob(16)), ('time', 0);\n"
            f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
        )
    unfinished.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make what was renamed there durable."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def beside(path: Path, suffix: str) -> Path:
    """Return the file whose name is longer by that."""
    return path.with_name(path.name + suffix)


def number(db: sqlite3.Connection, pragma: str) -> int:
    """Return what a pragma that is a number says."""
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])


def give_back_pages(db: sqlite3.Connection) -> bool:
    """Make the file shorter by some of the pages that nothing needs; return whether there are more.

    The statement does its work a page a step, and Python's driver takes one step of what returns no columns.
    """
    free = number(db, "freelist_count")
    for _ in range(min(free, _PAGES)):
        db.execute("PRAGMA incremental_vacuum(1)")
    return 0 < number(db, "freelist_count") < free


def _damaged(path: Path, why: str) -> Refusal:
    return Refusal(
        Code.STORE_DAMAGED,
        f"The store's file {path} is damaged: {why}.",
        "Run `mcp-mailbox restore` with a backup, or move it and its -wal and -shm away to start with an empty store.",
    )
