"""`mcp-mailbox setup` as people and scripts run it, with the real server that hosts would start."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_mailbox.fronts.cli import exits
from mcp_mailbox.setup import handshake, running
from mcp_mailbox.setup.host import Launch, Server
from mcp_mailbox.setup.hosts import HOSTS
from mcp_mailbox.setup.trouble import Unfit
from tests.cli.test_commands import DEADLINE, PROGRAM, Shell, shell
from tests.fronts.world import Served
from tests.setup.desk import JSON, TOML, Desk

pytestmark = pytest.mark.soak

__all__ = ["shell"]


@pytest.fixture
def user(shell: Shell) -> Shell:
    """A user of Claude Code and Codex."""
    (shell.home / ".claude.json").write_bytes(JSON.encode())
    (shell.home / ".codex").mkdir()
    (shell.home / ".codex/config.toml").write_bytes(TOML.encode())
    return shell


def files(user: Shell) -> tuple[str, str]:
    claude, codex = user.home / ".claude.json", user.home / ".codex/config.toml"
    return claude.read_bytes().decode(), codex.read_bytes().decode()


def test_it_registers_what_it_finds_meets_the_server_and_takes_all_of_it_back(user: Shell) -> None:
    done = user.run("setup", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("answers (mcp-mailbox ") == 2
    assert all("mcp-mailbox" in text for text in files(user))
    before = files(user)
    again = user.run("setup")
    assert again.returncode == 0, "nothing is left to do, so nobody is asked"
    assert again.stdout.count("has it already") == 2
    assert files(user) == before
    undone = user.run("setup", "--undo", "--yes")
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert undone.stdout.count("to the byte") == 2
    assert files(user) == (JSON, TOML)
    assert "nothing to undo" in user.run("setup", "--undo", "--yes").stdout


def test_a_dry_run_shows_a_diff_and_touches_nothing(user: Shell) -> None:
    shown = user.run("setup", "--dry-run")
    assert shown.returncode == 0
    assert f"--- {user.home}/.codex/config.toml\n+++ {user.home}/.codex/config.toml\n@@ " in shown.stdout
    assert "+required = true\n" in shown.stdout
    assert files(user) == (JSON, TOML)
    assert not (user.home / ".mcp-mailbox").exists()


def test_without_a_terminal_and_a_yes_nothing_is_done(user: Shell) -> None:
    done = user.run("setup")
    assert done.returncode == exits.REFUSED
    assert "--yes" in done.stderr
    done = user.run("setup", "--json")
    assert done.returncode == exits.REFUSED
    assert "--yes" in json.loads(done.stdout)["message"]
    assert files(user) == (JSON, TOML)
    assert not (user.home / ".mcp-mailbox").exists()


@pytest.mark.parametrize(("answer", "code"), [("y", exits.DONE), ("n", exits.REFUSED), ("", exits.REFUSED)])
def test_on_a_terminal_it_asks(user: Shell, answer: str, code: int) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    try:
        done = subprocess.run(
            [*PROGRAM, "setup", "--host", "codex"],
            stdin=theirs,
            env=user.environment,
            cwd=user.home,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code, done.stderr
    assert "Change 1 file? [y/N]" in done.stderr
    assert (files(user)[1] == TOML) is (code == exits.REFUSED)
    assert files(user)[0] == JSON


def test_a_broken_file_is_refused_and_the_other_host_is_set_up(user: Shell) -> None:
    (user.home / ".claude.json").write_text('{"mcpServers": ')
    done = user.run("setup", "--yes")
    assert done.returncode == exits.REFUSED
    assert "line 1, column 16" in done.stdout
    assert '"command": "' in done.stdout
    assert files(user)[0] == '{"mcpServers": '
    assert "[mcp_servers.mailbox]" in files(user)[1]


def test_what_it_says_can_be_read_by_programs(user: Shell) -> None:
    planned = json.loads(user.run("setup", "--dry-run", "--json").stdout)
    assert [(each["host"], each["action"]) for each in planned["hosts"]] == [("claude", "add"), ("codex", "add")]
    done = json.loads(user.run("setup", "--yes", "--json").stdout)
    assert done["exit"] == 0
    for each in done["hosts"]:
        assert each["registered"]
        assert each["answers"]["server"] == "mcp-mailbox"
        assert Path(each["backup"]).is_file()
    undone = json.loads(user.run("setup", "--undo", "--yes", "--json", "--host", "codex").stdout)
    assert [(each["host"], each["outcome"]) for each in undone["hosts"]] == [("codex", "restored")]


def test_a_project_is_the_repository_around_and_is_undone_without_the_others(user: Shell) -> None:
    def setup(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*PROGRAM, "setup", "--scope", "project", "--yes", *arguments]
        return subprocess.run(
            command, env=user.environment, cwd=where, capture_output=True, text=True, timeout=DEADLINE, check=False
        )

    for name in ("one", "two"):
        inner = user.home / name / "src"
        inner.mkdir(parents=True)
        (user.home / name / ".git").mkdir()
        done = setup(inner, "--host", "claude")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "mailbox" in json.loads((user.home / name / ".mcp.json").read_text())["mcpServers"]
    setup(user.home / "one/src", "--undo")
    assert not (user.home / "one/.mcp.json").exists()
    assert (user.home / "two/.mcp.json").exists()
    assert files(user) == (JSON, TOML)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "emacs"], "There are claude, codex"),
        (["--name", "a b"], "--name"),
        (["--url", "localhost:8765"], "http://127.0.0.1:8765/mcp"),
        (["--url", "http://user:secret@x/mcp"], "MCP_MAILBOX_TOKEN"),
        (["--url", "http://x/mcp?token=secret"], "MCP_MAILBOX_TOKEN"),
        (["--url", "http://[/mcp"], "--url"),
        (["--no-auth"], "--url"),
        (["--scope", "project"], "no project"),
    ],
)
def test_what_is_misunderstood_is_said_and_nothing_is_done(user: Shell, arguments: list[str], says: str) -> None:
    done = user.run("setup", "--yes", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "secret" not in done.stderr
    assert files(user) == (JSON, TOML)


def test_where_no_host_is_found_it_says_where_it_looked_and_what_there_is_to_name(shell: Shell) -> None:
    done = shell.run("setup", "--yes")
    assert done.returncode == exits.REFUSED
    assert f"on the PATH, and no file of theirs in {shell.home}." in done.stderr
    assert f"--host NAME`, of {', '.join(HOSTS)}." in done.stderr
    told = shell.run("setup", "--yes", "--scope", "project", "--json", HOME=str(shell.home / "elsewhere"))
    assert told.returncode == exits.REFUSED
    assert "claude-desktop" not in json.loads(told.stdout)["message"], "it has no files of a project"
    assert list(shell.home.iterdir()) == []


def test_its_page_and_its_help_say_what_it_ends_with(user: Shell) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/setup.md").read_text()
    told = dict(re.findall(r"^\| (\d) \| (.*) \|$", page, re.MULTILINE))
    helped = user.run("setup", "--help").stdout.split("exit codes: ")[1]
    assert set(told) <= set(re.findall(r"\b(\d) [a-z]", helped))
    assert "means nothing" in told["2"]
    for each in ("no host was found", "nobody said yes"):
        assert each in told[str(exits.REFUSED)]


@pytest.mark.parametrize("sign", ["the record", "the file"])
def test_killed_in_the_middle_it_can_be_undone_all_the_same(user: Shell, sign: str) -> None:
    record, file = user.home / ".mcp-mailbox/setup.json", user.home / ".codex/config.toml"
    command = [*PROGRAM, "setup", "--host", "codex", "--yes"]
    process = subprocess.Popen(command, env=user.environment, cwd=user.home, stdout=subprocess.DEVNULL)
    while not (record.exists() if sign == "the record" else file.read_bytes() != TOML.encode()):
        assert process.poll() is None
    process.kill()
    process.wait()
    assert user.run("setup", "--undo", "--yes").returncode == 0
    assert files(user) == (JSON, TOML)
    assert not record.exists()


def test_what_a_killed_one_left_goes_also_where_there_is_nothing_to_undo_or_to_do(user: Shell) -> None:
    home = user.home / ".mcp-mailbox"
    (home / "setup-backups").mkdir(parents=True, mode=0o700)
    left = [home / "setup-backups/.codex.1.mcp-mailbox-aaaaaaaa.tmp", home / ".setup.json.mcp-mailbox-aaaaaaaa.tmp"]
    for each in left:
        each.write_text("secret")
    assert "nothing to undo" in user.run("setup", "--undo").stdout
    assert not any(each.exists() for each in left)
    assert user.run("setup", "--host", "codex", "--yes").returncode == 0
    beside = user.home / ".codex/.config.toml.mcp-mailbox-aaaaaaaa.tmp"
    beside.write_text("secret")
    assert "has it already" in user.run("setup", "--host", "codex").stdout
    assert not beside.exists()


# -- hooks

HOOKED = """{
  "model": "m",
  "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "say done"}]}]}
}
"""


HOOKS = {"claude": ".claude/settings.json", "codex": ".codex/hooks.json"}


@pytest.mark.parametrize(
    ("host", "before"),
    [*(("claude", before) for before in (None, "", "{}", HOOKED)), *(("codex", before) for before in (None, HOOKED))],
)
def test_hooks_are_registered_once_and_taken_back_to_the_byte(user: Shell, host: str, before: str | None) -> None:
    settings = user.home / HOOKS[host]
    settings.parent.mkdir(exist_ok=True)
    if before is not None:
        settings.write_text(before)
    shown = user.run("setup", "--host", host, "--hooks", "--dry-run")
    assert "UserPromptSubmit" in shown.stdout
    assert settings.exists() is (before is not None)
    done = user.run("setup", "--host", host, "--hooks", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("until you have trusted them" in done.stdout) is (host == "codex")
    said = json.loads(settings.read_text())["hooks"]
    for event in ("SessionStart", "UserPromptSubmit", "Stop"):
        commands = [hook["command"] for each in said[event] for hook in each["hooks"]]
        [command] = [each for each in commands if each.endswith(f" hook {event}")]
        ran = subprocess.run(
            ["/bin/sh", "-c", command], env=user.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
    after = settings.read_bytes()
    again = user.run("setup", "--host", host, "--hooks")
    assert again.stdout.count("has it already") == 2
    assert settings.read_bytes() == after
    assert user.run("setup", "--undo", "--host", host, "--yes").returncode == 0
    assert (settings.read_text() if settings.exists() else None) == before
    assert files(user) == (JSON, TOML)


def test_hooks_that_wait_are_claude_codes_and_asked_for_or_needed_over_http(user: Shell) -> None:
    settings = user.home / ".claude/settings.json"
    assert user.run("setup", "--hooks", "--yes").returncode == 0
    assert "--rewake" not in settings.read_text()
    for arguments in (["--hooks", "rewake"], ["--hooks", "--url", "http://127.0.0.1:1/mcp"]):
        assert "answers" in user.run("setup", "--yes", *arguments).stdout or "--url" in arguments
        said = json.loads(settings.read_text())["hooks"]
        waiting = {event: [hook for each in said[event] for hook in each["hooks"][:1]] for event in said}
        assert [len(hooks) for hooks in waiting.values()] == [2, 1, 2]
        for event in ("SessionStart", "Stop"):
            command = waiting[event][1]
            assert command["asyncRewake"] is True
            assert command["command"].endswith(f"mcp-mailbox hook {event} --rewake")
        assert "--rewake" not in (user.home / ".codex/hooks.json").read_text()
        assert user.run("setup", "--undo", "--yes").returncode == 0
        assert not settings.exists()
    assert files(user) == (JSON, TOML)


def test_doctor_tells_of_hooks_whose_program_is_gone(user: Shell) -> None:
    assert user.run("setup", "--hooks", "--yes").returncode == 0
    hooks = user.home / ".codex/hooks.json"
    fine = json.loads(user.run("doctor", "--quick", "--json").stdout)["findings"]
    assert [each["how"] for each in fine if each["what"] == "hooks"] == ["ok", "ok"]
    hooks.write_text(re.sub(r"\S+ -P -m mcp_mailbox|[^ \"]+/mcp-mailbox", "/gone/mcp-mailbox", hooks.read_text()))
    found = json.loads(user.run("doctor", "--quick", "--json").stdout)["findings"]
    [wrong] = [each for each in found if each["what"] == "hooks" and each["how"] == "wrong"]
    assert "/gone/mcp-mailbox, which is not there" in wrong["details"]
    assert "setup --hooks" in wrong["fix"]


@pytest.mark.parametrize("before", ["{}", HOOKED])
def test_hooks_are_taken_out_also_when_the_host_wrote_since(user: Shell, before: str) -> None:
    settings = user.home / ".claude/settings.json"
    settings.parent.mkdir()
    settings.write_text(before)
    user.run("setup", "--host", "claude", "--hooks", "--yes")
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "theme": "dark"}, indent=4))
    assert user.run("setup", "--undo", "--host", "claude", "--yes").returncode == 0
    left, was = json.loads(settings.read_text()), json.loads(before)
    assert left.pop("theme") == "dark"
    assert {"hooks": {}, **left} == {"hooks": {}, **was}


def test_hooks_of_another_installation_are_brought_up_to_date(user: Shell) -> None:
    settings = user.home / ".claude/settings.json"
    settings.parent.mkdir()
    old = {"hooks": [{"type": "command", "command": "/old/bin/mcp-mailbox hook Stop"}]}
    before = json.dumps({"hooks": {"Stop": [old]}})
    settings.write_text(before)
    assert user.run("setup", "--host", "claude", "--hooks", "--yes").returncode == 0
    [now] = json.loads(settings.read_text())["hooks"]["Stop"]
    assert "/old/bin" not in str(now)
    user.run("setup", "--undo", "--yes")
    assert settings.read_text() == before


def test_hooks_that_are_no_lists_are_left_alone(user: Shell) -> None:
    settings = user.home / ".claude/settings.json"
    settings.parent.mkdir()
    settings.write_text('{"hooks": {"Stop": "no"}}')
    done = user.run("setup", "--host", "claude", "--hooks", "--yes")
    assert done.returncode == exits.REFUSED
    assert "hooks.Stop is no list" in done.stdout
    assert settings.read_text() == '{"hooks": {"Stop": "no"}}'


@pytest.mark.parametrize(
    "arguments", [["--host", "gemini"], ["--host", "claude", "--url", "https://mail.example.org/mcp"]]
)
def test_hooks_that_cannot_be_are_misunderstood(user: Shell, arguments: list[str]) -> None:
    assert user.run("setup", "--hooks", "--yes", *arguments).returncode == exits.MISUNDERSTOOD


def test_every_address_of_this_machine_is_taken_for_it(user: Shell) -> None:
    for host in ("127.0.0.1", "127.0.0.2", "LOCALHOST", "[::1]"):
        done = user.run("setup", "--hooks", "--dry-run", "--url", f"http://{host}:8765/mcp")
        assert (done.returncode, done.stderr) == (0, "")


# -- over HTTP


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = Served(tmp_path_factory.mktemp("served"))
    yield home.start()
    home.end()


def test_a_server_over_http_is_met_with_the_token_and_no_file_gets_it(user: Shell, served: Served) -> None:
    token = served.token
    done = user.run("setup", "--yes", "--url", served.url, MCP_MAILBOX_TOKEN=token)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("answers (mcp-mailbox ") == 2
    everything = [each for each in user.home.rglob("*") if each.is_file()]
    assert len(everything) > 3
    assert not [each for each in everything if token.encode() in each.read_bytes()]
    assert token not in done.stdout + done.stderr


def test_of_a_server_over_http_it_is_said_where_its_token_is(user: Shell, served: Served) -> None:
    store = user.home / ".mcp-mailbox"

    def told(url: str, *arguments: str) -> str:
        return user.run("setup", "--yes", "--host", "codex", "--url", url, *arguments).stdout.partition("\n\n")[2]

    line = f'export MCP_MAILBOX_TOKEN="$(cat {store}/token)"'
    assert line in told(served.url)
    assert "the first `mcp-mailbox serve` makes that file" in told(served.url)
    (store / "token").write_text("secret")
    assert line in told(served.url)
    assert "makes that file" not in told(served.url)
    elsewhere = told("https://mail.invalid/mcp")
    assert "`mcp-mailbox token create NAME`" in elsewhere
    assert "cat" not in elsewhere
    assert told(served.url, "--no-auth") == ""


def test_a_server_over_http_that_does_not_answer_is_registered_and_said(user: Shell, served: Served) -> None:
    refused = user.run("setup", "--yes", "--url", served.url, "--host", "codex")
    assert refused.returncode == exits.NOTHING
    assert "it wants another token" in refused.stdout
    assert 'bearer_token_env_var = "MCP_MAILBOX_TOKEN"' in files(user)[1]
    served.end()
    down = user.run("setup", "--yes", "--url", f"http://127.0.0.1:{free_port()}/mcp", "--host", "claude")
    assert down.returncode == exits.NOTHING
    assert "does not answer" in down.stdout


def free_port() -> int:
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


# -- programs that do not answer


def test_what_the_host_would_fill_in_is_left_out_when_the_server_is_met(user: Shell) -> None:
    user.run("setup", "--yes", "--host", "claude")
    path = user.home / ".claude.json"
    said = json.loads(path.read_text())
    said["mcpServers"]["mailbox"]["env"] = {"MCP_MAILBOX_HOME": "${HOME}/mail"}
    path.write_text(json.dumps(said))
    assert "answers" in user.run("setup", "--host", "claude").stdout
    assert not (user.home / "${HOME}").exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("/no/such/mcp-mailbox", "stdio"), "does not start"),
        (("/bin/sh", "-c", "echo it is broken >&2; exit 1"), "it is broken"),
        (("/bin/echo", "hello"), "no JSON"),
        (("/bin/echo", '{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"not today"}}'), "not today"),
        (("/bin/echo", '{"jsonrpc":"2.0","id":1,"result":{}}'), "without an answer to tools/list"),
    ],
)
def test_a_program_that_does_not_answer_is_taken_out_again(desk: Desk, command: tuple[str, ...], says: str) -> None:
    path = desk.write(HOSTS["codex"], TOML)
    (desk.root / "store").mkdir(mode=0o700)
    outcome = running.register(desk.plan(HOSTS["codex"], Server(command)), desk.book, desk.where)
    assert not outcome.registered
    assert says in str(outcome.unfit)
    assert path.read_bytes().decode() == TOML
    assert desk.book.records() == []


def meet_in_time(desk: Desk, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Start a server that says nothing, and see that it is given up in time, whoever has its streams open."""
    monkeypatch.setattr(handshake, "SECONDS", 2.0)
    began = time.monotonic()
    with pytest.raises(Unfit, match="gave none in 2 s") as unfit:
        handshake.greet(Launch(("/bin/sh", "-c", script), {}, None), desk.root, {"PATH": "/usr/bin:/bin"})
    assert time.monotonic() - began < 6
    assert "still at it" in unfit.value.hint


def test_what_a_launcher_has_started_is_ended_with_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(desk.root / "open while it runs")
    reader = os.open(desk.root / "open while it runs", os.O_RDONLY | os.O_NONBLOCK)
    try:
        meet_in_time(desk, monkeypatch, "exec 9>'open while it runs'; echo still at it >&2; sleep 30; true")
        ended = select.poll()
        ended.register(reader, 0)  # POLLHUP is told in any case
        assert ended.poll(DEADLINE * 1000 / 4), "it is still there"
    finally:
        os.close(reader)


def test_what_a_launcher_has_started_and_let_go_is_not_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(desk.root / "fifo")
    writer = os.open(desk.root / "fifo", os.O_RDWR)
    try:
        meet_in_time(desk, monkeypatch, "echo still at it >&2; setsid cat fifo & wait")
    finally:
        os.close(writer)  # which ends it
