"""`mcp-mailbox inbox`, `read`, `search`, `dead`, `agents`: what there is. Looking leases nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcp_mailbox.fronts import fence
from mcp_mailbox.fronts.cli import attaching, exits, person, screen, shown, times, trouble
from mcp_mailbox.fronts.cli.asking import ask_mail
from mcp_mailbox.fronts.cli.screen import Cell, Column
from mcp_mailbox.fronts.cli.settling import settle_all

Json = dict[str, Any]
Run = Callable[[argparse.Namespace], int]
_PAGE = 100
"""Rows in one answer, at most (`arguments.LIST_LIMIT`)."""
_FROM_SHOWN = 24
STYLES = {"urgent": "bold red", "low": "dim", "leased": "yellow", "online": "green", "away": "yellow"} | dict.fromkeys(
    ("rejected", "expired", "dead"), "red"
)

_TAKEN_LATER = ("stored", "rung", "surfaced")
"""States of what a wait hands out once it is due."""


def inbox(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `inbox`."""
    _paging(parser)
    about = "dead letters, what nobody has acked, or who asks to write to you"
    parser.add_argument("--show", choices=("inbox", "dead", "overdue", "requests"), help=about)
    parser.add_argument("--urgent", action="store_true", help="only what is urgent")
    parser.add_argument("--since", type=times.since, metavar="TIME", help="only what came since then: 2h, 2026-11-22")
    person.options(parser)
    return _inbox


