"""TOML edited in place: what is put in comes out again to the byte, and nothing else ever moves."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mcp_mailbox.setup import toml
from mcp_mailbox.setup.trouble import Unfit
from tests.setup.documents import unhurried

PATH = ("mcp_servers", "mailbox")
ENTRY: dict[str, Any] = {
    "command": "/opt/mail box/ü/mcp-mailbox", "args": ["stdio"], "env": {"A": "b\n\x7f😀"}, "required": True,
    "tool_timeout_sec": 600,
}  # fmt: skip

_LINES = (
    "",
    "# about the next one",
    "  # indented",
    "[z]",
    "[z.y] # why",
    "[[many]]",
    '[mcp_servers."a b"]',
    "[mcp_servers.a]",
    "[mcp_servers]",
    "[mcp_servers.a.env]",
    "[mcp_servers.mailboxes]",
    'mcp_servers.b.command = "x"',
    "mcp_servers = { c = { command = 'x' } }",
    "mcp_servers = {}",
    "a = 1 # one",
    "b = [\n  1, # [x]\n  2,\n]",
    'c = """\n[mcp_servers.mailbox]\n"""',
    "d = '''\n'''''",
    'command = "#"',
    "e = nan",
    "f = 1979-05-27T07:32:00Z",
    "g = { h = [ '}' ] }",
    '"k#" = 1',
)
_lines = st.sampled_from(_LINES)


@st.composite
def texts(draw: st.DrawFn) -> str:
    text = "\n".join(draw(st.lists(_lines, max_size=8)))
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assume(False)
    return (text + draw(st.sampled_from(["", "\n", "\n\n"]))).replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


APART = "mcp_servers = { c = { command = 'x' } }\n[[many]]\n[z]\n[[many]]"


def put(text: str) -> tuple[str, toml.Trace]:
    return toml.put(text, PATH, ENTRY)


@unhurried
@given(texts())
@example(APART)
def test_what_was_put_in_and_taken_out_leaves_the_text_to_the_byte(text: str) -> None:
    edited, trace = put(text)
    assert toml.take(edited, PATH, trace) == text


@unhurried
@given(texts())
@example(APART)
def test_putting_adds_to_the_text_and_moves_nothing(text: str) -> None:
    edited, _ = put(text)
    rest = iter(edited)
    assert all(letter in rest for letter in text), "it is not in there in its order"


@unhurried
@given(texts())
def test_putting_changes_what_is_said_at_the_path_and_nothing_else(text: str) -> None:
    before = tomllib.loads(text)
    edited, _ = put(text)
    after = tomllib.loads(edited)
    assert after["mcp_servers"].pop("mailbox") == ENTRY
    after = {key: value for key, value in after.items() if value or key in before}
    assert repr(sorted(after.items())) == repr(sorted(before.items()))
    if "\r\n" in text:
        assert edited.count("\n") == edited.count("\r\n"), "line ends are kept"


@unhurried
@given(texts(), st.sampled_from(["[other]\n", "# mine\n[other]\nx = 1\n", "# at the end"]))
def test_what_somebody_wrote_behind_it_stays_when_it_is_taken_out(text: str, more: str) -> None:
    assume("other" not in text)
    edited, _ = put(text if text.endswith("\n") else text + "\n")
    assert toml.take(edited + more, PATH).endswith(more)


@unhurried
@given(texts())
def test_putting_the_same_twice_changes_nothing(text: str) -> None:
    edited, _ = put(text)
    assert put(edited)[0] == edited


OLDER = """\
model = "m"

[mcp_servers.mailbox] # mine
command = "old" # why
# about args
args = ["x"]
cwd = "/"

# about the next one
[z]
"""


def test_a_table_that_is_there_is_changed_line_by_line_and_keeps_its_comments() -> None:
    edited, _ = put(OLDER)
    assert edited.splitlines()[2:-2] == [
        "[mcp_servers.mailbox] # mine",
        'command = "/opt/mail box/ü/mcp-mailbox" # why',
        "# about args",
        'args = ["stdio"]',
        'env = {A = "b\\n\\u007f😀"}',
        "required = true",
        "tool_timeout_sec = 600",
        "",
    ]
    assert edited.endswith("\n\n# about the next one\n[z]\n")


@pytest.mark.parametrize(
    "text",
    [
        "[mcp_servers]\nmailbox = { command = 'x' } # c\n# d\nb.c = 1\n",
        "[mcp_servers]\nmailbox.command = 'x'\n# d\nb.c = 1\n",
        "[mcp_servers.mailbox]\ncommand = 'x'\n[mcp_servers.mailbox.env]\nB = '1'\n# d\n[mcp_servers.b]\nc = 1\n",
        "mcp_servers = { mailbox = { command = 'x' }, b = { c = 1 } } # d\n",
    ],
)
def test_however_it_is_written_it_is_changed_and_taken_out(text: str) -> None:
    edited, _ = put(text)
    assert tomllib.loads(edited)["mcp_servers"] == {"mailbox": ENTRY, "b": {"c": 1}}
    without = toml.take(edited, PATH)
    assert tomllib.loads(without) == {"mcp_servers": {"b": {"c": 1}}}
    assert "# d" in without


@pytest.mark.parametrize("text", ["[", "a", "a = 1\na = 2", "mcp_servers = 1", "[mcp_servers]\nmailbox = 1", "\x00"])
def test_what_is_broken_or_blocked_is_refused(text: str) -> None:
    with pytest.raises(Unfit):
        put(text)
