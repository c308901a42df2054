"""Files of a person: attached from a terminal, read back, and what is said where that cannot be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mcp_mailbox.audit import FILE
from mcp_mailbox.fronts.cli import exits
from tests.cli.person import Home, Person, follows

BIG = os.urandom(3 << 20)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "plan.md").write_text("the plan\x1b[2J")
    (tmp_path / "big.bin").write_bytes(BIG)
    return tmp_path


def test_files_go_along_and_come_back_to_the_last_byte(ann: Person, bob: Person, files: Path) -> None:
    sent = ann.json("send", "bob", "-b", "see", "-a", f"{files}/plan.md", "--attach", f"{files}/big.bin")
    assert list((ann.home.store / "handed").iterdir()) == [], "copies go once it is sent"
    shown = bob.run("read", sent["id"]).stdout
    assert ["plan.md", "12", "text/markdown"] in [line.split() for line in shown.splitlines()]
    assert bob.run("read", sent["id"], "--attachment", "plan.md").stdout == "the plan\x1b[2J", "a pipe gets all of it"
    to = files / "out.bin"
    assert bob.run("read", sent["id"], "--attachment", "big.bin", "-o", str(to)).returncode == exits.DONE
    assert to.read_bytes() == BIG
    refused = bob.run("read", sent["id"], "--attachment", "big.bin", "-o", str(to))
    assert (refused.returncode, "exists" in refused.stderr) == (exits.REFUSED, True)
    refused = bob.run("read", sent["id"], "--attachment", "plan")
    assert (refused.returncode, "'plan.md'" in refused.stderr) == (exits.REFUSED, True)
    answer = ann.json("reply", sent["id"], "-b", "more", "-a", f"{files}/plan.md")
    assert [each["name"] for each in bob.json("read", answer["id"])["attachments"]] == ["plan.md"]


def test_a_file_is_asked_for_once_however_large_it_is(files: Path) -> None:
    home = Home(files, MCP_MAILBOX_AUDIT="on")
    try:
        ann, bob = (home.person(name, "here") for name in ("ann", "bob"))
        bob.run("inbox")
        sent = ann.json("send", "bob", "-b", "see", "-a", f"{files}/big.bin")
        bob.does("read", sent["id"], "--attachment", "big.bin", "-o", f"{files}/out.bin")
        assert (files / "out.bin").read_bytes() == BIG
        bob.does("export", "bob", "-o", "all.jsonl")
        home.end()  # so that all of the log is written
        assert (home.store / FILE).read_text().count('"export attachment"') == 2, "each time is an entry of its own"
    finally:
        home.end()


def test_a_terminal_shows_text_and_obeys_nothing_of_it_and_what_is_no_text_is_not_shown(
    ann: Person, bob: Person, files: Path
) -> None:
    given = ("-a", f"{files}/plan.md", "-a", f"{files}/big.bin")
    drawn = ann.terminal("send", "bob", "-b", "see", *given)[1]
    assert "attach" in drawn, "a bar, for what takes a while"
    [mail] = bob.json("inbox")["messages"]
    drawn = bob.terminal("read", mail["id"], "--attachment", "plan.md")[1]
    assert "the plan␛[2J" in drawn
    drawn = bob.terminal("read", mail["id"], "--attachment", "big.bin")[1]
    assert "is no text" in drawn


def test_who_lists_takes_or_follows_mail_is_told_that_files_came(ann: Person, bob: Person, files: Path) -> None:
    with bob.start("tail", "--count", "1") as following:
        follows(following)
        ann.does(
            "send",
            "bob",
            "-s",
            "Plans",
            "-b",
            "  Attached: nothing",
            "-a",
            f"{files}/plan.md",
            "-a",
            f"{files}/big.bin",
        )
        assert "  [2 files] Plans — " in following.communicate(timeout=30)[0]
    ann.does("send", "bob", "-b", "one", "-a", f"{files}/plan.md")
    assert "  [2 files] Plans — " in bob.does("inbox")
    assert "  [1 file] one  " in bob.does("inbox")
    assert "  [2 files] Plans — " in ann.does("search", "Attached")
    lines = bob.does("wait", "--timeout", "5").splitlines()
    told = [line.partition(":")[2].strip() for line in lines if line.startswith("Attached:")]
    assert told == ["plan.md (12 B)", f"big.bin ({len(BIG):,} B)", "plan.md (12 B)"]


def test_a_wait_says_of_how_many_files_it_shows_no_names(ann: Person, bob: Person, files: Path) -> None:
    names = [f"{number}{'x' * 100}" for number in range(5)]
    for name in names:
        (files / name).write_text("")
    sent = ann.json("send", "bob", "-b", "see", *(word for name in names for word in ("-a", f"{files}/{name}")))["id"]
    assert "  [5 files] see  " in bob.does("inbox")
    told = bob.does("wait", "--timeout", "5")
    shown = told.count("Attached:") - 1
    assert 0 < shown < 5
    assert f"  and {5 - shown} more; `mcp-mailbox read {sent}` names all\n" in told


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (".", "is a directory"),
        ("none", "No such file"),
        ("/dev/null", "no regular file"),
        ("huge", "the limit is 10 MiB"),
    ],
)
def test_what_cannot_be_attached_is_told_and_nothing_is_sent(
    ann: Person, bob: Person, files: Path, path: str, said: str
) -> None:
    os.truncate(os.open(files / "huge", os.O_CREAT | os.O_WRONLY), 11 << 20)
    done = ann.run("send", "bob", "-b", "see", "-a", f"{files}/plan.md", "-a", str(files / path))
    assert (done.returncode, done.stdout) == (exits.REFUSED, "")
    assert said in done.stderr
    assert json.loads(bob.run("inbox", "--json").stdout)["messages"] == []
    assert list((ann.home.store / "handed").iterdir()) == []
