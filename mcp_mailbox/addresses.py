"""Addresses: how a mailbox or a channel is named, and which names there can be.

An address is `name@space` (RFC 5321's shape, our own alphabet), a channel's `#name@space`. Rules for names live here
and nowhere else; whether a mailbox of that name exists, and whose it is, this module refuses to know.

A name has 1 to 64 letters and digits of any script, with `.`, `_` and `-` between them. It must be what the PRECIS
profile UsernameCasePreserved (RFC 8265 section 3.4) makes of it, so that what one chooses is kept to the letter or
refused. Two names are the same when their case folds alike, and too alike when their skeletons (Unicode Technical
Standard 39 section 4) are equal, folded or as written.
"""

from __future__ import annotations

import sys
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache

from mcp_mailbox.errors import Code, Refusal

DEFAULT_SPACE = "default"
"""The space of bare names, unless somebody says another."""
NAME_LIMIT = 64
"""Characters in a name, and in a space."""

CHANNEL_MARK = "#"
"""Begins the name in a channel's address, and in no mailbox's."""
_PUNCTUATION = "._-"
_ALPHABET = "letters and digits of any script, with . _ - between them"


@dataclass(frozen=True, slots=True)
class Address:
    """Where mail goes: `name@space`."""

    name: str
    space: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", sys.intern(self.space))  # of ten thousand mailboxes it is one text

    def __str__(self) -> str:
        return f"{self.name}@{self.space}"

    @property
    def folded(self) -> str:
        """The name as it is compared."""
        return fold(self.name)

    @property
    def compared(self) -> str:
        """The whole address as it is compared."""
        return f"{self.folded}@{self.space}"

    @property
    def is_channel(self) -> bool:
        """Whether it names a channel: a name that fans out."""
        return self.name.startswith(CHANNEL_MARK)


def parse_any(text: str, space: str) -> Address:
    """Read the address of a mailbox or of a channel. Raises Refusal(BAD_NAME)."""
    if not text.startswith(CHANNEL_MARK):
        return parse(text, space)
    channel = parse(text.removeprefix(CHANNEL_MARK), space)
    return Address(CHANNEL_MARK + channel.name, channel.space)


def parse_channel(text: str, space: str) -> Address:
    """Read the address of a channel, whose mark may be left out. Raises Refusal(BAD_NAME)."""
    return parse_any(CHANNEL_MARK + text.removeprefix(CHANNEL_MARK), space)


def parse(text: str, space: str) -> Address:
    """Read a mailbox's `name` or `name@space`; a bare name lives in `space`.

    Raises Refusal(BAD_NAME) with what is wrong with it.
    """
    name, at, rest = text.partition("@")
    if at and rest and not name:
        raise Refusal(Code.BAD_NAME, f"{_shown(text)} has no name before the @.", "An address is name or name@space.")
    if at and "@" in rest:
        raise Refusal(Code.BAD_NAME, f"{_shown(text)} has more than one @.", "An address is name@space.")
    return Address(check_name(name), check_name(rest, "space") if at else space)


@lru_cache(maxsize=4096)
def check_name(name: str, what: str = "name") -> str:
    """Return `name` unchanged, or raise Refusal(BAD_NAME) with the reason."""
    if not name:
        raise Refusal(Code.BAD_NAME, f"The {what} is empty.", f"A {what} has {_ALPHABET}, at most {NAME_LIMIT}.")
    if len(name) > NAME_LIMIT:
        raise Refusal(Code.BAD_NAME, f"The {what} has {len(name)} characters.", f"At most {NAME_LIMIT} are allowed.")
    for character in name:
        if not (_is_alphanumeric(character) or character in _PUNCTUATION):
            raise Refusal(
                Code.BAD_NAME,
                f"The {what} {_shown(name)} contains {_named(character)}.",
                f"A {what} has {_ALPHABET}{_such_as(name)}.",
            )
    if name[0] in _PUNCTUATION or name[-1] in _PUNCTUATION or ".." in name:
        raise Refusal(
            Code.BAD_NAME,
            f"The {what} {_shown(name)} has punctuation at an end or two dots in a row.",
            f"A {what} has {_ALPHABET}.",
        )
    if unicodedata.category(name[0])[0] == "M":
        # RFC 5891 section 4.2.3.2, for the same reason: it would sit on whatever is written before the name.
        raise Refusal(
            Code.BAD_NAME,
            f"The {what} {_shown(name)} begins with {_named(name[0])}.",
            "Begin with a letter or a digit.",
        )
    _check_precis(name, what)
    return name


