"""Edits of JSON, with comments and trailing commas where a host reads them, that leave every other byte alone.

`put` sets members of an object, `take` removes one; both return the whole text. What `put` inserted `take` removes
to the byte, given the trace that `put` returned. Each result is read again and compared with what it should say; a
text for which that fails, or that is no JSON of its dialect, is refused. Values are replaced whole; nothing is
formatted anew. Knows no host and no file.

Written here since nothing that is well kept does it in Python: the parsers of JSON5 (json-five, json5) write the
whole text anew, or drop comments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mcp_mailbox.setup.trouble import Unfit

Path = Sequence[str]

_DEEPEST = 200
_LONGEST_NUMBER = 300
_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_WORD = re.compile(r"[-+.0-9A-Za-z_]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_COMMENT = re.compile(r"//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_INDENT = re.compile(r"[ \t]*")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


class Dialect(Enum):
    """What a host reads; the value says whether comments and whether trailing commas are allowed."""

    JSON = (False, False)
    COMMENTS = (True, False)
    JSONC = (True, True)


@dataclass(slots=True)
class _Node:
    start: int
    end: int = 0
    value: Any = None
    members: list[_Member] = field(default_factory=list)
    """Of an object or an array, in order."""
    inner: int = 0
    """Of an object or an array: the end of the last thing in it, a comment's included."""


@dataclass(slots=True)
class _Member:
    key: str
    """Its name; of an array's element the place, from 0."""
    start: int
    node: _Node
    comma: int | None = None
    """Where the comma after it is."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What `take` must know to leave the text as `put` had found it."""

    created: int = 0
    """How many of the objects on the way, the last ones, were not there."""
    hollow: str | None = None
    """What stood between the braces of the object that got its first member."""
    blank: str | None = None
    """The whole text, if nothing stood in it."""


# -- reading


