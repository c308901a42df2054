"""How text becomes the words that it is found by, and which line of it to show.

SQLite's tokenizer does most of it, for messages and queries alike. Here is what it does not know: scripts that write
no spaces, and words that are not in the text but about it. What is indexed and where is not known here.
"""

from __future__ import annotations

import re
import unicodedata

TOKENIZER = "unicode61 remove_diacritics 2 categories 'L* M* N* Co'"
"""M*: in Hindi and Thai vowels are marks, and without them a word falls to pieces."""
STEMMER = f"porter {TOKENIZER}"

_MARK = "\ue000"
"""Begins the words about a message. Of private use, so it means nothing, and it is taken out of all text."""
_LINE = 120
"""Characters of an excerpt."""
_BEFORE = 40
"""Characters in front of the first word in it."""
_PLACED = 5
"""Words whose places are looked for, the longest ones: the time that takes is a page's of excerpts."""
_SHORTEST = 3
"""Letters by which the forms of a word are still known."""

# Thai, Lao, Burmese, Khmer, Han, kana, hangul: split where the reader knows the words and a program does not.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+"
)
# Not NFKC: sorting a long run of marks takes it seconds, in which nothing else runs.
_WIDE = re.compile("[\uff01-\uff5e]")
_NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)")


def reader(mailbox: int) -> str:
    """Return the word of all messages that this mailbox may read."""
    return f"{_MARK}r{mailbox}"


def channel(number: int) -> str:
    """Return the word of all messages that were published in this channel."""
    return f"{_MARK}c{number}"


def sender(mailbox: int) -> str:
    """Return the word of all messages that this mailbox sent."""
    return f"{_MARK}s{mailbox}"


def thread(seq: int) -> str:
    """Return the word of all messages in the thread that began with that one."""
    return f"{_MARK}t{seq}"


def window(number: int) -> str:
    """Return the word of all messages in that part of the history."""
    return f"{_MARK}w{number}"


def spread(text: str, *, asked: bool = False) -> str:
    """Return the text as the tokenizer is to see it: where there are no spaces, each two neighbours are a word.

    Single characters are words of a message too, but of what is `asked` only where they stand alone.
    """
    if text.isascii():
        return text
    text = text.replace(_MARK, " ")
    if _WIDE.search(text):
        text = text.translate(_NARROW)
    return _UNSPACED.sub(lambda found: f" {_pairs(found[0], asked=asked)} ", text)


def _pairs(run: str, *, asked: bool) -> str:
    pairs = [run[at : at + 2] for at in range(len(run) - 1)]
    return " ".join(pairs if asked and pairs else [*run, *pairs])


def unescaped(json: str) -> str:
    """Return JSON without its escapes: the n of a line break is a part of no word."""
    return _ESCAPE.sub(" ", json)


class _Folded(dict[int, str]):
    """Letters as the tokenizer compares them, one for one so that places stay; learned as they come."""

    def __missing__(self, code: int) -> str:
        plain = unicodedata.normalize("NFD", chr(code))[0].lower()[0]
        self[code] = plain
        return plain


_folded = _Folded()


def excerpt(text: str, words: list[str]) -> str | None:
    """Return a line of the text around the first of the words, None where none of them is seen in it."""
    text = " ".join(text.split())
    folded = text.lower() if text.isascii() else text.translate(_NARROW).translate(_folded)
    telling = sorted(words, key=len, reverse=True)[:_PLACED]
    places = [place for word in telling if (place := _place(folded, word)) is not None]
    if not places:
        return None
    first = max(0, min(min(places) - _BEFORE, len(text) - _LINE))
    if first:
        space = text.find(" ", first, first + _BEFORE // 2)
        first = space + 1 if space >= 0 else first
    shown = text[first : first + _LINE]
    if first:
        shown = "…" + shown[: _LINE - 1]
    return shown if first + _LINE >= len(text) else shown[: _LINE - 1] + "…"


def _place(folded: str, word: str) -> int | None:
    """Return where the word stands, or else where the form of it that has most in common with it may.

    One pass, whatever the word and the text are: both may be somebody's who wants a search to take long.
    """
    if _UNSPACED.match(word):
        place = folded.find(word)
        return place if place >= 0 else None
    stem = word[: max(_SHORTEST, len(word) * 2 // 3)]
    if stem not in folded:
        return None
    best: int | None = None
    most = 0
    for found in re.finditer(rf"(?<![^\W_]){re.escape(stem)}", folded):
        same = len(stem)
        while same < len(word) and folded.startswith(word[same], found.start() + same):
            same += 1
        if same > most:
            best, most = found.start(), same
        if same == len(word):
            break
    return best
