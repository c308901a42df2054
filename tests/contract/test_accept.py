"""What happens to a message that is handed in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Priority
from mcp_mailbox.store import Accepted
from tests.contract.post import Post, at, bodies
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio
DAY = 24 * 3600 * 1000


@promise("durable")
async def test_mail_leases_and_settlements_are_there_after_a_close(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "leased", "acked", "waiting")
    leased = await post.claim_one("bob")
    acked = await post.claim_one("bob")
    await post.settle("bob", acked.handle)

    await post.reopen()

    assert await post.listed("bob") == ["leased", "waiting"]
    assert bodies(await post.claim("bob", "another")) == ["waiting"]
    assert (await post.read("bob", leased.message.id)).lease_until == leased.lease_until
    assert (await post.settle("bob", leased.handle))[0].refusal is None


@promise("durable")
async def test_whatever_was_answered_is_there_after_a_crash(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send_many("ann", "bob", "one", "two", "three")
    one = await post.claim_one("bob")
    await post.settle("bob", one.handle)
    await post.claim_one("bob", "worker")

    await post.engine.crash()

    assert await post.listed("bob") == ["two", "three"]
    assert bodies(await post.claim("bob", "another")) == ["three"]


@promise("whole")
@pytest.mark.parametrize(
    "body", ["", "a\0b", "Ж 日本 🦦 e\u0301", "\u202e\x1b[31m", "x" * (256 * 1024), "line\r\nline\n"], ids=ascii
)
async def test_a_body_arrives_to_the_letter(post: Post, body: str) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", body=body, subject="Ж: это")
    claimed = await post.claim_one("bob")
    assert claimed.message.body == (await post.store.read(at("bob"), sent.id)).message.body == body
    assert claimed.message.subject == "Ж: это"
    assert claimed.message.sender == "ann@default"
    assert claimed.message.to == ("bob@default",)
    assert claimed.message.accepted_at == post.clock.now()


@promise("key-repeats")
async def test_the_same_key_and_content_is_one_message(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    first = await post.send("ann", "bob", key="k")
    again = await post.send("ann", "bob", key="k")
    assert (again.id, again.thread) == (first.id, first.thread)
    assert (first.repeated, again.repeated) == (False, True)
    assert await post.listed("bob") == ["hello"]


@promise("key-repeats")
async def test_senders_that_race_with_one_key_get_one_message(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    ids: set[str] = set()

    async def send() -> None:
        ids.add((await post.send("ann", "bob", key="k")).id)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(send)
    assert len(ids) == 1
    assert await post.unread("bob") == 1


@promise("key-repeats")
async def test_a_key_is_known_after_its_message_was_settled(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    first = await post.send("ann", "bob", key="k")
    await post.settle("bob", first.id)
    assert (await post.send("ann", "bob", key="k")).id == first.id
    assert await post.claim("bob") == []


@promise("key-conflict")
@pytest.mark.parametrize(
    "other",
    [{"body": "other"}, {"subject": "other"}, {"priority": Priority.LOW}, {"reply_to": "the first"}],
    ids=str,
)
async def test_the_same_key_with_other_content_conflicts(post: Post, other: dict[str, str]) -> None:
    await post.mailboxes("ann", "bob")
    first = await post.send("ann", "bob", key="k")
    other = {name: first.id if name == "reply_to" else value for name, value in other.items()}
    with pytest.raises(Refusal) as refusal:
        await post.send("ann", "bob", key="k", **other)  # type: ignore[arg-type]  # the names tell the types
    assert refusal.value.code is Code.KEY_CONFLICT
    assert refusal.value.hint
    assert await post.listed("bob") == ["hello"]


@promise("key-per-sender")
async def test_another_senders_key_is_unrelated(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    assert (await post.send("ann", "bob", key="k")).id != (await post.send("eve", "bob", key="k", body="x")).id
    assert await post.listed("bob") == ["hello", "x"]


@promise("key-covers-recipients")
async def test_a_key_covers_the_whole_set_of_recipients(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    first = await post.send("ann", "bob", "eve", key="k")
    assert (await post.send("ann", "eve", "bob", key="k")).id == first.id
    for others in (["bob"], ["bob", "eve", "ann"]):
        with pytest.raises(Refusal) as refusal:
            await post.send("ann", *others, key="k")
        assert refusal.value.code is Code.KEY_CONFLICT


@promise("key-covers-recipients")
async def test_a_repeated_key_gives_the_same_results_even_when_a_recipient_has_come_since(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    first = await post.send("ann", "bob", "late", key="k")
    await post.open("late")
    again = await post.send("ann", "bob", "late", key="k")
    assert (
        [r.refusal is None for r in again.recipients] == [r.refusal is None for r in first.recipients] == [True, False]
    )
    assert await post.listed("late") == []


@promise("key-implicit")
async def test_without_a_key_the_request_is_the_key(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    first = await post.send("ann", "bob", request="7")
    assert (await post.send("ann", "bob", request="7")).id == first.id
    assert (await post.send("ann", "bob", request="8")).id != first.id
    assert (await post.send("ann", "bob", request="7", reader="another relay")).id != first.id
    assert (await post.send("ann", "bob", key="r:ann:7")).id != first.id
    assert await post.unread("bob") == 4


@promise("key-lasts")
async def test_keys_survive_restart_and_crash(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    named, implied = await post.send("ann", "bob", key="k"), await post.send("ann", "bob", request="7")
    await post.reopen()
    await post.engine.crash()
    assert (await post.send("ann", "bob", key="k")).id == named.id
    assert (await post.send("ann", "bob", request="7")).id == implied.id


@promise("key-lasts")
async def test_keys_outlive_thirty_days_of_mail(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    first = await post.send("ann", "bob", key="k")
    post.clock.step(30 * DAY - 1)
    for _ in range(600):
        await post.send("ann", "bob")
    assert (await post.send("ann", "bob", key="k")).id == first.id


@promise("key-free-after-refusal")
async def test_a_refused_send_leaves_its_key_unused(post: Post) -> None:
    await post.open("ann")
    with pytest.raises(Refusal):
        await post.send("ann", "bob", key="k", request="7")
    await post.open("bob")
    assert not (await post.send("ann", "bob", key="k", request="7")).repeated


@promise("recipients-apart")
async def test_who_exists_gets_it_and_who_does_not_is_named(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    accepted = await post.send("ann", "bob", "nobody", "eve")
    assert [r.address for r in accepted.recipients] == ["bob@default", "nobody@default", "eve@default"]
    refusals = [r.refusal for r in accepted.recipients]
    assert refusals[0] is refusals[2] is None
    assert refusals[1] is not None
    assert refusals[1].code is Code.UNKNOWN_MAILBOX
    assert await post.listed("bob") == await post.listed("eve") == ["hello"]
    assert (await post.store.read(at("bob"), accepted.id)).message.to == ("bob@default", "eve@default")


@promise("recipients-apart")
async def test_a_recipient_named_twice_gets_it_once(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    accepted = await post.send("ann", "bob", "BOB", "bob")
    assert [r.address for r in accepted.recipients] == ["bob@default"] * 3
    assert await post.listed("bob") == ["hello"]
    assert await post.unread("bob") == 1


@promise("recipients-apart")
async def test_one_settles_its_copy_and_leaves_the_others(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    accepted = await post.send("ann", "bob", "eve", "ann")
    await post.settle("bob", accepted.id)
    assert [await post.unread(name) for name in ("ann", "bob", "eve")] == [1, 0, 1]


@promise("recipients-unknown")
async def test_a_send_to_nobody_is_refused_and_stores_nothing(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    with pytest.raises(Refusal) as refusal:
        await post.send("ann", "nobody", "no-one")
    assert refusal.value.code is Code.UNKNOWN_MAILBOX
    await post.mailboxes("nobody", "no-one")
    assert await post.unread("nobody") == await post.unread("no-one") == 0


@promise("together")
async def test_what_is_handed_in_together_is_done_in_its_order_and_what_is_refused_keeps_nobody(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    asked = [post.submission("ann", to, body=body) for to, body in (("bob", "1"), ("eve", "2"), ("bob", "3"))]

    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        first, refused, last = await post.store.accept_all(asked)

    assert isinstance(first, Accepted)
    assert isinstance(last, Accepted)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.UNKNOWN_MAILBOX
    assert await post.listed("bob") == ["1", "3"]
    assert set(rung) == {at("bob")}
    again = await post.store.accept_all(asked)
    assert [each.id for each in again if isinstance(each, Accepted) and each.repeated] == [first.id, last.id]
    assert await post.listed("bob") == ["1", "3"]
    assert await post.store.accept_all([]) == []


@promise("together")
async def test_one_of_several_sees_what_those_before_it_did(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    keyed = [post.submission("ann", "bob", body=body, key="k") for body in ("one", "one", "another")]

    one, same, other = await post.store.accept_all(keyed)

    assert isinstance(one, Accepted)
    assert isinstance(same, Accepted)
    assert (same.id, same.repeated) == (one.id, True)
    assert isinstance(other, Refusal)
    assert other.code is Code.KEY_CONFLICT
    assert await post.listed("bob") == ["one"]


@promise("sender-exists")
async def test_who_does_not_exist_can_do_nothing(post: Post) -> None:
    await post.open("bob")
    sent = await post.send("bob", "bob")
    tries: list[Callable[[], Awaitable[object]]] = [
        lambda: post.send("ghost", "bob"),
        lambda: post.claim("ghost"),
        lambda: post.settle("ghost", sent.id),
        lambda: post.inbox("ghost"),
        lambda: post.store.read(at("ghost"), sent.id),
    ]
    for verb in tries:
        with pytest.raises(Refusal) as refusal:
            await verb()
        assert refusal.value.code is Code.UNKNOWN_MAILBOX
    assert await post.store.mailbox(at("ghost")) is None
    assert await post.unread("bob") == 1


@promise("rings")
async def test_every_recipient_is_rung_after_its_mail_is_there(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        await post.send("ann", "BOB", "nobody", "eve")
    assert sorted(rung, key=str) == [at("bob"), at("eve")]
    rung.clear()
    await post.send("ann", "bob")
    assert rung == []


@promise("rings")
async def test_who_looks_when_it_rings_finds_the_mail(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    rung = anyio.Event()
    found: list[str] = []

    async def wait() -> None:
        await rung.wait()
        found.extend(bodies(await post.claim("bob")))

    with post.store.on_ring(lambda _: rung.set()):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await post.send("ann", "bob")
    assert found == ["hello"]


@promise("rings")
async def test_a_repeated_or_refused_send_does_not_ring(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.send("ann", "bob", key="k")
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        await post.send("ann", "bob", key="k")
        with pytest.raises(Refusal):
            await post.send("ann", "bob", key="k", body="other")
    assert rung == []


@promise("rings")
async def test_a_sender_that_gives_up_still_rings_for_what_it_sent(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    rung = anyio.Event()
    with post.store.on_ring(lambda _: rung.set()):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(post.send, "ann", "bob")
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        await rung.wait()
    assert await post.listed("bob") == ["hello"]