class _Scanner:
    """One pass over the text that keeps where things are."""

    def __init__(self, text: str, dialect: Dialect) -> None:
        self._text = text
        self._at = 0
        self._comments, self._trailing = dialect.value
        self._last = 0

    def document(self) -> _Node:
        self._space()
        node = self._value(0)
        self._space()
        if self._at != len(self._text):
            raise self._wrong("the end")
        return node

    def _wrong(self, expected: str) -> Unfit:
        line = self._text.count("\n", 0, self._at) + 1
        column = self._at - self._text.rfind("\n", 0, self._at)
        return Unfit(f"line {line}, column {column}: {expected} was expected.", "Mend it, and run this again.")

    def _space(self) -> None:
        """Skip white space and comments; `_last` is behind the last comment."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            comment = _COMMENT.match(self._text, self._at) if self._comments else None
            if not comment:
                return
            self._at = self._last = comment.end()

    def _take(self, mark: str) -> bool:
        if not self._text.startswith(mark, self._at):
            return False
        self._at += 1
        self._last = self._at
        return True

    def _value(self, depth: int) -> _Node:
        if depth > _DEEPEST:
            raise Unfit(f"It is nested deeper than {_DEEPEST} levels.", "Register the server by hand.")
        node = _Node(self._at)
        if self._take("{"):
            self._object(node, depth)
        elif self._take("["):
            self._array(node, depth)
        elif self._text.startswith('"', self._at):
            node.value = self._string()
        else:
            node.value = self._scalar()
        node.end = self._last = self._at
        return node

    def _object(self, node: _Node, depth: int) -> None:
        node.value = {}
        self._space()
        while not self._text.startswith("}", self._at):
            self._after_comma(node, "a comma or }")
            if not self._text.startswith('"', self._at):
                raise self._wrong("a name in double quotes")
            start, key = self._at, self._string()
            self._space()
            if not self._take(":"):
                raise self._wrong("a colon")
            self._space()
            self._member(node, key, start, depth)
            node.value[key] = node.members[-1].node.value
        self._close(node)

    def _array(self, node: _Node, depth: int) -> None:
        node.value = []
        self._space()
        while not self._text.startswith("]", self._at):
            self._after_comma(node, "a comma or ]")
            self._member(node, str(len(node.members)), self._at, depth)
            node.value.append(node.members[-1].node.value)
        self._close(node)

    def _after_comma(self, node: _Node, expected: str) -> None:
        if node.members and node.members[-1].comma is None:
            raise self._wrong(expected)

    def _member(self, node: _Node, key: str, start: int, depth: int) -> None:
        member = _Member(key, start, self._value(depth + 1))
        self._space()
        comma = self._at
        if self._take(","):
            member.comma = comma
            self._space()
        node.members.append(member)

    def _close(self, node: _Node) -> None:
        if node.members and node.members[-1].comma is not None and not self._trailing:
            raise self._wrong("something more after the comma")
        node.inner = self._last
        self._at += 1

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        if not found:
            raise self._wrong("a string that ends")
        try:
            value: str = json.loads(found[0])
        except ValueError:
            raise self._wrong("a string with proper escapes") from None
        self._at = self._last = found.end()
        return value

    def _scalar(self) -> Any:
        found = _WORD.match(self._text, self._at)
        word = found[0] if found else ""
        number = _NUMBER.fullmatch(word)
        if word not in _WORDS and not number:
            raise self._wrong("a value")
        self._at += len(word)
        if not number:
            return _WORDS[word]
        # Python refuses to convert integers of thousands of digits; nobody compares those.
        return float(word) if number[1] or number[2] or len(word) > _LONGEST_NUMBER else int(word)


def _scan(text: str, dialect: Dialect) -> _Node:
    if not text.strip():
        return _Node(0, 0, {})
    root = _Scanner(text, dialect).document()
    if not isinstance(root.value, dict):
        raise Unfit("It is no object.", "Mend it, and run this again.")
    return root


def read(text: str, dialect: Dialect) -> dict[str, Any]:
    """Return what it says; a blank text says nothing. Raises Unfit for what is no such JSON."""
    found: dict[str, Any] = _scan(text, dialect).value
    return found


def _find(root: _Node, path: Path) -> _Member | None:
    """Return the member, or None. Raises Unfit where the way is blocked or not clear."""
    node, found = root, None
    for place, key in enumerate(path):
        if not isinstance(node.value, dict | list):
            raise Unfit(f"{_shown(path[:place])} is no object.", "Mend it, and run this again.")
        named = [member for member in node.members if member.key == key]
        if len(named) > 1:
            raise Unfit(f"{_shown(path[: place + 1])} stands there twice.", "Remove one of them, and run this again.")
        if not named:
            return None
        found = named[0]
        node = found.node
    return found


def _shown(path: Path) -> str:
    return json.dumps(".".join(path), ensure_ascii=False)


# -- writing


def put(text: str, path: Path, value: Any, dialect: Dialect) -> tuple[str, Trace]:
    """Set what is at the path; objects on the way are made when they are not there.

    Of an array, the path has the place of an element; the one behind the last is appended.

    Returns the text, and what `take` needs to undo an insertion to the byte. Raises Unfit.
    """
    root = _scan(text, dialect)
    if not text.strip():
        expected = _with({}, path, value)
        fresh = _Style(text, root).rendered(expected, "") + "\n"
        return _sure(text + fresh, expected, dialect), Trace(len(path) - 1, blank=text)
    member = _find(root, path)
    if member and repr(member.node.value) == repr(value):
        return text, Trace()
    expected = _with(root.value, path, value)
    if member:
        edited, trace = _replaced(text, root, member, value), Trace()
    else:
        depth = len(path) - 1
        while depth and not _find(root, path[:depth]):
            depth -= 1
        holder = _holder(root, path[: depth + 1])
        for key in reversed(path[depth + 1 :]):
            value = {key: value}
        hollow = None if holder.members else text[holder.start + 1 : holder.end - 1]
        edited = _inserted(text, root, holder, path[depth], value)
        trace = Trace(len(path) - 1 - depth, hollow)
    return _sure(edited, expected, dialect), trace


def take(text: str, path: Path, dialect: Dialect, trace: Trace | None = None) -> str:
    """Remove what is at the path, with the objects that `put` had made for it if nothing else is in them by now.

    Raises Unfit.
    """
    trace = trace or Trace()
    root = _scan(text, dialect)
    if not _find(root, path):
        return text
    made = trace.created
    while made and len(_holder(root, path).members) == 1:
        path, made = path[:-1], made - 1
    holder = _holder(root, path)
    expected = _without(root.value, path)
    if made == 0 and trace.blank is not None and not expected:
        return trace.blank
    hollow = trace.hollow if made == 0 else None
    for candidate in _removals(text, holder, path[-1], hollow):
        try:
            return _sure(candidate, expected, dialect)
        except Unfit:
            continue
    raise Unfit(f"{_shown(path)} cannot be taken out without touching the rest.", "Remove it by hand.")


def _sure(text: str, expected: Mapping[str, Any], dialect: Dialect) -> str:
    """Return the text if it says what is expected, in the same order and of the same types."""
    if repr(read(text, dialect)) != repr(expected):
        raise Unfit("The file is written in a way that cannot be edited safely.", "Register the server by hand.")
    return text


def _holder(root: _Node, path: Path) -> _Node:
    """Return the object that has, or is to have, the last of the path as a member."""
    member = _find(root, path[:-1])
    node = member.node if member else root
    if not isinstance(node.value, dict | list):
        raise Unfit(f"{_shown(path[:-1])} is no object.", "Mend it, and run this again.")
    return node


def _with(value: Any, path: Path, new: Any) -> Any:
    key, *rest = path
    if isinstance(value, list):
        place = int(key)
        inner = _with(value[place], rest, new) if rest else new
        return [*value[:place], inner, *value[place + 1 :]]
    return {**value, key: _with(value.get(key, {}), rest, new) if rest else new}


def _without(value: Any, path: Path) -> Any:
    key, *rest = path
    if isinstance(value, list):
        place = int(key)
        return [*value[:place], *([_without(value[place], rest)] if rest else []), *value[place + 1 :]]
    if not rest:
        return {name: each for name, each in value.items() if name != key}
    return {**value, key: _without(value[key], rest)}


class _Style:
    """How this text is written."""

    def __init__(self, text: str, root: _Node) -> None:
        self._text = text
        first = text.find("\n")
        self.line_end = "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"
        indents = [self.indent(member.start) for member in root.members if self.begins_line(member.start)]
        self.unit = next(filter(None, indents), "  ")

    def begins_line(self, at: int) -> bool:
        return not self._text[self._text.rfind("\n", 0, at) + 1 : at].strip(" \t") and "\n" in self._text[:at]

    def indent(self, at: int) -> str:
        """Return the white space with which the line of this place begins."""
        found = _INDENT.match(self._text, self._text.rfind("\n", 0, at) + 1)
        return found[0] if found else ""

    def rendered(self, value: Any, indent: str) -> str:
        """Write it over several lines, of which all but the first have this indent."""
        shown = json.dumps(value, ensure_ascii=False, indent=self.unit)
        return shown.replace("\n", self.line_end + indent)


def _one_line(value: Any, *, dense: bool) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":") if dense else (", ", ": "))


def _replaced(text: str, root: _Node, member: _Member, value: Any) -> str:
    style, node = _Style(text, root), member.node
    dense = text[node.start - 1] == ":"
    wide = style.begins_line(member.start)
    shown = style.rendered(value, style.indent(member.start)) if wide else _one_line(value, dense=dense)
    return text[: node.start] + shown + text[node.end :]


def _inserted(text: str, root: _Node, holder: _Node, key: str, value: Any) -> str:
    style = _Style(text, root)
    named = isinstance(holder.value, dict)
    name = f"{json.dumps(key, ensure_ascii=False)}: " if named else ""
    if holder.members:
        first, last = holder.members[0], holder.members[-1]
        if not style.begins_line(first.start):
            dense = text[first.node.start - 1] == ":"
            shown = _one_line({key: value} if named else [value], dense=dense)[1:-1]
            gap = "" if dense else " "
            if last.comma is None:
                return f"{text[: last.node.end]},{gap}{shown}{text[last.node.end :]}"
            return f"{text[: last.comma + 1]}{gap}{shown},{text[last.comma + 1 :]}"
        indent = style.indent(last.start if style.begins_line(last.start) else first.start)
        shown = f"{style.line_end}{indent}{name}{style.rendered(value, indent)}"
        end = last.node.end if last.comma is None else last.comma + 1
        place = _end_of_line(text, end)
        if last.comma is None:
            return f"{text[:end]},{text[end:place]}{shown}{text[place:]}"
        return f"{text[:place]}{shown},{text[place:]}"
    if holder is not root and "\n" not in text.strip():
        shown = _one_line({key: value} if named else [value], dense=text[holder.start - 1] == ":")[1:-1]
        return text[: holder.inner] + shown + text[holder.inner :]
    outer = style.indent(holder.start)
    indent = outer + style.unit
    shown = f"{style.line_end}{indent}{name}{style.rendered(value, indent)}"
    if "\n" not in text[holder.inner : holder.end - 1]:
        shown += style.line_end + outer
    return text[: holder.inner] + shown + text[holder.inner :]


def _end_of_line(text: str, at: int) -> int:
    """Return the place behind the comments that follow on the same line: they belong to what is before them."""
    while True:
        space = _INDENT.match(text, at)
        comment = _COMMENT.match(text, space.end() if space else at)
        if not comment or "\n" in comment[0]:
            return at
        at = comment.end()


def _removals(text: str, holder: _Node, key: str, hollow: str | None) -> Iterator[str]:
    """Yield what the text may be without the member, best first; not each is valid."""
    index = next(place for place, each in enumerate(holder.members) if each.key == key)
    member = holder.members[index]
    start = member.start
    end = member.node.end if member.comma is None else member.comma + 1
    line_end = text.rfind("\n", 0, start)
    begins_line = line_end >= 0 and not text[line_end:start].strip()
    # From the end of the line before on, so that no empty line is left.
    whole = (line_end - (text[line_end - 1 : line_end] == "\r")) if begins_line else start
    if len(holder.members) == 1:
        opening, closing = holder.start + 1, holder.end - 1
        left = text[opening:start] + text[end:closing]
        if hollow is not None and _dense(left) == _dense(hollow):
            yield text[:opening] + hollow + text[closing:]
        if not left.strip():
            yield text[:opening] + text[closing:]
    elif index == len(holder.members) - 1:
        before = whole if begins_line else len(text[:start].rstrip(" \t"))
        comma = holder.members[index - 1].comma
        if member.comma is None and comma is not None:
            yield text[:comma] + text[comma + 1 : before] + text[end:]
            yield text[:comma] + text[comma + 1 : start] + text[end:]
        else:
            yield text[:before] + text[end:]
    elif not begins_line or text[end : holder.members[index + 1].start].find("\n") < 0:
        yield text[:start] + text[end:].lstrip(" \t")
    yield text[:whole] + text[end:]
    yield text[:start] + text[end:]


def _dense(text: str) -> str:
    return "".join(text.split())
