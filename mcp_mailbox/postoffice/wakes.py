"""When a host may be rung again: by how it took the last rings, what its mailbox was told, how often a thread rang.

Knows what kinds of mail ring at all, and what a ring points to. Whom to ring, and when to look, is `doorbells`'.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mcp_mailbox.addresses import Address
from mcp_mailbox.budgets import HOUR
from mcp_mailbox.doorbell import NEWS_LIMIT, Doorbell, Pointer, Terms
from mcp_mailbox.message import Kind, Priority
from mcp_mailbox.recent import trim
from mcp_mailbox.store import News

BURST = 1_000
"""ms: what comes sooner after something else belongs to it, and two rings are at least so far apart."""
WORK = 10_000
"""ms that a reader is left alone with what it was handed, unless it settles that sooner."""
UNANSWERED = 30_000
"""ms after which a ring that nobody answered is repeated, if more has come."""
DEAF = 50
"""Unanswered rings in a row after which a reader is rung only every `DEAF_PAUSE` ms."""
DEAF_PAUSE = 5 * 60_000
_THREADS = 10_000
"""Threads of which it is remembered how often they rang."""

Key = tuple[str, int]


def key(news: News) -> Key:
    """Return what tells this coming of a message from another one."""
    return news.id, news.since


def rings(news: News) -> bool:
    """Tell whether this kind of mail ever wakes anybody."""
    return not news.copied and news.kind is not Kind.RECEIPT and news.priority is not Priority.LOW


def pointer(at: int, mailbox: Address, news: Sequence[News]) -> Pointer:
    """Return what points to these."""
    senders = tuple(dict.fromkeys(each.sender for each in news))
    counts = Counter(each.priority for each in news)
    more = max(counts.values(), default=0) >= NEWS_LIMIT
    places = tuple(dict.fromkeys(each.channel or mailbox for each in news))
    return Pointer(at, mailbox, len(news), senders, counts[Priority.URGENT], more, places)


@dataclass(slots=True)
class Host:
    """A reader that can be rung, and how it took the last rings. Times in ms, 0 for never."""

    bell: Doorbell
    terms: Terms
    resumed: bool
    last: int = 0
    unanswered: int = 0
    busy: int = 0
    """Until then it is at work."""
    home: Address | None = None
    superseded: Callable[[], bool] = lambda: False
    """Of one that stands in for a reader: whether the reader can be rung by itself by now."""
    leave: Callable[[], None] = lambda: None

    def free_at(self, place: Place, *, urgent: bool) -> int:
        """Return from when on it may be rung for what has come to that place."""
        if not self.last:
            return 0 if urgent else self.busy
        if not self.unanswered:
            # What follows closely is waited for to its end, and that not for ever.
            soon = self.last + BURST if place.apart else min(place.came + BURST, self.last + WORK)
            return max(soon, self.last + BURST, 0 if urgent else self.busy)
        if self.unanswered >= DEAF:
            return self.last + DEAF_PAUSE
        if place.apart:
            return self.last + BURST
        return self.last + (WORK if urgent else UNANSWERED)


@dataclass(slots=True)
class Place:
    """What is known of one mailbox."""

    pool: bool
    told: set[Key] = field(default_factory=set)
    """What somebody was rung for."""
    said: set[Key] = field(default_factory=set)
    """What a hook has spoken of, kinds that never ring among it."""
    pending: set[Key] = field(default_factory=set)
    """What is still to be rung for."""
    came: int = 0
    """When the last of that came."""
    apart: bool = True
    """Whether nothing had come for a while before."""
    skipped: set[str] = field(default_factory=set)
    """What the log has of why nothing was rung since the last ring."""


class Wakes:
    """How often each thread has woken somebody within the hour."""

    def __init__(self) -> None:
        self._threads: OrderedDict[str, deque[int]] = OrderedDict()

    def free_at(self, thread: str, limit: int, now: int) -> int:
        """Return from when on the thread may wake somebody; `now` when it may."""
        times = self._threads.get(thread, deque())
        while times and times[0] <= now - HOUR:
            times.popleft()
        if len(times) < limit:
            return now
        return times[len(times) - limit] + HOUR if limit else now + HOUR

    def spend(self, threads: set[str], now: int) -> None:
        """Note that each of these woke somebody."""
        for thread in threads:
            self._threads.setdefault(thread, deque()).append(now)
            self._threads.move_to_end(thread)
        trim(self._threads, _THREADS)
