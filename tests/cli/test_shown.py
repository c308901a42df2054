"""Whatever stands in mail is shown and never obeyed: every control and format character, in every command."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_mailbox.fronts.cli import commands, shown
from tests.cli.person import ROOT, Person, follows, plain

ACTING = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in {"Cc", "Cf", "Zl", "Zp"} and chr(code) not in "\n\t"
]
SEQUENCES = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x1bP+q544e\x1b\\",
    "\x9b31m",
    "\x1b[6n",
    "a\rb",
    "a\x08b",
    "\u202egnp.exe",
    "\ufeff",
    "\U000e0041",
]
EVERYTHING = "".join(f"<{each}>" for each in [*ACTING, *SEQUENCES])
LINE = "".join(each for each in EVERYTHING if each != "\0" and not f"a{each}b".splitlines()[1:])
"""What a subject may have of it: no line breaks, and no NUL."""


def is_harmless(text: str) -> bool:
    return not any(unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for each in text)


@pytest.mark.parametrize("character", ACTING)
def test_each_character_that_acts_is_shown_as_something_else_that_tells_which(character: str) -> None:
    visible = shown.line(f"a{character}b")
    assert is_harmless(visible)
    assert visible.startswith("a")
    assert visible.endswith("b")
    assert len({shown.line(each) for each in ACTING}) == len(ACTING) if character == "\x1b" else visible != "ab"


@given(st.text())
def test_no_text_leaves_anything_that_acts(text: str) -> None:
    assert is_harmless(shown.line(text))
    assert is_harmless(shown.beginning(text))
    for line in shown.lines(text):
        assert is_harmless(line.replace("\t", ""))
    assert is_harmless(shown.json_line({"text": text}))
    assert json.loads(shown.json_line({"text": text})) == {"text": text}


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"))))
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert shown.line(text) == text
    assert shown.lines(f"{text}\n{text}\r\n") == [text, text, ""]


def harmless_at_a_terminal(written: str) -> str:
    """Return what was written when it is harmless but for our own colours."""
    text = plain(written)
    assert is_harmless(text.replace("\n", "").replace("\t", "")), ascii(text)
    return text


@pytest.fixture
def trapped(ann: Person, bob: Person) -> tuple[Person, str]:
    """Somebody who has been sent all of it, in subject and body."""
    [*ids] = (
        json.loads(ann.does("send", "bob", "-b", "-", "-s", part, "--json", stdin=EVERYTHING + part))["id"]
        for part in (LINE[:190], "\x1b[31m\u202e")
    )
    return bob, ids[1]


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "inbox": lambda _: ["inbox"],
    "read": lambda id_: ["read", id_],
    "read raw": lambda id_: ["read", id_, "--raw"],
    "read json": lambda id_: ["read", id_, "--json"],
    "inbox json": lambda _: ["inbox", "--json"],
    "search": lambda _: ["search", "--from", "ann"],
    "thread": lambda id_: ["search", "--thread", id_],
    "wait": lambda _: ["wait", "--timeout", "5"],
    "wait json": lambda _: ["wait", "--timeout", "5", "--json"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_obeys_what_stands_in_mail(trapped: tuple[Person, str], command: str) -> None:
    bob, sent = trapped
    arguments = COMMANDS[command](sent)
    code, written = bob.terminal(*arguments, columns=200)
    assert code == 0
    text = harmless_at_a_terminal(written)
    assert ("\\u202e" if "json" in command else "⟨U+202E⟩") in text
    if arguments[-1] != "--raw":
        code, written = bob.terminal(*arguments, columns=200, NO_COLOR="1")
        assert is_harmless(written.replace("\n", "").replace("\t", "")), "without colours there is nothing of ours"


def test_what_a_pipe_gets_is_as_harmless(trapped: tuple[Person, str]) -> None:
    bob, sent = trapped
    for command, arguments in COMMANDS.items():
        if command in {"read raw", "wait json"}:  # raw is what was sent, to the letter; the other wait has it already
            continue
        assert is_harmless(bob.does(*arguments(sent)).replace("\n", "").replace("\t", ""))


def test_tail_obeys_nothing(ann: Person, bob: Person) -> None:
    with bob.start("tail", "--count", "1") as following:
        follows(following)
        ann.does("send", "bob", "-s", LINE[:190], "-b", "-", stdin=EVERYTHING)
        told, _ = following.communicate(timeout=30)
    assert is_harmless(told.removesuffix("\n"))
    assert "⟨U+00AD⟩" in told


def test_dead_letters_reasons_and_what_agents_say_of_themselves_are_shown_too(ann: Person, bob: Person) -> None:
    sent = ann.sends("bob", "\x1b[2J")
    bob.does("reject", sent, "--reason", "no \x1b[31m\u202e\nand a line")
    for person, arguments in ((bob, ["dead"]), (ann, ["read", sent]), (ann, ["wait", "--timeout", "5"])):
        code, written = person.terminal(*arguments, columns=200)
        assert code == 0
        assert "␛[" in harmless_at_a_terminal(written)


def test_an_answer_that_refuses_shows_what_was_typed(ann: Person) -> None:
    ann.run("inbox")
    done = ann.run("read", "\x1b[2J\u202e")
    assert done.returncode == 3
    assert is_harmless(done.stderr.removesuffix("\n"))


@pytest.mark.parametrize("body", ["\ud800", '{"a":"\\ud800"}'])
def test_what_is_no_unicode_breaks_nothing(ann: Person, bob: Person, body: str) -> None:
    done = ann.run("send", "bob", "--json-body", "-b", body if body.isascii() else '"x"')
    assert done.returncode in {0, 3}
    for number in [each["id"] for each in json.loads(bob.run("inbox", "--json").stdout)["messages"]]:
        assert is_harmless(bob.does("read", number).replace("\n", ""))


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 132, 250])
def test_a_table_fits_the_terminal_and_never_cuts_an_id(ann: Person, bob: Person, columns: int) -> None:
    ids = [
        ann.sends("bob", "漢字 and a long text " * 9, "--priority", "urgent", "-s", "subject"),
        ann.sends("bob", "short"),
    ]
    for command in (["inbox"], ["search", "--from", "ann"]):
        _, written = bob.terminal(*command, columns=columns, NO_COLOR="1")
        rows = [line.rstrip() for line in written.splitlines() if line.startswith(tuple(ids))]
        assert sorted(row.split()[0] for row in rows) == sorted(ids)
        assert max(map(shown.width, rows)) <= columns
        if columns < 80:
            assert any("…" in row for row in rows)
        if columns == 250:
            assert "ATTEMPTS" in written or command[0] == "search"
            assert any("…" not in row for row in rows)


def test_colours_are_for_a_terminal_that_wants_them(ann: Person, bob: Person) -> None:
    ann.sends("bob", "x", "--priority", "urgent")
    assert "\x1b[1;31murgent" in bob.terminal("inbox")[1]
    assert "\x1b" not in bob.terminal("inbox", NO_COLOR="1")[1]
    assert "\x1b" not in bob.terminal("inbox", TERM="dumb")[1]
    assert "\x1b" not in bob.does("inbox")


def test_what_a_pipe_gets_is_whole_and_aligned(ann: Person, bob: Person) -> None:
    long = "word " * 15
    ann.sends("bob", long, "-s", "Subject")
    ann.sends("bob", "漢字", "-s", "wide")
    head, first, second = bob.does("inbox").splitlines()
    assert f"Subject — {long.strip()}" in first
    states = {shown.width(row[: row.rindex("  s")]) for row in (first, second)}
    assert states == {head.index("  STATE")}


def test_where_the_terminal_knows_no_unicode_nothing_breaks(ann: Person, bob: Person) -> None:
    ann.sends("bob", "漢字 \x1b[31m")
    done = bob.run("inbox", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u6f22" in done.stdout


HEAVY = {"rich", "pydantic", "anyio", "asyncio", "mcp", "aiosqlite", "sqlite3", "dataclasses", "inspect", "subprocess"}


@pytest.mark.parametrize(
    "command",
    [
        ["inbox", "--json"],
        ["inbox"],
        ["read", "ID"],
        ["send", "bob", "-b", "x"],
        ["wait", "--timeout", "0"],
        ["agents"],
        ["search", "x"],
        ["ack", "ID"],
        ["dead"],
        ["channels"],
        ["token", "list"],
        ["status", "--json"],
        ["completion", "bash"],
        ["__complete", "--", "send", ""],
        ["help"],
        ["--version"],
    ],
)
def test_a_command_that_people_wait_for_imports_nothing_heavy(ann: Person, bob: Person, command: list[str]) -> None:
    """What a command costs is what it imports: with these it would take several times as long (docs/cli.md)."""
    sent = ann.sends("bob")
    words = [sent if word == "ID" else word for word in command]
    program = (
        "import sys\nfrom mcp_mailbox.__main__ import main\n"
        f"sys.argv = ['mcp-mailbox', *{words!r}]\n"
        "try:\n    main()\nfinally:\n    print('\\nLOADED', *sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=bob.environment | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "mcp_mailbox.fronts.cli.commands" in loaded
    assert not loaded & HEAVY


AT_WORK = {"doctor": {"dataclasses", "inspect"}, "watch": {"subprocess"}}
"""Modules that some commands need for what they do, whatever is asked of them."""


def test_no_command_imports_anything_heavy_before_it_has_read_its_line() -> None:
    program = (
        "import json, sys\n"
        "from mcp_mailbox.fronts.cli.commands import COMMANDS, parser\n"
        "loaded = {}\n"
        "for name in COMMANDS:\n"
        "    before = set(sys.modules)\n"
        "    parser(name)\n"
        "    loaded[name] = sorted(set(sys.modules) - before)\n"
        "print(json.dumps(loaded))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    loaded = json.loads(done.stdout)
    assert set(loaded) == set(commands.COMMANDS)
    assert {name: found for name, each in loaded.items() if (found := set(each) & HEAVY)} == AT_WORK
