"""`mcp-mailbox setup`: says what it would do to which host, asks, and tells what came of it.

Exit codes (`exits`): done, all is as asked for; nothing, all is registered and a server does not answer;
misunderstood; refused, no host was found, nobody said yes, or a host was refused or failed, and others may be done.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mcp_mailbox import machine, rendezvous
from mcp_mailbox.fronts.cli import exits, registration, shown

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mcp_mailbox.setup.host import Host, Scope, Server, Surroundings
    from mcp_mailbox.setup.plan import Change
    from mcp_mailbox.setup.record import Book
    from mcp_mailbox.setup.running import Outcome
    from mcp_mailbox.setup.trouble import Unfit

_NAME = re.compile(r"[A-Za-z0-9_-]{1,48}")
_WIDEST = 400
"""Characters of a line that are shown: some hosts keep all their settings on one."""

Json = dict[str, Any]


def add(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """Add the arguments of `setup`."""
    parser.description = (
        "Register this installation in the hosts that are here. Shows what it would change, and asks. No token is ever"
        " written: over HTTP hosts read MCP_MAILBOX_TOKEN."
    )
    parser.add_argument(
        "--host", action="append", metavar="NAME",
        help="only this one, again for more: claude, codex, gemini, opencode, cursor, vscode, claude-desktop",
    )  # fmt: skip
    parser.add_argument("--scope", choices=("user", "project"), help="for you (default), or for the project you are in")
    parser.add_argument("--name", help="what the server is called in the hosts (default: mailbox)")
    parser.add_argument("--url", help="register the server at this address instead of starting one: http://…/mcp")
    parser.add_argument("--no-auth", action="store_true", help="with --url: it wants no token")
    parser.add_argument(
        "--hooks", nargs="?", const="say", choices=("say", "rewake"), metavar="rewake",
        help="have Claude Code's and Codex's hooks say that there is mail, too; rewake: and wake Claude Code by them",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show the changes, and make none")
    parser.add_argument("--undo", action="store_true", help="take back what setup did")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    return _run


class _Misunderstood(Exception):  # noqa: N818 - it is the caller who is
    pass


def _run(given: argparse.Namespace) -> int:
    from mcp_mailbox.setup.trouble import Unfit  # noqa: PLC0415 - only this command pays for the hosts

    try:
        return _undo(given) if given.undo else _register(given)
    except _Misunderstood as misunderstood:
        _say(f"mcp-mailbox: {misunderstood}")
        return exits.MISUNDERSTOOD
    except Unfit as unfit:
        raise rendezvous.Refused("setup_failed", str(unfit)) from unfit


# -- registering


def _register(given: argparse.Namespace) -> int:
    from mcp_mailbox.setup import host, running  # noqa: PLC0415 - as above
    from mcp_mailbox.setup.record import Book  # noqa: PLC0415

    where = _where()
    scope = host.Scope(given.scope or "user")
    if scope is host.Scope.PROJECT and where.project == where.home:
        raise _Misunderstood("your home directory is no project. Go to one, or leave out --scope project.")
    server = _server(given)
    changes = _changes(given, scope, server, where)
    if given.dry_run:
        return _tell_plan(changes, given)
    pending = [each for each in changes if each.action in {"add", "update"}]
    if not given.json:
        _show_plan(changes, diffs=not given.yes)
    if pending:
        _confirm(given, f"Change {_files(len(pending))}?")
    book = Book(Path(machine.home()))
    outcomes: list[running.Outcome] = []
    with book.alone():
        for change in changes:
            with _waiting(f"{change.host.title}: starting the server as it will …"):
                outcomes.append(running.register(change, book, where))
            if not given.json:
                _show_outcome(outcomes[-1])
    code = _code(outcomes)
    if given.json:
        _print(json.dumps({"hosts": [_outcome(each) for each in outcomes], "exit": code}, indent=2))
    elif server.url and server.auth:
        _print(f"\nHosts read the token from {host.TOKEN}: have it in the environment that they start in.")
        _print(_token_of(server.url))
    return code


def _token_of(url: str) -> str:
    """Say where the token of the server at this address is."""
    if not machine.is_loopback(urlsplit(url).hostname or ""):
        return "Who runs the server makes one there: `mcp-mailbox token create NAME`."
    home = machine.home()
    later = "" if (Path(home) / "token").exists() else "\n(the first `mcp-mailbox serve` makes that file)"
    return f"  {registration.token_line(home)}{later}"


def _changes(given: argparse.Namespace, scope: Scope, server: Server, where: Surroundings) -> list[Change]:
    from mcp_mailbox.setup import hooks, plan  # noqa: PLC0415 - as above

    name = _name(given)
    able = [each for each in _all_hosts() if each.files(where, scope) and each.write(server)]
    hosts = _hosts(given.host) or [each for each in able if each.is_here(where)]
    if not hosts:
        raise rendezvous.Refused(
            "no_host",
            f"No host was found: no program of theirs on the PATH, and no file of theirs in {where.home}. Name one:"
            f" `mcp-mailbox setup --host NAME`, of {', '.join(each.name for each in able)}.",
        )
    changes = [plan.plan(each, scope, server, where, name) for each in hosts]
    if not given.hooks:
        return changes
    hooked = [hooks.HOOKED[each.name] for each in hosts if each.name in hooks.HOOKED]
    if not hooked:
        raise _Misunderstood("--hooks are Claude Code's and Codex's, neither of which is among these hosts.")
    if server.url and not machine.is_loopback(urlsplit(server.url).hostname or ""):
        raise _Misunderstood("--hooks ask the post office of this machine: leave them out with that --url.")
    # A host that does not start our program has nothing by which that could ring it.
    rewake = given.hooks == "rewake" or server.url is not None
    program = _started()
    return [*changes, *(hooks.plan_hooks(each, scope, program, where, rewake=rewake) for each in hooked)]


def _where() -> Surroundings:
    from mcp_mailbox.setup.host import Surroundings  # noqa: PLC0415 - as above

    return Surroundings.of(os.environ, Path.cwd(), mac=sys.platform == "darwin")


def _server(given: argparse.Namespace) -> Server:
    from mcp_mailbox.setup.host import Server  # noqa: PLC0415 - as above

    if given.url is None:
        if given.no_auth:
            raise _Misunderstood("--no-auth is about a server at --url.")
        return _started()
    try:
        parts = urlsplit(given.url)
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise _Misunderstood("--url is no address of a server. They look like http://127.0.0.1:8765/mcp.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise _Misunderstood("--url has more than an address in it. A token belongs into MCP_MAILBOX_TOKEN.")
    return Server(url=given.url, auth=not given.no_auth)


def _started() -> Server:
    """Return this installation, as a host starts it."""
    from mcp_mailbox.setup.host import Server  # noqa: PLC0415 - as above

    home = machine.home()
    # A host may start us without the variable, and then with another store.
    env = {machine.HOME_VARIABLE: home} if os.environ.get(machine.HOME_VARIABLE) else {}
    return Server(tuple(registration.command()), env)


def _name(given: argparse.Namespace) -> str | None:
    if given.name is not None and not _NAME.fullmatch(given.name):
        raise _Misunderstood("--name takes letters, digits, - and _, at most 48: hosts make names of tools of it.")
    name: str | None = given.name
    return name


def _all_hosts() -> Sequence[Host]:
    from mcp_mailbox.setup.hosts import HOSTS  # noqa: PLC0415 - as above

    return list(HOSTS.values())


def _hosts(names: Sequence[str] | None) -> list[Host]:
    known = {each.name: each for each in _all_hosts()}
    if unknown := [each for each in names or () if each not in known]:
        raise _Misunderstood(f"no host {unknown[0][:40]!a} is known. There are {', '.join(known)}.")
    return [known[each] for each in dict.fromkeys(names or ())]


def _code(outcomes: Sequence[Outcome]) -> int:
    if any(not each.registered for each in outcomes):
        return exits.REFUSED
    return exits.NOTHING if any(each.unfit for each in outcomes) else exits.DONE


def _confirm(given: argparse.Namespace, question: str) -> None:
    if given.yes:
        return
    if given.json or not sys.stdin.isatty():
        hint = "Nothing was changed. Say --yes to have it done, or --dry-run to see what it would be."
        raise rendezvous.Refused("not_confirmed", hint)
    sys.stderr.write(f"\n{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise rendezvous.Refused("not_confirmed", "Nothing was changed.")


# -- undoing


def _undo(given: argparse.Namespace) -> int:
    from mcp_mailbox.setup import running  # noqa: PLC0415 - as above
    from mcp_mailbox.setup.host import Scope  # noqa: PLC0415
    from mcp_mailbox.setup.record import Book  # noqa: PLC0415
    from mcp_mailbox.setup.trouble import Unfit  # noqa: PLC0415

    hosts = _hosts(given.host)
    book = Book(Path(machine.home()))
    scope = Scope(given.scope) if given.scope else None
    records = running.chosen(book.records(), hosts, scope, _name(given), _where())
    titles = {name: each.title for name, each in running.ALL.items()}
    told: list[Json] = []
    if not given.json:
        for each in records:
            _print(f"{titles.get(each.host, each.host)}: {each.file}: take {each.name!r} out")
        if not records:
            _print("There is nothing to undo.")
    if not given.dry_run:
        _begin_undoing(given, book, len(records))
    code = exits.DONE
    for each in records:
        said: Json = {"host": each.host, "scope": each.scope, "file": each.file, "name": each.name}
        if not given.dry_run:
            try:
                with book.alone():
                    said["outcome"] = str(running.take_back(each, book))
            except Unfit as unfit:
                said |= _trouble(unfit)
                code = exits.REFUSED
            if not given.json:
                _print(f"{titles.get(each.host, each.host)}: {_undone(said)}")
        told.append(said)
    if given.json:
        _print(json.dumps({"hosts": told, "exit": code}, indent=2))
    return code


def _begin_undoing(given: argparse.Namespace, book: Book, count: int) -> None:
    if count:
        _confirm(given, f"Undo {count} {'change' if count == 1 else 'changes'}?")
    book.sweep()  # also after one that was killed before it had changed anything


_UNDONE = {
    "restored": "is what it was, to the byte",
    "removed": "is gone; it was not there before",
    "taken_out": "was written by others since; what was ours is out, the rest stays",
    "gone": "had nothing of ours any more",
}


def _undone(said: Json) -> str:
    if "outcome" in said:
        return f"{said['file']} {_UNDONE[said['outcome']]}"
    return f"{said['file']} stays as it is: {said['problem']} {said['hint']}"


# -- telling


def _tell_plan(changes: Sequence[Change], given: argparse.Namespace) -> int:
    code = exits.REFUSED if any(each.refused for each in changes) else exits.DONE
    if given.json:
        _print(json.dumps({"hosts": [_planned(each) for each in changes], "exit": code}, indent=2))
    else:
        _show_plan(changes, diffs=True)
        _print("\nNothing was changed.")
    return code


def _show_plan(changes: Sequence[Change], *, diffs: bool) -> None:
    words = {
        "add": "register {name!r} in {path}",
        "update": "bring {name!r} in {path} up to date",
        "nothing": "has it already, as {name!r} in {path}",
        "refuse": "{path} stays as it is" if diffs else "",
    }
    for each in changes:
        line = words[each.action].format(name=each.name, path=each.path or "nothing")
        if line:
            _print(f"{each.host.title}: {line}")
        if diffs and each.action in {"add", "update"}:
            _print("".join(_visible(each.diff())), end="")
        if diffs and each.refused:
            _show_refusal(each, each.refused)


def _show_refusal(change: Change, unfit: Unfit) -> None:
    _print(f"  {unfit.problem} {unfit.hint}")
    if change.snippet:
        _print(f"  What belongs into it ({change.host.format.name}):")
        _print("".join(f"    {line}\n" for line in change.snippet.splitlines()), end="")


def _show_outcome(outcome: Outcome) -> None:
    change = outcome.change
    title = change.host.title
    if not outcome.registered:
        _print(f"{title}: {change.path or 'nothing'} stays as it is")
        if outcome.unfit:
            _show_refusal(change, outcome.unfit)
        return
    if change.action != "nothing":
        _print(f"{title}: registered" + (f"; the old file is {outcome.backup}" if outcome.backup else ""))
    if outcome.unfit:
        _print(f"{title}: does not answer: {outcome.unfit}")
    elif met := outcome.greeting:
        what = f"{met.server} {met.version}, {met.tools} tools, protocol {met.protocol}"
        _print(f"{title}: answers ({what}, {met.seconds * 1000:.0f} ms)")
    if change.action == "nothing":
        return
    if change.host.afterwards:
        _print(f"{title}: {change.host.afterwards}")
    if change.scope == "project" and "url" not in change.entry:
        _print(f"{title}: the file has a path of this machine in it; who shares the project needs their own")


def _visible(text: str) -> Iterator[str]:
    """Show control characters, obey none, and cut what is too long for a terminal."""
    for line in text.splitlines(keepends=True):
        said = "\t".join(map(shown.line, line[:-1].split("\t")))
        yield said[:_WIDEST] + ("…\n" if len(said) > _WIDEST else "\n")


def _planned(change: Change) -> Json:
    said: Json = {
        "host": change.host.name,
        "scope": str(change.scope),
        "file": str(change.path) if change.path else None,
    }
    said |= {"name": change.name, "action": str(change.action)}
    if change.action in {"add", "update"}:
        said["diff"] = change.diff()
    if change.refused:
        said |= _trouble(change.refused) | {"snippet": change.snippet or None}
    return said


def _outcome(outcome: Outcome) -> Json:
    said = _planned(outcome.change) | {"registered": outcome.registered, "backup": outcome.backup}
    if outcome.unfit:
        said |= _trouble(outcome.unfit)
    if met := outcome.greeting:
        said["answers"] = {
            "server": met.server, "version": met.version, "protocol": met.protocol, "tools": met.tools,
            "seconds": round(met.seconds, 3),
        }  # fmt: skip
    return said


def _trouble(unfit: Unfit) -> Json:
    return {"problem": unfit.problem, "hint": unfit.hint}


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _waiting(what: str) -> AbstractContextManager[object]:
    """Show on a terminal that something takes its time: a post office that starts, seconds."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext()
    from rich.console import Console  # noqa: PLC0415 - 50 ms, for people only
    from rich.text import Text  # noqa: PLC0415

    return Console(stderr=True).status(Text(what))


def _print(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)  # noqa: T201 - a command line prints


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - as above
