"""The promise about attachments: contents are kept before the message that names them, and as long as one does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import Attachment, Content

Source = Callable[[int], bytes]
"""Returns at most so many bytes more of a content, none at its end. Called in any thread; may raise Refusal."""


class Tray(Protocol):
    """Contents that a message is about to name: none of them goes away meanwhile."""

    async def keep(self, source: Source, limit: int) -> Content | None:
        """Keep a content durably, whoever has sent the same before; None when it has more than `limit` bytes.

        It is read piece by piece, while others are served. Raises what the source raises, Refusal(STORE_FULL) and
        Refusal(STORE_FAILED), and then has kept nothing.
        """
        ...


class AttachmentStore(Protocol):
    """The verbs about attachments. What a draft names must have been kept in a tray that is open."""

    def attaching(self) -> AbstractAsyncContextManager[Tray]:
        """Lend a tray. What was kept in it, and no message names when it is given back, goes away at once.

        After a crash it goes away later.
        """
        ...

    async def attachment(self, mailbox: Address, id: str, name: str) -> tuple[Attachment, bytes]:  # noqa: A002
        """Return an attachment of a message that this mailbox received or sent, whole and as it was kept.

        Raises Refusal(UNKNOWN_MAILBOX | UNKNOWN_MESSAGE | UNKNOWN_ATTACHMENT), (STORE_DAMAGED) when its content is not
        what was kept, or gone.
        """
        ...

    async def collect(self) -> int:
        """Let go of contents that no message names any more; return how many. Slowly, before nobody.

        Never of one that is in a tray, nor of one that was kept a moment ago.
        """
        ...

    @property
    def attached_bytes(self) -> int:
        """Bytes of all contents, as far as they have been counted since the start."""
        ...
