"""How much an outbox takes in from one mailbox for another: what the hub's loop guard would refuse late is refused now.

The sender hears it in its call, and not by a report about what it was told is on its way. The hub may have other
budgets: then it has the last word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mcp_mailbox import loopguard
from mcp_mailbox.addresses import Address
from mcp_mailbox.budgets import Budget
from mcp_mailbox.store import Clock


class Pace:
    """At most so many an hour; 0 for any number. What went to the hub at once is not known here."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._clock = clock
        self._most = most
        self._pairs = Budget(most)

    @contextmanager
    def taking(self, sender: Address, recipients: Collection[Address]) -> Iterator[None]:
        """Count a message, unless the block fails. Raises Refusal(OVER_BUDGET) when one of them has had enough."""
        now = self._clock.now()
        pairs = {(sender.compared, each.compared): each for each in recipients}
        for pair, each in pairs.items():
            if (free := self._pairs.free_at(pair, now)) > now:
                raise loopguard.too_many(self._most, each, free)
        for pair in pairs:
            self._pairs.take(pair, now)
        try:
            yield
        except BaseException:
            for pair in pairs:
                self._pairs.give_back(pair)
            raise
