"""Ids tell nobody how much was sent; those of older stores are still good."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_mailbox.engines.sqlite.codec import Codec
from mcp_mailbox.errors import Refusal

SECRET = bytes(range(16))
OLD_IDS = {1: "1xa15", 31: "z69gc", 1000: "z8vkxj", 40_000: "1720tv5h"}
"""As versions before disguises made them of that secret."""
OLD_CURSOR = "c2.z8b08n"
numbers = st.integers(1, 1 << 60)


@given(numbers, st.integers(0, 1 << 40), st.none() | st.integers(0, 10**12 - 1))
@example(1 << 60, 0, None)
def test_every_id_and_handle_is_read_as_the_message_that_it_was_made_of(
    seq: int, plain: int, generation: int | None
) -> None:
    codec = Codec(SECRET, plain=plain)
    text = codec.id(seq) if generation is None else codec.handle(seq, generation)
    handle = Codec(SECRET, plain=plain).read(text)
    assert (handle.seq, handle.generation) == (seq, generation)


@given(st.lists(st.integers(0, 1 << 62), min_size=1, max_size=3))
def test_every_cursor_is_read_as_its_place_for_its_listing_alone(place: list[int]) -> None:
    codec = Codec(SECRET)
    cursor = codec.cursor("inbox 1", *place)
    assert codec.read_cursor("inbox 1", cursor) == tuple(place)
    for of, text in (("inbox 2", cursor), ("inbox 1", "c" + cursor[1:])):
        with pytest.raises(Refusal):
            codec.read_cursor(of, text)
    with pytest.raises(Refusal):
        codec.read(cursor)


@pytest.mark.parametrize("digits", [3, 4])
def test_a_disguise_is_a_permutation(digits: int) -> None:
    codec = Codec(SECRET)
    some = range(1, 32**3) if digits == 3 else range(32**3, 32**3 + 40_000)
    ids = [codec.id(seq) for seq in some]
    assert len(set(ids)) == len(ids)
    assert {len(id_) for id_ in ids} == {digits + 4}


def test_neighbours_have_nothing_in_common_and_their_order_is_not_to_be_seen() -> None:
    codec = Codec(SECRET)
    ids = [codec.id(seq) for seq in range(100_000, 101_000)]
    for place in range(4):
        assert len({id_[place] for id_ in ids}) == 32
    ascending = sum(one < other for one, other in itertools.pairwise(ids))
    assert 400 < ascending < 600
    assert ids != [Codec(SECRET[::-1]).id(seq) for seq in range(100_000, 101_000)]


def test_an_id_has_at_most_one_character_more_than_the_plain_number_had() -> None:
    codec = Codec(SECRET)
    assert [len(codec.id(seq)) for seq in (1, 32_767, 32_768, 1 << 20, 1 << 34)] == [7, 7, 8, 9, 11]


@pytest.mark.parametrize("seq", OLD_IDS)
def test_an_older_stores_messages_keep_their_ids_and_newer_ones_are_never_taken_for_them(seq: int) -> None:
    codec = Codec(SECRET, plain=40_000)
    assert codec.id(seq) == OLD_IDS[seq]
    assert codec.read(OLD_IDS[seq]).seq == seq
    assert codec.read_cursor("inbox 1", OLD_CURSOR) == (2, 1000)
    assert {len(codec.id(later)) for later in range(40_001, 41_000)} == {9}
    with pytest.raises(Refusal):
        Codec(SECRET).read(OLD_IDS[seq])


@given(st.text("0123456789abcdefghjkmnpqrstvwxyz", min_size=1, max_size=12))
def test_an_id_that_was_made_up_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        Codec(b"another secret").read(text)
