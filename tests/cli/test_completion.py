"""Completion, as a real bash asks for it: commands, options, choices, mailboxes, ids; else nothing, and quickly."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcp_mailbox.fronts.cli.commands import COMMANDS
from tests.cli.person import ROOT, Home, Person
from tests.conftest import DEADLINE

ASK = """
eval "$(mcp-mailbox completion bash)"
COMP_LINE=$1 COMP_POINT=${#1}
_mcp_mailbox mcp-mailbox "${1##* }"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(person: Person, *words: str) -> list[str]:
    """Ask what bash asks when the tab key is pressed behind these words; the last one is begun."""
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", ASK, "bash", " ".join(("mcp-mailbox", *words))],
        env=environment(person),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.split("\n") if line]


def offered(person: Person, *words: str) -> list[str]:
    """Press the key again until something is offered: on a busy machine the post office may not answer in time."""
    end = time.monotonic() + DEADLINE
    while not (found := completed(person, *words)):
        assert time.monotonic() < end, words
    return found


def environment(person: Person) -> dict[str, str]:
    """Return what a shell of the person has: the command is on its path."""
    launcher = person.home.directory / "bin" / "mcp-mailbox"
    if not launcher.exists():
        launcher.parent.mkdir(exist_ok=True)
        launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m mcp_mailbox "$@"\n')
        launcher.chmod(0o755)
    return person.environment | {"PATH": f"{launcher.parent}:/usr/bin:/bin"}


def pressed(person: Person, typed: str, until: str) -> str:
    """Type it in an interactive bash at a terminal, tabs included, and return what stands there in the end.

    The last key is pressed again while nothing comes, as in `offered`.
    """
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        env=environment(person) | {"TERM": "dumb", "PS1": "$ ", "HISTFILE": "", "INPUTRC": "/dev/null"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        os.write(ours, b'eval "$(mcp-mailbox completion bash)"; echo rea""dy\n')
        seen(ours, "ready\r\n")
        os.write(ours, typed.encode())
        return seen(ours, until, again=b" \x7f" + typed[-1:].encode())  # twice in a row would list, and not complete
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def seen(terminal: int, until: str, again: bytes = b"") -> str:
    """Return what is written up to that."""
    text = ""
    end = time.monotonic() + DEADLINE
    while until not in text:
        assert time.monotonic() < end, text
        if select.select([terminal], [], [], 3)[0]:
            text += os.read(terminal, 65536).decode()
        else:
            os.write(terminal, again)
    return text


def test_commands_are_completed(ann: Person) -> None:
    assert set(completed(ann, "")) == {*COMMANDS, "help", "version"}
    assert completed(ann, "se") == ["send", "search", "serve", "setup"]
    assert completed(ann, "help", "inb") == ["inbox"]
    assert completed(ann, "nonsense", "") == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["inbox", "--sh"], ["--show"]),
        (["inbox", "--show", ""], ["inbox", "dead", "overdue", "requests"]),
        (["send", "--priority", "u"], ["urgent"]),
        (["export", "x", "--format", "m"], ["mbox", "maildir", "markdown"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["token", "re"], ["revoke"]),
        (["token", "create", "--prin"], ["--principal"]),
        (["inbox", "--limit", ""], []),
        (["stop", ""], []),
    ],
)
def test_options_and_their_values_are_completed(ann: Person, words: list[str], found: list[str]) -> None:
    assert completed(ann, *words) == found


@pytest.mark.soak
def test_every_option_of_every_command_is_offered(ann: Person) -> None:
    for name in COMMANDS:
        assert "--help" in completed(ann, name, "--"), name


@pytest.fixture
def apart(shared_home: Home) -> Person:
    """Somebody in a space whose name no other one begins with, where bob and bea have mailboxes."""
    person = shared_home.person("ann", space="xylophone")
    for name in ("ann", "bea", "bob"):
        person.beside(name).run("inbox")
    return person


def test_mailboxes_are_completed_from_the_post_office_that_runs(apart: Person) -> None:
    assert offered(apart, "send", "b") == ["bea", "bob"]
    assert offered(apart, "send", "ann", "bo") == ["bob"]
    assert offered(apart, "inbox", "--mailbox", "a") == ["ann"]
    assert offered(apart, "send", "bob@xyl") == ["bob@xylophone"]
    other = apart.home.person("zoe")
    assert offered(other, "send", "--space", "xylophone", "b") == ["bea", "bob"]


def test_the_tab_key_does_it_in_an_interactive_bash(apart: Person) -> None:
    typed = "mcp-mailbox inb\t--mailb\tbob@xyl\t"
    assert "mcp-mailbox inbox --mailbox bob@xylophone " in pressed(apart, typed, "xylophone ")
    sent = apart.sends("bob")
    assert f"read {sent} " in pressed(apart.beside("bob"), "mcp-mailbox read \t", f"{sent} ")


def test_ids_are_completed_and_nothing_counts_as_seen(ann: Person, bob: Person) -> None:
    sent = [ann.sends("bob"), ann.sends("bob")]
    assert offered(bob, "read", "") == sent
    assert offered(bob, "ack", sent[0], sent[1][:-2]) == [sent[1]]
    assert offered(ann, "reply", "--mailbox", "bob", "") == sent
    assert [ann.json("read", each)["sent"][0]["state"] for each in sent] == ["stored", "stored"]
    assert bob.run("watch", "--mailbox", "bob", "--once", "--exec", "true").returncode == 0, "who watches still hears"


def test_completing_makes_no_mailbox(ann: Person) -> None:
    ann.run("agents")  # a post office runs
    assert completed(ann, "read", "") == []
    assert completed(ann, "send", "") == []
    assert ann.run("agents").returncode == 1


def test_without_a_post_office_there_is_nothing_and_none_is_started(tmp_path: Path) -> None:
    person = Home(tmp_path).person()
    assert completed(person, "send", "a") == []
    assert completed(person, "read", "") == []
    assert not person.home.store.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_asks_this_program(ann: Person, shell: str) -> None:
    script = ann.does("completion", shell)
    assert " __complete -- " in script
    assert str(ROOT) not in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
