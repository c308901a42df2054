"""The plugins in the real hosts: they pass the host's own check, are installed from the clone, and do what they say.

Each host gets a clean home and a turn with a scripted model, in which it has nothing of ours but the plugin.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.hosts import environment, messages_api, processes, responses_api
from tests.hosts.conversation import call, follow
from tests.hosts.endpoint import Endpoint
from tests.hosts.hosts import scripted_codex
from tests.hosts.install import Program
from tests.hosts.report import Report
from tests.hosts.setting_up import Home

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
_ID = "mailbox@mcp-mailbox"
_MARKET = "mcp-mailbox"
_SECONDS = 120
_SKILL = "Habits for mail between agents"
"""Begins the skill's description, which is all that a model is shown of it until it is used."""
_HOOK = "You have 1 new message from planner in builder"
"""What a hook says; a ring has other words."""


def prove(programs: dict[str, Program], mailbox: Sequence[str], root: Path, report: Report) -> None:
    """Install each plugin in a home of its own, look, and take it out."""
    for name, one in (("claude", _claude_code), ("codex", _codex)):
        report.section(f"packages: {name} {programs[name].version}")
        home = Home(root / name, mailbox, programs[name].command)
        home.more["MCP_MAILBOX_ADDRESS"] = "builder"
        try:
            one(home, report)
        finally:
            home.mailbox("stop")
            processes.end_all(str(home.path))


def _claude_code(home: Home, report: Report) -> None:
    for what in ("", "mailbox"):
        seen = home.run(*home.program, "plugin", "validate", "--strict", str(PLUGINS / what))
        claim = f"claude plugin validate --strict passes plugins/{what}"
        report.check(claim, seen.returncode == 0, seen.stdout[-200:])
    home.host("plugin", "marketplace", "add", str(PLUGINS))
    program = _launcher(home)
    home.host("plugin", "install", _ID)
    shown = _line(home)
    report.check("installed without a path, it starts what is on the PATH", "Failed to connect" in shown, shown)
    home.host("plugin", "install", _ID, "--config", f"program={program}")
    shown = _line(home)
    report.check("with the path, its server is connected", "Connected" in shown and str(program) in shown, shown)
    shown = home.host("plugin", "details", "mailbox")
    names = ("Skills (1)  mailbox", "SessionStart, UserPromptSubmit, Stop", "MCP servers (1)  mailbox")
    report.check("its skill, hooks and server are listed", all(each in shown for each in names), shown[:600])
    _send(home)
    command = [*home.program, "-p", "Do what your script says.", "--allowedTools", "mcp__plugin_mailbox_mailbox"]
    with _turn(home, command, report) as endpoint:
        _check_turn(endpoint, report)
        report.check("its hooks tell of mail", *_told(endpoint))
    _beside_setup(home, program, report)
    home.host("plugin", "uninstall", _ID)
    shown = home.host("mcp", "list")
    report.check("taken out, it is gone", "mailbox" not in shown, shown)


def _beside_setup(home: Home, program: Path, report: Report) -> None:
    """What has the same program is started once; what has not, or hooks that are there twice, is refused or told."""
    done = home.mailbox("setup", "--host", "claude", "--hooks", "--yes")
    refused = done.stdout.count(f"the plugin {_ID}") == 1
    report.check("setup registers the same program, and no second set of hooks", refused, done.stdout[-300:])
    shown = home.host("mcp", "list")
    report.check("that is started once", shown.count("mcp-mailbox stdio") == 1, shown)
    home.mailbox("setup", "--undo", "--yes")
    home.host("mcp", "add", "-s", "user", "mailbox", "--", "env", str(program), "stdio")
    shown = home.host("mcp", "list")
    report.check("another line is started beside it", shown.count("mcp-mailbox stdio") == 2, shown)
    told = home.mailbox("doctor", "--quick").stdout
    report.check("doctor tells of it", "it is there twice" in told, told[-500:])
    home.host("mcp", "remove", "-s", "user", "mailbox")


