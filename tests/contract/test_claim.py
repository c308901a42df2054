"""How mail is handed out, held and given back."""

from __future__ import annotations

from collections import Counter

import anyio
import anyio.lowlevel
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Outcome, State
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Kind, Priority
from mcp_mailbox.store import Due
from tests.contract.post import TERM, Post, at, bodies, refused
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


@promise("order")
async def test_mail_is_handed_out_in_the_order_of_each_sender(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")

    async def send(sender: str) -> None:
        for number in range(20):
            await post.send(sender, "bob", body=f"{sender} {number}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send, "ann")
        tasks.start_soon(send, "eve")
    got = [(await post.claim_one("bob")).message.body for _ in range(40)]
    for sender in ("ann", "eve"):
        assert [body for body in got if body.startswith(sender)] == [f"{sender} {number}" for number in range(20)]


@promise("order")
async def test_order_holds_across_restarts_and_a_clock_set_back(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2")
    await post.engine.close()
    post.clock.step(-3_600_000)
    await post.engine.open()
    await post.send_many("ann", "bob", "3", "4")
    assert await post.listed("bob") == bodies(await post.claim("bob")) == ["1", "2", "3", "4"]


@promise("order")
async def test_what_comes_back_does_not_fall_behind_what_came_later(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2", "3")
    first = await post.claim_one("bob")
    await post.settle("bob", first.handle, outcome=Outcome.RELEASE)
    assert bodies(await post.claim("bob")) == ["1", "2", "3"]


@promise("urgent-first")
async def test_urgent_mail_is_first_and_low_last(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    for priority in (Priority.LOW, Priority.NORMAL, Priority.URGENT):
        await post.send_many("ann", "bob", f"{priority.word} 1", f"{priority.word} 2", priority=priority)
    expected = [f"{word} {number}" for word in ("urgent", "normal", "low") for number in (1, 2)]
    assert await post.listed("bob") == expected
    claimed = await post.claim("bob")
    assert bodies(claimed) == expected
    assert claimed[0].message.priority is Priority.URGENT


@promise("one-lease")
async def test_two_readers_never_get_the_same_delivery(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", *map(str, range(30)))
    got: Counter[str] = Counter()

    async def work(reader: str) -> None:
        while claimed := await post.claim("bob", reader, most=2):
            got.update(bodies(claimed))

    async with anyio.create_task_group() as tasks:
        for reader in ("one", "two", "three"):
            tasks.start_soon(work, reader)
    assert got == Counter(map(str, range(30)))


@promise("one-lease")
async def test_a_reader_does_not_get_what_it_holds_already(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    leased = await post.claim_one("bob")
    assert leased.state is State.LEASED
    assert leased.lease_until == post.clock.now() + TERM
    assert await post.claim("bob") == []


@promise("claim-repeats")
async def test_a_repeated_request_gets_the_same_deliveries(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2", "3")
    first = await post.claim("bob", request="7", most=2)
    again = await post.claim("bob", request="7", most=2)
    assert again == first
    assert bodies(await post.claim("bob", request="8", most=2)) == ["3"]


@promise("claim-repeats")
async def test_a_repeated_request_gets_the_same_deliveries_after_a_crash(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2", "3")
    first = await post.claim("bob", request="7", most=2)
    await post.engine.crash()
    assert await post.claim("bob", request="7", most=2) == first
    assert refused(await post.settle("bob", *(delivery.handle for delivery in first))) == [None, None]


@promise("claim-repeats")
async def test_a_repeated_request_gets_what_is_not_settled_of_it(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2", "3")
    first = await post.claim("bob", request="7", most=2)
    await post.settle("bob", first[0].handle)
    assert await post.claim("bob", request="7", most=2) == first[1:]


@promise("claim-repeats")
async def test_requests_of_other_readers_and_mailboxes_are_others(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2")
    await post.send("ann", "ann", body="3")
    assert bodies(await post.claim("bob", "one", "7", most=1)) == ["1"]
    assert bodies(await post.claim("bob", "two", "7", most=1)) == ["2"]
    assert bodies(await post.claim("ann", "one", "7", most=1)) == ["3"]


@promise("claim-repeats")
async def test_a_request_that_found_nothing_looks_again(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    assert await post.claim("bob", request="7") == []
    await post.send("ann", "bob")
    assert bodies(await post.claim("bob", request="7")) == ["hello"]


@promise("lease-lapses")
async def test_a_lease_ends_when_its_time_has_come_and_not_before(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    first = await post.claim_one("bob", "one")
    post.clock.step(TERM - 1)
    assert await post.claim("bob", "two") == []
    post.clock.step(1)
    second = await post.claim_one("bob", "two")
    assert second.message == first.message
    assert second.handle != first.handle
    assert await post.claim("bob", "one") == []


@promise("lease-lapses")
async def test_a_lease_ends_even_when_the_store_was_closed_meanwhile(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    await post.claim_one("bob", "one")
    await post.engine.close()
    post.clock.step(TERM)
    await post.engine.open()
    assert bodies(await post.claim("bob", "two")) == ["hello"]


@promise("present-keeps")
async def test_a_present_reader_keeps_its_lapsed_lease_from_others(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    held = await post.claim_one("bob", "one")
    post.clock.step(TERM)
    assert await post.claim("bob", "two", present={"one", "two"}) == []
    assert await post.claim("bob", "two", present=None) == []
    assert refused(await post.settle("bob", held.handle, reader="one")) == [None]


@promise("present-keeps")
async def test_the_holder_gets_its_lapsed_lease_again(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    first = await post.claim_one("bob", "one")
    post.clock.step(TERM)
    [again] = await post.claim("bob", "one", present=None)
    assert again.message == first.message
    assert again.lease_until == post.clock.now() + TERM
    assert refused(await post.settle("bob", first.handle, again.handle)) == ["stale_lease", None]


@promise("present-keeps")
async def test_when_the_holder_is_gone_others_get_its_lapsed_lease(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    await post.claim_one("bob", "one")
    post.clock.step(TERM)
    assert bodies(await post.claim("bob", "two", present={"two", "three"})) == ["hello"]


@promise("present-keeps")
async def test_a_present_reader_does_not_hold_up_what_stands_behind(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2", "3")
    await post.claim("bob", "one", most=2)
    post.clock.step(TERM)
    assert bodies(await post.claim("bob", "two", most=1, present={"one"})) == ["3"]


@promise("claim-budget")
async def test_a_claim_keeps_to_its_count(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2", "3")
    assert bodies(await post.claim("bob", most=2)) == ["1", "2"]


@promise("claim-budget")
async def test_a_claim_keeps_to_its_bytes_and_skips_nothing_to_fill_them(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "ж" * 50, "x" * 100, "y" * 50, "z")
    assert [len(body) for body in bodies(await post.claim("bob", size=200))] == [50, 100]
    assert bodies(await post.claim("bob", size=51)) == ["y" * 50, "z"]


@promise("claim-budget")
@pytest.mark.parametrize("first", ["", "x" * 1000])
async def test_the_first_delivery_always_fits_and_the_next_only_if_it_does(post: Post, first: str) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", first, "y" * 1000)
    assert bodies(await post.claim("bob", size=100)) == [first]
    assert bodies(await post.claim("bob", size=100)) == ["y" * 1000]


@promise("wanted")
async def test_one_may_wait_for_one_sender(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send_many("ann", "bob", "a1", "a2")
    await post.send_many("eve", "bob", "e1", "e2")
    assert bodies(await post.claim("bob", sender="EVE", most=1)) == ["e1"]
    assert bodies(await post.claim("bob", sender="eve")) == ["e2"]
    assert await post.claim("bob", sender="eve") == []
    assert await post.claim("bob", sender="nobody") == []
    assert bodies(await post.claim("bob")) == ["a1", "a2"]


@promise("wanted-reports")
async def test_who_waits_for_one_sender_is_told_that_its_mail_to_that_one_came_to_nothing(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    asked, other = await post.send("ann", "bob"), await post.send("ann", "eve")
    await post.settle("eve", other.id, outcome=Outcome.REJECT)
    assert await post.claim("ann", sender="bob") == []
    await post.settle("bob", asked.id, outcome=Outcome.REJECT)
    [told] = await post.claim("ann", sender="bob")
    assert (told.message.kind, told.message.reply_to) == (Kind.REPORT, asked.id)
    await post.send("bob", "ann", body="sorry")
    assert bodies(await post.claim("ann", sender="bob")) == ["sorry"]
    assert [each.message.reply_to for each in await post.claim("ann")] == [other.id]


@promise("wanted")
async def test_one_may_wait_for_one_thread_by_any_id_in_it(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send("eve", "ann", body="noise")
    question = await post.send("ann", "bob")
    answer = await post.send("bob", "ann", body="answer", reply_to=question.id)
    await post.send("bob", "ann", body="more", reply_to=answer.id)
    await post.send("eve", "ann", body="urgent noise", priority=Priority.URGENT)
    assert bodies(await post.claim("ann", thread=answer.id, most=1)) == ["answer"]
    assert bodies(await post.claim("ann", thread=question.id)) == ["more"]
    assert bodies(await post.claim("ann")) == ["urgent noise", "noise"]


@promise("wanted")
async def test_one_may_wait_for_one_sender_in_one_thread(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    question = await post.send("ann", "bob", "eve")
    await post.send("eve", "ann", body="elsewhere")
    for number in range(3):
        await post.send("bob", "ann", body=f"bob {number}", reply_to=question.id)
    await post.send("eve", "ann", body="eve", reply_to=question.id)
    assert bodies(await post.claim("ann", sender="eve", thread=question.id, most=1)) == ["eve"]
    assert bodies(await post.claim("ann", sender="bob", thread=question.id, most=1)) == ["bob 0"]


@promise("wanted")
async def test_a_thread_is_urgent_first_too(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    question = await post.send("ann", "bob")
    await post.send("bob", "ann", body="later", reply_to=question.id)
    await post.send("bob", "ann", body="now", reply_to=question.id, priority=Priority.URGENT)
    assert bodies(await post.claim("ann", thread=question.thread)) == ["now", "later"]


@promise("wanted", "ids-opaque")
async def test_a_thread_that_does_not_exist_is_refused(post: Post) -> None:
    await post.open("bob")
    with pytest.raises(Refusal) as refusal:
        await post.claim("bob", thread="nonsense")
    assert refusal.value.code is Code.UNKNOWN_MESSAGE


@promise("give-back")
async def test_what_a_cancelled_request_had_leased_is_ready_at_once(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2")
    await post.claim_one("bob", "one", "7")
    await post.claim_one("bob", "one", "8")
    assert await post.store.give_back("one", "7", surfaced=True) == 1
    assert bodies(await post.claim("bob", "two")) == ["1"]
    assert await post.store.give_back("one", "7", surfaced=True) == 0


@promise("give-back")
async def test_what_a_vanished_reader_had_leased_is_ready_at_once(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send("ann", "bob", "eve")
    await post.claim("bob", "one")
    await post.claim("eve", "one")
    assert await post.store.give_back("one", None, surfaced=False) == 2
    assert bodies(await post.claim("bob", "two")) == bodies(await post.claim("eve", "two")) == ["hello"]


@promise("give-back")
async def test_what_reached_the_reader_stays_with_it_unless_told(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "seen", "unseen")
    seen = await post.claim_one("bob", "one", "7")
    await post.store.surface(post.origin("one", "7"))
    await post.claim_one("bob", "one", "8")
    assert await post.store.give_back("one", None, surfaced=False) == 1
    assert bodies(await post.claim("bob", "two")) == ["unseen"]
    assert refused(await post.settle("bob", seen.handle, reader="one")) == [None]


@promise("unreached", "give-back")
async def test_after_a_crash_one_can_tell_who_never_saw_what_it_was_handed(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "seen", "unseen", "settled")
    await post.claim_one("bob", "one", "7")
    await post.store.surface(post.origin("one", "7"))
    await post.claim_one("bob", "two")
    settled = await post.claim_one("bob", "three")
    await post.settle("bob", settled.handle, reader="three")
    await post.reopen()
    assert [each.reader for each in await post.store.unreached()] == ["two"]
    assert await post.store.give_back("two", None, surfaced=False) == 1
    assert await post.store.unreached() == []


@promise("give-back")
async def test_what_was_given_back_can_still_be_settled_until_it_is_leased_again(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2")
    first, second = await post.claim("bob", "one")
    await post.store.give_back("one", None, surfaced=True)
    assert refused(await post.settle("bob", first.handle, reader="one")) == [None]
    assert bodies(await post.claim("bob", "two")) == ["2"]
    assert refused(await post.settle("bob", second.handle, reader="one")) == ["stale_lease"]


@promise("give-back", "rings")
async def test_giving_back_rings_each_mailbox_once(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send_many("ann", "bob", "1", "2")
    await post.send("ann", "eve")
    await post.claim("bob", "one")
    await post.claim("eve", "one")
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        await post.store.give_back("one", None, surfaced=True)
        assert sorted(rung, key=str) == [at("bob"), at("eve")]
        rung.clear()
        await post.store.give_back("one", None, surfaced=True)
        assert rung == []


@promise("attempts")
async def test_an_attempt_counts_once_and_only_when_surfaced(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    for request, expected in (("7", 0), ("8", 0), ("9", 1)):
        claimed = await post.claim_one("bob", request=request)
        assert claimed.attempts == expected
        if request != "7":
            await post.store.surface(post.origin("bob", request))
            await post.store.surface(post.origin("bob", request))
        await post.store.give_back("bob", request, surfaced=True)
    assert (await post.claim_one("bob")).attempts == 2
    assert (await post.inbox("bob")).previews[0].delivery.attempts == 2


@promise("attempts")
async def test_an_attempt_is_kept_when_the_lease_lapses_and_after_the_ack(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    for _ in range(2):
        claimed = await post.claim_one("bob", "one", request := f"{post.clock.now()}")
        await post.store.surface(post.origin("one", request))
        post.clock.step(TERM)
    await post.settle("bob", claimed.handle, reader="one")
    assert (await post.read("bob", claimed.message.id)).attempts == 2


@promise("attempts")
async def test_what_was_surfaced_is_counted_though_nothing_else_happens(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    await post.claim_one("bob", "one", "7")
    await post.store.surface(post.origin("one", "7"))
    while (await post.read("bob", sent.id)).attempts == 0:
        await anyio.lowlevel.checkpoint()


@promise("attempts")
async def test_what_was_surfaced_before_a_close_is_counted(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    await post.claim_one("bob", "one", "7")
    await post.store.surface(post.origin("one", "7"))
    await post.reopen()
    assert (await post.read("bob", sent.id)).attempts == 1


@promise("due")
async def test_due_tells_where_leases_ran_out_and_when_the_next_will(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send_many("ann", "bob", "1", "2")
    await post.send("ann", "eve")
    start = post.clock.now()
    assert await post.store.due(0) == Due([], None, sweep=False)
    await post.claim("bob", "one", term=1000)
    await post.claim("eve", "two", term=3000)
    assert await post.store.due(0) == Due([], start + 1000, sweep=False)
    post.clock.step(1000)
    assert await post.store.due(start) == Due([at("bob")], start + 3000, sweep=False)
    assert await post.store.due(post.clock.now()) == Due([], start + 3000, sweep=False)
    post.clock.step(2000)
    assert sorted(map(str, (await post.store.due(start)).mailboxes)) == ["bob@default", "eve@default"]
    assert await post.store.due(start + 1000) == Due([at("eve")], None, sweep=False)


@promise("due")
async def test_what_is_settled_or_given_back_is_not_due(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2", "3")
    first, second, _ = await post.claim("bob", "one", "7", term=1000)
    await post.settle("bob", first.handle)
    await post.settle("bob", second.handle, outcome=Outcome.RELEASE)
    await post.store.give_back("one", "7", surfaced=True)
    post.clock.step(1000)
    assert await post.store.due(0) == Due([], None, sweep=False)


@promise("unreached")
async def test_who_holds_leases_is_known_after_a_crash_and_until_when(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send_many("ann", "bob", "1", "2")
    await post.send("ann", "eve")
    start = post.clock.now()
    await post.claim("bob", "one", most=1, term=3000)
    await post.claim("bob", "one", most=1, term=1000)
    [held] = await post.claim("eve", "two")
    await post.engine.crash()
    assert sorted(await post.store.holders()) == [("one", start + 1000), ("two", start + TERM)]
    await post.settle("eve", held.handle, reader="two")
    assert await post.store.holders() == [("one", start + 1000)]


@promise("due")
async def test_a_reader_that_leaves_is_told_which_mailboxes_to_ring(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send("ann", "bob", "eve")
    await post.claim("bob", "one", term=1000)
    await post.claim("eve", "one", term=3000)
    assert await post.store.leave("one") == []
    post.clock.step(1000)
    assert await post.store.leave("one") == [at("bob")]
    assert await post.store.leave("two") == []


@promise("time-forward")
async def test_a_clock_set_back_does_not_lengthen_a_lease(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    post.clock.step(3_600_000)
    claimed = await post.claim_one("bob", "one")
    await post.engine.close()
    post.clock.step(-7_200_000)
    await post.engine.open()
    assert claimed.lease_until is not None
    assert 0 < claimed.lease_until - post.store.clock.now() <= TERM
    assert await post.claim("bob", "two") == []
    post.clock.step(TERM)
    assert bodies(await post.claim("bob", "two")) == ["hello"]


@promise("time-forward")
async def test_a_clock_set_back_does_not_date_mail_before_older_mail(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1")
    await post.engine.close()
    post.clock.step(-3_600_000)
    await post.engine.open()
    await post.send_many("ann", "bob", "2")
    post.clock.step(1)
    await post.send_many("ann", "bob", "3")
    times = [preview.delivery.message.accepted_at for preview in (await post.inbox("bob")).previews]
    assert times == [times[0], times[0], times[0] + 1]
    assert bodies(await post.inbox("bob", since=times[2])) == ["3"]


@promise("time-forward")
async def test_a_clock_set_back_leaves_what_was_settled_later_in_the_past(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    post.clock.step(1000)
    await post.settle("bob", (await post.claim_one("bob")).handle)
    before = post.store.clock.now()
    await post.engine.crash()
    post.clock.step(-5000)
    await post.engine.crash()
    assert post.store.clock.now() >= before
