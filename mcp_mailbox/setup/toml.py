"""Edits of TOML that leave every other byte alone: `put` sets a table, `take` removes it; the text comes back whole.

A new table is appended, since a table may stand anywhere. tomlkit writes values, and edits what is written inline or
with dots. Tables with a heading it does not edit here, because of what was seen of it: a removed table takes along the
comments behind it, which are about the next one, new keys come behind those, and new lines end without CR in a file
that has it. Those are edited by the statements of the text instead. Each result is read again by the standard
library's parser and compared with what it should say. Knows no host and no file.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_mailbox.setup.trouble import Unfit

Path = Sequence[str]

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*|[\[{]|[\]}]|\n|[^\"'\#\[\]{}\n]+",
    re.DOTALL,
)
_ASSIGNED = re.compile(r"[ \t]*[A-Za-z0-9_-]+[ \t]*=[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def read(text: str) -> dict[str, Any]:
    """Return what it says. Raises Unfit for what is no TOML."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Unfit(f"{str(error) or 'it is nested too deeply'}.", "Mend it, and run this again.") from None


@dataclass(frozen=True, slots=True)
class Trace:
    """What `take` must know to leave the text as `put` had found it."""

    unended: bool = False
    """Whether the last line had no end."""


def put(text: str, path: Path, entry: Mapping[str, Any]) -> tuple[str, Trace]:
    """Set the table at the path; return the text, and what `take` needs to undo that to the byte. Raises Unfit."""
    before = read(text)
    there = _at(before, path)
    if there is not None and _same(there, dict(entry)):
        return text, Trace()
    expected = _with(before, path, dict(entry))
    trace = Trace(unended=there is None and text != "" and not text.endswith("\n"))
    with contextlib.suppress(Unfit):
        edited = (_revised if there is not None else _appended)(text, path, entry)
        if _says(edited, expected):
            return edited, trace
    for edited in _placed(text, path, entry):
        if _says(edited, expected):
            return edited, trace
    raise Unfit(f"{_dotted(path[:-1])} is written in a way that cannot be edited safely.", "Register it by hand.")


def take(text: str, path: Path, trace: Trace | None = None) -> str:
    """Remove the table at the path. Raises Unfit."""
    before = read(text)
    if _at(before, path) is None:
        return text
    expected = _without(before, path)
    # The tables above may have been there by this one's name alone.
    fits = (expected, _pruned(expected, path[:-1]))
    for candidate in itertools.chain(_cut(text, path), _plucked(text, path)):
        if _says(candidate, *fits):
            at_the_end = candidate != text and text.startswith(candidate)
            return candidate.rstrip("\r\n") if trace and trace.unended and at_the_end else candidate
    raise Unfit(f"{_dotted(path)} cannot be taken out without touching the rest.", "Remove it by hand.")


def rendered(path: Path, entry: Mapping[str, Any]) -> str:
    """Return the table as text that can be appended to any file."""
    lines = [f"[{_dotted(path)}]"]
    lines += [_assignment(key, value) for key, value in entry.items()]
    return "".join(f"{line}\n" for line in lines)


# -- what the text says


def _says(text: str, *expected: Mapping[str, Any]) -> bool:
    """Tell whether it says one of these."""
    try:
        said = read(text)
    except Unfit:
        return False
    return any(_same(said, each) for each in expected)


