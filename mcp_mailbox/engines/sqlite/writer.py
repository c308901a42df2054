"""The one writer: many verbs, one transaction, one fsync.

Each job is a function of the connection that first checks, then writes; it raises Refusal only before its first
write, so that jobs need no savepoints. What jobs mean is not known here.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mcp_mailbox.engines.sqlite import failures
from mcp_mailbox.engines.sqlite.lane import Job, Lane
from mcp_mailbox.errors import Refusal

logger = logging.getLogger(__name__)

T = TypeVar("T")

_BATCH = 256


class Writer(Lane):
    """Owns the writing connection. A verb's answer comes when its transaction is on disk.

    `seal` is the last thing that each transaction does that has written something; `undone` is told when one was
    rolled back, for what the engine keeps in memory of it.
    """

    def __init__(
        self, db: sqlite3.Connection, seal: Callable[[sqlite3.Connection], None], undone: Callable[[], None]
    ) -> None:
        self._db = db
        self._seal = seal
        self._undone = undone
        super().__init__(db, self._transact, _BATCH)

    def _transact(self, batch: Sequence[Job[Any]]) -> None:
        if not batch:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            before = self._db.total_changes
            for job in batch:
                _run(job, self._db)
            if self._db.total_changes != before:  # who looked in vain costs no sync
                self._seal(self._db)
            self._db.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if len(batch) > 1:
                # One of them is to blame: alone, each gets what it deserves.
                for job in batch:
                    self._transact([job])
            else:
                batch[0].error = failures.translate(error)
                logger.error("a transaction was rolled back", exc_info=error)  # noqa: TRY400 - outside the handler

    def _roll_back(self) -> None:
        self._undone()
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                logger.exception("rolling back failed")


def in_whole(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Return what the work does. It refuses before its first write, or not at all: so it needs no savepoint."""
    before = db.total_changes
    try:
        return work(db)
    except Refusal as refusal:
        if db.total_changes != before:
            raise RuntimeError("a verb refused after it had written") from refusal
        raise


def _run(job: Job[Any], db: sqlite3.Connection) -> None:
    job.result = job.error = None
    try:
        job.result = in_whole(db, job.work)
    except Refusal as refusal:
        job.error = refusal
