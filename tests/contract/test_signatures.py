"""What the sender's machine has signed a message with, and whose words a message has."""

from __future__ import annotations

import pytest

from mcp_mailbox.delivery import Outcome
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.message import Kind
from mcp_mailbox.store import Portion
from tests.contract.post import Post, at
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio
KEEP = 1000


@promise("signed")
async def test_a_signature_comes_with_its_message_and_goes_with_it(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", key="k", signature="a.b.c")
    again = await post.send("ann", "bob", key="k", signature="d.e.f")
    assert (again.id, again.repeated) == (sent.id, True), "another signature is no other message"
    plain = await post.send("ann", "bob")
    await post.engine.crash()
    assert [(await post.store.read(at("bob"), each.id)).message.signature for each in (sent, plain)] == ["a.b.c", None]
    archived = (await post.store.mail_of(at("bob"), Portion(10, 1000))).mail
    assert [each.message.signature for each in archived] == ["a.b.c", None]
    got = await post.claim("bob")
    assert [each.message.signature for each in got] == ["a.b.c", None]
    await post.settle("bob", *(each.handle for each in got))
    post.clock.step(2 * KEEP)
    while await post.store.forget_settled(KEEP):
        pass
    fresh = await post.send("ann", "bob")
    assert (await post.store.read(at("bob"), fresh.id)).message.signature is None


@promise("whose")
async def test_a_message_says_whose_its_sender_is_and_a_notice_whether_it_quotes(post: Post) -> None:
    await post.open("ann", owner="me")
    await post.open("bob", owner="me", profile=Profile(contact=Contact.OPEN))
    await post.open("eve", owner="eve", profile=Profile(contact=Contact.OPEN))
    for sender in ("ann", "eve"):
        await post.send(sender, "bob")
    got = await post.claim("bob")
    assert [each.message.principal for each in got] == ["me", "eve"]
    assert [each.message.is_strangers("me") for each in got] == [False, True]
    for name, reason, quotes in (("bob", "no", False), ("eve", "no", True), ("eve", "", False)):
        sent = await post.send("ann", name)
        await post.settle(name, sent.id, outcome=Outcome.REJECT, reason=reason)
        [notice] = await post.claim("ann")
        assert (notice.message.kind, notice.message.is_strangers("me")) == (Kind.REPORT, quotes)
        [(_, told)] = (await post.store.read(at("ann"), sent.id)).sent
        assert told.by == ({"bob": "me", "eve": "eve"}[name] if reason else None)
        await post.settle("ann", notice.handle)


@promise("whose")
async def test_a_request_quotes_the_stranger_who_asks(post: Post) -> None:
    await post.open("ann", owner="me", profile=Profile(contact=Contact.ASK))
    await post.open("eve", owner="eve")
    await post.send("eve", "ann")
    [notice] = await post.claim("ann")
    assert (notice.message.kind, notice.message.is_strangers("me")) == (Kind.REQUEST, True)
