"""Time that never runs backwards, and waiting for it."""

from __future__ import annotations

import time

import anyio

from mcp_mailbox.store import Clock

_LONGEST_SLEEP = 30.0
"""Seconds after which a sleeper looks at the clock again: an event loop's timers stand still while a machine sleeps."""


def _since_boot() -> float:
    """Return seconds that never run backwards and go on while the machine sleeps, where the system counts these."""
    return time.clock_gettime(_BOOTTIME) if _BOOTTIME is not None else time.monotonic()


_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class SystemClock:
    """The machine's time, read once; from there on it only moves forward, whatever is done to the machine's clock."""

    def __init__(self) -> None:
        self._origin = time.time() - _since_boot()

    def now(self) -> int:
        """Return ms since 1970 UTC."""
        return int((self._origin + _since_boot()) * 1000)

    async def sleep_until(self, moment: float) -> None:
        """Return at that time, or as soon as the machine is awake after it."""
        while (left := (moment - self.now()) / 1000) > 0:  # noqa: ASYNC110 - waking up is no event
            await anyio.sleep(min(left, _LONGEST_SLEEP))


class Onward:
    """A clock that goes on from `floor` when the one it follows was set back: what has happened stays in the past.

    It keeps the distance instead of standing still, or no lease would run out until the other has caught up.
    """

    def __init__(self, clock: Clock, floor: int) -> None:
        self._clock = clock
        self._ahead = max(0, floor - clock.now())

    def now(self) -> int:
        """Return ms since 1970 UTC."""
        return self._clock.now() + self._ahead

    async def sleep_until(self, moment: float) -> None:
        """Return at that time."""
        await self._clock.sleep_until(moment - self._ahead)