def fold(name: str) -> str:
    """Return the form that is compared: case-folded, then normalised again (folding can undo NFC)."""
    folded = unicodedata.normalize("NFC", name.casefold())
    return name if folded == name else folded  # what is kept of very many mailboxes is kept once of each


def skeletons(name: str) -> tuple[str, str]:
    """Return what the name looks like, in lower and in upper case; equal skeletons look alike.

    The second is empty for ASCII names: in capitals worker1 and workeri would look alike, and nobody writes to
    either in capitals; a foreign letter that looks like an ASCII one only as a capital is caught by it.
    """
    folded = fold(name)
    return _skeleton(folded), "" if folded.isascii() else _skeleton(folded.upper())


def written_skeleton(name: str) -> str:
    """Return what the name looks like as it is written, in lower case: aIice has a capital I, which looks like an l.

    Case is folded only once it is known what each letter looks like: folded first, I is an i and O an o.
    """
    return _skeleton(fold(_skeleton(name)))


def upper_skeleton(name: str) -> str:
    """Return what the name looks like in capitals, ASCII names included: what foreign names are held against."""
    return _skeleton(fold(name).upper())


def _check_precis(name: str, what: str) -> None:
    from precis_i18n import get_profile  # noqa: PLC0415 - only names that are new pay for its tables

    try:
        enforced = get_profile("UsernameCasePreserved").enforce(name)
    except UnicodeEncodeError as error:
        raise Refusal(
            Code.BAD_NAME,
            f"The {what} {_shown(name)} mixes characters that may not stand together ({error.reason}).",
            "RFC 8265 says which may; letters of one script are safe.",
        ) from None
    if enforced != name:
        raise Refusal(
            Code.BAD_NAME,
            f"The {what} {_shown(name)} is not in its normal form.",
            f"Write it as {enforced!r}.",
        )


def _is_alphanumeric(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"


def _named(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, 'a control character')}".lower()


def _such_as(name: str) -> str:
    """Return a name like it that there can be, where one is near, to end a hint with."""
    words = "".join(character if _is_alphanumeric(character) else " " for character in name).split()
    near = "-".join(words)
    return f", such as {near!r}" if len(words) > 1 and near.isascii() else ""


def _shown(text: str) -> str:
    return ascii(text if len(text) <= NAME_LIMIT else text[:NAME_LIMIT] + "…")


def _skeleton(text: str) -> str:
    table = _prototypes()
    decomposed = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFD", "".join(table.get(character, character) for character in decomposed))


@cache
def _prototypes() -> dict[str, str]:
    """Map each character that looks like another to one representative of all that look alike.

    The library lists pairs without a direction, so its classes are joined here; `m` and the like map to the letters
    that they imitate (`rn`).
    """
    from confusable_homoglyphs import confusables  # noqa: PLC0415 - 60 ms, and only for a new name

    parent: dict[str, str] = {}
    sequences: dict[str, str] = {}

    def root(character: str) -> str:
        while parent.get(character, character) != character:
            character = parent[character]
        return character

    for character, alike in confusables.confusables_data.items():
        for entry in alike:
            other = entry["c"].replace("\u200e", "")
            if len(character) == 1 and len(other) == 1:
                low, high = sorted((root(character), root(other)))
                parent[high] = low
            elif len(character) == 1 and len(alike) == 1 and character.isascii():
                sequences[character] = other
    return {character: root(character) for character in parent} | sequences
