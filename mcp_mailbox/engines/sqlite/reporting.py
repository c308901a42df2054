"""What the post office tells a mailbox of a request that came to nothing: once, however often that comes again."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from mcp_mailbox.addresses import Address
from mcp_mailbox.engines.sqlite.common import Common, request_key
from mcp_mailbox.engines.sqlite.ending import Ending
from mcp_mailbox.report import Notice
from mcp_mailbox.store import Origin
from mcp_mailbox.view import apply, query


class Reporting:
    """The verb `report`."""

    def __init__(self, common: Common, ending: Ending) -> None:
        self._now = common.now
        self._registry = common.registry
        self._ending = ending

    def report(
        self, db: sqlite3.Connection, mailbox: Address, notice: Notice, origin: Origin
    ) -> tuple[bool, Collection[Address]]:
        """Return whether it is new, and whom to ring."""
        box = self._registry.box(db, mailbox)
        key = f"report {request_key(origin)}"
        if db.execute(query.KNOWN, (box.id, key)).fetchone() is not None:
            return False, ()
        apply.note_told(db, box.id, key, self._now())
        self._ending.post(db, box.id, box.address.space, None, None, notice)
        return True, (box.address,)
