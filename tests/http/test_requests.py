"""Asking first, between principals, with the SDK's client: what the one sends waits for what the other says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from mcp_mailbox.fronts import fence
from tests.fronts.world import ERAS, Agent, Era, Json, Served, Town, asking
from tests.http.conftest import Post

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]


@asynccontextmanager
async def strangers(post: Post, era: Era) -> AsyncIterator[tuple[Agent, Agent]]:
    """Olga asks first; eve is another principal."""
    town = Town(post.home, post.space)
    token = post.issue(f"eve of {post.space}")["token"]
    async with town.agent("olga", era) as olga, town.agent("eve", era, env={"TOKEN": token}) as eve:
        await olga.call("create_mailbox", name="olga", contact="ask")
        yield olga, eve


async def state(agent: Agent, id_: str) -> Json:
    [sent, *_] = (await agent.call("read", id=id_))["sent"]
    found: Json = sent
    return found


async def test_a_stranger_is_let_in_by_the_owners_word(post: Post, era: Era) -> None:
    async with strangers(post, era) as (olga, eve):
        [listed] = (await eve.call("find_mailboxes", query="olga"))["mailboxes"]
        assert listed["contact"] == "ask"
        async with asking(olga.wait_one) as waiting:
            await olga.is_waiting()
            sent = await eve.send("olga", "may I?", subject="business")
            request = await waiting.answer()
        assert (sent["to"][0]["state"], "read" in sent["to"][0]["hint"]) == ("held", True)
        assert (request["kind"], request["from"]) == ("request", f"postmaster@{post.space}")
        said = request["body"]
        shown = {name: fence.bare(said[name]) for name in ("subject", "preview")}
        assert (said["asks"], shown) == (eve.address, {"subject": "business", "preview": "may I?"})
        assert "untrusted" not in request, "the post office's own words are not fenced"
        assert said["held"] == sent["id"]
        assert set((await state(eve, sent["id"]))["at"]) == {"held"}
        again = await eve.refused("send", to="olga", body="hello?")
        assert (again["error"], "wait" in again["hint"].lower()) == ("contact_pending", True)
        [waits] = (await olga.call("list_inbox", show="requests"))["messages"]
        assert (waits["id"], waits["state"], fence.bare(waits["preview"])) == (sent["id"], "held", "may I?")
        assert "may I?" not in [each["preview"] for each in (await olga.call("list_inbox"))["messages"]]
        assert await olga.call("settle", ids=[request["id"]], outcome="accept") == {"settled": [request["id"]]}
        got = await olga.wait_one()
        assert (got["from"], fence.bare(got["body"])) == (eve.address, "may I?")
        assert set((await state(eve, sent["id"]))["at"]) >= {"held", "stored", "leased"}
        assert (await eve.send("olga", "thanks"))["to"][0]["state"] == "stored"


async def test_a_stranger_that_is_declined_is_told_why_and_refused(post: Post, era: Era) -> None:
    async with strangers(post, era) as (olga, eve):
        sent = await eve.send(["olga", "eve"], "buy this")
        assert [each["state"] for each in sent["to"]] == ["held", "stored"]
        await eve.wait_one()
        await olga.call("settle", ids=[sent["id"]], outcome="reject", reason="no adverts")
        report = await eve.wait_one()
        assert report["kind"] == "report"
        assert "declined" in report["body"]
        assert "no adverts" in report["body"]
        assert (await state(eve, sent["id"]))["state"] == "rejected"
        assert (await eve.refused("send", to="olga", body="please"))["error"] == "contact_declined"
        both = (await eve.send(["olga", "eve"], "and now"))["to"]
        assert [each.get("error", each.get("state")) for each in both] == ["contact_declined", "stored"]


async def test_consent_survives_a_restart_and_can_be_taken_back(new_home: Callable[..., Served], era: Era) -> None:
    home = new_home().start()
    async with strangers(Post(home), era) as (olga, eve):
        space = olga.address.partition("@")[2]
        await eve.send("olga", "may I?")
        request = await olga.wait_one()
        await olga.call("settle", ids=[request["id"]], outcome="accept")
    home.end()
    post = Post(home.start())
    post.space = space
    async with strangers(post, era) as (olga, eve):
        assert (await eve.send("olga", "again"))["to"][0]["state"] == "stored"
        await olga.call("settle", ids=[request["id"].partition(".")[0]], outcome="reject")
        assert (await eve.refused("send", to="olga", body="and again"))["error"] == "contact_declined"
