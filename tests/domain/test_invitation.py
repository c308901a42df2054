"""Codes as they are written, mistyped and read."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_mailbox import invitation
from mcp_mailbox.errors import Refusal

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def test_a_code_has_seven_groups_of_four_and_is_never_the_same() -> None:
    codes = {invitation.new_code() for _ in range(1000)}
    assert len(codes) == 1000
    assert all(re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{4}", code) for code in codes)


def test_a_code_is_read_however_somebody_writes_it() -> None:
    code = invitation.new_code()
    spelt = invitation.read_code(code)
    assert spelt == code.replace("-", "")
    looks_alike = code.replace("1", "l").replace("0", "O").lower().replace("-", " ")
    for written in (code.lower(), code.replace("-", ""), f" {code}\n", looks_alike, code.replace("1", "I")):
        assert invitation.read_code(written) == spelt


def test_every_wrong_letter_and_every_two_swapped_neighbours_are_told() -> None:
    code = invitation.read_code(invitation.new_code())
    wrong = {code[:place] + letter + code[place + 1 :] for place in range(28) for letter in LETTERS}
    swapped = {code[:place] + code[place + 1] + code[place] + code[place + 2 :] for place in range(25)}
    for written in (wrong | swapped) - {code}:
        with pytest.raises(Refusal, match="mistyped"):
            invitation.read_code(written)


@pytest.mark.parametrize("written", ["", "ABCD", "U" * 28, "é" * 28, "A" * 29, "mbx_" + "a" * 43, "\0" * 28])
def test_what_is_no_code_is_told_what_one_looks_like(written: str) -> None:
    with pytest.raises(Refusal, match="seven groups of four"):
        invitation.read_code(written)


@given(st.text(max_size=40))
def test_whatever_is_written_is_read_or_refused(written: str) -> None:
    with suppress(Refusal):
        assert len(invitation.read_code(written)) == 28


NO_DIGESTS = ("", "ab", "g" * 64, "0" * 63, "0" * 65, " " + "0" * 64, "00 " * 32, "\u0660" * 64)


@pytest.mark.parametrize("text", NO_DIGESTS)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="SHA-256"):
        invitation.token_digest(text)


def test_a_digest_is_read_in_either_case() -> None:
    assert invitation.token_digest("aB" * 32) == bytes([0xAB]) * 32