def _same(one: Any, other: Any) -> bool:
    """Whether both say the same, in whatever order tables stand; of the same types, and nan is nan."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return repr(one) == repr(other)


def _at(value: Any, path: Path) -> Any:
    for key in path:
        if not isinstance(value, dict):
            raise Unfit(f"{_dotted(path[:-1])} is no table.", "Mend it, and run this again.")
        if key not in value:
            return None
        value = value[key]
    return value


def _with(value: Mapping[str, Any], path: Path, new: Any) -> dict[str, Any]:
    inner = new if len(path) == 1 else _with(value.get(path[0], {}), path[1:], new)
    return {**value, path[0]: inner}


def _without(value: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if len(path) == 1:
        return {key: each for key, each in value.items() if key != path[0]}
    return {**value, path[0]: _without(value[path[0]], path[1:])}


def _pruned(value: dict[str, Any], path: Path) -> dict[str, Any]:
    while path and _at(value, path) == {}:
        value, path = _without(value, path), path[:-1]
    return value


# -- how it is written


def _assignment(key: str, value: Any) -> str:
    import tomlkit  # noqa: PLC0415 - as below

    return f"{_key(key)} = {tomlkit.item(_inline(value)).as_string()}"


def _key(key: str) -> str:
    import tomlkit  # noqa: PLC0415 - 30 ms, which only those pay who have a host with such a file

    return key if _BARE.fullmatch(key) else tomlkit.item(key).as_string()


def _dotted(path: Path) -> str:
    return ".".join(map(_key, path))


def _inline(value: Any) -> Any:
    import tomlkit  # noqa: PLC0415 - as above

    if not isinstance(value, Mapping):
        return value
    table = tomlkit.inline_table()
    table.update(value)
    return table


def _line_end(text: str) -> str:
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"


def _appended(text: str, path: Path, entry: Mapping[str, Any]) -> str:
    line_end = _line_end(text)
    block = rendered(path, entry).replace("\n", line_end)
    if not text:
        return block
    gap = "" if text.endswith("\n") else line_end
    return f"{text}{gap}{line_end}{block}"


def _revised(text: str, path: Path, entry: Mapping[str, Any]) -> str:
    """Change a table that has a heading of its own, line by line."""
    heading, lines = _section(text, path)
    end = max((line.end for line in lines if not line.silent), default=heading.end)
    line_end = _line_end(text)
    edits: list[tuple[int, int, str]] = []
    written = {_names(line)[0]: line for line in lines if not line.silent}
    there = _at(read(text), path)
    for key, line in written.items():
        if key not in entry:
            edits.append((line.start, line.end, ""))
        elif not _same(there[key], entry[key]):
            edits.append((line.start, line.end, _rewritten(text[line.start : line.end], entry[key])))
    fresh = "".join(f"{_assignment(key, entry[key])}{line_end}" for key in entry if key not in there)
    if fresh and not text[:end].endswith("\n"):
        fresh = line_end + fresh.removesuffix(line_end)
    edits.append((end, end, fresh))
    for start, behind, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[behind:]
    for key in there.keys() - written.keys():
        if key not in entry:
            text = next(_cut(text, [*path, key]), text)
        elif not _same(there[key], entry[key]):
            text = _revised(text, [*path, key], entry[key])
    return text


def _section(text: str, path: Path) -> tuple[_Statement, list[_Statement]]:
    """Return the heading of the table, and what stands under it."""
    found: list[tuple[_Statement, list[_Statement]]] = []
    inside = False
    for statement in _statements(text):
        if statement.heading:
            inside = _names(statement) == list(path)
            if inside:
                found.append((statement, []))
        elif inside:
            found[-1][1].append(statement)
    if len(found) != 1:
        raise Unfit(f"{_dotted(path)} has no heading of its own.", "Register it by hand.")
    return found[0]


def _rewritten(line: str, value: Any) -> str:
    """Return the line with another value, and with the comment that it had."""
    import tomlkit  # noqa: PLC0415 - as above

    key = _ASSIGNED.match(line)
    *_, last = (token[0] for token in _TOKEN.finditer(line.rstrip()))
    if not key:
        raise Unfit("The file is written in a way that cannot be edited safely.", "Register it by hand.")
    comment = f" {last}" if last.startswith("#") else ""
    ending = line[len(line.rstrip()) :]
    return f"{key[0]}{tomlkit.item(_inline(value)).as_string()}{comment}{ending}"


def _placed(text: str, path: Path, entry: Mapping[str, Any]) -> Iterator[str]:
    """Have tomlkit edit a table that is there, or that belongs into one that is written inline."""

    def edit(holder: Any) -> None:
        if path[-1] not in holder:
            holder[path[-1]] = _inline(entry)
            return
        table = holder[path[-1]]
        for key in [key for key in table if key not in entry]:
            del table[key]
        for key, value in entry.items():
            if key not in table or not _same(_plain(table[key]), value):
                table[key] = _inline(value)

    return _edited(text, path, edit)


def _plucked(text: str, path: Path) -> Iterator[str]:
    """Have tomlkit remove what is no table with a heading of its own."""

    def edit(holder: Any) -> None:
        del holder[path[-1]]

    return _edited(text, path, edit)


def _edited(text: str, path: Path, edit: Callable[[Any], None]) -> Iterator[str]:
    """Have tomlkit edit the table that has the last of the path, in each part of the text where it is.

    It sees a part alone, from one heading to the next: of a whole text it moves tables of an array that stand apart.
    """
    import tomlkit  # noqa: PLC0415 - as above

    for start, end in itertools.pairwise(_bounds(text)):
        part = text[start:end]
        try:
            document = tomlkit.parse(part)
            if document.as_string() != part:
                continue
            holder: Any = document
            for key in path[:-1]:
                holder = holder[key]
            edit(holder)
        # It has exceptions of its own, and lets Python's through for tables that stand in pieces.
        except (LookupError, TypeError, ValueError, AttributeError, NotImplementedError):
            continue
        yield text[:start] + _restored(text, document.as_string()) + text[end:]


def _plain(value: Any) -> Any:
    return value.unwrap() if hasattr(value, "unwrap") else value


def _restored(before: str, after: str) -> str:
    """Give new lines the ends that all others have."""
    all_alike = before.count("\n") == before.count("\r\n") > 0
    return re.sub(r"(?<!\r)\n", "\r\n", after) if all_alike else after


# -- statements


@dataclass(slots=True)
class _Statement:
    """A line, or several when a value goes on: a table's heading, a key with its value, or nothing but a comment."""

    start: int
    end: int
    text: str

    @property
    def heading(self) -> bool:
        return self.text.startswith("[")

    @property
    def silent(self) -> bool:
        return not self.text or self.text.startswith("#")


