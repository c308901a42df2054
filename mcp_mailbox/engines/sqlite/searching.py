"""Mail found by its words: the index says where, the mail says what, and to whom."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Progress
from mcp_mailbox.engines.sqlite import words
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.index import WINDOW, Damaged, Index
from mcp_mailbox.engines.sqlite.messages import message, progress_in, thread_of
from mcp_mailbox.engines.sqlite.rows import attached, find_mailbox, known_mailbox, names_of
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.store import Hit, Hits, Query
from mcp_mailbox.view import query

logger = logging.getLogger(__name__)

_CATCH_UP = 5
"""Slices that a search indexes itself, so that it finds what was sent just now: more than comes in between."""
_PATIENCE = 0.1
"""Seconds after which a search begins no other window."""
_EXCERPT_WITHIN = 16_384
"""Characters of a body in which the words are looked for, to show the line."""
_ADDRESSES = 3
"""Recipients that are shown of what was sent."""
_LAST = (1 << 62) - 1
"""Behind every message."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to look for, in which part of the history; `said` are the words of the query, `every` those of the index."""

    box: int
    said: list[str]
    every: tuple[str, ...]
    first: int
    last: int
    oldest_first: bool


class Searching:
    """The verb `search`. It runs in the index's thread."""

    def __init__(self, common: Common, index: Index) -> None:
        self._codec = common.codec
        self._now = common.now
        self._index = index

    def search(self, mail: sqlite3.Connection, mailbox: Address, asked: Query) -> Hits:
        """Return a page."""
        box = known_mailbox(mail, mailbox)
        plan = self._plan(mail, box, asked)
        if plan is None:
            return Hits(())
        self._catch_up(mail)
        try:
            found = self._page(mail, asked, plan)
        except Damaged:
            self._catch_up(mail)
            found = self._page(mail, asked, plan)
        behind = self._index.through < mail.execute(query.LAST).fetchone()[0]
        return replace(found, complete_until=self._index.until) if behind else found

    def _catch_up(self, mail: sqlite3.Connection) -> None:
        for _ in range(_CATCH_UP):
            try:
                if not self._index.follow(mail):
                    return
            except Damaged:
                continue
            except Refusal as refusal:  # what is indexed may be found all the same
                logger.warning("a search looks at an older index: %s", refusal)
                return

    def _plan(self, mail: sqlite3.Connection, box: int, asked: Query) -> _Plan | None:
        """Return what to look for, None when there can be nothing. Raises Refusal as `search`."""
        every = [words.reader(box)]
        if asked.thread is not None:
            every.append(words.thread(thread_of(self._codec, mail, box, asked.thread)))
        said = self._index.words(asked.words) if asked.words else []
        if asked.words and not said:
            raise Refusal(
                Code.BAD_ARGUMENT, f"{asked.words[:40]!a} has no word in it.", "Give letters or digits to look for."
            )
        every += said
        first, last = 1, _LAST
        if asked.since is not None:
            row = mail.execute(query.FIRST_SINCE, (max(0, min(asked.since, _LAST)),)).fetchone()
            first = row[0] if row else _LAST
        if asked.sender is not None:
            found = find_mailbox(mail, asked.sender)
            if found is None:
                return None
            every.append(words.sender(found.id))
        plan = _Plan(box, said, tuple(every), first, last, asked.oldest_first)
        if asked.cursor is not None:
            [place] = self._codec.read_cursor(_listing(asked, plan), asked.cursor)
            plan = replace(plan, first=max(first, place)) if asked.oldest_first else replace(plan, last=place)
        return plan

    def _seen(self, mail: sqlite3.Connection, box: int, seq: int) -> tuple[int | None, Progress | None]:
        """Return the thread of what the mailbox received or sent, else None, and how far it has come there."""
        row = mail.execute(query.PARENT, (seq,)).fetchone()
        own = progress_in(mail, box, seq, self._now()) if row is not None else None
        return (row["thread"], own) if row is not None and (row["sender"] == box or own is not None) else (None, None)

    def _page(self, mail: sqlite3.Connection, asked: Query, plan: _Plan) -> Hits:
        """Look through window after window until the page is full or the time is over."""
        of = _listing(asked, plan)
        hits: list[Hit] = []
        begun = time.monotonic()
        for first, last in self._windows(plan):
            for seq in self._found(mail, plan, first, last, asked.limit + 1):
                hit = self._hit(mail, plan, seq, self._codec.cursor(of, seq + 1 if plan.oldest_first else seq - 1))
                if hit is not None and len(hits) == asked.limit:
                    return Hits(tuple(hits), hits[-1].cursor)
                if hit is not None:
                    hits.append(hit)
            if time.monotonic() - begun > _PATIENCE:
                edge = last + 1 if plan.oldest_first else first - 1
                ends = edge > self._index.through if plan.oldest_first else edge < plan.first
                return Hits(tuple(hits), None if ends else self._codec.cursor(of, edge))
        return Hits(tuple(hits))

    def _windows(self, plan: _Plan) -> Iterator[tuple[int, int]]:
        """Yield the parts of the history that there are to look through, in order."""
        first, last = plan.first, min(plan.last, self._index.through)
        if first > last:
            return
        numbers = range(first // WINDOW, last // WINDOW + 1)
        for number in numbers if plan.oldest_first else reversed(numbers):
            yield max(first, number * WINDOW), min(last, (number + 1) * WINDOW - 1)

    def _found(self, mail: sqlite3.Connection, plan: _Plan, first: int, last: int, some: int) -> Iterator[int]:
        """Yield what the index has there, some at a time."""
        while True:
            seqs = self._index.find(mail, plan.every, first, last, some, oldest_first=plan.oldest_first)
            yield from seqs
            if len(seqs) < some:
                return
            first, last = (seqs[-1] + 1, last) if plan.oldest_first else (first, seqs[-1] - 1)
            if first > last:
                return

    def _hit(self, mail: sqlite3.Connection, plan: _Plan, seq: int, cursor: str) -> Hit | None:
        """Return it if the mailbox received or sent it: whatever the index says, the mail decides."""
        thread, own = self._seen(mail, plan.box, seq)
        if thread is None:
            return None
        row = mail.execute(query.HIT, (seq,)).fetchone()
        recipients: Sequence[int] = json.loads(row["recipients"])
        sent = row["sender"] == plan.box
        to = names_of(mail, json.dumps(recipients[:_ADDRESSES])) if sent else ()
        shown = message(self._codec, row, to, self._line(mail, plan, seq) or row["text"], (), attached(mail, row))
        return Hit(shown, own, len(recipients) if sent else 0, row["size"], cursor)

    def _line(self, mail: sqlite3.Connection, plan: _Plan, seq: int) -> str | None:
        """Return the line around the first word, None to show the beginning."""
        if not plan.said:
            return None
        body: bytes = mail.execute(query.BEGINNING, (_EXCERPT_WITHIN, seq)).fetchone()[0]
        return words.excerpt(body.decode(errors="replace"), plan.said)


def _listing(asked: Query, plan: _Plan) -> str:
    """Return what a cursor of this query is good for."""
    return f"search {plan.box} {json.dumps(plan.every)} {asked.since} {asked.oldest_first}"
