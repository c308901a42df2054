"""Mail that has had its time goes, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_mailbox.channel import Keep
from mcp_mailbox.delivery import Outcome, State
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.store import Portion, Query, Show
from tests.contract.post import Post, at, bodies, refused
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio
AGE = 1000


async def forget(post: Post, age: int = AGE) -> None:
    """Remove what was settled so long ago."""
    before = post.store.clock.now() - age
    while await post.store.forget_settled(before):
        pass
    while await post.store.compact():
        pass


async def gone(post: Post, mailbox: str, id_: str) -> bool:
    try:
        await post.store.read(at(mailbox), id_)
    except Refusal as refusal:
        return refusal.code is Code.UNKNOWN_MESSAGE
    return False


async def exported(post: Post, mailbox: str, thread: str | None = None) -> list[str]:
    page = await post.store.mail_of(at(mailbox), Portion(100, 1 << 20, None, thread))
    assert page.next is None
    return [each.message.body for each in page.mail]


async def found(post: Post, mailbox: str, words: str = "", thread: str | None = None) -> list[str]:
    hits = await post.store.search(at(mailbox), Query(100, words, thread=thread, oldest_first=True))
    return [hit.message.body for hit in hits.hits]


@promise("keep-settled")
async def test_what_was_acked_long_ago_is_read_listed_exported_and_found_by_nobody(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    old = await post.send("ann", "bob", body="old plan")
    assert await found(post, "bob", "plan") == ["old plan"]
    await post.settle("bob", old.id)
    post.clock.step(AGE)
    young = await post.send("ann", "bob", body="young plan")
    await post.settle("bob", young.id)
    await forget(post)
    for mailbox in ("ann", "bob"):
        assert await gone(post, mailbox, old.id)
        assert not await gone(post, mailbox, young.id)
        assert await exported(post, mailbox) == ["young plan"]
        assert await found(post, mailbox, "plan") == ["young plan"]
    assert refused(await post.settle("bob", old.id)) == ["unknown_message"]
    await post.reopen()
    assert await found(post, "bob", "plan") == ["young plan"]
    assert await found(post, "bob", "old") == []


@promise("keep-settled")
async def test_the_age_begins_when_the_last_delivery_was_settled(post: Post) -> None:
    await post.mailboxes("ann", "bob", "cid")
    sent = await post.send("ann", "bob", "cid")
    await post.settle("bob", sent.id)
    post.clock.step(AGE)
    await forget(post)
    await post.settle("cid", sent.id)
    post.clock.step(AGE - 1)
    await forget(post)
    assert (await post.read("bob", sent.id)).state is State.ACKED
    post.clock.step(1)
    await forget(post)
    assert [await gone(post, mailbox, sent.id) for mailbox in ("ann", "bob", "cid")] == [True] * 3


@promise("keep-unsettled")
async def test_what_waits_is_leased_or_put_off_stays_however_old_it_is(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    leased = await post.send("ann", "bob", body="leased")
    [held] = await post.claim("bob")
    await post.send("ann", "bob", body="waits")
    await post.send("ann", "bob", body="put off", delay=100 * AGE)
    post.clock.step(10 * AGE)
    await forget(post)
    assert await post.listed("bob") == ["leased", "waits", "put off"]
    assert (await post.read("bob", leased.id)).state is State.LEASED
    assert refused(await post.settle("bob", held.handle)) == [None]


@promise("keep-unsettled")
async def test_a_dead_letter_stays_until_it_is_purged_and_then_has_its_age(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", body="no")
    await post.settle("bob", sent.id, outcome=Outcome.REJECT)
    post.clock.step(AGE)
    await forget(post)
    assert bodies(await post.inbox("bob", show=Show.DEAD)) == ["no"]
    await post.settle("bob", sent.id, outcome=Outcome.PURGE)
    await forget(post, 2 * AGE)
    assert (await post.read("bob", sent.id)).state is State.REJECTED
    await forget(post)
    assert await gone(post, "bob", sent.id)


@promise("keep-unsettled")
async def test_a_dead_letter_that_is_retried_stays(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", body="again")
    await post.settle("bob", sent.id, outcome=Outcome.REJECT)
    await post.settle("bob", sent.id, outcome=Outcome.RETRY)
    post.clock.step(AGE)
    await forget(post)
    assert bodies(await post.claim("bob")) == ["again"]


@promise("keep-unsettled", "states")
async def test_when_its_reader_was_told_is_known_as_long_as_the_message_is(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    first = await post.send("ann", "bob", body="first")
    second = await post.send("ann", "bob", body="second")
    rung = post.store.clock.now()
    await post.store.note_ring(at("bob"))
    await post.settle("bob", first.id)
    post.clock.step(AGE)
    later = await post.send("ann", "bob", body="later")
    await post.store.note_ring(at("bob"))
    await post.settle("bob", later.id)
    await forget(post)
    assert await gone(post, "bob", first.id)
    told = (await post.sent("ann", second.id))["bob"]
    assert told.state is State.RUNG
    assert told.rung_at is not None
    assert rung <= told.rung_at < rung + AGE
    assert (await post.sent("ann", later.id))["bob"].rung_at == post.store.clock.now()


@promise("keep-thread")
async def test_a_thread_that_lost_its_first_message_goes_on_under_its_id(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    first = await post.send("ann", "bob", body="question")
    await post.settle("bob", first.id)
    post.clock.step(AGE)
    answer = await post.send("bob", "ann", body="answer", reply_to=first.id)
    await forget(post)
    assert await gone(post, "ann", first.id)
    await forget(post)
    kept = await post.store.read(at("ann"), answer.id)
    assert kept.message.thread == kept.message.reply_to == first.thread == first.id
    for mailbox in ("ann", "bob"):
        assert await exported(post, mailbox, first.thread) == ["answer"]
        assert await found(post, mailbox, thread=first.thread) == ["answer"]
    more = await post.send("ann", "bob", body="more", reply_to=answer.id)
    assert more.thread == first.thread
    assert bodies(await post.claim("bob", thread=first.thread)) == ["more"]
    assert await found(post, "bob", thread=first.thread) == ["answer", "more"]


@promise("keep-thread")
async def test_a_thread_that_lost_its_first_message_is_not_there_for_strangers(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    first = await post.send("ann", "bob", body="question")
    await post.settle("bob", first.id)
    post.clock.step(AGE)
    await post.send("bob", "ann", body="answer", reply_to=first.id)
    told = []
    for _ in range(2):  # before and after it is gone
        for ask in (found(post, "eve", thread=first.id), exported(post, "eve", first.id)):
            with pytest.raises(Refusal) as refusal:
                await ask
            told.append(str(refusal.value))
        with pytest.raises(Refusal) as refusal:
            await post.claim("eve", thread=first.id)
        told.append(str(refusal.value))
        await forget(post)
    assert len(set(told)) == 1


@promise("keep-thread")
async def test_no_reply_is_given_to_what_is_gone(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    first = await post.send("ann", "bob", body="question")
    await post.settle("bob", first.id)
    post.clock.step(AGE)
    await forget(post)
    with pytest.raises(Refusal) as refusal:
        await post.send("bob", "ann", reply_to=first.id)
    assert refusal.value.code is Code.UNKNOWN_MESSAGE
    assert "removed after a while" in refusal.value.hint


@promise("keep-settled", "key-repeats")
async def test_a_key_of_what_is_gone_sends_nothing_anew(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", key="k")
    await post.settle("bob", sent.id)
    post.clock.step(AGE)
    await forget(post)
    again = await post.send("ann", "bob", key="k")
    assert (again.id, again.repeated) == (sent.id, True)
    assert await post.listed("bob") == []


@promise("keep-settled", "restore-same")
async def test_what_was_removed_since_a_backup_is_there_after_its_restore_and_found(post: Post, tmp_path: Path) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", body="old plan")
    await post.settle("bob", sent.id)
    await post.send("ann", "bob", body="waits")
    assert await found(post, "bob", "plan") == ["old plan"]
    copy = tmp_path / "copy"
    await post.store.backup(copy, lambda *_: None)
    post.clock.step(AGE)
    await forget(post)
    assert await found(post, "bob", "plan") == []
    await post.engine.close()
    await post.engine.restore(copy)
    assert await found(post, "bob", "plan") == ["old plan"]


@promise("keep-room", "keep-settled")
async def test_a_store_of_much_that_is_gone_takes_little_room(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.engine.close()
    empty = post.engine.size()
    await post.engine.open()
    ids = await post.send_many("ann", "bob", *["many words " * 2_000] * 100)
    assert await found(post, "bob", "nothing") == []
    await post.engine.close()
    assert post.engine.size() > empty + 2_000_000
    await post.engine.open()
    for id_ in ids:
        await post.settle("bob", id_)
    post.clock.step(AGE)
    await forget(post)
    await post.engine.close()
    assert post.engine.size() < empty + 100_000
    await post.engine.open()
    assert await post.store.check() == "ok"


@promise("keep-settled", "keep-unsettled")
async def test_what_was_published_goes_once_its_channel_and_all_who_got_it_are_done_with_it(post: Post) -> None:
    await post.mailboxes("ann", "bob", "cid")
    for member in ("bob", "cid"):
        await post.store.subscribe(at(member), at("#plans"), None, Keep(age=AGE), post.origin(member))
    said = await post.send("ann", "#plans", body="the plan")
    assert len((await post.inbox("bob")).previews) == len((await post.inbox("cid")).previews) == 1
    await post.settle("bob", said.id)
    await forget(post, 0)
    assert not await gone(post, "ann", said.id)  # the channel keeps it, and cid has it
    post.clock.step(AGE + 1)
    for number in range(200):  # what is published later trims what the channel keeps no more
        await post.send("ann", "#plans", body=str(number))
    await forget(post, 0)
    assert not await gone(post, "ann", said.id)  # cid has it
    await post.settle("cid", said.id)
    await forget(post, 0)
    assert await gone(post, "ann", said.id)
    assert await gone(post, "bob", said.id)
    assert await gone(post, "cid", said.id)


@promise("keep-settled")
async def test_what_is_attached_goes_with_its_message(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.attach("ann", "bob", files={"plan.md": b"the plan"})
    assert await post.attached("bob", sent.id, "plan.md") == b"the plan"
    await post.settle("bob", sent.id)
    await forget(post, 0)
    assert await gone(post, "bob", sent.id)
    post.clock.step(3600 * 1000)
    assert await post.store.collect() == 1
