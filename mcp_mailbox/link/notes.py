"""What the hub is told and not asked, in order: who is here, what reached its host, which rings are wanted."""

from __future__ import annotations

import logging
from typing import Any

import anyio
from anyio import to_thread

from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.link.hub import Away, Hub, Strange
from mcp_mailbox.link.line import Line
from mcp_mailbox.link.seen import Seen
from mcp_mailbox.postoffice.readers import first_of

logger = logging.getLogger(__name__)

Json = dict[str, Any]

_MOST = 20_000
"""Notes that wait for the line. What is lost beyond is said anew when the line stands, or is noticed by the hub."""
_AGAIN = 1.0
"""Seconds after which what the hub did not take is told again."""
_FIRST = {"here", "begins", "gone", "missed", "deafen"}
"""Notes that go before what is asked next: who is here, and what nobody has seen, which comes before later mail.

Where rings are not wanted any more they may be wanted again by what is asked then.

What a former life of ours was told to have been seen goes before it, too: else it would be handed out again.
"""


class Notes:
    """Those that were not told yet. `run` must run for as long as any are made."""

    def __init__(self, hub: Hub, line: Line, seen: Seen) -> None:
        self._hub = hub
        self._line = line
        self._seen = seen
        self._life = ""
        self._waiting: list[Json] = []
        self._added = anyio.Event()
        self._told = anyio.Event()
        """Happens when some of them were told."""
        self.made = 0
        """How many there were ever."""
        self._done = self._first = self._seen_last = 0
        """How many of these were told, which is the last that goes before what is asked, and before what is settled."""

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    async def begin(self, life: str) -> None:
        """Begin a life, with what an earlier one has left untold of what was seen."""
        self._life = life
        left = await to_thread.run_sync(self._seen.load)
        self._waiting += left
        self.made = self._first = len(left)

    def add(self, note: Json) -> None:
        """Have it told (`wire.Note`)."""
        if len(self._waiting) >= _MOST:
            logger.warning("the hub is not told any more of %s: %d notes wait for it", note["note"], _MOST)
            return
        self._waiting.append(note)
        self.made += 1
        if _is_seen(note):
            self._seen.add(note)
            self._seen_last = self.made
        if note["note"] in _FIRST or note.get("former"):
            self._first = self.made
        self._added.set()

    async def first_told(self, *, settles: bool) -> None:
        """Let those reach the hub on which what is asked next may rest; return earlier when the line breaks.

        `settles`: it ends leases, and each counts as an attempt only if it is known that its answer was seen.
        """
        await self.until_told(max(self._first, self._seen_last) if settles else self._first)

    async def until_told(self, due: int) -> None:
        """Return once so many were told; earlier when the line breaks."""
        while self._done < due and self._line.up:
            told, changed = self._told, self._line.changed
            await first_of(told.wait, changed)

    async def run(self) -> None:
        """Tell them, for ever."""
        while True:
            self._added = anyio.Event()
            if not self._waiting:
                await self._added.wait()
            await self._line.until_up()
            notes, self._waiting = self._waiting[: wire.NOTES_MOST], self._waiting[wire.NOTES_MOST :]
            try:
                with self._line.relying():
                    await self._hub.notes(notes, self._life, self._done + 1)
            except Away as away:
                self._waiting = notes + self._waiting
                self._line.suspect(str(away))
                await self._line.changed()
                continue
            except Refusal as refusal:  # it is there, and cannot now: it is asked too much, or its disk is full
                self._waiting = notes + self._waiting
                logger.warning("the hub is not told yet who is here: %s", refusal)
                await anyio.sleep(_AGAIN)
                continue
            except Strange as odd:
                logger.warning("notes are lost: %s", odd)
            self._done += len(notes)
            self._seen.told(sum(map(_is_seen, notes)))
            told, self._told = self._told, anyio.Event()
            told.set()


def _is_seen(note: Json) -> bool:
    return bool(note["note"] == "reached")
