"""How frames are spelled."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_mailbox import frames

keys = st.text("abcdefghijklmnopqrstuvwxyzABC._", min_size=1)


@settings(max_examples=30, deadline=None)  # a busy machine is no bug
@given(st.dictionaries(keys, st.text(st.characters(codec="utf-8"))))
def test_a_hello_reads_back_as_it_was_spelled_whatever_the_values_hold(fields: dict[str, str]) -> None:
    spelled = frames.hello(fields)
    assert spelled.count(b"\n") == 1
    assert frames.read_hello(spelled[2:-1]) == fields


def test_an_environment_that_is_no_text_survives_a_hello() -> None:
    odd = b"\xff\n".decode("utf-8", "surrogateescape")
    assert frames.read_hello(frames.hello({"env.MCP_MAILBOX_X": odd})[2:-1]) == {"env.MCP_MAILBOX_X": odd}


def test_no_kind_is_used_twice_in_one_direction_or_longer_than_a_byte() -> None:
    for table in (frames.FROM_RELAY, frames.FROM_OFFICE):
        assert all(len(kind) == 1 for kind in table)
    kinds = [value for value in vars(frames).values() if isinstance(value, bytes)]
    assert len(kinds) == len(set(kinds))
    command_line = {frames.STATUS, frames.QUIT, frames.COMMAND, frames.PROGRESS}
    assert set(kinds) == {*command_line, *frames.FROM_RELAY, *frames.FROM_OFFICE}
