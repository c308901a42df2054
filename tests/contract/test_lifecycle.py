"""How a delivery goes on and ends: later, longer, too often, too late, replaced; and what its sender learns of it."""

from __future__ import annotations

import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Outcome, State
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Kind, Message, Priority
from mcp_mailbox.store import Show
from tests.contract.post import TERM, Post, at, bodies, refused
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


async def take(post: Post, box: str = "bob", reader: str | None = None) -> str:
    """Take what there is, see it, and return its handle."""
    reader = reader or box
    request = f"take {post.clock.now()} {reader}"
    [held] = await post.claim(box, reader, request, most=1)
    await post.store.surface(post.origin(reader, request))
    await flush(post)
    return held.handle


async def flush(post: Post) -> None:
    """Wait for what goes to disk with the next commit."""
    await post.store.give_back("nobody", None, surfaced=True)


async def notices(post: Post, box: str) -> list[Message]:
    """What the postmaster has written to a mailbox, each acked."""
    found = [delivery.message for delivery in await post.claim(box)]
    await post.settle(box, *(message.id for message in found))
    return [message for message in found if message.kind is not Kind.MESSAGE]


# -- later, longer


@promise("release-later")
async def test_what_is_released_for_later_is_handed_out_then(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    handle = await take(post)
    now = post.clock.now()
    assert refused(await post.settle("bob", handle, outcome=Outcome.RELEASE, delay=1000)) == [None]
    assert await post.unread("bob") == 0
    assert (await post.read("bob", sent.id)).deliver_at == now + 1000
    assert (await post.store.due(now)).next == now + 1000
    post.clock.step(999)
    assert await post.claim("bob") == []
    post.clock.step(1)
    assert (await post.store.due(now)).mailboxes == [at("bob")]
    assert await post.unread("bob") == 1
    assert len(await post.claim("bob")) == 1


@promise("extend", "fence")
async def test_an_extended_lease_lasts_longer_and_is_the_same(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    handle = await take(post, reader="one")
    post.clock.step(TERM - 1)
    assert refused(await post.settle("bob", handle, outcome=Outcome.EXTEND, reader="one", delay=TERM)) == [None]
    post.clock.step(TERM - 1)
    assert await post.claim("bob", "two") == []
    assert refused(await post.settle("bob", handle, reader="one")) == [None]


@promise("extend")
async def test_what_nobody_holds_cannot_be_extended(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    assert refused(await post.settle("bob", sent.id, outcome=Outcome.EXTEND, delay=TERM)) == ["stale_lease"]


@promise("delay")
async def test_a_delayed_message_is_there_and_handed_out_from_its_time_on(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        await post.send("ann", "bob", delay=1000)
    assert rung == []
    assert await post.listed("bob") == ["hello"]
    assert await post.claim("bob") == []
    await post.reopen()
    post.clock.step(1000)
    assert (await post.store.due(0)).mailboxes == [at("bob")]
    assert len(await post.claim("bob")) == 1


# -- too often


@promise("attempts-limit", "dead-letters")
@pytest.mark.parametrize("limit", [1, 3])
async def test_what_was_taken_too_often_is_a_dead_letter(post: Post, limit: int) -> None:
    await post.mailboxes("ann")
    await post.open("bob", profile=Profile(attempts=limit))
    sent = await post.send("ann", "bob")
    for _ in range(limit):
        await take(post)
        post.clock.step(TERM)
    assert await post.unread("bob") == 0
    assert await post.claim("bob", "another") == []
    assert (await post.store.due(0)).sweep
    assert not await post.store.sweep(0, ())
    progress = await post.read("bob", sent.id)
    assert (progress.state, progress.attempts) == (State.DEAD, limit)
    assert bodies(await post.inbox("bob", show=Show.DEAD)) == ["hello"]
    await post.engine.crash()
    assert await post.claim("bob") == []


@promise("attempts-limit", "present-keeps")
async def test_a_reader_that_is_here_may_still_ack_its_last_attempt(post: Post) -> None:
    await post.mailboxes("ann")
    await post.open("bob", profile=Profile(attempts=1))
    await post.send("ann", "bob")
    handle = await take(post, reader="one")
    post.clock.step(TERM)
    await post.store.sweep(0, ["one"])
    assert refused(await post.settle("bob", handle, reader="one")) == [None]


@promise("attempts-limit")
@pytest.mark.parametrize("how", ["it leaves", "it asks again"])
async def test_the_last_attempt_is_over_when_its_reader_leaves_or_asks_again(post: Post, how: str) -> None:
    await post.mailboxes("ann")
    await post.open("bob", profile=Profile(attempts=1))
    sent = await post.send("ann", "bob")
    handle = await take(post, reader="one")
    post.clock.step(TERM)
    if how == "it leaves":
        assert await post.store.leave("one") == [at("bob")]
    else:
        assert await post.claim("bob", "one") == []
    assert (await post.read("bob", sent.id)).state is State.DEAD
    assert refused(await post.settle("bob", handle, reader="one")) == ["already_settled"]


@promise("attempts-limit")
async def test_a_release_of_the_last_attempt_makes_a_dead_letter(post: Post) -> None:
    await post.mailboxes("ann")
    await post.open("bob", profile=Profile(attempts=2))
    sent = await post.send("ann", "bob")
    for state in (State.SURFACED, State.DEAD):
        assert refused(await post.settle("bob", await take(post), outcome=Outcome.RELEASE)) == [None]
        post.clock.step(1)
        assert (await post.read("bob", sent.id)).state is state


@promise("attempts-limit", "attempts")
async def test_what_never_reached_a_reader_is_no_attempt(post: Post) -> None:
    await post.mailboxes("ann")
    await post.open("bob", profile=Profile(attempts=1))
    await post.send("ann", "bob")
    for number in range(3):
        assert len(await post.claim("bob", "one", f"{number}")) == 1
        await post.store.give_back("one", f"{number}", surfaced=True)


@promise("attempts-limit")
async def test_a_limit_that_is_lowered_lets_what_waits_be_tried_once_more(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    for _ in range(3):
        await post.settle("bob", await take(post), outcome=Outcome.RELEASE)
        post.clock.step(1)
    await post.open("bob", profile=Profile(attempts=2))
    assert await post.unread("bob") == 1
    await post.settle("bob", await take(post), outcome=Outcome.RELEASE)
    assert bodies(await post.inbox("bob", show=Show.DEAD)) == ["hello"]


# -- too late


@promise("expires", "dead-letters")
async def test_what_has_expired_is_handed_to_nobody_and_listed_as_a_dead_letter(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", ttl=1000)
    assert (await post.store.due(0)).next == post.clock.now() + 1000
    post.clock.step(999)
    assert await post.unread("bob") == 1
    post.clock.step(1)
    assert await post.unread("bob") == 0
    assert await post.claim("bob") == []
    assert (await post.store.due(0)).sweep
    await post.store.sweep(0, ())
    assert (await post.read("bob", sent.id)).state is State.EXPIRED
    assert not (await post.store.due(0)).sweep


@promise("expires")
async def test_what_is_held_does_not_expire_before_its_lease_has_ended(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", ttl=1000)
    handle = await take(post)
    post.clock.step(1000)
    await post.store.sweep(0, ())
    assert (await post.read("bob", sent.id)).state is State.LEASED
    assert refused(await post.settle("bob", handle)) == [None]


@promise("expires")
async def test_many_that_expire_at_once_are_carried_off_in_slices(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    for _ in range(250):
        await post.send("ann", "bob", ttl=1000)
    post.clock.step(1000)
    slices = 1
    while await post.store.sweep(0, ()):
        slices += 1
    assert slices == 3
    assert len((await post.inbox("bob", 1000, show=Show.DEAD)).previews) == 250


# -- retried, purged


@promise("retry", "dead-letters")
@pytest.mark.parametrize("end", [State.REJECTED, State.EXPIRED, State.DEAD])
async def test_a_dead_letter_can_be_retried_whatever_it_died_of(post: Post, end: State) -> None:
    await post.mailboxes("ann")
    await post.open("bob", profile=Profile(attempts=1))
    sent = await post.send("ann", "bob", ttl=2 * TERM)
    stale = await take(post)
    if end is State.REJECTED:
        await post.settle("bob", stale, outcome=Outcome.REJECT)
    elif end is State.DEAD:
        await post.settle("bob", stale, outcome=Outcome.RELEASE)
    else:
        await post.store.give_back("bob", None, surfaced=True)
        post.clock.step(2 * TERM)
        await post.store.sweep(0, ())
    assert (await post.read("bob", sent.id)).state is end
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        assert refused(await post.settle("bob", sent.id, outcome=Outcome.RETRY)) == [None]
    assert rung == [at("bob")]
    assert (await post.read("bob", sent.id)).state is State.STORED
    [again] = await post.claim("bob", "two")
    assert (again.attempts, again.handle != stale) == (0, True)
    assert refused(await post.settle("bob", stale)) == ["stale_lease"]


@promise("dead-letters")
async def test_what_is_purged_is_listed_no_more_and_its_state_stays(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    await post.settle("bob", sent.id, outcome=Outcome.REJECT)
    for _ in range(2):
        assert refused(await post.settle("bob", sent.id, outcome=Outcome.PURGE)) == [None]
        assert await post.listed("bob") == []
    assert (await post.sent("ann", sent.id))["bob"].state is State.REJECTED


@promise("dead-letters")
@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.PURGE])
async def test_only_dead_letters_are_cleared(post: Post, outcome: Outcome) -> None:
    await post.mailboxes("ann", "bob")
    waiting, acked = await post.send_many("ann", "bob", "1", "2")
    await post.settle("bob", acked)
    expected = [None if outcome is Outcome.RETRY else "not_dead", "not_dead", "unknown_message"]
    assert refused(await post.settle("bob", waiting, acked, "nonsense", outcome=outcome)) == expected
    assert await post.listed("bob") == ["1"]


@promise("dead-letters")
async def test_dead_letters_are_listed_alone_in_pages(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    ids = await post.send_many("ann", "bob", *"abcde")
    await post.settle("bob", *ids[1:4], outcome=Outcome.REJECT)
    first = await post.inbox("bob", 2, show=Show.DEAD)
    rest = await post.inbox("bob", 2, first.previews[-1].cursor, show=Show.DEAD)
    assert (bodies(first), bodies(rest), rest.more) == (["b", "c"], ["d"], False)


# -- replaced


@promise("topic")
async def test_a_newer_message_of_a_topic_replaces_what_nobody_has_seen(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    first = await post.send("ann", "bob", "eve", body="first", topic="build")
    await post.send("ann", "bob", body="other", topic="tests")
    await post.send("eve", "bob", body="hers", topic="build")
    await post.send("ann", "bob", body="second", topic="build", priority=Priority.URGENT)
    assert await post.listed("bob") == ["second", "other", "hers"]
    assert await post.listed("eve") == ["first"]
    assert (await post.sent("ann", first.id))["bob"].state is State.REPLACED
    assert await post.unread("bob") == 3
    assert await notices(post, "ann") == []


@promise("topic")
@pytest.mark.parametrize("how", ["leased", "shown"])
async def test_what_somebody_may_have_seen_is_not_replaced(post: Post, how: str) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", body="first", topic="build")
    if how == "leased":
        await post.claim("bob", "one")
    else:
        await post.store.show(at("bob"), [sent.id])
    await post.send("ann", "bob", body="second", topic="build")
    assert await post.listed("bob") == ["first", "second"]


# -- cc


@promise("cc", "rings")
async def test_who_is_in_cc_gets_it_and_is_not_rung(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        accepted = await post.send("ann", "bob", cc=["eve", "bob"])
    assert rung == [at("bob")]
    assert [each.address for each in accepted.recipients][:2] == ["bob@default", "eve@default"]
    for box in ("bob", "eve"):
        [got] = await post.claim(box)
        assert (got.message.to, got.message.cc) == (("bob@default",), ("eve@default",))


@promise("cc", "key-covers-recipients")
async def test_a_key_tells_cc_from_to(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send("ann", "bob", cc=["eve"], key="k")
    with pytest.raises(Refusal) as conflict:
        await post.send("ann", "bob", "eve", key="k")
    assert conflict.value.code is Code.KEY_CONFLICT


# -- what the sender learns


@promise("states")
async def test_a_sender_sees_each_state_with_its_time(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    sent = await post.send("ann", "bob", "eve")
    times = {}

    async def state() -> State:
        return (await post.sent("ann", sent.id))["bob"].state

    assert await state() is State.STORED
    post.clock.step(10)
    times["rung_at"] = post.clock.now()
    await post.store.note_ring(at("bob"))
    await flush(post)
    assert await state() is State.RUNG
    post.clock.step(10)
    times["surfaced_at"] = post.clock.now()
    await post.store.note_ring(at("bob"))
    await post.store.show(at("bob"), [sent.id])
    await flush(post)
    assert await state() is State.SURFACED
    post.clock.step(10)
    times["leased_at"] = post.clock.now()
    handle = await take(post)
    assert await state() is State.LEASED
    post.clock.step(10)
    times["settled_at"] = post.clock.now()
    await post.settle("bob", handle)
    progress = (await post.sent("ann", sent.id))["bob"]
    assert progress.state is State.ACKED
    assert {name: getattr(progress, name) for name in times} == times
    assert (await post.sent("ann", sent.id))["eve"].state is State.STORED
    assert (await post.store.read(at("bob"), sent.id)).sent == (), "only its sender sees where all of it stands"


@promise("states")
async def test_a_ring_is_of_what_there_was_and_what_came_later_is_not_rung(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    first = await post.send("ann", "bob")
    await post.store.note_ring(at("bob"))
    await flush(post)
    second = await post.send("ann", "bob")
    assert (await post.read("bob", first.id)).state is State.RUNG
    assert (await post.read("bob", second.id)).state is State.STORED


@promise("told")
@pytest.mark.parametrize("end", [State.REJECTED, State.EXPIRED, State.DEAD])
async def test_a_sender_is_told_of_what_came_to_nothing(post: Post, end: State) -> None:
    await post.mailboxes("ann")
    await post.open("bob", profile=Profile(attempts=1))
    sent = await post.send("ann", "bob", subject="Task", ttl=1000)
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        if end is State.EXPIRED:
            post.clock.step(1000)
            await post.store.sweep(0, ())
        else:
            outcome = Outcome.REJECT if end is State.REJECTED else Outcome.RELEASE
            await post.settle("bob", await take(post), outcome=outcome, reason="no time")
    assert at("ann") in rung
    [report] = await notices(post, "ann")
    assert (report.kind, report.sender) == (Kind.REPORT, "postmaster@default")
    assert (report.thread, report.reply_to) == (sent.thread, sent.id)
    assert report.subject == "Not delivered: Task"
    assert "bob@default" in report.body
    assert ("no time" in report.body) is (end is not State.EXPIRED)
    assert ("was taken once and never acked" in report.body) is (end is State.DEAD)
    assert "unless its owner retries it" in report.body


@promise("told", "attempts-limit")
async def test_a_report_says_how_often_it_was_taken(post: Post) -> None:
    await post.mailboxes("ann")
    await post.open("bob", profile=Profile(attempts=3))
    await post.send("ann", "bob")
    for _ in range(3):
        await take(post)
        post.clock.step(TERM)
    await post.store.sweep(0, ())
    [report] = await notices(post, "ann")
    assert "was taken 3 times and never acked" in report.body


@promise("told")
async def test_a_receipt_is_sent_for_an_ack_that_was_asked_about_and_does_not_ring(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    asked = await post.send("ann", "bob", receipt=True)
    await post.send("ann", "bob")
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        for delivery in await post.claim("bob"):
            await post.settle("bob", delivery.handle)
    assert rung == []
    [receipt] = await notices(post, "ann")
    assert (receipt.kind, receipt.reply_to) == (Kind.RECEIPT, asked.id)


@promise("told")
async def test_an_answer_acks_and_so_brings_a_receipt_too(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob", receipt=True)
    await post.send("bob", "ann", reply_to=await take(post))
    assert [message.kind for message in await notices(post, "ann")] == [Kind.RECEIPT]


@promise("told")
async def test_of_notices_and_of_ones_own_mail_to_oneself_nobody_is_told(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    await post.settle("bob", sent.id, outcome=Outcome.REJECT)
    [report] = await post.claim("ann")
    await post.settle("ann", report.handle, outcome=Outcome.REJECT)
    own = await post.send("ann", "ann")
    await post.settle("ann", own.id, outcome=Outcome.REJECT)
    assert await post.claim("ann") == []
    assert await post.claim("bob") == []


@promise("told", "contact")
async def test_nobody_writes_to_the_postmaster(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    await post.settle("bob", sent.id, outcome=Outcome.REJECT)
    with pytest.raises(Refusal) as refusal:
        await post.send("ann", "postmaster")
    assert refusal.value.code is Code.UNKNOWN_MAILBOX


@promise("told", "contact")
async def test_who_answers_the_postmaster_is_told_that_nobody_reads_it_and_the_notice_still_waits(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    await post.settle("bob", sent.id, outcome=Outcome.REJECT)
    [told] = await post.claim("ann")
    with pytest.raises(Refusal) as refusal:
        await post.send("ann", "postmaster", reply_to=told.handle)
    assert (refusal.value.code, "Nobody reads" in refusal.value.problem) == (Code.UNKNOWN_MAILBOX, True)
    await post.settle("ann", told.handle, outcome=Outcome.RELEASE)
    assert [each.message.id for each in await post.claim("ann")] == [told.message.id]


@promise("told", "open-own")
async def test_a_mailbox_called_postmaster_that_was_there_before_stays_its_owners(post: Post) -> None:
    await post.mailboxes("ann", "bob", "postmaster")
    sent = await post.send("ann", "bob")
    await post.settle("bob", sent.id, outcome=Outcome.REJECT)
    [report] = await notices(post, "ann")
    assert report.sender == "postmaster-2@default"


@promise("overdue")
async def test_a_sender_lists_what_nobody_has_acked_for_a_while(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    acked = await post.send("ann", "bob", body="acked")
    await post.send("ann", "bob", "eve", body="old")
    await post.send("eve", "bob", body="hers")
    await post.settle("bob", acked.id)
    post.clock.step(1000)
    await post.send("ann", "bob", body="young")
    found: list[tuple[str, tuple[str, ...]]] = []
    cursor, more = None, True
    while more:
        page = await post.inbox("ann", 1, cursor, show=Show.OVERDUE, overdue=1000)
        found += [(each.delivery.message.body, each.delivery.message.to) for each in page.previews]
        cursor, more = page.previews[-1].cursor, page.more
    assert found == [("old", ("bob@default",)), ("old", ("eve@default",))]


@promise("cursor", "ids-opaque")
async def test_a_cursor_of_another_mailbox_or_listing_is_none(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2")
    cursor = (await post.inbox("bob", 1)).previews[0].cursor
    for attempt in (post.inbox("ann", 1, cursor), post.inbox("bob", 1, cursor, show=Show.OVERDUE)):
        with pytest.raises(Refusal) as refusal:
            await attempt
        assert refusal.value.code is Code.BAD_ARGUMENT


@promise("states")
async def test_what_is_put_off_counts_as_rung_for_no_other_mail(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    later = await post.send("ann", "bob", delay=1000)
    now = await post.send("ann", "bob")
    await post.store.note_ring(at("bob"))
    await flush(post)
    assert (await post.sent("ann", now.id))["bob"].state is State.RUNG
    progress = (await post.sent("ann", later.id))["bob"]
    assert (progress.state, progress.rung_at) == (State.STORED, None)
    post.clock.step(1000)
    assert (await post.sent("ann", later.id))["bob"].state is State.STORED
    [first, second] = await post.claim("bob")
    assert {first.message.id, second.message.id} == {later.id, now.id}
