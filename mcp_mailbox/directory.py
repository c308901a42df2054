"""The directory: what of a mailbox others find, and by which words.

A mailbox is found by the words of its name, of what it says it does and of its skills, and by each skill as a whole.
Both are terms: texts that are compared by their beginning, or exactly. Who may find whom, `mailbox.Contact` knows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from mcp_mailbox.addresses import Address, check_name
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import DEFAULT_CONTACT, Contact
from mcp_mailbox.presence import Presence

EVERY_SPACE = "*"
"""Stands for all spaces in which the asking principal has a mailbox."""
WORDS_LIMIT = 10
"""Words in one query."""
_QUERY_LIMIT = 500
_SKILL_MARK = "="
"""Begins the term of a whole skill; no word has it."""
_LAST = "\U0010ffff"
"""Behind every character: no text has it, since it stands for none."""
# Han, kana and Thai are written without spaces, so there each letter is a word.
_ALONE = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")


class Term(NamedTuple):
    """Which terms are meant: those from `low` to `high`."""

    low: str
    high: str


def fold(text: str) -> str:
    """Return the text as it is compared: without case, accents, and other forms of the same letters."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(character for character in plain if unicodedata.category(character) != "Mn")


def words(text: str) -> list[str]:
    """Return the words, as they are compared."""
    return _WORD.findall(fold(text))


def terms(name: str, about: str, skills: Iterable[str]) -> frozenset[str]:
    """Return all by which a mailbox is found."""
    skills = tuple(skills)
    return frozenset(words(" ".join((name, about, *skills)))) | {_SKILL_MARK + _one_line(skill) for skill in skills}


def _one_line(skill: str) -> str:
    return " ".join(fold(skill).split())


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for. Each word must be the beginning of one of the mailbox's; `skill` must be one of its own."""

    space: str
    """Or EVERY_SPACE."""
    query: str = ""
    skill: str = ""

    def __post_init__(self) -> None:
        """Raise Refusal(BAD_NAME | BAD_ARGUMENT) for what cannot be."""
        if self.space != EVERY_SPACE:
            check_name(self.space, "space")
        if max(len(self.query), len(self.skill)) > _QUERY_LIMIT or len(set(words(self.query))) > WORDS_LIMIT:
            raise Refusal(Code.BAD_ARGUMENT, "The query is too long.", f"Give at most {WORDS_LIMIT} words.")

    @property
    def terms(self) -> tuple[Term, ...]:
        """What a mailbox must have, each of it; nothing finds all."""
        found = [Term(word, word + _LAST) for word in dict.fromkeys(words(self.query))]
        skill = _one_line(self.skill)
        return (*found, Term(_SKILL_MARK + skill, _SKILL_MARK + skill)) if skill else tuple(found)


@dataclass(frozen=True, slots=True)
class Entry:
    """A mailbox as the directory shows it. `cursor` continues the listing behind it. Times are ms since 1970 UTC."""

    address: Address
    owner: str
    about: str
    skills: tuple[str, ...]
    cursor: str
    status: str = ""
    away: bool = False
    seen_at: int | None = None
    """When its reader was last here, as far as that is known."""
    unread: int | None = None
    presence: Presence = Presence.OFFLINE
    contact: Contact = DEFAULT_CONTACT

    @property
    def asks_first(self) -> bool:
        """Whether who sees it so (`seen_by`) has to be let in: its own principal never has to."""
        return self.contact is Contact.ASK and not self.owner

    def seen_by(self, principal: str) -> Entry:
        """Return what a principal may know of it: of somebody else's, neither whose it is nor how it is used."""
        return self if self.owner == principal else replace(self, owner="", seen_at=None, unread=None)
