"""The loop guard: how much a thread, a pair of mailboxes and a chain of answers may say before somebody must look.

A budget is a rate with room for a burst: so many at once, and each one back after its share of the hour. It is the
generic cell rate algorithm (ITU-T I.371), which keeps one number a key. What a mailbox is, and who is told what, is
not known here; the time is handed in.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter

HOUR = 3600 * 1000
"""ms."""
THREAD_BUDGET = 3000
"""Answers of a principal in one thread an hour: a thousand tasks of a plan, their answers, room; a storm is more."""
PAIR_BUDGET = 5000
"""Messages of one mailbox to another an hour: a thousand tasks in a minute, five times; a program gone wild is more."""
HOPS = 100
"""Answers to answers, each soon after the other."""
PAUSE = 10 * 60 * 1000
"""ms after which an answer is no hop any more. People pause, and agents that thank each other do not."""
_KEYS = 20_000
"""Keys that are remembered: about 3 MB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The budgets of a post office; 0 for none."""

    thread: int = THREAD_BUDGET
    pair: int = PAIR_BUDGET
    hops: int = HOPS


class Budget:
    """So many a period (ms) for each key; 0 for any number.

    It remembers a bounded number of keys, and forgets those with most left first. Of each key it keeps when its budget
    will be whole again, in ms times the budget: whole numbers lose nothing.
    """

    def __init__(self, most: int, period: int = HOUR) -> None:
        self._most = most
        self._period = period
        self._whole: dict[Hashable, int] = {}

    def free_at(self, key: Hashable, now: int) -> int:
        """Return when there is room for one more, in ms: by `now` when there is."""
        if not self._most or key not in self._whole:
            return now
        spare = self._period * (self._most - 1)
        return max(now, -((spare - self._whole[key]) // self._most))

    def take(self, key: Hashable, now: int) -> None:
        """Count one, whether there is room or not."""
        if not self._most:
            return
        begin = now * self._most
        whole = self._whole.get(key)
        if whole is None and len(self._whole) >= _KEYS:
            self._make_room(begin)
        self._whole[key] = max(begin, whole or 0) + self._period

    def give_back(self, key: Hashable) -> None:
        """Count one less: what was taken has come to nothing."""
        if key in self._whole:
            self._whole[key] -= self._period

    def forget(self) -> None:
        """Begin anew."""
        self._whole.clear()

    def __len__(self) -> int:
        return len(self._whole)

    def _make_room(self, begin: int) -> None:
        """Drop keys whose budget is whole, as if they had never been there; at least half, those with most left."""
        kept = sorted((each for each in self._whole.items() if each[1] > begin), key=itemgetter(1))
        self._whole = dict(kept[-(_KEYS // 2) :])


def hops_of_answer(hops: int, accepted: int, now: int) -> int:
    """Return the hops of an answer to a message that has so many, accepted then."""
    return hops + 1 if now - accepted < PAUSE else 1


def moment(ms: int) -> str:
    """Return the time as RFC 3339 in UTC, to the second, not before it."""
    return datetime.fromtimestamp(-(-ms // 1000), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
