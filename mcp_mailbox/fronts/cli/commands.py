"""The sub-commands. A relay never comes here: its start would pay for these imports."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mcp_mailbox import __version__, frames, rendezvous
from mcp_mailbox.fronts.cli import archive, bells, guard, registration, serving, tokens, watch

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 40


def run(arguments: Sequence[str]) -> int:
    """Run one command; return the exit code: 0 done, 1 failed, 2 misunderstood."""
    parser, names = _parser()
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    elif arguments[:1] == ["version"]:
        arguments = ["--version"]
    elif arguments and (meant := _meant(arguments[0], names)):
        parser.error(f"no command {arguments[0][:_SHOWN]!a}. Did you mean `mcp-mailbox {meant}`?")
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
        return 0
    try:
        return int(chosen.run(chosen))
    except rendezvous.Refused as refused:
        print(f"mcp-mailbox: {refused.hint}", file=sys.stderr)  # noqa: T201 - a command line prints
        return 1
    except KeyboardInterrupt:
        return 130


def _meant(typed: str, names: Sequence[str]) -> str | None:
    """Return the command that was nearly typed; None for one that there is, for an option, and for what is far off."""
    if typed in {*names, "-h", "--help", "-V", "--version"}:
        return None
    near = difflib.get_close_matches(typed.lower().lstrip("-"), names, n=1)
    return near[0] if near else None


def _parser() -> tuple[argparse.ArgumentParser, Sequence[str]]:
    """Return the parser, and the names of the commands."""
    parser = argparse.ArgumentParser(
        prog="mcp-mailbox",
        description="A durable mailbox for every LLM agent, over MCP.",
        epilog="Without a command and without a terminal it speaks MCP on stdio, as a host starts it. "
        "State is kept in MCP_MAILBOX_HOME, by default ~/.mcp-mailbox.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"mcp-mailbox {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("stdio", help="speak MCP on stdin and stdout; hosts start this")
    demo = commands.add_parser("demo", help="watch two agents exchange mail, in a throw-away home")
    demo.set_defaults(run=_demo)
    status = commands.add_parser("status", help="show the post office, and how to register it")
    status.add_argument("--json", action="store_true", help="print it as JSON")
    status.set_defaults(run=_status)
    serving.add(commands.add_parser("serve", help="serve MCP over HTTP too, in the foreground"))
    tokens.add(commands)
    archive.add(commands)
    guard.add(commands)
    watch.add(commands)
    bells.add(commands)
    hook = commands.add_parser("hook", help="say that there is mail; hosts' hooks run this")
    hook.add_argument("event", help="SessionStart, UserPromptSubmit or Stop")
    stop = commands.add_parser("stop", help="stop the post office; the next call of a host starts it again")
    stop.set_defaults(run=_stop)
    return parser, list(commands.choices)


def _demo(_: argparse.Namespace) -> int:
    from mcp_mailbox.fronts.cli import demo  # noqa: PLC0415 - the SDK's client takes a second to import

    return demo.run()


def _status(chosen: argparse.Namespace) -> int:
    home = rendezvous.home()
    status: dict[str, Any]
    try:
        answer = rendezvous.ask(home, frames.STATUS)
    except rendezvous.Refused as refused:
        if refused.code != "leaving":
            raise
        status = {"running": True, "leaving": True, "home": home}
    else:
        status = {"running": answer is not None, "home": home} | json.loads(answer or b"{}")
    if chosen.json:
        print(json.dumps(status, indent=2))  # noqa: T201
    else:
        _show(status)
    return 0


def _show(status: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415 - 50 ms, for people only
    from rich.table import Table  # noqa: PLC0415

    table = Table(show_header=False, box=None, pad_edge=False)
    http = status.get("http")
    if status.get("leaving"):
        table.add_row("post office", "leaving; then a host's next call starts another")
    elif status["running"]:
        table.add_row("post office", f"running, version {status['version']}, process {status['pid']}")
        table.add_row("since", f"{status['uptime_seconds']:.0f} s")
        table.add_row("agents", f"{len(status['relays'])} connected")
        table.add_row("socket", str(status["endpoint"]))
        if http:
            table.add_row("http", f"{http['url']}, {http['sessions']} sessions, {http['requests']} requests open")
    else:
        table.add_row("post office", "not running; a host's first call starts it")
    table.add_row("home", str(status["home"]))
    console = Console(soft_wrap=True)
    console.print(table)
    _print_lines(console, "Register it:", registration.lines())
    if http and http["known_as"]:
        about = f"Or over HTTP, instead of that (a host has one server of a name: {registration.REMOVE} first):"
        lines = registration.http_lines(http["known_as"], status["home"], auth=http["auth"])
        _print_lines(console, about, lines)
    elif http:
        about = (
            "Over HTTP clients need a name for it: start it with the one in its certificate, or of the proxy in front:"
        )
        _print_lines(console, about, ["mcp-mailbox serve … --allow-host NAME"])


def _print_lines(console: Console, about: str, lines: Sequence[str]) -> None:
    console.print(f"\n{about}", markup=False, highlight=False)
    for line in lines:
        console.print(f"  {line}", markup=False, highlight=False)


def _stop(_: argparse.Namespace) -> int:
    if rendezvous.stop(rendezvous.home(), "command line"):
        print("Stopped. The next call of a host starts it again.")  # noqa: T201
    else:
        print("The post office is not running.")  # noqa: T201
    return 0
