"""What an edge says when it has more to say than the hub's last answer, or when the hub is away."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from tests.conftest import DEADLINE
from tests.fronts.world import Agent, Json, Town, asking, both_eras
from tests.link.conftest import Machine

pytestmark = both_eras

Machines = Callable[..., Machine]
LONG = "".join(f"{number:06}" for number in range(7_000))


async def page(agent: Agent, message: Json, offset: int) -> Json:
    return await agent.call("read", id=message["id"], offset=offset)


async def test_a_wait_that_lasts_says_which_acks_came_to_nothing(machine: Machines, there: Town) -> None:
    async with there.agent("bob") as bob, machine().agent("alice") as alice:
        await bob.send("alice", "hello")
        message = await alice.wait_one()
        await alice.call("settle", ids=[message["id"]], outcome="release")
        again = await alice.wait_one()
        answer = await alice.call("wait_for_message", timeout=0.3, ack=[message["id"]])
        assert [each["error"] for each in answer["ack_failed"]] == ["stale_lease"]
        await alice.call("settle", ids=[again["id"]], outcome="ack")


async def test_of_a_long_body_that_was_begun_the_rest_is_not_its_beginning_again_while_the_hub_is_away(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        await bob.send("alice", LONG)
        first = await alice.wait_one()
        here.link.cut()
        refused = await alice.refused("read", id=first["id"], offset=first["more"])
        assert refused["error"] == "hub_away"
        kept = await page(alice, first, 0)
        assert (kept["body"], kept["more"]) == (first["body"], first["more"])
        assert (await page(alice, first, 6))["body"] == first["body"][6:]


async def test_a_later_page_does_not_take_the_place_of_what_was_fetched(machine: Machines, there: Town) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        await bob.send("alice", LONG)
        first = await alice.wait_one()
        second = await page(alice, first, first["more"])
        assert LONG.startswith(first["body"] + second["body"])
        here.link.cut()
        assert (await page(alice, first, 0))["body"] == first["body"]


async def test_what_is_refused_because_the_hub_is_away_was_not_done(machine: Machines, there: Town) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        await bob.call("subscribe", channel="#news")
        here.link.answers.clear()
        async with asking(lambda: alice.result("subscribe", channel="#news")) as asked:
            with anyio.fail_after(DEADLINE):
                while (await bob.call("subscribe", channel="#news"))["members"] == 1:  # noqa: ASYNC110 - nothing tells
                    await anyio.sleep(0.01)
            here.link.cut()  # with the answer
            answer = (await asked.answer()).structured_content
        assert answer["error"] == "store_failed"
        assert "not known" in answer["message"]
