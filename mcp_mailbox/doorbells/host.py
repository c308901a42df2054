"""A host behind a relay: which bell is its own, by what it calls itself.

A relay may hold another host's bell: what Claude Code gives to those whom it starts, a shell hands on to whatever is
started there. So the name counts as well.
"""

from __future__ import annotations

from collections.abc import Callable

from mcp_mailbox.doorbell import Doorbell
from mcp_mailbox.doorbells.channel import ChannelBell, Notify
from mcp_mailbox.doorbells.claude import ClaudeBell, Relay
from mcp_mailbox.doorbells.codex import CodexBell
from mcp_mailbox.doorbells.opencode import OpenCodeBell


def bell_of(
    name: str,
    kinds: frozenset[str],
    relay: Relay,
    thread: Callable[[], str | None],
    cwd: str | None,
    channel: Notify | None = None,
) -> Doorbell | None:
    """Return the bell of a host that calls itself so, whose relay has these kinds; None when it has none.

    `thread` tells in which thread it called last, None before; `cwd` is where its relay was started. With `channel` it
    is rung by that, and by nothing else.
    """
    if channel is not None:
        return ChannelBell(channel)
    bells: dict[str, Doorbell] = {"claude-code": ClaudeBell(relay), "codex": CodexBell(relay, thread)}
    if cwd is not None:
        bells["opencode"] = OpenCodeBell(relay, cwd, thread)
    found = next((bell for prefix, bell in bells.items() if name.lower().startswith(prefix)), None)
    return found if found is not None and found.kind in kinds else None
