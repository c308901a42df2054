"""How leases end, and what a reply does."""

from __future__ import annotations

import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import EVENT_OF, TRANSITIONS, Outcome, State
from mcp_mailbox.errors import Code, Refusal
from tests.contract.post import TERM, Post, at, bodies, refused
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


OF_LEASES = [outcome for outcome, event in EVENT_OF.items() if event in TRANSITIONS[State.LEASED]]


@promise("fence")
@pytest.mark.parametrize("outcome", OF_LEASES)
async def test_a_stale_handle_cannot_settle_its_successors_lease(post: Post, outcome: Outcome) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    stale = await post.claim_one("bob", "one")
    post.clock.step(TERM)
    fresh = await post.claim_one("bob", "two")
    assert refused(await post.settle("bob", stale.handle, outcome=outcome, reader="one")) == ["stale_lease"]
    assert await post.claim("bob", "three") == []
    assert refused(await post.settle("bob", fresh.handle, reader="two")) == [None]


@promise("fence")
async def test_a_stale_handle_is_told_so_after_its_successor_has_settled(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    stale = await post.claim_one("bob", "one")
    post.clock.step(TERM)
    fresh = await post.claim_one("bob", "two")
    await post.settle("bob", fresh.handle, reader="two")
    assert refused(await post.settle("bob", stale.handle, fresh.handle)) == ["stale_lease", None]


@promise("fence")
async def test_a_late_ack_counts_while_nobody_else_has_leased_it(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    late = await post.claim_one("bob", "one")
    post.clock.step(TERM * 10)
    assert refused(await post.settle("bob", late.handle, reader="one")) == [None]
    assert await post.claim("bob", "two") == []


@promise("fence")
async def test_a_handle_is_good_after_a_crash(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    held = await post.claim_one("bob", "one")
    await post.engine.crash()
    assert refused(await post.settle("bob", held.handle, reader="one")) == [None]


@promise("fence")
async def test_a_handle_of_a_generation_that_never_was_is_stale(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    held = await post.claim_one("bob")
    for handle in (f"{sent.id}.0", f"{sent.id}.2", f"{sent.id}.999999999999"):
        assert refused(await post.settle("bob", handle)) == ["stale_lease"]
    assert refused(await post.settle("bob", held.handle)) == [None]


@promise("settled-stays")
@pytest.mark.parametrize("outcome", [Outcome.ACK, Outcome.REJECT])
async def test_what_is_settled_is_never_handed_out_again(post: Post, outcome: Outcome) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    held = await post.claim_one("bob", "one", "7")
    await post.settle("bob", held.handle, outcome=outcome, reader="one")
    await post.store.give_back("one", None, surfaced=True)
    post.clock.step(TERM)
    await post.engine.crash()
    assert await post.claim("bob", "two") == await post.claim("bob", "one", "7") == []
    assert (await post.read("bob", sent.id)).state is TRANSITIONS[State.LEASED][EVENT_OF[outcome]]


@promise("settle-repeats")
@pytest.mark.parametrize("outcome", OF_LEASES)
async def test_settling_again_the_same_way_is_no_error(post: Post, outcome: Outcome) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    held = await post.claim_one("bob")
    for _ in range(2):
        assert refused(await post.settle("bob", held.handle, outcome=outcome)) == [None]
    await post.reopen()
    assert refused(await post.settle("bob", held.handle, held.message.id, outcome=outcome)) == [None, None]


@promise("settle-repeats")
@pytest.mark.parametrize("outcome", OF_LEASES)
@pytest.mark.parametrize("first", [Outcome.ACK, Outcome.REJECT])
async def test_another_outcome_afterwards_is_refused(post: Post, first: Outcome, outcome: Outcome) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    held = await post.claim_one("bob")
    await post.settle("bob", held.handle, outcome=first)
    expected = None if outcome is first else "already_settled"
    assert refused(await post.settle("bob", held.handle, held.message.id, outcome=outcome)) == [expected, expected]


@promise("settle-apart")
async def test_each_handle_has_its_own_result(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2")
    first, second = await post.claim("bob")
    results = await post.settle("bob", first.handle, "nonsense", first.handle, "", second.handle)
    assert [result.handle for result in results] == [first.handle, "nonsense", first.handle, "", second.handle]
    assert refused(results) == [None, "unknown_message", None, "unknown_message", None]
    assert await post.unread("bob") == 0
    assert await post.settle("bob") == []


@promise("settle-apart", "read")
async def test_one_cannot_settle_in_a_mailbox_what_is_in_another(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    sent = await post.send("ann", "bob")
    held = await post.claim_one("bob")
    for mailbox in ("ann", "eve"):
        assert refused(await post.settle(mailbox, sent.id, held.handle)) == ["unknown_message", "unknown_message"]
    assert refused(await post.settle("bob", held.handle)) == [None]


@promise("settle-plain")
@pytest.mark.parametrize("outcome", [Outcome.ACK, Outcome.REJECT])
async def test_one_may_settle_what_one_saw_in_a_listing(post: Post, outcome: Outcome) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    seen = (await post.inbox("bob")).previews[0].delivery
    assert refused(await post.settle("bob", seen.handle, outcome=outcome)) == [None]
    assert await post.claim("bob") == []


@promise("settle-plain")
async def test_a_plain_id_settles_ones_own_lease_and_a_lapsed_one_but_no_live_one_of_another(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    own, other, lapsed = await post.send_many("ann", "bob", "own", "other", "lapsed")
    await post.claim_one("bob", "one")
    await post.claim_one("bob", "two")
    await post.claim("bob", "two", term=10)
    post.clock.step(10)
    results = await post.settle("bob", own, other, lapsed, reader="one")
    assert refused(results) == [None, "leased_elsewhere", None]
    assert await post.listed("bob") == ["other"]


@promise("release", "rings")
async def test_a_released_delivery_is_ready_at_once_and_rings(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2")
    first = await post.claim_one("bob", "one")
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        assert refused(await post.settle("BOB", first.handle, outcome=Outcome.RELEASE)) == [None]
    assert rung == [at("bob")]
    assert bodies(await post.claim("bob", "two")) == ["1", "2"]


@promise("release")
async def test_releasing_what_nobody_holds_changes_nothing(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    assert refused(await post.settle("bob", sent.id, outcome=Outcome.RELEASE)) == [None]
    assert bodies(await post.claim("bob")) == ["hello"]


@promise("reply-acks")
@pytest.mark.parametrize("by", ["handle", "id", "id, not leased", "handle, late"])
async def test_a_reply_acks_what_it_answers(post: Post, by: str) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    handle = sent.id if by == "id, not leased" else (await post.claim_one("bob")).handle
    if by == "handle, late":
        post.clock.step(TERM)
    await post.send("bob", "ann", body="answer", reply_to=sent.id if by == "id" else handle)
    assert (await post.read("bob", sent.id)).state is State.ACKED
    assert await post.listed("ann") == ["answer"]
    assert await post.unread("bob") == 0


@promise("reply-acks")
async def test_a_repeated_reply_is_one_reply(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    held = await post.claim_one("bob")
    first = await post.send("bob", "ann", reply_to=held.handle, request="7")
    await post.engine.crash()
    assert (await post.send("bob", "ann", reply_to=held.handle, request="7")).id == first.id
    assert await post.unread("ann") == 1


@promise("reply-acks")
async def test_a_reply_to_what_is_settled_only_joins_the_thread(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    held = await post.claim_one("bob")
    await post.settle("bob", held.handle, outcome=Outcome.REJECT)
    answer = await post.send("bob", "ann", body="no", reply_to=held.handle)
    assert answer.thread == sent.id
    assert (await post.read("bob", sent.id)).state is State.REJECTED


@promise("reply-acks")
async def test_a_plain_reply_leaves_another_readers_lease_alone(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    held = await post.claim_one("bob", "one")
    answer = await post.send("bob", "ann", reply_to=sent.id, reader="two")
    assert answer.thread == sent.id
    assert refused(await post.settle("bob", held.handle, reader="one")) == [None]


@promise("reply-acks")
async def test_a_reply_that_reaches_nobody_acks_nothing(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    held = await post.claim_one("bob")
    with pytest.raises(Refusal):
        await post.send("bob", "nobody", reply_to=held.handle)
    assert (await post.read("bob", held.message.id)).state is State.LEASED


@promise("reply-fenced")
@pytest.mark.parametrize("settled", [False, True])
async def test_a_reply_by_a_stale_handle_stores_nothing(post: Post, settled: bool) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    stale = await post.claim_one("bob", "one")
    post.clock.step(TERM)
    fresh = await post.claim_one("bob", "two")
    if settled:
        await post.settle("bob", fresh.handle, reader="two")
    with pytest.raises(Refusal) as refusal:
        await post.send("bob", "ann", reply_to=stale.handle, reader="one", key="k")
    assert refusal.value.code is Code.STALE_LEASE
    assert await post.listed("ann") == []
    await post.send("bob", "ann", body="fresh", reply_to=fresh.handle, reader="two", key="k")
    assert await post.listed("ann") == ["fresh"]


@promise("reply-threads")
async def test_a_thread_is_the_id_of_its_first_message(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    question = await post.send("ann", "bob")
    answer = await post.send("bob", "ann", reply_to=question.id)
    third = await post.send("ann", "bob", reply_to=answer.id)
    assert {question.thread, answer.thread, third.thread} == {question.id}
    read = (await post.store.read(at("bob"), third.id)).message
    assert (read.thread, read.reply_to) == (question.id, answer.id)


@promise("reply-threads")
async def test_one_may_add_to_what_one_sent_and_not_to_what_one_never_saw(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    sent = await post.send("ann", "bob")
    assert (await post.send("ann", "bob", body="p.s.", reply_to=sent.id)).thread == sent.id
    for reply_to in (sent.id, f"{sent.id}.1", "nonsense", ""):
        with pytest.raises(Refusal) as refusal:
            await post.send("eve", "bob", reply_to=reply_to)
        assert refusal.value.code is Code.UNKNOWN_MESSAGE
    assert await post.listed("bob") == ["hello", "p.s."]
