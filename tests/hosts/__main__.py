"""The command line: what is tested, with which hosts, and what is kept. `--help` tells the rest."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import npm
from tests.hosts import (
    doorbell,
    environment,
    hooks,
    install,
    packaging,
    processes,
    scenarios,
    setting_up,
    timeouts,
)
from tests.hosts.hosts import ClaudeCode, Codex, GeminiCli, OpenCode, Server
from tests.hosts.report import Report, say
from tests.hosts.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LEAVING_SECONDS = 10.0
_STOP_SECONDS = 30.0
_START_SECONDS = 30.0


def main() -> int:
    options = _options()
    # Without this a terminated proof would leave its hosts running.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        names = install.ALL if {"setup", "doorbell", "timeouts"} & {*options.scenario} else install.AGENTS
        programs = install.installed(options.prefix.resolve(), names, update=options.update)
    except npm.InstallError as reason:
        say(f"No hosts to test with, so NOTHING WAS CHECKED: {reason}")
        return 0 if options.if_had else 1
    for name, program in programs.items():
        say(f"{name}: {program.version} ({program.path})")
    report = Report()
    if "setup" in options.scenario:
        _set_up(options, programs, report)
    if "packages" in options.scenario:
        _package(options, programs, report)
    if "doorbell" in options.scenario:
        _ring(options, programs, report)
    if "timeouts" in options.scenario:
        _give_up(options, programs, report)
    if "mail" not in options.scenario:
        return report.close()
    for transport in ("stdio", "http") if options.over == "both" else (options.over,):
        say(f"\n== over {transport}")
        _prove(options, programs, report, transport)
    return report.close()


@contextmanager
def _place(options: argparse.Namespace, what: str) -> Iterator[Path]:
    """Lend a directory; on leaving, nothing runs in it any more, and unless it is to be kept it is gone."""
    root = Path(tempfile.mkdtemp(prefix=f"mailbox-hosts-{what}-"))
    try:
        yield root
    finally:
        processes.end_all(str(root))
        if options.keep:
            say(f"\nlogs, requests and homes: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)


def _check_left(report: Report, root: Path) -> None:
    left = processes.gone(str(root), _LEAVING_SECONDS)
    report.check("no process is left", not left, left or "none")


def _prove(options: argparse.Namespace, programs: dict[str, install.Program], report: Report, transport: str) -> None:
    """Play all scenarios in a home of their own."""
    with _place(options, "run") as root:
        server = Server(shlex.split(options.server), root / "mail")
        if transport == "http":
            server = replace(server, url=_serve(server, root))
        stage = Stage(
            root=root,
            server=server,
            claude=ClaudeCode(programs["claude"].path, root / "claude", server),
            codex=Codex(programs["codex"].path, root / "codex", server),
            report=report,
            wait=options.wait,
        )
        scenarios.play_all(stage)
        report.section("Nothing is left behind")
        _stop(server, root)
        _check_left(report, root)


def _set_up(options: argparse.Namespace, programs: dict[str, install.Program], report: Report) -> None:
    with _place(options, "setup") as root:
        setting_up.prove(programs, shlex.split(options.server)[:-1], root, report)


def _package(options: argparse.Namespace, programs: dict[str, install.Program], report: Report) -> None:
    with _place(options, "packages") as root:
        packaging.prove(programs, shlex.split(options.server)[:-1], root, report)
        _check_left(report, root)


def _ring(options: argparse.Namespace, programs: dict[str, install.Program], report: Report) -> None:
    """Ring idle hosts, in a home of their own."""
    with _place(options, "bell") as root:
        server = Server(shlex.split(options.server), root / "mail")
        stage = doorbell.Stage(root, server, report)
        if "claude" in options.host:
            make = partial(_claude_code, programs["claude"].path, root, server)
            doorbell.claude_code(stage, make)
            hooks.channels(stage, make)
            url = _serve(server, root)
            over = partial(_claude_code, programs["claude"].path, root, replace(server, url=url))
            hooks.rewake(stage, make, over, url)
        if "codex" in options.host:
            doorbell.codex(stage, lambda home, **more: Codex(programs["codex"].path, root / home, server, **more))
            hooks.codex(stage, lambda home, **more: Codex(programs["codex"].path, root / home, server, **more))
        if "opencode" in options.host:
            program = programs["opencode"].path
            doorbell.opencode(stage, lambda home, **more: OpenCode(program, root / home, server, **more))
        _stop(server, root)
        processes.end_all(str(root), "app-server-daemon")  # Codex's own, which outlives it and holds our relay
        _check_left(report, root)


def _claude_code(program: Path, root: Path, server: Server, home: str, **more: Any) -> ClaudeCode:
    return ClaudeCode(program, root / home, server, **more)


def _give_up(options: argparse.Namespace, programs: dict[str, install.Program], report: Report) -> None:
    """Let hosts give up on waits, all at the same time, with one post office that serves HTTP as well."""
    with _place(options, "limits") as root:
        # Nothing may come again because a lease is over: then it would not show that something was lost.
        server = Server(shlex.split(options.server), root / "mail", lease=3600)
        net = replace(server, url=_serve(server, root))
        claude, codex, gemini, opencode = (programs[each] for each in ("claude", "codex", "gemini", "opencode"))
        makers: dict[str, Callable[..., timeouts.AnyHost]] = {
            "claude": lambda name, **more: ClaudeCode(claude.path, root / name, server, name, **more),
            "codex": lambda name, **more: Codex(codex.path, root / name, server, name, **more),
            "gemini": lambda name, **more: GeminiCli(gemini.command, root / name, server, name, **more),
            "opencode": lambda name, **more: OpenCode(opencode.path, root / name, server, name, **more),
        }
        chosen = {name: make for name, make in makers.items() if name in options.host}
        short = [make(f"{name}-short", limit=timeouts.LIMIT) for name, make in chosen.items()]
        long = [timeouts.long_wait(name, make(f"{name}-long")) for name, make in chosen.items()]
        sitting = None
        if "claude" in options.host:
            short.append(ClaudeCode(claude.path, root / "claude-http", net, "claude-http", limit=timeouts.LIMIT))
            over_http = ClaudeCode(claude.path, root / "claude-http-long", net, "claude-http-long")
            long.append(timeouts.long_wait("claude over HTTP", over_http))
            sitting = ClaudeCode(claude.path, root / "claude-sits", server, "claude-sits", MCP_MAILBOX_DOORBELL="off")
        timeouts.prove(timeouts.Stage(root, server, report), short, long, sitting)
        _stop(server, root)
        _check_left(report, root)


def _serve(server: Server, root: Path) -> str:
    """Start the HTTP server as a user does; return its URL."""
    command = [*server.command[:-1], "serve", "--port", "0"]
    variables = environment.bare(root / "bystander") | server.environment
    with (root / "serve.log").open("wb") as log:
        subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        status = subprocess.run(
            [*server.command[:-1], "status", "--json"], env=variables, capture_output=True, text=True, check=False
        )
        if url := json.loads(status.stdout or "{}").get("http", {}).get("url"):
            return str(url)
    raise SystemExit(f"mcp-mailbox serve does not come up: {(root / 'serve.log').read_text()}")


def _stop(server: Server, root: Path) -> None:
    """Ask what the server has started on demand to leave, where it has such a command."""
    if server.command[-1] == "stdio":
        subprocess.run(
            [*server.command[:-1], "stop"],
            env=environment.bare(root / "bystander") | server.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_STOP_SECONDS,
            check=False,  # what counts is what is left afterwards
        )


def _options() -> argparse.Namespace:
    beside = Path(sys.executable).parent / "mcp-mailbox"
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description="Prove the product with the real hosts.")
    installed = f"{shlex.quote(str(beside))} stdio"
    parser.add_argument("--server", default=installed, help="command of the server under test")
    parser.add_argument("--over", choices=("stdio", "http", "both"), default="both", help="how mail reaches the hosts")
    parser.add_argument(
        "--scenario",
        choices=("mail", "setup", "packages", "doorbell", "timeouts"),
        nargs="+",
        default=["setup", "mail"],
        help="which stories to play (default: setup and mail, two to three minutes)",
    )
    hosts = ("claude", "codex", "gemini", "opencode")
    parser.add_argument("--host", choices=hosts, nargs="+", default=hosts, help="who is rung, and who gives up")
    parser.add_argument("--prefix", type=Path, default=install.default_prefix(), help="where npm installs the hosts")
    parser.add_argument("--update", action="store_true", help="fetch the newest hosts even when some are there")
    parser.add_argument("--if-had", action="store_true", help="where npm cannot bring the hosts, that is no failure")
    parser.add_argument("--wait", type=float, default=5.0, help="seconds that a reader waits before it is written to")
    parser.add_argument("--keep", action="store_true", help="keep the logs, the recorded requests and the homes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
