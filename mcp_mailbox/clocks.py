"""Time that never runs backwards, and waiting for it."""

from __future__ import annotations

import time

import anyio


class SystemClock:
    """The machine's time, read once; from there on it only moves forward, whatever is done to the machine's clock."""

    def __init__(self) -> None:
        self._origin = time.time() - time.monotonic()

    def now(self) -> int:
        """Return ms since 1970 UTC."""
        return int((self._origin + time.monotonic()) * 1000)

    async def sleep(self, ms: float) -> None:
        """Wait that long."""
        await anyio.sleep(ms / 1000)
