"""`mcp-mailbox setup` with the real hosts: what it writes they read, and undone their files are what they were.

Knows each host's command that lists its servers. Nothing here asks a model, and no host reaches the network.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.hosts import environment, messages_api, processes, responses_api
from tests.hosts.conversation import call, follow
from tests.hosts.endpoint import Endpoint
from tests.hosts.hosts import scripted_codex
from tests.hosts.install import Program
from tests.hosts.report import Report

_SECONDS = 120
_NOWHERE = "http://127.0.0.1:9"
"""Where hosts are sent that want to reach the network: nobody listens there."""
_ADDERS = 6


@dataclass
class Home:
    """A user's home with one host in it."""

    path: Path
    setup: Sequence[str]
    """The command `mcp-mailbox`."""
    program: Sequence[str]
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        switches = {"OPENCODE_DISABLE_AUTOUPDATE": "1"} | self.more
        return environment.for_claude_code(self.path, _NOWHERE) | switches

    @property
    def project(self) -> Path:
        path = self.path / "project"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self.environment,
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def host(self, *arguments: str) -> str:
        done = self.run(*self.program, *arguments)
        return done.stdout + done.stderr

    def mailbox(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(*self.setup, *arguments)


@dataclass(frozen=True)
class Case:
    """A host, a file of its user's, and how one sees that it has our server."""

    name: str
    file: str
    text: str
    connected: str
    """What its list shows of a server that it has reached; for Codex, which does not try, that it is on."""
    others: str
    """Something of the user's that the host has read from the same file."""


_CASES = (
    Case(
        "claude", ".claude.json", '{\n  "mcpServers": {"other": {"command": "/bin/false"}}\n}\n', "Connected", "other"
    ),
    Case(
        "codex",
        ".codex/config.toml",
        '# mine\r\nmodel = "m" # the best\r\n\r\n[mcp_servers.other]\r\ncommand = "/bin/false"\r\n# end',
        "enabled",
        "other",
    ),
    Case(
        "gemini",
        ".gemini/settings.json",
        '// mine\n{\n  // the best\n  "mcpServers": {"other": {"command": "/bin/false"}} // last\n}\n',
        "Connected",
        "other",
    ),
    Case(
        "opencode",
        ".config/opencode/opencode.jsonc",
        '// mine\n{\n\t"$schema": "https://opencode.ai/config.json", // theirs\n\t"mcp": {\n'
        '\t\t"other": {"type": "local", "command": ["/bin/false"]}, // last\n\t},\n}\n',
        "connected",
        "other",
    ),
)


_TRUST = ".gemini/trustedFolders.json"
"""Gemini CLI shows no server in a folder that is not trusted."""


def prove(programs: dict[str, Program], setup: Sequence[str], root: Path, report: Report) -> None:
    """Set up each host in a home of its own, and take it back."""
    for case in _CASES:
        program = programs[case.name]
        home = Home(root / f"setup-{case.name}", setup, program.command)
        report.section(f"setup: {case.name} {program.version}")
        try:
            _one(case, home, report)
            _made_by_setup(case, home, report)
            _in_a_project(case, home, report)
            _over_http(case, home, report)
            if case.name == "claude":
                _while_a_session_is_open(home, report)
                _beside_others_who_write(home, report)
            if case.name in {"claude", "codex"}:
                _a_turn(case, home, report)
        finally:
            home.mailbox("stop")
            processes.end_all(str(home.path))


def _lists(case: Case, home: Home) -> tuple[bool, str]:
    shown = home.host("mcp", "list")
    line = next((each for each in shown.splitlines() if "mailbox" in each), shown[-300:])
    return case.connected in line, line


def _one(case: Case, home: Home, report: Report) -> None:
    path = home.path / case.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(case.text.encode())
    if case.name == "gemini":
        (home.path / _TRUST).write_text(json.dumps({str(home.project): "TRUST_FOLDER"}))
    home.host("mcp", "list")  # what a host writes at its first start is not what this is about
    before = path.read_bytes()
    done = home.mailbox("setup", "--host", case.name, "--yes")
    report.check("setup says that the server answers", done.returncode == 0 and "answers" in done.stdout, done.stdout)
    connected, shown = _lists(case, home)
    report.check("the host shows it connected" if case.name != "codex" else "the host shows it", connected, shown)
    report.check("the host still has what its user had", case.others in home.host("mcp", "list"), case.others)
    after = path.read_bytes()
    again = home.mailbox("setup", "--host", case.name, "--yes")
    report.check("a second setup changes nothing", again.returncode == 0 and path.read_bytes() == after, again.stdout)
    home.mailbox("setup", "--undo", "--yes")
    report.check("undone, the file is what it was to the byte", path.read_bytes() == before, len(before))
    shown = home.host("mcp", "list")
    report.check("the host has it no more", "mailbox" not in shown, shown[-200:])


def _made_by_setup(case: Case, home: Home, report: Report) -> None:
    (home.path / case.file).unlink()
    home.mailbox("setup", "--host", case.name, "--yes")
    connected, shown = _lists(case, home)
    report.check("a file that setup made is read", connected, shown)
    home.mailbox("setup", "--undo", "--yes")
    left = home.host("mcp", "list")
    report.check("and the host has it no more when that is undone", "mailbox" not in left, left[-200:])


def _in_a_project(case: Case, home: Home, report: Report) -> None:
    """The files of a project, for which Claude Code asks its user first, and which Codex reads where it trusts."""
    (home.project / ".git").mkdir(exist_ok=True)
    path = home.path / case.file
    if case.name == "codex":
        path.write_text(f'[projects."{home.project}"]\ntrust_level = "trusted"\n')
    before = {each: each.read_bytes() for each in home.project.rglob("*") if each.is_file()}
    home.mailbox("setup", "--host", case.name, "--scope", "project", "--yes")
    connected, shown = _lists(case, home)
    if case.name == "claude":
        connected = "Pending approval" in shown
    report.check("in a project, the host shows it, or asks whether it may", connected, shown)
    home.mailbox("setup", "--undo", "--yes")
    after = {each: each.read_bytes() for each in home.project.rglob("*") if each.is_file()}
    report.check("undone, the project is what it was", after == before, sorted(map(str, after)))


def _over_http(case: Case, home: Home, report: Report) -> None:
    """A server over HTTP, with the token in the host's environment alone."""
    with processes.Process([*home.setup, "serve", "--port", "0"], home.project, home.environment, home.path / "serve"):
        url = None
        deadline = time.monotonic() + _SECONDS
        while not url and time.monotonic() < deadline:
            url = json.loads(home.mailbox("status", "--json").stdout).get("http", {}).get("url")
        token = (home.path / ".mcp-mailbox/token").read_text().strip()
        home.more["MCP_MAILBOX_TOKEN"] = token
        done = home.mailbox("setup", "--host", case.name, "--url", str(url), "--yes")
        report.check("over HTTP setup says that the server answers", "answers" in done.stdout, done.stdout)
        connected, shown = _lists(case, home)
        report.check("over HTTP the host shows it", connected, shown)
        text = (home.path / case.file).read_text() if (home.path / case.file).exists() else ""
        report.check("the token is not in its file", token not in text, len(text))
        home.mailbox("setup", "--undo", "--yes")
        del home.more["MCP_MAILBOX_TOKEN"]
        home.mailbox("stop")


def _beside_others_who_write(home: Home, report: Report) -> None:
    """Claude Code rewrites its file whole: what it adds and what we add must both be there."""
    names = [f"other{number}" for number in range(_ADDERS)]
    commands = [[*home.program, "mcp", "add", "-s", "user", name, "--", "/bin/false"] for name in names]
    started = [
        subprocess.Popen(
            command, env=home.environment, cwd=home.project, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]  # fmt: skip
    tries = 0
    while any(each.poll() is None for each in started):
        tries += 1
        home.mailbox("setup", "--host", "claude", "--yes")
        home.mailbox("setup", "--undo", "--yes")
    home.mailbox("setup", "--host", "claude", "--yes")
    found = set(json.loads((home.path / ".claude.json").read_text())["mcpServers"])
    report.check(
        f"what {_ADDERS} `claude mcp add` write while we set up and undo {tries} times is all there",
        found >= {*names, "mailbox"},
        sorted(found),
    )


def _while_a_session_is_open(home: Home, report: Report) -> None:
    """Claude Code asks in a terminal whether the folder is trusted; what it writes then must not be without ours."""
    path = home.path / ".claude.json"
    known = {"approved": [environment.DUMMY_KEY[-20:]], "rejected": []}
    path.write_text(json.dumps({"hasCompletedOnboarding": True, "theme": "dark", "customApiKeyResponses": known}))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with subprocess.Popen(
        home.program, env=home.environment | {"TERM": "xterm-256color"}, cwd=home.project,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    ) as process:  # fmt: skip
        asked = _reads(ours, b"trust")
        home.mailbox("setup", "--host", "claude", "--yes")
        before = path.read_bytes()
        os.write(ours, b"\r")
        deadline = time.monotonic() + _SECONDS
        while path.read_bytes() == before and time.monotonic() < deadline:
            _reads(ours, b"", 0.1)
        process.kill()
    os.close(ours)
    os.close(theirs)
    after = json.loads(path.read_bytes())
    wrote = path.read_bytes() != before
    report.check("an open session writes its file after setup", asked and wrote, f"{len(before)} bytes before")
    report.check("and our entry is still there", "mailbox" in after.pop("mcpServers", {}), sorted(after))
    home.mailbox("setup", "--undo", "--yes")
    left = json.loads(path.read_bytes())
    report.check("undone, what the session wrote stays", left == after, sorted(left))


def _reads(terminal: int, awaited: bytes, seconds: float = _SECONDS) -> bool:
    """Read what a program shows until this is among it."""
    shown, deadline = b"", time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            shown += os.read(terminal, 1 << 16)
            if awaited and awaited in shown:
                return True
    return False


def _a_turn(case: Case, home: Home, report: Report) -> None:
    """A whole turn with a scripted model and nothing but what setup wrote: the model's call reaches our server."""
    dialect = messages_api if case.name == "claude" else responses_api
    script = follow(call("create_mailbox", name="seen"))
    with Endpoint(dialect, script, home.path / "logs") as endpoint:
        if case.name == "claude":
            variables = environment.for_claude_code(home.path, endpoint.url)
            command = [*home.program, "-p", "Do what your script says.", "--allowedTools", "mcp__mailbox"]
        else:
            variables = environment.for_codex(home.path, endpoint.url)
            (home.path / case.file).write_text("\r\n".join(scripted_codex(endpoint.url)) + "\r\n", newline="")
            command = [
                *home.program,
                "exec",
                "--skip-git-repo-check",
                "--dangerously-bypass-approvals-and-sandbox",
                "x",
            ]
        home.mailbox("setup", "--host", case.name, "--yes")
        home.mailbox("stop")
        with processes.Process(command, home.project, variables, home.path / "turn.txt") as process:
            code = process.ended(_SECONDS)
        report.check("a turn ends well", code == 0, (home.path / "turn.txt").read_text(errors="replace")[-300:])
        shown = [each.result for each in endpoint.conversation().exchanges]
        report.check("its model's call reached our server", "seen@default" in "".join(shown), shown)
