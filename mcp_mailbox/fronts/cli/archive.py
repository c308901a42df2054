"""`mcp-mailbox backup`, `restore` and `export`: what a person may say, and what is shown meanwhile.

A backup is made by the post office, mail for an export is asked of it page by page; a restore is not ours, for it
happens while there is no post office (`restoring`).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mcp_mailbox import machine, rendezvous
from mcp_mailbox.fronts.cli import person, screen
from mcp_mailbox.fronts.cli.asking import ask, ask_content

Json = dict[str, Any]
Run = Callable[[argparse.Namespace], int]
_SUFFIXES = {".mbox": "mbox", ".jsonl": "jsonl", ".md": "markdown"}
_FORMATS = ("jsonl", "mbox", "maildir", "markdown")
_PATIENCE = 120.0
"""Seconds in which a post office at work may say nothing."""
_REST_AT_MOST = 0.1
_NICE = 10
"""An export has time; agents come first."""


def backup(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `backup`."""
    parser.add_argument("file", type=Path, help="where to; not written over")
    parser.add_argument("--force", action="store_true", help="replace an earlier backup of that name")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    return _backup


def restore(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `restore`, which is run elsewhere (`__main__`)."""
    parser.description = (
        "Put a backup in the store's place, while no post office runs (`mcp-mailbox stop`). The store that"
        " is there is kept beside it under another name. Mail sent since the backup is only in that one."
    )
    parser.add_argument("file", type=Path, help="what `backup` made")
    parser.add_argument("--force", action="store_true", help="also when there is a store, which gets another name")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def export(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `export`."""
    parser.add_argument("address", nargs="?", help="a mailbox of yours: name or name@space")
    parser.add_argument("--channel", metavar="#NAME", help="what this channel keeps, instead of the mailbox's mail")
    parser.add_argument(
        "--format", choices=_FORMATS, help="by default what PATH ends with (.mbox .jsonl .md), or jsonl"
    )
    parser.add_argument("--thread", metavar="ID", help="only the thread of this message")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help="a new file, or directory for maildir")

    def run(chosen: argparse.Namespace) -> int:
        if (chosen.address is None) is (chosen.channel is None):
            parser.error("of what? Give the address of a mailbox, or --channel '#NAME'")
        if chosen.channel is not None and chosen.thread is not None:
            parser.error("--thread is a mailbox's")
        return _export(chosen)

    return run


def show_restored(store: Path, aside: Path | None, missing: int, *, tokens_kept: bool, as_json: bool) -> None:
    """Say what a restore has done."""
    if as_json:
        found = {
            "store": str(store),
            "kept": str(aside) if aside else None,
            "tokens_kept": tokens_kept,
            "attachments_missing": missing,
        }
        print(json.dumps(found, indent=2))  # noqa: T201 - a command line prints
        return
    print(f"Restored. The next call of a host starts the post office with {store}.")  # noqa: T201
    if aside is not None:
        print(f"The store that was there is {aside}.")  # noqa: T201
    if missing:
        print(f"{missing} attachments are damaged in the backup, or not in it.", file=sys.stderr)  # noqa: T201
    if not tokens_kept:
        print(  # noqa: T201
            "Tokens are those of the backup: what was revoked since is good again. See `mcp-mailbox token list`.",
            file=sys.stderr,
        )


def _backup(chosen: argparse.Namespace) -> int:
    with screen.progress("backup") as show:

        def told(line: bytes) -> None:
            so_far = json.loads(line)
            show(so_far["done"], so_far["of"])

        made = ask("backup", told, _PATIENCE, path=os.path.abspath(chosen.file), replace=chosen.force)  # noqa: PTH100 - no links
    if chosen.json:
        print(json.dumps(made, indent=2))  # noqa: T201
    else:
        print(f"{made['file']} has everything, {made['bytes'] / 1e6:.1f} MB.")  # noqa: T201
    return 0