def _statements(text: str) -> Iterator[_Statement]:
    """Go through a valid text."""
    start, depth = 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        elif token[0] == "\n" and depth == 0:
            yield _Statement(start, token.end(), text[start : token.end()].strip())
            start = token.end()
    if start < len(text):
        yield _Statement(start, len(text), text[start:].strip())


def _bounds(text: str) -> list[int]:
    """Return where the text begins, each heading of it, and where it ends."""
    return [0, *(each.start for each in _statements(text) if each.heading and each.start), len(text)]


def _names(statement: _Statement) -> list[str]:
    """Return the keys that a heading, or a key with its value, leads through."""
    found: Any = tomllib.loads(statement.text)
    names: list[str] = []
    while isinstance(found, dict) and len(found) == 1:
        ((name, found),) = found.items()
        names.append(name)
    return names


def _cut(text: str, path: Path) -> Iterator[str]:
    """Cut out the tables with a heading at the path or below it, if there are any.

    The comments behind the last value stay: they are about what comes next.
    """
    wanted = list(path)
    spans: list[tuple[int, int]] = []
    start: int | None = None
    end = 0
    for statement in _statements(text):
        if statement.heading:
            if start is not None:
                spans.append((start, end))
            start = statement.start if _names(statement)[: len(wanted)] == wanted else None
            end = statement.end
        elif not statement.silent:
            end = statement.end
    if start is not None:
        spans.append((start, end))
    for start, end in reversed(spans):
        text = _closed(text[:start], text[end:])
    if spans:
        yield text


def _closed(before: str, after: str) -> str:
    """Join what a table stood between, without the empty line that parted it from what is before it."""
    if before.endswith(("\n\n", "\n\r\n")) and (not after or after.startswith(("\n", "\r\n"))):
        before = before.removesuffix("\n").removesuffix("\r")
    return before + after
