"""Strategies: JSON as people and programs write it, with white space and comments wherever they may stand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mcp_mailbox.setup.jsonc import Dialect

PATH = ("servers", "mailbox")
ENTRY: dict[str, Any] = {"command": "/opt/mail box/mcp-mailbox", "args": ["stdio"], "env": {"A": "ü"}}

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
"""For tests of what is right, not of how long it takes on a machine that has other work."""

_words = st.text(st.characters(codec="utf-8"), max_size=6)
_comments = st.sampled_from(["// c\n", "//\r\n", "/* c */", "/* two\n lines */", '// } , " { \n', "/**/"])
_scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _words)
Draw = Callable[[st.SearchStrategy[Any]], Any]


def _gap(draw: Draw, dialect: Dialect) -> str:
    pieces = st.sampled_from(["", "", "", " ", "\n", "\r\n", "\n\t", "  "])
    if dialect is not Dialect.JSON:
        pieces = st.one_of(pieces, _comments)
    return "".join(draw(st.lists(pieces, max_size=2)))


def _written(draw: Draw, value: Any, dialect: Dialect) -> str:
    def gap() -> str:
        return _gap(draw, dialect)

    if isinstance(value, dict):
        names = [json.dumps(key, ensure_ascii=draw(st.booleans())) for key in value]
        values = [_written(draw, each, dialect) for each in value.values()]
        pairs = zip(names, values, strict=True)
        parts = [f"{gap()}{name}{gap()}:{gap()}{each}{gap()}" for name, each in pairs]
        opening, closing = "{}"
    elif isinstance(value, list):
        parts = [f"{gap()}{_written(draw, each, dialect)}{gap()}" for each in value]
        opening, closing = "[]"
    else:
        return json.dumps(value, ensure_ascii=draw(st.booleans()))
    trailing = "," if parts and dialect is Dialect.JSONC and draw(st.booleans()) else ""
    return opening + ",".join(parts) + trailing + gap() + closing


@st.composite
def tidy(draw: Draw, dialect: Dialect) -> str:
    """As a host's own program writes it: indented, or on one line."""
    value = draw(_objects)
    indent = draw(st.sampled_from([None, 2, 4, "\t"]))
    text = json.dumps(value, indent=indent, ensure_ascii=False, separators=(",", ":") if indent is None else None)
    if dialect is not Dialect.JSON:
        lines = text.split("\n")
        text = "\n".join(line + draw(st.sampled_from(["", "", " // c", "\n  // d"])) for line in lines)
    line_end: str = draw(st.sampled_from(["\n", "\r\n"]))
    ending: str = draw(st.sampled_from(["", line_end]))
    return text.replace("\n", line_end) + ending


_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_words, inner, max_size=3)),
    max_leaves=6,
)
_objects = st.builds(
    lambda rest, servers: rest | ({} if servers is None else {"servers": servers}),
    st.dictionaries(_words, _values, max_size=4),
    st.one_of(st.none(), st.dictionaries(_words, _values, max_size=3)),
)


@st.composite
def wild(draw: Draw, dialect: Dialect) -> str:
    """White space and comments anywhere."""
    return _gap(draw, dialect) + _written(draw, draw(_objects), dialect) + _gap(draw, dialect)


def texts(dialect: Dialect) -> st.SearchStrategy[str]:
    return st.one_of(tidy(dialect), wild(dialect), st.sampled_from(["", "\n", "{}", "{\n}\n", " { } "]))
