"""`mcp-mailbox channels`: which there are, joined and left. What is said there comes to the inbox."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from mcp_mailbox.fronts.cli import exits, person, screen, shown, times
from mcp_mailbox.fronts.cli.asking import ask_mail
from mcp_mailbox.fronts.cli.screen import Column

Json = dict[str, Any]
Run = Callable[[argparse.Namespace], int]


def add(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `channels`."""
    parser.add_argument("do", nargs="?", choices=("list", "join", "leave"), default="list", help="default: list")
    parser.add_argument("channel", nargs="?", metavar="#NAME", help="quoted, or your shell takes it for a remark")
    parser.add_argument("--since", metavar="TIME", help="with join, hear what was said since then too: 2h, an id, all")
    person.options(parser)

    def run(chosen: argparse.Namespace) -> int:
        if (chosen.do == "list") is (chosen.channel is not None):
            parser.error("which channel? Write it in quotes: '#build'" if chosen.channel is None else "list takes none")
        if chosen.since is not None and chosen.do != "join":
            parser.error("--since goes with join")
        return _list(chosen) if chosen.do == "list" else _one(chosen)

    return run


def _list(chosen: argparse.Namespace) -> int:
    whole: list[Json] = []
    cursor: str | None = None
    while True:
        page = ask_mail("subscribe", person.who(chosen), {"cursor": cursor})
        whole += page["channels"]
        cursor = page.get("next")
        if cursor is None:
            break
    if chosen.json:
        print(shown.json_page({"channels": whole}))  # noqa: T201 - a command line prints
    elif whole:
        columns = (
            Column("CHANNEL"),
            Column("MEMBERS", right=True),
            Column("LAST", right=True, leave=1),
            Column("YOURS"),
        )
        screen.table(columns, [_row(each, chosen) for each in whole])
    else:
        screen.note("There are none: `mcp-mailbox channels join '#NAME'` makes one.")
    sys.stdout.flush()
    return exits.DONE if whole else exits.NOTHING


def _row(each: Json, chosen: argparse.Namespace) -> screen.Row:
    last = times.age(each["last_at"]) if "last_at" in each else ""
    name = shown.line(person.near(each["channel"], chosen))
    return (name, str(each["members"]), last, "yes" if each.get("yours") else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _one(chosen: argparse.Namespace) -> int:
    given = {"channel": chosen.channel, "leave": True} if chosen.do == "leave" else {"channel": chosen.channel}
    answer = ask_mail("subscribe", person.who(chosen), {**given, "since": chosen.since})
    if chosen.json:
        print(shown.json_page(answer))  # noqa: T201
    elif chosen.do == "leave":
        said = answer.get("hint") or "You have left it: what is said there comes to you no more."
        screen.note(shown.line(said))
    else:
        waits = f"; waiting for you: {_counted(answer['waiting'], 'message')}" if answer.get("waiting") else ""
        made = "made and joined" if answer["created"] else "joined"
        name = shown.line(person.near(answer["channel"], chosen))
        screen.note(
            f"{name}: {made}, {_counted(answer['members'], 'member')}{waits}. `mcp-mailbox send '{name}'` writes to it."
        )
    return exits.NOTHING if "hint" in answer else exits.DONE
