"""What copies of the store share: whose a file is, what SQLite finds wrong with it, why it cannot be written."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from pathlib import Path

from mcp_mailbox.engines.sqlite.schema import APPLICATION
from mcp_mailbox.errors import Code, Refusal

NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
"""What file systems say that give no file a second name."""
_CHECK_EVERY = 100_000
"""Steps of SQLite's machine after which a check can be ended."""


class Ended(Exception):  # noqa: N818 - somebody wanted it
    """Nobody waits for the copy any more."""


def is_ours(path: Path) -> bool:
    """Tell from its head (https://sqlite.org/fileformat.html) whether a file is a store or a backup of one."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError:
        return False
    return head[:16] == b"SQLite format 3\0" and head[68:72] == APPLICATION.to_bytes(4, "big")


def problem(db: sqlite3.Connection, told: Callable[[], None]) -> str | None:
    """Return what SQLite finds wrong, None for nothing; `told` is called now and then, and may raise."""

    def interrupt() -> int:
        try:
            told()
        except Ended:
            return 1
        return 0

    db.set_progress_handler(interrupt, _CHECK_EVERY)
    try:
        found = "; ".join(row[0] for row in db.execute("PRAGMA integrity_check(3)"))
    except sqlite3.DatabaseError as error:
        told()  # what has been ended was no fault of the file
        return str(error)
    finally:
        db.set_progress_handler(None, 0)
    return None if found == "ok" else found


def unwritable(target: Path, error: OSError) -> Refusal:
    """Return the refusal of a place where nothing can be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return full(target)
    return Refusal(
        Code.BAD_ARGUMENT,
        f"{target} cannot be written: {error.strerror}.",
        "Choose a directory that is there and that you may write.",
    )


def full(target: Path) -> Refusal:
    """Return the refusal of a disk without room."""
    return Refusal(
        Code.STORE_FULL,
        f"The disk of {target} is full; nothing was changed there.",
        "Free some space, or choose another place.",
    )
