"""Contents of attachments in a copy of the store, so that a backup is one file; and out of it again.

A backup has one table more. The contents of a store that was set aside, or copied by hand, lie beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from mcp_mailbox.engines.sqlite.blobs import BLOCK, Blobs, Gone, directory_of
from mcp_mailbox.engines.sqlite.files import NO_LINKS
from mcp_mailbox.engines.sqlite.schema import sync_directory
from mcp_mailbox.store import Source
from mcp_mailbox.view import query

logger = logging.getLogger(__name__)

_TABLE = "CREATE TABLE attachment_content (sha256 BLOB PRIMARY KEY, bytes BLOB NOT NULL)"
_IS_PACKED = "SELECT 1 FROM sqlite_master WHERE name = 'attachment_content'"
_PLACE = "SELECT rowid FROM attachment_content WHERE sha256 = ?"


def pack(store: Path, copy: sqlite3.Connection, rest: Callable[[], None]) -> None:
    """Put into a copy what its messages have attached; `rest` is called after each block, and may raise.

    What is missing or damaged is left out, for a backup without it is better than none. It is said in the log.
    """
    named = [row[0].hex() for row in copy.execute(query.ALL_ATTACHED)]
    if not named:
        return
    copy.execute(_TABLE)
    blobs = Blobs(directory_of(store))
    for sha256 in named:
        try:
            content = blobs.read(sha256)
        except Gone as gone:
            logger.warning("the attachment %s %s, and is in no backup that is made now", sha256, gone)
            continue
        row = copy.execute(
            "INSERT INTO attachment_content VALUES (?, zeroblob(?))", (bytes.fromhex(sha256), len(content))
        ).lastrowid
        assert row is not None  # noqa: S101 - an INSERT has a row
        with copy.blobopen("attachment_content", "bytes", row) as target:
            for start in range(0, len(content), BLOCK):
                target.write(content[start : start + BLOCK])
                rest()


def unpack(file: Path, copy: Path, store: Path, now: int) -> int:
    """Put the contents that a backup's messages name where those of the store lie; return how many could not be.

    `copy` is the backup, without its contents once this is done; beside `file`, where it was, there may be some too.
    What is there and sound stays. Until a store names them, nobody does.
    """
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as db:
        named = [row[0].hex() for row in db.execute(query.ALL_ATTACHED)]
        packed = db.execute(_IS_PACKED).fetchone() is not None
        target, lying = Blobs(directory_of(store)), Blobs(directory_of(file))
        missing = 0
        for sha256 in named:
            missing += not (
                _is_sound(target, sha256)
                or (packed and _put_packed(target, db, sha256, now))
                or _put_lying(target, lying, sha256, now)
            )
        if packed:
            db.execute("DROP TABLE attachment_content")
            db.executescript("PRAGMA incremental_vacuum")  # of which `execute` does one page
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return missing


def unpack_here(db: sqlite3.Connection, store: Path, now: int) -> None:
    """Do so with a backup that somebody has put in the store's place himself."""
    if db.execute(_IS_PACKED).fetchone() is not None:
        unpack(store, store, store, now)


def set_aside(store: Path, aside: Path) -> None:
    """Give the contents of a store a second name beside its own, for when the first one's are another's."""
    there, kept = Blobs(directory_of(store)), Blobs(directory_of(aside))
    for found in (each for some in there.slices() for each in some):
        place = kept.path(found.sha256)
        if place.exists():
            continue
        for directory in (kept.directory, place.parent):
            directory.mkdir(mode=0o700, exist_ok=True)
        try:
            place.hardlink_to(there.path(found.sha256))
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            _put_lying(kept, there, found.sha256, found.kept_at)
    if kept.directory.exists():
        for directory in (*kept.directory.iterdir(), kept.directory):
            sync_directory(directory)


def _is_sound(blobs: Blobs, sha256: str) -> bool:
    try:
        blobs.read(sha256)
    except Gone:
        return False
    return True


def _put_packed(target: Blobs, db: sqlite3.Connection, sha256: str, now: int) -> bool:
    row = db.execute(_PLACE, (bytes.fromhex(sha256),)).fetchone()
    if row is None:
        return False
    with db.blobopen("attachment_content", "bytes", row[0], readonly=True) as packed:
        return _put(target, packed.read, sha256, now)


def _put_lying(target: Blobs, lying: Blobs, sha256: str, now: int) -> bool:
    try:
        with lying.path(sha256).open("rb") as file:
            return _put(target, file.read, sha256, now)
    except FileNotFoundError:
        return False


def _put(target: Blobs, source: Source, sha256: str, now: int) -> bool:
    """Write a content if it is what it should be. Looked at before it is written: what is not named lies nowhere."""
    content = source(-1)
    if hashlib.sha256(content).hexdigest() != sha256:
        return False
    blocks = _blocks(content)
    target.keep(lambda _: next(blocks, b""), len(content), now)
    return True


def _blocks(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), BLOCK):
        yield content[start : start + BLOCK]
