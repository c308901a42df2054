"""What SQLite says when it cannot, in our words."""

from __future__ import annotations

import sqlite3

from mcp_mailbox.errors import Code, Refusal

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_NO_ROOM = {sqlite3.SQLITE_IOERR_SHMSIZE}
"""How SQLite says that there is no room for the file that a store's connections share (-shm)."""


def translate(error: BaseException) -> BaseException:
    """Return the Refusal that `error` amounts to; a bug stays what it is."""
    if not isinstance(error, sqlite3.Error) or isinstance(error, sqlite3.ProgrammingError | sqlite3.IntegrityError):
        return error
    # Extended codes carry the primary one in the low byte (https://sqlite.org/rescode.html).
    code = getattr(error, "sqlite_errorcode", 0)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code in _NO_ROOM:
        return Refusal(
            Code.STORE_FULL,
            "The disk is full; nothing was stored.",
            "Free some space, then do the same again.",
        )
    if primary in _DAMAGED or "decode to UTF-8" in str(error):  # Python's own words, without a code of SQLite's
        return Refusal(
            Code.STORE_DAMAGED,
            f"The store's file is damaged ({error}).",
            "Run `mcp-mailbox stop`, then `mcp-mailbox restore` with a backup, or move it and its -wal and -shm away.",
        )
    return Refusal(
        Code.STORE_FAILED,
        f"The store did not answer ({error}); whether it happened is unknown.",
        "Do the same again with the same key.",
    )
