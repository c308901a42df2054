"""What a pattern covers, and when two meet: held against regular expressions, and against a search for a path."""

from __future__ import annotations

import re
from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.patterns import NAME_LIMIT, WILDCARD_LIMIT, covers, overlap, spell

CLASS = re.compile(r"\[[!^]?\]?[^]]*\]|.")
SEGMENTS = (
    *("a", "b", "ab", "*", "?", "**", "a*", "*b", "a?", "?b", "*a*", "b*a", "a***", "??", "*?"),
    *("[a]", "[ab]", "[!a]", "[^b]b", "a[", "[]a]", "*]", "[a-b]*", "[b-a]", "[!]", "[a][b]", "[!ab]", "[", "[a]?"),
)
patterns = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=4).map("/".join).map(spell)
paths = st.lists(st.text("ab[]-!", min_size=1, max_size=4), min_size=1, max_size=5).map("/".join)
many = settings(max_examples=1500, deadline=None)

# -- what it must do, said another way


def expression(segment: str) -> str:
    """Return the regular expression of a segment: its brackets are classes, or all stand for themselves."""
    return f"(?:{_read(CLASS.findall(segment))}|{_read(list(segment))})"


def _read(parts: list[str]) -> str:
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(part) or _one(part) for part in parts)


def _one(part: str) -> str:
    if len(part) == 1 or part in {"[]", "[!]", "[^]"}:
        return re.escape(part)
    negated = part[1] in "!^"
    low, _, high = members.partition("-") if "-" in (members := part[1 + negated : -1])[1:-1] else ("", "", "")
    inside = "".join(re.escape(chr(code)) for code in range(ord(low), ord(high) + 1)) if low else re.escape(members)
    if not inside:
        return "(?!)"
    return f"[^/{inside}]" if negated else f"[{inside}]"


