"""The rules that need a clock which the test steps, over a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_mailbox.bell import Bell, Ending
from mcp_mailbox.credentials import Scope
from mcp_mailbox.delivery import Delivery, Outcome, Settlement, State
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Kind, Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.message import Kind as MessageKind
from mcp_mailbox.postoffice import LEASE_TERM, Call, Caller, PostOffice
from mcp_mailbox.store import Due, Portion, Wanted
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE

pytestmark = pytest.mark.anyio

_requests = count(1)
GRACE = 3_000


def call(reader: str, request: str | None = None) -> Call:
    return Call(caller(reader), request or f"request {next(_requests)}")


def caller(reader: str) -> Caller:
    return Caller(reader, "someone", "default")


class World:
    """One mailbox, `box`, and readers named in each test."""

    def __init__(self, office: PostOffice, store: Any, clock: SteppedClock) -> None:
        self.office = office
        self.store = store
        self.clock = clock

    async def arrive(self, *readers: str) -> None:
        for reader in readers:
            self.office.arrive(caller(reader))
            profile = Profile(kind=Kind.POOL, share=100)
            await self.office.mailboxes.open(call(reader), "box", profile)

    async def own_desk(self, *readers: str) -> None:
        """Have these come to a personal mailbox."""
        for reader in readers:
            self.office.arrive(caller(reader))
            await self.office.mailboxes.open(call(reader), "desk", Profile())

    async def send(self, body: str = "x", to: str = "box") -> None:
        await self.office.send(call("sender"), Draft((to,), body))

    async def wait(self, reader: str, patience: float = 0, request: str | None = None) -> Sequence[Delivery]:
        found, _ = await self.office.wait(call(reader, request), patience, Wanted(), 1 << 20, Ending())
        return found

    async def step(self, ms: int) -> None:
        """Let time pass, and those whom it wakes go on."""
        self.clock.step(ms)
        await anyio.wait_all_tasks_blocked()

    @asynccontextmanager
    async def waiting(self, reader: str) -> AsyncIterator[Callable[[], Awaitable[Sequence[Delivery]]]]:
        """Wait in the background, for longer than any lease."""
        found: list[Sequence[Delivery]] = []
        done = anyio.Event()

        async def run() -> None:
            found.append(await self.wait(reader, 100 * LEASE_TERM))
            done.set()

        async def answer() -> Sequence[Delivery]:
            await done.wait()
            return found[0]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            # Through the writer, so that the claim before it has found nothing.
            await self.office.settle(call("sender"), ["nothing"], Settlement(Outcome.ACK))
            yield answer
            tasks.cancel_scope.cancel()


@pytest.fixture
async def world(tmp_path: Path, anyio_backend: str) -> AsyncIterator[World]:  # noqa: ARG001 - makes it async
    clock = SteppedClock()
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "mail.db", clock) as store:
            office = PostOffice(store)
            async with office.business():
                world = World(office, store, clock)
                await world.arrive("sender")
                await world.step(GRACE)
                await office._readers.known()  # the store is asked before, in a thread
                yield world


async def test_a_lease_that_is_extended_for_no_time_in_particular_lasts_as_long_as_a_new_one(world: World) -> None:
    await world.arrive("a")
    await world.send()
    [held] = await world.wait("a")
    await world.step(LEASE_TERM - 1)
    await world.office.settle(call("a"), [held.handle], Settlement(Outcome.EXTEND))
    assert held.lease_until
    own = (await world.office.read(call("a"), held.message.id)).own
    assert own is not None
    assert own.lease_until == held.lease_until + LEASE_TERM - 1


async def test_a_lapsed_lease_goes_to_a_waiting_reader_when_its_own_has_left(world: World) -> None:
    await world.arrive("one", "two")
    await world.send()
    [taken] = await world.wait("one", request="r")
    await world.office.reached(caller("one"), "r")
    async with world.waiting("two") as answer:
        await world.office.depart(caller("one"))
        await world.step(LEASE_TERM)
        [again] = await answer()
    assert (again.message.id, again.attempts) == (taken.message.id, 1)


async def test_a_lapsed_lease_of_a_reader_that_is_here_waits_until_it_leaves(world: World) -> None:
    await world.arrive("one", "two")
    await world.send()
    await world.wait("one", request="r")
    await world.office.reached(caller("one"), "r")
    async with world.waiting("two") as answer:
        await world.step(5 * LEASE_TERM)
        assert not await world.wait("two")
        await world.office.depart(caller("one"))
        assert len(await answer()) == 1


async def test_who_comes_after_a_reader_that_left_gets_first_what_that_one_never_saw(world: World) -> None:
    await world.own_desk("one", "two")
    await world.send("seen", to="desk")
    await world.wait("one", request="r")
    await world.office.reached(caller("one"), "r")
    await world.step(LEASE_TERM - 1)
    await world.send("never seen", to="desk")
    assert len(await world.wait("one")) == 1
    await world.step(1)  # so that there is more to do when it leaves
    await world.send("new", to="desk")
    found: list[str] = []

    async def come_after() -> None:
        found.extend(each.message.body for each in await world.wait("two", 10_000))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.office.depart, caller("one"))
        tasks.start_soon(come_after)
    assert found == ["seen", "never seen", "new"]


async def test_who_comes_after_a_reader_that_ended_with_the_office_gets_first_what_that_one_never_saw(
    world: World,
) -> None:
    await world.own_desk("one", "two")
    await world.send("first", to="desk")
    assert len(await world.wait("one")) == 1
    await world.send("second", to="desk")
    office = PostOffice(world.store)
    async with office.business():
        office.arrive(caller("two"))
        found: list[str] = []

        async def come_after() -> None:
            deliveries, _ = await office.wait(call("two"), 60_000, Wanted(), 1 << 20, Ending())
            found.extend(each.message.body for each in deliveries)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(come_after)
            await anyio.wait_all_tasks_blocked()
            await world.step(GRACE)
        assert found == ["first", "second"]


async def test_who_looked_before_it_was_known_who_is_here_is_rung_when_it_is(world: World) -> None:
    """An edge looks, and looks again when it is rung: what was held back for another reader rings nobody else."""
    await world.own_desk("one", "two")
    assert not await world.wait("one")
    await world.send(to="desk")
    office = PostOffice(world.store)
    async with office.business():
        office.arrive(caller("two"))
        box = await office.mailboxes.own(caller("two"), None)
        with office.bell.listening(box) as ear:
            found, _ = await office.wait(call("two"), 0, Wanted(), 1 << 20, Ending())
            assert not found
            ear.clear()
            await world.step(GRACE)
            await ear.wait()
        found, _ = await office.wait(call("two"), 0, Wanted(), 1 << 20, Ending())
        assert len(found) == 1


class Meanwhile:
    """A store at which something happens while a first claim is under way, behind what it has read."""

    def __init__(self, store: Any, happens: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._happens: Callable[[], Awaitable[None]] | None = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def claim(self, *arguments: Any) -> Sequence[Delivery]:
        found: Sequence[Delivery] = await self._store.claim(*arguments)
        happens, self._happens = self._happens, None
        if happens is not None:
            await happens()
        return found


@pytest.mark.parametrize("patience", [0, 60_000])
async def test_who_looks_while_it_becomes_known_who_is_here_looks_again(world: World, patience: int) -> None:
    await world.own_desk("one", "two")
    assert not await world.wait("one")
    await world.send(to="desk")

    async def known() -> None:
        world.clock.step(GRACE)
        await office._readers.known()
        await anyio.wait_all_tasks_blocked()

    office = PostOffice(Meanwhile(world.store, known))
    async with office.business():
        office.arrive(caller("two"))
        found, _ = await office.wait(call("two"), patience, Wanted(), 1 << 20, Ending())
        assert len(found) == 1


async def test_a_receipt_wakes_no_wait_and_is_there_at_its_end(world: World) -> None:
    await world.arrive("one")
    world.office.arrive(caller("asker"))
    asker = (await world.office.mailboxes.open(call("asker"), "asker", Profile())).mailbox.address
    sent = await world.office.send(call("asker"), Draft(("box",), "work", receipt=True))
    rung: list[str] = []
    world.office.bell.subscribe(asker, lambda: rung.append("asker"))
    async with world.waiting("asker") as answer:
        await world.office.settle(call("one"), [sent.id], Settlement(Outcome.ACK))
        assert rung == []
        await world.step(100 * LEASE_TERM)
        [receipt] = await answer()
    assert receipt.message.kind is MessageKind.RECEIPT


async def test_a_lapsed_lease_comes_back_to_the_reader_that_asks_again(world: World) -> None:
    await world.arrive("one")
    await world.send()
    [taken] = await world.wait("one")
    assert not await world.wait("one")
    async with world.waiting("one") as answer:
        await world.step(LEASE_TERM)
        [again] = await answer()
    assert again.message.id == taken.message.id
    assert again.handle != taken.handle


async def test_after_a_start_leases_of_readers_that_have_not_come_back_yet_are_left_alone(tmp_path: Path) -> None:
    clock = SteppedClock()
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "mail.db", clock) as store:
            before = World(PostOffice(store), store, clock)
            await before.arrive("sender", "one")
            await before.send()
            await before.wait("one", request="r")
            await before.office.reached(caller("one"), "r")
        clock.step(LEASE_TERM)
        async with open_store(tmp_path / "mail.db", clock) as store:
            after = World(PostOffice(store), store, clock)
            async with after.office.business():
                await after.arrive("sender", "two")
                async with after.waiting("two") as answer:
                    await after.step(GRACE - 1)
                    assert not await after.wait("two")
                    await after.step(1)
                    assert len(await answer()) == 1


async def test_what_a_reader_never_saw_that_ended_with_the_post_office_goes_to_the_next(tmp_path: Path) -> None:
    clock = SteppedClock()
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "mail.db", clock) as store:
            before = World(PostOffice(store), store, clock)
            await before.arrive("sender", "one")
            await before.send()
            await before.wait("one")
        async with open_store(tmp_path / "mail.db", clock) as store:
            after = World(PostOffice(store), store, clock)
            async with after.office.business():
                await after.arrive("sender", "two")
                async with after.waiting("two") as answer:
                    await after.step(GRACE)
                    [found] = await answer()
                    assert found.attempts == 0


async def test_what_a_reader_that_came_back_was_handed_stays_with_it(tmp_path: Path) -> None:
    clock = SteppedClock()
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "mail.db", clock) as store:
            before = World(PostOffice(store), store, clock)
            await before.arrive("sender", "one")
            await before.send()
            taken = await before.wait("one", request="r")
        async with open_store(tmp_path / "mail.db", clock) as store:
            after = World(PostOffice(store), store, clock)
            async with after.office.business():
                await after.arrive("one", "two")
                await after.step(GRACE)
                assert not await after.wait("two")
                assert await after.wait("one", request="r") == taken


async def test_what_never_reached_a_reader_that_left_is_there_at_once(world: World) -> None:
    await world.arrive("one", "two")
    await world.send()
    await world.wait("one")
    async with world.waiting("two") as answer:
        await world.office.depart(caller("one"))
        [found] = await answer()
        assert found.attempts == 0


async def test_a_reader_that_is_back_before_it_has_left_keeps_what_it_holds(world: World) -> None:
    await world.arrive("one", "two")
    await world.send()
    await world.wait("one")
    world.office.arrive(caller("one"))
    await world.office.depart(caller("one"))
    assert not await world.wait("two")


async def test_leases_that_a_store_in_trouble_could_not_take_back_are_given_back_later(world: World) -> None:
    await world.arrive("one", "two")
    await world.send("departed")
    await world.send("cancelled")
    await world.office.settle(call("sender"), ["nothing"], Settlement(Outcome.ACK))
    await world.wait("one", request="r")
    world.store.writer._db.execute("PRAGMA query_only = ON")
    await world.office.missed(caller("one"), "r")
    await world.office.depart(caller("one"))
    await world.step(10_000)
    assert await refused(world.wait("two")) is Code.STORE_FAILED
    world.store.writer._db.execute("PRAGMA query_only = OFF")
    async with world.waiting("two") as answer:
        await world.step(1_000)
        assert len(await answer()) == 2


async def refused(attempt: Awaitable[object]) -> Code | None:
    try:
        await attempt
    except Refusal as refusal:
        return refusal.code
    return None


async def test_a_wait_ends_early_when_told_and_takes_nothing(world: World) -> None:
    await world.arrive("one", "two")
    ending = Ending()
    ending.set()
    assert await world.office.wait(call("one"), 1e9, Wanted(), 1, ending) == ([], ())
    await world.send()
    assert len(await world.wait("two")) == 1


async def test_a_wait_lasts_as_long_as_asked(world: World) -> None:
    await world.arrive("one")
    with anyio.move_on_after(0) as early:
        await world.wait("one", 1000)
    assert early.cancelled_caught
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.wait, "one", 1000)
        await anyio.wait_all_tasks_blocked()
        await world.step(999)
        await world.step(1)


async def test_mailboxes_of_another_principal_are_as_if_they_were_not_there(world: World) -> None:
    stranger = Caller("stranger", "somebody else", "default")
    for attempt in (
        world.office.mailboxes.own(stranger, "box"),
        world.office.mailboxes.own(stranger, "nothing"),
        world.office.list_inbox(Call(stranger, "r", "box"), None),  # type: ignore[arg-type]  # it does not get so far
    ):
        assert await refused(attempt) is Code.UNKNOWN_MAILBOX
    assert await world.office.mailboxes.complete(stranger, "", 10) == []
    assert await refused(world.office.mailboxes.own(stranger)) is Code.NO_MAILBOX


async def test_a_repeated_recipient_gets_one_copy(world: World) -> None:
    accepted = await world.office.send(call("sender"), Draft(("box", "BOX", "box@default"), "x"))
    assert len(accepted.recipients) == 1
    await world.arrive("one")
    assert len(await world.wait("one")) == 1


def test_a_bell_forgets_who_has_left() -> None:
    from mcp_mailbox.addresses import Address  # noqa: PLC0415 - the one test that needs it

    bell = Bell()
    heard: list[str] = []
    end = bell.subscribe(Address("Box", "default"), lambda: heard.append("x"))
    bell.ring(Address("box", "default"))
    end()
    end()
    bell.ring(Address("box", "default"))
    assert heard == ["x"]
    assert bell._listeners == {}


async def test_a_reader_whose_requests_come_and_go_holds_nothing_up_after_its_last(world: World) -> None:
    await world.arrive("one", "two")
    await world.send()
    await world.wait("one", request="r")
    await world.office.reached(caller("one"), "r")
    async with world.waiting("two") as answer:
        await world.step(2 * LEASE_TERM)  # it is here all the time, so this is still its own
        await world.office.depart(caller("one"), put_back=False)
        assert len(await answer()) == 1


async def test_a_lease_that_is_given_while_the_timer_looks_rings_when_it_runs_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.arrive("one", "two")
    await world.send()
    [done] = await world.wait("one")
    await world.office.settle(call("one"), [done.handle], Settlement(Outcome.ACK))
    await world.send()
    looked, answer = anyio.Event(), anyio.Event()
    due = world.store.due

    async def late(after: int) -> Due:
        """What the store says, on its way for a while."""
        found: Due = await due(after)
        looked.set()
        await answer.wait()
        return found

    monkeypatch.setattr(world.store, "due", late)
    world.clock.step(LEASE_TERM)  # the timer was set for a lease that has been settled since
    world.office._readers.expect(0)  # or it has looked since that was settled, and waits for nothing
    await looked.wait()
    await world.wait("one", request="r")
    answer.set()
    await world.office.reached(caller("one"), "r")
    async with world.waiting("two") as found:
        await world.office.depart(caller("one"))
        await world.step(LEASE_TERM)
        assert len(await found()) == 1


async def test_a_wait_that_is_refused_has_acked_nothing(world: World) -> None:
    await world.arrive("one")
    await world.send()
    [taken] = await world.wait("one")
    wanted = Wanted(thread="nothing")
    ack = [taken.handle]
    assert await refused(world.office.wait(call("one"), 0, wanted, 1, Ending(), ack)) is Code.UNKNOWN_MESSAGE
    found = await world.office.read(call("one"), taken.message.id)
    assert found.own is not None
    assert found.own.state is State.LEASED


async def test_who_follows_a_mailbox_is_told_what_comes_and_takes_nothing(world: World) -> None:
    await world.arrive("reader", "sender")
    await world.send("before")
    page = await world.office.arrivals(call("reader"), Portion(10, 1 << 20))
    assert page.mail == ()
    await world.send("rung")
    page = await world.office.arrivals(call("reader"), Portion(10, 1 << 20, page.place))
    assert [each.message.body for each in page.mail] == ["rung"]
    [delivery] = [each for each in await world.wait("reader") if each.message.body == "rung"]
    assert delivery.progress.attempts == 0


async def test_nobody_follows_a_mailbox_of_somebody_else_or_without_leave_to_read(world: World) -> None:
    await world.arrive("reader")
    stranger = Call(Caller("stranger", "another", "default"), "r", "box")
    writer = Call(replace(caller("reader"), scopes=frozenset({Scope.SEND})), "r")
    for asked, code in ((stranger, Code.UNKNOWN_MAILBOX), (writer, Code.FORBIDDEN)):
        with pytest.raises(Refusal) as refused:
            await world.office.arrivals(asked, Portion(10, 1 << 20))
        assert refused.value.code is code
