"""`mcp-mailbox audit`: who asked for what, from the log beside the store; needs no post office."""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcp_mailbox import machine
from mcp_mailbox.fronts.cli import exits, screen, shown, times
from mcp_mailbox.fronts.cli.screen import Cell, Column

Run = Callable[[argparse.Namespace], int]
_GOOD = "done"
_IDS_SHOWN = 3


def add(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `audit`."""
    parser.add_argument("--since", type=times.since, metavar="TIME", help="2h or 3d ago, or a moment: 2026-11-22T18:30")
    parser.add_argument("--principal", help="of this principal alone")
    parser.add_argument("--verb", help="of this verb alone: send, wait_for_message, 'token create' …")
    parser.add_argument("-n", "--last", type=int, default=1000, metavar="COUNT", help="at most (default: 1000)")
    parser.add_argument("--json", action="store_true", help="print JSON, a line for each")
    return _audit


def _audit(chosen: argparse.Namespace) -> int:
    from datetime import datetime  # noqa: PLC0415 - with what follows, this command's alone

    from mcp_mailbox import audit  # noqa: PLC0415

    since = datetime.fromisoformat(chosen.since) if chosen.since else None

    def wanted(each: dict[str, Any]) -> bool:
        if chosen.principal is not None and each.get("principal") != chosen.principal:
            return False
        if chosen.verb is not None and each.get("verb") != chosen.verb:
            return False
        try:
            return since is None or datetime.fromisoformat(each["at"]) >= since
        except ValueError:
            return False

    found = deque(filter(wanted, audit.entries(Path(machine.home()))), maxlen=max(1, chosen.last))
    if chosen.json:
        for each in found:
            print(json.dumps(each).replace("\x7f", "\\u007f"))  # noqa: T201 - a command line prints
    elif found:
        columns = (
            Column("WHEN"),
            Column("PRINCIPAL", leave=2),
            Column("WAY", leave=3),
            Column("VERB"),
            Column("MAILBOX", leave=1),
            Column("IDS", leave=4),
            Column("OUTCOME", rest=True),
        )
        screen.table(columns, [_row(each) for each in found])
    else:
        screen.note(
            f"Nothing was noted. Calls are audited by `serve` beyond this machine, and with {audit.VARIABLE}=on."
        )
    return exits.DONE if found else exits.NOTHING


def _row(each: dict[str, Any]) -> screen.Row:
    ids = [str(id_) for id_ in each.get("ids", ())]
    more = f" +{len(ids) - _IDS_SHOWN}" if len(ids) > _IDS_SHOWN else ""
    outcome = str(each.get("outcome", ""))
    about = f" from {each['client']}" if each.get("client") else ""
    about += f" (and {each['suppressed']} before it)" if each.get("suppressed") else ""
    return (
        times.local(each["at"]),
        shown.line(str(each.get("principal", ""))),
        shown.line(str(each.get("way", ""))),
        shown.line(str(each.get("verb", ""))),
        shown.line(str(each.get("mailbox", ""))),
        shown.line(" ".join(ids[:_IDS_SHOWN]) + more),
        Cell(shown.line(outcome + about), "green" if outcome == _GOOD else "yellow"),
    )
