"""What every verb stands on: ids, time, and which mailboxes are known."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from mcp_mailbox.addresses import Address
from mcp_mailbox.engines.sqlite.codec import Codec
from mcp_mailbox.engines.sqlite.rows import Box, find_mailbox, unknown_mailbox
from mcp_mailbox.store import Origin

KEY_AGE = 30 * 24 * 3600 * 1000
"""ms that a key is remembered."""
READER_AGE = 90 * 24 * 3600 * 1000
"""ms that it is remembered what a reader opened, after it has opened something last."""
_BOXES = 10_000


class Registry:
    """What is remembered of mailboxes, in the writer's thread only; who changes one calls `forget`."""

    def __init__(self) -> None:
        self._boxes: dict[tuple[str, str], Box] = {}

    def find(self, db: sqlite3.Connection, address: Address) -> Box | None:
        """Return what sending and receiving need to know of it, if it is there."""
        key = (address.name, address.space)
        found = self._boxes.get(key)
        if found is None:
            found = find_mailbox(db, address)
            if found is not None:
                if len(self._boxes) >= _BOXES:
                    self._boxes.clear()
                self._boxes[key] = found
        return found

    def box(self, db: sqlite3.Connection, address: Address) -> Box:
        """Return it. Raises Refusal(UNKNOWN_MAILBOX)."""
        found = self.find(db, address)
        if found is None:
            raise unknown_mailbox(str(address))
        return found

    def forget(self) -> None:
        """Read them anew: one was changed, or a transaction was rolled back."""
        self._boxes.clear()


class Common:
    """One store's ids, time and mailboxes."""

    def __init__(self, codec: Codec, now: Callable[[], int]) -> None:
        self.codec = codec
        self.now = now
        self.registry = Registry()
        self.skips: set[tuple[str, str]] = set()
        """Mailboxes, by folded name and space, that may have to be told what was skipped: looked into for no other."""


def request_key(origin: Origin) -> str:
    """Return the key of what was given none."""
    return f"r:{origin.reader}:{origin.request}"
