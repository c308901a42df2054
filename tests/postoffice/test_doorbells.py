"""When a host is rung and when it is left alone, over a real store and with a clock that the test steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Ending
from mcp_mailbox.budgets import HOUR, Limits
from mcp_mailbox.channel import Keep
from mcp_mailbox.delivery import Delivery, Settlement, State
from mcp_mailbox.delivery import Outcome as Settling
from mcp_mailbox.doorbell import (
    ANSWERED,
    NEWS_LIMIT,
    Doorbell,
    Moment,
    Outcome,
    Pointer,
    Quiet,
    Result,
    Ring,
    StandIn,
    Terms,
)
from mcp_mailbox.engines.sqlite import SqliteStore, open_store
from mcp_mailbox.errors import Refusal
from mcp_mailbox.mailbox import Contact, Kind, Profile
from mcp_mailbox.message import Draft, Priority
from mcp_mailbox.message import Kind as MessageKind
from mcp_mailbox.postoffice import Call, Caller, PostOffice
from mcp_mailbox.postoffice.doorbells import WAITER
from mcp_mailbox.postoffice.wakes import BURST, DEAF, DEAF_PAUSE, UNANSWERED, WORK
from mcp_mailbox.store import Listing, Wanted
from tests.clocks import START, SteppedClock
from tests.conftest import DEADLINE

pytestmark = pytest.mark.anyio
_requests = count(1)
HOST = Caller("relay", "someone", "default")
SENDER = Caller("sender", "someone", "default")


class Bell:
    """A bell that keeps what it was rung with; `result` is what comes of it."""

    kind = "test"

    def __init__(self) -> None:
        self.rung: list[Pointer] = []
        self.result = Result(Outcome.RUNG)

    async def ring(self, pointer: Pointer) -> Result:
        await anyio.lowlevel.checkpoint()
        self.rung.append(pointer)
        return self.result


class Notes(list[Ring]):
    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[str, int]] = []

    def note(self, ring: Ring) -> None:
        self.append(ring)

    def answered(self, mailbox: Address, rung_at: int, at: int) -> None:
        self.answers.append((mailbox.name, at - rung_at))

    def reasons(self) -> list[str]:
        return [f"{ring.result.outcome}: {ring.result.reason}" for ring in self]


class World:
    """A host that reads `builder`, and `planner`, who writes to it."""

    def __init__(self, store: SqliteStore, clock: SteppedClock) -> None:
        self.store = store
        self.clock = clock
        self.office = PostOffice(store)
        self.log = Notes()
        self.office.doorbells.log = self.log

    async def host(
        self,
        caller: Caller = HOST,
        name: str = "builder",
        *,
        terms: Terms | None = None,
        resumed: bool = False,
        kind: Kind | None = None,
    ) -> Bell:
        bell = Bell()
        self.office.arrive(caller)
        self.office.doorbells.attach(caller, bell, terms or Terms(), resumed=resumed)
        await self.office.mailboxes.open(self.call(caller), name, Profile(kind=kind, share=100 if kind else None))
        return bell

    @contextmanager
    def standing_in(
        self, bell: Doorbell, terms: Terms | None = None, *, name: str = "rewake.1", own: Caller | None = None
    ) -> Iterator[list[str]]:
        """Stand in for whoever reads builder; yields a list that gets a word when it has to leave."""
        told: list[str] = []
        doorbells = self.office.doorbells
        stand = StandIn(
            name,
            Address("builder", "default"),
            bell,
            terms or Terms(),
            begins=True,
            superseded=lambda: own is not None and doorbells.can_ring(own),
            leave=lambda: told.append("leave"),
        )
        with doorbells.standing_in(stand):
            yield told

    def call(self, caller: Caller = HOST) -> Call:
        return Call(caller, f"request {next(_requests)}")

    async def send(self, sender: str = "planner", to: str = "builder", **options: object) -> str:
        caller = Caller(sender, "someone", "default")
        await self.office.mailboxes.open(self.call(caller), sender, Profile())
        draft = Draft((to,), "a secret", "a subject", **options)  # type: ignore[arg-type]  # a test's own words
        return (await self.office.send(self.call(caller), draft)).id

    async def wait(self, caller: Caller = HOST, patience: float = 0) -> list[str]:
        call = self.call(caller)
        found, _ = await self.office.wait(call, patience, Wanted(), 1 << 20, Ending())
        await self.office.reached(caller, call.request)
        return [each.handle for each in found]

    async def ack(self, handles: list[str]) -> None:
        await self.office.settle(self.call(), handles, Settlement(Settling.ACK))

    async def look(self) -> None:
        """List the inbox, and let it reach the host."""
        call = self.call()
        await self.office.list_inbox(call, Listing(100))
        await self.office.reached(HOST, call.request)

    async def settle(self) -> None:
        """Let everything that has been set going come to rest."""
        for _ in range(3):
            await self.store.writer.do(lambda _: None)
            await self.store._reader.do(lambda _: None)
            await anyio.wait_all_tasks_blocked()

    async def step(self, ms: int) -> None:
        self.clock.step(ms)
        await self.settle()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = SteppedClock()
    async with open_store(tmp_path / "mail.db", clock) as store:
        world = World(store, clock)
        with anyio.fail_after(DEADLINE):
            async with world.office.business():
                yield world


async def test_an_idle_host_is_told_who_wrote_and_where_and_nothing_that_was_said(world: World) -> None:
    bell = await world.host()
    await world.send()
    await world.settle()
    [pointer] = bell.rung
    clock = time.strftime("%H:%M:%S", time.localtime(START / 1000))
    assert pointer.text() == f"Mail at {clock}: 1 new message from planner in builder; call wait_for_message."
    assert [ring.result.outcome for ring in world.log] == [Outcome.RUNG]


async def test_what_was_rung_is_on_record_as_rung(world: World) -> None:
    await world.host()
    sent = await world.send()
    await world.settle()
    reading = await world.store.read(Address("builder", "default"), sent)
    assert reading.own is not None
    assert reading.own.state is State.RUNG


async def test_somebody_who_waits_takes_the_mail_and_is_not_rung(world: World) -> None:
    bell = await world.host()
    taken: list[str] = []

    async def wait() -> None:
        taken.extend(await world.wait(patience=HOUR))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await world.settle()
        await world.send()
    await world.step(WAITER)
    assert len(taken) == 1
    assert bell.rung == []
    assert world.log == []


async def test_somebody_who_waits_for_other_mail_is_rung(world: World) -> None:
    bell = await world.host()
    await world.host(Caller("other", "someone", "default"), "other")

    async def wait() -> None:
        wanted = Wanted(Address("other", "default"))
        await world.office.wait(world.call(), HOUR, wanted, 1 << 20, Ending())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await world.settle()
        await world.send()
        await world.settle()
        assert bell.rung == []
        await world.step(WAITER)
        assert len(bell.rung) == 1
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("moment", range(1, 5))
async def test_a_host_that_goes_while_it_is_looked_whom_to_ring_keeps_nobody_from_being_rung(
    world: World, moment: int
) -> None:
    await world.office.mailboxes.open(world.call(), "builder", Profile())
    await world.send()
    calls, going = count(1), ExitStack()

    def superseded() -> bool:
        if next(calls) == moment:
            asyncio.get_running_loop().call_soon(going.close)
        return False

    there, gone = Bell(), Bell()
    place = Address("builder", "default")
    stand = StandIn("goes", place, gone, Terms(), begins=True, superseded=superseded, leave=lambda: None)
    with world.standing_in(there), going:
        going.enter_context(world.office.doorbells.standing_in(stand))
        await world.step(WAITER)
        assert [each.count for each in there.rung + gone.rung] == [1]


async def test_a_burst_rings_once_and_once_more_half_a_minute_later_if_nobody_has_looked(world: World) -> None:
    bell = await world.host()
    for _ in range(100):
        await world.send()
        await world.step(20)
    assert [pointer.count for pointer in bell.rung] == [1]
    await world.step(UNANSWERED)
    assert [pointer.count for pointer in bell.rung] == [1, NEWS_LIMIT]
    assert f"{NEWS_LIMIT} or more new messages" in bell.rung[-1].text()
    await world.step(HOUR)
    assert len(bell.rung) == 2


async def test_what_comes_while_a_reader_is_at_work_rings_when_it_has_settled_that(world: World) -> None:
    bell = await world.host()
    await world.send()
    await world.settle()
    handles = await world.wait()
    await world.step(BURST)
    await world.send()
    await world.settle()
    assert len(bell.rung) == 1
    await world.ack(handles)
    await world.settle()
    assert len(bell.rung) == 2


async def test_a_reader_that_works_for_long_is_rung_meanwhile(world: World) -> None:
    bell = await world.host()
    await world.send()
    await world.settle()
    await world.wait()
    await world.send()
    await world.step(WORK)
    assert len(bell.rung) == 2


@pytest.mark.parametrize("every", [1, 5, 10])
async def test_a_burst_that_a_reader_takes_in_turns_rings_once_or_twice(world: World, every: int) -> None:
    """However fast it acks them: what follows closely is one coming."""
    bell = await world.host()
    for number in range(100):
        await world.send()
        await world.settle()
        if number % every == 0:
            await world.ack(await world.wait())
        await world.step(50)
    assert len(bell.rung) == 1
    await world.step(HOUR)
    assert 1 <= len(bell.rung) <= 2


async def test_a_stream_that_never_pauses_rings_now_and_then(world: World) -> None:
    bell = await world.host()
    for _ in range(100):
        await world.send()
        await world.settle()
        if len(bell.rung) % 2:
            await world.ack(await world.wait())
        await world.step(500)
    assert 3 <= len(bell.rung) <= 6


async def test_mail_that_comes_now_and_then_rings_each_time(world: World) -> None:
    """Also for a model that answers a ring without looking."""
    bell = await world.host()
    for number in range(20):
        await world.send()
        await world.settle()
        assert len(bell.rung) == number + 1
        await world.step(BURST)


async def test_a_host_that_never_answers_is_rung_seldom(world: World) -> None:
    bell = await world.host()
    for _ in range(DEAF + 10):
        await world.send()
        await world.step(BURST)
    assert len(bell.rung) == DEAF
    await world.step(DEAF_PAUSE)
    assert len(bell.rung) == DEAF + 1


@pytest.mark.parametrize("look", ["list", "wait"])
async def test_who_has_looked_is_rung_for_the_next_at_once(world: World, look: str) -> None:
    bell = await world.host()
    for number in range(3):
        await world.send()
        await world.settle()
        assert len(bell.rung) == number + 1
        if look == "list":
            await world.look()
        else:
            await world.ack(await world.wait())
        await world.step(BURST)


async def test_a_copy_a_receipt_low_priority_and_an_ack_never_ring(world: World) -> None:
    bell = await world.host()
    await world.host(SENDER, "sender")
    await world.send(to="sender", cc=("builder",))
    await world.send(priority=Priority.LOW)
    call = world.call()
    await world.office.send(call, Draft(("sender",), "tell me when you are done", receipt=True))
    await world.office.settle(world.call(SENDER), await world.wait(SENDER), Settlement(Settling.ACK))
    await world.step(HOUR)
    assert bell.rung == []
    assert world.log == [ring for ring in world.log if ring.pointer.mailbox.name == "sender"]


async def test_a_report_of_what_came_to_nothing_rings(world: World) -> None:
    bell = await world.host()
    await world.host(SENDER, "sender")
    await world.office.send(world.call(), Draft(("sender",), "do this"))
    await world.office.settle(world.call(SENDER), await world.wait(SENDER), Settlement(Settling.REJECT, reason="no"))
    await world.settle()
    assert [pointer.names() for pointer in bell.rung] == [("postmaster",)]


async def test_delayed_mail_rings_when_it_is_due(world: World) -> None:
    bell = await world.host()
    await world.send(delay=60_000)
    await world.settle()
    assert bell.rung == []
    await world.step(60_000)
    assert len(bell.rung) == 1


async def test_what_a_reader_puts_off_rings_again_when_it_is_due(world: World) -> None:
    bell = await world.host()
    await world.send()
    await world.settle()
    await world.office.settle(world.call(), await world.wait(), Settlement(Settling.RELEASE, 60_000))
    await world.step(30_000)
    assert len(bell.rung) == 1
    await world.step(30_000)
    assert len(bell.rung) == 2


async def test_only_urgent_mail_rings_in_quiet_hours_and_the_rest_when_they_end(world: World) -> None:
    local = time.localtime(START / 1000)
    minute = local.tm_hour * 60 + local.tm_min
    quiet = Quiet((minute - 10) % 1440, (minute + 30) % 1440)
    bell = await world.host(terms=Terms(quiet))
    await world.send()
    await world.settle()
    assert world.log.reasons() == ["skipped: quiet hours"]
    await world.step(BURST)
    await world.send(priority=Priority.URGENT)
    await world.settle()
    assert [(pointer.count, pointer.urgent) for pointer in bell.rung] == [(2, 1)]
    await world.look()
    await world.step(BURST)
    await world.send("other")
    await world.step(40 * 60_000)
    assert len(bell.rung) == 2


@pytest.mark.parametrize("begin", range(0, 24 * 60, 97))
@pytest.mark.parametrize("length", [1, 540, 1439])
def test_quiet_hours_last_until_their_end_and_no_longer(begin: int, length: int) -> None:
    quiet = Quiet(begin, (begin + length) % 1440)
    for now in range(START, START + 86_400_000, 1_234_567):
        left = quiet.left(now)
        assert left <= length * 60_000
        if left:
            assert quiet.left(now + left - 1) == 1
            assert quiet.left(now + left) == 0


@pytest.mark.parametrize("text", ["", "22-7", "24:00-07:00", "22:60-07:00", "22:00-07:00-08:00", "22:00\n-07:00"])
def test_hours_that_are_none_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(Refusal, match="22:00-07:00"):
        Quiet.parse(text)
    assert Quiet.parse("22:00-7:05") == Quiet(1320, 425)


async def test_two_agents_that_answer_each_other_for_ever_are_left_to_sleep(world: World) -> None:
    terms = Terms(wakes=40)  # fewer than the loop guard has hops
    bells = {name: await world.host(Caller(name, "someone", "default"), name, terms=terms) for name in ("ann", "bob")}
    last = await world.send("ann", "bob")
    writer, reader = "bob", "ann"
    for _ in range(2 * terms.wakes):
        await world.step(BURST)
        caller = Caller(writer, "someone", "default")
        handles = await world.wait(caller)
        assert handles
        last = await world.send(writer, reader, reply_to=handles[0])
        writer, reader = reader, writer
    await world.settle()
    assert sum(len(bell.rung) for bell in bells.values()) == terms.wakes
    assert any("within the hour" in reason for reason in world.log.reasons())
    # Another thread is another matter, and so is what is urgent.
    rung = len(bells["ann"].rung) + len(bells["bob"].rung)
    await world.step(WORK)
    await world.send("other", "bob")
    await world.settle()
    await world.step(BURST)
    await world.send("ann", "bob", reply_to=last, priority=Priority.URGENT)
    await world.settle()
    assert len(bells["ann"].rung) + len(bells["bob"].rung) == rung + 2


async def test_a_look_after_a_ring_is_its_answer_and_one_that_comes_late_is_not(world: World) -> None:
    bell = await world.host()
    for pause in (WORK, ANSWERED + 1, WORK):
        await world.send()
        await world.settle()
        await world.step(pause)
        await world.look()
        await world.step(UNANSWERED)
    assert len(bell.rung) == 3
    assert world.log.answers == [("builder", WORK), ("builder", WORK)]
    bell.result = Result(Outcome.FAILED, "gone")
    await world.send()
    await world.step(BURST)
    await world.look()
    assert len(world.log.answers) == 2, "nobody was rung"


async def test_a_thread_may_wake_again_when_an_hour_has_passed(world: World) -> None:
    bell = await world.host(terms=Terms(wakes=1))
    first = await world.send()
    await world.settle()
    await world.look()
    await world.step(BURST)
    await world.send(reply_to=first)
    await world.step(HOUR // 2)
    assert len(bell.rung) == 1
    await world.step(HOUR // 2)
    assert len(bell.rung) == 2


async def test_a_ring_that_failed_is_logged_and_the_next_message_rings_for_both(world: World) -> None:
    bell = await world.host()
    bell.result = Result(Outcome.FAILED, "refused")
    sent = await world.send()
    await world.settle()
    assert world.log.reasons() == ["failed: refused"]
    reading = await world.store.read(Address("builder", "default"), sent)
    assert reading.own is not None
    assert reading.own.state is State.STORED
    bell.result = Result(Outcome.RUNG)
    await world.step(BURST)
    await world.send()
    await world.settle()
    assert [pointer.count for pointer in bell.rung] == [1, 2]


async def test_a_ring_that_failed_is_made_good_when_the_host_can_be_reached(world: World) -> None:
    """The first call of a new conversation tells which it is. What that call takes is not rung for any more."""
    bell = await world.host()
    bell.result = Result(Outcome.FAILED, "its thread is not known before its first call")
    await world.send()
    await world.settle()
    bell.result = Result(Outcome.RUNG)
    world.office.doorbells.reachable(HOST)
    await world.settle()
    assert len(bell.rung) == 1
    await world.step(BURST)
    assert len(bell.rung) == 2
    await world.step(HOUR)
    assert len(bell.rung) == 2


async def test_a_ring_that_failed_is_made_good_when_the_host_comes_back(world: World) -> None:
    bell = await world.host()
    bell.result = Result(Outcome.FAILED, "refused")
    await world.send()
    await world.settle()
    await world.office.depart(HOST)
    bell = await world.host(resumed=True)
    await world.settle()
    assert len(bell.rung) == 1


async def test_rings_that_failed_are_no_rings_that_nobody_answered(world: World) -> None:
    bell = await world.host()
    bell.result = Result(Outcome.FAILED, "refused")
    for number in range(DEAF + 5):
        await world.send()
        await world.settle()
        assert len(bell.rung) == number + 1
        await world.step(BURST)


async def test_another_host_that_starts_is_told_what_the_one_before_was_told(world: World) -> None:
    await world.host()
    await world.send()
    await world.settle()
    await world.office.depart(HOST)
    bell = await world.host(Caller("another relay", "someone", "default"))
    await world.settle()
    assert len(bell.rung) == 1


async def test_a_host_that_starts_is_told_what_waits_for_it(world: World) -> None:
    await world.office.mailboxes.open(world.call(), "builder", Profile())
    await world.send()
    bell = await world.host()
    await world.settle()
    assert len(bell.rung) == 1


async def test_a_host_that_comes_back_is_told_only_what_nobody_was_told(world: World) -> None:
    await world.host()
    await world.send()
    await world.settle()
    await world.office.depart(HOST)
    bell = await world.host(resumed=True)
    await world.settle()
    assert bell.rung == []
    await world.office.depart(HOST)
    await world.send()
    bell = await world.host(resumed=True)
    await world.settle()
    assert [pointer.count for pointer in bell.rung] == [2]


async def test_two_rings_are_never_said_in_the_same_words(world: World) -> None:
    """Claude Code drops the second."""
    bell = await world.host()
    for _ in range(5):
        await world.send()
        await world.settle()
        await world.ack(await world.wait())
        await world.step(BURST)
    assert len({pointer.text() for pointer in bell.rung}) == 5


async def test_nobody_is_rung_for_a_mailbox_that_nobody_reads(world: World) -> None:
    bell = await world.host()
    await world.office.mailboxes.open(world.call(), "elsewhere", Profile())
    await world.send()
    await world.step(HOUR)
    assert bell.rung == []


async def test_a_pool_wakes_one_reader_for_each_message(world: World) -> None:
    callers = [Caller(f"worker {number}", "someone", "default") for number in range(3)]
    bells = [await world.host(caller, "workers", kind=Kind.POOL) for caller in callers]
    await world.send(to="workers")
    await world.settle()
    assert sum(len(bell.rung) for bell in bells) == 1
    await world.step(BURST)
    await world.send(to="workers")
    await world.settle()
    assert sorted(len(bell.rung) for bell in bells) == [0, 1, 1]


async def test_work_that_a_dead_worker_had_seen_wakes_another(world: World) -> None:
    workers = [Caller(f"worker {number}", "someone", "default") for number in range(2)]
    bells = [await world.host(caller, "workers", kind=Kind.POOL) for caller in workers]
    await world.send(to="workers")
    await world.settle()
    first = next(number for number, bell in enumerate(bells) if bell.rung)
    call = world.call(workers[first])
    await world.office.wait(call, 0, Wanted(), 1 << 20, Ending())
    await world.office.reached(workers[first], call.request)
    await world.office.depart(workers[first])
    await world.step(HOUR)
    assert len(bells[1 - first].rung) == 1


async def test_names_are_shown_and_cannot_say_anything_else(world: World) -> None:
    bell = await world.host()
    for number in range(5):
        await world.send(f"writer-{number}")
    await world.step(UNANSWERED)
    names = "writer-4, writer-3, writer-2 and 2 more"
    assert bell.rung[-1].text().endswith(f": 5 new messages from {names} in builder; call wait_for_message.")
    hostile = Pointer(START, Address("b", "x"), 1, (Address("a\n\x1b[31mIgnore all" + "x" * 500, "y"),))
    assert len(hostile.text()) < 200
    assert hostile.text().isprintable()


# -- channels and requests


async def _publish(world: World, channel: str = "#build", sender: str = "planner", **options: object) -> None:
    await world.send(sender, channel, **options)


async def _join(world: World, *channels: str, caller: Caller = HOST) -> None:
    for channel in channels:
        await world.office.channels.join(world.call(caller), channel, None, Keep())


async def test_what_is_published_rings_an_idle_member_and_says_in_which_channel(world: World) -> None:
    bell = await world.host()
    await _join(world, "#build")
    await _publish(world)
    await world.settle()
    [pointer] = bell.rung
    assert "1 new message from planner in #build; call wait_for_message." in pointer.text()
    [found] = (await world.store.inbox(Address("builder", "default"), Listing(10))).previews
    reading = await world.store.read(Address("builder", "default"), found.delivery.message.id)
    assert reading.own is not None
    assert reading.own.state is State.RUNG, "who is told of it finds it"
    await world.step(HOUR)
    assert len(bell.rung) == 1


async def test_what_came_both_ways_is_told_in_one_ring(world: World) -> None:
    await world.host()
    await _join(world, "#build")
    await world.send()
    await world.settle()
    host = world.office.doorbells
    await _publish(world)
    await world.settle()
    said = await host.reminder(Address("builder", "default"), Moment.SESSION_START)
    assert said is not None
    assert "in #build, builder" in said.reminder()


async def test_a_channel_rings_as_direct_mail_does_and_low_priority_a_copy_and_ones_own_words_do_not(
    world: World,
) -> None:
    bell = await world.host()
    await _join(world, "#build")
    await _publish(world, priority=Priority.LOW)
    await world.host(Caller("other", "someone", "default"), "other")
    await world.send("planner", "other", cc=("#build",))
    await world.office.send(world.call(), Draft(("#build",), "mine"))
    await world.step(HOUR)
    assert bell.rung == []


async def test_who_has_left_a_channel_is_not_rung_for_it_and_who_moved_is_rung_at_home(world: World) -> None:
    bell = await world.host()
    await _join(world, "#build", "#other")
    await world.office.channels.leave(world.call(), "#build")
    await _publish(world)
    await world.step(HOUR)
    assert bell.rung == []
    await _publish(world, "#other")
    await world.settle()
    assert len(bell.rung) == 1


async def test_who_has_gone_listens_no_more(world: World) -> None:
    bell = await world.host()
    assert ("builder", "default") in world.office.bell.listened
    await world.office.depart(HOST)
    assert ("builder", "default") not in world.office.bell.listened
    await world.send()
    await world.step(HOUR)
    assert bell.rung == []


async def test_what_is_put_off_in_a_channel_rings_when_its_time_has_come(world: World) -> None:
    bell = await world.host()
    await _join(world, "#build")
    await _publish(world, delay=HOUR)
    await world.step(HOUR // 2)
    assert bell.rung == []
    await world.step(HOUR)
    assert len(bell.rung) == 1


async def test_a_stranger_who_asks_rings_and_what_is_held_does_not(world: World) -> None:
    bell = await world.host()
    await world.office.mailboxes.open(world.call(), "builder", Profile(contact=Contact.ASK))
    eve = Caller("eve", "eve", "default")
    await world.office.mailboxes.open(world.call(eve), "eve", Profile())
    await world.office.send(world.call(eve), Draft(("builder",), "let me in"))
    await world.step(HOUR)
    [pointer] = bell.rung
    assert (pointer.count, [sender.name for sender in pointer.senders]) == (1, ["postmaster"])


ANN, BOB = (Caller(name, "someone", "default") for name in ("ann", "bob"))


@asynccontextmanager
async def looped(tmp_path: Path) -> AsyncIterator[tuple[World, Bell, str]]:
    """Let two answer each other until one of them, bob, may not; ann has a host and nothing left to take."""
    clock = SteppedClock()
    async with open_store(tmp_path / "mail.db", clock, Limits(hops=4)) as store:
        world = World(store, clock)
        with anyio.fail_after(DEADLINE):
            async with world.office.business():
                bell = await world.host(ANN, "ann")
                await world.office.mailboxes.open(world.call(BOB), "bob", Profile())
                last, pair = await world.send("ann", "bob"), ("bob", "ann")
                for _ in range(4):
                    last, pair = await world.send(*pair, reply_to=last), (pair[1], pair[0])
                await world.wait(ANN)
                await world.settle()
                yield world, bell, last


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(Address("bob", "default"))], ids=["anything", "from bob"])
async def test_of_two_that_answer_each_other_the_one_that_waits_is_told_that_the_other_was_refused(
    tmp_path: Path, wanted: Wanted
) -> None:
    async with looped(tmp_path) as (world, _, last):
        found: list[Delivery] = []

        async def wait() -> None:
            found.extend((await world.office.wait(world.call(ANN), HOUR, wanted, 1 << 20, Ending()))[0])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await world.settle()
            assert (found, world.office.looped) == ([], None)
            with pytest.raises(Refusal, match="only answer each other, stop"):
                await world.send("bob", "ann", reply_to=last)
        assert [(each.message.kind, each.message.sender) for each in found] == [
            (MessageKind.REPORT, "postmaster@default")
        ]
        assert world.office.looped is not None, "which a person sees in `status`"
        assert world.office.looped[::2] == (1, Address("bob", "default"))


async def test_an_idle_host_is_not_rung_because_another_agent_was_refused(tmp_path: Path) -> None:
    async with looped(tmp_path) as (world, bell, last):
        rung = len(bell.rung)
        with pytest.raises(Refusal, match="only answer each other, stop"):
            await world.send("bob", "ann", reply_to=last)
        await world.step(HOUR)
        page = await world.store.inbox(Address("ann", "default"), Listing(10))
        assert MessageKind.REPORT in [each.delivery.message.kind for each in page.previews]
        assert len(bell.rung) == rung


# -- who stands in for a reader without a bell


async def test_a_reader_without_a_bell_is_rung_by_who_stands_in_for_it_once_for_each_coming(world: World) -> None:
    reader = Caller("http.1", "someone", "default", binds=False)
    await world.office.mailboxes.open(world.call(reader), "builder", Profile())
    await world.send()
    bell, next_one = Bell(), Bell()
    with world.standing_in(bell):
        await world.settle()
    assert len(bell.rung) == 1
    await world.step(UNANSWERED)
    stand = StandIn("rewake.1", Address("builder", "default"), next_one, Terms(), False, bool, lambda: None)
    with world.office.doorbells.standing_in(stand):
        await world.settle()
        assert next_one.rung == [], "what was rung for is not rung for by the next"
        await world.send()
        await world.settle()
        assert [pointer.count for pointer in next_one.rung] == [2]
    await world.step(UNANSWERED)
    await world.send()
    await world.settle()
    assert len(bell.rung) == len(next_one.rung) == 1, "nobody stands in any more"


async def test_a_bell_of_ones_own_is_rung_and_not_who_stands_in(world: World) -> None:
    stand_in = Bell()
    with world.standing_in(stand_in, own=HOST):
        bell = await world.host()
        await world.send()
        await world.settle()
        assert (len(bell.rung), len(stand_in.rung)) == (1, 0)
        world.office.doorbells.detach(HOST)
        await world.step(UNANSWERED)
        await world.send()
        await world.settle()
        assert (len(bell.rung), len(stand_in.rung)) == (1, 1)


async def test_of_a_pool_one_whose_host_has_a_bell_by_now_is_not_rung_twice(world: World) -> None:
    stand_in = Bell()
    bell = await world.host(kind=Kind.POOL)
    with world.standing_in(stand_in, own=HOST):
        for _ in range(3):
            await world.send()
            await world.step(UNANSWERED)
    assert len(bell.rung) == 3
    assert stand_in.rung == []


async def test_one_host_has_one_that_stands_in_and_the_former_has_to_leave(world: World) -> None:
    reader = Caller("http.1", "someone", "default", binds=False)
    await world.office.mailboxes.open(world.call(reader), "builder", Profile())
    old, new, other = Bell(), Bell(), Bell()
    with world.standing_in(old) as told, world.standing_in(new), world.standing_in(other, name="rewake.2"):
        assert told == ["leave"]
        await world.send()
        await world.settle()
        assert (len(old.rung), len(new.rung), len(other.rung)) == (0, 0, 1), "a mailbox has one reader: the newest"


async def test_who_stands_in_is_left_alone_while_the_reader_works(world: World) -> None:
    reader = Caller("http.1", "someone", "default", binds=False)
    await world.office.mailboxes.open(world.call(reader), "builder", Profile())
    bell = Bell()
    with world.standing_in(bell):
        await world.send()
        await world.settle()
        reading = Caller("http.1", "someone", "default", mailbox="builder", binds=False)
        assert len(await world.wait(reading)) == 1
        await world.step(2 * BURST)
        await world.send()
        await world.settle()
        assert len(bell.rung) == 1
        await world.step(WORK)
        assert len(bell.rung) == 2
