"""Copies of a store that is in use, what a restored one is, and all mail of a mailbox."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.channel import Keep
from mcp_mailbox.credentials import Credential
from mcp_mailbox.delivery import Outcome, State
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Kind as Readers
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Format, Kind
from mcp_mailbox.reservation import Terms
from mcp_mailbox.store import Archived, Claimer, Portion
from tests.contract.post import ROOMY, Post, at, bodies, refused
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


async def back_up(post: Post, file: Path, *, replace: bool = False) -> int:
    return await post.store.backup(file, lambda *_: None, replace=replace)


async def restore(post: Post, file: Path, *, lost: bool = False) -> None:
    await post.engine.close()
    await post.engine.restore(file, lost=lost)


async def mail(post: Post, mailbox: str, count: int = 100, size: int = 1 << 20, **more: Any) -> list[Archived]:
    found: list[Archived] = []
    portion = Portion(count, size, **more)
    while True:
        page = await post.store.mail_of(at(mailbox), portion)
        assert len(page.mail) <= count
        found += page.mail
        if page.next is None:
            return found
        portion = Portion(count, size, page.next, portion.thread)


def said(found: Sequence[Archived]) -> list[str]:
    return [each.message.body for each in found]


def files(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.is_file()]


# -- backups


@promise("backup-whole", "restore-same")
async def test_everything_that_was_answered_before_is_in_the_backup(post: Post, tmp_path: Path) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", *(f"{number}" for number in range(20)))
    await post.store.grant(Credential("t-1", "one", "someone", 1), b"1" * 32)
    before = await mail(post, "bob")
    size = await back_up(post, tmp_path / "backup.db")
    assert (tmp_path / "backup.db").stat().st_size == size
    await post.send("ann", "bob", body="after")
    await restore(post, tmp_path / "backup.db", lost=True)
    assert await mail(post, "bob") == before
    assert [each.id for each in await post.store.credentials()] == ["t-1"]
    assert await post.store.check() == "ok"


@promise("backup-whole")
async def test_a_backup_that_is_taken_while_others_send_is_of_one_moment(post: Post, tmp_path: Path) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", *(f"{number}" for number in range(300)))

    taken = anyio.Event()

    async def send() -> None:
        number = 300
        while not taken.is_set():
            await post.send("ann", "bob", body=f"{number}")
            number += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await back_up(post, tmp_path / "backup.db")
        taken.set()
    await restore(post, tmp_path / "backup.db")
    found = said(await mail(post, "bob"))
    assert found == [f"{number}" for number in range(len(found))]
    assert len(found) >= 300


@promise("backup-apart")
async def test_a_file_that_is_there_is_left_alone(post: Post, tmp_path: Path) -> None:
    await post.mailboxes("ann")
    file = tmp_path / "thesis"
    file.write_text("years of work")
    for replace in (False, True):
        with pytest.raises(Refusal) as refusal:
            await back_up(post, file, replace=replace)
        assert refusal.value.code is Code.BAD_ARGUMENT
        assert refusal.value.hint
    assert file.read_text() == "years of work"
    for place in (tmp_path / "nowhere" / "file", tmp_path):
        with pytest.raises(Refusal) as refusal:
            await back_up(post, place, replace=True)
        assert refusal.value.code is Code.BAD_ARGUMENT
    assert files(tmp_path) == ["thesis"]


@promise("backup-apart")
async def test_another_backup_is_replaced_when_that_is_wanted(post: Post, tmp_path: Path) -> None:
    await post.mailboxes("ann", "bob")
    file = tmp_path / "backup.db"
    await back_up(post, file)
    first = file.read_bytes()
    await post.send("ann", "bob", body="x" * 10_000)
    with pytest.raises(Refusal):
        await back_up(post, file)
    assert file.read_bytes() == first
    await back_up(post, file, replace=True)
    assert file.read_bytes() != first
    assert file.stat().st_mode & 0o777 == 0o600
    assert files(tmp_path) == ["backup.db"]


# -- restored


@promise("restore-same")
async def test_ids_handles_and_cursors_of_before_the_backup_are_good(post: Post, tmp_path: Path) -> None:
    await post.mailboxes("ann", "bob")
    ids = await post.send_many("ann", "bob", "one", "two", "three")
    held = await post.claim_one("bob")
    cursor = (await post.inbox("bob", limit=1)).previews[0].cursor
    await back_up(post, tmp_path / "backup.db")
    await restore(post, tmp_path / "backup.db", lost=True)
    assert (await post.store.read(at("bob"), ids[1])).message.body == "two"
    assert bodies(await post.inbox("bob", cursor=cursor)) == ["two", "three"]
    assert (await post.send("ann", "bob", body="one", key=None, reply_to=ids[0])).thread == ids[0]
    assert refused(await post.settle("bob", held.handle)) == [None]


@promise("restore-same")
async def test_a_lease_of_the_backup_goes_on(post: Post, tmp_path: Path) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    held = await post.claim_one("bob", "r", "request")
    await back_up(post, tmp_path / "backup.db")
    await restore(post, tmp_path / "backup.db")
    assert await post.claim("bob", "other") == []
    assert [each.handle for each in await post.claim("bob", "r", "request")] == [held.handle]


@promise("restore-never-again")
@pytest.mark.parametrize("lost", [False, True])
async def test_an_id_given_out_after_the_backup_names_no_other_message(post: Post, tmp_path: Path, lost: bool) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob", body="kept")
    await back_up(post, tmp_path / "backup.db")
    gone = await post.send_many("ann", "bob", *(f"gone {number}" for number in range(5)))
    for _ in range(2):  # the same backup may be restored again
        await restore(post, tmp_path / "backup.db", lost=lost)
        new = await post.send_many("ann", "bob", *(f"new {number}" for number in range(10)))
        assert not set(new) & set(gone)
        for each in gone:
            with pytest.raises(Refusal) as refusal:
                await post.store.read(at("bob"), each)
            assert refusal.value.code is Code.UNKNOWN_MESSAGE
        assert refused(await post.settle("bob", *gone)) == ["unknown_message"] * len(gone)
        gone += new


@promise("restore-never-again", "fence")
@pytest.mark.parametrize("lost", [False, True])
async def test_a_handle_given_out_after_the_backup_settles_no_lease_of_after_its_restore(
    post: Post, tmp_path: Path, lost: bool
) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob")
    await back_up(post, tmp_path / "backup.db")
    stale = []
    for _ in range(3):
        held = await post.claim_one("bob", "before")
        stale.append(held.handle)
        await post.settle("bob", held.handle, outcome=Outcome.RELEASE, reader="before")
    for again in range(2):
        await restore(post, tmp_path / "backup.db", lost=lost)
        held = await post.claim_one("bob", f"after {again}")
        assert refused(await post.settle("bob", *stale, reader="before")) == ["stale_lease"] * len(stale)
        assert refused(await post.settle("bob", held.handle, outcome=Outcome.RELEASE)) == [None]
        stale.append(held.handle)
    later = await post.send("ann", "bob", body="later")
    held = (await post.claim("bob", "after"))[-1]
    assert held.handle == f"{later.id}.1"


@promise("restore-never-again")
async def test_a_cursor_of_after_the_backup_skips_nothing_that_comes_after_its_restore(
    post: Post, tmp_path: Path
) -> None:
    await post.mailboxes("ann", "bob")
    await back_up(post, tmp_path / "backup.db")
    await post.send_many("ann", "bob", "1", "2", "3")
    cursor = (await post.inbox("bob")).previews[-1].cursor
    await restore(post, tmp_path / "backup.db", lost=True)
    await post.send_many("ann", "bob", "a", "b")
    assert bodies(await post.inbox("bob", cursor=cursor)) == ["a", "b"]


@promise("restore-same", "time-forward")
async def test_time_goes_on_from_the_later_of_the_two_stores(post: Post, tmp_path: Path) -> None:
    await post.mailboxes("ann", "bob")
    await back_up(post, tmp_path / "backup.db")
    post.clock.step(100_000)
    await post.send("ann", "bob")
    last = post.store.clock.now()
    await post.engine.close()
    post.clock.step(-1_000_000)  # somebody sets the machine's clock back
    await post.engine.restore(tmp_path / "backup.db")
    assert post.store.clock.now() >= last


@promise("restore-revoked")
async def test_tokens_are_as_they_were_before_the_restore_and_not_as_the_backup_has_them(
    post: Post, tmp_path: Path
) -> None:
    for number in (1, 2):
        await post.store.grant(Credential(f"t-{number}", "one", "someone", number), b"%d" % number * 32)
    await back_up(post, tmp_path / "backup.db")
    await post.store.revoke("t-1")
    await post.store.regrant("t-2", b"3" * 32)
    await post.store.grant(Credential("t-new", "new", "someone", 3), b"4" * 32)
    before = await post.store.credentials()
    await restore(post, tmp_path / "backup.db")
    assert await post.store.credentials() == before
    assert await post.store.credential(b"2" * 32) is None
    revoked = await post.store.credential(b"1" * 32)
    assert revoked is not None
    assert revoked.revoked_at is not None


@promise("restore-never-again", "retry")
@pytest.mark.parametrize("lost", [False, True])
async def test_a_dead_letter_that_was_retried_after_the_backup_has_other_handles_after_its_restore(
    post: Post, tmp_path: Path, lost: bool
) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    first = await post.claim_one("bob")
    await post.settle("bob", first.handle, outcome=Outcome.REJECT)
    await back_up(post, tmp_path / "backup.db")
    stale = []
    for again in range(3):
        assert refused(await post.settle("bob", sent.id, outcome=Outcome.RETRY)) == [None]
        held = await post.claim_one("bob", f"reader {again}")
        stale.append(held.handle)
        if again:
            assert refused(await post.settle("bob", held.handle, outcome=Outcome.REJECT)) == [None]
        await restore(post, tmp_path / "backup.db", lost=lost)
        assert (await post.read("bob", sent.id)).state is State.REJECTED
        assert refused(await post.settle("bob", *stale, reader="late")) == ["stale_lease"] * len(stale)
    await post.settle("bob", sent.id, outcome=Outcome.RETRY)
    held = await post.claim_one("bob")
    assert len({*stale, held.handle}) == 4
    assert refused(await post.settle("bob", *stale, outcome=Outcome.ACK)) == ["stale_lease"] * 3
    assert refused(await post.settle("bob", held.handle, outcome=Outcome.REJECT)) == [None]
    await post.settle("bob", sent.id, outcome=Outcome.RETRY)
    later = await post.claim_one("bob")
    assert int(later.handle.partition(".")[2]) == int(held.handle.partition(".")[2]) + 1, "it goes on from there"


@promise("restore-same")
async def test_a_mailbox_and_its_mail_have_their_attempts_of_the_backup(post: Post, tmp_path: Path) -> None:
    await post.open("ann")
    await post.open("bob", profile=Profile(attempts=2))
    await post.send("ann", "bob")
    await back_up(post, tmp_path / "backup.db")
    for number in range(2):
        held = await post.claim("bob", request=f"{number}", term=1)
        assert len(held) == 1
        await post.store.surface(post.origin("bob", f"{number}"))
        post.clock.step(1)
    assert await post.claim("bob") == []
    await post.open("bob", profile=Profile(attempts=7))
    await restore(post, tmp_path / "backup.db")
    bob = await post.store.mailbox(at("bob"))
    assert bob is not None
    assert bob.attempts == 2
    assert (await post.claim_one("bob")).attempts == 0


@promise("restore-held")
async def test_who_holds_names_when_a_store_is_replaced_goes_on_holding_them(post: Post, tmp_path: Path) -> None:
    await post.mailboxes("ann", "bob")
    for mailbox, name in (("ann", "released"), ("bob", "kept")):
        await post.store.reserve(at(mailbox), [name], Terms(), post.origin(mailbox))
    await back_up(post, tmp_path / "backup.db")
    await post.mailboxes("newcomer")
    await post.store.release_reservations(at("ann"), ["released"], post.origin("ann"))
    await post.store.reserve(at("ann"), ["since/"], Terms(note="mine"), post.origin("ann"))
    await post.store.reserve(at("newcomer"), ["nobody's"], Terms(), post.origin("newcomer"))
    before = [each for each in await post.store.reservations("default") if each.name != "nobody's"]
    await restore(post, tmp_path / "backup.db")
    assert await post.store.reservations("default") == before
    assert {each.name for each in before} == {"kept", "since/"}
    taken = await post.store.reserve(at("bob"), ["since/file"], Terms(), post.origin("bob"))
    assert [each.held.note for each in taken.conflicts] == ["mine"]


@promise("restore-held")
async def test_reservations_of_the_backup_go_on_until_their_time_when_the_store_is_lost(
    post: Post, tmp_path: Path
) -> None:
    await post.mailboxes("ann", "bob")
    await post.store.reserve(at("ann"), ["short"], Terms(term=1000), post.origin("ann"))
    await post.store.reserve(at("ann"), ["long"], Terms(term=5000), post.origin("ann"))
    await back_up(post, tmp_path / "backup.db")
    post.clock.step(2000)
    await restore(post, tmp_path / "backup.db", lost=True)
    assert [each.name for each in await post.store.reservations("default")] == ["long"]
    assert (await post.store.reserve(at("bob"), ["long"], Terms(), post.origin("bob"))).conflicts
    post.clock.step(4000)
    assert (await post.store.reserve(at("bob"), ["long"], Terms(), post.origin("bob"))).held


@promise("restore-same")
async def test_who_reads_a_mailbox_is_who_held_its_leases_when_the_backup_was_made(post: Post, tmp_path: Path) -> None:
    await post.open("ann", profile=Profile(kind=Readers.PERSONAL))
    await post.send("ann", "ann")
    held = await post.claim("ann", "first", "request")
    await back_up(post, tmp_path / "backup.db")
    taken = await post.claim("ann", "second", claimer=Claimer(take_over=True))
    await restore(post, tmp_path / "backup.db")
    here = ["first", "second"]
    with pytest.raises(Refusal) as refusal:
        await post.claim("ann", "second", present=here)
    assert refusal.value.code is Code.READ_ELSEWHERE
    again = await post.claim("ann", "first", "request", present=here)
    assert [each.handle for each in again] == [each.handle for each in held]
    await post.claim("ann", "second", claimer=Claimer(take_over=True), present=here)
    [last] = await post.claim("ann", "second", present=here)
    assert last.handle not in {each.handle for each in (*taken, *held)}


# -- all mail


@promise("mail-all")
async def test_mail_is_told_in_order_of_acceptance_with_what_became_of_it(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send_many("ann", "bob", "acked", "rejected", "leased", "stored")
    await post.send("bob", "ann", body="sent")
    await post.send("bob", "bob", "ann", body="to himself")
    await post.send("ann", "eve", body="somebody else's")
    held = await post.claim("bob", most=3)
    await post.store.surface(post.origin("bob"))
    await post.settle("bob", held[0].handle)
    await post.settle("bob", held[1].handle, outcome=Outcome.REJECT)
    found = await mail(post, "bob")
    assert [(each.message.body, each.sent, each.own and each.own.state) for each in found] == [
        ("acked", False, State.ACKED),
        ("rejected", False, State.REJECTED),
        ("leased", False, State.LEASED),
        ("stored", False, State.STORED),
        ("sent", True, None),
        ("to himself", True, State.STORED),
    ]
    told = [each.own for each in found if each.own is not None]
    assert [each.settled_at for each in told] == [post.clock.now()] * 2 + [None] * 3
    assert [each.lease_until for each in told] == [None, None, held[2].lease_until, None, None]
    assert found[0].message == held[0].message
    assert said(await mail(post, "eve")) == ["somebody else's"]


@promise("mail-all", "states")
async def test_mail_is_told_with_all_that_the_language_says_of_it(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    start = post.clock.now()
    await post.send("ann", "bob", body="expired", ttl=100)
    await post.send("ann", "bob", body="old", topic="t")
    await post.send("ann", "bob", body="new", topic="t")
    await post.send("ann", "bob", body="later", delay=10_000, cc=["eve"], ttl=20_000)
    await post.send("ann", "bob", body='{"a":1}', format=Format.JSON, receipt=True)
    await post.send("ann", "bob", body="no")
    await post.store.note_ring(at("bob"))
    await post.mailboxes("zoe")  # a ring goes to disk with the next verb
    post.clock.step(200)
    await post.store.sweep(0, ())
    held = {each.message.body: each for each in await post.claim("bob")}
    assert set(held) == {"new", '{"a":1}', "no"}
    await post.settle("bob", held['{"a":1}'].handle)
    await post.settle("bob", held["no"].handle, outcome=Outcome.REJECT, reason="not mine")
    await post.settle("bob", held["no"].message.id, outcome=Outcome.PURGE)
    found = {each.message.body: each for each in await mail(post, "bob")}
    for body, each in found.items():
        reading = await post.store.read(at("bob"), each.message.id)
        assert (each.message, each.own, each.sent) == (reading.message, reading.own, False), body
    states = {body: each.own.state for body, each in found.items() if each.own is not None}
    assert states == {
        "expired": State.EXPIRED,
        "old": State.REPLACED,
        "new": State.LEASED,
        "later": State.STORED,
        '{"a":1}': State.ACKED,
        "no": State.REJECTED,
    }
    no, later = found["no"].own, found["later"]
    assert no is not None
    assert (no.reason, no.rung_at, no.leased_at, no.settled_at) == ("not mine", start, start + 200, start + 200)
    assert later.own is not None
    assert (later.own.deliver_at, later.message.expires_at) == (start + 10_000, start + 20_000)
    assert (later.message.to, later.message.cc) == (("bob@default",), ("eve@default",))
    assert found['{"a":1}'].message.format is Format.JSON
    assert said(await mail(post, "eve")) == ["later"]


@promise("mail-all", "mail-thread")
async def test_what_the_postmaster_wrote_is_told_like_other_mail(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    one = await post.send("ann", "bob", body="one", receipt=True)
    two = await post.send("ann", "bob", body="two")
    await post.settle("bob", one.id)
    await post.settle("bob", two.id, outcome=Outcome.REJECT, reason="not mine")
    found = await mail(post, "ann")
    assert [(each.message.kind, each.sent, each.own and each.own.state) for each in found] == [
        (Kind.MESSAGE, True, None),
        (Kind.MESSAGE, True, None),
        (Kind.RECEIPT, False, State.STORED),
        (Kind.REPORT, False, State.STORED),
    ]
    assert [each.message.sender for each in found[2:]] == ["postmaster@default"] * 2
    assert [each.message.kind for each in await mail(post, "ann", thread=two.id)] == [Kind.MESSAGE, Kind.REPORT]
    assert said(await mail(post, "bob")) == ["one", "two"]


@promise("mail-all")
@pytest.mark.parametrize(("count", "size"), [(1, 1 << 20), (3, 1 << 20), (100, 1), (100, 11), (100, 1 << 20)])
async def test_pages_leave_nothing_out_while_mail_is_settled_and_sent_in_between(
    post: Post, count: int, size: int
) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", *(f"{number:05}" for number in range(10)))
    found: list[str] = []
    cursor = None
    pages = 0
    while True:
        page = await post.store.mail_of(at("bob"), Portion(count, size, cursor))
        found += said(page.mail)
        cursor = page.next
        if cursor is None:
            break
        pages += 1
        if pages < 8:
            await post.settle("bob", (await post.claim_one("bob")).handle)
            await post.send("ann", "bob", body=f"{9 + pages:05}")
    assert found == [f"{number:05}" for number in range(len(found))]
    assert len(found) >= 10


@promise("mail-all")
async def test_a_mailbox_with_little_mail_in_a_large_store_is_told_whole(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send("ann", "eve", body="first")
    async with anyio.create_task_group() as tasks:
        for _ in range(1200):
            tasks.start_soon(post.send, "ann", "bob")
    await post.send("eve", "ann", body="last")
    assert said(await mail(post, "eve")) == ["first", "last"]
    assert len(await mail(post, "bob", count=7)) == 1200


@promise("mail-thread")
async def test_a_thread_is_told_alone_by_any_id_in_it(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send("ann", "bob", body="another")
    first = await post.send("ann", "bob", body="question")
    answer = await post.send("bob", "ann", body="answer", reply_to=first.id)
    await post.send("ann", "eve", body="aside", reply_to=first.id)
    await post.send("ann", "bob", body="thanks", reply_to=answer.id)
    for id_ in (first.id, answer.id):
        assert said(await mail(post, "bob", thread=id_)) == ["question", "answer", "thanks"]
        assert said(await mail(post, "bob", count=1, thread=id_)) == ["question", "answer", "thanks"]
    for mailbox, thread in (("eve", first.id), ("bob", "nothing")):
        with pytest.raises(Refusal) as refusal:
            await mail(post, mailbox, thread=thread)
        assert refusal.value.code is Code.UNKNOWN_MESSAGE


@promise("mail-all", "theirs-unseen")
async def test_mail_of_a_mailbox_that_is_not_there_is_refused(post: Post) -> None:
    with pytest.raises(Refusal) as refusal:
        await mail(post, "nobody")
    assert refusal.value.code is Code.UNKNOWN_MAILBOX


@promise("mail-all", "states")
async def test_its_sender_is_told_how_far_a_message_has_come_with_each_recipient_and_nobody_else_is(post: Post) -> None:
    await post.mailboxes("ann", "bob", "cid")
    sent = await post.send("ann", "bob", cc=["cid"])
    post.clock.step(5)
    await post.settle("bob", sent.id)
    acked = post.store.clock.now()
    [mine] = (await post.store.mail_of(at("ann"), Portion(10, 1000))).mail
    told = [(name, progress.state, progress.since) for name, progress in mine.recipients]
    assert told == [("bob@default", State.ACKED, acked), ("cid@default", State.STORED, None)]
    for other in ("bob", "cid"):
        [theirs] = (await post.store.mail_of(at(other), Portion(10, 1000))).mail
        assert theirs.recipients == ()


@promise("mail-follow")
async def test_who_goes_on_from_a_place_is_told_what_came_since_and_nothing_twice(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    await post.send_many("ann", "bob", *(f"old {number}" for number in range(5)))
    page = await post.store.mail_of(at("bob"), Portion(10, 1 << 20, latest=True))
    assert (page.mail, page.next) == ((), None)
    again = await post.store.mail_of(at("bob"), Portion(10, 1 << 20, page.place))
    assert again.mail == ()
    told: list[Archived] = []
    for number in range(4):
        sent = await post.send("ann", "bob", body=f"new {number}")
        await post.settle("bob", sent.id)  # however soon it is done
        await post.send("ann", "eve", body="somebody else's")
        page = await post.store.mail_of(at("bob"), Portion(10, 1 << 20, page.place))
        told += page.mail
    assert said(told) == [f"new {number}" for number in range(4)]
    await post.send_many("ann", "bob", "a", "b", "c")
    page = await post.store.mail_of(at("bob"), Portion(2, 1 << 20, page.place))
    assert (said(page.mail), page.next) == (["a", "b"], page.place)
    page = await post.store.mail_of(at("bob"), Portion(2, 1 << 20, page.place))
    assert (said(page.mail), page.next) == (["c"], None)


@promise("mail-follow")
async def test_who_follows_from_before_the_first_message_misses_none(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    page = await post.store.mail_of(at("bob"), Portion(10, 1 << 20, latest=True))
    await post.send("ann", "bob", body="first")
    page = await post.store.mail_of(at("bob"), Portion(10, 1 << 20, page.place))
    assert said(page.mail) == ["first"]


@promise("mail-channel")
async def test_what_a_channel_keeps_is_told_in_its_order_to_who_could_join_it(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.store.subscribe(at("bob"), at("#plan"), None, Keep(count=5), post.origin("bob"))
    said = [(await post.send("bob", "#plan", body=f"{number}")).id for number in range(7)]
    await post.send("bob", "ann", body="direct")
    await post.send("bob", "#plan", body="later", delay=1000)
    found: list[str] = []
    cursor = None
    while True:
        page = await post.store.mail_of(at("ann"), Portion(2, ROOMY, cursor, channel=at("#plan")))
        found += [each.message.id for each in page.mail]
        assert len(page.mail) <= 2
        if (cursor := page.next) is None:
            break
    assert found == said[3:], "it keeps five, of which one is still to come"
    await post.store.open(Address("eve", "elsewhere"), "eve", Profile(), post.origin("eve"))
    with pytest.raises(Refusal) as refusal:
        await post.store.mail_of(Address("eve", "elsewhere"), Portion(2, ROOMY, channel=at("#plan")))
    assert refusal.value.code is Code.UNKNOWN_CHANNEL