def _export(chosen: argparse.Namespace) -> int:
    shape = chosen.format or _SUFFIXES.get(chosen.output.suffix if chosen.output else "", "jsonl")
    if shape == "maildir" and chosen.output is None:
        raise rendezvous.Refused("bad_argument", "A Maildir is a directory. Say which with -o PATH.")
    from mcp_mailbox.fronts.cli import output  # noqa: PLC0415 - nobody else needs it

    if chosen.output is not None:
        output.absent(chosen.output)
    os.nice(_NICE)
    damaged: list[str] = []
    with screen.progress("export", beside=chosen.output is None) as show:
        pages = _pages(chosen, damaged, show)
        first = next(pages)  # a mistake in the address leaves no file
        try:
            count = _write(shape, chosen.output, first, _each(first, pages, damaged))
        except BrokenPipeError:  # who reads has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
    if chosen.output is not None:
        print(f"{chosen.output} has {count} messages of {first.get('channel', first['address'])}.", file=sys.stderr)  # noqa: T201
    if damaged:
        ids = ", ".join(damaged)
        print(f"mcp-mailbox: damaged on disk and left out: {ids}. A backup may have them.", file=sys.stderr)  # noqa: T201
    return int(bool(damaged))


def _pages(chosen: argparse.Namespace, damaged: list[str], show: Callable[[float, float], None]) -> Iterator[Json]:
    """Yield what there was when the export began; what comes meanwhile would never end."""
    address = chosen.address if chosen.address is not None else person.own()
    space = machine.space(machine.home())
    about = {"mailbox": address, "space": space, "thread": chosen.thread, "channel": chosen.channel}
    cursor: str | None = None
    began: int | None = None
    since: int | None = None
    while True:
        asked = time.monotonic()
        page = ask("mail", lambda _: None, _PATIENCE, **about, cursor=cursor)
        # Agents have the post office for themselves at least half of the time.
        time.sleep(min(time.monotonic() - asked, _REST_AT_MOST))
        damaged += page["damaged"]
        began = page["now"] if began is None else began
        known = [mail for mail in page["mail"] if mail["accepted_at"] <= began]
        if known:
            since = known[0]["accepted_at"] if since is None else since
            show(known[-1]["accepted_at"] - since, began - since)
        yield {**page, "mail": known}
        cursor = page["next"]
        if cursor is None or len(known) < len(page["mail"]):
            return


def _write(shape: str, path: Path | None, first: Json, every: Iterator[Json]) -> int:
    from mcp_mailbox.fronts.cli import formats, output  # noqa: PLC0415

    count = 0
    store = first["store"]
    if shape == "maildir":
        assert path is not None  # noqa: S101 - refused above
        with output.maildir(path) as folder:
            for mail in every:
                seen = mail["state"] is None or mail["settled_at"] is not None
                folder.add(formats.email(mail, store), mail["accepted_at"], mail["id"], seen=seen)
                count += 1
        return count
    with contextlib.ExitStack() as stack:
        # The file is named last: what it links to is there by then.
        out = stack.enter_context(output.file(path) if path is not None else output.standard())
        beside = stack.enter_context(output.beside(path)) if path is not None and shape == "markdown" else None
        if shape == "markdown":
            out.write(formats.title(first.get("channel") or first["address"]))
        for mail in every:
            if shape == "mbox":
                out.write(formats.envelope(mail) + formats.email(mail, store) + b"\n")
            elif shape == "jsonl":
                out.write(formats.jsonl(mail))
            else:
                links = beside.add(mail["id"], formats.contents(mail)) if beside is not None else {}
                out.write(formats.markdown(mail, links))
            count += 1
    return count


def _each(first: Json, pages: Iterator[Json], damaged: list[str]) -> Iterator[Json]:
    """Yield messages with the `content` of their attachments, None for one that is lost."""
    for page in itertools.chain([first], pages):
        for mail in page["mail"]:
            for attachment in mail["attachments"]:
                try:
                    attachment["content"] = _content(first["address"], mail["id"], attachment["name"])
                except rendezvous.Refused as refused:
                    if refused.code != "store_damaged":
                        raise
                    attachment["content"] = None
                    damaged.append(f"{attachment['name']!r} of {mail['id']}")
            yield mail


def _content(address: str, id_: str, name: str) -> bytes:
    return ask_content({"mailbox": address, "space": address.rpartition("@")[2], "id": id_, "name": name})
