"""A host that is woken by a hook of its own, which waits for us in the background (`mcp_mailbox/rewake.py`).

Whoever rings hands the pointer to the hook that waits; it is rung when the hook says that it has told it. One ring ends
the hook: the turn that it makes starts another one.
"""

from __future__ import annotations

import anyio

from mcp_mailbox.doorbell import Outcome, Pointer, Result

KIND = "rewake"


class RewakeBell:
    """The bell of a host behind a hook that waits."""

    kind = KIND

    def __init__(self) -> None:
        self._called = anyio.Event()
        self._over = anyio.Event()
        self._pointer: Pointer | None = None
        self._taken = False

    async def ring(self, pointer: Pointer) -> Result:
        """Hand it the pointer, and wait until it has told it."""
        if self._called.is_set():
            return Result(Outcome.FAILED, "its hook has ended")
        self._pointer = pointer
        self._called.set()
        await self._over.wait()
        return Result(Outcome.RUNG) if self._taken else Result(Outcome.FAILED, "its hook has ended")

    async def call(self) -> Pointer | None:
        """Return the pointer once somebody rings, or None once it is to leave."""
        await self._called.wait()
        return self._pointer

    def leave(self) -> None:
        """Have the hook end: another one has taken its place."""
        self._called.set()

    def over(self, *, taken: bool) -> None:
        """Note that the hook has ended, and whether it has told what it was handed."""
        self._taken = taken
        self._called.set()
        self._over.set()
