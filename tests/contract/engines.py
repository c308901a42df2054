"""The engines that the contract is held against. A new engine is a class here and a line in `ENGINES`.

An engine in a test is a place where a store can be opened, closed, opened again, and left as a crash leaves it.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

from mcp_mailbox.budgets import Limits
from mcp_mailbox.engines import sqlite
from mcp_mailbox.engines.sqlite import restore
from mcp_mailbox.store import Clock, Store

ATTACHED = "store.db.attachments"


class Engine(Protocol):
    """`store` is valid from `open` on, and another one after `reopen` and `crash`."""

    store: Store
    limits: Limits
    """The loop guard's, from the next `open` on."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def crash(self) -> None:
        """Go on with what stands on the disk now; nobody tells the store that was open."""
        ...

    async def restore(self, file: Path, *, lost: bool = False) -> None:
        """Go on with a backup in the place of the store that is closed, or `lost` with all that it knew."""
        ...

    def size(self) -> int:
        """Bytes on the disk of a store that is closed."""

    async def forget_attachments(self, id_: str) -> None:
        """Drop what a message has attached, as the removal of the message does."""
        ...


class SqliteEngine:
    """A file; a crash is a copy of what had been written when nobody closed it."""

    store: Store

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._clock = clock
        self.limits = Limits()
        self._stack = AsyncExitStack()
        self._directory = directory
        self._directory.mkdir()

    async def open(self) -> None:
        opening = sqlite.open_store(self._directory / "store.db", self._clock, self.limits)
        self.store = await self._stack.enter_async_context(opening)

    async def close(self) -> None:
        await self._stack.aclose()

    async def crash(self) -> None:
        after = self._directory.with_name(self._directory.name + "-crashed")
        after.mkdir()
        for name in ("store.db", "store.db-wal"):
            shutil.copy(self._directory / name, after / name)
        if (self._directory / ATTACHED).exists():
            shutil.copytree(self._directory / ATTACHED, after / ATTACHED)
        self._directory = after
        await self.open()

    async def restore(self, file: Path, *, lost: bool = False) -> None:
        if lost:
            (self._directory / "store.db").unlink()
            shutil.rmtree(self._directory / ATTACHED, ignore_errors=True)
        with restore.taken_in(file, self._directory / "store.db", lambda *_: None) as copy:
            restore.put_in_place(copy, self._directory / "store.db", "now")
        await self.open()

    def size(self) -> int:
        return sum(file.stat().st_size for file in self._directory.iterdir())

    async def forget_attachments(self, id_: str) -> None:
        store = self.store
        assert isinstance(store, sqlite.SqliteStore)
        seq = store._codec.read(id_).seq
        await store.writer.do(lambda db: _detach(db, seq))


def _detach(db: sqlite3.Connection, seq: int) -> None:
    """Do to what a message has attached what `apply.forget_message` does, and leave the message, damaged as it is."""
    db.execute(
        "UPDATE space_size SET bytes = bytes - ifnull((SELECT sum(size) FROM attachment WHERE message = ?1), 0)"
        " WHERE space = (SELECT b.space FROM message m JOIN mailbox b ON b.id = m.sender WHERE m.seq = ?1)",
        (seq,),
    )
    db.execute("DELETE FROM attachment WHERE message = ?", (seq,))


ENGINES: dict[str, Callable[[Path, Clock], Engine]] = {"sqlite": SqliteEngine}
