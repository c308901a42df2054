"""What the store's file and the post office's process say of themselves, apart from what clients saw."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.torture.clients import address
from tests.torture.history import Entry

_PAGE_KB = 4
_MS = 1_000_000
_MISCOUNTED = """
SELECT mailbox FROM counter c WHERE unsettled <> (SELECT count(*) FROM inbox WHERE mailbox = c.mailbox)
"""
_BOTH = "SELECT seq FROM inbox JOIN done USING (mailbox, seq)"


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds."""

    descriptors: int
    resident_kb: int

    def __str__(self) -> str:
        return f"{self.descriptors} descriptors, {self.resident_kb / 1024:.0f} MB"


def footprint(pid: int) -> Footprint:
    proc = Path("/proc") / str(pid)
    pages = int((proc / "statm").read_text().split()[1])
    return Footprint(sum(1 for _ in (proc / "fd").iterdir()), pages * _PAGE_KB)


def edge_troubles(file: Path) -> list[str]:
    """Return what is wrong with an edge's file, once nobody has it open and the hub has had everything."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        return [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]


def outbox(file: Path) -> Iterator[Entry]:
    """Yield what an edge's outbox took in, and what the hub answered."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        for row in db.execute("SELECT * FROM outbox ORDER BY number"):
            who = json.loads(row["who"])
            yield Entry(
                number=row["number"],
                verb=row["verb"],
                mailbox=address(who.get("mailbox") or who.get("own") or "?"),
                given=json.loads(row["given"]),
                asked_ns=row["asked_at"] * _MS,
                answered_ns=row["answered_at"] * _MS if row["answered_at"] is not None else None,
                answer=json.loads(row["answer"]) if row["answer"] is not None else None,
            )


def troubles(file: Path) -> list[str]:
    """Return what is wrong with the store's file, once nobody has it open."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        found = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        found += [f"the counter of mailbox {row[0]} is wrong" for row in db.execute(_MISCOUNTED)]
        found += [f"delivery {row[0]} is settled and is not" for row in db.execute(_BOTH)]
    return found
