"""What one principal may take of this post office: requests, waits, mailboxes, room (`quotas`).

The machine's own user, over the local socket, is never counted: who could be kept out there owns the machine. What is
counted here is in memory and gone with it; what is stored is counted by the store.
"""

from __future__ import annotations

from mcp_mailbox import quotas
from mcp_mailbox.budgets import Budget
from mcp_mailbox.postoffice.callers import Caller
from mcp_mailbox.quotas import MINUTE, Over, Quotas
from mcp_mailbox.store import Clock


class Limits:
    """The quotas of one post office, and what is used of them."""

    def __init__(self, clock: Clock, wanted: Quotas) -> None:
        self._clock = clock
        self._quotas = wanted
        self._requests = Budget(wanted.rate * MINUTE // 1000, MINUTE)
        self._waits: dict[str, dict[object, int]] = {}
        """Of each principal: the waits that are under way, and when each ends, in ms."""

    def request(self, principal: str) -> Over | None:
        """Count a request; return why it is one too many, which is not counted."""
        now = self._clock.now()
        again = self._requests.free_at(principal, now)
        if again > now:
            return quotas.over_rate(self._quotas.rate, now, again)
        self._requests.take(principal, now)
        return None

    def seconds(self, refused: Over) -> int:
        """Return how many whole seconds are left until it is worth trying again, at least one."""
        return max(1, -(-(refused.again - self._clock.now()) // 1000))

    def begin(self, caller: Caller, wait: object, until: float) -> None:
        """Count a wait that ends then, at the latest, in ms; one that is over is only a look. Raises OVER_WAITERS."""
        most = self._quotas.waiters
        if caller.exempt or not most or until <= self._clock.now():
            return
        own = self._waits.setdefault(caller.principal, {})
        if len(own) >= most:
            raise quotas.over_waiters(most, len(own), min(own.values()))
        own[wait] = int(until)

    def end(self, caller: Caller, wait: object) -> None:
        """Count it no more, if it was counted."""
        own = self._waits.get(caller.principal, {})
        own.pop(wait, None)
        if not own:
            self._waits.pop(caller.principal, None)

    def space(self, caller: Caller) -> int:
        """Return the bytes that a space may keep when this one sends; 0 for any number."""
        return 0 if caller.exempt else self._quotas.space

    def mailboxes(self, caller: Caller) -> int:
        """Return how many mailboxes its principal may have; 0 for any number."""
        return 0 if caller.exempt else self._quotas.mailboxes
