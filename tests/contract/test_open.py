"""Mailboxes: made, found, bound."""

from __future__ import annotations

import anyio
import pytest

from mcp_mailbox.addresses import Address, check_name
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Contact, Profile
from tests.contract.post import SPACE, Post, at
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


@promise("open-own")
async def test_opening_ones_own_again_finds_it(post: Post) -> None:
    first = await post.open("bob", profile=Profile("about me", ("a", "b")))
    assert (first.created, first.mailbox.address, first.mailbox.owner) == (True, at("bob"), "someone")
    assert first.mailbox.created_at == post.clock.now()
    await post.send("bob", "bob")
    again = await post.open("bob", reader="another")
    assert not again.created
    assert (again.mailbox.about, again.mailbox.skills, again.mailbox.unread) == ("about me", ("a", "b"), 1)


@promise("open-own")
async def test_case_does_not_make_another_mailbox(post: Post) -> None:
    await post.open("Bob")
    assert (await post.open("bOB")).mailbox.address == at("Bob")
    found = await post.store.mailbox(at("BOB"))
    assert found is not None
    assert found.address == at("Bob")


@promise("open-own")
async def test_what_a_profile_leaves_out_stays_and_what_it_gives_is_set(post: Post) -> None:
    await post.open("bob", profile=Profile("about", ("a",)))
    assert (await post.open("bob", profile=Profile(skills=()))).mailbox.skills == ()
    changed = (await post.open("bob", profile=Profile(about=""))).mailbox
    assert (changed.about, changed.skills) == ("", ())


@promise("open-own")
async def test_spaces_are_apart(post: Post) -> None:
    await post.open("bob")
    elsewhere = await post.store.open(Address("bob", "elsewhere"), "else", Profile(), post.origin("r"))
    assert elsewhere.created
    assert elsewhere.mailbox.owner == "else"


@promise("open-repeats")
@pytest.mark.parametrize("name", ["bob", ""])
async def test_a_repeated_request_to_open_gets_the_same_answer(post: Post, name: str) -> None:
    first = await post.open(name, reader="r", request="7")
    assert first.created
    again = await post.open(name, reader="r", request="7")
    await post.engine.crash()
    after = await post.open(name, reader="r", request="7")
    assert first == again == after


@promise("open-repeats")
async def test_a_repeated_request_to_open_what_was_there_does_not_claim_to_have_made_it(post: Post) -> None:
    await post.open("bob")
    for _ in range(2):
        assert not (await post.open("bob", reader="r", request="7")).created


@promise("open-repeats")
async def test_a_repeated_request_that_wants_another_mailbox_is_a_conflict(post: Post) -> None:
    await post.open("bob", reader="r", request="7")
    with pytest.raises(Refusal) as refusal:
        await post.open("carol", reader="r", request="7")
    assert refusal.value.code is Code.KEY_CONFLICT
    assert (await post.open("carol", reader="r", request="8")).created


@promise("open-taken")
@pytest.mark.parametrize("name", ["bob", "BOB"])
async def test_a_name_that_is_someone_elses_is_refused(post: Post, name: str) -> None:
    await post.open("bob", profile=Profile("mine"))
    with pytest.raises(Refusal) as refusal:
        await post.open(name, owner="eve", reader="eve", profile=Profile("stolen"))
    assert refusal.value.code is Code.NAME_TAKEN
    assert refusal.value.hint
    assert await post.store.bound("eve") is None
    assert (await post.open("bob")).mailbox.about == "mine"


@promise("open-taken")
async def test_of_two_that_race_for_a_name_one_gets_it(post: Post) -> None:
    answers: list[bool | Code] = []

    async def race(owner: str) -> None:
        try:
            answers.append((await post.open("bob", owner=owner)).created)
        except Refusal as refusal:
            answers.append(refusal.code)

    async with anyio.create_task_group() as tasks:
        for owner in "abcde":
            tasks.start_soon(race, owner)
    assert sorted(answers, key=str) == [True, *[Code.NAME_TAKEN] * 4]


@promise("open-letter")
@pytest.mark.parametrize("name", ["Worker-1", "é", "Ж", "日本", "a.b_c-d", "ÅÄÖ", "ß"])
async def test_a_chosen_name_is_kept_to_the_letter(post: Post, name: str) -> None:
    await post.open("ann")
    assert (await post.open(name)).mailbox.address.name == name
    await post.reopen()
    assert (await post.open(name)).mailbox.address.name == name
    assert (await post.send("ann", name)).recipients[0].address == f"{name}@{SPACE}"


