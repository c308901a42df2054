"""Hosts at an edge, rung by a fake of Claude Code's socket: the hub decides, their own machine rings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mcp_mailbox.doorbell import Quiet
from mcp_mailbox.doorbells.journal import last
from tests.cli.street import Agent as Host
from tests.fronts.world import Town, both_eras, until
from tests.link.conftest import Hub, Machine
from tests.relay.door import Door

pytestmark = both_eras

Machines = Callable[..., Machine]
CLAUDE = "claude-code"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with closing(Door(tmp_path / "door")) as one:
        yield one


def told(door: Door, what: str) -> str:
    """Return what the host's model is told, past what is told again: of a ring whose word was lost nobody knows."""
    while what not in (said := str(door.heard()[1]["message"]["content"])):
        pass
    return said


async def test_an_idle_host_at_an_edge_is_rung_through_a_cut_link_and_after_its_office_or_the_hub_was_killed(
    machine: Machines, own_hub: Hub, door: Door
) -> None:
    here = machine(own_hub)
    host = Host(here.host(**door.environment), "builder", CLAUDE)
    async with Town(own_hub, here.space).agent("planner") as planner:
        await planner.send("builder", "a secret")
        first = told(door, "planner")
        assert first.endswith("1 new message from planner in builder; call wait_for_message.")
        await until(lambda: bool(last(here.home.path, 10)), "the ring to be written down: it rings first")
        [ring] = last(here.home.path, 10)
        assert (ring["kind"], ring["outcome"]) == ("claude", "rung")

        here.link.cut()
        await until(lambda: not here.reached(), "the edge to notice")
        await planner.send("builder", "while it was cut", priority="urgent")
        here.link.mend()
        told(door, "(1 urgent) from planner")

        here.home.kill_office()
        await planner.send("builder", "while its office was dead", priority="urgent")
        told(door, "(2 urgent) from planner")

        port = own_hub.port
        own_hub.kill_office()
        assert own_hub.process is not None
        own_hub.process.wait()
        own_hub.start(port=port)
        await planner.send("builder", "in another life of the hub", priority="urgent")
        told(door, "(3 urgent) from planner")
    assert len(host.call("wait_for_message", timeout=0)["messages"]) == 4


def test_quiet_hours_are_those_of_the_machine_that_is_rung() -> None:
    midnight = 1_790_000_000_000 // 86_400_000 * 86_400_000
    quiet = Quiet.parse("22:00-07:00", 120)  # two hours ahead of UTC
    assert quiet.left(midnight) == 5 * 3_600_000
    assert quiet.left(midnight + 6 * 3_600_000) == 0
    assert quiet.left(midnight + 20 * 3_600_000) == 9 * 3_600_000
    assert Quiet.parse("22:00-07:00", -600).left(midnight) == 0
