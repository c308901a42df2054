"""`mcp-mailbox keys`: by which keys a machine at a hub knows who has signed what it gets (docs/security.md)."""

from __future__ import annotations

import argparse
import time

from mcp_mailbox.fronts.cli import person, screen, shown, times
from mcp_mailbox.fronts.cli.asking import ask
from mcp_mailbox.fronts.cli.screen import Column


def add(keys: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    what = keys.add_mutually_exclusive_group()
    what.add_argument("--trust", nargs=2, metavar=("ADDRESS", "FINGERPRINT"), help="know this key of that address")
    what.add_argument("--forget", metavar="ADDRESS", help="know none: the next one that signs is")
    keys.add_argument("--space", help="the space of bare names")
    keys.add_argument("--json", action="store_true", help="print it as JSON")
    keys.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    space = person.space(chosen)
    if chosen.trust is not None:
        address, fingerprint = chosen.trust
        answer = ask("keys trust", address=address, fingerprint=fingerprint, space=space)
    elif chosen.forget is not None:
        answer = ask("keys forget", address=chosen.forget, space=space)
    else:
        answer = ask("keys")
    if chosen.json:
        print(shown.json_page(answer))  # noqa: T201 - a command line prints
    elif chosen.trust is not None:
        print(f"The key {answer['fingerprint']} is known of {shown.line(answer['address'])}.")  # noqa: T201
    elif chosen.forget is not None:
        print(f"No key of {shown.line(answer['address'])} is known any more.")  # noqa: T201
    else:
        _list(answer)
    return 0


def _list(answer: dict[str, object]) -> None:
    own = answer["own"]
    told = f"This machine signs: {own}" if own else "This machine does not sign (MCP_MAILBOX_SIGN=on)."
    print(told)  # noqa: T201
    keys = answer["keys"]
    if isinstance(keys, list) and keys:
        columns = (Column("ADDRESS", rest=True), Column("FINGERPRINT"), Column("AGE", right=True), Column("HOW"))
        now = time.time() * 1000
        rows = [
            (shown.line(each["address"]), each["fingerprint"], times.span(now - each["since"]), each["how"])
            for each in keys
        ]
        screen.table(columns, rows)
