"""A lane: one thread that does jobs in the order in which they were handed in, and answers in the event loop.

Threads are the cost of a transaction, not SQLite: a lane takes whatever has queued up in one go, and a job costs one
hop there and one back. What a job does is not known here; nor is a database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import anyio

from mcp_mailbox.errors import Code, Refusal

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger(__name__)

_LINGER = 0.05
"""Seconds that work which nobody waits for may wait for company."""


class Job(Generic[R, T]):
    """One verb's work on a resource R, and its outcome: `result`, or `error`."""

    __slots__ = ("answer", "error", "result", "then", "work")

    def __init__(
        self, work: Callable[[R], T], then: Callable[[T], None] | None, answer: asyncio.Future[T] | None
    ) -> None:
        self.work = work
        self.then = then
        self.answer = answer
        self.result: T | None = None
        self.error: BaseException | None = None

    def finish(self) -> None:
        """Tell the world, in the event loop: first `then`, and whatever that does, who waits."""
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


class Lane(Generic[R]):
    """Hands batches of at most `most` jobs to `run`, which sets each one's result or error and raises nothing."""

    def __init__(self, name: str, run: Callable[[Sequence[Job[R, Any]]], None], most: int) -> None:
        self._run = run
        self._most = most
        self._queue: queue.SimpleQueue[Job[R, Any] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._closed = False
        # Daemonic: an interpreter that ends without `close` must not wait for it; what was answered is on disk.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def do(self, work: Callable[[R], T], then: Callable[[T], None] | None = None) -> T:
        """Return what the work returns. `then` gets it first, even if the caller is gone by then.

        Not cancellable: what is handed in will happen, and the caller learns what did.
        Raises what the work raises, or Refusal(STOPPING).
        """
        if self._closed:
            raise _stopping()
        answer: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(Job(work, then, answer))
        with anyio.CancelScope(shield=True):
            await answer
        return answer.result()

    def later(self, work: Callable[[R], None]) -> None:
        """Run it with the next job, or soon; nobody waits for it."""
        self._queue.put(Job(work, None, None))

    async def close(self) -> None:
        """Take no more work; return when what was handed in is done."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        with anyio.CancelScope(shield=True):
            await self._ended

    def _work(self) -> None:
        going = True
        while going:
            batch, going = self._gather()
            try:
                self._run(batch)
            except BaseException as error:  # noqa: BLE001 - whatever it was, nobody may wait for ever
                for job in batch:
                    job.error = error
            self._tell(self._answer, batch)
        self._tell(self._ended.set_result, None)

    def _gather(self) -> tuple[list[Job[R, Any]], bool]:
        """Wait for work; return what has queued up, and whether more may follow."""
        batch: list[Job[R, Any]] = []
        wait: float | None = None
        while len(batch) < self._most:
            try:
                job = self._queue.get(timeout=wait) if wait != 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, False
            batch.append(job)
            wait = 0 if wait == 0 or job.answer is not None else _LINGER
        return batch, True

    def _answer(self, batch: Sequence[Job[R, Any]]) -> None:
        for job in batch:
            try:
                job.finish()
            except Exception:
                logger.exception("what follows a verb failed")

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(what, *arguments)


def _stopping() -> Refusal:
    return Refusal(Code.STOPPING, "The post office is stopping.", "Try again: it starts on demand.")
