"""The promise about the directory: who may be found is found, in the order of names, and when it was last here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mcp_mailbox.addresses import Address
from mcp_mailbox.directory import Entry, Search


@dataclass(frozen=True, slots=True)
class Found:
    """A page of the directory; `next` continues it, None when there is no more. A page that goes on may be empty."""

    entries: Sequence[Entry]
    next: str | None = None


class DirectoryStore(Protocol):
    """The verbs about the directory."""

    async def find_mailboxes(
        self, principal: str, search: Search, limit: int, cursor: str | None = None, within: str | None = None
    ) -> Found:
        """Return the mailboxes that the search finds, by space and folded name; `unread` of the principal's own.

        Of others' only those are there whose `Contact` shows them: open ones, those that ask first, and those for the
        same space where the principal has a mailbox in it. The post office's own are nobody's to find. With `within`,
        nothing is in any other space.

        A status whose time has come is as if it had never been said. A cursor never skips what was there when its page
        was made, and one page looks at so many mailboxes and no more. Raises Refusal(BAD_ARGUMENT) for a cursor that
        is not of this search.
        """
        ...

    async def note_seen(self, mailbox: Address) -> None:
        """Note that a reader of it is here. Soon on disk, not at once: a crash may forget it."""
        ...
