"""What would be new to a reader: ready, and seen by nobody, or put off until now."""

from __future__ import annotations

import pytest

from mcp_mailbox.channel import Keep
from mcp_mailbox.delivery import Outcome
from mcp_mailbox.doorbell import NEWS_LIMIT
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Kind as MailboxKind
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Kind, Priority
from mcp_mailbox.store import News
from tests.contract.post import TERM, Post, at
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


async def news(post: Post, mailbox: str = "bob") -> list[News]:
    return list(await post.store.news(at(mailbox)))


async def ids(post: Post, mailbox: str = "bob") -> list[str]:
    return [each.id for each in await news(post, mailbox)]


async def personal(post: Post, *names: str) -> None:
    for name in names:
        await post.open(name, profile=Profile(kind=MailboxKind.PERSONAL))


async def written(post: Post) -> None:
    """Let what is on its way to the disk arrive: the next commit takes it along."""
    await post.open("somebody")


@promise("news")
async def test_news_says_who_wrote_and_how_and_nothing_that_was_said(post: Post) -> None:
    await personal(post, "ann", "bob")
    sent = await post.send("ann", "bob", body="secret", subject="secret", priority=Priority.URGENT)
    [found] = await news(post)
    assert found == News(sent.id, sent.thread, at("ann"), Priority.URGENT, Kind.MESSAGE, False, post.clock.now(), False)
    assert "secret" not in repr(found)


@promise("news")
async def test_a_copy_says_that_it_is_one_and_a_receipt_and_a_report_what_they_are(post: Post) -> None:
    await personal(post, "ann", "bob", "eve")
    first = await post.send("ann", "bob", cc=("eve",), receipt=True)
    second = await post.send("ann", "bob")
    assert [each.copied for each in await news(post, "eve")] == [True]
    assert [each.copied for each in await news(post)] == [False, False]
    await post.settle("bob", first.id)
    await post.settle("bob", second.id, outcome=Outcome.REJECT)
    assert [each.kind for each in await news(post, "ann")] == [Kind.REPORT, Kind.RECEIPT]


@promise("news")
async def test_what_is_leased_shown_or_settled_is_no_news(post: Post) -> None:
    await personal(post, "ann", "bob")
    sent = [(await post.send("ann", "bob")).id for _ in range(3)]
    assert await ids(post) == sent[::-1]
    await post.store.show(at("bob"), [sent[0]])
    await written(post)
    assert await ids(post) == [sent[2], sent[1]]
    await post.settle("bob", sent[1])
    assert await ids(post) == [sent[2]]
    await post.claim("bob")
    assert await ids(post) == []


@promise("news")
async def test_what_is_given_back_unseen_is_news_again_and_can_be_told_from_before(post: Post) -> None:
    await personal(post, "ann", "bob")
    await post.send("ann", "bob")
    [before] = await news(post)
    post.clock.step(10)
    await post.claim("bob", request="wait")
    await post.store.give_back("bob", "wait", surfaced=True)
    [after] = await news(post)
    assert after.id == before.id
    assert after.since > before.since


@promise("news")
async def test_what_is_delayed_put_off_or_expired_is_news_at_its_time(post: Post) -> None:
    await personal(post, "ann", "bob")
    delayed = await post.send("ann", "bob", delay=1000)
    await post.send("ann", "bob", ttl=500)
    assert len(await ids(post)) == 1
    post.clock.step(500)
    assert await ids(post) == []
    post.clock.step(500)
    assert await ids(post) == [delayed.id]
    [held] = await post.claim("bob")
    await post.settle("bob", held.handle, outcome=Outcome.RELEASE, delay=1000)
    assert await ids(post) == []
    post.clock.step(1000)
    assert await ids(post) == [delayed.id]


@promise("news")
async def test_in_a_pool_whatever_is_ready_is_news_whoever_has_seen_it(post: Post) -> None:
    await personal(post, "ann", "bob")
    await post.open("pool")
    sent = await post.send("ann", "bob", "pool")
    for mailbox in ("bob", "pool"):
        await post.claim(mailbox, request="wait")
        await post.store.surface(post.origin(mailbox, "wait"))
    post.clock.step(TERM)
    await written(post)
    assert await ids(post, "bob") == []
    assert await ids(post, "pool") == [sent.id]


@promise("news")
async def test_news_tells_whether_somebody_was_rung_for_it(post: Post) -> None:
    await personal(post, "ann", "bob")
    await post.send("ann", "bob")
    await post.store.note_ring(at("bob"))
    await written(post)
    await post.send("ann", "bob")
    assert [each.rung for each in await news(post)] == [False, True]


@promise("news")
async def test_there_is_no_news_of_a_mailbox_that_is_not_there(post: Post) -> None:
    with pytest.raises(Refusal) as refused:
        await post.store.news(at("nobody"))
    assert refused.value.code is Code.UNKNOWN_MAILBOX


@promise("news-bounded")
async def test_news_is_of_the_newest_of_each_priority(post: Post) -> None:
    await personal(post, "ann", "bob")
    urgent = await post.send("ann", "bob", priority=Priority.URGENT)
    sent = [(await post.send("ann", "bob")).id for _ in range(NEWS_LIMIT + 5)]
    assert await ids(post) == [urgent.id, *sent[:4:-1]]


@promise("news")
async def test_what_was_published_is_news_to_each_member_and_says_by_which_channel(post: Post) -> None:
    await personal(post, "ann", "bob", "eve")
    for name in ("ann", "bob"):
        await post.store.subscribe(at(name), at("#build"), None, Keep(), post.origin(name))
    sent = await post.send("ann", "#build", priority=Priority.URGENT)
    [found] = await news(post)
    assert (found.id, found.sender, found.channel, found.copied) == (sent.id, at("ann"), at("#build"), False)
    assert await news(post, "ann") == [], "one's own words"
    assert await news(post, "eve") == []
    await post.claim("bob")
    assert await news(post) == []


@promise("news")
async def test_a_channel_in_cc_is_a_copy(post: Post) -> None:
    await personal(post, "ann", "bob", "eve")
    await post.store.subscribe(at("bob"), at("#build"), None, Keep(), post.origin("bob"))
    await post.send("ann", "eve", cc=("#build",))
    assert [each.copied for each in await news(post)] == [True]
