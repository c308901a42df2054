"""What anybody might send to the store API: bodies that are near what its models want, and bodies that are not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.fronts.verbs import VERBS

Strategy = st.SearchStrategy[Any]

TEXTS = [
    "", "alice", "alice@elsewhere", "@", "#", "#room", "a@b@c", "..", "../../etc/passwd", "%", "%00", "\0", "'; --",
    "*", "[", "\\", "\ud800", "x\udfffy", "\u202e", "ﬁ", "1", "1.1", "zzzz.9", "outbox-1", "-1", "9" * 40, "x" * 5000,
    "\r\nx: y", "\u2028", "22:00-07:00", "99:99-", "NaN", "2026-07-28", "2026-07-28T00:00:00Z", "-5m", "1e999", "all",
    "ack", "0" * 32, "AND", '"', "NEAR(", "a:b", "(((",
]  # fmt: skip
GOOD = ["alice", "alice", "#room", "x", "1h", "all", "zzzzzzz", "zzzzzzz.1", "2026-07-28T00:00:00Z", "22:00-07:00"]
NUMBERS = [0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 10**18, 10**40, 0.5, 1e18, 1e308, float("inf"),
           float("-inf"), float("nan")]  # fmt: skip
SCALAR = st.sampled_from(TEXTS) | st.sampled_from(NUMBERS) | st.none() | st.booleans() | st.text(max_size=20)
JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(TEXTS), inner, max_size=3)
)


def mostly(good: Strategy, odd: Strategy) -> Strategy:
    """The one nine times of ten."""
    return st.integers(0, 9).flatmap(lambda number: odd if number == 1 else good)


def like(model: type[BaseModel], **certain: Strategy) -> Strategy:
    """Objects that have the members of a model: a few of them, one of which may be anything."""
    fields = {field.alias or name: _like(field.annotation) for name, field in model.model_fields.items()}
    good = st.fixed_dictionaries(
        {name: certain.get(name, each) for name, each in fields.items() if _is_required(model, name)} | certain,
        optional={name: each for name, each in fields.items() if name not in certain and not _is_required(model, name)},
    )
    odd = st.dictionaries(st.sampled_from([*(fields.keys() - certain.keys()), "x"]), SCALAR | JSON, max_size=1)
    return mostly(good, st.tuples(good, odd).map(lambda both: both[0] | both[1]))


def _is_required(model: type[BaseModel], name: str) -> bool:
    return any((field.alias or key) == name and field.is_required() for key, field in model.model_fields.items())


def _like(kind: Any) -> Strategy:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _like(inner[0])
    if origin in {Union, UnionType}:
        return st.one_of(*map(_like, inner))
    if origin in {list, tuple}:
        return st.lists(_like(inner[0]), max_size=3)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return like(kind)
    if inner and origin is not dict:  # a choice of words
        return st.sampled_from(inner)
    return PLAIN.get(kind, JSON)


PLAIN: dict[object, Strategy] = {
    NoneType: st.none(),
    str: st.sampled_from(GOOD),
    int: st.integers(0, 9),
    float: st.integers(0, 9),
    bool: st.booleans(),
}


def who(good: Mapping[str, object]) -> Strategy:
    """Somebody who may ask, most often."""
    known = st.just(good)
    odd = st.dictionaries(st.sampled_from([*wire.Who.model_fields]), SCALAR, max_size=1)
    return mostly(known, odd.map(lambda odd: {**good, **odd}) | JSON)


def asked(verb: str, good: Mapping[str, object]) -> Strategy:
    """Bodies of a verb."""
    certain = {"who": who(good), "given": like(VERBS[verb].arguments), "files": st.just([]), "room": st.just(1000)}
    usual = like(wire.Asked, **certain)
    return mostly(usual, JSON)


def sent(good: Mapping[str, object]) -> Strategy:
    """Lines of a batch."""
    given = st.one_of(*(like(VERBS[verb].arguments) for verb in ("send", "settle")))
    return like(wire.Sent, number=st.integers(), who=who(good), given=given, at=st.just(1), files=st.just([]))


def notes(good: Mapping[str, object]) -> Strategy:
    """Notes."""
    return st.fixed_dictionaries({"notes": st.lists(like(wire.Note, who=who(good)), max_size=4)})


def spelled(said: object) -> bytes:
    """Spell it as strange clients do: with halves of letters, and numbers that no float holds."""
    return json.dumps(said).replace("Infinity", "1e999").encode()
