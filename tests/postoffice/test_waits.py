"""A wait that is left and taken up again is one wait: it acks once, is counted all the time, and misses nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import pytest

from mcp_mailbox.bell import Ending
from mcp_mailbox.delivery import Delivery
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.postoffice import Call
from mcp_mailbox.postoffice.waits import Parked, Wait
from mcp_mailbox.store import Settled, Wanted
from tests.postoffice.test_rules import GRACE, World, call, world

__all__ = ["world"]

pytestmark = pytest.mark.anyio


class Waiting:
    """One that parks as soon as it may."""

    def __init__(self, world: World, patience: float = 60_000, ack: Sequence[str] = ()) -> None:
        self.call: Call = call("sender")
        self.wait = Wait()
        self.ending = Ending()
        self.woken = 0
        self._world = world
        self._patience = patience
        self._ack = ack
        self.wait.parks()

    async def go_on(self) -> tuple[Sequence[Delivery], Sequence[Settled]]:
        return await self._world.office.wait(
            self.call, self._patience, Wanted(), 1 << 20, self.ending, self._ack, kept=self.wait
        )

    async def park(self) -> None:
        with pytest.raises(Parked):
            await self.go_on()
        self.wait.park(self._wake)

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
async def waiting(world: World) -> Waiting:
    await world.office.mailboxes.open(call("sender"), "box", Profile())
    found = Waiting(world)
    await found.park()
    return found


async def test_it_is_woken_by_mail_and_has_it(world: World, waiting: Waiting) -> None:
    assert waiting.woken == 0
    await world.send()
    assert waiting.woken == 1
    [got], _ = await waiting.go_on()
    assert got.message.body == "x"


async def test_it_ends_at_the_time_at_which_it_began_to(world: World, waiting: Waiting) -> None:
    await world.step(59_000)
    waiting.wait.hear()
    await waiting.park()
    await world.step(1_000)
    assert waiting.woken == 2
    found, _ = await waiting.go_on()
    assert not found


async def test_it_is_woken_when_it_is_to_end(waiting: Waiting) -> None:
    waiting.ending.set()
    assert waiting.woken == 1
    found, _ = await waiting.go_on()
    assert not found


async def test_what_rang_before_it_was_parked_wakes_it(world: World) -> None:
    found = Waiting(world)
    await world.office.mailboxes.open(call("sender"), "box", Profile())
    with pytest.raises(Parked):
        await found.go_on()
    await world.send()
    found.wait.park(found._wake)
    assert found.woken == 1


async def test_it_is_there_as_long_as_it_is_parked(world: World, waiting: Waiting) -> None:
    address = await world.office.mailboxes.own(waiting.call.caller, None)
    await world.step(10 * 60_000 - GRACE)
    waits: Callable[[], bool] = lambda: world.office.attendance.waits(address)  # noqa: E731
    waiting.wait.hear()
    await world.send()
    await waiting.go_on()
    assert not waits()
    again = Waiting(world)
    await again.park()
    assert waits()
    again.wait.end()
    again.wait.end()
    assert not waits()
    await world.send()
    assert again.woken == 0, "it is counted and rung no more"


async def test_one_that_is_ended_while_it_is_parked_takes_nothing(world: World, waiting: Waiting) -> None:
    await world.send()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await waiting.go_on()
    assert scope.cancelled_caught
    [left] = await world.wait("sender")
    assert left.handle.endswith(".1"), "nobody had leased it before"


async def test_it_acks_once(world: World) -> None:
    await world.office.mailboxes.open(call("sender"), "box", Profile())
    await world.send()
    [got] = await world.wait("sender")
    found = Waiting(world, ack=[got.handle, "nonsense"])
    await found.park()
    await world.send("y")
    [next_one], settled = await found.go_on()
    assert next_one.message.body == "y"
    assert [each.refusal is None for each in settled] == [True, False]


async def test_one_that_began_when_nobody_knew_who_is_here_looks_again_when_that_is_known(world: World) -> None:
    world.office._readers._everybody = True  # as it is soon after a start
    found = Waiting(world)
    await world.office.mailboxes.open(call("sender"), "box", Profile())
    await found.park()
    assert found.woken == 0
    await world.office._become_sure()
    assert found.woken == 1