@cache
def regular(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of the paths that a pattern covers, each segment with a slash behind it."""
    parts = ["(?:[^/]+/)*" if segment == "**" else f"(?!/){expression(segment)}/" for segment in pattern.split("/")]
    return re.compile("".join(parts) + "(?:[^/]+/)*")


def matches(pattern: str, path: str) -> bool:
    return regular(pattern).fullmatch(f"{path}/") is not None


PIECES = ("a", "b", "c", "[", "]", *(piece for piece in SEGMENTS if len(piece) > 2 and piece[0] == "["))
SHORT = ["".join(pieces) for length in (1, 2, 3) for pieces in product(PIECES, repeat=length)]


@cache
def segment_of_both(one: str, other: str) -> str | None:
    mine, theirs = re.compile(expression(one)), re.compile(expression(other))
    return next((text for text in SHORT if mine.fullmatch(text) and theirs.fullmatch(text)), None)


@cache
def path_of_both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...] | None:
    """Search for a path that both cover, from the first segment on."""
    if not one or not other:
        rest = [segment_of_both(segment, "*") for segment in one or other if segment != "**"]
        return None if None in rest else tuple(segment for segment in rest if segment)
    if one[0] == "**":
        found = path_of_both(one[1:], other)
        return found if found is not None else _past(one, other)
    if other[0] == "**":
        return path_of_both(other, one)
    first = segment_of_both(one[0], other[0])
    rest_of_both = path_of_both(one[1:], other[1:]) if first else None
    return (first, *rest_of_both) if first and rest_of_both is not None else None


def _past(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...] | None:
    """Let the `**` that `one` begins with stand for the first segment of `other`, too."""
    first = segment_of_both(other[0], "*") if other[0] != "**" else ""
    rest = path_of_both(one, other[1:])
    return None if first is None or rest is None else (first, *rest) if first else rest


# -- and does


@given(patterns, paths)
@many
def test_a_pattern_covers_what_its_regular_expression_matches(pattern: str, path: str) -> None:
    assert covers(pattern, path) == matches(pattern, path)


@given(patterns, patterns, paths)
@many
def test_patterns_that_cover_the_same_path_meet(one: str, other: str, path: str) -> None:
    if covers(one, path) and covers(other, path):
        assert overlap(one, other)


@given(patterns, patterns)
@many
def test_patterns_meet_when_there_is_a_path_for_both_and_only_then(one: str, other: str) -> None:
    found = path_of_both(tuple(one.split("/")), tuple(other.split("/")))
    assert overlap(one, other) == (found is not None)
    assert overlap(other, one) == (found is not None)
    if found is not None:
        path = "/".join(found) or "a"
        assert matches(one, path)
        assert matches(other, path)
        assert covers(one, path)
        assert covers(other, path)


@given(patterns)
@many
def test_a_spelling_is_its_own_and_means_the_same(pattern: str) -> None:
    assert spell(pattern) == pattern
    assert spell(f"./{pattern}//**/") == pattern
    assert overlap(pattern, pattern) == (path_of_both(tuple(pattern.split("/")), ("**",)) is not None)


@pytest.mark.parametrize(
    ("given", "spelt"),
    [
        ("release-lock", "release-lock"),
        (" docs/ ", "docs"),
        ("docs/**", "docs"),
        ("docs/**/**/", "docs"),
        ("./src//a.py", "src/a.py"),
        ("src\\win\\a.py", "src/win/a.py"),
        ("src/**/**/*.py", "src/**/*.py"),
        ("src/a**b/***", "src/a*b/*"),
        (".", "**"),
        ("./", "**"),
        ("**/**", "**"),
        (".github/workflows", ".github/workflows"),
        ("ru\u0308ckbau", "r\u00fcckbau"),
        ("deploy to production", "deploy to production"),
        ("{{cookiecutter.name}}/x", "{{cookiecutter.name}}/x"),
    ],
)
def test_a_name_has_one_spelling(given: str, spelt: str) -> None:
    assert spell(given) == spelt


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        "..",
        "a/../b",
        "..\\x",
        "/etc/passwd",
        "~/notes",
        "C:\\src",
        "c:/src",
        "a\0b",
        "a\nb",
        "a\u202eb",
        "\ud800",
        "!src/vendor",
        "src/*.{ts,tsx}",
        "x" * (NAME_LIMIT + 1),
        "?" * (WILDCARD_LIMIT + 1),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_what_would_do(name: str) -> None:
    with pytest.raises(Refusal) as refusal:
        spell(name)
    assert refusal.value.code is Code.BAD_NAME
    assert refusal.value.hint
    assert refusal.value.problem.isascii()


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("docs", "docs/a/b.md", True),
        ("docs", "docs", True),
        ("docs", "docs2/a.md", False),
        ("docs", "src/docs/a.md", False),
        ("*.py", "a.py", True),
        ("*.py", "src/a.py", False),
        ("**/*.py", "src/x/a.py", True),
        ("**/*.py", "a.py", True),
        ("src/**/test", "src/test/x", True),
        ("README.md", "readme.md", False),
        ("pages/[id].tsx", "pages/[id].tsx", True),
        ("pages/[id].tsx", "pages/d.tsx", True),
        ("pages/[[...slug]]/*.tsx", "pages/[[...slug]]/x.tsx", True),
        ("[!a-c]x", "dx", True),
        ("[!a-c]x", "bx", False),
        ("?", "\U0001f600", True),
        ("caf\u00e9", "cafe\u0301", True),
    ],
)
def test_what_people_mean_is_covered(pattern: str, path: str, covered: bool) -> None:
    assert covers(spell(pattern), path) == covered


def test_pairs_on_which_an_expression_would_try_for_ever_are_decided_at_once() -> None:
    stars = spell("*a" * WILDCARD_LIMIT + "b")
    assert not overlap(stars, spell("a" * (NAME_LIMIT - 1) + "c"))
    assert overlap(stars, spell("a" * (NAME_LIMIT - 1) + "b"))
    assert overlap("**/a/" * 12 + "b", "a/" * 90 + "c")
