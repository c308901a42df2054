"""Who reads a mailbox: one reader of a personal one, several of a pool, each with its share."""

from __future__ import annotations

import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Kind, Occupant, Profile
from mcp_mailbox.store import Claimer
from tests.contract.post import TERM, Post, at, bodies, refused
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio
PERSONAL = Profile(kind=Kind.PERSONAL)
BOTH = {"one", "two"}


async def code(post: Post, reader: str, **options: object) -> Code | None:
    """Why that reader cannot claim; None when it can."""
    try:
        await post.claim("bob", reader, **options)  # type: ignore[arg-type]  # as the test has them
    except Refusal as refusal:
        return refusal.code
    return None


@pytest.fixture
async def personal(post: Post) -> Post:
    await post.mailboxes("ann")
    await post.open("bob", profile=PERSONAL)
    return post


@promise("one-reader")
async def test_a_second_reader_is_told_who_reads_and_since_when(personal: Post) -> None:
    await personal.send("ann", "bob")
    await personal.claim("bob", "one", claimer=Claimer("claude-code (stdio)"), present=BOTH)
    personal.clock.step(60_000)
    with pytest.raises(Refusal) as refusal:
        await personal.claim("bob", "two", present=BOTH)
    assert refusal.value.code is Code.READ_ELSEWHERE
    assert "claude-code (stdio)" in refusal.value.problem
    assert "take_over" in refusal.value.hint
    assert await code(personal, "one", present=BOTH) is None


@promise("one-reader")
async def test_who_reads_is_known_after_a_crash_too(personal: Post) -> None:
    await personal.claim("bob", "one", present=BOTH)
    await personal.engine.crash()
    assert await code(personal, "two", present=BOTH) is Code.READ_ELSEWHERE
    assert await code(personal, "one", present=BOTH) is None


@promise("one-reader")
async def test_who_read_last_can_be_asked_for(personal: Post) -> None:
    assert await personal.store.occupant(at("bob")) is None
    await personal.claim("bob", "one", claimer=Claimer("claude-code (stdio)"), present=BOTH)
    occupant = await personal.store.occupant(at("bob"))
    assert occupant == Occupant("one", "claude-code (stdio)", personal.clock.now())
    assert await personal.store.occupant(at("nobody")) is None


@promise("one-reader")
async def test_the_next_reader_takes_the_place_of_one_that_is_gone(personal: Post) -> None:
    await personal.claim("bob", "one", present=BOTH)
    assert await code(personal, "two", present={"two"}) is None
    assert await code(personal, "one", present=BOTH) is Code.READ_ELSEWHERE


@promise("one-reader")
async def test_while_nobody_knows_who_is_here_another_reader_gets_nothing_and_is_not_refused(personal: Post) -> None:
    await personal.send("ann", "bob")
    await personal.claim("bob", "one", size=1, most=1, present=BOTH)
    await personal.send("ann", "bob")
    assert await personal.claim("bob", "two", present=None) == []
    assert len(await personal.claim("bob", "one", present=None)) == 1


@promise("one-reader", "fence")
async def test_who_takes_over_gets_what_the_other_had_and_the_others_handles_are_stale(personal: Post) -> None:
    await personal.send("ann", "bob")
    held = await personal.claim_one("bob", "one")
    rung: list[Address] = []
    with personal.store.on_ring(rung.append):
        await personal.claim("bob", "two", present=BOTH, claimer=Claimer(take_over=True))
    assert at("bob") in rung, "who waits there is to learn of it"
    [again] = await personal.claim("bob", "two", present=BOTH)
    assert again.message.id == held.message.id
    assert refused(await personal.settle("bob", held.handle, reader="one")) == ["stale_lease"]
    assert await code(personal, "one", present=BOTH) is Code.READ_ELSEWHERE


@promise("one-reader", "look-only")
async def test_anybody_of_the_principal_may_look(personal: Post) -> None:
    await personal.send("ann", "bob")
    await personal.claim("bob", "one", present=BOTH)
    assert await personal.listed("bob") == ["hello"]


@promise("one-reader")
async def test_a_refused_claim_of_a_thread_that_is_not_there_says_so_first(personal: Post) -> None:
    await personal.claim("bob", "one", present=BOTH)
    assert await code(personal, "two", present=BOTH, thread="nothing") is Code.UNKNOWN_MESSAGE


@promise("pool", "one-lease")
async def test_readers_of_a_pool_share_its_work(post: Post) -> None:
    await post.mailboxes("ann")
    await post.open("bob", profile=Profile(kind=Kind.POOL, share=2))
    await post.send_many("ann", "bob", *"abcde")
    got = [bodies(await post.claim("bob", reader, present=BOTH | {"three"})) for reader in ("one", "two", "three")]
    assert got == [["a", "b"], ["c", "d"], ["e"]]


@promise("pool")
async def test_who_holds_its_share_of_a_pool_is_told_to_be_done_first(post: Post) -> None:
    await post.mailboxes("ann")
    await post.open("bob", profile=Profile(kind=Kind.POOL, share=1))
    await post.send_many("ann", "bob", *"abc")
    held = await post.claim_one("bob", "one", "7")
    assert await code(post, "one") is Code.LEASE_LIMIT
    assert [each.handle for each in await post.claim("bob", "one", "7")] == [held.handle], "a repeat is no new claim"
    post.clock.step(TERM)
    assert await code(post, "one") is Code.LEASE_LIMIT, "it may still be at it"
    await post.settle("bob", held.handle, reader="one")
    assert bodies(await post.claim("bob", "one")) == ["b"]


@promise("pool")
async def test_agents_that_have_one_readers_id_together_are_handed_a_share_each_time(post: Post) -> None:
    await post.mailboxes("ann")
    await post.open("bob", profile=Profile(kind=Kind.POOL, share=1))
    await post.send_many("ann", "bob", *"ab")
    several = Claimer(several=True)
    assert [bodies(await post.claim("bob", "token", claimer=several)) for _ in range(2)] == [["a"], ["b"]]


@promise("pool", "open-own")
async def test_a_mailbox_becomes_a_pool_and_personal_again(personal: Post) -> None:
    await personal.claim("bob", "one", present=BOTH)
    await personal.open("bob", profile=Profile(kind=Kind.POOL, share=1))
    assert await code(personal, "two", present=BOTH) is None
    await personal.open("bob", profile=PERSONAL)
    assert await code(personal, "two", present=BOTH) is Code.READ_ELSEWHERE