def dead(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `dead`."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="which ones; without any, all of them are listed")
    does = parser.add_mutually_exclusive_group()
    does.add_argument("--retry", action="store_true", help="hand these out again")
    does.add_argument("--purge", action="store_true", help="clear these away; their mail stays in the history")
    _paging(parser)
    person.options(parser)

    def run(chosen: argparse.Namespace) -> int:
        does = chosen.retry or chosen.purge
        if chosen.ids and not does:
            parser.error("what to do with them? Give --retry or --purge")
        if does and bool(chosen.ids) == chosen.all:
            parser.error("which ones? Give ids, or --all")
        return _dead(chosen)

    return run


def read(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `read`."""
    parser.add_argument("id", help="of a message that you received or sent")
    parser.add_argument("--raw", action="store_true", help="the body alone, as it was sent")
    parser.add_argument("--attachment", metavar="NAME", help="this one, into a pipe or to a terminal if it is text")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to; a new file")
    person.options(parser)

    def run(chosen: argparse.Namespace) -> int:
        if chosen.output is not None and chosen.attachment is None:
            parser.error("-o goes with --attachment")
        return attaching.save(chosen) if chosen.attachment is not None else _read(chosen)

    return run


def search(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `search`."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="all of which must be there")
    parser.add_argument("--from", dest="sender", metavar="ADDRESS", help="only from this address")
    parser.add_argument("--thread", metavar="ID", help="only of this thread; alone: all of it, from its beginning")
    parser.add_argument("--since", type=times.since, metavar="TIME", help="only what came since then: 2h, 2026-11-22")
    _paging(parser)
    person.options(parser)

    def run(chosen: argparse.Namespace) -> int:
        if not (chosen.words or chosen.sender or chosen.thread):
            parser.error("what for? Give a word, --from or --thread")
        return _search(chosen)

    return run


def agents(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `agents`."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="beginnings of words in name, about or skills")
    parser.add_argument("--skill", default="", help="who has exactly this one")
    _paging(parser)
    person.options(parser, mailbox=False)
    return _agents


def _paging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=_count, default=20, metavar="N", help="rows (default 20)")
    parser.add_argument("--all", action="store_true", help="all rows")
    parser.add_argument("--cursor", help="`next` of the page before")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
        raise argparse.ArgumentTypeError(f"{text!a} is no number of rows")
    return int(text[:9])


def _listed(chosen: argparse.Namespace, verb: str, given: Json, key: str, show: Callable[[Json], None]) -> int:
    """Ask for page after page until there are as many rows as were asked for, and show them."""
    who = person.who(chosen, looks=key == "mailboxes")
    whole: Json = {key: []}
    cursor, wanted = chosen.cursor, sys.maxsize if chosen.all else chosen.limit
    while True:
        room = min(wanted - len(whole[key]), _PAGE)
        last = True

        def use(page: Json) -> None:
            nonlocal whole, last
            kept = {name: whole[name] for name in ("skipped",) if name in whole}
            whole = {**kept, **page, key: whole[key] + page[key]}
            last = "next" not in page or len(whole[key]) >= wanted
            if last:
                _show(chosen, whole, key, show)

        each = {**who, "request": f"{who['request']} {cursor}"}
        page = ask_mail(verb, each, {**given, "limit": room, "cursor": cursor}, use)
        if last:
            return exits.DONE if whole[key] else exits.NOTHING
        cursor = page["next"]


def _show(chosen: argparse.Namespace, whole: Json, key: str, show: Callable[[Json], None]) -> None:
    if chosen.json:
        print(shown.json_page(whole), flush=True)  # noqa: T201 - a command line prints
        return
    hint = shown.line(trouble.for_people(whole.get("hint", "")))
    if whole[key]:
        show(whole)
    elif not hint.startswith(_NOTHING[key]):  # else it says the same, and more
        screen.note(_NOTHING[key])
    if hint:
        screen.note(hint)
    skipped(whole, chosen)
    if "next" in whole:
        screen.note(f"There are more: --all, or --cursor {whole['next']}")
    sys.stdout.flush()


def skipped(answer: Json, chosen: argparse.Namespace) -> None:
    """Say what channels kept no more when one came to read it."""
    for each in answer.get("skipped", []):
        noun = "message was" if each["count"] == 1 else "messages were"
        where = shown.line(person.near(each["channel"], chosen))
        screen.note(f"{each['count']} {noun} gone from {where} before you came to read there.")


_NOTHING = {"messages": "Nothing.", "mailboxes": "Nobody is found."}


def _inbox(chosen: argparse.Namespace) -> int:
    given = {"show": chosen.show, "urgent_only": chosen.urgent, "since": chosen.since}
    return _listed(chosen, "list_inbox", given, "messages", lambda whole: _messages(chosen, whole))


def _messages(chosen: argparse.Namespace, whole: Json) -> None:
    sent = chosen.show == "overdue" if hasattr(chosen, "show") else False
    columns = (
        Column("ID"),
        Column("PRIORITY", leave=3),
        Column("TO" if sent else "FROM"),
        Column("SUBJECT", rest=True),
        Column("AGE", right=True, leave=4),
        Column("STATE", leave=2),
        Column("ATTEMPTS", right=True, leave=1),
    )
    rows = [
        (
            each["id"],
            _styled("" if each["priority"] == "normal" else each["priority"]),
            _address(each["to"] if sent else each["from"], chosen),
            said(each),
            times.age(each["sent_at"]),
            _state(each),
            str(each["attempts"]) if each.get("attempts") else "",
        )
        for each in whole["messages"]
    ]
    screen.table(columns, rows)
    unread = whole.get("unread")  # unknown while a hub is away
    if screen.is_terminal() and unread is not None:
        screen.note(f"{unread} to be read; `mcp-mailbox read ID` shows one, `mcp-mailbox reply ID` answers it.")


def _state(each: Json) -> Cell:
    """Return how it stands; of what was put off and nobody can take yet, when it is due."""
    state = each.get("state", "")
    when = times.due(each["deliver_at"]) if "deliver_at" in each and state in _TAKEN_LATER else None
    return Cell(f"due {when}", "dim") if when is not None else _styled(state)


def _dead(chosen: argparse.Namespace) -> int:
    if not (chosen.retry or chosen.purge):
        return _listed(chosen, "list_inbox", {"show": "dead"}, "messages", lambda whole: _messages(chosen, whole))
    ids = chosen.ids or _dead_ids(chosen)
    if not ids:
        screen.note(_NOTHING["messages"])
        return exits.NOTHING
    return settle_all(chosen, ids, "retry" if chosen.retry else "purge")


def _dead_ids(chosen: argparse.Namespace) -> list[str]:
    ids: list[str] = []
    cursor = None
    while True:
        page = ask_mail("list_inbox", person.who(chosen), {"show": "dead", "limit": _PAGE, "cursor": cursor})
        ids += [each["id"] for each in page["messages"]]
        cursor = page.get("next")
        if cursor is None:
            return ids


def _read(chosen: argparse.Namespace) -> int:
    def use(answer: Json) -> None:
        kind, body = answer.pop("format"), answer["body"]
        if chosen.raw and not screen.is_terminal() and not chosen.json:
            sys.stdout.buffer.write(body.encode())
        elif chosen.raw and not chosen.json:
            screen.text(shown.lines(body))
        elif chosen.json:
            parsed = json.loads(body) if kind == "json" else body
            print(shown.json_page({**answer, "body": parsed}))  # noqa: T201
        else:
            _message(chosen, answer, kind)
        sys.stdout.flush()

    ask_mail("read", person.who(chosen), {"id": chosen.id}, use)
    return exits.DONE


def _message(chosen: argparse.Namespace, answer: Json, kind: str) -> None:
    screen.fields(header(answer))
    print()  # noqa: T201
    screen.text(body_lines(trouble.body_for_people(answer), kind))
    if answer.get("attachments"):
        print()  # noqa: T201
        attached = (Column("ATTACHMENT", rest=True), Column("SIZE", right=True), Column("TYPE", leave=1))
        rows = [(each["name"], str(each["size"]), each.get("type", "")) for each in answer["attachments"]]
        screen.table(attached, [tuple(map(shown.line, row)) for row in rows])
    if answer.get("sent"):
        print()  # noqa: T201
        columns = (
            Column("TO"),
            Column("STATE"),
            Column("SINCE", leave=2),
            Column("ATTEMPTS", right=True, leave=1),
            Column("REASON", rest=True),
        )
        screen.table(columns, [_became(each, chosen) for each in answer["sent"]])


def _became(each: Json, chosen: argparse.Namespace) -> screen.Row:
    since = each["at"].get(each["state"])
    attempts = str(each.get("attempts", ""))
    return (
        _address(each["to"], chosen),
        _styled(each["state"]),
        times.local(since) if since else "",
        attempts,
        shown.beginning(each.get("reason", "")),
    )


def header(answer: Json) -> list[tuple[str, str]]:
    """Return what stands above a body."""
    several = {"To": answer.get("to"), "Cc": answer.get("cc")}
    pairs = [("From", answer["from"]), *((name, ", ".join(to)) for name, to in several.items() if to)]
    verified = answer.get("verified", "by nobody")
    if answer.get("untrusted"):
        whose = "another principal's words; verified" if verified in fence.VERIFIED else "NOT VERIFIED"
        pairs.append(("Whose", f"{whose}: {verified}"))
    elif "verified" in answer:
        pairs.append(("Verified", verified))
    pairs += [("Subject", answer["subject"])] if answer.get("subject") else []
    written = str(answer.get("written_at", answer["sent_at"]))
    pairs.append(("Date", f"{times.local(written)} ({times.age(written)} ago)"))
    pairs += [("Arrived", times.local(answer["sent_at"]))] if "written_at" in answer else []
    pairs.append(("Id", answer["id"]))
    if answer["thread"] != answer["id"].partition(".")[0]:
        pairs.append(("Thread", answer["thread"]))
    named = {"reply_to": "Reply-To", "kind": "Kind", "state": "State", "reason": "Reason", "expires_at": "Expires"}
    named |= {"lease_until": "Yours until"}
    pairs += [("Priority", answer["priority"])] if answer["priority"] != "normal" else []
    for key, name in named.items():
        if answer.get(key):
            value = str(answer[key])
            pairs.append((name, times.local(value) if key in {"expires_at", "lease_until"} else value))
    return [(name, shown.line(value)) for name, value in pairs]


def attached(answer: Json) -> list[tuple[str, str]]:
    """Return what a header says of attachments: a name and a size each, and how many are not named."""
    named = [f"{each['name']} ({each['size']:,} B)" for each in answer.get("attachments", ())]
    if more := answer.get("more_attachments"):
        named.append(f"and {more} more; `mcp-mailbox read {answer['id'].partition('.')[0]}` names all")
    return [("Attached", shown.line(each)) for each in named]


def body_lines(body: object, kind: str) -> list[str]:
    """Return the lines of a body: JSON in several, with its letters as they are."""
    if isinstance(body, str) and kind == "json":
        body = json.loads(body)
    if isinstance(body, str):
        return shown.lines(body)
    return shown.lines(json.dumps(body, indent=2, ensure_ascii=False))


def _search(chosen: argparse.Namespace) -> int:
    given = {"query": " ".join(chosen.words), "from": chosen.sender, "thread": chosen.thread, "since": chosen.since}

    def show(whole: Json) -> None:
        columns = (
            Column("ID"),
            Column("FROM"),
            Column("TO", leave=1),
            Column("SUBJECT", rest=True),
            Column("AGE", right=True, leave=3),
            Column("STATE", leave=2),
        )
        rows = [
            (
                each["id"],
                _address(each["from"], chosen),
                _recipients(each, chosen),
                said(each),
                times.age(each["sent_at"]),
                _styled(each.get("state", "")),
            )
            for each in whole["messages"]
        ]
        screen.table(columns, rows)

    return _listed(chosen, "list_inbox", given, "messages", show)


def _recipients(each: Json, chosen: argparse.Namespace) -> str:
    to = each.get("to", [])
    more = each.get("more_to", 0) + max(0, len(to) - 1)
    return f"{_address(to[0], chosen)}{f' +{more}' if more else ''}" if to else ""


def _agents(chosen: argparse.Namespace) -> int:
    given = {"query": " ".join(chosen.words), "skill": chosen.skill, "space": chosen.space or person.space(chosen)}

    def show(whole: Json) -> None:
        columns = (
            Column("ADDRESS"),
            Column("PRESENCE"),
            Column("UNREAD", right=True, leave=3),
            Column("SEEN", right=True, leave=2),
            Column("ABOUT", rest=True),
            Column("SKILLS", leave=1),
        )
        rows = [
            (
                _address(each["address"], chosen) + (" (you)" if person.is_own(each["address"], chosen) else ""),
                _styled(each["presence"]),
                str(each["unread"]) if each.get("unread") else "",
                times.age(each["last_seen"]) if "last_seen" in each else "",
                shown.beginning(" — ".join(filter(None, (each.get("status"), each.get("about"))))),
                shown.beginning(", ".join(each.get("skills", []))),
            )
            for each in whole["mailboxes"]
        ]
        screen.table(columns, rows)

    return _listed(chosen, "find_mailboxes", given, "mailboxes", show)


def said(each: Json) -> str:
    """Return a preview's subject and the beginning of its body; before these, how many files came along."""
    parts = [shown.beginning(each.get("subject", "")), shown.beginning(each["preview"])]
    files = len(each.get("attachments", ())) + each.get("more_attachments", 0)
    mark = f"[{files} file{'' if files == 1 else 's'}] " if files else ""
    return mark + " — ".join(filter(None, parts))


def _address(address: str, chosen: argparse.Namespace) -> str:
    near = shown.line(person.near(address, chosen))
    return near if len(near) <= _FROM_SHOWN or not screen.is_terminal() else f"{near[: _FROM_SHOWN - 1]}…"


def _styled(word: str) -> Cell:
    return Cell(word, STYLES.get(word, ""))
