"""The readers' connection: each look at the store sees one moment of it, and holds up no writer."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcp_mailbox.engines.sqlite import failures
from mcp_mailbox.engines.sqlite.lane import Job, Lane


class Reader(Lane):
    """Owns a connection that cannot write. Every look is a read transaction of its own."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        self._db.row_factory = sqlite3.Row
        super().__init__(self._db, self._look, 1)

    def _look(self, batch: Sequence[Job[Any]]) -> None:
        for job in batch:
            try:
                self._db.execute("BEGIN")
                job.result = job.work(self._db)
            except Exception as error:  # noqa: BLE001 - it is the caller's
                job.error = failures.translate(error)
            finally:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("COMMIT")
