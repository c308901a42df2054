"""What a command is carried out with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts.verbs import Counter
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


class Keys(Protocol):
    """Whose signatures a machine knows. Every verb may raise Refusal."""

    async def listed(self) -> Json:
        """Return `own`, a fingerprint, and `keys`."""
        ...

    async def trust(self, address: str, fingerprint: str, space: str) -> Json:
        """Know that key of that address."""
        ...

    async def forget(self, address: str, space: str) -> Json:
        """Know no key of that address any more."""
        ...


@dataclass(slots=True)
class Desk:
    """What one command is carried out with, and how who asked is told how far it is."""

    counter: Counter
    own: tuple[Tokens, PostOffice] | None
    """The store of this machine; None where a hub keeps its mail."""
    tell: Callable[[Json], Awaitable[None]]
    stay: AsyncExitStack
    """What ends once the answer was taken, or nobody was there to take it."""
    reader_of: ReaderOf
    """Finds who is meant by the processes that led to who asks, and by its thread."""
    known_keys: Keys | None = None
    """Those that this machine knows, where a hub keeps its mail."""
    taken: bool = False
    """Whether it was taken: known when what is in `stay` ends."""

    @property
    def tokens(self) -> Tokens:
        """Who may come over HTTP. Raises Refusal(AT_HUB)."""
        return self._own[0]

    @property
    def post_office(self) -> PostOffice:
        """What serves the store. Raises Refusal(AT_HUB)."""
        return self._own[1]

    @property
    def keys(self) -> Keys:
        """Whose signatures this machine knows. Raises Refusal."""
        if self.known_keys is None:
            hint = "Run it on a machine whose mail a hub keeps; who writes here is set by this post office itself."
            raise Refusal(Code.BAD_ARGUMENT, "Only a machine whose mail is kept by a hub knows keys.", hint)
        return self.known_keys

    @property
    def _own(self) -> tuple[Tokens, PostOffice]:
        if self.own is None:
            hint = "Do this on the hub's machine, as who owns its store; `mcp-mailbox status` says where it is."
            raise Refusal(Code.AT_HUB, "This machine's mail is kept by a hub, and so is what this is about.", hint)
        return self.own
