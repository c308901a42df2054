"""How attachments are called, what they are, and how many there may be."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_mailbox import attachment
from mcp_mailbox.attachment import COUNT_LIMIT, NAME_LIMIT, Attachment
from mcp_mailbox.errors import Code, Refusal


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("docs/plan.md", "plan.md"),
        ("/etc/passwd", "passwd"),
        ("C:\\work\\plan.md", "plan.md"),
        ("..", "attachment"),
        ("a/..", "attachment"),
        (".env", "env"),
        ("-rf", "rf"),
        ("~x", "x"),
        ("a\n\x1b[31mb.md", "a[31mb.md"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("cafe\u0301.md", "café.md"),
        ("  two   words .md", "two words .md"),
        ("", "attachment"),
        ("\udc80", "attachment"),
        ("x" * 300 + ".tar", "x" * (NAME_LIMIT - 4) + ".tar"),
        ("中.md", "中.md"),
    ],
)
def test_a_name_is_the_last_part_of_a_path_without_what_cannot_be_seen(path: str, name: str) -> None:
    assert attachment.clean_name(path) == name


@given(st.text(st.characters(), max_size=400))
def test_any_path_gives_a_name_that_is_safe_to_use(path: str) -> None:
    name = attachment.clean_name(path)
    assert 0 < len(name) <= NAME_LIMIT
    assert len(name.encode()) <= 200
    assert name == unicodedata.normalize("NFC", name) or len(name) > NAME_LIMIT // 2, (
        "a cut may part what belongs together"
    )
    assert not set(name) & {"/", "\\", "\0", "\n", "\r"}
    assert name[0] not in ".-~"
    assert attachment.clean_name(name) == name or name != name.strip()


@given(st.lists(st.sampled_from(["a.md", "A.md", "a-2.md", "b", "é" * NAME_LIMIT, "x" * (NAME_LIMIT - 2) + ".c"])))
def test_names_are_told_apart_and_stay_what_they_are_where_they_can(names: list[str]) -> None:
    told = attachment.apart(names)
    assert len({name.casefold() for name in told}) == len(told) == len(names)
    assert all(len(name) <= NAME_LIMIT for name in told)
    if names:
        assert told[0] == names[0] or len(names[0].encode()) > 200


def test_the_second_of_a_name_has_a_number_before_its_ending() -> None:
    assert attachment.apart(["plan.md", "plan.md", "plan", "PLAN", "plan.md"]) == [
        "plan.md",
        "plan-2.md",
        "plan",
        "PLAN-2",
        "plan-3.md",
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("plan.md", "text/markdown"),
        ("a.png", "image/png"),
        ("a.json", "application/json"),
        ("a.tar.gz", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("a.unheard", "application/octet-stream"),
    ],
)
def test_a_type_is_what_the_ending_says_and_the_same_on_every_machine(name: str, kind: str) -> None:
    assert attachment.media_type(name) == kind


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", ""), ("é".encode(), "é"), (b"a\0b", None), (b"\xff\xfe", None), (b"\xed\xa0\x80", None)],
)
def test_text_is_valid_utf_8_without_a_nul(content: bytes, text: str | None) -> None:
    assert attachment.text(content) == text


def test_more_than_ten_are_refused() -> None:
    attachment.check_count(COUNT_LIMIT)
    with pytest.raises(Refusal, match="11 files"):
        attachment.check_count(COUNT_LIMIT + 1)


def test_who_asks_for_another_name_is_told_which_there_are() -> None:
    there = [Attachment("plan.md", "text/markdown", 1, "0"), Attachment("é.md", "text/markdown", 1, "0")]
    assert attachment.pick(there, "e\u0301.md") is there[1]
    with pytest.raises(Refusal) as refusal:
        attachment.pick(there, "plan")
    assert refusal.value.code is Code.UNKNOWN_ATTACHMENT
    assert "'plan.md', 'é.md'" in refusal.value.hint
    with pytest.raises(Refusal, match="It has none"):
        attachment.pick([], "plan")
