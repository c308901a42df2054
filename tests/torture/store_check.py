"""What the store's file and the post office's process say of themselves, apart from what clients saw."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

_PAGE_KB = 4
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


def troubles(file: Path) -> list[str]:
    """Return what is wrong with the store's file, once nobody has it open."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        found = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        found += [f"the counter of mailbox {row[0]} is wrong" for row in db.execute(_MISCOUNTED)]
        found += [f"delivery {row[0]} is settled and is not" for row in db.execute(_BOTH)]
    return found
