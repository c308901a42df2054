"""The verbs about attachments: contents lie in files, who names them stands in the view."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread

from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import Attachment, Content, pick
from mcp_mailbox.engines.sqlite.blobs import Blobs, Found, Gone
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.follower import AT_START
from mcp_mailbox.engines.sqlite.lane import Lane
from mcp_mailbox.engines.sqlite.messages import visible
from mcp_mailbox.engines.sqlite.rows import attached, known_mailbox
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.store import Source
from mcp_mailbox.view import query

logger = logging.getLogger(__name__)

GRACE = 3600 * 1000
"""ms after which a content that nobody names goes away: what a crash left, or a removed message."""
_LEFT = "attachments that nobody names were left where they are: %s"
_AT_ONCE = 2
"""Contents that are read or written at once: each takes a thread, and a disk is one."""


class Tray:
    """What was kept for one message that is not sent yet."""

    def __init__(self, blobs: Blobs, now: Callable[[], int], limiter: anyio.CapacityLimiter) -> None:
        self._blobs = blobs
        self._now = now
        self._limiter = limiter
        self.kept: list[str] = []

    async def keep(self, source: Source, limit: int) -> Content | None:
        """See `store.Tray`."""
        keep = partial(self._blobs.keep, source, limit, self._now())
        content = await anyio.to_thread.run_sync(keep, limiter=self._limiter)
        if content is not None:
            self.kept.append(content.sha256)
        return content


class Attaching:
    """The verbs. Looks go to the readers' connection; contents have threads of their own."""

    def __init__(self, common: Common, blobs: Blobs, reader: Lane) -> None:
        self.blobs = blobs
        self._codec = common.codec
        self._now = common.now
        self._reader = reader
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)

    @asynccontextmanager
    async def attaching(self) -> AsyncIterator[Tray]:
        """Lend a tray."""
        tray = Tray(self.blobs, self._now, self._limiter)
        try:
            yield tray
        finally:
            with anyio.CancelScope(shield=True):
                await self._take_back(tray)

    async def _take_back(self, tray: Tray) -> None:
        """Let go of what the tray held. What then goes wrong changes nothing of what was answered: it goes later."""
        # Looked at before the view is asked: what is named meanwhile was kept anew, and is another file.
        free = [found for found in map(self.blobs.let_go, tray.kept) if found is not None]
        try:
            for found in await self._reader.do(lambda db: _unnamed(db, free)) if free else ():
                await anyio.to_thread.run_sync(partial(self.blobs.remove, found, although_resting=True))
        except (Refusal, OSError) as error:
            logger.warning(_LEFT, error)

    async def attachment(self, mailbox: Address, text: str, name: str) -> tuple[Attachment, bytes]:
        """Return an attachment and its content. Raises Refusal."""
        found = await self._reader.do(lambda db: self._find(db, mailbox, text, name))
        try:
            return found, await anyio.to_thread.run_sync(self.blobs.read, found.sha256, limiter=self._limiter)
        except Gone as gone:
            raise Refusal(
                Code.STORE_DAMAGED,
                f"The attachment {found.name!r} {gone}; the message can be read without it.",
                "Ask its sender to send it again; a backup may still have it.",
            ) from None

    def _find(self, db: sqlite3.Connection, mailbox: Address, text: str, name: str) -> Attachment:
        seq = visible(self._codec, db, known_mailbox(db, mailbox), text)
        row = db.execute(query.FORMAT, (seq,)).fetchone()
        return pick(attached(db, row), name)

    async def collect(self, lane: Lane) -> int:
        """Go through all contents and let go of those that nobody names; return how many that were."""
        slices = self.blobs.slices()
        removed = 0
        while (gone := await lane.do(lambda db: self._collect(db, slices))) is not None:
            removed += gone
        return removed

    async def collect_now_and_then(self, lane: Lane) -> None:
        """Do so for as long as the store is open."""
        await anyio.sleep(AT_START)
        while True:
            try:
                await self.collect(lane)
            except (Refusal, OSError) as error:
                logger.warning(_LEFT, error)
            await anyio.sleep(GRACE / 1000)

    def _collect(self, db: sqlite3.Connection, slices: Iterator[Sequence[Found]]) -> int | None:
        """Return how many of the next slice are gone, None behind the last one."""
        found = next(slices, None)
        if found is None:
            return None
        now = self._now()
        old = [each for each in found if now - each.kept_at >= GRACE]
        return sum(self.blobs.remove(each) for each in _unnamed(db, old))


def _unnamed(db: sqlite3.Connection, found: Sequence[Found]) -> list[Found]:
    return [each for each in found if db.execute(query.IS_ATTACHED, (bytes.fromhex(each.sha256),)).fetchone() is None]
