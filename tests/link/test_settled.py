"""What is done with mail at an edge is kept, whichever call says it, and shown so while the hub is away."""

from __future__ import annotations

from collections.abc import Callable

from tests.fronts.world import Agent, Town, both_eras, until
from tests.link.conftest import Machine

pytestmark = both_eras

Machines = Callable[..., Machine]


async def listed(agent: Agent) -> list[str]:
    return [each["preview"] for each in (await agent.call("list_inbox"))["messages"]]


async def away(here: Machine) -> None:
    here.link.cut()
    await until(lambda: not here.reached(), "the edge to notice")


async def test_what_a_wait_acks_without_the_hub_is_acked_when_that_is_back(machine: Machines, there: Town) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        sent = await bob.send("alice", "work")
        got = await alice.wait_one()
        await away(here)
        answer = await alice.call("wait_for_message", timeout=0.1, ack=[got["id"]])
        assert (answer["timed_out"], answer["accepted"], "ack_failed" in answer) == (True, "outbox", False)
        assert here.waits() == 1
        assert await listed(alice) == []
        here.link.mend()
        await until(lambda: here.waits() == 0, "an empty outbox")
        assert (await bob.call("read", id=sent["id"]))["sent"][0]["state"] == "acked"
        assert await alice.wait(timeout=0) == []


async def test_what_a_wait_has_acked_does_not_wait_any_more_when_the_hub_goes(machine: Machines, there: Town) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        await bob.send("alice", "first")
        got = await alice.wait_one()
        await bob.send("alice", "second")
        [second] = (await alice.call("wait_for_message", timeout=20, ack=[got["id"], "nonsense"]))["messages"]
        assert second["body"] == "second"
        await away(here)
        assert await listed(alice) == ["second"]


async def test_what_is_extended_or_comes_again_is_listed_without_the_hub(machine: Machines, there: Town) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        for body in ("extended", "again", "put back"):
            await bob.send("alice", body)
        extended, again, back = await alice.wait()
        await alice.call("settle", ids=[extended["id"]], outcome="extend", delay=7200)
        await alice.call("settle", ids=[again["id"]], outcome="release")
        assert (await alice.wait_one())["body"] == "again"
        await away(here)
        await alice.call("settle", ids=[back["id"]], outcome="release")
        assert await listed(alice) == ["extended", "again", "put back"]


async def test_other_words_for_parameters_and_ids_with_labels_serve_through_the_outbox(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        await away(here)
        first = await alice.call("send", recipient="bob", message="the plan", title="of today")
        read = await alice.call("read", message_id=first["id"])
        assert (read["to"], read["subject"], read["body"]) == (["bob"], "of today", "the plan")
        await alice.call("send", recipient="bob", text="more", in_reply_to=f"id: {first['id']}")
        here.link.mend()
        await until(lambda: here.waits() == 0, "an empty outbox")
        await alice.call("send", to="bob", text="most", in_reply_to=first["id"])
        came: dict[str, str] = {}
        while len(came) < 3:
            came |= {each["body"]: each["thread"] for each in await bob.wait()}
        assert list(came) == ["the plan", "more", "most"]
        assert len({*came.values()}) == 1


async def test_what_makes_no_sense_is_refused_without_the_hub_too(machine: Machines, there: Town) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        await bob.send("alice", "work")
        got = await alice.wait_one()
        await away(here)
        for wrong in (
            {"outcome": "ack", "reason": "done"},
            {"outcome": "reject", "reason": "because " * 80},
            {"outcome": "release", "delay": 60 * 24 * 3600},
        ):
            assert (await alice.refused("settle", ids=[got["id"]], **wrong))["error"] == "bad_argument"
        assert here.waits() == 0
        assert await listed(alice) == ["work"]
