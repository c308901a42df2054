"""A wait for mail, as far as it lasts while nothing happens.

Ten thousand that idle are most of what a hub has in memory. So a wait need not keep the task in which it began, with
all that stands between a request and the store: where the front can begin the same call anew (`parks`), a wait that has
nothing to do raises `Parked`. Then this is all that is left of it: it is still counted, rung and ended in time, and
whoever has parked it is told when there is something to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import anyio.lowlevel

from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Ending
from mcp_mailbox.postoffice.callers import Caller
from mcp_mailbox.store import ANYBODY, Claimer, Settled


class Parked(BaseException):
    """The wait is to go on later, by the same call. Like a cancellation it is no error."""


class Wait:
    """What lasts of a wait. The post office fills it in; `shown` is its front's."""

    __slots__ = (
        "_event",
        "_heard",
        "_parks",
        "_wake",
        "address",
        "alarm",
        "caller",
        "claimer",
        "ending",
        "ends",
        "refusable",
        "settled",
        "shown",
        "until",
    )

    def __init__(self) -> None:
        self.address: Address | None = None
        """Of the mailbox; None as long as it has not begun."""
        self.caller: Caller
        self.ending: Ending
        self.until = 0.0
        """ms since 1970 UTC when it ends."""
        self.refusable = 0.0
        """From when on it may be refused because another one reads."""
        self.ends: Callable[[Wait, Address, Caller], None]
        """Takes it out of everything that it was counted in."""
        self.settled: Sequence[Settled] = ()
        """What became of what it has acked."""
        self.claimer: Claimer = ANYBODY
        self.alarm: object = None
        self.shown: Callable[[], None] | None = None
        """Ends what its front shows of it."""
        self._heard = False
        self._parks = False
        self._event: anyio.Event | None = None
        self._wake: Callable[[], None] | None = None

    def end(self) -> None:
        """Be counted and rung no more; not an error when it has not begun."""
        address, self.address = self.address, None
        if address is not None:
            self.ends(self, address, self.caller)
        shown, self.shown = self.shown, None
        if shown is not None:
            shown()

    def hear(self) -> None:
        """Look again: it has rung, or the time is over. Must not raise."""
        self._heard = True
        self._rouse()

    def clear(self) -> None:
        """Forget what was heard; call it before looking, so that a ring in between is kept."""
        self._heard = False
        self._wake = None

    async def heard(self) -> None:
        """Return once there is something to look at. Raises Parked where that may be left to who asks."""
        if self._heard:
            await anyio.lowlevel.checkpoint()
        while not self._heard:
            if self._parks:
                raise Parked
            await self._nudged()

    async def heard_here(self) -> None:
        """Return once there is something to look at, and be there all the time."""
        while not self._heard:
            await self._nudged()

    async def _nudged(self) -> None:
        self._event = anyio.Event()
        try:
            await self._event.wait()
        finally:
            self._event = None

    def parks(self) -> None:
        """Let it raise `Parked` from now on."""
        self._parks = True
        self._rouse()

    def park(self, wake: Callable[[], None]) -> None:
        """Have `wake` called once there is something to look at, as there may be now. It must not raise."""
        self._wake = wake
        if self._heard:
            self._rouse()

    def _rouse(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()
        elif self._event is not None:
            self._event.set()
