"""The promise about mail that has had its time: it goes for good, and nothing else does.

A message may go once each of its deliveries is settled, none is a dead letter that is listed, and the last of these
things happened long enough ago; purging a dead letter ends its listing, not its age. What was said in the same thread
stays one thread, under the id that it had. An id of what is gone names nothing, as one that was never there.
"""

from __future__ import annotations

from typing import Protocol


class RetentionStore(Protocol):
    """The verbs about what is no longer kept."""

    async def forget_settled(self, before: int) -> bool:
        """Remove some of the mail that was settled up to that time; return whether there may be more.

        Calls that follow one another go through all mail once, until one returns False. Each removes so much as delays
        nobody, and rests. What it removes is read, listed, exported and found by nobody any more, nor is it on the
        disk for longer than it takes to be written over.
        """
        ...

    async def compact(self) -> bool:
        """Give some of the room that nothing needs back to the file system; return whether there may be more."""
        ...
