"""What a model means by a value that it wrote a little differently.

What can only mean one thing, and does no harm if that was wrong, is read as that: a list written as JSON text, an
address in angle brackets, an id with its label, `1h`. What may mean two things, or would change what becomes of mail,
is asked back: the error says what was given and what would do. Everything here looks at one value alone; which
parameter takes what, `arguments.py` knows, and what is right of it the domain.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from pydantic_core import PydanticCustomError

from mcp_mailbox.errors import Code, Refusal

MOST = 1000
"""Items that are looked at one by one; no verb takes as many, and each mistake would be spelled out."""
LONGEST = 1 << 16
"""Characters of one text in which several things are looked for: what is more is no list that anybody wrote,"""
_ONE = 2_000
"""and of one that may have something around it: no address and no id is as long."""
_NAME = 100
"""Characters of a parameter's name that may be one of ours, written otherwise."""
WRONG = "wrong"
"""The type of our own errors; their context has the hint."""
_SHOWN = 40
_UNITS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)", re.IGNORECASE)
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"
_NAMED = re.compile(r"[^<>]*<([^<>]+)>")
_LABELLED = re.compile(r"(?:message[ _-]?)?id\s*[:=]\s*(.+)", re.IGNORECASE | re.DOTALL)
_SCHEME = "mailbox:"
"""Of our resources (`resources.py`): a model may copy the address or the id out of one."""
_SECONDS = (10**9, 10**10)
_MILLISECONDS = (10**12, 10**13)
"""Numbers that stand for a time between 2001 and 2286, in the one unit or the other; never in both."""
_TIME = "Give a time such as 2026-11-22T18:30:00Z."
_ALL = ("all", "beginning", "start", "first", "0")
"""Words for the beginning of a channel."""
SINCE = 'Give "all", a time such as 2026-11-22T18:30:00Z, or the id of a message in the channel.'
_LARGEST_PART = 100
"""That a number behind a larger unit is less than: 1h90m is said, 0h9763m is not."""
_SPANS = 'Give seconds, such as 90, or "15m", "2h", "1d".'


def wrong(problem: str, hint: str) -> PydanticCustomError:
    """Return what a reader of a value raises: `problem` goes behind the parameter's name."""
    return PydanticCustomError(WRONG, "{problem}", {"problem": problem, "hint": hint})


def shown(value: object) -> str:
    """Return what was given, in a word or two."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return ascii(value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…")
        case int() | float():
            return str(value)[:_SHOWN]
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
    return "null"


# -- JSON

DEEPEST = 100
"""Levels of lists and objects in a body: parsers of those who are to read it give up at 128, 200 or 1,000."""


def is_deeper(value: object, most: int) -> bool:
    """Whether there are more than so many lists and objects in each other."""
    level = [value]
    for _ in range(most + 1):
        level = [inner for each in level for inner in _members(each) if isinstance(inner, list | dict)]
        if not level:
            return False
    return True


def _members(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def check_json(value: object) -> None:
    """Raise for what not everybody can read who gets it as JSON."""
    if is_deeper([value], DEEPEST):
        raise wrong(
            f"`body`: lists and objects stand in each other on more than {DEEPEST} levels", "Send it as a text."
        )
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise wrong("`body`: a number in it is none of JSON's", "Give it as a text.") from None


# -- several texts


def several(value: object) -> object:
    """Read one text for a list of it, and a list that was written as text: its brackets are no part of a name."""
    if isinstance(value, list):
        _check_count(value)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            listed = json.loads(value)
        except (ValueError, RecursionError):
            return (value,)
        return several(listed) if isinstance(listed, list) else (value,)
    return (value,) if isinstance(value, str) else value


def _parts(value: object, marks: str, read: Callable[[str], str]) -> object:
    """Read several, and split each at these marks: for what has none of them in it."""
    found = several(value)
    if not isinstance(found, list | tuple) or not all(isinstance(each, str) for each in found):
        return found
    if (length := sum(map(len, found))) > LONGEST:
        raise wrong(f"it has {length:,} characters", "Give fewer.")
    pieces: list[str] = []
    for each in found:  # between two marks may be nothing, but a text that is empty is one
        pieces += [piece for piece in re.split(marks, each) if piece.strip()] or [each]
    _check_count(pieces)
    return tuple(map(read, pieces))


def _check_count(items: Sequence[object]) -> None:
    if len(items) > MOST:
        raise wrong(f"it has {len(items):,} items, at most {MOST} are allowed", "Give fewer.")


def recipients(value: object) -> object:
    """Read addresses: no address has a comma."""
    return _parts(value, "[,;]", address)


def ids(value: object) -> object:
    """Read ids: no id has a comma."""
    return _parts(value, "[,;\n]", id_)


def names(value: object) -> object:
    """Read names to reserve. One text may list them; a name that has a comma is given in a list."""
    if isinstance(value, str) and not value.lstrip().startswith("[") and "{" not in value:
        return _parts(value, "[,\n]", str.strip)
    return several(value)


def paths(value: object) -> object:
    """Read paths of files, also as URIs of them."""
    found = names(value)
    if not isinstance(found, list | tuple):
        return found
    return tuple(_path(each) if isinstance(each, str) else each for each in found)


def _path(text: str) -> str:
    """Return the path of a file's URI on this machine; any other text is one."""
    for scheme in ("file:///", "file://localhost/"):
        if text.startswith(scheme):
            return unquote("/" + text.removeprefix(scheme))
    return text


