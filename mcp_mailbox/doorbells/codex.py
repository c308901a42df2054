"""Codex: `codex queue` puts a message into a thread, which an idle Codex takes at once and a busy one after its turn.

The thread is learnt from the calls that it makes (`_meta.threadId`), so one that has never called cannot be rung.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mcp_mailbox import frames
from mcp_mailbox.doorbell import Outcome, Pointer, Result
from mcp_mailbox.doorbells.claude import Relay, read_outcome

_THREAD = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}", re.ASCII)
"""What may stand in a command line."""


class CodexBell:
    """The bell of one Codex, behind its relay. `thread` tells in which thread it is, None before it has called."""

    kind = frames.CODEX

    def __init__(self, relay: Relay, thread: Callable[[], str | None]) -> None:
        self._relay = relay
        self._thread = thread

    async def ring(self, pointer: Pointer) -> Result:
        """Queue the pointer in its thread."""
        thread = self._thread()
        if thread is None or not _THREAD.fullmatch(thread):
            return Result(Outcome.FAILED, "its thread is not known before its first call")
        return read_outcome(await self._relay(self.kind, f"{thread} {pointer.text()}".encode()))
