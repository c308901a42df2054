"""Claude Code's channels, a research preview: a notification of MCP by which a server says something to a session.

Its reference (https://code.claude.com/docs/en/channels-reference) knows `content`, and `meta`, whose keys are letters,
digits and `_`, and become attributes of what the model sees. It registers a server for it only when it was started with
a flag that names this one, over stdio and after the handshake of 2025-11-25. A notification is not acknowledged.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from mcp_mailbox.doorbell import Outcome, Pointer, Result

CAPABILITY: Mapping[str, dict[str, object]] = {"claude/channel": {}}
"""What a server declares among its experimental capabilities."""
METHOD = "notifications/claude/channel"

Notify = Callable[[bytes], Awaitable[bool]]
"""Says a line to a host; returns whether there was room for it."""


class ChannelBell:
    """The bell of a host that takes notifications for what a channel says."""

    kind = "channel"

    def __init__(self, notify: Notify) -> None:
        self._notify = notify

    async def ring(self, pointer: Pointer) -> Result:
        """Say the pointer, and in `meta` what it is made of."""
        meta = {
            "mailbox": str(pointer.mailbox),
            "from": ", ".join(pointer.names()),
            "messages": str(pointer.count),
            "urgent": str(pointer.urgent),
        }
        said = {"jsonrpc": "2.0", "method": METHOD, "params": {"content": pointer.text(), "meta": meta}}
        if await self._notify(json.dumps(said).encode()):
            return Result(Outcome.RUNG)
        return Result(Outcome.FAILED, "the host does not read")
