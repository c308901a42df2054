"""What listing and reading show, and that looking changes nothing."""

from __future__ import annotations

import re

import pytest

from mcp_mailbox.delivery import Outcome, State
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Priority
from tests.contract.post import TERM, Post, at, bodies, refused
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio

GARBAGE = [
    "",
    ".",
    "c",
    "0",
    "nonsense",
    "../../etc",
    "1'; DROP TABLE message",
    "\0",
    "é",
    "\ud800",
    "9" * 10_000,
    "0.1",
]


@promise("look-only")
async def test_listing_and_reading_lease_nothing(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    for _ in range(2):
        page = await post.inbox("bob")
        assert page.previews[0].delivery.state is State.STORED
        assert page.previews[0].delivery.lease_until is None
        read = await post.read("bob", sent.id)
        assert (read.state, read.attempts, read.lease_until) == (State.STORED, 0, None)
    assert (await post.claim_one("bob")).attempts == 0


@promise("look-only")
async def test_a_listing_shows_who_is_at_it_and_keeps_showing_it(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    claimed = await post.claim_one("bob")
    [preview] = (await post.inbox("bob")).previews
    assert (preview.delivery.state, preview.delivery.lease_until) == (State.LEASED, claimed.lease_until)
    assert (await post.read("bob", claimed.handle)).state is State.LEASED
    post.clock.step(TERM)
    assert (await post.inbox("bob")).previews[0].delivery.state is State.RUNG
    assert (await post.read("bob", sent.id)).state is State.RUNG


@promise("look-only")
async def test_a_preview_is_one_short_line_and_tells_the_size(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob", body="ж\n" * 1000, subject="s")
    [preview] = (await post.inbox("bob")).previews
    assert preview.size == 3000
    assert "\n" not in preview.delivery.message.body
    assert len(preview.delivery.message.body) <= 120
    assert preview.delivery.message.subject == "s"


@promise("cursor")
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_show_everything_once_and_in_order(post: Post, limit: int) -> None:
    await post.mailboxes("ann", "bob")
    for priority in (Priority.LOW, Priority.URGENT, Priority.NORMAL):
        await post.send_many("ann", "bob", *(f"{priority.word} {n}" for n in range(3)), priority=priority)
    whole = await post.listed("bob")
    shown, cursor = [], None
    while True:
        page = await post.inbox("bob", limit, cursor)
        shown += bodies(page)
        if not page.more:
            break
        cursor = page.previews[-1].cursor
    assert shown == whole
    assert len(shown) == 9


@promise("cursor")
async def test_a_page_may_be_cut_anywhere(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", *map(str, range(6)))
    page = await post.inbox("bob", 4)
    assert bodies(await post.inbox("bob", 10, page.previews[1].cursor)) == ["2", "3", "4", "5"]


@promise("cursor")
async def test_pages_skip_nothing_while_mail_in_front_is_settled_and_new_mail_comes(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", *(f"normal {n}" for n in range(6)))
    await post.send_many("ann", "bob", "low", priority=Priority.LOW)
    first = await post.inbox("bob", 2)
    await post.settle("bob", *(preview.delivery.handle for preview in first.previews))
    await post.send_many("ann", "bob", "urgent", priority=Priority.URGENT)
    await post.send_many("ann", "bob", "normal 6")
    second = await post.inbox("bob", 2, first.previews[-1].cursor)
    assert bodies(second) == ["normal 2", "normal 3"]
    await post.reopen()
    third = await post.inbox("bob", 9, second.previews[-1].cursor)
    assert bodies(third) == ["normal 4", "normal 5", "normal 6", "low"]
    assert not third.more


@promise("cursor", "dead-letters")
async def test_what_is_rejected_between_two_pages_is_not_skipped(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "1", "2", "3")
    first = await post.inbox("bob", 1)
    await post.settle("bob", (await post.inbox("bob")).previews[1].delivery.handle, outcome=Outcome.REJECT)
    assert bodies(await post.inbox("bob", 9, first.previews[-1].cursor)) == ["3", "2"]


@promise("listing-filters")
async def test_a_listing_may_be_of_urgent_mail_only(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    for number in range(4):
        await post.send("ann", "bob", body=f"{number}", priority=Priority.URGENT if number % 2 else Priority.NORMAL)
    page = await post.inbox("bob", 1, urgent_only=True)
    assert bodies(page) == ["1"]
    assert page.more
    assert page.unread == 4
    page = await post.inbox("bob", 1, page.previews[-1].cursor, urgent_only=True)
    assert bodies(page) == ["3"]
    assert not page.more


@promise("listing-filters")
async def test_a_listing_may_begin_at_a_time(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    times = []
    for number in range(4):
        post.clock.step(1000)
        times.append(post.clock.now())
        await post.send("ann", "bob", body=f"{number}", priority=Priority.LOW if number % 2 else Priority.NORMAL)
    assert bodies(await post.inbox("bob", since=times[2])) == ["2", "3"]
    assert bodies(await post.inbox("bob", since=times[1] + 1)) == ["2", "3"]
    assert bodies(await post.inbox("bob", since=times[3] + 1)) == []
    page = await post.inbox("bob", 1, since=times[1])
    assert bodies(page) == ["2"]
    assert bodies(await post.inbox("bob", 9, page.previews[-1].cursor, since=times[1])) == ["1", "3"]


@promise("listing-filters")
@pytest.mark.parametrize(("since", "expected"), [(-1, 1), (-(10**30), 1), (0, 1), (10**30, 0)])
async def test_a_listing_takes_any_time(post: Post, since: int, expected: int) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    assert len((await post.inbox("bob", since=since)).previews) == expected


@promise("dead-letters")
async def test_rejected_mail_is_kept_and_listed_last(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    urgent = await post.send("ann", "bob", body="never", priority=Priority.URGENT)
    await post.send_many("ann", "bob", "low", priority=Priority.LOW)
    await post.settle("bob", urgent.id, outcome=Outcome.REJECT)
    page = await post.inbox("bob")
    assert bodies(page) == ["low", "never"]
    assert page.previews[1].delivery.state is State.REJECTED
    assert bodies(await post.inbox("bob", 1, page.previews[0].cursor)) == ["never"]
    assert bodies(await post.inbox("bob", urgent_only=True)) == []
    assert (await post.read("bob", urgent.id)).state is State.REJECTED


@promise("unread")
async def test_unread_is_exact_whatever_happens(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    assert await post.unread("bob") == 0
    await post.send_many("ann", "bob", "1", "2", "3", "4", "5")
    assert await post.unread("bob") == 5
    one, two = await post.claim("bob", "one", "7", most=2)
    three = await post.claim_one("bob", "one", "8")
    assert await post.unread("bob") == 2
    await post.settle("bob", one.handle)
    assert await post.unread("bob") == 2
    await post.settle("bob", two.handle, outcome=Outcome.RELEASE)
    assert await post.unread("bob") == 3
    await post.settle("bob", two.message.id, outcome=Outcome.REJECT)
    assert await post.unread("bob") == 2
    await post.settle("bob", two.message.id, one.handle)
    assert await post.unread("bob") == 2
    await post.store.give_back("one", "8", surfaced=True)
    assert await post.unread("bob") == 3
    await post.claim("bob", "two", term=10)
    assert await post.unread("bob") == 0
    await post.reopen()
    assert await post.unread("bob") == 0
    post.clock.step(10)
    assert await post.unread("bob") == 3
    await post.send("bob", "ann", reply_to=three.message.id)
    assert await post.unread("bob") == 2
    assert len(await post.claim("bob", "three")) == 2
    assert (await post.open("bob")).mailbox.unread == 0


@promise("read")
async def test_who_received_or_sent_it_can_read_it_whole_and_nobody_else(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    sent = await post.send("ann", "bob", body="x" * 100_000)
    for mailbox in ("ann", "bob"):
        read = await post.store.read(at(mailbox), sent.id)
        assert (read.message.id, len(read.message.body)) == (sent.id, 100_000)
    with pytest.raises(Refusal) as stranger:
        await post.store.read(at("eve"), sent.id)
    with pytest.raises(Refusal) as nobody:
        await post.store.read(at("eve"), "nonsense")
    assert stranger.value.code is nobody.value.code is Code.UNKNOWN_MESSAGE
    assert stranger.value.hint == nobody.value.hint


@promise("read")
async def test_a_settled_message_can_still_be_read(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    await post.settle("bob", sent.id)
    read = await post.store.read(at("bob"), sent.id)
    assert read.message.body == "hello"
    assert (await post.read("bob", sent.id)).state is State.ACKED


@promise("ids-opaque")
@pytest.mark.parametrize("text", GARBAGE, ids=lambda text: ascii(text[:20]))
async def test_garbage_is_refused_as_id_handle_and_cursor(post: Post, text: str) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    with pytest.raises(Refusal) as refusal:
        await post.store.read(at("bob"), text)
    assert refusal.value.code is Code.UNKNOWN_MESSAGE
    assert len(str(refusal.value)) < 300
    assert refused(await post.settle("bob", text)) == ["unknown_message"]
    if text:
        with pytest.raises(Refusal) as refusal:
            await post.inbox("bob", cursor=text)
        assert refusal.value.code is Code.BAD_ARGUMENT
    assert await post.unread("bob") == 1


@promise("ids-opaque")
async def test_ids_that_are_off_by_a_character_are_refused(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    ids = await post.send_many("ann", "bob", *map(str, range(20)))
    for place in range(len(ids[7])):
        other = "x" if ids[7][place] != "x" else "y"
        text = ids[7][:place] + other + ids[7][place + 1 :]
        assert refused(await post.settle("bob", text)) == ["unknown_message"]
    assert await post.unread("bob") == 20


@promise("ids-plain")
async def test_what_stands_around_an_id_is_told_from_it(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", *map(str, range(20)))
    cursors = [preview.cursor for preview in (await post.inbox("bob")).previews]
    handles = [(each.handle, each.message.id, each.message.thread) for each in await post.claim("bob")]
    made = [text for texts in handles for text in texts] + cursors
    assert len(made) > 30
    assert [text for text in made if not re.fullmatch(r"[0-9A-Za-z._-]+", text)] == []


@promise("ids-opaque")
async def test_a_cursor_is_no_id_and_an_id_no_cursor(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    for _ in range(450):  # an id and a cursor may share letters only when there are enough of them
        await post.send("ann", "bob")
    cursor: str | None = None
    for _ in range(5):
        page = await post.inbox("bob", 100, cursor)
        for preview in page.previews:
            assert refused(await post.settle("bob", preview.cursor)) == ["unknown_message"]
            with pytest.raises(Refusal):
                await post.inbox("bob", cursor=preview.delivery.message.id)
        cursor = page.previews[-1].cursor
    assert await post.unread("bob") == 450


@promise("check")
async def test_a_sound_store_says_ok(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    assert await post.store.check() == "ok"
