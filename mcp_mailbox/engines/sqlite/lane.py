"""A lane: one connection whose thread does whole verbs, in the order in which they were handed in.

The thread is aiosqlite's. Its public methods take one statement to the thread and back, and those hops, not SQLite,
are what a transaction costs (docs/decisions); so a lane hands in all that has queued up as one call of `_execute`,
which every public method is made of. What a verb does is not known here.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import aiosqlite
import anyio

from mcp_mailbox.errors import Code, Refusal

T = TypeVar("T")

logger = logging.getLogger(__name__)

_LINGER = 0.05
"""Seconds that work which nobody waits for may wait for company."""
_CHUNK = 64
"""Rows that aiosqlite's cursors fetch at once; lanes use none."""


class Job(Generic[T]):
    """One verb's work on the connection, and its outcome: `result`, or `error`."""

    __slots__ = ("answer", "error", "result", "then", "work")

    def __init__(
        self,
        work: Callable[[sqlite3.Connection], T],
        then: Callable[[T], None] | None,
        answer: asyncio.Future[T] | None,
    ) -> None:
        self.work = work
        self.then = then
        self.answer = answer
        self.result: T | None = None
        self.error: BaseException | None = None

    def finish(self) -> None:
        """Tell the world: first `then`, and whatever that does, who waits."""
        try:
            if self.then is not None and self.error is None:
                self.then(self.result)  # type: ignore[arg-type]  # no error, so the work has returned
        finally:
            self._wake()

    def _wake(self) -> None:
        if self.answer is None or self.answer.done():
            return
        if isinstance(self.error, StopIteration):  # no future takes one
            self.answer.set_exception(RuntimeError("the work ran out of something"))
        elif self.error is not None:
            self.answer.set_exception(self.error)
        else:
            self.answer.set_result(self.result)  # type: ignore[arg-type]  # as above


class Lane:
    """Hands batches of at most `most` jobs to `run` in the connection's thread; `run` sets each one's outcome."""

    def __init__(self, db: sqlite3.Connection, run: Callable[[Sequence[Job[Any]]], None], most: int) -> None:
        self._connection = aiosqlite.Connection(lambda: db, _CHUNK)
        self._run = run
        self._most = most
        self._queue: deque[Job[Any]] = deque()
        self._doing: asyncio.Task[None] | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._opened = False
        self._closed = False

    async def do(self, work: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None) -> T:
        """Return what the work returns. `then` gets it first, even if the caller is gone by then.

        Not cancellable: what is handed in will happen, and the caller learns what did.
        Raises what the work raises, or Refusal(STOPPING).
        """
        if self._closed:
            raise Refusal(Code.STOPPING, "The post office is stopping.", "Try again: it starts on demand.")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(Job(work, then, answer))
        self._start()
        with anyio.CancelScope(shield=True):
            await answer
        return answer.result()

    def later(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Run it with the next job, or soon; nobody waits for it."""
        self._queue.append(Job(work, None, None))
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(_LINGER, self._start)

    async def close(self) -> None:
        """Take no more work; return when what was handed in is done and the connection is closed."""
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True):
            self._start()
            if self._doing is not None:
                await self._doing
            if self._opened:
                await self._connection.close()

    def _start(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._doing is None and self._queue:
            self._doing = asyncio.get_running_loop().create_task(self._do_all())

    async def _do_all(self) -> None:
        try:
            if not self._opened:
                await self._connection
                self._opened = True
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(self._most, len(self._queue)))]
                await self._do(batch)
        finally:
            self._doing = None

    async def _do(self, batch: Sequence[Job[Any]]) -> None:
        try:
            await self._connection._execute(self._run, batch)  # type: ignore[no-untyped-call]  # noqa: SLF001
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody may wait for ever
            for job in batch:
                job.error = error
        for job in batch:
            try:
                job.finish()
            except Exception:
                logger.exception("what follows a verb failed")
