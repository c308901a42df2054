"""Mail that has had its time is removed, a little at a time.

What may go is looked for in the reader's thread, which holds up no writer, and looked at again where it is removed:
a dead letter may have been retried in between.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from mcp_mailbox.engines.sqlite.common import KEY_AGE, READER_AGE, Common
from mcp_mailbox.engines.sqlite.schema import give_back_pages
from mcp_mailbox.view import apply, query

_LOOKED_AT = 100
"""Messages of the store that one slice looks at,"""
_DELIVERIES = 100
"""deliveries that it removes at most, but for a single message's,"""
_SIZE = 1 << 19
"""and bytes of bodies, likewise: a page that is freed costs about as much as one that is written."""
_FORGOTTEN = 100


class Retention:
    """The verbs `forget_settled` and `compact`: where the one is, and what each does in which thread."""

    def __init__(self, common: Common) -> None:
        self._now = common.now
        self._after = 0

    def look(self, db: sqlite3.Connection, before: int) -> tuple[Sequence[int], bool]:
        """Return the numbers of messages that may go, and whether there is more to look at behind them."""
        last = db.execute(query.LAST_BEFORE, (before,)).fetchone()
        values = {"after": self._after, "last": last[0] if last else 0, "before": before, "limit": _LOOKED_AT}
        found: list[int] = []
        deliveries = size = 0
        rows = db.execute(query.MAY_GO_PAGE, values).fetchall()
        for row in rows:
            if row["deliveries"]:
                deliveries += row["deliveries"]
                size += row["size"]
                if found and (deliveries > _DELIVERIES or size > _SIZE):
                    break
                found.append(row["seq"])
            self._after = row["seq"]
        else:
            if len(rows) < _LOOKED_AT:
                self._after = 0
        return found, self._after > 0

    def forget(self, db: sqlite3.Connection, seqs: Sequence[int], before: int) -> None:
        """Remove those of them that still may go."""
        for seq in seqs:
            row = db.execute(query.MAY_GO, {"seq": seq, "before": before}).fetchone()
            if row is not None:
                apply.forget_message(db, seq, json.loads(row["recipients"]))

    def tidy(self, db: sqlite3.Connection) -> None:
        """Drop what repeated requests are answered from and what readers opened, as sending does."""
        now = self._now()
        apply.forget_keys(db, now - KEY_AGE, _FORGOTTEN)
        apply.forget_readers(db, now - READER_AGE, _FORGOTTEN)

    def compact(self, db: sqlite3.Connection) -> bool:
        """Give pages back; return whether there are more."""
        return give_back_pages(db)
