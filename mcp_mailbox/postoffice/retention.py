"""How long settled mail is kept, and when what is older goes."""

from __future__ import annotations

import logging

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.store import Store

logger = logging.getLogger(__name__)

DAY = 24 * 3600 * 1000
KEEP_TERM = 365 * DAY
"""ms that mail is kept after the last of it was settled."""
FOR_EVER = 0
_AT_START = 2_000
"""ms after a start: hosts that come back have better things to do."""
_EVERY = 3600 * 1000
"""ms between two looks."""


class Retention:
    """Removes what was settled more than `keep` ms ago, behind everything else; nothing when `keep` is FOR_EVER."""

    def __init__(self, store: Store, keep: int) -> None:
        self._store = store
        self.keep = keep
        self.next_look: int | None = None
        """When old mail is looked for next, in ms; None for never."""

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        if self.keep == FOR_EVER:
            return
        clock = self._store.clock
        self.next_look = clock.now() + _AT_START
        await clock.sleep_until(self.next_look)
        while True:
            self.next_look = clock.now() + _EVERY
            try:
                await self._look()
            except Refusal as refusal:
                if refusal.code is Code.STOPPING:
                    return
                logger.warning("old mail is not removed yet: %s", refusal)
            await clock.sleep_until(clock.now() + _EVERY)

    async def _look(self) -> None:
        before = self._store.clock.now() - self.keep
        while await self._store.forget_settled(before):
            pass
        while await self._store.compact():
            pass
