"""The command line in real processes: what a person types, what a host starts, what is left behind."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_mailbox import __version__, frames, rendezvous
from tests.fronts.world import Served
from tests.relay.world import World

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "mcp_mailbox"]
DEADLINE = 60


class Shell:
    """A person's shell with a home of its own, and nothing of the surrounding one."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}

    def run(self, *arguments: str, stdin: str | None = "", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments],
            input=stdin,
            env=self.environment | more,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    one = Shell(tmp_path)
    yield one
    one.run("stop")


@pytest.fixture(scope="module")
def lasting_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Return one for all tests of a file that leave its home as it was: a post office takes a second to start."""
    one = Shell(tmp_path_factory.mktemp("home"))
    yield one
    one.run("stop")


INITIALIZE = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
)


def test_the_demo_shows_the_exchange_and_leaves_nothing_behind(shell: Shell, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    shown = shell.run("demo", TMPDIR=str(temporary))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    told = [line[:8].strip() for line in shown.stdout.splitlines() if line[:8].strip()]
    assert told[:8] == ["bob", "bob", "alice", "alice", "kill -9", "bob", "bob", "alice"]
    assert "Please review branch fix-42." in shown.stdout
    assert "Looks good. Merged." in shown.stdout
    assert "claude mcp add -s user mailbox -- /" in shown.stdout
    assert "codex mcp add mailbox -- /" in shown.stdout
    assert list(temporary.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]


def test_without_arguments_and_without_a_terminal_it_speaks_mcp(shell: Shell) -> None:
    answered = shell.run(stdin=INITIALIZE + "\n")
    assert answered.returncode == 0
    assert json.loads(answered.stdout)["result"]["serverInfo"]["name"] == "mcp-mailbox"


def test_on_a_terminal_it_prints_help(shell: Shell) -> None:
    ours, theirs = pty.openpty()
    try:
        shown = subprocess.run(
            PROGRAM, stdin=theirs, env=shell.environment, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert shown.returncode == 0
    assert "demo" in shown.stdout
    assert not (shell.home / ".mcp-mailbox").exists()


def test_status_of_a_post_office_that_does_not_run_starts_none(shell: Shell) -> None:
    shown = shell.run("status", "--json")
    assert json.loads(shown.stdout) == {"running": False, "home": str(shell.home / ".mcp-mailbox")}
    assert not (shell.home / ".mcp-mailbox").exists()


def test_status_shows_the_running_post_office_and_how_to_register_it(shell: Shell) -> None:
    shell.run(stdin=INITIALIZE + "\n")
    status = json.loads(shell.run("status", "--json").stdout)
    assert status["running"]
    os.kill(status["pid"], 0)
    shown = shell.run("status").stdout
    assert f"process {status['pid']}" in shown
    assert status["keep_days"] == 365
    assert "settled mail for 365 days" in shown
    assert "claude mcp add" in shown


def test_status_waits_for_a_post_office_that_is_being_started_to_say_how_long_mail_is_kept(shell: Shell) -> None:
    home = shell.home / ".mcp-mailbox"
    home.mkdir(mode=0o700)
    starting = subprocess.Popen([*PROGRAM, "office"], env=shell.environment)
    assert starting.wait(DEADLINE) == 0, "it listens, and opens its store"
    shown = shell.run("status").stdout
    assert "settled mail for 365 days" in shown
    assert json.loads(shell.run("status", "--json").stdout)["open"]


def test_status_says_nothing_of_what_is_not_known_of_a_store_that_does_not_open(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        world.want(never_opens=True)
        world.host()
        world.wait_for("start")
        shown = Shell(tmp_path).run("status", MCP_MAILBOX_HOME=str(world.home))
        assert shown.returncode == 0, shown.stderr
        assert "not open yet" in shown.stdout
        assert "keeps" not in shown.stdout
    finally:
        world.end()


def test_status_says_of_a_post_office_that_is_leaving_that_it_is(tmp_path: Path) -> None:
    world = World(tmp_path)
    shell = Shell(tmp_path)
    try:
        world.want(office={"FLUSH_SECONDS": 5})
        stuck = world.host()  # it does not read, so that the office has something to say until it loses patience
        stuck.send("big", 2_000_000)
        world.wait_for("answered", serial=1)
        stuck.send("big", 20_000_000)
        world.wait_for("frame", serial=2)
        assert rendezvous.ask(str(world.home), frames.QUIT, "test") == b""
        world.wait_for("leaving")
        home = {"MCP_MAILBOX_HOME": str(world.home)}
        shown = shell.run("status", **home)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "leaving" in shown.stdout.splitlines()[0]
        status = json.loads(shell.run("status", "--json", **home).stdout)
        assert status == {"running": True, "leaving": True, "home": str(world.home)}
    finally:
        world.end()


def test_stop_ends_the_post_office_and_the_next_call_starts_another(shell: Shell) -> None:
    shell.run(stdin=INITIALIZE + "\n")
    before = json.loads(shell.run("status", "--json").stdout)["pid"]
    assert shell.run("stop").stdout == "Stopped. The next call of a host starts it again.\n"
    assert json.loads(shell.run("stop", "--json").stdout) == {"stopped": False, "served": False}
    assert not json.loads(shell.run("status", "--json").stdout)["running"]
    assert json.loads(shell.run(stdin=INITIALIZE + "\n").stdout)["id"] == 1
    assert json.loads(shell.run("status", "--json").stdout)["pid"] != before


def test_stop_says_that_http_stays_away_when_it_was_served(tmp_path: Path) -> None:
    served = Served(tmp_path).start()
    shell = Shell(tmp_path)
    try:
        stopped = shell.run("stop", MCP_MAILBOX_HOME=str(served.path)).stdout
        assert stopped.startswith("Stopped. ")
        assert "until somebody starts `mcp-mailbox serve` again" in stopped
        served.end()
        served.start()
        told = json.loads(shell.run("stop", "--json", MCP_MAILBOX_HOME=str(served.path)).stdout)
        assert told == {"stopped": True, "served": True}
    finally:
        served.end()


def test_stop_without_a_post_office_says_so(shell: Shell) -> None:
    stopped = shell.run("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "The post office is not running.\n")


@pytest.mark.parametrize(
    "asked",
    [
        "[1]",
        "null",
        '"token list"',
        "{}",
        '{"do": []}',
        '{"do": "send"}',
        '{"do": "read", "who": {"request": "r", "own": "me"}, "given": {}}',
        '{"do": "read", "who": {"request": "r", "own": "me"}, "given": {"id": "x", "mailbox": "other"}}',
        '{"do": "wait_for_message", "who": {"request": "r", "own": "me"}, "given": {"timeout": "soon"}}',
        '{"do": "list_inbox", "who": {"request": "r", "own": "me", "principal": "other"}, "given": {}}',
        '{"do": "follow", "who": {"request": "r", "own": "me"}, "given": {"place": "nowhere"}}',
    ],
)
def test_what_is_no_command_is_refused_and_the_post_office_goes_on(lasting_shell: Shell, asked: str) -> None:
    shell = lasting_shell
    shell.run(stdin=INITIALIZE + "\n")
    before = json.loads(shell.run("status", "--json").stdout)["pid"]
    answer = rendezvous.ask(str(shell.home / ".mcp-mailbox"), frames.COMMAND, asked.encode().hex())
    assert json.loads(answer or b"")["error"] in {"bad_argument", "unknown_command"}
    assert json.loads(shell.run("status", "--json").stdout)["pid"] == before


def test_an_unknown_command_is_refused_with_what_there_is(shell: Shell) -> None:
    refused = shell.run("nonsense")
    assert refused.returncode == 2
    assert "demo" in refused.stderr
    assert "Did you mean" not in refused.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("serv", "serve"), ("sttus", "status"), ("tokens", "token"), ("STOP", "stop"), ("--stdio", "stdio")],
)
def test_a_command_that_is_nearly_one_is_told_which(shell: Shell, typed: str, meant: str) -> None:
    refused = shell.run(typed)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"Did you mean `mcp-mailbox {meant}`?" in refused.stderr


@pytest.mark.parametrize("typed", ["help", "-h", "--help"])
def test_help_is_given_in_every_way_that_people_ask_for_it(shell: Shell, typed: str) -> None:
    shown = shell.run(typed)
    assert (shown.returncode, "demo" in shown.stdout) == (0, True)
    assert "--principal" in shell.run("help", "token", "create").stdout


@pytest.mark.parametrize("typed", ["version", "-V", "--version"])
def test_the_version_is_given_in_every_way_that_people_ask_for_it(shell: Shell, typed: str) -> None:
    shown = shell.run(typed)
    assert (shown.returncode, shown.stdout) == (0, f"mcp-mailbox {__version__}\n")


@pytest.mark.parametrize("linked", [False, True])
def test_the_launcher_works_from_a_path_with_spaces_and_through_a_link(
    shell: Shell, tmp_path: Path, linked: bool
) -> None:
    folder = tmp_path / "a folder, ünïcode"
    folder.mkdir()
    launcher = folder / "mcp-mailbox"
    shutil.copy(ROOT / "bin" / "mcp-mailbox", launcher)
    (folder / "python3").symlink_to(sys.executable)
    if linked:
        launcher = tmp_path / "linked"
        launcher.symlink_to(folder / "mcp-mailbox")
    shown = subprocess.run(
        [str(launcher), "--version"],
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert shown.stdout.startswith("mcp-mailbox "), shown.stderr


def example_agent(shell: Shell, home: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "answering_agent.py"), name, home],
        env=shell.environment | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_example_agent_says_in_a_sentence_what_was_refused(shell: Shell) -> None:
    home = str(shell.home / "mail")
    example = example_agent(shell, home, "a b")
    try:
        shown, trouble = example.communicate(timeout=DEADLINE)
        assert (example.returncode, shown) == (1, "")
        assert trouble.startswith("The name 'a b' contains ")
        assert trouble.count("\n") == 1
    finally:
        shell.run("stop", MCP_MAILBOX_HOME=home)


def test_the_example_agent_answers_mail(shell: Shell) -> None:
    home = str(shell.home / "mail")
    example = example_agent(shell, home, "echo")
    try:
        assert example.stdout
        assert example.stdout.readline() == "echo@default has 0 unread\n"
        calls: list[tuple[str, dict[str, object]]] = [
            ("create_mailbox", {"name": "asker"}),
            ("send", {"to": "echo", "body": "louder"}),
            ("wait_for_message", {"timeout": 30}),
        ]
        assert converse(shell, home, calls)["messages"][0]["body"] == "LOUDER"
        assert example.stdout.readline() == "answered asker@default\n"
        long = "a" * 40_000 + "end"
        calls = [
            ("create_mailbox", {"name": "asker"}),
            ("settle", {"ids": ["nothing"], "outcome": "ack"}),
            ("send", {"to": "echo", "body": long, "subject": "long"}),
            ("wait_for_message", {"timeout": 30, "from": "echo"}),
        ]
        answered = converse(shell, home, calls)["messages"][-1]
        assert example.stdout.readline() == "answered asker@default\n"
        page = converse(shell, home, [("read", {"id": answered["id"], "offset": len(long) - 3, "mailbox": "asker"})])
        assert str(page["body"]) == "END"
    finally:
        example.kill()
        example.communicate()
        shell.run("stop", MCP_MAILBOX_HOME=home)


def converse(shell: Shell, home: str, calls: list[tuple[str, dict[str, object]]]) -> dict[str, list[dict[str, str]]]:
    """Make the calls one after another on one relay; return the last result."""
    with subprocess.Popen(
        [*PROGRAM, "stdio"],
        env=shell.environment | {"MCP_MAILBOX_HOME": home},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as relay:
        assert relay.stdin
        assert relay.stdout
        answer: dict[str, dict[str, dict[str, list[dict[str, str]]]]] = {}
        for number, (tool, arguments) in enumerate([("", {}), *calls], start=1):
            params = {"name": tool, "arguments": arguments}
            request = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
            relay.stdin.write((json.dumps(request) if tool else INITIALIZE) + "\n")
            relay.stdin.flush()
            answer = json.loads(relay.stdout.readline())
        relay.stdin.close()
        return answer["result"]["structuredContent"]
