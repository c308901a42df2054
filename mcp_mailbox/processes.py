"""What the system tells of other processes: what one is called, which one has started it.

Knows nothing of hosts. Whoever asks is a relay or a hook, so it costs them no import that they have not.
"""

# ruff: noqa: PTH123 - as in `rendezvous`
from __future__ import annotations


def name_of(pid: int) -> str:
    """Return what a process is called, empty when that is not known."""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def parent_of(pid: int) -> int:
    """Return the id of a process's parent, 0 when that is not known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in brackets, may hold anything.
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
