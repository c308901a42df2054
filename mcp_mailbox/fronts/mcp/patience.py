"""How long one host lets a wait last, learnt from when it gives up.

No host says how long that is, and what its user has set is not ours to read. An answer that meets a host at the very
moment at which it gives up is lost to its model: some say nothing of it. So waits are to end before that moment.

Of a host whose limit counts from the last sign of life (OpenCode) the same is learnt, the time since the wait began:
while signs come in time it never gives up, and before the first one both are the same.
"""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable

from mcp_mailbox.recent import trim

LEAST = 1.0
"""Seconds below which nothing is learnt: no host is that impatient, and after a pause of ours all waits look short."""
_ALIKE = 0.2
_ALIKE_SHARE = 0.02
"""Seconds, or the part of the time if that is more, by which the same limit differs from one call to the next."""
_AHEAD = 1.0
_AHEAD_SHARE = 0.1
"""The same, by which a wait is answered before the host gives up."""
_AT_ONCE = 32
"""Waits that overlap and are remembered."""
_HOSTS = 1_000
_HOSTS_SECONDS = 4 * 3600.0
"""How many hosts without a connection of their own are remembered, and for how long: each may be several."""
_TIMED_OUT = re.compile(r"time[d]?[ _-]?out", re.IGNORECASE)
"""In the reason of a cancellation, as MCP's SDKs write it: "… Request timed out", "timed out after …"."""


class Patience:
    """What one host has shown. Times are seconds of one clock that does not run while the machine sleeps."""

    __slots__ = ("_given_up", "_outlasted", "longest")

    def __init__(self) -> None:
        self.longest = math.inf
        """Seconds that a wait may last."""
        self._outlasted = 0.0
        """The longest wait whose answer the host has waited for."""
        self._given_up: tuple[tuple[float, float], ...] = ()
        """Of the last wait that was given up, and of those that overlapped it: when, and after how long."""

    def gave_up(self, began: float, now: float, reason: object, *, late: bool = False) -> None:
        """Hear that the host gave up on a wait, with the reason that it said, if any. `late`: it was answered already.

        A reason that says so is believed. Without, it takes two waits, one after the other, that were given up after
        the same time: a person interrupts at any time, and all waits that are under way at once.
        """
        after = now - began
        if after < LEAST:
            return
        if is_time_out(reason):
            self._learn(after)
        elif not late:  # some clean up behind each answer: that would teach the time of our own answers
            if self._is_second(began, after):
                self._learn(after)
            beside = tuple(each for each in self._given_up if each[0] > began)
            self._given_up = (*beside, (now, after))[-_AT_ONCE:]

    def _learn(self, limit: float) -> None:
        self.longest = min(self.longest, _ahead_of(limit))

    def _is_second(self, began: float, after: float) -> bool:
        """Tell whether the host did the same before this wait began, and has not waited for longer."""
        alike = _alike(after)
        return self._outlasted <= after + alike and any(
            then <= began and abs(after - other) <= alike for then, other in self._given_up
        )

    def waited_for(self, seconds: float) -> None:
        """Hear that the host has waited so long for an answer: it does not give up before that."""
        self._outlasted = max(self._outlasted, seconds)


class Patiences:
    """What hosts have shown of which every request stands alone: each is known by what its requests say of it.

    Several that say the same are one. So all of it is forgotten after some hours, for those that have another limit.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._known: OrderedDict[tuple[str | None, ...], tuple[float, Patience]] = OrderedDict()

    def of(self, *said: str | None) -> Patience:
        """Return what is known of the host that says this of itself."""
        now = self._now()
        since, found = self._known.get(said, (now, None))
        if found is None or now - since >= _HOSTS_SECONDS:
            since, found = now, Patience()
        self._known[said] = (since, found)
        self._known.move_to_end(said)
        trim(self._known, _HOSTS)
        return found


def is_time_out(reason: object) -> bool:
    """Tell whether the reason of a cancellation says that a time was over."""
    return isinstance(reason, str) and _TIMED_OUT.search(reason) is not None


def _alike(seconds: float) -> float:
    return max(_ALIKE, _ALIKE_SHARE * seconds)


def _ahead_of(limit: float) -> float:
    """Return how long a wait may last, to hundredths, as a model reads it."""
    longest = max(limit - max(_AHEAD, _AHEAD_SHARE * limit), limit / 2)
    return math.floor(longest * 100) / 100
