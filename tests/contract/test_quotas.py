"""What a space keeps and how many mailboxes an owner has: counted, bounded, told; what was removed counts no more."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Outcome, Settlement
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.quotas import footprint
from mcp_mailbox.store import Accepted, Submission
from tests.contract.engines import ENGINES
from tests.contract.machine import StoreMachine, tell_stories
from tests.contract.post import Post, at
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


async def send(post: Post, most: int, body: str = "hello", key: str | None = None) -> Accepted:
    return await post.store.accept(
        Submission(at("ann"), [at("bob")], Draft(("bob",), body, key=key), post.origin("ann"), most=most)
    )


@promise("room-bounded")
async def test_a_space_keeps_what_it_may_to_the_last_byte_and_says_how_much_that_is(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    one = footprint(5, 1)
    for _ in range(3):
        await send(post, 3 * one)
    with pytest.raises(Refusal, match=r"keeps 0\.0 of its 0\.0 MiB; this message is 645 bytes") as refusal:
        await send(post, 4 * one - 1)
    assert refusal.value.code is Code.OVER_STORAGE
    assert len(await post.listed("bob")) == 3, "and nothing is stored"
    await send(post, 0)


@promise("room-bounded")
async def test_what_is_repeated_is_answered_however_full_the_space_is(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    first = await send(post, 1000, key="k")
    with pytest.raises(Refusal):
        await send(post, 1000)
    again = await send(post, 1000, key="k")
    assert (again.id, again.repeated) == (first.id, True)


@promise("room-counted")
async def test_what_is_removed_makes_room_with_all_that_was_attached(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.attach("ann", "bob", files={"a.txt": b"x" * 5000})
    with pytest.raises(Refusal):
        await send(post, 5000)
    await post.settle("bob", sent.id)
    while await post.store.forget_settled(post.store.clock.now()):
        pass
    await send(post, footprint(5, 1))
    assert await post.store.check() == "ok"


@promise("room-counted")
async def test_a_signature_counts_and_makes_room_when_it_goes_with_its_message(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob", body="hello", signature="a" * 5000)
    most = footprint(5, 1) + 5000
    with pytest.raises(Refusal):
        await send(post, most)
    await post.settle("bob", sent.id)
    while await post.store.forget_settled(post.store.clock.now()):
        pass
    await send(post, footprint(5, 1))
    assert await post.store.check() == "ok"


@promise("mailboxes-bounded")
async def test_an_owner_has_so_many_mailboxes_and_opens_those_it_has(post: Post) -> None:
    async def make(name: str, owner: str = "eve") -> bool:
        return (await post.store.open(at(name), owner, Profile(), post.origin(name), most=2)).created

    assert await make("one")
    assert await make("two")
    for name in ("three", ""):
        with pytest.raises(Refusal, match="2 mailboxes") as refusal:
            await make(name)
        assert refusal.value.code is Code.OVER_MAILBOXES
    assert not await make("one")
    assert await make("three", "somebody else")


SPACES = ("default", "other")
NAMES = ("ann", "bob")
senders = st.sampled_from([Address(name, space) for name in NAMES for space in SPACES])


class Room(StoreMachine):
    """What each space keeps is what was sent from it and not removed; a message that fits exactly is the proof."""

    @initialize()
    def begin(self) -> None:
        self.sent: dict[str, tuple[str, int, list[Address]]] = {}
        for name in NAMES:
            for space in SPACES:
                opening = self.post.store.open(Address(name, space), "someone", Profile(), self.post.origin(name))
                self.run(opening)

    def used(self, space: str) -> int:
        return sum(size for where, size, _ in self.sent.values() if where == space)

    @rule(
        sender=senders,
        to=st.lists(senders, min_size=1, max_size=3, unique=True),
        body=st.text("aß", min_size=1, max_size=40),
        signature=st.sampled_from([None, "a.b.c", "a.b." + "c" * 500]),
        spare=st.sampled_from([-1, 0]),
    )
    def send(self, sender: Address, to: list[Address], body: str, signature: str | None, spare: int) -> None:
        size = footprint(len(body.encode()), len(to), signature=len(signature or ""))
        draft = Draft(tuple(map(str, to)), body, signature=signature)
        most = self.used(sender.space) + size + spare
        done = self.attempt(self.post.store.accept(Submission(sender, to, draft, self.post.origin("r"), most=most)))
        if spare < 0:
            assert done is Code.OVER_STORAGE
        else:
            assert isinstance(done, Accepted)
            self.sent[done.id] = (sender.space, size, to)

    @rule(data=st.data())
    def settle_and_forget(self, data: st.DataObject) -> None:
        if not self.sent:
            return
        id_ = data.draw(st.sampled_from(sorted(self.sent)))
        for address in self.sent[id_][2]:
            self.run(_ack(self.post, address, id_))
        while self.run(self.post.store.forget_settled(self.now)):
            pass
        del self.sent[id_]

    @rule()
    def crash(self) -> None:
        self.run(self.post.engine.crash())


async def _ack(post: Post, address: Address, id_: str) -> None:
    await post.store.settle(address, [id_], Settlement(Outcome.ACK), post.origin("r"))


@pytest.mark.soak
@promise("room-bounded", "room-counted")
@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_happens_a_space_keeps_what_was_sent_and_not_removed(engine: str) -> None:
    tell_stories(Room, engine, steps=12)
