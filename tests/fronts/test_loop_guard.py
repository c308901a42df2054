"""The loop guard as agents meet it: refused with what to do, and settings that all hosts share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fronts.world import Agent, Town

pytestmark = pytest.mark.anyio


async def code_of(agent: Agent, to: str, **more: object) -> str | None:
    result = await agent.result("send", to=to, body="x", **more)
    return (result.structured_content or {}).get("error")


async def test_an_agent_in_a_loop_is_refused_and_told_what_to_do(new_town: Callable[..., Town]) -> None:
    town = new_town(MCP_MAILBOX_HOPS="3", MCP_MAILBOX_PAIR_BUDGET="5")
    async with town.pair() as (alice, bob):
        said = await alice.send("bob")
        for one, other in ((bob, "alice"), (alice, "bob"), (bob, "alice")):
            said = await one.send(other, "thank you", reply_to=said["id"])
        refused = await alice.refused("send", to="bob", body="thank you", reply_to=said["id"])
        assert refused["error"] == "too_many_hops"
        assert "the limit is 3" in refused["message"]
        assert "MCP_MAILBOX_HOPS" in refused["hint"]
        assert [await code_of(alice, "bob") for _ in range(4)] == [None, None, None, "over_budget"]
        [to_bob, to_self] = (await alice.send(["bob", "alice"], "x"))["to"]
        assert (to_bob["error"], to_self["state"]) == ("over_budget", "stored")
        assert "MCP_MAILBOX_PAIR_BUDGET" in to_bob["hint"]


async def test_a_host_with_another_budget_is_refused_with_both(new_town: Callable[..., Town]) -> None:
    town = new_town(MCP_MAILBOX_PAIR_BUDGET="5")
    async with town.agent("alice"):
        host = town.host(MCP_MAILBOX_PAIR_BUDGET="6")
        error = host.ask("ping")
        assert error["data"] == {"code": "config_mismatch"}
        assert "MCP_MAILBOX_PAIR_BUDGET is 5 there and 6 here" in error["message"]
