"""The directory: who is found, by whom, by which words, in which order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.directory import EVERY_SPACE, Entry, Search
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.presence import DEFAULT_TERM, Status
from tests.contract.post import SPACE, Post, at
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


async def make(
    post: Post,
    name: str,
    about: str = "",
    skills: Sequence[str] = (),
    contact: Contact = Contact.OPEN,
    owner: str = "someone",
    space: str = SPACE,
) -> None:
    profile = Profile(about, tuple(skills), contact)
    await post.store.open(Address(name, space), owner, profile, post.origin(name))


async def find(
    post: Post, query: str = "", *, skill: str = "", space: str = SPACE, principal: str = "someone", limit: int = 100
) -> list[str]:
    """Return who is found: all pages, one behind the other. Names elsewhere have their space."""
    search = Search(space, query, skill)
    found, cursor = list[Entry](), None
    while True:
        page = await post.store.find_mailboxes(principal, search, limit, cursor)
        assert len(page.entries) <= limit
        found += page.entries
        if page.next is None:
            return [each.address.name if each.address.space == SPACE else str(each.address) for each in found]
        cursor = page.next


async def entry(post: Post, name: str, principal: str = "someone") -> Entry:
    page = await post.store.find_mailboxes(principal, Search(SPACE, name), 10)
    [found] = [each for each in page.entries if each.address == at(name)]
    return found


@promise("find-words")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["alice", "Böb", "worker-7"]),
        ("  ...!", ["alice", "Böb", "worker-7"]),
        ("ali", ["alice"]),
        ("ALICE", ["alice"]),
        ("bob", ["Böb"]),
        ("bÖB", ["Böb"]),
        ("7", ["worker-7"]),
        ("work", ["worker-7"]),
        ("orker", []),
        ("data", ["alice", "Böb"]),
        ("data re", ["alice", "Böb"]),
        ("re data", ["alice", "Böb"]),
        ("data base", ["alice"]),
        ("data data", ["alice", "Böb"]),
        ("reviews", ["alice"]),
        ("strasse", ["worker-7"]),
        ("翻訳", ["Böb"]),
        ("%", ["alice", "Böb", "worker-7"]),
        ("data-base", ["alice"]),
        ("nobody", []),
        ("data nobody", []),
        ("=python", ["Böb"]),
    ],
)
async def test_each_word_is_the_beginning_of_one_of_theirs(post: Post, query: str, found: list[str]) -> None:
    await make(post, "alice", "Reviews DATA models.", ["base tables"])
    await make(post, "Böb", "日本語の翻訳; data, retries", ["python"])
    await make(post, "worker-7", "Lives in a Straße.")
    assert await find(post, query) == found
    assert await find(post, query, limit=1) == found


@promise("find-skill")
async def test_a_skill_is_found_as_a_whole(post: Post) -> None:
    await make(post, "ann", "code review", ["Code  Review", "sql"])
    await make(post, "bob", "sql", ["code", "review", "code review board"])
    await make(post, "cid", "", ["CODE REVIEW", "Résumé"])
    assert await find(post, skill="code review") == ["ann", "cid"]
    assert await find(post, skill=" ") == ["ann", "bob", "cid"]
    assert await find(post, skill="cod") == []
    assert await find(post, skill="resume") == ["cid"]
    assert await find(post, "sql", skill="code review") == ["ann"]


@promise("find-current")
async def test_who_says_something_else_is_found_by_that_and_no_more_by_what_was_said(post: Post) -> None:
    await make(post, "ann", "writes tests", ["python"])
    await post.open("ann", profile=Profile("writes docs"))
    await post.engine.crash()
    assert await find(post, "tests") == []
    assert await find(post, "docs") == await find(post, "python") == await find(post, "ann") == ["ann"]
    await post.open("ann", profile=Profile(skills=("go",)))
    assert await find(post, skill="python") == await find(post, "python") == []
    assert await find(post, "docs") == await find(post, skill="go") == ["ann"]
    await post.open("ann", profile=Profile(about="", skills=()))
    assert await find(post, "docs") == await find(post, "go") == []
    await post.open("ann")
    assert await find(post, "ann") == ["ann"]


@promise("find-current")
async def test_who_was_given_a_name_is_found_by_it(post: Post) -> None:
    opened = await post.open("", reader="r", profile=Profile("about me", ("skill",), status=Status("busy")))
    name = opened.mailbox.address.name
    for query in (name, name.split("-")[0], "about", "skill"):
        assert await find(post, query) == [name]
    assert (await entry(post, name)).status == "busy"


@promise("find-pages")
@pytest.mark.parametrize("query", ["", "same"])
async def test_pages_go_on_behind_a_name_also_when_others_come_between(post: Post, query: str) -> None:
    for name in ("Dan", "bob", "Ann", "cid", "eve"):
        await make(post, name, "same")
    first = await post.store.find_mailboxes("someone", Search(SPACE, query), 2)
    assert [each.address.name for each in first.entries] == ["Ann", "bob"]
    assert first.next == first.entries[-1].cursor
    await make(post, "al", "same")
    await make(post, "bz", "same")
    rest = await post.store.find_mailboxes("someone", Search(SPACE, query), 10, first.next)
    assert [each.address.name for each in rest.entries] == ["bz", "cid", "Dan", "eve"]
    assert rest.next is None
    cut = await post.store.find_mailboxes("someone", Search(SPACE, query), 10, rest.entries[-2].cursor)
    assert [each.address.name for each in cut.entries] == ["eve"]


@pytest.mark.soak
@promise("find-many")
async def test_two_words_that_many_have_find_the_few_that_have_both(post: Post) -> None:
    for number in range(1200):
        about = "both odd even" if number in {3, 1197} else "odd" if number % 2 else "even"
        await make(post, f"n{number:04}", about)
    for limit in (1, 100):
        assert await find(post, "ev odd", limit=limit) == ["n0003", "n1197"]
        assert await find(post, "both", limit=limit) == ["n0003", "n1197"]
    assert len(await find(post, "even")) == 602
    assert await find(post, "n odd") == sorted(await find(post, "odd n"))


@promise("ids-opaque", "find-pages")
async def test_a_cursor_is_of_one_search_of_one_principal(post: Post) -> None:
    for name in ("ann", "bob"):
        await make(post, name, "same", ["one"])
    page = await post.store.find_mailboxes("someone", Search(SPACE), 1)
    assert page.next is not None
    for principal, search, cursor in (
        ("eve", Search(SPACE), page.next),
        ("someone", Search("elsewhere"), page.next),
        ("someone", Search(EVERY_SPACE), page.next),
        ("someone", Search(SPACE, "same"), page.next),
        ("someone", Search(SPACE, skill="one"), page.next),
        ("someone", Search(SPACE), ""),
        ("someone", Search(SPACE), page.next + "0"),
        ("someone", Search(SPACE), "c0.1zzzz"),
    ):
        with pytest.raises(Refusal) as refusal:
            await post.store.find_mailboxes(principal, search, 1, cursor)
        assert refusal.value.code is Code.BAD_ARGUMENT


@promise("find-allowed")
async def test_of_others_only_those_are_found_who_take_ones_mail(post: Post) -> None:
    for contact in Contact:
        await make(post, f"olga-{contact}", "hers", ["own"], contact, owner="olga")
    everybody = ["olga-ask", "olga-closed", "olga-open", "olga-space"]
    searches = [("", ""), ("olga", ""), ("hers", ""), ("", "own")]
    for query, skill in searches:
        assert await find(post, query, skill=skill, principal="olga") == everybody
        assert await find(post, query, skill=skill, principal="eve") == ["olga-ask", "olga-open"]
    await make(post, "zelda", owner="eve")
    for query, skill in searches:
        found = await find(post, query, skill=skill, principal="eve")
        assert [name for name in found if name != "zelda"] == ["olga-ask", "olga-open", "olga-space"]
    await post.open("olga-open", owner="olga", profile=Profile(contact=Contact.CLOSED))
    assert await find(post, "hers", principal="eve") == ["olga-ask", "olga-space"]


@promise("find-allowed")
async def test_who_is_found_is_who_can_be_written_to(post: Post) -> None:
    for contact in Contact:
        for owner in ("olga", "someone"):
            await make(post, f"{owner}-{contact}", contact=contact, owner=owner)
    await make(post, "ann")
    for address in [f"{owner}-{contact}" for owner in ("olga", "someone") for contact in Contact]:
        try:
            await post.send("ann", address)
        except Refusal:
            assert await find(post, address) == []
        else:
            assert await find(post, address) == [address]


@promise("find-allowed")
async def test_the_postmaster_is_not_there(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", receipt=True)
    await post.settle("bob", sent.id)
    assert (await post.inbox("ann")).previews[0].delivery.message.sender.startswith("postmaster@")
    for principal in ("someone", ""):
        assert await find(post, principal=principal) == ["ann", "bob"]
        assert (
            await find(post, "postmaster", principal=principal) == await find(post, "mail", principal=principal) == []
        )


@promise("find-spaces")
async def test_spaces_are_searched_apart_or_all_that_one_is_in(post: Post) -> None:
    for space in ("two", SPACE, "a1"):
        for name in ("bob", "ann"):
            await make(post, name, f"here in {space}", space=space)
    await make(post, "eve", owner="eve", space="hers")
    await make(post, "guest", owner="eve", space="two")
    assert await find(post) == ["ann", "bob"]
    assert await find(post, space="two") == ["ann@two", "bob@two", "guest@two"]
    assert await find(post, space="hers") == ["eve@hers"]
    assert await find(post, space="nowhere") == []
    everywhere = ["ann@a1", "bob@a1", "ann", "bob", "ann@two", "bob@two", "guest@two"]
    for limit in (1, 2, 3, 100):
        assert await find(post, space=EVERY_SPACE, limit=limit) == everywhere
        assert await find(post, "bob", space=EVERY_SPACE, limit=limit) == ["bob@a1", "bob", "bob@two"]
        assert await find(post, "in two", space=EVERY_SPACE, limit=limit) == ["ann@two", "bob@two"]
    assert await find(post, space=EVERY_SPACE, principal="eve") == ["eve@hers", "ann@two", "bob@two", "guest@two"]
    assert await find(post, space=EVERY_SPACE, principal="nobody") == []


@promise("find-unread", "unread")
async def test_what_waits_is_counted_for_ones_own(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await make(post, "olga", owner="olga")
    for to in ("bob", "bob", "olga"):
        await post.send("ann", to)
    assert [(await entry(post, name)).unread for name in ("ann", "bob", "olga")] == [0, 2, None]
    await post.claim_one("bob")
    assert (await entry(post, "bob")).unread == 1
    assert (await entry(post, "olga", "olga")).unread == 1


@promise("status")
async def test_a_status_is_told_until_its_time_is_over(post: Post) -> None:
    await post.open("ann", profile=Profile(status=Status("until 15:00", away=True)))
    post.clock.step(DEFAULT_TERM - 1)
    await post.engine.crash()
    found = await entry(post, "ann")
    assert (found.status, found.away) == ("until 15:00", True)
    post.clock.step(1)
    found = await entry(post, "ann")
    assert (found.status, found.away) == ("", False)


@promise("status")
async def test_a_status_is_replaced_or_taken_back_and_nothing_else_ends_it(post: Post) -> None:
    await post.open("ann", profile=Profile(status=Status("first", away=True)))
    await post.open("ann", profile=Profile("about", ("skill",)))
    await post.store.note_seen(at("ann"))
    assert (await entry(post, "ann")).status == "first"
    await post.open("ann", profile=Profile(status=Status("second", term=10)))
    found = await entry(post, "ann")
    assert (found.status, found.away) == ("second", False)
    await post.open("ann", profile=Profile(status=Status()))
    assert (await entry(post, "ann")).status == ""


@promise("seen")
async def test_when_somebody_was_there_is_kept(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    assert (await entry(post, "ann")).seen_at is None
    first = post.store.clock.now()
    await post.store.note_seen(at("ann"))
    await post.store.note_seen(at("nobody"))
    post.clock.step(5)
    await post.open("ann", profile=Profile(status=Status("busy")))
    await post.engine.crash()
    assert [(await entry(post, name)).seen_at for name in ("ann", "bob")] == [first, None]
    post.clock.step(100)
    await post.store.note_seen(at("ANN"))
    await post.reopen()
    found = await entry(post, "ann")
    assert (found.seen_at, found.status) == (first + 105, "busy")