@promise("open-confusable")
@pytest.mark.parametrize(
    ("existing", "alike"),
    [
        ("worker-1", "worker-l"),
        ("bob", "b\u043eb"),
        ("paypal", "\u0440\u0430\u0443\u0440\u0430l"),
        ("OX", "\u041e\u0425"),
        ("modern", "modem"),
        ("admin", "\u0430dmin"),
        ("alice", "aIice"),
        ("aIice", "alice"),
        ("aIice", "ALICE"),
        ("alice", "AIice"),
        ("worker1", "WorkerI"),
        ("workerI", "workerl"),
        ("BOb", "b0b"),
        ("b0b", "bOb"),
        ("BARN", "bam"),
        ("aI", "\u0430l"),
        ("Ace", "\u0410ce"),
    ],
    ids=ascii,
)
async def test_a_name_that_looks_like_another_is_refused(post: Post, existing: str, alike: str) -> None:
    await post.open(existing)
    with pytest.raises(Refusal) as refusal:
        await post.open(alike, reader="r")
    assert refusal.value.code is Code.NAME_CONFUSABLE
    assert await post.store.bound("r") is None


@promise("open-confusable")
async def test_similar_is_not_confusable(post: Post) -> None:
    for name in ("worker-1", "worker-2", "worker", "Ж", "рабочий", "日本", "日木", "Bob", "Rob", "Ian", "Pan"):
        assert (await post.open(name)).created


@promise("open-confusable", "open-own")
async def test_a_mailbox_whose_name_is_its_own_lookalike_is_opened_again(post: Post) -> None:
    for name in ("aIice", "ALICE2"):
        assert (await post.open(name)).created
        assert not (await post.open(name.lower())).created


@promise("open-unnamed", "open-confusable")
async def test_without_a_name_one_gets_a_readable_one(post: Post) -> None:
    names = {(await post.open("", reader=f"r{number}")).mailbox.address for number in range(30)}
    assert len(names) == 30
    for address in names:
        assert check_name(address.name).isascii()
        assert address.space == SPACE
    given = next(address.name for address in names if "e" in address.name)
    with pytest.raises(Refusal) as refusal:
        await post.open(given.replace("e", "\u0435"))  # Cyrillic
    assert refusal.value.code is Code.NAME_CONFUSABLE


@promise("bound")
async def test_a_reader_is_bound_to_what_it_opened_last_also_after_a_crash(post: Post) -> None:
    assert await post.store.bound("r") is None
    await post.open("bob", reader="r")
    await post.open("eve", reader="r")
    await post.open("bob", reader="another")
    await post.send("bob", "eve")
    await post.engine.crash()
    bound = await post.store.bound("r")
    assert bound is not None
    assert (bound.address, bound.unread) == (at("eve"), 1)


@promise("directory")
async def test_an_owners_addresses_are_listed_behind_one_of_them(post: Post) -> None:
    for name in ("Ann", "anna", "annb", "bob"):
        await post.open(name)
    find = post.store.mailboxes
    assert [a.name for a in await find("someone", SPACE, "an", 1, "ANN")] == ["anna"]
    assert [a.name for a in await find("someone", SPACE, "", 10, "anna")] == ["annb", "bob"]
    assert [a.name for a in await find("someone", SPACE, "an", 10, "aa")] == ["Ann", "anna", "annb"]
    assert list(await find("someone", SPACE, "an", 10, "b")) == []


@promise("directory")
async def test_an_owners_addresses_are_found_by_prefix(post: Post) -> None:
    for name in ("worker-2", "Worker-1", "other", "Жук"):
        await post.open(name)
    await post.open("worker-3", owner="else")
    find = post.store.mailboxes
    assert [a.name for a in await find("someone", SPACE, "WORK", 10)] == ["Worker-1", "worker-2"]
    assert [a.name for a in await find("someone", SPACE, "", 2)] == ["other", "Worker-1"]
    assert [a.name for a in await find("someone", SPACE, "ж", 10)] == ["Жук"]
    assert list(await find("someone", SPACE, "%", 10)) == list(await find("someone", "elsewhere", "", 10)) == []


@promise("directory")
async def test_a_mistyped_address_is_found_by_what_it_resembles(post: Post) -> None:
    for name in ("Bob", "alice", "worker-1"):
        await post.open(name)
    await post.store.open(Address("carol", "elsewhere"), "someone", Profile(), post.origin("r"))
    assert await post.store.similar(at("bobb"), "someone") == at("Bob")
    assert await post.store.similar(at("wroker-1"), "someone") == at("worker-1")
    assert await post.store.similar(at("carol"), "someone") == Address("carol", "elsewhere")
    assert await post.store.similar(at("zzzz"), "someone") is None
    for theirs in ("bobb", "wroker-1", "carol"):
        assert await post.store.similar(at(theirs), "somebody else") is None


@promise("open-repeats")
async def test_a_copy_of_a_request_that_comes_late_undoes_nothing_that_was_said_since(post: Post) -> None:
    made = Profile(about="made", contact=Contact.OPEN)
    await post.open("ann", request="1", profile=made)
    await post.open("ann", request="2", profile=Profile(about="opened", contact=Contact.OPEN))
    await post.open("ann", request="3", profile=Profile(about="closed", contact=Contact.CLOSED))
    for request, profile in (("1", made), ("2", Profile(about="opened", contact=Contact.OPEN))):
        opened = await post.open("ann", request=request, profile=profile)
        assert opened.created is (request == "1")
        assert (opened.mailbox.about, opened.mailbox.contact) == ("closed", Contact.CLOSED)
