"""Which names there can be, which are the same, which are too alike."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_mailbox.addresses import (
    NAME_LIMIT,
    Address,
    check_name,
    fold,
    parse,
    skeletons,
    upper_skeleton,
    written_skeleton,
)
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.naming import suggestions

GOOD = [
    "a",
    "é",
    "Ж",
    "日本",
    "worker-1",
    "a.b_c-d",
    "1",
    "ß",
    "İ",
    "नमस्ते",
    "ไทย",
    "한국어",
    "שלום",
    "مرحبا",
    "x" * 64,
    "日" * 64,
]
BAD = [
    "",
    "x" * 65,
    "x" * 10_240,
    "../../etc",
    "..",
    ".",
    "a..b",
    ".a",
    "a.",
    "-a",
    "a-",
    "_",
    "a/b",
    "a\\b",
    "a\0b",
    "a\nb",
    "a b",
    " a",
    "a\u00a0b",
    "a\tb",
    "a@b@c",
    "a%2Fb",
    "#a",
    "a:b",
    "a*",
    "'; --",
    "\u202eevil",
    "a\u200bb",
    "a\u200db",
    "a\ufeff",
    "\u2066a\u2069",
    "🦦",
    "a🦦",
    "\uff41\uff42",  # fullwidth
    "e\u0301",  # not NFC
    "\u212b",  # the Angstrom sign
    "\ufb01",  # a ligature
    "\u01c5",  # a digraph
    "\ud800",
    "\u0301a",
    "a\u05d0",  # left to right and right to left
    "\u2603",
    "\U000e0001",
]


@pytest.mark.parametrize("name", GOOD)
def test_a_name_that_is_taken_is_kept_to_the_letter(name: str) -> None:
    assert parse(name, "default") == Address(name, "default")
    assert parse(f"{name}@team", "default") == Address(name, "team")


@pytest.mark.parametrize("name", BAD, ids=lambda name: ascii(name)[:30])
def test_a_name_that_cannot_be_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse(name, "default")
    assert refusal.value.code is Code.BAD_NAME
    assert refusal.value.hint
    assert len(str(refusal.value)) < 1000
    assert str(refusal.value).isprintable()
    if name:
        with pytest.raises(Refusal):
            check_name(name, "space")


@pytest.mark.parametrize("text", ["a@", "@a", "@", "a@b c", "a@../etc"])
def test_a_space_has_the_rules_of_a_name(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse(text, "default")
    assert refusal.value.code is Code.BAD_NAME


@given(st.text(max_size=NAME_LIMIT + 2) | st.text("abз1.-_ 日\u0301\u200d", max_size=10))
@example("ẞ")
@example("ΰ")
@example("\u017f")
def test_any_text_is_a_name_to_the_letter_or_refused(text: str) -> None:
    try:
        name = check_name(text)
    except Refusal as refusal:
        assert refusal.code is Code.BAD_NAME  # noqa: PT017 - either is fine
        return
    assert name == text == unicodedata.normalize("NFC", text)
    assert 0 < len(name) <= NAME_LIMIT
    assert not set(name) & set("/\\@\0\n :%#?*'\"<>")
    assert fold(fold(name)) == fold(name)
    name.encode()


NAMES = st.text(st.characters(categories=("Lu", "Ll", "Lt", "Lo", "Nd")), min_size=1, max_size=8)


@given(NAMES)
@example("ΐ")
@example("İ")
@example("ŉ")
def test_names_that_are_the_same_look_the_same(name: str) -> None:
    for other in (name.lower(), name.casefold(), unicodedata.normalize("NFC", name.casefold())):
        if fold(other) == fold(name):
            assert skeletons(other) == skeletons(name)
            assert upper_skeleton(other) == upper_skeleton(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [("admin", "\u0430dmin"), ("paypal", "paypa1"), ("modern", "modem"), ("l1", "ll"), ("ab", "Ab")],
    ids=ascii,
)
def test_names_that_nobody_tells_apart_have_one_skeleton(one: str, other: str) -> None:
    assert skeletons(one)[0] == skeletons(other)[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("aIice", "alice"),
        ("AIice", "a1ice"),
        ("WorkerI", "worker1"),
        ("bOb", "b0b"),
        ("BARN", "bam"),
        ("\u0410I", "al"),
    ],
    ids=ascii,
)
def test_names_that_nobody_tells_apart_as_they_are_written_have_one_skeleton(one: str, other: str) -> None:
    assert written_skeleton(one) == written_skeleton(other)
    assert fold(one) != fold(other)


@pytest.mark.parametrize(
    ("one", "other"), [("worker-1", "worker-2"), ("a-b", "a_b"), ("ann", "anna"), ("日", "木"), ("и", "й"), ("o", "ö")]
)
def test_names_that_one_tells_apart_have_two(one: str, other: str) -> None:
    assert skeletons(one)[0] != skeletons(other)[0]
    assert written_skeleton(one) != written_skeleton(other)


def test_suggested_names_are_names_and_do_not_run_out() -> None:
    source = suggestions()
    names = [next(source) for _ in range(2000)]
    assert all(check_name(name) == name for name in names)
    assert len(set(names)) > 1500
