"""What the others are told when the loop guard has refused an answer: who waits for it should not wait to its time-out.

Told are mailboxes that the answer was for and that have written in its thread themselves, so that nobody can have us
write to somebody who has no part in it; once a thread, a principal and an hour, which is as long as any budget needs to
have room again. What was told is known by its key and in the same transaction, so that a crash tells nobody twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mcp_mailbox.addresses import Address
from mcp_mailbox.budgets import HOUR
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.ending import Ending
from mcp_mailbox.engines.sqlite.rows import Box, address_of
from mcp_mailbox.loopguard import Stop
from mcp_mailbox.message import Priority
from mcp_mailbox.report import stopped
from mcp_mailbox.view import apply, query

_NOBODY = 0
"""Whose the keys are: no mailbox has that number."""
_LOOKED_AT = 100
"""Answers of a thread, the latest, among whose senders somebody is looked for: a look that ends in a long thread."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """An answer that was refused: whose, to what, in which thread. `hops` are those of what it answers."""

    sender: Box
    answered: int
    thread: int
    hops: int


class Stopping:
    """Tells of refusals of the loop guard. It writes nothing unless somebody is told."""

    def __init__(self, common: Common, ending: Ending) -> None:
        self._now = common.now
        self._ending = ending

    def tell(
        self, db: sqlite3.Connection, what: Stopped, stop: Stop, recipients: Iterable[int], *, pair: bool = False
    ) -> Collection[Address]:
        """Tell those of the recipients who took part in the thread; return whom to ring.

        `pair`: it is the budget of these two. It is spent in all threads at once, and told of in one of them.
        """
        others = [each for each in dict.fromkeys(recipients) if each > 0 and each != what.sender.id]
        now = self._now()
        keys = [f"stop {what.thread} {what.sender.owner}"]
        if not others or self._was_told(db, keys, now):
            return ()
        part = self._senders(db, what.thread)
        others = [each for each in others if each in part]
        if pair:
            keys += [f"stop pair {what.sender.owner} {each}" for each in others]
        if not others or self._was_told(db, keys, now):
            return ()
        for key in keys:
            apply.note_told(db, _NOBODY, key, now)
        said = stopped(sender=str(what.sender.address), limit=stop.limit, until=stop.until)
        rung = [address_of(db, each) for each in others]
        for number, address in zip(others, rung, strict=True):
            self._ending.post(
                db, number, address.space, what.thread, what.answered, said, hops=what.hops, priority=Priority.LOW
            )
        return rung

    def _was_told(self, db: sqlite3.Connection, keys: Iterable[str], now: int) -> bool:
        """Whether anything under one of these keys was told within the hour."""
        rows = (db.execute(query.TOLD, (_NOBODY, key)).fetchone() for key in keys)
        return any(row is not None and now < row["at"] + HOUR for row in rows)

    def _senders(self, db: sqlite3.Connection, thread: int) -> set[int]:
        """Return who has written in the thread: who began it, and whose are its latest answers."""
        began = db.execute(query.PARENT, (thread,)).fetchone()
        rows = db.execute(query.IN_THREAD, (thread, _LOOKED_AT)).fetchall()
        return {row["sender"] for row in rows} | ({began["sender"]} if began is not None else set())
