"""JSON edited in place: what is put in comes out again to the byte, and nothing else ever moves."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_mailbox.setup import jsonc
from mcp_mailbox.setup.jsonc import Dialect
from mcp_mailbox.setup.trouble import Unfit
from tests.setup.documents import ENTRY, PATH, texts, unhurried

_cases = st.sampled_from(Dialect).flatmap(lambda dialect: st.tuples(st.just(dialect), texts(dialect)))
_COMMENT = re.compile(r"//[^\r\n]*|/\*.*?\*/|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)


def comments(text: str) -> list[str]:
    return [found for found in _COMMENT.findall(text) if not found.startswith('"')]


@unhurried
@given(_cases)
def test_what_was_put_in_and_taken_out_leaves_the_text_to_the_byte(case: tuple[Dialect, str]) -> None:
    dialect, text = case
    edited, trace = jsonc.put(text, PATH, ENTRY, dialect)
    assert jsonc.take(edited, PATH, dialect, trace) == text


@unhurried
@given(_cases)
def test_putting_changes_what_is_said_at_the_path_and_nothing_else(case: tuple[Dialect, str]) -> None:
    dialect, text = case
    before = jsonc.read(text, dialect)
    edited, _ = jsonc.put(text, PATH, ENTRY, dialect)
    after = jsonc.read(edited, dialect)
    assert after["servers"].pop("mailbox") == ENTRY
    if "servers" not in before:
        assert after.pop("servers") == {}
    assert after == before
    assert comments(edited) == comments(text)


@unhurried
@given(_cases)
def test_putting_the_same_twice_changes_nothing(case: tuple[Dialect, str]) -> None:
    dialect, text = case
    edited, _ = jsonc.put(text, PATH, ENTRY, dialect)
    assert jsonc.put(edited, PATH, ENTRY, dialect)[0] == edited


@unhurried
@given(_cases, st.data())
def test_any_member_can_be_taken_out_and_all_others_and_their_comments_stay(
    case: tuple[Dialect, str], data: st.DataObject
) -> None:
    dialect, text = case
    before = jsonc.read(text, dialect)
    if not before:
        return
    key = data.draw(st.sampled_from(sorted(before)))
    after = jsonc.take(text, [key], dialect)
    expected = {each: value for each, value in before.items() if each != key}
    assert repr(jsonc.read(after, dialect)) == repr(expected)


@unhurried
@given(texts(Dialect.JSON))
def test_what_is_read_is_what_json_says(text: str) -> None:
    assert jsonc.read(text, Dialect.JSON) == (json.loads(text) if text.strip() else {})


def _no_constant(name: str) -> None:
    raise ValueError(name)


@unhurried
@given(st.text(alphabet='{}[]",:/*\\ \n1eEtruefalsn-.'))
def test_what_json_refuses_is_refused(text: str) -> None:
    def strictly() -> Any:
        found = json.loads(text, parse_constant=_no_constant)
        return found if isinstance(found, dict) else None

    try:
        expected = strictly() if text.strip() else {}
    except ValueError:
        expected = None
    if expected is None:
        with pytest.raises(Unfit):
            jsonc.read(text, Dialect.JSON)
    else:
        assert jsonc.read(text, Dialect.JSON) == expected


def test_the_text_is_written_as_its_neighbours_are() -> None:
    text = '{\n\t"a": 1, // one\n\t"servers": {\n\t\t"x": {"command": "y"} // last\n\t\t// and more\n\t}\n}\n'
    edited, _ = jsonc.put(text, PATH, {"command": "m"}, Dialect.COMMENTS)
    assert edited == (
        '{\n\t"a": 1, // one\n\t"servers": {\n\t\t"x": {"command": "y"}, // last\n'
        '\t\t"mailbox": {\n\t\t\t"command": "m"\n\t\t}\n\t\t// and more\n\t}\n}\n'
    )


def test_one_line_stays_one_line() -> None:
    edited, _ = jsonc.put('{"n":1,"servers":{"x":{}}}', PATH, {"command": "m", "args": ["a"]}, Dialect.JSON)
    assert edited == '{"n":1,"servers":{"x":{},"mailbox":{"command":"m","args":["a"]}}}'
    edited, _ = jsonc.put('{"n": 1, "servers": {}}', PATH, {"command": "m"}, Dialect.JSON)
    assert edited == '{"n": 1, "servers": {"mailbox": {"command": "m"}}}'


def test_what_follows_is_never_drawn_into_a_comment() -> None:
    text = '{"servers": {"x": 1, // c\n  "mailbox": 2}}'
    assert jsonc.take(text, PATH, Dialect.COMMENTS) == '{"servers": {"x": 1 // c\n  }}'
    text = '{"servers": { // c\n  "mailbox": 2, "x": 1}}'
    assert jsonc.take(text, PATH, Dialect.COMMENTS) == '{"servers": { // c\n  "x": 1}}'


def test_a_trailing_comma_is_kept_where_there_was_one_and_made_nowhere_else() -> None:
    edited, _ = jsonc.put('{\n  "servers": {\n    "x": 1,\n  },\n}', PATH, 2, Dialect.JSONC)
    assert edited == '{\n  "servers": {\n    "x": 1,\n    "mailbox": 2,\n  },\n}'


@pytest.mark.parametrize(
    "text",
    [
        "[]", '"x"', "{", "{}}", '{"a":1,}', "{// c\n}", "{'a':1}", "{a:1}", '{"a":01}', '{"a":NaN}', '{"a":"\n"}',
        '{"a" 1}', '{"a":1 "b":2}', '{"a":[1,]}', '{"a":"\\x"}', "{/*", '{"a":' + "[" * 5000 + "]" * 5000 + "}",
    ],
)  # fmt: skip
def test_what_is_broken_is_refused_with_the_place(text: str) -> None:
    with pytest.raises(Unfit):
        jsonc.put(text, PATH, ENTRY, Dialect.JSON)


@pytest.mark.parametrize(
    "text", ['{"servers": 1}', '{"servers": {"a":1}, "servers": {}}', '{"servers": {"mailbox": 1, "mailbox": 2}}']
)
def test_a_way_that_is_blocked_or_not_clear_is_refused(text: str) -> None:
    with pytest.raises(Unfit, match=r"no object|twice"):
        jsonc.put(text, PATH, ENTRY, Dialect.JSON)


def test_numbers_that_python_would_not_convert_are_left_alone() -> None:
    text = '{"n": ' + "9" * 6000 + "}"
    edited, trace = jsonc.put(text, PATH, ENTRY, Dialect.JSON)
    assert "9" * 6000 in edited
    assert jsonc.take(edited, PATH, Dialect.JSON, trace) == text


@unhurried
@given(texts(Dialect.JSONC), st.lists(st.integers(), max_size=2))
def test_what_was_appended_to_a_list_and_taken_off_leaves_the_text_to_the_byte(text: str, before: list[int]) -> None:
    text, _ = jsonc.put(text, ("inputs",), before, Dialect.JSONC)
    place = ("inputs", str(len(before)))
    edited, trace = jsonc.put(text, place, ENTRY, Dialect.JSONC)
    assert jsonc.read(edited, Dialect.JSONC)["inputs"] == [*before, ENTRY]
    assert jsonc.take(edited, place, Dialect.JSONC, trace) == text
