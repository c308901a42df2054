"""Time that never runs backwards, and waiting for it."""

from __future__ import annotations

import time

import anyio

from mcp_mailbox.store import Clock


class SystemClock:
    """The machine's time, read once; from there on it only moves forward, whatever is done to the machine's clock."""

    def __init__(self) -> None:
        self._origin = time.time() - time.monotonic()

    def now(self) -> int:
        """Return ms since 1970 UTC."""
        return int((self._origin + time.monotonic()) * 1000)

    async def sleep_until(self, moment: float) -> None:
        """Return at that time."""
        await anyio.sleep(max(0.0, moment - self.now()) / 1000)


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
