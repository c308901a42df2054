"""Any mailboxes and any search, against a model that tries every word of every mailbox.

MCP_MAILBOX_EXAMPLES sets how many are tried.
"""

from __future__ import annotations

import asyncio
import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_mailbox.addresses import Address, fold
from mcp_mailbox.directory import EVERY_SPACE, WORDS_LIMIT, Entry, Search
from mcp_mailbox.engines.sqlite import directory
from mcp_mailbox.mailbox import Contact, Profile
from tests.contract.engines import ENGINES
from tests.contract.machine import EXAMPLES, fresh_post
from tests.contract.post import Post
from tests.contract.promises import promise

SPACES = ["one", "two"]
OWNERS = ["ann", "bob"]
NAMES = ["aa", "Ab", "b.a", "á-b", "ba-ab", "c", "q7"]
text = st.text("aAbá ,-ßs7\n翻", max_size=8)
skills = st.lists(st.text("aAbá 7", min_size=1, max_size=4), max_size=2)


@dataclass(frozen=True)
class Box:
    """What was said of a mailbox last."""

    name: str
    space: str
    owner: str
    contact: Contact
    about: str
    skills: tuple[str, ...]


@st.composite
def boxes(draw: st.DrawFn) -> list[Box]:
    where = list(itertools.product(NAMES, SPACES))
    return [
        Box(name, space, draw(st.sampled_from(OWNERS)), draw(st.sampled_from(Contact)), draw(text), tuple(draw(skills)))
        for name, space in draw(st.lists(st.sampled_from(where), unique=True, max_size=10))
    ]


def plain(said: str) -> str:
    """Without case and accents, letter by letter."""
    letters = unicodedata.normalize("NFD", said.casefold())
    return "".join(each for each in letters if not unicodedata.combining(each))


def split(said: str) -> list[str]:
    """The words, letter by letter."""
    found = [""]
    for letter in plain(said):
        if letter == "翻":
            found += [letter, ""]
        elif letter.isalnum():
            found[-1] += letter
        else:
            found.append("")
    return [word for word in found if word]


def meant(every: Sequence[Box], principal: str, space: str, query: str, skill: str) -> list[Address]:
    mine = {box.space for box in every if box.owner == principal}

    def is_meant(box: Box) -> bool:
        others = box.contact in {Contact.OPEN, Contact.ASK} or (box.contact is Contact.SPACE and box.space in mine)
        theirs = split(" ".join((box.name, box.about, *box.skills)))
        return (
            (box.owner == principal or others)
            and (box.space in mine if space == EVERY_SPACE else box.space == space)
            and all(any(word.startswith(wanted) for word in theirs) for wanted in split(query))
            and (not skill.split() or plain(skill).split() in [plain(each).split() for each in box.skills])
        )

    found = [Address(box.name, box.space) for box in every if is_meant(box)]
    return sorted(found, key=lambda address: (address.space, fold(address.name)))


async def pages(post: Post, principal: str, search: Search, limit: int) -> list[Entry]:
    found, cursor = list[Entry](), None
    while True:
        page = await post.store.find_mailboxes(principal, search, limit, cursor)
        found += page.entries
        cursor = page.next
        if cursor is None:
            return found


@promise("find-words", "find-skill", "find-current", "find-pages", "find-allowed", "find-spaces", "find-many")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("tight", [False, True], ids=["as it is", "tight"])
def test_whatever_is_searched_for_finds_what_the_model_finds(
    engine: str, *, tight: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tight:  # so that a few mailboxes are many
        monkeypatch.setattr(directory, "_RARE", 1)
        monkeypatch.setattr(directory, "_WALKED", 2)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        before=boxes(),
        after=boxes(),
        asked=st.lists(
            st.tuples(
                st.sampled_from(OWNERS),
                st.sampled_from([*SPACES, EVERY_SPACE, "three"]),
                text.filter(lambda query: len(set(split(query))) <= WORDS_LIMIT),
                st.sampled_from(["", "a", "b A", "á", " ", "7"]),
                st.integers(1, 4),
            ),
            min_size=1,
            max_size=8,
        ),
    )
    def check(before: list[Box], after: list[Box], asked: list[tuple[str, str, str, str, int]]) -> None:
        async def run() -> None:
            async with fresh_post(engine) as (_, post):
                every: dict[tuple[str, str], Box] = {}
                for box in (*before, *after):
                    key = (box.name, box.space)
                    box = Box(box.name, box.space, every.get(key, box).owner, box.contact, box.about, box.skills)  # noqa: PLW2901
                    every[key] = box
                    profile = Profile(box.about, box.skills, box.contact)
                    await post.store.open(Address(box.name, box.space), box.owner, profile, post.origin(box.owner))
                for principal, space, query, skill, limit in asked:
                    found = await pages(post, principal, Search(space, query, skill), limit)
                    expected = meant(list(every.values()), principal, space, query, skill)
                    assert [each.address for each in found] == expected
                    for entry in found:
                        box = every[entry.address.name, entry.address.space]
                        assert (entry.owner, entry.about, entry.skills) == (box.owner, box.about, box.skills)
                        assert (entry.unread is None) == (box.owner != principal)

        asyncio.run(run())

    check()
