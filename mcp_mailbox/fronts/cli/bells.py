"""`mcp-mailbox doorbells`: the last rings, what came of each and why not, from the log beside the store."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcp_mailbox import hook as hooks
from mcp_mailbox import machine
from mcp_mailbox.fronts.cli import exits, screen, shown, times
from mcp_mailbox.fronts.cli.screen import Cell, Column

Run = Callable[[argparse.Namespace], int]
_STYLES = {"rung": "green", "failed": "red", "skipped": "yellow"}


def add(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `doorbells`."""
    parser.add_argument("-n", "--last", type=int, default=20, metavar="COUNT", help="how many (default: 20)")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    return _doorbells


def hook(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hook`, which is run elsewhere (`__main__`)."""
    parser.description = (
        "Say that there is mail, as a hook of Claude Code and of Codex. Says nothing when there is none, starts"
        " nothing, and ends with 0 whatever is wrong: it never keeps a host from its work."
    )
    parser.add_argument("event", choices=hooks.EVENTS)
    parser.add_argument(
        hooks.REWAKE,
        action="store_true",
        help=f"with {' and '.join(hooks.REWAKES)}: wait for mail, and end with 2, which wakes Claude Code",
    )


def _doorbells(chosen: argparse.Namespace) -> int:
    from mcp_mailbox.doorbells import journal  # noqa: PLC0415 - only this command reads it

    found = journal.last(Path(machine.home()), max(1, chosen.last))
    if chosen.json:
        print(shown.json_page(found))  # noqa: T201 - a command line prints
    elif found:
        columns = (
            Column("WHEN"),
            Column("MAILBOX"),
            Column("BELL", leave=3),
            Column("MESSAGES", right=True, leave=2),
            Column("FROM", leave=1),
            Column("OUTCOME", rest=True),
        )
        screen.table(columns, [_row(each) for each in found])
    else:
        screen.note("Nobody was rung yet. A host with a doorbell is rung when mail comes and it does not wait for any.")
    return exits.DONE if found else exits.NOTHING


def _row(each: dict[str, Any]) -> screen.Row:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each["at"] / 1000))
    outcome, style = _outcome(each)
    return (
        when,
        shown.line(each["mailbox"]),
        each["kind"],
        str(each["messages"]),
        shown.line(", ".join(each["from"])),
        Cell(shown.line(outcome), style),
    )


def _outcome(each: dict[str, Any]) -> tuple[str, str]:
    """Return what came of a ring, in words, and how a terminal colours it."""
    from mcp_mailbox.doorbell import ANSWERED  # noqa: PLC0415 - as above

    if each["reason"]:
        return f"{each['outcome']}: {each['reason']}", _STYLES.get(each["outcome"], "")
    if each["outcome"] != "rung":
        return each["outcome"], _STYLES.get(each["outcome"], "")
    if "answered_at" in each:
        return f"answered after {times.span(each['answered_at'] - each['at'])}", "green"
    if time.time() * 1000 - each["at"] < ANSWERED:
        return "rung, not answered yet", ""
    return "unanswered", "yellow"
