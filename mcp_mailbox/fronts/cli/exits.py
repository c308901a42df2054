"""What a command ends with. These numbers are part of the interface: docs/cli.md."""

from __future__ import annotations

DONE = 0
NOTHING = 1
"""It was done, and the answer is no: nothing came, nothing waits, something is wrong."""
MISUNDERSTOOD = 2
"""The line that was typed means nothing (argparse's own)."""
REFUSED = 3
"""It was not done, for a reason that is told: change what was asked for."""
UNREACHABLE = 4
"""It was not done, for no fault of the question: the post office cannot be reached, or its store is in trouble."""
INTERRUPTED = 130
"""Ctrl-C (128 and the signal's number, as shells count)."""

MEANING = {
    DONE: "done",
    MISUNDERSTOOD: "the line means nothing",
    REFUSED: "refused",
    UNREACHABLE: "the post office cannot be reached",
}
"""What holds of every command; what `NOTHING` means, each one says itself."""

_NOBODYS_FAULT = frozenset(
    (
        "unreachable leaving no_start home_unusable forbidden failed config_mismatch"
        " store_full store_failed store_damaged store_newer stopping hub_away"
    ).split()
)


def of(code: str) -> int:
    """Return the exit code of a refusal."""
    return UNREACHABLE if code in _NOBODYS_FAULT else REFUSED
