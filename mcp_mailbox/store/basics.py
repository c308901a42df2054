"""What verbs of every topic are asked with: who asks, what time it is, whom to ring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mcp_mailbox.addresses import Address


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks, and by which request: the key under which a repeated request is known.

    `reader` is durable (a relay's id), `request` is unique for that reader and repeated only when the same request
    is.
    """

    reader: str
    request: str


class Clock(Protocol):
    """Time and waiting for it, so that tests can step both."""

    def now(self) -> int:
        """Return ms since 1970 UTC."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Return at that time; at once when it has passed. A moment and not a span: time goes on before one sleeps."""
        ...


Ring = Callable[[Address], None]
"""Called in the event loop with the mailbox that has something new to hand out. Carries no data: look again."""
