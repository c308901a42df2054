"""What a command is carried out with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from mcp_mailbox.postoffice import Caller, PostOffice
from mcp_mailbox.tokens import Tokens

Json = dict[str, Any]


ReaderOf = Callable[[Sequence[int], str | None], Caller | None]
"""Returns the reader whose host is the nearest of these processes; of several, in this thread of the host's."""


class Asker(Protocol):
    """Who asks, at the other end of the line."""

    async def tell(self, progress: Mapping[str, object]) -> None:
        """Tell how far it is."""
        ...

    async def answer(self, answer: Mapping[str, object]) -> bool:
        """Answer; return whether whoever asked says that it has used the answer."""
        ...


@dataclass(slots=True)
class Desk:
    """What one command is carried out with, and how who asked is told how far it is."""

    tokens: Tokens
    post_office: PostOffice
    tell: Callable[[Json], Awaitable[None]]
    stay: AsyncExitStack
    """What ends once the answer was taken, or nobody was there to take it."""
    reader_of: ReaderOf
    """Finds who is meant by the processes that led to who asks, and by its thread."""
    taken: bool = False
    """Whether it was taken: known when what is in `stay` ends."""
