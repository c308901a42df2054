"""A process of its own that restores a backup and kills itself at one of its steps.

    python -m tests.engines.restorer STORE BACKUP STEP

A step is whatever changes a file or opens one; SIGKILL comes before it is done. Without so many it ends with 0.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from mcp_mailbox.engines.sqlite import restore

STEPS = {"open", "os.rename", "os.link", "os.remove", "sqlite3.connect"}


def main(store: Path, file: Path, last: int) -> None:
    """Restore until then."""
    steps = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal steps
        if event in STEPS and str(store.parent) in str(arguments[0]):
            steps += 1
            if steps == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    with restore.taken_in(file, store, lambda *_: None) as copy:
        restore.put_in_place(copy, store, "then")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
