"""Who is rung when something is published: members who listen, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Ending
from mcp_mailbox.channel import Keep
from mcp_mailbox.credentials import Scope
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.postoffice import Call, Caller, PostOffice, audience
from mcp_mailbox.store import Wanted
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE

pytestmark = pytest.mark.anyio
NAMES = ("ann", "bob", "cid", "dot")
_requests = count(1)


def call(name: str) -> Call:
    return Call(Caller(name, "someone", "default"), f"request {next(_requests)}")


class World:
    def __init__(self, office: PostOffice, clock: SteppedClock) -> None:
        self.office = office
        self.clock = clock
        self.rung: list[str] = []

    async def listen(self, *names: str) -> None:
        for name in names:
            address = await self.office.mailboxes.own(call(name).caller)
            self.office.bell.subscribe(address, lambda name=name: self.rung.append(name))  # type: ignore[misc]

    async def send(self, name: str, to: str = "#build", **options: object) -> None:
        await self.office.send(call(name), Draft((to,), "x", **options))  # type: ignore[arg-type]

    def heard(self) -> list[str]:
        found, self.rung = sorted(self.rung), []
        return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = SteppedClock()
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "mail.db", clock) as store:
            office = PostOffice(store)
            async with office.business():
                for name in NAMES:
                    await office.mailboxes.open(call(name), name, Profile())
                for name in ("ann", "bob", "cid"):
                    await office.channels.join(call(name), "#build", None, Keep())
                yield World(office, clock)


async def test_members_who_listen_are_rung_and_its_publisher_is_not(world: World) -> None:
    await world.listen("ann", "bob", "dot")
    await world.send("ann")
    assert world.heard() == ["bob"]
    await world.send("dot")
    assert world.heard() == ["ann", "bob"]
    await world.send("ann", "dot", cc=("#build",))
    assert world.heard() == ["dot"]


async def test_who_joins_is_rung_from_then_on_and_who_leaves_is_not(world: World) -> None:
    await world.listen("bob", "dot")
    await world.office.channels.join(call("dot"), "build", None, Keep())
    await world.office.channels.leave(call("bob"), "#BUILD")
    await world.send("ann")
    assert world.heard() == ["dot"]


async def test_what_was_put_off_rings_when_its_time_has_come(world: World) -> None:
    await world.listen("bob")
    with world.office.bell.listening(Address("bob", "default")) as ear:
        await world.send("ann", delay=5_000)
        assert world.heard() == []
        world.clock.step(5_001)
        await ear.wait()
    assert world.heard() == ["bob"]


async def test_who_waits_gets_what_was_put_off_when_its_time_has_come_and_not_before(world: World) -> None:
    found: list[int] = []

    async def wait() -> None:
        deliveries, _ = await world.office.wait(call("bob"), 100_000, Wanted(), 1000, Ending())
        found.append(len(deliveries))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await world.send("ann", delay=5_000)
        await anyio.wait_all_tasks_blocked()
        assert found == []
        world.clock.step(5_001)
    assert found == [1]


async def test_who_may_not_send_joins_and_makes_no_channel_nor_says_what_it_keeps(world: World) -> None:
    reads = Call(Caller("dot", "someone", "default", scopes=frozenset({Scope.READ})), "reads")
    for channel, keep, code in (
        ("#new", Keep(), Code.UNKNOWN_CHANNEL),
        ("#build", Keep(count=1), Code.FORBIDDEN),
    ):
        with pytest.raises(Refusal) as refusal:
            await world.office.channels.join(reads, channel, None, keep)
        assert refusal.value.code is code
    assert not (await world.office.channels.join(reads, "#build", None, Keep())).created


async def test_memberships_that_were_forgotten_are_learnt_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.listen("bob")
    monkeypatch.setattr(audience, "_REMEMBERED", 1)
    world.office._audience._room = 1
    for name in NAMES:
        await world.office.mailboxes.own(call(name).caller)
    await world.listen("cid")
    await world.send("ann")
    assert world.heard() == ["bob", "cid"]
    known = world.office._audience._channels_of
    assert len(known) <= 3
    assert world.office._audience._members_of.keys() == {("#build", "default"), ("#all", "default")}


async def test_who_joins_while_it_is_learnt_of_what_it_is_a_member_is_one(world: World) -> None:
    dot = Address("dot", "default")
    world.office._audience._channels_of.clear()
    world.office._audience._members_of.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.office._audience.learn, dot)
        tasks.start_soon(world.office.channels.join, call("dot"), "#build", None, Keep())
    await world.listen("dot")
    await world.send("ann")
    assert world.heard() == ["dot"]
