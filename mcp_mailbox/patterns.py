"""File patterns: how one is spelled, which paths it covers, and when two of them can meet.

A name is read as a pattern of paths below a project's root: `*` and `?` stay within a segment, `**` stands for any
number of segments, `[…]` for one character; with a slash at its end it is a folder and all that is below. Unlike in
gitignore, every pattern begins at the root. Case counts. In a segment with square brackets these may also stand for
themselves: `pages/[id].tsx` is a file's name far more often than a class. A plain name such as `release-lock` is the
pattern of itself. Who holds what, and for how long, this module refuses to know.

Whether a name without a slash is a file or a folder no pattern tells. One with an extension is a file until something
goes through it: the path of a file (`docs/v1.2/a.md`), or a pattern that spells it out. Any other may be a folder, and
stands for what is below, too: who reserves `src` means all of it, and is not to learn otherwise from a merge.

Whether two patterns meet is decided exactly, never guessed: both are walked at once, the places that can be reached in
one being the bits of a number while the other is read from left to right, first by segments, and by characters where
both have a segment with wildcards. So no pattern makes a walk long, as it would a search that tries and turns back.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, takewhile
from typing import NamedTuple, TypeVar

from mcp_mailbox.errors import Code, Refusal

NAME_LIMIT = 200
"""Characters in a name."""
WILDCARD_LIMIT = 12
"""Wildcards in a name."""

T = TypeVar("T")
_MANY = None
"""Any number of characters in a segment, or of segments in a pattern; of nothing, too."""

_LAST = 0x10FFFF
_DEEP = "**"


class _Token(NamedTuple):
    """One character out of these ranges, which are in order and apart."""

    ranges: tuple[tuple[int, int], ...]

    @property
    def single(self) -> bool:
        """Whether there is but one."""
        return len(self.ranges) == 1 and self.ranges[0][0] == self.ranges[0][1]

    def meets(self, other: _Token) -> bool:
        """Tell whether they have a character in common."""
        return any(max(low, least) <= min(high, most) for low, high in self.ranges for least, most in other.ranges)


@dataclass(frozen=True, slots=True)
class _Segment:
    """What stands between two slashes. Without `readings` it matches its text alone."""

    text: str
    readings: tuple[_Reading, ...] = ()


def spell(name: str) -> str:
    """Return the one spelling of a name, in which equal ones are equal. Raises Refusal(BAD_NAME)."""
    text = unicodedata.normalize("NFC", name.strip()).replace("\\", "/")
    _check(text)
    segments: list[str] = []
    for segment in text.split("/"):
        if segment in {"", "."} or (segment == _DEEP and segments[-1:] == [_DEEP]):
            continue
        if segment == "..":
            raise Refusal(Code.BAD_NAME, f"{_shown(text)} leads out of the project.", "Leave out `..`.")
        segments.append(segment if segment == _DEEP else _without_runs(segment))
    folder = text.endswith("/") or segments[-1:] == [_DEEP]
    while segments and segments[-1] == _DEEP:  # a folder is what is below it
        segments.pop()
    if not segments:
        return _DEEP
    return "/".join(segments) + ("/" if folder else "")


def covers(pattern: str, path: str) -> bool:
    """Tell whether a file's path, whose characters all stand for themselves, is one of the pattern's, or below one."""
    literal = tuple(_Segment(segment) for segment in unicodedata.normalize("NFC", path).split("/"))
    own = _segments(pattern)
    return not _apart(own, literal) and _paths_meet((*own, _MANY), literal)


def overlap(one: str, other: str) -> bool:
    """Tell whether there can be a path of both, or one goes through the other; both spelled as `spell` does."""
    mine, theirs = _segments(one), _segments(other)
    if _apart(mine, theirs):
        return False
    if one == other or _paths_meet(mine, theirs):
        return True
    return _goes_through(mine, theirs) or _goes_through(theirs, mine)


def _check(text: str) -> None:
    if not text:
        raise Refusal(Code.BAD_NAME, "A name is empty.", "Name what you hold: release-lock, docs/, src/**/*.py.")
    if len(text) > NAME_LIMIT:
        raise Refusal(Code.BAD_NAME, f"A name has {len(text)} characters.", f"At most {NAME_LIMIT} are allowed.")
    if not text.isprintable():
        raise Refusal(Code.BAD_NAME, f"{_shown(text)} has characters that cannot be shown.", "Leave them out.")
    if text.startswith(("/", "~/")) or (text[1:3] == ":/" and text[0].isalpha()):
        raise Refusal(Code.BAD_NAME, f"{_shown(text)} is an absolute path.", "Paths begin at the project's root.")
    if text.startswith("!"):
        raise Refusal(Code.BAD_NAME, f"{_shown(text)} would leave something out.", "Name what you do want to hold.")
    for group in text.split("{")[1:]:
        if "," in group.partition("}")[0] and "}" in group:
            raise Refusal(Code.BAD_NAME, f"{_shown(text)} has alternatives in braces.", "Give one name for each.")
    if sum(text.count(wildcard) for wildcard in "*?[") > WILDCARD_LIMIT:
        raise Refusal(Code.BAD_NAME, f"{_shown(text)} has too many wildcards.", f"At most {WILDCARD_LIMIT} will do.")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= NAME_LIMIT else text[:NAME_LIMIT] + "…")


def _without_runs(segment: str) -> str:
    """Two stars that do not fill a segment are one (gitignore(5)), unless a bracket makes characters of them."""
    if "[" in segment:
        return segment
    return "".join("*" if character == "*" else "".join(run) for character, run in groupby(segment))


# -- reading


@lru_cache(maxsize=4096)
def _segments(pattern: str) -> tuple[_Segment | None, ...]:
    """Return the pattern's segments, and for what may be a folder those of all that is below."""
    segments = [_MANY if text == _DEEP else _segment(text) for text in pattern.rstrip("/").split("/")]
    last = pattern.rpartition("/")[2]  # nothing behind a slash
    return tuple(segments) if "." in last.lstrip(".") or last == _DEEP else (*segments, _MANY)


