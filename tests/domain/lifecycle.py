"""Draws docs/lifecycle.md from the table that the engines obey.

python -m tests.domain.lifecycle      writes the page anew
"""

from __future__ import annotations

from pathlib import Path

from mcp_mailbox.delivery import MEANING, TRANSITIONS, State
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "lifecycle.md"
COMMAND = "python -m tests.domain.lifecycle"

_HEAD = f"""\
# The life of a delivery

A delivery is one message in one mailbox. This page is drawn from `TRANSITIONS` in `mcp_mailbox/delivery.py` by
`{COMMAND}`; a test keeps it so. Change the table, not the page.

"""


_BEGINS = {State.STORED: "accept", State.HELD: "accept, of a stranger"}


def draw() -> str:
    """Return the page."""
    arrows = [
        f"    {state.word} --> {target.word}: {event}"
        for state, events in TRANSITIONS.items()
        for event, target in events.items()
    ]
    ends = [f"    {state.word} --> [*]" for state in State if state.settled]
    begins = [f"    [*] --> {state.word}: {how}" for state, how in _BEGINS.items()]
    diagram = ["```mermaid", "stateDiagram-v2", *begins, *arrows, *ends, "```", ""]
    table = ["| event | from | to | meaning |", "|---|---|---|---|"]
    for event, meaning in MEANING.items():
        starts = [state.word for state, events in TRANSITIONS.items() if event in events]
        targets = sorted({events[event].word for events in TRANSITIONS.values() if event in events})
        table.append(f"| {event} | {', '.join(starts)} | {', '.join(targets)} | {meaning} |")
    return _HEAD + "\n".join([*diagram, *table, ""])


def write(page: Path = PAGE) -> None:
    """Write the page anew."""
    page.write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    write()
