"""What a sender may hand in, and what an owner may say of a mailbox."""

from __future__ import annotations

import pytest

from mcp_mailbox.errors import BLAME, Blame, Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import BODY_LIMIT, Draft, Priority


def draft(**changes: object) -> Draft:
    return Draft(**{"to": ("bob",), "body": "hello", **changes})  # type: ignore[arg-type]  # tests give what they like


@pytest.mark.parametrize(
    "changes",
    [
        {"body": ""},
        {"body": "x" * BODY_LIMIT},
        {"body": "ж" * (BODY_LIMIT // 2)},
        {"body": "a\0b\r\n"},
        {"to": tuple(f"box-{n}" for n in range(100))},
        {"subject": "x" * 200},
        {"subject": "Привет 🦦"},
        {"key": "x" * 200},
        {"priority": Priority.LOW},
    ],
    ids=lambda changes: ascii(changes)[:40],
)
def test_what_keeps_to_the_limits_is_taken(changes: dict[str, object]) -> None:
    taken = draft(**changes)
    assert {name: getattr(taken, name) for name in changes} == changes


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"to": ()}, Code.BAD_ARGUMENT),
        ({"to": tuple(f"box-{n}" for n in range(101))}, Code.BAD_ARGUMENT),
        ({"body": "x" * (BODY_LIMIT + 1)}, Code.BODY_TOO_LARGE),
        ({"body": "ж" * (BODY_LIMIT // 2) + "x"}, Code.BODY_TOO_LARGE),
        ({"body": "a\ud800b"}, Code.BAD_ARGUMENT),
        ({"subject": "\udfff"}, Code.BAD_ARGUMENT),
        ({"subject": "x" * 201}, Code.BAD_ARGUMENT),
        ({"subject": "two\nlines"}, Code.BAD_ARGUMENT),
        ({"subject": "two\u2028lines"}, Code.BAD_ARGUMENT),
        ({"subject": "ends\n"}, Code.BAD_ARGUMENT),
        ({"subject": "\n"}, Code.BAD_ARGUMENT),
        ({"subject": "\0"}, Code.BAD_ARGUMENT),
        ({"key": ""}, Code.BAD_ARGUMENT),
        ({"key": "x" * 201}, Code.BAD_ARGUMENT),
        ({"key": "a\nb"}, Code.BAD_ARGUMENT),
        ({"key": "\ud800"}, Code.BAD_ARGUMENT),
    ],
    ids=lambda changes: ascii(changes)[:40],
)
def test_what_does_not_is_refused_with_a_hint(changes: dict[str, object], code: Code) -> None:
    with pytest.raises(Refusal) as refusal:
        draft(**changes)
    assert refusal.value.code is code
    assert refusal.value.blame is Blame.CALLER
    assert refusal.value.problem
    assert refusal.value.hint
    assert len(str(refusal.value)) < 300
    str(refusal.value).encode()


@pytest.mark.parametrize(
    "profile",
    [
        {"about": "two\nlines, 家族 👨\u200d👩\u200d👧\u3000and a\ttab"},
        {"about": "x" * 500},
        {"skills": ("x" * 50,) * 20},
    ],
    ids=lambda profile: ascii(profile)[:40],
)
def test_a_profile_may_be_any_text(profile: dict[str, object]) -> None:
    taken = Profile(**profile)  # type: ignore[arg-type]  # tests give what they like
    assert {name: getattr(taken, name) for name in profile} == profile


@pytest.mark.parametrize(
    "profile",
    [
        {"about": "x" * 501},
        {"about": "\x1b[31m"},
        {"about": "\ud800"},
        {"skills": ("x",) * 21},
        {"skills": ("",)},
        {"skills": ("x" * 51,)},
        {"skills": ("\0",)},
    ],
    ids=lambda profile: ascii(profile)[:40],
)
def test_a_profile_that_could_not_be_listed_is_refused(profile: dict[str, object]) -> None:
    with pytest.raises(Refusal) as refusal:
        Profile(**profile)  # type: ignore[arg-type]  # tests give what they like
    assert refusal.value.code is Code.BAD_ARGUMENT


def test_priorities_are_in_the_order_in_which_mail_is_read() -> None:
    assert [priority.word for priority in sorted(Priority)] == ["urgent", "normal", "low"]


def test_every_code_says_who_is_to_blame() -> None:
    assert set(BLAME) == set(Code)
