"""Mail found by its words: the index says where, the mail says what, and to whom."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Progress, State
from mcp_mailbox.engines.sqlite import fanout, words
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.index import WINDOW, Damaged, Index
from mcp_mailbox.engines.sqlite.messages import message, progress_in, thread_of
from mcp_mailbox.engines.sqlite.rows import attached, find_mailbox, known_mailbox, names_of, unknown_channel
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.store import Hit, Hits, Query
from mcp_mailbox.view import query

logger = logging.getLogger(__name__)

_CATCH_UP = 5
"""Slices that a search indexes itself, so that it finds what was sent just now: more than comes in between."""
_PATIENCE = 0.1
"""Seconds after which a search begins no other window."""
_SLICE = 200
"""Messages of a thread that are gone through before the time is looked at."""
_EXCERPT_WITHIN = 16_384
"""Characters of a body in which the words are looked for, to show the line."""
_ADDRESSES = 3
"""Recipients that are shown of what was sent."""
_LAST = (1 << 62) - 1
"""Behind every message."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to look for, in which part of the history; `said` are the words of the query, `every` those of the index.

    One of `some` must be there, too: the mailbox's own word, or that of a channel it read. `channel` is looked into
    whoever may read it has received of it. A `thread` of which nothing else is asked is read from the mail itself.
    """

    box: int
    said: list[str]
    every: tuple[str, ...]
    first: int
    last: int
    oldest_first: bool
    some: tuple[str, ...] = ()
    channel: int | None = None
    thread: int | None = None


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
        if plan.thread is not None:
            return self._page(mail, asked, plan)
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
        every: list[str] = []
        thread = thread_of(self._codec, mail, box, asked.thread) if asked.thread is not None else None
        if thread is not None:
            every.append(words.thread(thread))
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
        channel = None
        if asked.sender is not None and asked.sender.is_channel:
            channel = self._channel(mail, box, asked.sender)
            every.append(words.channel(channel["id"]))
            first = max(first, self._begin(mail, channel))
        elif asked.sender is not None:
            found = find_mailbox(mail, asked.sender)
            if found is None:
                return None
            every.append(words.sender(found.id))
        some = [words.reader(box)]
        some += map(words.channel, fanout.ever_subscribed(mail, box))
        if channel is not None:
            some = []
        elif len(some) == 1:
            every, some = [*some, *every], []
        number = channel["id"] if channel is not None else None
        alone = thread if not said and asked.sender is None else None
        plan = _Plan(box, said, tuple(every), first, last, asked.oldest_first, tuple(some), number, alone)
        if asked.cursor is not None:
            [place] = self._codec.read_cursor(_listing(asked, plan), asked.cursor)
            plan = replace(plan, first=max(first, place)) if asked.oldest_first else replace(plan, last=place)
        return plan

    def _channel(self, mail: sqlite3.Connection, box: int, channel: Address) -> sqlite3.Row:
        """Return a channel that the mailbox's principal could join. Raises Refusal(UNKNOWN_CHANNEL)."""
        owner = mail.execute(query.MAILBOX_BY_ID, (box,)).fetchone()["owner"]
        found = fanout.find(mail, channel) if fanout.in_reach(mail, owner, channel.space) else None
        if found is None:
            raise unknown_channel(str(channel))
        return found

    def _begin(self, mail: sqlite3.Connection, channel: sqlite3.Row) -> int:
        """Return the number of the first message that the channel keeps."""
        kept = fanout.floor(mail, channel, self._now())
        row = mail.execute(query.SEQ_AT, (channel["id"], kept)).fetchone()
        return int(row["seq"]) if row is not None else _LAST

    def _seen(self, mail: sqlite3.Connection, plan: _Plan, seq: int) -> tuple[int | None, Progress | None]:
        """Return the thread of what the mailbox received or sent, else None, and how far it has come there.

        Of a channel that is looked into all that is in it counts.
        """
        row = mail.execute(query.PARENT, (seq,)).fetchone()
        if row is None:
            return None, None
        own = progress_in(mail, plan.box, seq, self._now())
        if own is not None and own.state is State.HELD:
            own = None  # not yet this mailbox's mail
        if plan.channel is not None:
            post = mail.execute(query.PLACE_OF, (plan.channel, seq)).fetchone()
            return (row["thread"], own) if post is not None and post["seq"] == seq else (None, None)
        return (row["thread"], own) if row["sender"] == plan.box or own is not None else (None, None)

    def _page(self, mail: sqlite3.Connection, asked: Query, plan: _Plan) -> Hits:
        """Look through window after window until the page is full or the time is over."""
        of = _listing(asked, plan)
        hits: list[Hit] = []
        begun = time.monotonic()
        for first, last in self._windows(mail, plan):
            for seq in self._found(mail, plan, first, last, asked.limit + 1):
                hit = self._hit(mail, plan, seq, self._codec.cursor(of, seq + 1 if plan.oldest_first else seq - 1))
                if hit is not None and len(hits) == asked.limit:
                    return Hits(tuple(hits), hits[-1].cursor)
                if hit is not None:
                    hits.append(hit)
            if time.monotonic() - begun > _PATIENCE:
                edge = last + 1 if plan.oldest_first else first - 1
                end = plan.last if plan.thread is not None else self._index.through
                ends = edge > end if plan.oldest_first else edge < plan.first
                return Hits(tuple(hits), None if ends else self._codec.cursor(of, edge))
        return Hits(tuple(hits))

    def _windows(self, mail: sqlite3.Connection, plan: _Plan) -> Iterator[tuple[int, int]]:
        """Yield the parts of the history that there are to look through, in order.

        A restore skips numbers by the thousand million, and what was removed leaves gaps: there is nothing to look for.
        """
        if plan.thread is not None:
            yield from self._slices(mail, plan.thread, plan)
            return
        first, last = plan.first, min(plan.last, self._index.through)
        while first <= last:
            there = mail.execute(*((query.FIRST_FROM, (first,)) if plan.oldest_first else (query.LAST_TO, (last,))))
            row = there.fetchone()
            if row is None:
                return
            begin = row["seq"] // WINDOW * WINDOW
            if begin > last or begin + WINDOW <= first:
                return
            yield max(first, begin), min(last, begin + WINDOW - 1)
            first, last = (begin + WINDOW, last) if plan.oldest_first else (first, begin - 1)

    def _slices(self, mail: sqlite3.Connection, thread: int, plan: _Plan) -> Iterator[tuple[int, int]]:
        """Yield the parts of a thread, of which little may be the mailbox's to see."""
        first, last = plan.first, plan.last
        while first <= last:
            seqs = _of_thread(mail, thread, first, last, _SLICE, oldest_first=plan.oldest_first)
            if len(seqs) < _SLICE:
                yield first, last
                return
            yield (first, seqs[-1]) if plan.oldest_first else (seqs[-1], last)
            first, last = (seqs[-1] + 1, last) if plan.oldest_first else (first, seqs[-1] - 1)

    def _found(self, mail: sqlite3.Connection, plan: _Plan, first: int, last: int, some: int) -> Iterator[int]:
        """Yield what there is, some at a time."""
        while True:
            seqs = self._looked_up(mail, plan, first, last, some)
            yield from seqs
            if len(seqs) < some:
                return
            first, last = (seqs[-1] + 1, last) if plan.oldest_first else (first, seqs[-1] - 1)
            if first > last:
                return

    def _looked_up(self, mail: sqlite3.Connection, plan: _Plan, first: int, last: int, some: int) -> Sequence[int]:
        if plan.thread is not None:
            return _of_thread(mail, plan.thread, first, last, some, oldest_first=plan.oldest_first)
        return self._index.find(mail, plan.every, first, last, some, oldest_first=plan.oldest_first, some=plan.some)

    def _hit(self, mail: sqlite3.Connection, plan: _Plan, seq: int, cursor: str) -> Hit | None:
        """Return it if the mailbox received or sent it: whatever the index says, the mail decides."""
        thread, own = self._seen(mail, plan, seq)
        if thread is None:
            return None
        row = mail.execute(query.HIT, (seq,)).fetchone()
        recipients: Sequence[int] = json.loads(row["recipients"])
        sent = row["sender"] == plan.box
        shown_to = recipients if sent else [each for each in recipients if each < 0]
        to = names_of(mail, json.dumps(shown_to[:_ADDRESSES]))
        shown = message(mail, self._codec, row, to, self._line(mail, plan, seq) or row["text"], (), attached(mail, row))
        return Hit(shown, own, len(shown_to), row["size"], cursor)

    def _line(self, mail: sqlite3.Connection, plan: _Plan, seq: int) -> str | None:
        """Return the line around the first word, None to show the beginning."""
        if not plan.said:
            return None
        body: bytes = mail.execute(query.BEGINNING, (_EXCERPT_WITHIN, seq)).fetchone()[0]
        return words.excerpt(body.decode(errors="replace"), plan.said)


def _of_thread(
    mail: sqlite3.Connection, thread: int, first: int, last: int, some: int, *, oldest_first: bool
) -> Sequence[int]:
    """Return the numbers of a thread's messages there, at most so many: the one that began it is its oldest."""
    values = {"thread": thread, "first": first, "last": last, "some": some}
    rows = mail.execute(query.THREAD_UP if oldest_first else query.THREAD_DOWN, values)
    seqs = [row["seq"] for row in rows.fetchall()]
    if first <= thread <= last:
        seqs = [thread, *seqs] if oldest_first else [*seqs, thread]
    return seqs[:some]


def _listing(asked: Query, plan: _Plan) -> str:
    """Return what a cursor of this query is good for."""
    every = [*plan.every, words.reader(plan.box)] if plan.some else plan.every  # whatever is joined meanwhile
    return f"search {plan.box} {json.dumps(every)} {asked.since} {asked.oldest_first}"
