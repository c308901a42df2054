"""`mcp-mailbox guard` in real repositories, with git's own hook."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_commands import DEADLINE, INITIALIZE, PROGRAM, Shell, lasting_shell, shell
from tests.fronts.world import Served

__all__ = ["lasting_shell", "shell"]

GIT = {
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
    "GIT_CONFIG_NOSYSTEM": "1",
}


class Repository:
    """A repository, and agents that reserve in it."""

    def __init__(self, shell: Shell, path: Path) -> None:
        self.shell = shell
        self.path = path
        self._reserved: dict[tuple[str, str], None] = {}
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.write("README.md", "src/api/a.py", "src/b.py", "docs/x.md")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message=first")

    def write(self, *files: str, text: str = "x\n") -> None:
        for file in files:
            (self.path / file).parent.mkdir(parents=True, exist_ok=True)
            (self.path / file).write_text(text)

    def run(self, *command: str, cwd: str = ".", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.path / cwd,
            env=self.shell.environment | GIT | more,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            errors="surrogateescape",
        )

    def git(self, *arguments: str, **more: str) -> str:
        done = self.run("git", *arguments, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stage(self, *files: str) -> None:
        self.write(*files, text="changed\n")
        self.git("add", ".")

    def guard(self, *arguments: str, cwd: str = ".", **more: str) -> subprocess.CompletedProcess[str]:
        return self.run(*PROGRAM, "guard", *arguments, cwd=cwd, **more)

    def refused(self, *arguments: str, **more: str) -> str:
        done = self.guard(*arguments, **more)
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        return done.stderr

    def let_through(self, *arguments: str, **more: str) -> None:
        done = self.guard(*arguments, **more)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def not_looked_up(self, *arguments: str) -> str:
        """Return what is said when a commit goes through since nobody could be asked."""
        done = self.guard(*arguments)
        assert (done.returncode, done.stdout) == (0, "")
        assert "was not looked up" in done.stderr
        return done.stderr

    def reserve(self, mailbox: str, *names: str, space: str = "default", **more: object) -> None:
        """Let an agent make that mailbox and reserve."""
        self._reserved[mailbox, space] = None
        calls: list[tuple[str, dict[str, object]]] = [
            ("create_mailbox", {"name": mailbox}),
            ("reserve", {"names": names, **more}),
        ]
        lines = [INITIALIZE] + [
            json.dumps(
                {"jsonrpc": "2.0", "id": id_, "method": "tools/call", "params": {"name": name, "arguments": given}}
            )
            for id_, (name, given) in enumerate(calls, start=2)
        ]
        with subprocess.Popen(
            [*PROGRAM, "stdio"],
            env=self.shell.environment | {"MCP_MAILBOX_SPACE": space},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as relay:
            assert relay.stdin
            assert relay.stdout
            for line in lines:
                relay.stdin.write(line + "\n")
                relay.stdin.flush()
                answer = json.loads(relay.stdout.readline())
            relay.stdin.close()
        assert not answer["result"].get("isError"), answer

    def release(self) -> None:
        """Let all of them give back what they have reserved."""
        for mailbox, space in list(self._reserved):
            self.reserve(mailbox, space=space, release=True)


@pytest.fixture
def repository(lasting_shell: Shell, tmp_path: Path) -> Iterator[Repository]:
    one = Repository(lasting_shell, tmp_path / "a repository")
    yield one
    one.release()


@pytest.fixture
def lone_repository(shell: Shell, tmp_path: Path) -> Repository:
    """Return one whose post office is its own."""
    return Repository(shell, tmp_path / "a repository")


def test_without_a_store_a_commit_goes_through_and_nothing_is_started(lone_repository: Repository) -> None:
    lone_repository.stage("src/b.py")
    lone_repository.let_through()
    assert not (lone_repository.shell.home / ".mcp-mailbox").exists()


@pytest.fixture(params=["joined", "by variables"])
def edge(request: pytest.FixtureRequest, shell: Shell, tmp_path: Path) -> Iterator[tuple[Repository, Served]]:
    """A repository on a machine whose mail a hub keeps, and that hub."""
    (tmp_path / "hub").mkdir()
    hub = Served(tmp_path / "hub").start()
    if request.param == "joined":
        invited = Shell(hub.path).run("invite", MCP_MAILBOX_HOME=str(hub.path)).stdout
        assert shell.run(*invited.split()[1:]).returncode == 0
    else:
        shell.environment |= {"MCP_MAILBOX_HUB": hub.url, "MCP_MAILBOX_TOKEN": hub.token}
    yield Repository(shell, tmp_path / "a repository"), hub
    hub.end()


def test_at_an_edge_what_others_hold_at_the_hub_counts_and_a_hub_that_is_away_stops_nobody_and_is_said(
    edge: tuple[Repository, Served],
) -> None:
    repository, hub = edge
    repository.reserve("alice", "src/")
    repository.stage("src/b.py")
    assert "src/b.py: alice@default" in repository.refused("--mailbox", "carol")
    repository.let_through("--mailbox", "alice")
    hub.end()
    assert "hub" in repository.not_looked_up("--mailbox", "carol")


def test_a_hub_that_cannot_be_asked_for_how_it_was_joined_stops_nobody_and_that_is_said(
    lone_repository: Repository,
) -> None:
    lone_repository.stage("src/b.py")
    home = lone_repository.shell.home / ".mcp-mailbox"
    home.mkdir(mode=0o700)
    (home / "hub.json").write_text("not JSON")
    assert "hub.json" in lone_repository.not_looked_up()


def test_each_file_that_another_holds_is_named_with_who_holds_it_until_when_and_what_to_do(
    repository: Repository,
) -> None:
    repository.reserve("alice", "src/api/", note="moving files")
    repository.reserve("bob", "docs/*.md", mode="shared", ttl=60)
    repository.stage("src/api/a.py", "src/b.py", "docs/x.md", "docs/new.md")
    said = repository.refused("--mailbox", "carol").splitlines()
    assert [line.partition(" until ")[0] for line in said[1:4]] == [
        "  docs/new.md: bob@default (shared, as 'docs/*.md')",
        "  docs/x.md: bob@default (shared, as 'docs/*.md')",
        "  src/api/a.py: alice@default (exclusive, as 'src/api/')",
    ]
    assert said[1].endswith("1 min from now")
    assert said[3].endswith("60 min from now: moving files")
    assert "MCP_MAILBOX_GUARD=off" in said[4]
    assert "--no-verify" in said[4]
    assert len(said) == 5


def test_what_one_holds_oneself_is_in_nobodys_way(repository: Repository) -> None:
    repository.reserve("alice", "src/")
    repository.stage("src/b.py")
    assert "say who you are" in repository.refused()
    repository.refused("--mailbox", "bob")
    repository.let_through("--mailbox", "ALICE")
    repository.let_through(MCP_MAILBOX_ADDRESS="alice@default")
    repository.let_through("--mailbox=alice", MCP_MAILBOX_ADDRESS="bob")


def test_spaces_are_looked_at_one_at_a_time(repository: Repository) -> None:
    repository.reserve("alice", "src/", space="project")
    repository.stage("src/b.py")
    repository.let_through()
    repository.refused("--space", "project")
    repository.refused(MCP_MAILBOX_SPACE="project")
    repository.refused(MCP_MAILBOX_ADDRESS="bob@project")
    repository.let_through(MCP_MAILBOX_ADDRESS="alice@project")
    repository.let_through("--space", "default", MCP_MAILBOX_SPACE="project")


def test_a_file_that_goes_away_or_gets_another_name_counts_by_both(repository: Repository) -> None:
    repository.reserve("alice", "docs/x.md", "elsewhere/")
    repository.git("mv", "docs/x.md", "moved.md")
    assert "docs/x.md: alice" in repository.refused()
    repository.git("reset", "--quiet", "--hard")
    repository.git("rm", "--quiet", "docs/x.md")
    assert "docs/x.md: alice" in repository.refused()
    repository.git("reset", "--quiet", "--hard")
    (repository.path / "elsewhere").mkdir()
    repository.git("mv", "src/b.py", "elsewhere/b.py")
    assert "elsewhere/b.py: alice" in repository.refused()


def test_what_is_not_staged_does_not_count_and_files_may_be_named(repository: Repository) -> None:
    repository.reserve("alice", "src/")
    repository.write("src/b.py", text="changed\n")
    repository.let_through()
    repository.refused("src/b.py")
    repository.refused("../src/b.py", cwd="docs")
    repository.let_through("b.py", "../outside.py")


def test_names_in_any_script_and_with_any_character_are_seen(repository: Repository) -> None:
    repository.reserve("alice", "ünïcode/", "with space", "pages/[id].tsx", "odd/")
    odd = ["ünïcode/ж.py", "with space/a b.py", "pages/[id].tsx", "odd/line\nbreak"]
    repository.stage(*odd)
    said = repository.refused()
    for name in (*odd[:3], "'odd/line\\nbreak'"):
        assert f"  {name}: alice" in said


def test_a_name_that_is_no_unicode_is_seen(repository: Repository) -> None:
    repository.reserve("alice", "odd/")
    repository.write("odd/\udcff.py")
    repository.git("add", ".")
    assert "odd/\N{REPLACEMENT CHARACTER}.py: alice" in repository.refused()


def test_of_many_files_some_are_named_and_the_rest_counted(repository: Repository) -> None:
    repository.reserve("alice", "many/")
    repository.stage(*(f"many/{number:04}.py" for number in range(1500)))
    said = repository.refused()
    assert "and 1480 more" in said
    assert len(said.splitlines()) < 30


def test_the_post_office_is_started_when_it_does_not_run(lone_repository: Repository) -> None:
    lone_repository.reserve("alice", "src/")
    lone_repository.shell.run("stop")
    lone_repository.stage("src/b.py")
    assert "src/b.py: alice" in lone_repository.refused()


def test_a_post_office_that_cannot_be_asked_stops_nobody_and_says_so(lone_repository: Repository) -> None:
    lone_repository.reserve("alice", "src/")
    lone_repository.shell.run("stop")
    (lone_repository.shell.home / ".mcp-mailbox" / "mail.db").write_bytes(b"no store")
    lone_repository.stage("src/b.py")
    lone_repository.not_looked_up()


@pytest.mark.parametrize("arguments", [["--space", "a b"], ["--mailbox", "a@b@c"], ["--mailbox", ""]])
def test_a_mistake_in_the_command_is_told(repository: Repository, arguments: list[str]) -> None:
    repository.reserve("alice", "src/")
    repository.stage("src/b.py")
    said = repository.refused(*arguments)
    assert "Traceback" not in said


def test_outside_of_a_repository_it_says_so(shell: Shell) -> None:
    (shell.home / ".mcp-mailbox").mkdir(mode=0o700)
    (shell.home / ".mcp-mailbox" / "mail.db").touch()
    for arguments in ([], ["--install"], ["a.py"]):
        done = shell.run("guard", *arguments)
        assert done.returncode == 1
        assert "git repository" in done.stderr


# -- the hook


def test_gits_own_hook_refuses_the_commit_until_it_is_told_to_let_it_through(repository: Repository) -> None:
    assert "guards this repository now" in repository.guard("--install", "--mailbox=bob").stdout
    repository.reserve("alice", "src/")
    head = repository.git("rev-parse", "HEAD")
    repository.stage("src/b.py")
    refused = repository.run("git", "commit", "--message=mine")
    assert refused.returncode == 1
    assert "src/b.py: alice@default" in refused.stderr
    assert repository.git("rev-parse", "HEAD") == head
    repository.git("commit", "--quiet", "--message=mine", MCP_MAILBOX_GUARD="off")
    repository.stage("README.md")
    repository.git("commit", "--quiet", "--message=free")
    repository.write("src/b.py", text="again\n")
    assert repository.run("git", "commit", "--all", "--message=all").returncode == 1, "git has another index then"
    assert repository.run("git", "commit", "src/b.py", "--message=one").returncode == 1
    repository.git("commit", "--all", "--quiet", "--message=mine", "--no-verify")


def test_the_first_commit_of_a_repository_is_guarded_too(repository: Repository) -> None:
    repository.git("checkout", "--quiet", "--orphan", "another")
    repository.reserve("alice", "src/b.py")
    assert "src/b.py: alice" in repository.refused()


def test_a_merge_brings_in_what_others_did_to_their_own_files(repository: Repository) -> None:
    repository.reserve("alice", "src/")
    repository.git("checkout", "--quiet", "-b", "alices")
    repository.stage("src/b.py", "README.md")
    repository.git("commit", "--quiet", "--message=alices")
    repository.git("checkout", "--quiet", "main")
    repository.write("README.md", text="mine\n")
    repository.git("commit", "--all", "--quiet", "--message=mine")
    assert repository.run("git", "merge", "alices").returncode == 1, "README.md conflicts"
    repository.stage("README.md")
    repository.let_through()
    repository.stage("src/api/a.py")
    said = repository.refused()
    assert "src/api/a.py: alice" in said
    assert "src/b.py" not in said


def test_installing_twice_is_installing_once_and_other_options_take_the_place_of_the_first(
    repository: Repository,
) -> None:
    hook = repository.path / ".git" / "hooks" / "pre-commit"
    repository.guard("--install")
    first = hook.read_text()
    assert hook.stat().st_mode & 0o777 == 0o755
    assert str(Path(sys.executable).parent) in first
    assert "already" in repository.guard("--install").stdout
    assert hook.read_text() == first
    assert "now" in repository.guard("--install", "--space", "project").stdout
    assert hook.read_text() != first
    assert "now" in repository.guard("--install").stdout
    assert hook.read_text() == first
    assert [path.name for path in hook.parent.iterdir() if not path.name.endswith(".sample")] == ["pre-commit"]


def test_a_hook_that_is_not_ours_stays_as_it_is_and_the_line_to_add_is_shown(repository: Repository) -> None:
    hook = repository.path / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\necho mine\n")
    hook.chmod(0o755)
    said = repository.refused("--install")
    assert hook.read_text() == "#!/bin/sh\necho mine\n"
    line = said.splitlines()[-1].strip()
    hook.write_text(f"#!/bin/sh\n{line}\necho mine\n")
    assert "already" in repository.guard("--install").stdout
    repository.reserve("alice", "src/")
    repository.stage("src/b.py")
    assert "src/b.py: alice" in repository.run("git", "commit", "--message=x").stderr


def test_hooks_kept_elsewhere_and_worktrees_are_respected(repository: Repository) -> None:
    repository.git("config", "core.hooksPath", "my hooks")
    repository.guard("--install", cwd=".")
    assert (repository.path / "my hooks" / "pre-commit").exists()
    repository.git("config", "--unset", "core.hooksPath")
    repository.git("worktree", "add", "--quiet", "../other")
    repository.guard("--install", cwd="../other")
    repository.reserve("alice", "src/")
    (repository.path / "../other/src/b.py").write_text("changed\n")
    refused = repository.run("git", "commit", "--all", "--message=x", cwd="../other")
    assert "src/b.py: alice" in refused.stderr


def test_a_hook_whose_program_is_gone_stops_nobody(repository: Repository) -> None:
    repository.guard("--install")
    hook = repository.path / ".git" / "hooks" / "pre-commit"
    launcher = Path(sys.executable).with_name("mcp-mailbox")
    hook.write_text(hook.read_text().replace(str(launcher), "/nowhere/mcp-mailbox"))
    repository.stage("README.md")
    repository.git("commit", "--quiet", "--message=x")
