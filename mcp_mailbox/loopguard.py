"""What the loop guard says no to, and how: which budget, how much it is, when there is room again, how to raise it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mcp_mailbox.addresses import Address
from mcp_mailbox.budgets import PAUSE, Budget, Limits, moment
from mcp_mailbox.errors import Code, Refusal

THREAD_VARIABLE = "MCP_MAILBOX_THREAD_BUDGET"
PAIR_VARIABLE = "MCP_MAILBOX_PAIR_BUDGET"
HOPS_VARIABLE = "MCP_MAILBOX_HOPS"


@dataclass(frozen=True, slots=True)
class Stop:
    """A no of the guard: why, for who is refused; and for the others which limit it was, and until when.

    `until` is in ms since 1970 UTC.
    """

    refusal: Refusal
    limit: str
    until: int


class Guard:
    """The budgets of one post office. They are in its memory: one that starts anew has counted nothing."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._threads = {late: Budget(limits.thread) for late in (False, True)}
        """Of each two: what comes late, from an outbox, is counted by itself and by when it was written. On the
        budget of what is said now it would be piled, as if it was said now, too."""
        self._pairs = {late: Budget(limits.pair) for late in (False, True)}

    def of_chain(self, hops: int, answered: int) -> Stop | None:
        """Return why an answer that has so many hops, to what was accepted then, is one too many."""
        if not self._limits.hops or hops <= self._limits.hops:
            return None
        refusal = Refusal(
            Code.TOO_MANY_HOPS,
            f"This would be answer {hops:,} in a chain of quick answers; the limit is {self._limits.hops:,}.",
            "If you only answer each other, stop. Else begin a new thread: send without reply_to."
            f" A person may raise {HOPS_VARIABLE}.",
        )
        return Stop(refusal, f"{self._limits.hops:,} quick answers one behind the other", answered + PAUSE)

    def of_thread(self, thread: int, principal: str, now: int, *, late: bool = False) -> Stop | None:
        """Return why that thread has no room for another answer of that principal.

        Each has its own: whoever may answer in a thread, also to itself, must not silence the others there.
        """
        free = self._threads[late].free_at((thread, principal), now)
        if free <= now:
            return None
        refusal = Refusal(
            Code.OVER_BUDGET,
            f"This thread has had your {self._limits.thread:,} answers an hour.",
            f"There is room from {moment(free)} on; a new thread (send without reply_to) has its own."
            f" A person may raise {THREAD_VARIABLE}.",
        )
        return Stop(refusal, f"{self._limits.thread:,} answers of one sender in a thread an hour", free)

    def of_pair(self, sender: int, recipient: int, address: Address, now: int, *, late: bool = False) -> Stop | None:
        """Return why the recipient, who has that address, has no room for another message of that sender."""
        free = self._pairs[late].free_at(_pair(sender, recipient), now)
        if free <= now:
            return None
        refusal = too_many(self._limits.pair, address, free)
        return Stop(refusal, f"{self._limits.pair:,} messages of one mailbox to another an hour", free)

    def count(
        self,
        thread: int | None,
        principal: str,
        sender: int,
        recipients: Collection[int],
        at: int,
        *,
        late: bool = False,
    ) -> None:
        """Count a message that was written then. What begins a thread is no answer in it."""
        if thread is not None:
            self._threads[late].take((thread, principal), at)
        for recipient in recipients:
            self._pairs[late].take(_pair(sender, recipient), at)

    def forget(self) -> None:
        """Count anew: what was counted may have been rolled back, and nobody is refused for what was not sent."""
        for each in (*self._threads.values(), *self._pairs.values()):
            each.forget()


def too_many(most: int, address: Address, free: int) -> Refusal:
    """Return the refusal of one more than so many an hour to that address; there is room from `free` on."""
    return Refusal(
        Code.OVER_BUDGET,
        f"{address} has had your {most:,} messages an hour.",
        f"There is room from {moment(free)} on; put several in one message. A person may raise {PAIR_VARIABLE}.",
    )


def _pair(sender: int, recipient: int) -> int:
    """Return one number for both; a channel's is negative."""
    return sender << 33 | recipient & (1 << 33) - 1
