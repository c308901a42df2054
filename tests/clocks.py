"""Time as tests want it."""

from __future__ import annotations

import anyio

START = 1_800_000_000_000


class SteppedClock:
    """Time that moves when the test says so; who sleeps is woken by the step that ends its sleep."""

    def __init__(self) -> None:
        self._now = START
        self._stepped = anyio.Event()

    def now(self) -> int:
        return self._now

    def step(self, ms: int) -> None:
        self._now += ms
        self._stepped.set()
        self._stepped = anyio.Event()

    async def sleep_until(self, moment: float) -> None:
        while self._now < moment:
            await self._stepped.wait()
