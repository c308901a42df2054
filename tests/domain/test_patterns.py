"""What a pattern covers, and when two meet: held against regular expressions, and against a search for a path."""

from __future__ import annotations

import re
from functools import cache
from itertools import product, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.patterns import NAME_LIMIT, WILDCARD_LIMIT, covers, overlap, spell

CLASS = re.compile(r"\[[!^]?\]?[^]]*\]|.")
SEGMENTS = tuple(
    "a b ab * ? ** a* *b a? ?b *a* b*a a*** ?? *? [a] [ab] [!a] [^b]b a[ []a] *] [a-b]* [b-a] [!] [a][b] [!ab] [ [a]?"
    " a.b *.b ?.* .a".split()
)
patterns = st.builds(
    lambda segments, slash: spell("/".join(segments) + slash),
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=4),
    st.sampled_from(["", "/"]),
)
paths = st.lists(st.text("ab[]-!", min_size=1, max_size=4), min_size=1, max_size=5).map("/".join)
plain_paths = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)
many = settings(max_examples=500, deadline=None)

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
    """Return the regular expression of a pattern's paths, each segment with a slash behind it."""
    parts = [_DEEP if segment == "**" else f"(?!/){expression(segment)}/" for segment in parts_of(pattern)]
    return re.compile("".join(parts))


_DEEP = "(?:[^/]+/)*"


def parts_of(pattern: str) -> tuple[str, ...]:
    file = re.search(r"[^/.][^/]*\.[^/]*$", pattern) or pattern == "**"
    return tuple((pattern if file else f"{pattern.rstrip('/')}/**").split("/"))


def matches(pattern: str, path: str) -> bool:
    return regular(pattern).fullmatch(f"{path}/") is not None


def goes_through(one: str, other: str) -> bool:
    """Whether a folder that `one` spells out, or that it is itself, is one of the other's paths, or below one."""
    spelt = list(takewhile(lambda segment: not set(segment) & set("*?["), parts_of(one)))
    return any(matches(other, "/".join(spelt[:end])) for end in range(1, len(spelt) + 1))


PIECES = ("a", "b", "c", ".b", ".", "[", "]", *(piece for piece in SEGMENTS if len(piece) > 2 and piece[0] == "["))
SHORT = ["".join(pieces) for length in (1, 2, 3) for pieces in product(PIECES, repeat=length)]


@cache
def segment_of_both(one: str, other: str) -> str | None:
    mine, theirs = re.compile(expression(one)), re.compile(expression(other))
    return next((text for text in SHORT if mine.fullmatch(text) and theirs.fullmatch(text)), None)


@cache
def path_of_both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...] | None:
    """Search for a path that both cover, from the first segment on."""
    if not one or not other:
        return () if set(one) | set(other) <= {"**"} else None
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
    segments = path.split("/")
    ancestors = ("/".join(segments[:end]) for end in range(1, len(segments) + 1))
    assert covers(pattern, path) == any(matches(pattern, each) for each in ancestors)


@given(patterns, patterns, paths)
@many
def test_patterns_of_the_same_path_meet(one: str, other: str, path: str) -> None:
    if matches(one, path) and matches(other, path):
        assert overlap(one, other)


@given(patterns, plain_paths)
@many
def test_a_pattern_meets_each_file_that_it_covers(pattern: str, path: str) -> None:
    assert overlap(pattern, f"{path}.txt") == covers(pattern, f"{path}.txt")


@given(patterns, patterns)
@many
def test_patterns_meet_by_a_path_of_both_or_when_one_goes_through_the_other(one: str, other: str) -> None:
    found = path_of_both(parts_of(one), parts_of(other))
    meet = found is not None or goes_through(one, other) or goes_through(other, one)
    assert overlap(one, other) == overlap(other, one) == meet
    if found is not None:
        path = "/".join(found) or "a"
        assert matches(one, path)
        assert matches(other, path)


@given(patterns)
@many
def test_a_spelling_is_its_own_and_means_the_same(pattern: str) -> None:
    assert spell(pattern) == pattern
    folder = pattern if pattern == "**" else pattern.rstrip("/") + "/"
    assert spell(f"./{pattern}//**/") == spell(f"{pattern}/") == folder
    assert overlap(pattern, pattern)
    assert overlap(pattern, folder)


@pytest.mark.parametrize(
    ("given", "spelt"),
    [
        ("release-lock", "release-lock"),
        (" docs/ ", "docs/"),
        ("docs", "docs"),
        ("docs/**", "docs/"),
        ("docs/**/**/", "docs/"),
        ("**/docs//", "**/docs/"),
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
        ("docs/", "docs/a/b.md", True),
        ("docs/*", "docs/a/b.md", True),
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


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("src", "src/a.py", True),
        ("src", "src/*.py", True),
        ("src", "src/", True),
        ("src/", "**/*.py", True),
        ("src/*", "src/api/x.py", True),
        ("README.md", "**/*.py", False),
        ("Makefile", "**/*.py", True),
        (".github", "**/*.yml", True),
        (".prettierrc.json", "**/*.yml", False),
        ("v1.2", "v1.2/a.md", True),
        ("v1.2", "**/*.md", False),
        ("src/api", "src/**/*.py", True),
        ("src/a.py", "src/**/test_*.py", False),
        ("packages/README.md", "packages/*/package.json", False),
        ("packages/core/", "packages/*/package.json", True),
        ("**/*.md", "docs/", True),
        ("**", "release-lock", True),
        ("*.py", "*.md", False),
        ("src/[a-m]*", "src/[n-z]*", False),
        ("src", "Src", False),
    ],
)
def test_what_people_mean_meets(one: str, other: str, meet: bool) -> None:
    assert overlap(spell(one), spell(other)) == overlap(spell(other), spell(one)) == meet


def test_pairs_on_which_an_expression_would_try_for_ever_are_decided_at_once() -> None:
    stars = spell("*a" * WILDCARD_LIMIT + "b")
    assert not overlap(stars, spell("a" * (NAME_LIMIT - 1) + "c"))
    assert overlap(stars, spell("a" * (NAME_LIMIT - 1) + "b"))
    assert overlap("**/a/" * 12 + "b/", "a/" * 90)
    assert not overlap("**/a/" * 12 + "b.x", "a/" * 90 + "c.x")