def skills(value: object) -> object:
    """Read skills. One text may list them, as it does for people."""
    return _parts(value, "[,;\n]", str.strip) if isinstance(value, str) else several(value)


# -- one text


def address(text: str) -> str:
    """Return the address in what people and protocols write around one; nothing of that can be part of a name."""
    if len(text) > _ONE:
        return text
    text = _unquoted(text)
    named = _NAMED.fullmatch(text)
    text = _unquoted(named[1]) if named else text
    if text.startswith(_SCHEME):
        text = unquote(text.removeprefix(_SCHEME).partition("/")[0])
    return text[1:] if text.startswith("@") and len(text) > 1 else text


def id_(text: str) -> str:
    """Return the id in what is written around one. The store promises that an id has neither quotes nor colons."""
    if len(text) > _ONE:
        return text
    text = _unquoted(text)
    if text.startswith(_SCHEME):
        text = unquote(text.partition("/")[2]) or text
    labelled = _LABELLED.fullmatch(text)
    return _unquoted(labelled[1]) if labelled else text


def one_address(value: object) -> object:
    """Read an address, where one is asked for."""
    return address(value) if isinstance(value, str) else value


def new_name(value: object) -> object:
    """Read the name of a mailbox to be made: a channel's is none."""
    if isinstance(value, str) and value.lstrip().startswith("#"):
        hint = "subscribe joins a channel, or makes it; choose a name without #."
        raise Refusal(Code.BAD_NAME, f"{shown(value)} would be a channel.", hint)
    return value


def one_text(value: object) -> object:
    """Read a text; a list of one is that."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def one_channel(value: object) -> object:
    """Read a channel's name, where one is asked for. A list of one is that, and no name has a comma."""
    found = recipients(value)
    if isinstance(found, tuple) and len(found) > 1:
        raise wrong(f"it has {len(found):,} names", "Give one in each call.")
    return found[0] if isinstance(found, tuple) and found else found


