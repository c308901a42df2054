"""`mcp-mailbox doorbells`: the last rings, what came of each and why not, from the log beside the store."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from mcp_mailbox import rendezvous

_UNCUT = 1000
"""Columns for whoever reads the table from a pipe: nothing is cut off."""
_STYLES = {"rung": "green", "failed": "red", "skipped": "yellow"}


def add(commands: Any) -> None:
    """Add the command to a parser's sub-commands."""
    bells = commands.add_parser("doorbells", help="show when hosts were rung for mail, and why not")
    bells.add_argument("-n", "--last", type=int, default=20, metavar="COUNT", help="how many (default: 20)")
    bells.add_argument("--json", action="store_true", help="print them as JSON")
    bells.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    from mcp_mailbox.doorbells import journal  # noqa: PLC0415 - only this command reads it

    found = journal.last(Path(rendezvous.home()), max(1, chosen.last))
    if chosen.json:
        print(json.dumps(found, indent=2))  # noqa: T201 - a command line prints
    elif found:
        _show(found)
    else:
        print("Nobody was rung yet. A host with a doorbell is rung when mail comes and it does not wait for any.")  # noqa: T201
    return 0


def _shown(text: str) -> str:
    """Return it with what a terminal would obey spelled out."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _show(found: list[dict[str, Any]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - 50 ms, for people only
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for heading in ("when", "mailbox", "bell", "messages", "from", "outcome"):
        table.add_column(heading, justify="right" if heading == "messages" else "left")
    for each in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each["at"] / 1000))
        outcome = f"{each['outcome']}: {each['reason']}" if each["reason"] else each["outcome"]
        cells = [when, each["mailbox"], each["kind"], str(each["messages"]), ", ".join(each["from"])]
        table.add_row(*(Text(_shown(cell)) for cell in cells), Text(_shown(outcome), _STYLES.get(each["outcome"], "")))
    console = Console()
    Console(width=None if console.is_terminal else _UNCUT).print(table)
