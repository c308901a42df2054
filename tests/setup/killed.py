"""A setup or an undo that is killed: `python -m tests.setup.killed ROOT set_up|undo N`.

It is killed before its N-th step on the disk, and ends with 0 when it was done before.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from mcp_mailbox.setup.hosts import HOSTS
from tests.setup.desk import Desk

STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def main(root: str, what: str, step: int) -> None:
    """Do it, and be killed."""
    desk = Desk(Path(root))
    seen = 0

    def look(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in STEPS and str(arguments[0]).startswith(root):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    with desk.book.alone():
        if what == "undo":
            desk.undo()
        else:
            desk.set_up(HOSTS["claude"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
