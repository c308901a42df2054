"""What is written about the command line is so: each line of docs/cli.md and of README is run, each example parsed."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_mailbox.engines.sqlite.codec import Codec
from mcp_mailbox.fronts.cli import commands, exits
from mcp_mailbox.fronts.cli.commands import COMMANDS
from mcp_mailbox.fronts.cli.trouble import COMMAND_OF, for_people
from mcp_mailbox.fronts.mcp.tools import TOOLS
from tests.cli.person import ROOT, Home, Person

_BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def lines(page: str, section: str = "") -> list[str]:
    text = (ROOT / page).read_text()
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [line for block in _BLOCK.findall(text) for line in block.splitlines() if "mcp-mailbox" in line]


LINES = [*lines("docs/cli.md"), *lines("README.md", "At a terminal")]


@pytest.fixture(scope="module")
def me(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    home = Home(tmp_path_factory.mktemp("home"))
    launcher = home.directory / ".venv" / "bin" / "mcp-mailbox"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m mcp_mailbox "$@"\n')
    launcher.chmod(0o755)
    (home.directory / "report.txt").write_text("All is well.")
    person = home.person("ann")
    person.environment["PATH"] = f"{launcher.parent}:/usr/bin:/bin"
    for name in ("ann", "alice", "bob"):
        person.beside(name).run("inbox")
    person.run("channels", "join", "#build")
    yield person
    home.end()


@pytest.mark.parametrize("line", LINES)
def test_each_line_that_is_written_down_works(me: Person, line: str) -> None:
    sent = me.beside("alice").sends("ann", "for an example", "--attach", "report.txt")
    if "dead" in line:
        me.run("reject", sent)
    command, _, remark = line.partition(" # ")
    command = re.sub(r"\bNAME\b", "ann", re.sub(r"\bID\b", sent, command))
    following = " tail" in command
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}" if following else command],
        cwd=me.home.directory,
        env=me.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if following:
                assert process.stderr is not None
                process.stderr.readline()
                process.send_signal(signal.SIGINT)
            _, trouble = process.communicate(timeout=60)
        finally:
            process.kill()
    expected = {exits.INTERRUPTED} if following else {0, 1} if "1: nothing" in remark else {0}
    assert process.returncode in expected, trouble


def test_there_are_lines_to_run() -> None:
    assert len(LINES) > 35
    used = {found[1] for line in LINES if (found := re.search(r"mcp-mailbox ([a-z]+)", line))}
    assert used >= {"inbox", "read", "send", "reply", "wait", "tail", "search", "ack", "dead", "agents", "doctor"}


@pytest.mark.parametrize(("name", "example"), [(name, each) for name in COMMANDS for each in COMMANDS[name].examples])
def test_each_example_in_the_help_means_something(name: str, example: str) -> None:
    [first, *words] = shlex.split(re.split(r" [|<>]", example)[0])
    assert first == name
    commands.parse(name, words)


def test_the_page_of_help_names_every_command_by_its_group() -> None:
    page = commands.page()
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{command.does[:30]}", page, re.MULTILINE)
        assert f"\n{command.group}:\n" in page
    assert max(map(len, page.splitlines())) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_examples_and_exit_codes(name: str) -> None:
    text = commands.parser(name).format_help()
    assert f"mcp-mailbox {name}" in text
    assert "example" in text
    assert "exit codes: 0 done, " in text


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_the_terminal_but_for_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = commands.parser(name).format_help() if name else commands.page()
    lines = [line for line in text.splitlines() if not line.startswith("  mcp-mailbox ")]
    assert max(map(len, lines)) <= 80, lines


def test_the_exit_codes_are_those_of_the_page() -> None:
    table = dict(re.findall(r"^\| (\d+) \| (.*) \|$", (ROOT / "docs/cli.md").read_text(), re.MULTILINE))
    assert set(map(int, table)) == {
        exits.DONE, exits.NOTHING, exits.MISUNDERSTOOD, exits.REFUSED, exits.UNREACHABLE, exits.INTERRUPTED,
    }  # fmt: skip


def test_no_hint_tells_a_person_to_call_a_tool() -> None:
    """Every hint in the sources is put into a person's words."""
    sources = [path.read_text() for path in Path(ROOT, "mcp_mailbox").rglob("*.py") if "fronts/mcp" not in str(path)]
    names = [name for name in TOOLS if "_" in name]
    hints = {text for source in sources for text in re.findall(r'"([^"\n]*(?:[A-Z]\w+)[^"\n]*)"', source)}
    told = [hint for hint in hints if any(name in hint for name in names) and hint not in COMMAND_OF]
    assert told
    for hint in told:
        assert not any(name in for_people(hint) for name in names), hint


def test_ids_are_as_long_as_the_page_says() -> None:
    said = re.search(r"\*\*Ids\*\* have (.*?)\. ", " ".join((ROOT / "docs/cli.md").read_text().split()))
    assert said
    codec, restored = Codec(b"secret"), 1 << 30
    assert said[1].startswith("seven characters, of which four are a check")
    assert [len(codec.id(seq)) for seq in (1, 32_767)] == [7, 7]
    assert "eight from the 32,768th message on" in said[1]
    assert "nine from the 1,048,576th" in said[1]
    assert [len(codec.id(seq)) for seq in (32_768, 1_048_575, 1_048_576)] == [8, 8, 9]
    assert "after a `restore` new ones have eleven" in said[1]
    assert [len(codec.id(seq)) for seq in (restored, 1 << 34)] == [11, 11]