def _segment(text: str) -> _Segment:
    if not any(wildcard in text for wildcard in "*?["):
        return _Segment(text)
    readings = dict.fromkeys((_tokens(text, classes=True), _tokens(text, classes=False)))
    return _Segment(text, tuple(_Reading(tokens) for tokens in readings if _NONE not in tokens))


def _tokens(text: str, *, classes: bool) -> tuple[_Token | None, ...]:
    tokens: list[_Token | None] = []
    place = 0
    while place < len(text):
        end = _class_end(text, place) if classes else 0
        if end:
            tokens.append(_class(text[place + 1 : end]))
            place = end
        elif text[place] != "*":
            tokens.append(_ANY if text[place] == "?" else _literal(text[place]))
        elif not tokens or tokens[-1] is not None:
            tokens.append(_MANY)
        place += 1
    return tuple(tokens)


@lru_cache(maxsize=4096)
def _literal(character: str) -> _Token:
    return _Token(((ord(character), ord(character)),))


def _class_end(text: str, begin: int) -> int:
    """Return where the class that begins here ends; 0 when none does. A bracket that comes first in it is in it."""
    if text[begin] != "[":
        return 0
    first = begin + 2 if text[begin + 1 : begin + 2] in {"!", "^"} else begin + 1
    return max(0, text.find("]", first + 1))


def _class(inside: str) -> _Token:
    """Return the characters of a class, of `a-z_` as of `!a-z_`; never a slash."""
    negated = inside[0] in "!^"
    members = inside[1:] if negated else inside
    ranges: list[tuple[int, int]] = []
    place = 0
    while place < len(members):
        low = high = members[place]
        if members[place + 1 : place + 2] == "-" and place + 2 < len(members):
            high = members[place + 2]
            place += 2
        ranges.append((ord(low), ord(high)))
        place += 1
    return _complement([*ranges, _SLASH]) if negated else _complement([*_complement(ranges).ranges, _SLASH])


def _complement(ranges: Sequence[tuple[int, int]]) -> _Token:
    return _Token(tuple(_gaps(sorted((low, high) for low, high in ranges if low <= high))))


