"""Text of others on a person's screen: every character is shown, none is obeyed.

What a terminal would act on, what turns the direction of text around, and what cannot be seen at all is replaced by
something visible: `␛` for an escape character, `⟨U+202E⟩` for what has no picture. That holds for zero-width joiners
too: an emoji of a family falls into its members, which harms nobody.
"""

from __future__ import annotations

import json
import unicodedata

_ACTING = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Categories of what is not printed as itself: controls, formats, surrogates, and two kinds of line ends."""
_PICTURES = 0x2400
_DELETE = 0x7F


def line(text: str) -> str:
    """Return it as one line: line breaks and tabs are shown as well."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible, text))


def lines(text: str) -> list[str]:
    """Return its lines. Only line feeds end one, alone or behind a carriage return; tabs stay."""
    return ["\t".join(map(line, each.removesuffix("\r").split("\t"))) for each in text.split("\n")]


def beginning(text: str) -> str:
    """Return it as one line whose white space is single spaces, for where there is room for some of it."""
    return line(" ".join(text.split()))


def json_line(answer: object) -> str:
    """Return compact JSON that no terminal acts on; ASCII, so that no program takes U+2028 for the end of a line."""
    return json.dumps(answer, separators=(",", ":")).replace("\x7f", "\\u007f")


def json_page(answer: object) -> str:
    """Return JSON for a person or a program, in several lines."""
    return json.dumps(answer, indent=2).replace("\x7f", "\\u007f")


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if code < ord(" "):
        return chr(_PICTURES + code)
    if code == _DELETE:
        return "\u2421"
    ignorable = 0xE0000 <= code <= 0xE0FFF or 0xFFF0 <= code <= 0xFFF8 or code == 0x2065  # noqa: PLR2004 - Unicode's
    if unicodedata.category(character) in _ACTING or ignorable:
        return f"⟨U+{code:04X}⟩"
    return character  # white space of other scripts, and what is newer than this Python


def width(text: str) -> int:
    """Return how many columns of a terminal it takes (Unicode's East Asian Width; marks take none)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )
