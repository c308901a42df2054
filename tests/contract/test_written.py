"""Mail that has waited in an outbox before it was accepted: when it was written, and what counts from then."""

from __future__ import annotations

import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.budgets import HOUR, Limits
from mcp_mailbox.delivery import State
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Kind
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
async def test_what_expired_before_it_came_is_handed_to_nobody_and_told_to_its_sender(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        sent = await post.send("ann", "bob", ttl=1000, written=post.clock.now() - 1000)
    assert rung == []
    assert await post.claim("bob") == []
    while (await post.store.due(0)).sweep:
        await post.store.sweep(0, ())
    assert (await post.sent("ann", sent.id))["bob"].state is State.EXPIRED
    [report] = await post.claim("ann")
    assert report.message.kind is Kind.REPORT


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
    with pytest.raises(Refusal) as refusal:
        await post.send("ann", "bob", body="now")
    assert refusal.value.code is Code.OVER_BUDGET
