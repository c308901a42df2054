"""`mcp-mailbox wait` and `tail`: mail as it comes.

Who waits does not start a post office that has left meanwhile: where there is none no mail can come, and somebody may
have stopped it on purpose. It goes on with the next one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from mcp_mailbox import rendezvous
from mcp_mailbox.fronts.cli import exits, person, screen, shown, times, trouble
from mcp_mailbox.fronts.cli.asking import ask_mail, ask_once
from mcp_mailbox.fronts.cli.looking import STYLES, attached, body_lines, header, said, skipped
from mcp_mailbox.fronts.cli.screen import Cell

Json = dict[str, Any]
Run = Callable[[argparse.Namespace], int]
_AT_ONCE = 3600.0
"""Seconds of one request: the next one follows by itself."""
_SLACK = 30.0
"""Seconds that an answer may take on top of the wait."""
_LOOK_EVERY = 0.25
"""Seconds between two looks for another post office."""
_SILENCE = 30.0
"""Seconds without a sign of life after which a post office that is followed has died."""
_LEFT = ("leaving", "stopping")


def wait(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `wait`."""
    about = "at most so long: 90, 10m (default: for ever)"
    parser.add_argument("--timeout", type=times.seconds, metavar="TIME", help=about)
    parser.add_argument("--from", dest="sender", metavar="ADDRESS", help="only from this address")
    parser.add_argument("--thread", metavar="ID", help="only of this thread")
    parser.add_argument("--ack", action="store_true", help="ack it once it is written out")
    parser.add_argument("--take-over", action="store_true", help="read here although an agent does")
    person.options(parser)
    return _wait


def tail(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `tail`."""
    parser.add_argument("--count", type=int, metavar="N", help="end after so many")
    person.options(parser)
    return _tail


def _wait(chosen: argparse.Namespace) -> int:
    deadline = time.monotonic() + (chosen.timeout if chosen.timeout is not None else float("inf"))
    handles: list[str] = []

    last: Json = {}

    def use(answer: Json) -> None:
        nonlocal last
        last = {name: answer[name] for name in ("hint", "skipped") if name in answer}
        handles.extend(each["id"] for each in answer["messages"])
        if handles:
            _handed_out(chosen, answer)

    given = {"from": chosen.sender, "thread": chosen.thread}
    take_over, start = chosen.take_over, True
    while True:
        left = max(0.0, deadline - time.monotonic())
        part = min(left, _AT_ONCE)
        who = person.who(chosen)
        try:
            asked = {**given, "timeout": part, "take_over": take_over or None}
            found = ask_once("wait_for_message", who, asked, use=use, seconds=part + _SLACK, start=start)
        except rendezvous.Refused as refused:
            if refused.code not in _LEFT:
                raise
            found = None
        start = False
        if handles:
            break
        take_over = take_over and found is None
        if time.monotonic() >= deadline:
            return _nothing(chosen, last)
        if found is None:
            time.sleep(min(_LOOK_EVERY, max(0.0, deadline - time.monotonic())))
    if chosen.ack:
        ask_mail("settle", person.who(chosen), {"ids": handles, "outcome": "ack"})
    return exits.DONE


def _nothing(chosen: argparse.Namespace, last: Json) -> int:
    if chosen.json:
        print(shown.json_page({"messages": [], "timed_out": True, **last}))  # noqa: T201 - a command line prints
    else:
        screen.note("Nothing came.")
        if "hint" in last:
            screen.note(shown.line(trouble.for_people(last["hint"])))
        skipped(last, chosen)
    return exits.NOTHING


def _handed_out(chosen: argparse.Namespace, answer: Json) -> None:
    if chosen.json:
        print(shown.json_page(answer), flush=True)  # noqa: T201
        return
    for number, each in enumerate(answer["messages"]):
        if number:
            print()  # noqa: T201
        screen.fields([*header(each), *attached(each)])  # above the body, which could say the same below it
        # Set in, so that no body can pass for the next message.
        screen.text(["", *(f"  {one}" for one in body_lines(trouble.body_for_people(each), "text"))])
        if "more" in each:
            print(f"  … `mcp-mailbox read {each['id'].partition('.')[0]}` shows the rest.")  # noqa: T201
    skipped(answer, chosen)
    if screen.is_terminal() and not chosen.ack:
        screen.note("\nIt is yours: `mcp-mailbox reply ID` answers and acks it, or `ack ID`; else it comes back.")
    sys.stdout.flush()


class _Enough(Exception):  # noqa: N818 - somebody wanted so many
    pass


def _tail(chosen: argparse.Namespace) -> int:
    place: str | None = None
    shown_so_far, start = 0, True

    def told(page: Json) -> None:
        nonlocal place, shown_so_far
        for each in page["messages"]:
            _arrived(chosen, each)
            shown_so_far += 1
            if shown_so_far == chosen.count:
                raise _Enough
        if place is None:
            screen.note("Waiting for mail; Ctrl-C ends it.")
        place = page["place"]

    while True:
        given = {"place": place}
        try:
            ask_once("follow", person.who(chosen), given, told=told, seconds=_SILENCE, start=start)
        except _Enough:
            return exits.DONE
        except rendezvous.Refused as refused:
            if refused.code not in _LEFT and (place is None or refused.code != "unreachable"):
                raise
        start = False
        time.sleep(_LOOK_EVERY)


def _arrived(chosen: argparse.Namespace, each: Json) -> None:
    if chosen.json:
        print(shown.json_line(each), flush=True)  # noqa: T201
        return
    priority = each["priority"]
    mark = [Cell(priority, STYLES[priority])] if priority in STYLES else []
    sender = Cell(shown.line(person.near(each["from"], chosen)), "bold")
    screen.line(Cell(times.clock(each["sent_at"]), "dim"), each["id"], sender, *mark, said(each))
