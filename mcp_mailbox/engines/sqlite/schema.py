"""The store's file: made, recognised, refused.

The schema has a version from the first commit on (`PRAGMA user_version`); a newer store is never opened by an older
program, and a file that is not ours is never touched.
"""

from __future__ import annotations

import os
import sqlite3
from importlib.resources import files
from pathlib import Path

from mcp_mailbox.engines.sqlite import failures
from mcp_mailbox.errors import Code, Refusal

VERSION = 1
APPLICATION = 0x4D424F58  # "MBOX"
_HEADER = b"SQLite format 3\x00"


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
    _check_header(path)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.row_factory = sqlite3.Row
        _check_kind(db, path)
        db.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit has been synced when it returns (https://sqlite.org/pragma.html#pragma_synchronous).
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -16000")
        db.execute("PRAGMA temp_store = MEMORY")
        if _number(db, "user_version") == 0:
            _create(db)
    except BaseException:
        db.close()
        raise
    return db


def _check_header(path: Path) -> None:
    """Refuse a file that SQLite would not know, before SQLite makes a journal beside it."""
    try:
        with path.open("rb") as file:
            header = file.read(len(_HEADER))
    except FileNotFoundError:
        return
    if header and header != _HEADER:
        raise _damaged(path, "it is not a database")


def _check_kind(db: sqlite3.Connection, path: Path) -> None:
    version, application = _number(db, "user_version"), _number(db, "application_id")
    empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if empty and not version and not application:
        return
    if application != APPLICATION:
        raise _damaged(path, "it is another program's database")
    if version > VERSION:
        raise Refusal(
            Code.STORE_NEWER,
            f"The store {path} has schema {version}; this program knows {VERSION}.",
            "Upgrade mcp-mailbox in this environment, or register the newer one in the host.",
        )


def _create(db: sqlite3.Connection) -> None:
    schema = files("mcp_mailbox.view").joinpath("schema.sql").read_text(encoding="utf-8")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # One transaction: a kill in the middle leaves an empty file, not half a schema.
    db.executescript(
        f"BEGIN IMMEDIATE; {schema}\n"
        "INSERT INTO meta (name, value) VALUES ('secret', randomblob(16));\n"
        f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
    )


def _number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])


def _damaged(path: Path, why: str) -> Refusal:
    return Refusal(
        Code.STORE_DAMAGED,
        f"The store's file {path} is damaged: {why}.",
        "Restore a backup, or move it aside to start with an empty store.",
    )
