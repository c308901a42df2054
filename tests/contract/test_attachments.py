"""Contents beside what is said: kept before the message that names them, and for as long as one does."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import anyio
import anyio.from_thread
import pytest

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.store import Portion, Query, Show
from tests.contract.post import Post, at, kept
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio
A_WHILE = 2 * 3600 * 1000
BINARY = bytes(range(256)) * 2000
FILES = {"plan.md": "# plän\n".encode(), "empty": b"", "data.bin": BINARY, "über 中.txt": b"x"}


async def code_of(post: Post, mailbox: str, id_: str, name: str) -> Code:
    with pytest.raises(Refusal) as refusal:
        await post.attached(mailbox, id_, name)
    assert refusal.value.hint
    return refusal.value.code


@promise("attached-whole", "attached-durable")
async def test_what_is_attached_is_told_with_the_message_everywhere_and_given_back_to_the_byte(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.attach("ann", "bob", files=FILES)
    for _ in range(2):
        told = [(name, len(content)) for name, content in FILES.items()]
        [preview] = (await post.inbox("bob")).previews
        [overdue] = (await post.inbox("ann", show=Show.OVERDUE)).previews
        read = await post.store.read(at("ann"), sent.id)
        [archived] = (await post.store.mail_of(at("bob"), Portion(10, 1000))).mail
        [hit] = (await post.store.search(at("bob"), Query(10, "hello"))).hits
        for message in (
            preview.delivery.message,
            overdue.delivery.message,
            read.message,
            archived.message,
            hit.message,
        ):
            assert [(each.name, each.size) for each in message.attachments] == told
        for name, content in FILES.items():
            assert await post.attached("bob", sent.id, name) == content
        await post.engine.crash()
    [claimed] = await post.claim("bob")
    assert [each.name for each in claimed.message.attachments] == list(FILES)
    assert await post.attached("bob", claimed.handle, "data.bin") == BINARY


@promise("attached-own")
async def test_who_may_not_read_the_message_learns_nothing_of_what_is_attached(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    sent = await post.attach("ann", "bob", files={"plan.md": b"secret"})
    assert await code_of(post, "eve", sent.id, "plan.md") is Code.UNKNOWN_MESSAGE
    assert await code_of(post, "eve", sent.id, "nothing") is Code.UNKNOWN_MESSAGE
    assert await code_of(post, "nobody", sent.id, "plan.md") is Code.UNKNOWN_MAILBOX
    assert await code_of(post, "bob", sent.id, "PLAN.md") is Code.UNKNOWN_ATTACHMENT
    assert await code_of(post, "bob", sent.id, "../plan.md") is Code.UNKNOWN_ATTACHMENT
    plain = await post.send("ann", "bob")
    assert await code_of(post, "bob", plain.id, "plan.md") is Code.UNKNOWN_ATTACHMENT
    for box in ("ann", "bob"):
        assert await post.attached(box, sent.id, "plan.md") == b"secret"
    await post.settle("bob", sent.id)
    assert await post.attached("bob", sent.id, "plan.md") == b"secret"


@promise("attached-once")
async def test_the_same_content_is_kept_once(post: Post) -> None:
    await post.mailboxes("ann", "bob", "cid")
    for number in range(3):
        await post.attach("ann", "bob", "cid", files={f"{number}": BINARY, "other": BINARY})
    assert post.store.attached_bytes == len(BINARY)
    await post.attach("bob", "cid", files={"more": b"more"})
    assert post.store.attached_bytes == len(BINARY) + 4
    await post.reopen()
    await post.store.collect()
    assert post.store.attached_bytes == len(BINARY) + 4


@promise("attached-key", "key-repeats", "key-conflict")
@pytest.mark.parametrize(
    "files",
    [
        {"a": b"1"},
        {"a": b"2", "b": b"1"},
        {"b": b"2", "a": b"1"},
        {"a": b"1", "b": b"2", "c": b"3"},
        {"x": b"1", "b": b"2"},
        {},
    ],
)
async def test_a_key_covers_what_is_attached(post: Post, files: dict[str, bytes]) -> None:
    await post.mailboxes("ann", "bob")
    first = await post.attach("ann", "bob", files={"a": b"1", "b": b"2"}, key="k")
    again = await post.attach("ann", "bob", files={"a": b"1", "b": b"2"}, key="k")
    assert (again.id, again.repeated) == (first.id, True)
    with pytest.raises(Refusal) as refusal:
        await post.attach("ann", "bob", files=files, key="k")
    assert refusal.value.code is Code.KEY_CONFLICT
    assert len((await post.inbox("bob")).previews) == 1


@promise("attached-limit")
async def test_of_what_is_too_large_nothing_is_kept(post: Post) -> None:
    async with post.store.attaching() as tray:
        assert await tray.keep(BytesIO(BINARY).read, len(BINARY) - 1) is None
        assert post.store.attached_bytes == 0
        exact = await tray.keep(BytesIO(BINARY).read, len(BINARY))
        assert exact is not None
        assert exact.size == post.store.attached_bytes == len(BINARY)
    assert post.store.attached_bytes == 0


@promise("attached-unsent")
async def test_of_a_send_that_is_refused_nothing_stays_but_what_others_have_sent(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.attach("ann", "bob", files={"same": b"same"})
    for _ in range(2):
        with pytest.raises(Refusal):
            await post.attach("ann", "nobody", files={"same": b"same", "new": b"new"})
        assert post.store.attached_bytes == 4
    with pytest.raises(Refusal):
        await post.attach("ann", "bob", files={"new": b"new"}, reply_to="1aaaa")
    assert post.store.attached_bytes == 4
    assert await post.attached("bob", sent.id, "same") == b"same"
    await post.attach("ann", "bob", files={"new": b"new"})
    assert post.store.attached_bytes == 7


@promise("attached-unsent")
async def test_a_content_that_two_are_about_to_send_stays_for_the_second(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    async with post.store.attaching() as late:
        attachment = await kept(late, "same", b"same")
        with pytest.raises(Refusal):
            await post.attach("ann", "nobody", files={"same": b"same"})
        post.clock.step(A_WHILE)
        assert await post.store.collect() == 0
        sent = await post.send("ann", "bob", attachments=(attachment,))
    assert await post.attached("bob", sent.id, "same") == b"same"


@promise("attached-unsent")
async def test_who_is_cancelled_while_a_content_is_kept_leaves_none(post: Post) -> None:
    reading = anyio.Event()
    ended = False

    async def attach() -> None:
        nonlocal ended
        async with post.store.attaching() as tray:

            def source(count: int) -> bytes:
                anyio.from_thread.run_sync(reading.set)
                return BINARY[:count] if not ended else b""

            await tray.keep(source, 1 << 30)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attach)
        await reading.wait()
        tasks.cancel_scope.cancel()
        ended = True
    assert post.store.attached_bytes == 0


@promise("attached-unsent")
async def test_a_source_that_breaks_is_told_and_leaves_nothing(post: Post) -> None:
    def source(count: int) -> bytes:
        del count
        raise Refusal(Code.NO_FILE, "gone")

    async with post.store.attaching() as tray:
        with pytest.raises(Refusal) as refusal:
            await tray.keep(source, 100)
    assert refusal.value.code is Code.NO_FILE
    assert post.store.attached_bytes == 0


@promise("attached-collected")
async def test_what_nobody_names_any_more_goes_away_after_a_while(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    first = await post.attach("ann", "bob", files={"a": b"shared", "b": b"alone"})
    second = await post.attach("ann", "bob", files={"a": b"shared"})
    await post.engine.forget_attachments(first.id)
    assert await post.store.collect() == 0, "it was kept a moment ago"
    post.clock.step(A_WHILE)
    assert await post.store.collect() == 1
    assert await post.attached("bob", second.id, "a") == b"shared"
    await post.engine.forget_attachments(second.id)
    assert await post.store.collect() == 1
    assert post.store.attached_bytes == 0
    again = await post.attach("ann", "bob", files={"a": b"shared"})
    assert await post.store.collect() == 0
    assert await post.attached("bob", again.id, "a") == b"shared"


@promise("attached-collected", "attached-durable")
async def test_what_a_crash_left_between_content_and_message_goes_away_after_a_while(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    async with post.store.attaching() as tray:
        await kept(tray, "orphan", b"orphan")
        await post.engine.crash()
        await post.store.collect()
        assert post.store.attached_bytes == 6
        post.clock.step(A_WHILE)
        assert await post.store.collect() == 1
        assert post.store.attached_bytes == 0


@promise("backup-whole", "restore-same", "attached-durable")
@pytest.mark.parametrize("lost", [True, False])
async def test_a_backup_has_what_is_attached_and_a_restore_gives_it_back(
    post: Post, tmp_path: Path, lost: bool
) -> None:
    await post.mailboxes("ann", "bob")
    kept_since = await post.attach("ann", "bob", files=FILES)
    forgotten = await post.attach("ann", "bob", files={"forgotten": b"forgotten"})
    file = tmp_path / "backup"
    await post.store.backup(file, lambda *_: None)
    assert sorted(os.listdir(tmp_path)) == ["backup", "store"]  # noqa: PTH208 - names
    await post.engine.forget_attachments(forgotten.id)
    post.clock.step(A_WHILE)
    assert await post.store.collect() == 1
    since = await post.attach("ann", "bob", files={"since": b"since"})
    await post.engine.close()
    await post.engine.restore(file, lost=lost)
    for name, content in FILES.items():
        assert await post.attached("bob", kept_since.id, name) == content
    assert await post.attached("bob", forgotten.id, "forgotten") == b"forgotten"
    assert await code_of(post, "bob", since.id, "since") is Code.UNKNOWN_MESSAGE
    post.clock.step(A_WHILE)
    assert await post.store.collect() == (0 if lost else 1), "what only the store before it named"
    assert await post.store.check() == "ok"


@promise("search-words")
async def test_a_message_is_found_by_the_names_of_what_is_attached(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    sent = await post.attach("ann", "bob", files={"migration-plan.md": b"x"})
    await post.send("ann", "bob")
    for box in ("ann", "bob"):
        found = await post.store.search(at(box), Query(10, "migration plan"))
        assert [hit.message.id for hit in found.hits] == [sent.id]
    assert (await post.store.search(at("eve"), Query(10, "migration"))).hits == ()


@promise("answered", "key-implicit")
async def test_what_a_request_was_answered_can_be_asked_and_what_another_was_cannot(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", request="7")
    found = await post.store.answered(at("ann"), post.origin("ann", "7"))
    assert found is not None
    assert (found.id, found.repeated, found.recipients) == (sent.id, True, sent.recipients)
    await post.send("ann", "bob", request="8", key="k")
    for sender, origin in (("ann", "8"), ("bob", "7"), ("nobody", "7")):
        assert await post.store.answered(at(sender), post.origin("ann", origin)) is None


@promise("contact", "attached-unsent")
async def test_a_mailbox_that_is_closed_takes_nothing_that_is_attached(post: Post) -> None:
    await post.mailboxes("ann")
    await post.open("bob", owner="somebody else", profile=Profile(contact=Contact.CLOSED))
    with pytest.raises(Refusal):
        await post.attach("ann", "bob", files={"a": b"a"})
    assert post.store.attached_bytes == 0
