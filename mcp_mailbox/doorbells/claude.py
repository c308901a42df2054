"""Claude Code: the socket that it gives its servers takes what a user might have typed.

It acknowledges nothing. Read at once when idle; in the middle of a turn, after the tool call that is under way.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from mcp_mailbox import frames
from mcp_mailbox.doorbell import Outcome, Pointer, Result

Relay = Callable[[str, bytes], Awaitable[str]]
"""Has a relay ring its host by a kind of bell, with a line; returns `rung`, or `failed` and why."""


class ClaudeBell:
    """The bell of one Claude Code, behind its relay."""

    kind = frames.CLAUDE

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def ring(self, pointer: Pointer) -> Result:
        """Ring as if its user had typed the pointer."""
        message = {"type": "user", "message": {"role": "user", "content": pointer.text()}}
        return read_outcome(await self._relay(self.kind, json.dumps(message).encode()))


def read_outcome(said: str) -> Result:
    """Return what a relay says came of it."""
    outcome, _, reason = said.partition(" ")
    return Result(Outcome.RUNG if outcome == Outcome.RUNG else Outcome.FAILED, reason)
