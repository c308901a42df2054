"""Run at the start of every process under test (`python -m tests.jitter`): some of what is ready is seen late.

A descriptor that becomes ready is held back for a while, each on its own, and now and then a whole process rests. Any
machine that is busy may do that; no test may fail by it, but for those that are about time itself. Nothing is lost and
no order within one connection changes. Timers come no earlier.
"""

from __future__ import annotations

import os
import random
import select
import selectors
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")

_AGAIN = 0.002
"""Seconds after which what is held back is looked at again."""
_SHORT_MS = 50
"""A poll of no more is let go with nothing, as one may that comes too early."""
_TIMES = 3
"""Nothing is late by more than so many times the mean."""


class Schedule:
    """Decides what is late; `seed` and the process decide how."""

    def __init__(self, seed: int, holds: float, rests: float, mean: float) -> None:
        self._random = random.Random(f"{seed} {os.getpid()}")
        self._holds = holds
        self._rests = rests
        self._mean = mean
        self._held: dict[int, float] = {}

    def _while(self) -> float:
        return min(self._random.expovariate(1 / self._mean), _TIMES * self._mean)

    def rest(self) -> None:
        """Do nothing for a while, sometimes."""
        if self._random.random() < self._rests:
            time.sleep(self._while())

    def let_through(self, ready: list[T], descriptor: Callable[[T], int]) -> list[T]:
        """Return what of these is seen now."""
        now, seen = time.monotonic(), []
        for each in ready:
            number = descriptor(each)
            until = self._held.get(number)
            if until is None and self._random.random() < self._holds:
                until = self._held[number] = now + self._while()
            if until is None or now >= until:
                self._held.pop(number, None)
                seen.append(each)
        return seen


def install(schedule: Schedule) -> None:
    """Put it between this process and its event loop, or its poll object."""
    real = selectors.EpollSelector.select

    def late_select(self: selectors.EpollSelector, timeout: float | None = None) -> Any:
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            ready = real(self, timeout)
            schedule.rest()
            seen = schedule.let_through(ready, lambda each: each[0].fd)
            if seen or not ready:
                return seen
            time.sleep(_AGAIN)
            timeout = None if end is None else max(0.0, end - time.monotonic())
            if timeout == 0:
                return seen

    places: list[tuple[object, str, object]] = [(selectors.EpollSelector, "select", late_select)]
    if "mcp_mailbox" in sys.orig_argv:  # a relay of ours; what others do with their polls is not known
        places.append((select, "poll", lambda: _Poll(schedule)))
    for owner, name, late in places:
        setattr(owner, name, late)
    sys.modules["uvloop"] = _Loop("uvloop")


class _Poll:
    """`select.poll`, with what is late left out."""

    _real = select.poll

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._poll = type(self)._real()
        self.register, self.modify, self.unregister = self._poll.register, self._poll.modify, self._poll.unregister

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        short = timeout is not None and 0 <= timeout < _SHORT_MS
        while True:
            ready = self._poll.poll(timeout)
            self._schedule.rest()
            seen = self._schedule.let_through(ready, lambda each: each[0])
            if seen or not ready or short:
                return seen
            time.sleep(_AGAIN)


class _Loop(ModuleType):
    """In the place of uvloop, whose loop waits in C: asyncio's own."""

    def __getattr__(self, name: str) -> Any:
        if name != "new_event_loop":
            raise AttributeError(name)
        import asyncio  # noqa: PLC0415 - most processes have no loop

        return asyncio.new_event_loop


if "SETTINGS" in globals():
    install(Schedule(*globals()["SETTINGS"]))