def _gaps(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    free = 0
    for low, high in ranges:
        if free < low:
            yield free, low - 1
        free = max(free, high + 1)
    if free <= _LAST:
        yield free, _LAST


_SLASH = (ord("/"), ord("/"))
_ANY = _complement([_SLASH])
_NONE = _Token(())


# -- walking


def _walk(one: Sequence[T | None], other: Sequence[T | None], many: int, meeting: Callable[[T, int], int]) -> bool:
    """Tell whether something is described by both: each token by one thing that it can be, None by any number.

    Bit p of `reached` says that `other` may stand before its token p when `one` has been read so far; `many` are the
    places of its None. `meeting` says which of some places hold what a token has something in common with.
    """
    reached = 1 | (many & 1) << 1
    for token in one:
        if token is None:
            reached = (2 << len(other)) - (reached & -reached)  # from the first one on, to the end
            continue
        reached = meeting(token, reached & ~many) << 1 | (reached & many)
        reached |= (reached & many) << 1
        if not reached:
            return False
    return bool(reached >> len(other) & 1)


def _places_of_many(tokens: Sequence[T | None]) -> int:
    return sum(1 << place for place, token in enumerate(tokens) if token is None)


def _apart(one: Sequence[_Segment | None], other: Sequence[_Segment | None]) -> bool:
    """Tell whether they part before the first wildcard: what nearly all pairs come to."""
    for mine, theirs in zip(one, other, strict=False):
        if mine is None or theirs is None or mine.readings or theirs.readings:
            return False
        if mine.text != theirs.text:
            return True
    return False


def _goes_through(one: Sequence[_Segment | None], other: Sequence[_Segment | None]) -> bool:
    """Tell whether the folders that `one` spells out lead to one of the other's paths, or below one."""
    spelt = tuple(takewhile(lambda segment: segment is not None and not segment.readings, one))
    deep_enough = 0 < len(other) - other.count(_MANY) <= len(spelt)
    return deep_enough and _paths_meet((*other, _MANY), spelt)


def _paths_meet(one: Sequence[_Segment | None], other: Sequence[_Segment | None]) -> bool:

    def meeting(segment: _Segment, places: int) -> int:
        found, places = 0, places & (1 << len(other)) - 1
        while places:
            bit = places & -places
            places ^= bit
            each = other[bit.bit_length() - 1]
            if each is not None and _segments_meet(segment, each):
                found |= bit
        return found

    return _walk(one, other, _places_of_many(other), meeting)


def _segments_meet(one: _Segment, other: _Segment) -> bool:
    if not one.readings and not other.readings:
        return one.text == other.text
    for mine in one.readings or _as_written(one.text):
        for theirs in other.readings or _as_written(other.text):
            if not mine.differs(theirs) and _walk(mine.tokens, theirs.tokens, theirs.many, theirs.meeting):
                return True
    return False


@lru_cache(maxsize=4096)
def _as_written(text: str) -> tuple[_Reading]:
    return (_Reading(tuple(_literal(character) for character in text)),)


class _Reading:
    """A segment read one way, and where in it which character can stand."""

    def __init__(self, tokens: tuple[_Token | None, ...]) -> None:
        self.tokens = tokens
        self.many = _places_of_many(tokens)
        self._places: dict[_Token, int] = {}
        for place, token in enumerate(tokens):
            if token is not None:
                self._places[token] = self._places.get(token, 0) | 1 << place
        self._classes = [each for each in self._places if not each.single]

    def differs(self, other: _Reading) -> bool:
        """Tell whether they part at the first character or at the last one, where both have a certain one there."""
        for end in (0, -1):
            mine, theirs = self.tokens[end], other.tokens[end]
            if mine is not None and theirs is not None and mine is not theirs and not mine.meets(theirs):
                return True
        return False

    def meeting(self, token: _Token, places: int) -> int:
        """Return which of these places hold what has a character in common with the token."""
        found = self._places.get(token, 0)
        for each in self._classes if token.single else self._places:
            if token.meets(each):
                found |= self._places[each]
        return found & places