def _codex(home: Home, report: Report) -> None:
    directory = home.path / "bin"
    directory.mkdir(parents=True)
    (directory / "mcp-mailbox").symlink_to(_launcher(home))
    home.more["PATH"] = f"{directory}:{home.environment['PATH']}"
    added = json.loads(home.run(*home.program, "plugin", "marketplace", "add", str(PLUGINS), "--json").stdout)
    report.check("the marketplace is taken", added["marketplaceName"] == _MARKET, added)
    home.host("plugin", "add", _ID)
    shown = home.host("plugin", "list")
    report.check("the plugin is installed", f"{_ID}  installed, enabled" in shown, shown)
    shown = _line(home)
    report.check("its server is listed", "mcp-mailbox  stdio" in shown and "enabled" in shown, shown)
    checked = home.mailbox("doctor", "--quick").stdout
    report.check("doctor sees the plugin", f"plugin {_ID}: mcp-mailbox stdio" in checked, checked)
    _send(home)
    command = [*home.program, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "x"]
    with _turn(home, command, report) as endpoint:
        _check_turn(endpoint, report)
        told, requests = _told(endpoint)
        report.check("hooks that nobody has trusted are silent, and in nobody's way", not told, requests)
    _send(home)
    with _turn(home, [*command, "--dangerously-bypass-hook-trust"], report) as endpoint:
        report.check("trusted, its hooks tell of mail", *_told(endpoint))
    done = home.mailbox("setup", "--host", "codex", "--yes")
    shown = home.host("mcp", "list")
    once = done.returncode == 0 and shown.count("stdio") == 1
    report.check("what setup registers is started in its place", once, shown + done.stdout)
    home.mailbox("setup", "--undo", "--yes")
    home.host("plugin", "remove", _ID)
    shown = home.host("mcp", "list")
    report.check("taken out, it is gone", "mailbox" not in shown, shown)


def _launcher(home: Home) -> Path:
    """Return where this installation's program is, as `setup` would write it."""
    found = shutil.which(home.setup[0])
    assert found is not None
    return Path(found)


def _told(endpoint: Endpoint) -> tuple[bool, int]:
    """Whether a hook has told the model of mail, and in how many requests that was looked for."""
    return any(_HOOK in each.text for each in endpoint.requests), len(endpoint.requests)


def _line(home: Home) -> str:
    shown = home.host("mcp", "list")
    return next((each for each in shown.splitlines() if "stdio" in each), shown[-300:])


def _send(home: Home) -> None:
    home.run("env", "MCP_MAILBOX_ADDRESS=builder", *home.setup, "inbox")
    home.run("env", "MCP_MAILBOX_ADDRESS=planner", *home.setup, "send", "builder", "-b", "for the hooks")


@contextmanager
def _turn(home: Home, command: Sequence[str], report: Report) -> Iterator[Endpoint]:
    """Play one: the model lists what waits for the mailbox that the host's environment names."""
    claude = "claude" in home.program[0].rsplit("/", 1)[-1]
    dialect = messages_api if claude else responses_api
    logs = home.path / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    with Endpoint(dialect, follow(call("list_inbox")), logs) as endpoint:
        if claude:
            variables = environment.for_claude_code(home.path, endpoint.url)
        else:
            variables = environment.for_codex(home.path, endpoint.url)
            file = home.path / ".codex/config.toml"
            before = file.read_text()
            # Keys of the top level come first in TOML.
            file.write_text("\n".join([*scripted_codex(endpoint.url, plugins=True), before]))
        with processes.Process(list(command), home.project, variables | home.more, home.path / "turn.txt") as process:
            code = process.ended(_SECONDS)
        report.check("a turn ends well", code == 0, (home.path / "turn.txt").read_text(errors="replace")[-300:])
        yield endpoint
        if not claude:
            file.write_text(before)


def _check_turn(endpoint: Endpoint, report: Report) -> None:
    shown = "".join(each.result for each in endpoint.conversation().exchanges)
    report.check("its model's call reaches the server, as the mailbox of the host's environment",
                 "for the hooks" in shown, shown[:300])  # fmt: skip
    offered = endpoint.requests[0].offered if endpoint.requests else ()
    report.check("our tools are there in the first request", "send" in offered, sorted(offered))
    seen = any(_SKILL in each.text for each in endpoint.requests)
    report.check("its model is told of the skill", seen, len(endpoint.requests))
