"""Moments that somebody waits for: one task and one timer for all of them.

A wait needs no task of its own to end in time, so that ten thousand that are idle cost ten thousand rows of a heap.
What is to happen then is not known here.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import anyio

from mcp_mailbox.bell import Hear
from mcp_mailbox.store import Clock

_FEW = 64
"""Rows of those who wait no more that are not worth a look."""


class _Alarm:
    __slots__ = ("hear", "moment")

    def __init__(self, moment: float, hear: Hear) -> None:
        self.moment = moment
        self.hear: Hear | None = hear


class Alarms:
    """Tells whoever waits for a moment of this clock. `run` must run for as long as anybody does."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, _Alarm]] = []
        self._numbers = itertools.count()
        """Those of one moment are told in the order in which they came; alarms themselves have no order."""
        self._idle = 0
        self._sooner = anyio.Event()
        self._sleep = anyio.CancelScope()

    def set(self, moment: float, hear: Hear) -> Callable[[], None]:
        """Call `hear` at that moment (ms since 1970 UTC); return what prevents it. It must not raise nor wait."""
        return partial(self.unset, self.add(moment, hear))

    def add(self, moment: float, hear: Hear) -> object:
        """Do the same; return what `unset` wants to prevent it."""
        alarm = _Alarm(moment, hear)
        first = self._heap[0][0] if self._heap else None
        heapq.heappush(self._heap, (moment, next(self._numbers), alarm))
        if first is None or moment < first:
            self._sooner.set()
            self._sleep.cancel()

        return alarm

    def unset(self, alarm: object) -> None:
        """Prevent what `add` has announced; not an error when it has happened."""
        assert isinstance(alarm, _Alarm)  # noqa: S101 - as `add` has returned it
        if alarm.hear is not None:
            alarm.hear = None
            self._idle += 1
            if self._idle > _FEW and self._idle > len(self._heap) / 2:
                self._tidy()

    def now(self) -> int:
        """Return the time by which they go, in ms since 1970 UTC."""
        return self._clock.now()

    @contextmanager
    def at(self, moment: float, hear: Hear) -> Iterator[None]:
        """Call `hear` at that moment, if the block lasts until then."""
        unset = self.set(moment, hear)
        try:
            yield
        finally:
            unset()

    def __len__(self) -> int:
        """Return how many are waited for."""
        return len(self._heap) - self._idle

    async def run(self) -> None:
        """Tell them, for ever."""
        while True:
            self._sooner = anyio.Event()
            self._tell()
            if not self._heap:
                await self._sooner.wait()
            else:
                with anyio.CancelScope() as self._sleep:
                    await self._clock.sleep_until(self._heap[0][0])

    def _tell(self) -> None:
        now = self._clock.now()
        while self._heap and self._heap[0][0] <= now:
            alarm = heapq.heappop(self._heap)[2]
            if alarm.hear is None:
                self._idle -= 1
            else:
                hear, alarm.hear = alarm.hear, None
                hear()

    def _tidy(self) -> None:
        """Drop the rows of those who wait no more: waits mostly end long before their time."""
        self._heap = [row for row in self._heap if row[2].hear is not None]
        heapq.heapify(self._heap)
        self._idle = 0
