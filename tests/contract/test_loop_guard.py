"""The loop guard: what goes round in circles is stopped, what is only much is not, and the refusal says what to do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mcp_mailbox.budgets import HOUR, PAUSE, Limits
from mcp_mailbox.channel import Keep
from mcp_mailbox.delivery import Outcome
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.message import Kind, Message, Priority
from tests.contract.post import Post, at
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


async def limited(post: Post, limits: Limits, *names: str) -> None:
    """Open the store with these budgets, and mailboxes in it."""
    await post.engine.close()
    post.engine.limits = limits
    await post.engine.open()
    await post.mailboxes(*names)


async def refusal_of(post: Post, sender: str, *to: str, reply_to: str | None = None, key: str | None = None) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await post.send(sender, *to, reply_to=reply_to, key=key)
    return refusal.value


def moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def talk(post: Post, one: str, other: str, *, every: int, most: int) -> int:
    """Let two answer each other; return how many messages were accepted, `most` if nothing stopped them."""
    said = await post.send(one, other)
    for count in range(1, most):
        one, other = other, one
        post.clock.step(every)
        try:
            said = await post.send(one, other, body="thank you", reply_to=said.id)
        except Refusal as refusal:
            assert refusal.code in {Code.TOO_MANY_HOPS, Code.OVER_BUDGET}  # noqa: PT017 - counted, not expected
            return count
    return most


# -- who is stopped, and who is not


@promise("guard-loops")
async def test_two_that_thank_each_other_are_stopped_within_minutes(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    assert await talk(post, "ann", "bob", every=5_000, most=1000) == 101, "8 minutes"


@promise("guard-loops")
async def test_a_slow_loop_over_night_is_stopped_too(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    assert await talk(post, "ann", "bob", every=9 * 60_000, most=1000) == 101


@promise("guard-honest")
async def test_a_conversation_over_a_day_with_pauses_goes_on(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    said = await post.send("ann", "bob")
    for number in range(600):
        post.clock.step(PAUSE if number % 60 == 59 else 60_000)
        one, other = ("bob", "ann") if number % 2 == 0 else ("ann", "bob")
        said = await post.send(one, other, reply_to=said.id)
    assert said.thread


@pytest.mark.soak
@promise("guard-honest")
async def test_a_thousand_tasks_in_a_minute_their_answers_and_receipts_are_no_loop(post: Post) -> None:
    await post.mailboxes("boss", "pool")
    plan = await post.send("boss", "pool", body="the plan")
    for _ in range(500):
        post.clock.step(60)
        task = await post.send("boss", "pool", body="task", receipt=True)
        await post.send("pool", "boss", body="done", reply_to=task.id)
        task = await post.send("boss", "pool", body="task of the plan", reply_to=plan.id)
        await post.send("pool", "boss", body="done", reply_to=task.id)


@promise("guard-loops")
async def test_a_storm_of_answers_in_one_thread_is_stopped(post: Post) -> None:
    await limited(post, Limits(thread=10), "ann", "bob")
    first = await post.send("ann", "bob")
    for _ in range(10):
        await post.send("bob", "ann", reply_to=first.id)
    refusal = await refusal_of(post, "bob", "ann", reply_to=first.id)
    assert refusal.code is Code.OVER_BUDGET
    assert (await post.send("bob", "ann")).id, "another thread has room"
    post.clock.step(HOUR // 10)
    await post.send("bob", "ann", reply_to=first.id)


@promise("guard-apart")
async def test_who_answers_without_end_silences_nobody_else_in_that_thread(post: Post) -> None:
    """Whoever may read a channel may answer in it, also to itself, where nobody sees it."""
    await limited(post, Limits(thread=3), "ann", "bob")
    await post.open("mallory", owner="another")
    await post.store.subscribe(at("ann"), at("#plan"), None, Keep(), post.origin("ann"))
    said = await post.send("bob", "#plan")
    for _ in range(3):
        await post.send("mallory", "mallory", reply_to=said.id)
    assert (await refusal_of(post, "mallory", "mallory", reply_to=said.id)).code is Code.OVER_BUDGET
    for sender in ("ann", "bob", "ann"):
        await post.send(sender, "#plan", reply_to=said.id)
    assert (await refusal_of(post, "bob", "#plan", reply_to=said.id)).code is Code.OVER_BUDGET


@promise("guard-loops", "recipients-apart")
async def test_who_has_had_enough_of_one_sender_is_refused_and_the_others_get_it(post: Post) -> None:
    await limited(post, Limits(pair=3), "ann", "bob", "cid")
    for _ in range(3):
        await post.send("ann", "bob")
    sent = await post.send("ann", "bob", "cid", body="both")
    assert [each.refusal and each.refusal.code for each in sent.recipients] == [Code.OVER_BUDGET, None]
    assert await post.listed("cid") == ["both"]
    assert len(await post.listed("bob")) == 3
    assert (await refusal_of(post, "ann", "bob")).code is Code.OVER_BUDGET
    await post.send("cid", "bob")
    await post.send("bob", "ann")


# -- how


@promise("guard-told")
async def test_the_refusal_says_which_budget_how_much_when_there_is_room_and_how_to_raise_it(post: Post) -> None:
    await limited(post, Limits(thread=4, pair=3, hops=2), "ann", "bob", "cid")
    begin = post.clock.now()
    first = await post.send("ann", "bob")
    await post.send("ann", "bob")
    await post.send("ann", "bob")
    pair = await refusal_of(post, "ann", "bob")
    assert "bob@default" in pair.problem
    assert "3 messages an hour" in pair.problem
    assert moment(begin + HOUR // 3) in pair.hint
    assert "MCP_MAILBOX_PAIR_BUDGET" in pair.hint
    for to in ("cid", "cid", "cid", "ann"):
        await post.send("bob", to, reply_to=first.id)
    thread = await refusal_of(post, "bob", "ann", reply_to=first.id)
    assert "4 answers an hour" in thread.problem
    assert moment(begin + HOUR // 4) in thread.hint
    assert "MCP_MAILBOX_THREAD_BUDGET" in thread.hint
    await post.open("dan")
    said = await post.send("dan", "cid")
    for one, other in (("cid", "dan"), ("dan", "cid")):
        said = await post.send(one, other, reply_to=said.id)
    hops = await refusal_of(post, "cid", "dan", reply_to=said.id)
    assert hops.code is Code.TOO_MANY_HOPS
    assert "the limit is 2" in hops.problem
    assert "new thread" in hops.hint
    assert "MCP_MAILBOX_HOPS" in hops.hint


@promise("guard-first", "key-repeats", "key-free-after-refusal")
async def test_what_is_repeated_is_answered_and_what_is_refused_leaves_nothing(post: Post) -> None:
    await limited(post, Limits(pair=1, thread=1, hops=1), "ann", "bob")
    first = await post.send("ann", "bob", key="k")
    for _ in range(3):
        assert (await post.send("ann", "bob", key="k")).id == first.id
    assert (await refusal_of(post, "ann", "bob", key="l")).code is Code.OVER_BUDGET
    assert await post.listed("bob") == ["hello"]
    answer = await post.send("bob", "ann", reply_to=first.id, key="a")
    refusal = await refusal_of(post, "ann", "bob", reply_to=answer.id, key="l")
    assert refusal.code is Code.TOO_MANY_HOPS
    assert len(await post.claim("ann")) == 1, "and acks nothing"
    post.clock.step(HOUR)
    assert not (await post.send("ann", "bob", key="l")).repeated


@promise("guard-first")
async def test_what_comes_to_nothing_spends_nothing(post: Post) -> None:
    await limited(post, Limits(pair=1, thread=1), "ann", "bob", "cid")
    for _ in range(3):
        assert (await refusal_of(post, "ann", "nobody")).code is Code.UNKNOWN_MAILBOX
    first = await post.send("ann", "bob")
    for _ in range(3):
        assert (await refusal_of(post, "bob", "nobody", reply_to=first.id)).code is Code.UNKNOWN_MAILBOX
        assert (await refusal_of(post, "ann", "bob")).code is Code.OVER_BUDGET
    await post.send("bob", "ann", reply_to=first.id)


@promise("guard-first")
async def test_a_closed_mailbox_does_not_show_by_a_budget(post: Post) -> None:
    await limited(post, Limits(pair=1))
    await post.open("bob", profile=Profile(contact=Contact.CLOSED))
    await post.open("eve", owner="eve")
    for _ in range(3):
        assert (await refusal_of(post, "eve", "bob")).code is Code.UNKNOWN_MAILBOX


@promise("guard-notices")
async def test_the_postmaster_writes_as_much_as_there_is_to_say(post: Post) -> None:
    await limited(post, Limits(pair=0, thread=2), "ann", "bob")
    first = await post.send("ann", "bob")
    ids = [first.id, *[(await post.send("ann", "bob", reply_to=first.id)).id for _ in range(2)]]
    await post.settle("bob", *ids, outcome=Outcome.REJECT)
    reports = await post.claim("ann")
    assert [each.message.kind for each in reports] == [Kind.REPORT] * 3
    assert {each.message.thread for each in reports} == {first.thread}


@promise("guard-loops")
async def test_a_chain_goes_on_through_a_report(post: Post) -> None:
    """Who answers each report with the same again is in a loop with the postmaster."""
    await limited(post, Limits(hops=5), "ann", "bob")
    sent = await post.send("ann", "bob")
    for _ in range(5):
        await post.settle("bob", sent.id, outcome=Outcome.REJECT)
        [report] = await post.claim("ann")
        sent = await post.send("ann", "bob", reply_to=report.handle)
    await post.settle("bob", sent.id, outcome=Outcome.REJECT)
    [report] = await post.claim("ann")
    assert (await refusal_of(post, "ann", "bob", reply_to=report.handle)).code is Code.TOO_MANY_HOPS


# -- what the others are told


async def reports(post: Post, name: str) -> list[Message]:
    page = await post.inbox(name)
    return [each.delivery.message for each in page.previews if each.delivery.message.kind is Kind.REPORT]


async def looped(post: Post, hops: int, *names: str) -> str:
    """Let two of them answer each other until the guard says no; return the last id, to which the first answers."""
    await limited(post, Limits(hops=hops), *names)
    one, other = names[:2]
    said = await post.send(one, other)
    for _ in range(hops):
        one, other = other, one
        said = await post.send(one, other, reply_to=said.id)
    return said.id


@promise("guard-others")
async def test_who_waits_for_a_refused_answer_is_told_by_which_limit_and_until_when(post: Post) -> None:
    last = await looped(post, 2, "ann", "bob", "cid")
    until = post.clock.now() + PAUSE
    rung: list[str] = []
    with post.store.on_ring(lambda address: rung.append(address.name)):
        await refusal_of(post, "bob", "ann", "cid", reply_to=last)
    assert rung == ["ann"], "who waits is woken"
    [told] = await reports(post, "ann")
    assert (told.sender, told.reply_to) == ("postmaster@default", last)
    assert told.thread == (await post.store.read(at("ann"), last)).message.thread
    assert told.priority is Priority.LOW
    whole = (await post.store.read(at("ann"), told.id)).message.body
    for words in ("bob@default", "2 quick answers", moment(until), "lost", "no answer is due"):
        assert words in whole
    assert await reports(post, "cid") == [], "who has written nothing in that thread"
    assert await reports(post, "bob") == [], "who was told in its call"


@promise("guard-others-once", "durable")
async def test_it_is_told_once_an_hour_also_after_a_crash(post: Post) -> None:
    last = await looped(post, 2, "ann", "bob")
    for _ in range(3):
        assert (await refusal_of(post, "bob", "ann", reply_to=last, key="k")).code is Code.TOO_MANY_HOPS
        await post.engine.crash()
    assert len(await reports(post, "ann")) == 1
    post.clock.step(HOUR)
    said = await post.send("bob", "ann", reply_to=last)
    said = await post.send("ann", "bob", reply_to=said.id)
    await refusal_of(post, "bob", "ann", reply_to=said.id)
    assert len(await reports(post, "ann")) == 2


@promise("guard-others-quiet", "guard-others")
async def test_an_answer_to_such_a_report_is_refused_as_the_chain_is_and_nobody_is_told_of_that(post: Post) -> None:
    last = await looped(post, 2, "ann", "bob")
    await post.open("eve", owner="another")
    await refusal_of(post, "bob", "ann", reply_to=last)
    [told] = await post.claim("ann", sender="bob")
    assert told.message.kind is Kind.REPORT
    for to in ("bob", "postmaster"):
        refused = await refusal_of(post, "ann", to, reply_to=told.handle)
        assert (refused.code, "answer 3" in refused.problem) == (Code.TOO_MANY_HOPS, True)
    assert await reports(post, "bob") == []
    post.clock.step(PAUSE)
    assert (await post.send("bob", "ann", reply_to=last)).id, "the report has added nothing to the chain"


@promise("guard-others")
async def test_nobody_has_us_write_to_who_has_no_part_in_the_thread_or_does_not_take_its_mail(post: Post) -> None:
    await limited(post, Limits(thread=1))
    for name, contact in {"eve": Contact.OPEN, "ann": Contact.OPEN, "bob": Contact.CLOSED, "cid": Contact.ASK}.items():
        await post.open(name, owner=name, profile=Profile(contact=contact))
    await post.store.subscribe(at("ann"), at("#plan"), None, Keep(), post.origin("ann"))
    said = await post.send("bob", "#plan")
    await post.send("cid", "#plan", reply_to=said.id)
    await post.send("eve", "eve", reply_to=said.id)
    refused = await refusal_of(post, "eve", "ann", "cid", "postmaster", reply_to=said.id)
    assert refused.code is Code.OVER_BUDGET
    for name in ("ann", "bob", "cid"):
        assert await reports(post, name) == []


@promise("guard-others")
async def test_who_is_answered_by_way_of_a_channel_is_told_and_its_other_members_are_not(post: Post) -> None:
    await limited(post, Limits(thread=1), "ann", "bob", "cid")
    for name in ("ann", "bob", "cid"):
        await post.store.subscribe(at(name), at("#plan"), None, Keep(), post.origin(name))
    said = await post.send("ann", "#plan")
    await post.send("cid", "#plan", reply_to=said.id)
    await refusal_of(post, "bob", "#plan", reply_to=said.id)
    assert (len(await reports(post, "ann")), await reports(post, "cid")) == (1, [])


@promise("guard-others", "guard-others-once", "recipients-apart")
async def test_a_budget_of_two_is_told_in_one_of_their_threads(post: Post) -> None:
    await limited(post, Limits(pair=2), "ann", "bob", "cid")
    first, second = await post.send("ann", "bob"), await post.send("ann", "bob")
    for said in (first, second):
        await post.send("bob", "ann", reply_to=said.id)
    await refusal_of(post, "bob", "ann")
    assert await reports(post, "ann") == [], "that belongs to no thread of theirs"
    sent = await post.send("bob", "ann", "cid", reply_to=first.id)
    assert [each.refusal is None for each in sent.recipients] == [False, True]
    await refusal_of(post, "bob", "ann", reply_to=second.id)
    assert [told.thread for told in await reports(post, "ann")] == [first.thread]


@promise("guard-restart", "durable")
async def test_a_restart_forgets_budgets_and_keeps_chains(post: Post) -> None:
    await limited(post, Limits(pair=2, hops=2), "ann", "bob")
    first = await post.send("ann", "bob")
    answer = await post.send("bob", "ann", reply_to=first.id)
    last = await post.send("ann", "bob", reply_to=answer.id)
    await post.engine.crash()
    assert (await refusal_of(post, "bob", "ann", reply_to=last.id)).code is Code.TOO_MANY_HOPS
    await post.send("ann", "bob")
    await post.send("ann", "bob")
    assert (await refusal_of(post, "ann", "bob")).code is Code.OVER_BUDGET


@promise("guard-off")
async def test_a_budget_of_nothing_is_none(post: Post) -> None:
    await limited(post, Limits(0, 0, 0), "ann", "bob")
    assert await talk(post, "ann", "bob", every=1, most=300) == 300
