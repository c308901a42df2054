"""`mcp-mailbox ack`, `release`, `reject`, `extend`, `accept`: what becomes of mail."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from mcp_mailbox.fronts.cli import exits, person, screen, shown, times, trouble
from mcp_mailbox.fronts.cli.asking import ask_mail

Json = dict[str, Any]
Run = Callable[[argparse.Namespace], int]
_AT_ONCE = 100
"""Ids in one call, at most (`postoffice.SETTLE_LIMIT`)."""
_DONE = {
    "ack": "done",
    "release": "back for anyone",
    "reject": "rejected",
    "extend": "yours for longer",
    "retry": "to be handed out again",
    "purge": "cleared away",
    "accept": "let in; what they wrote is in your inbox",
}


def ack(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `ack`."""
    return _ids(parser, "ack")


def release(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `release`."""
    parser.add_argument("--delay", type=times.seconds, metavar="TIME", help="only then: 90, 10m, 2h")
    return _ids(parser, "release")


def reject(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `reject`."""
    parser.add_argument("--reason", default="", help="told to the sender")
    return _ids(parser, "reject")


def extend(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `extend`."""
    parser.add_argument("--delay", type=times.seconds, metavar="TIME", help="for so long (default: a lease's term)")
    return _ids(parser, "extend")


def accept(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `accept`."""
    return _ids(parser, "accept")


def _ids(parser: argparse.ArgumentParser, outcome: str) -> Run:
    parser.add_argument("ids", nargs="+", metavar="ID")
    person.options(parser)
    return lambda chosen: settle_all(chosen, chosen.ids, outcome)


def settle_all(chosen: argparse.Namespace, ids: Sequence[str], outcome: str) -> int:
    """Do this with all of them, and say what became of each; refused when any was."""
    given = {"outcome": outcome, "delay": getattr(chosen, "delay", None), "reason": getattr(chosen, "reason", "")}
    whole: Json = {"settled": []}
    for first in range(0, len(ids), _AT_ONCE):
        some = ids[first : first + _AT_ONCE]
        answer = ask_mail("settle", person.who(chosen), {**given, "ids": some})
        whole["settled"] += answer["settled"]
        if "failed" in answer:
            whole["failed"] = whole.get("failed", []) + answer["failed"]
    if chosen.json:
        print(shown.json_page(whole))  # noqa: T201 - a command line prints
    else:
        for each in whole["settled"]:
            print(f"{shown.line(each)}: {_DONE[outcome]}")  # noqa: T201
        for each in whole.get("failed", []):
            screen.note(f"mcp-mailbox: {shown.line(trouble.as_text(each))}")
    return exits.REFUSED if "failed" in whole else exits.DONE
