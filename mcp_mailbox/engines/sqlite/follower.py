"""What is done behind the mail, soon after it, by and by and before nobody: work that can wait.

Runs a step until nothing is left, in a lane's thread. What the step does is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable

from mcp_mailbox.engines.sqlite.lane import Lane

logger = logging.getLogger(__name__)

AT_START = 2.0
"""Seconds after a start: hosts that come back have better things to do."""
_LINGER = 0.25
"""Seconds after a commit: those that come meanwhile are followed with it."""
_RETRY = 10.0
"""Seconds after a step that failed."""


class Follower:
    """Runs `step` in the lane, when it was woken, until it returns that there is no more."""

    def __init__(self, lane: Lane, step: Callable[[sqlite3.Connection], bool]) -> None:
        self._lane = lane
        self._step = step
        self._soon: asyncio.TimerHandle | None = None
        self._doing: asyncio.Task[None] | None = None
        self._again = False
        self._closed = False
        self._told = ""
        self._resting = asyncio.Event()
        self._resting.set()

    def wake(self, after: float = _LINGER) -> None:
        """Look soon whether there is something to do. Several wakes are one."""
        self._again = True
        self._resting.clear()
        if not self._closed and self._soon is None and self._doing is None:
            self._soon = asyncio.get_running_loop().call_later(after, self._start)

    async def rest(self) -> None:
        """Return when nothing is left to be done."""
        await self._resting.wait()

    async def close(self) -> None:
        """Stop where it is; the step that is being done is finished by the lane."""
        self._closed = True
        if self._soon is not None:
            self._soon.cancel()
        if self._doing is not None:
            self._doing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._doing

    def _start(self) -> None:
        self._soon = None
        self._doing = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        wait = _LINGER
        try:
            more = True
            while more:
                self._again = False
                began = time.monotonic()
                more = await self._lane.do(self._step)
                # At most half of a core: what sends and reads goes first.
                await asyncio.sleep(time.monotonic() - began)
            self._told = ""
        except Exception as error:  # noqa: BLE001 - nobody waits for it who could be told
            if str(error) != self._told:
                logger.warning("what follows the mail is behind: %s", error)
            self._told, self._again, wait = str(error), True, _RETRY
        finally:
            self._doing = None
        if self._again:
            self.wake(wait)
        else:
            self._resting.set()
