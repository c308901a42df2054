"""By which words a mailbox is found, and what cannot be looked for or said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_mailbox.addresses import Address
from mcp_mailbox.directory import EVERY_SPACE, Entry, Search, Term, fold, terms, words
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.presence import LONGEST_TERM, STATUS_LIMIT, Status


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        (" .-_ \n\t", []),
        ("release-lock_2.final", ["release", "lock", "2", "final"]),
        ("Reviews SQL, fast!", ["reviews", "sql", "fast"]),
        ("Ångström café CAFÉ cafe\u0301", ["angstrom", "cafe", "cafe", "cafe"]),
        ("Straße İstanbul ﬁle", ["strasse", "istanbul", "file"]),
        ("日本語の訳 v2", ["日", "本", "語", "の", "訳", "v2"]),
        ("Код-ревью", ["код", "ревью"]),
        ("C++ c#", ["c", "c"]),
    ],
    ids=ascii,
)
def test_words_are_runs_of_letters_and_digits_without_case_and_accents(text: str, found: list[str]) -> None:
    assert words(text) == found


@given(st.text())
def test_what_is_folded_stays_as_it_is(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert words(fold(text)) == words(text)
    assert words(text.upper().lower()) == words(text.upper().lower().casefold())


@given(st.text(), st.text(), st.lists(st.text(min_size=1), max_size=3))
def test_a_mailbox_is_found_by_each_of_its_words_and_by_each_skill(name: str, about: str, skills: list[str]) -> None:
    every = terms(name, about, skills)
    for text in (name, about, *skills):
        assert set(words(text)) <= every
        assert all(Search(EVERY_SPACE, word[:1]).terms[0].low <= word for word in words(text) if word.isascii())
    for skill in skills:
        wanted = Search(EVERY_SPACE, skill=skill[:500]).terms
        assert all(term.low == term.high and term.low in every for term in wanted)


def test_a_search_is_its_words_once_each_and_the_skill() -> None:
    search = Search("default", "Data data BASE", " Code\n Review ")
    assert search.terms == (
        Term("data", "data\U0010ffff"),
        Term("base", "base\U0010ffff"),
        Term("=code review", "=code review"),
    )
    assert Search("default", " ?! ", " ").terms == ()


@pytest.mark.parametrize(
    ("search", "code"),
    [
        ({"space": "a b"}, Code.BAD_NAME),
        ({"space": ""}, Code.BAD_NAME),
        ({"space": "**"}, Code.BAD_NAME),
        ({"query": "x" * 501}, Code.BAD_ARGUMENT),
        ({"skill": "x" * 501}, Code.BAD_ARGUMENT),
        ({"query": "a b c d e f g h i j k"}, Code.BAD_ARGUMENT),
    ],
)
def test_what_cannot_be_looked_for_is_refused(search: dict[str, str], code: Code) -> None:
    with pytest.raises(Refusal) as refusal:
        Search(**{"space": "default", **search})
    assert refusal.value.code is code
    assert refusal.value.hint


@pytest.mark.parametrize("said", [("x" * (STATUS_LIMIT + 1),), ("a\nb",), ("", True, 0), ("", True, LONGEST_TERM + 1)])
def test_what_cannot_be_said_is_refused(said: tuple[str, bool, int]) -> None:
    with pytest.raises(Refusal) as refusal:
        Status(*said)
    assert refusal.value.code is Code.BAD_ARGUMENT
    assert refusal.value.hint


def test_of_somebody_elses_mailbox_neither_whose_it_is_nor_how_it_is_used_is_seen() -> None:
    entry = Entry(Address("a", "b"), "ann", "about", ("x",), "c1", "busy", away=True, seen_at=7, unread=3)
    assert entry.seen_by("ann") == entry
    assert entry.seen_by("eve") == Entry(Address("a", "b"), "", "about", ("x",), "c1", "busy", away=True)
