"""The beginning of a life: what an earlier one was handed, and who alone may know that its host has seen it.

A killed post office may not have told the hub what its hosts had seen. Their relays tell the next one, each when it has
come back. So nobody waits at the hub before all have come back of whom that matters, or are held to have gone: the
first wait gives the rest back to others (`Edges.begin`).
"""

from __future__ import annotations

from collections.abc import Iterable

import anyio


class Beginning:
    """Whom we wait for."""

    def __init__(self) -> None:
        self._awaited: set[str] | None = None
        """Readers of whom it matters and who have not come back; None until the hub has said which these are."""
        self._recalled: set[str] = set()
        self._late = False
        self._over = anyio.Event()

    @property
    def over(self) -> bool:
        """Whether we wait for nobody."""
        return self._over.is_set()

    async def until_over(self) -> None:
        """Return once it is."""
        await self._over.wait()

    def said(self, readers: Iterable[str]) -> None:
        """Note who was handed something in an earlier life of ours that nobody is known to have seen."""
        if not self.over:
            self._awaited = set(readers) - self._recalled
            self._look()

    def recalled(self, reader: str) -> None:
        """Note that this one's relay has told what it knows, and that this will be told before what is asked."""
        if not self.over:
            self._recalled.add(reader)
            if self._awaited is not None:
                self._awaited.discard(reader)
            self._look()

    def give_up(self) -> None:
        """Wait no longer for who has not come back."""
        self._late = True
        self._look()

    def _look(self) -> None:
        if self._awaited is not None and (self._late or not self._awaited):
            self._awaited = None
            self._recalled.clear()
            self._over.set()
