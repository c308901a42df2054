"""Each row of `TRANSITIONS` is a change that a store makes, from the state that a sender sees to the one it sees then.

The other half, that it makes no others, is an invariant of `test_model.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from mcp_mailbox.delivery import TRANSITIONS, Event, Outcome, State
from mcp_mailbox.mailbox import Contact, Profile
from tests.contract.post import TERM, Post, at, refused
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio
TTL = 10 * TERM


class Life:
    """One message of ann to bob, who makes one attempt at it, and of eve to carl, who asks first."""

    def __init__(self, post: Post) -> None:
        self.post = post
        self.sender, self.box = "ann", "bob"
        self.id = self.handle = ""
        self.attempts = 1

    async def state(self) -> State:
        """What its sender sees."""
        return (await self.post.sent(self.sender, self.id))[self.box].state

    async def accepted(self) -> None:
        await self.post.mailboxes("ann")
        await self.post.open("bob", profile=Profile(attempts=self.attempts))
        self.id = self.handle = (await self.post.send("ann", "bob", ttl=TTL, topic="t")).id

    async def held(self) -> None:
        self.sender, self.box = "eve", "carl"
        await self.post.open("carl", profile=Profile(contact=Contact.ASK))
        await self.post.open("eve", owner="another")
        self.id = self.handle = (await self.post.send("eve", "carl", ttl=TTL)).id

    async def ring(self) -> None:
        await self.post.store.note_ring(at(self.box))

    async def show(self) -> None:
        await self.post.store.show(at(self.box), [self.id])

    async def claim(self) -> None:
        self.handle = (await self.post.claim_one(self.box, "reader", "request")).handle

    async def surface(self) -> None:
        await self.post.store.surface(self.post.origin("reader", "request"))

    async def give_back(self) -> None:
        await self.post.store.give_back("reader", "request", surfaced=True)

    async def term(self) -> None:
        self.post.clock.step(TERM)

    async def sweep(self) -> None:
        await self.post.store.sweep(0, ())

    async def expire(self) -> None:
        self.post.clock.step(TTL)
        await self.sweep()

    async def replace(self) -> None:
        await self.post.send("ann", "bob", topic="t")

    def settle(self, outcome: Outcome) -> Callable[[], Awaitable[None]]:
        async def settle() -> None:
            delay = TERM if outcome is Outcome.EXTEND else 0
            done = await self.post.settle(self.box, self.handle, outcome=outcome, reader="reader", delay=delay)
            assert refused(done) == [None]

        return settle

    async def go(self, *steps: Callable[[], Awaitable[None]]) -> None:
        """Take these steps, and wait until all of them are on disk: some go there with the next commit."""
        for step in steps:
            await step()
        await self.post.store.give_back("nobody", None, surfaced=True)

    def begin(self, state: State, event: Event) -> list[Callable[[], Awaitable[None]]]:
        """Return how a delivery comes to that state, if that event is to come."""
        late = event in {Event.SURFACE, Event.EXTEND, Event.EXHAUST}
        unseen: list[Callable[[], Awaitable[None]]] = [self.accepted, self.claim]
        seen = [*unseen, self.surface]
        seen_before = [self.accepted, self.show, self.claim]
        ways: dict[State, list[Callable[[], Awaitable[None]]]] = {
            State.HELD: [self.held],
            State.STORED: [self.accepted],
            State.RUNG: [*unseen, self.term] if late else [self.accepted, self.ring],
            State.SURFACED: [*(seen_before if event is Event.SURFACE else seen), self.term]
            if late
            else [self.accepted, self.show],
            State.LEASED: unseen if event in {Event.SURFACE, Event.GIVE_BACK} else seen,
            State.REJECTED: [self.accepted, self.settle(Outcome.REJECT)],
            State.EXPIRED: [self.accepted, self.expire],
            State.DEAD: [*seen, self.settle(Outcome.RELEASE)],
        }
        return ways[state]

    def cause(self, event: Event, state: State) -> Callable[[], Awaitable[None]]:
        """Return what brings about that event."""
        causes = {
            Event.RING: self.ring,
            Event.SHOW: self.show,
            Event.CLAIM: self.claim,
            Event.SURFACE: self.surface,
            Event.GIVE_BACK: self.give_back,
            Event.LAPSE: self.term,
            Event.EXPIRE: self.expire,
            Event.EXHAUST: self.sweep if state is State.SURFACED else self.settle(Outcome.RELEASE),
            Event.REPLACE: self.replace,
            Event.CONSENT: self.settle(Outcome.ACCEPT),
            Event.DECLINE: self.settle(Outcome.REJECT),
        }
        return causes.get(event) or self.settle(Outcome(event.value))


@pytest.fixture
def life(post: Post) -> Life:
    return Life(post)


ROWS = [(state, event, target) for state, events in TRANSITIONS.items() for event, target in events.items()]


@promise("states")
@pytest.mark.parametrize(("state", "event", "target"), ROWS, ids=lambda each: each.name.lower())
async def test_a_row_of_the_table_is_what_happens(life: Life, state: State, event: Event, target: State) -> None:
    if (state, event) == (State.LEASED, Event.RELEASE):
        life.attempts = 2
    await life.go(*life.begin(state, event))
    assert await life.state() is state
    await life.go(life.cause(event, state))
    assert await life.state() is target


@promise("states")
async def test_what_was_seen_before_and_is_given_back_is_no_less_seen(life: Life) -> None:
    await life.go(life.accepted, life.show, life.claim)
    assert await life.state() is State.LEASED
    await life.go(life.give_back)
    assert await life.state() is TRANSITIONS[State.LEASED][Event.LAPSE]


@promise("states")
async def test_a_lease_that_ran_out_unseen_is_as_if_it_had_been_given_back(life: Life) -> None:
    await life.go(life.accepted, life.claim, life.term)
    assert await life.state() is TRANSITIONS[State.LEASED][Event.GIVE_BACK]


@promise("states")
async def test_a_lease_that_ran_out_may_still_be_extended_by_who_had_it(life: Life) -> None:
    await life.go(*life.begin(State.SURFACED, Event.EXTEND))
    before = await life.state()
    await life.go(life.settle(Outcome.EXTEND))
    assert await life.state() is TRANSITIONS[before].get(Event.EXTEND)


@promise("states")
async def test_what_was_tried_too_often_ends_where_it_stands(life: Life) -> None:
    await life.go(*life.begin(State.SURFACED, Event.EXHAUST))
    before = await life.state()
    await life.go(life.sweep)
    assert await life.state() is TRANSITIONS[before].get(Event.EXHAUST)


@promise("states", "ask-policy")
async def test_what_is_let_in_was_not_rung_by_what_came_while_it_was_held(life: Life) -> None:
    await life.held()
    await life.post.open("friend")
    await life.post.send("friend", "carl")
    await life.go(life.ring)
    await life.go(life.term, life.settle(Outcome.ACCEPT))
    assert await life.state() is TRANSITIONS[State.HELD][Event.CONSENT]