def one_id(value: object) -> object:
    """Read an id, where one is asked for; a list of one is that."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list):
        raise wrong(f"it has {len(value):,} ids", "Give one in each call.")
    return id_(value) if isinstance(value, str) else value


def line(value: object) -> object:
    """Read a line: a line break at its end is none in it."""
    return value.rstrip("\r\n") if isinstance(value, str) else value


def words(value: object) -> object:
    """Read words to look for, of which all must occur, also from a list."""
    if isinstance(value, list) and len(value) <= MOST and all(isinstance(each, str) for each in value):
        return " ".join(value)
    return value


def choice(allowed: Sequence[str], also: Mapping[str, str] | None = None, hint: str = "") -> Callable[[object], object]:
    """Return what reads one of some words, in any case, or another word that means one (`also`)."""

    def read(value: object) -> object:
        if isinstance(value, str):
            word = value.strip().lower()
            word = (also or {}).get(word, word)
            if word in allowed:
                return word
        raise wrong(f"{shown(value)} is none of {', '.join(allowed)}", hint or "Give one of them, or leave it out.")

    return read


def _unquoted(text: str) -> str:
    """Return the text without what is put around it."""
    return text.strip().strip(_QUOTES).strip()


# -- numbers, times, yes and no


def seconds(value: object) -> object:
    """Read a span of time: seconds, or a number with its unit. True is no second, and milliseconds are nobody's."""
    found: object = value
    if isinstance(value, str):
        found = _span(value)
    if isinstance(found, bool) or not isinstance(found, int | float) or not -math.inf < found < math.inf:
        raise wrong(f"{shown(value)} is no span of time", _SPANS)
    if found < 0:
        raise wrong(f"{shown(value)} is negative", f"{_SPANS[:-1]}; leave it out for the default.")
    return min(found, sys.float_info.max)  # an integer may be larger than any


def _span(text: str) -> float | None:
    text = text.strip()
    try:
        return float(text)
    except ValueError:
        pass
    parts = _SPAN.findall(text) if len(text) <= _SHOWN else []
    if not parts or _SPAN.sub("", text).strip(" ,"):
        return None
    units = [_UNITS.get(unit.lower()) or _UNITS.get(unit.lower().removesuffix("s")) for _, unit in parts]
    # Of several parts each is less than what is said before it: an id may look like hours and minutes.
    if None in units or any(float(number) >= _LARGEST_PART for number, _ in parts[1:]):
        return None
    return sum(float(number) * (unit or 0) for (number, _), unit in zip(parts, units, strict=True))


def whole(least: int, most: int | None = None, hint: str = "") -> Callable[[object], object]:
    """Return what reads a whole number from `least` on; more than `most` is read as that, which is all there can be."""
    usual = f"Give a whole number from {least} on." if most is None else f"Give a whole number from {least} to {most}."

    def read(value: Any) -> object:
        written = isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip())
        found = int(value) if written or (isinstance(value, float) and value.is_integer()) else value
        if isinstance(found, bool) or not isinstance(found, int) or found < least:
            raise wrong(f"{shown(value)} will not do", hint or usual)
        return found if most is None else min(found, most)

    return read


def moment(value: object) -> object:
    """Read a time as ms since 1970. One without an offset is UTC, as all our times are; a number counts from 1970."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{10}|[0-9]{13}", value.strip()):
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if _SECONDS[0] <= value < _SECONDS[1]:
            return int(value * 1000)
        if _MILLISECONDS[0] <= value < _MILLISECONDS[1]:
            return int(value)
    if not isinstance(value, str):
        raise wrong(f"{shown(value)} is no time", _TIME)
    try:
        found = datetime.fromisoformat(value.strip())
    except ValueError:
        raise wrong(f"{shown(value)} is no time", _TIME) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def beginning(value: object) -> object:
    """Read where to begin in a channel: "all", a time, or else the id of a message."""
    text = value.strip() if isinstance(value, str) else value
    if (isinstance(text, str) and text.lower() in _ALL) or (type(text) is int and text == 0):
        return 0
    if isinstance(text, str) and text and "-" not in text and not text.isdigit() and _span(text) is None:
        return id_(text)  # none has a hyphen, and none is a number
    try:
        return moment(text)
    except PydanticCustomError:
        raise wrong(f"{shown(value)} is neither a time nor an id", SINCE) from None


def snake(name: str) -> str:
    """Return a parameter's name as ours are written: replyTo and Reply-To are reply_to."""
    if len(name) > _NAME:
        return name
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").replace(" ", "_").lower()


Given = Mapping[str, Any]


def spelled(given: Given, names: Sequence[str], also: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters under their own names, where another word can only mean one that is not given itself."""
    found: dict[str, Any] = {name: value for name, value in given.items() if name in names}
    for name, value in given.items():
        if name not in names:
            meant = snake(name)
            meant = also.get(meant, meant)
            if meant in names and found.get(meant) is None:
                found[meant] = value
            else:
                found[name] = value
    return found
