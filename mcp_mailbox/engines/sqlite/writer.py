"""The one writer: many verbs, one transaction, one fsync.

Each job is a function of the connection that first checks, then writes; it raises Refusal only before its first
write, so that jobs need no savepoints. What jobs mean is not known here.

aiosqlite has no public way to run more than a statement in one hop between threads, and the hops, not SQLite, are the
cost of a transaction; so the writer has a thread of its own and aiosqlite serves the readers.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import anyio
import anyio.to_thread

from mcp_mailbox.engines.sqlite import failures
from mcp_mailbox.errors import Code, Refusal

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

logger = logging.getLogger(__name__)

_BATCH = 256
_LINGER = 0.05
"""Seconds that work which nobody waits for may wait for company."""


class _Job(Generic[T]):
    """One verb's work and its outcome."""

    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Work[T]) -> None:
        self.work = work
        self.done = anyio.Event()
        self.result: T | None = None
        self.error: Exception | None = None

    def run(self, db: sqlite3.Connection) -> None:
        before = db.total_changes
        try:
            self.result = self.work(db)
        except Refusal as refusal:
            if db.total_changes != before:
                raise RuntimeError("a verb refused after it had written") from refusal
            self.error = refusal


class Writer:
    """Owns the writing connection. `run` must run in a task for as long as verbs are called."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._queue: deque[_Job[Any]] = deque()
        self._wake = anyio.Event()
        self._thread = anyio.CapacityLimiter(1)
        self._closed = False

    async def do(self, work: Work[T]) -> T:
        """Run it in the next transaction; return once that is on disk.

        Not cancellable: what is handed in will happen, and the caller learns what did.
        Raises what the work raised, or Refusal(STORE_FULL | STORE_FAILED | STORE_DAMAGED).
        """
        if self._closed:
            raise Refusal(Code.STOPPING, "The post office is stopping.", "Try again: it starts on demand.")
        job = _Job(work)
        self._queue.append(job)
        self._wake.set()
        with anyio.CancelScope(shield=True):
            await job.done.wait()
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]  # no error, so the work has returned

    def later(self, work: Work[None]) -> None:
        """Run it with the next transaction, or soon; nobody waits for it."""
        self._queue.append(_Job(work))

    async def run(self) -> None:
        """Commit batch after batch, until `close`."""
        try:
            while not (self._closed and not self._queue):
                await self._company()
                batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
                if self._queue:
                    self._wake.set()
                if batch:
                    await self._commit(batch)
        finally:
            self.close()
            for job in self._queue:
                job.error = Refusal(Code.STOPPING, "The post office is stopping.", "Try again: it starts on demand.")
                job.done.set()
            self._queue.clear()

    def close(self) -> None:
        """Take no more work; `run` ends when what was handed in is done."""
        self._closed = True
        self._wake.set()

    async def _company(self) -> None:
        if not self._wake.is_set():
            with anyio.move_on_after(_LINGER if self._queue else None):
                await self._wake.wait()
        self._wake = anyio.Event()

    async def _commit(self, batch: list[_Job[Any]]) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._transact, batch, limiter=self._thread)
        for job in batch:
            job.done.set()

    def _transact(self, batch: list[_Job[Any]]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for job in batch:
                job.run(self._db)
            self._db.execute("COMMIT")
        except Exception as error:
            self._roll_back()
            if len(batch) > 1:
                # One of them is to blame: alone, each gets what it deserves.
                for job in batch:
                    job.error = job.result = None
                    self._transact([job])
            else:
                batch[0].error = failures.translate(error)
                if not isinstance(error, Refusal):
                    logger.error("a transaction was rolled back", exc_info=error)  # noqa: TRY400 - outside the handler

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                logger.exception("rolling back failed")
