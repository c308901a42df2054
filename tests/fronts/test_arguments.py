"""Whatever a tool is given: it is taken or refused, soon, and never an error of ours.

All agents share one loop, so what one of them gives must not keep the others waiting.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts import arguments, meaning
from mcp_mailbox.fronts.arguments import Arguments

TOOLS: dict[str, type[Arguments]] = {
    "create_mailbox": arguments.CreateMailbox,
    "send": arguments.Send,
    "wait_for_message": arguments.WaitForMessage,
    "list_inbox": arguments.ListInbox,
    "read": arguments.Read,
    "settle": arguments.Settle,
    "reserve": arguments.Reserve,
    "subscribe": arguments.Subscribe,
    "find_mailboxes": arguments.FindMailboxes,
}
RIGHT = {"to": "a", "body": "b", "id": "x", "ids": ["x"], "outcome": "ack", "channel": "c"}
PLACES = [(tool, field.alias or name) for tool, model in TOOLS.items() for name, field in model.model_fields.items()]
LENGTH = 500_000
SOON = 0.2
"""Seconds of a processor's time; what is slow here takes several times as long."""
LONG = {
    "JSON that only opens": "[" * LENGTH,
    "JSON that is nested deeply": "[" * (LENGTH // 2) + "]" * (LENGTH // 2),
    "objects that are nested deeply": '[{"a":' * (LENGTH // 6),
    "100,000 entries as JSON": json.dumps([f"a{number}" for number in range(100_000)]),
    "a number of many digits in JSON": f"[{'1' * LENGTH}]",
    "commas": "," * 4 * LENGTH,
    "entries with commas": "a," * 2 * LENGTH,
    "percent signs": "mailbox:" + "%61" * LENGTH,
    "percent signs in an id": "mailbox:a/" + "%61" * LENGTH,
    "angle brackets": "a<" * LENGTH,
    "quotes": '"' * LENGTH,
    "labels": "id: " * LENGTH,
    "hyphens": "-" * LENGTH,
    "spans": "1d " * LENGTH,
    "camels": "aA" * LENGTH,
    "digits": "9" * LENGTH,
}


def parsed(tool: str, given: Mapping[str, Any]) -> Arguments | None:
    with contextlib.suppress(Refusal):
        return arguments.parse(TOOLS[tool], tool, given)
    return None


def right(tool: str) -> dict[str, Any]:
    names = [name for its, name in PLACES if its == tool]
    return {name: value for name, value in RIGHT.items() if name in names}


def seconds(tool: str, given: Mapping[str, Any]) -> float:
    begin = time.thread_time()
    parsed(tool, given)
    return time.thread_time() - begin


@pytest.mark.parametrize("what", LONG)
def test_a_long_text_is_read_soon_wherever_it_is_given(what: str) -> None:
    for tool, name in PLACES:
        if seconds(tool, {**right(tool), name: LONG[what]}) > SOON:  # may be the machine's doing, once
            assert seconds(tool, {**right(tool), name: LONG[what]}) < SOON, (tool, name)


def test_many_long_names_of_parameters_are_read_soon() -> None:
    given = {"aB" * 2_000 + str(number): 1 for number in range(meaning.MOST - 10)}
    assert seconds("send", {**RIGHT, **given}) < SOON


shapes = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(
        ["[", "]", "<", "mailbox:", "%", "id:", '"', "1h", "#", "@", ",", "2026-01-01T00:00:00+23:59", "9" * 13]
    )
    | st.text(alphabet='[]{}",:;<>@#%\\-+.0123456789 dhmsTZ', max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.sampled_from(PLACES), shapes)
def test_whatever_it_is_it_is_taken_or_refused(place: tuple[str, str], value: object) -> None:
    tool, name = place
    parsed(tool, {**right(tool), name: value})
    parsed(tool, {**right(tool), name: json.dumps(value)})


@pytest.mark.parametrize("keep", [True, False, "yes", "1.5"])
def test_yes_is_no_number_of_messages_to_keep(keep: object) -> None:
    """One would be the least: all that was said before is gone."""
    assert parsed("subscribe", {"channel": "#plan", "keep": keep}) is None
    taken = parsed("subscribe", {"channel": "#plan", "keep": "20"})
    assert isinstance(taken, arguments.Subscribe)
    assert taken.keep == 20
