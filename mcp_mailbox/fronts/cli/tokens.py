"""`mcp-mailbox token …`: who may come in over HTTP.

A new secret is all that stands on stdout, so that `TOKEN=$(mcp-mailbox token create ci)` works; words go to stderr.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import UTC, datetime
from typing import Any

from mcp_mailbox.fronts.cli import screen, shown
from mcp_mailbox.fronts.cli.asking import ask
from mcp_mailbox.fronts.cli.screen import Column

Json = dict[str, Any]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
SCOPES = ("read", "send", "create")


def add(token: argparse.ArgumentParser) -> None:
    """Add the verbs and their arguments."""
    verbs = token.add_subparsers(dest="verb", metavar="verb", required=True)
    create = verbs.add_parser("create", help="make a token, and print it once")
    create.add_argument("name", nargs="?", default="token", help="what you call it")
    create.add_argument("--principal", help="whom it speaks for: mailboxes belong to principals (default: yourself)")
    create.add_argument("--mailbox", metavar="ADDRESS", help="the mailbox of calls that name none")
    create.add_argument("--space", help="the space of bare names")
    create.add_argument("--confined", action="store_true", help="that space is the only one that there is for it")
    create.add_argument("--scope", type=read_scopes, help=f"what it allows, separated by commas: {','.join(SCOPES)}")
    create.add_argument("--expires", type=seconds, metavar="TIME", help="for how long it is good: 12h, 30d, 1y")
    create.set_defaults(run=_create)
    listing = verbs.add_parser("list", help="list the tokens, without their secrets")
    listing.add_argument("--json", action="store_true", help="print it as JSON")
    listing.add_argument("--all", action="store_true", help="those that are revoked or have expired, too")
    listing.set_defaults(run=_list)
    for verb, does, run in (
        ("revoke", "end a token now, and close what it has open", _revoke),
        ("rotate", "print a new secret for a token; the old one ends now", _rotate),
    ):
        parser = verbs.add_parser(verb, help=does)
        parser.add_argument("id", help="as `token list` shows it")
        parser.set_defaults(run=run)


def read_scopes(text: str) -> list[str]:
    """Read scopes. For `argparse`."""
    scopes = [scope.strip() for scope in text.split(",") if scope.strip()]
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(SCOPES)}, or some of them with commas")
    return scopes


def seconds(text: str) -> int:
    """Read for how long something is good, in seconds. For `argparse`."""
    found = re.fullmatch(r"(\d{1,6})([smhdwy])", text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds < 100 * _UNITS["y"]:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 12h, 30d or 1y")
    return seconds


def _create(chosen: argparse.Namespace) -> int:
    given = {
        "principal": chosen.principal,
        "mailbox": chosen.mailbox,
        "space": chosen.space,
        "confined": chosen.confined or None,
        "scopes": chosen.scope,
        "lasts": chosen.expires * 1000 if chosen.expires else None,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    made = ask("token create", name=chosen.name, **wanted)
    if "rival" in made:
        print(  # noqa: T201
            f"Warning: {made['mailbox']!a} belongs to another principal, {made['rival']}: calls with this token that"
            " name no mailbox will fail. Leave out --principal, or give --mailbox another name.",
            file=sys.stderr,
        )
    return _tell(made, "made")


def _rotate(chosen: argparse.Namespace) -> int:
    return _tell(ask("token rotate", id=chosen.id), "has a new secret")


def _tell(made: Json, what: str) -> int:
    until = f"until {spell_time(made['expires_at'])}" if made["expires_at"] else "until it is revoked"
    print(  # noqa: T201 - a command line prints
        f"Token {made['id']} ({made['name']}) {what}: speaks for {made['principal']}, may"
        f" {', '.join(made['scopes'])}, {until}.\nIt is shown this once. Send it as `Authorization: Bearer …`; hosts'"
        " files name a variable, never the token itself.",
        file=sys.stderr,
    )
    print(made["token"])  # noqa: T201
    return 0


def _revoke(chosen: argparse.Namespace) -> int:
    revoked = ask("token revoke", id=chosen.id)
    print(f"Token {revoked['id']} ({revoked['name']}) is revoked.", file=sys.stderr)  # noqa: T201
    return 0


def _list(chosen: argparse.Namespace) -> int:
    tokens = [each for each in ask("token list")["tokens"] if chosen.all or _is_good(each)]
    if chosen.json:
        print(json.dumps(tokens, indent=2))  # noqa: T201
        return 0
    if not tokens:
        print("No tokens. `mcp-mailbox token create` makes one.")  # noqa: T201
        return 0
    columns = (
        Column("ID"),
        Column("NAME", rest=True),
        Column("PRINCIPAL", leave=5),
        Column("MAY", leave=3),
        Column("MAILBOX", leave=4),
        Column("SPACE", leave=2),
        Column("MADE", leave=1),
        Column("GOOD UNTIL", leave=6),
    )
    screen.table(columns, [_row(each) for each in tokens])
    return 0


def _space(each: Json) -> str:
    return f"{each['space']} alone" if each["confined"] else each["space"] or ""


def _row(each: Json) -> screen.Row:
    shown_as = (each["id"], each["name"], each["principal"], ",".join(each["scopes"]), each["mailbox"], _space(each))
    return (*(shown.line(text or "") for text in shown_as), spell_time(each["created_at"]), _end(each))


def _is_good(token: Json) -> bool:
    now = datetime.now(UTC).timestamp() * 1000
    return token["revoked_at"] is None and (token["expires_at"] is None or now < token["expires_at"])


def _end(token: Json) -> str:
    if token["revoked_at"] is not None:
        return f"revoked {spell_time(token['revoked_at'])}"
    return spell_time(token["expires_at"]) if token["expires_at"] is not None else "no end"


def spell_time(moment: int) -> str:
    """Return a moment, ms since 1970 UTC, for people."""
    return datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
