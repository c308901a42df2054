"""Mail that has waited in an outbox before it was accepted: when it was written, and what counts from then."""

from __future__ import annotations

import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.budgets import HOUR, Limits
from mcp_mailbox.channel import Keep
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.store import Portion
from tests.contract.post import Post, at
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


@promise("written")
async def test_when_it_was_written_comes_with_a_message_wherever_it_is_shown(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    written = post.clock.now() - 5000
    sent = await post.send("ann", "bob", body="late", key="k", written=written)
    await post.send("ann", "bob", body="late, too")
    again = await post.send("ann", "bob", body="late", key="k", written=written + 1)
    assert (again.id, again.repeated) == (sent.id, True), "another time is no other message"
    await post.engine.crash()
    times = [written, None]
    assert (await post.store.read(at("bob"), sent.id)).message.written_at == written
    assert [each.delivery.message.written_at for each in (await post.inbox("bob")).previews] == times
    assert [each.message.written_at for each in (await post.store.mail_of(at("bob"), Portion(10, 1000))).mail] == times
    assert [each.message.written_at for each in await post.claim("bob")] == times


@promise("written")
async def test_nothing_is_written_later_than_it_is_accepted(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob", written=post.clock.now() + HOUR, ttl=1000)
    [got] = await post.claim("bob")
    assert got.message.written_at == got.message.accepted_at
    assert got.message.expires_at == got.message.accepted_at + 1000


@promise("written", "delay")
async def test_a_delay_that_was_over_meanwhile_is_none(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        await post.send("ann", "bob", body="due", delay=1000, written=post.clock.now() - 1000)
        assert rung == [at("bob")]
        await post.send("ann", "bob", body="soon", delay=1000, written=post.clock.now() - 400)
    assert rung == [at("bob")]
    assert [each.message.body for each in await post.claim("bob")] == ["due"]
    post.clock.step(600)
    assert [each.message.body for each in await post.claim("bob")] == ["soon"]


@promise("written", "expires")
async def test_what_expired_before_it_came_is_refused_and_does_nothing(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.open("shy", owner="another", profile=Profile(contact=Contact.ASK))
    fresh = await post.send("ann", "bob", body="fresh", topic="status")
    rung: list[Address] = []
    with post.store.on_ring(rung.append), pytest.raises(Refusal) as refusal:
        await post.send("ann", "bob", "shy", topic="status", ttl=1000, written=post.clock.now() - 1000)
    assert (refusal.value.code, "before it arrived" in refusal.value.problem) == (Code.GIVEN_UP, True)
    assert rung == []
    assert await post.claim("shy") == []
    assert [each.message.id for each in await post.claim("bob")] == [fresh.id]


@promise("written", "topic")
@pytest.mark.parametrize("to", ["bob", "#news"])
async def test_what_was_written_before_replaces_nothing_that_is_newer(post: Post, to: str) -> None:
    await post.mailboxes("ann", "bob")
    if to == "#news":
        for each in ("ann", "bob"):
            await post.store.subscribe(at(each), at(to), None, Keep(), post.origin(each))
    for body, waited in (("first", 5000), ("second", 4000)):
        await post.send("ann", to, body=body, topic="status", written=post.clock.now() - waited)
    await post.send("ann", to, body="now", topic="status")
    post.clock.step(1000)
    await post.send("ann", to, body="late", topic="status", written=post.clock.now() - 5000)
    assert [each.message.body for each in await post.claim("bob")] == ["now", "late"]


@promise("written", "guard-honest")
async def test_what_was_written_over_hours_is_no_storm_when_it_comes_at_once(post: Post) -> None:
    await post.engine.close()
    post.engine.limits = Limits(pair=10)
    await post.engine.open()
    await post.mailboxes("ann", "bob")
    began = post.clock.now()
    post.clock.step(10 * HOUR)
    for number in range(60):
        await post.send("ann", "bob", body="late", written=began + number * HOUR // 10)
    for number in range(40):  # in a minute, four hours ago
        await post.send("ann", "bob", body="late", written=began + 6 * HOUR + number)
    for _ in range(10):
        await post.send("ann", "bob", body="now")
    await post.send("ann", "bob", body="late", written=began + 7 * HOUR)
    with pytest.raises(Refusal) as refusal:
        await post.send("ann", "bob", body="now")
    assert refusal.value.code is Code.OVER_BUDGET


@promise("written", "guard-honest")
async def test_late_answers_are_not_counted_with_what_is_said_now_nor_as_quick_ones(post: Post) -> None:
    await post.engine.close()
    post.engine.limits = Limits(thread=10, hops=5)
    await post.engine.open()
    await post.mailboxes("ann", "bob")
    first = await post.send("ann", "bob")
    post.clock.step(10 * HOUR)
    began = post.clock.now() - 9 * HOUR
    await post.send("bob", "ann", body="now", reply_to=first.id)
    for number in range(30):
        await post.send("bob", "ann", body="late", reply_to=first.id, written=began + number * HOUR // 10)
    said = await post.send("ann", "bob", written=began)
    for number in range(1, 20):  # a quarter of an hour between them, when they were written
        said = await post.send("ann", "bob", reply_to=said.id, written=began + number * HOUR // 4)
