"""Resources, their templates and completion, prompts, and push from outside any request."""

from __future__ import annotations

import time
from urllib.parse import quote

import anyio
import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from mcp_mailbox.fronts.mcp.client import APART
from tests.fronts.world import LEGACY, MODERN, SOON, Era, Raw, Town, both_eras, until

pytestmark = both_eras

PROMPTS = ["hand-work-over", "join-a-team", "take-work"]


async def test_ones_inboxes_are_resources(town: Town, era: Era) -> None:
    async with town.agent("alice", era) as alice:
        await alice.call("create_mailbox", name="büro")
        found = (await alice.client.list_resources()).resources
        assert [(str(each.uri), each.name) for each in found] == [
            (f"mailbox:alice@{town.space}", f"alice@{town.space}"),
            (f"mailbox:b%C3%BCro@{town.space}", f"büro@{town.space}"),
        ]
        for each in found:
            assert await alice.resource(str(each.uri)) == {"messages": [], "unread": 0}


async def test_many_inboxes_are_listed_in_pages(town: Town) -> None:
    async with town.agent("m000") as agent:
        for number in range(1, 205):
            await agent.call("create_mailbox", name=f"m{number:03}")
        names: list[str] = []
        cursor: str | None = None
        sizes: list[int] = []
        while cursor or not sizes:
            page = await agent.client.list_resources(cursor=cursor)
            sizes.append(len(page.resources))
            names += [each.name for each in page.resources]
            cursor = page.next_cursor
        assert sizes == [100, 100, 5]
        assert names == [f"m{number:03}@{town.space}" for number in range(205)]
        with pytest.raises(MCPError) as caught:
            await agent.client.list_resources(cursor="../x")
        assert caught.value.error.code == types.INVALID_PARAMS


async def test_a_uri_that_is_longer_than_any_of_ours_is_missing_and_not_kept(town: Town, era: Era) -> None:
    async with town.agent("alice", era) as alice:
        for length, there in ((2_000, True), (2_001, False)):
            uri = f"{alice.uri}/".ljust(length, "x")
            if era == MODERN:
                async with alice.client.listen(resource_subscriptions=[uri]) as stream:
                    assert (stream.honored.resource_subscriptions == [uri]) == there
            elif there:
                await alice.client.subscribe_resource(uri)
            else:
                with pytest.raises(MCPError, match="at most 2,000 characters") as caught:
                    await alice.client.subscribe_resource(uri)
                assert len(str(caught.value.error)) < 3_000
        with pytest.raises(MCPError, match="Resource not found"):
            await alice.client.read_resource(f"{alice.uri}/".ljust(3_000, "x"))


async def test_an_inbox_and_a_message_are_read_as_the_tools_show_them(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        sent = await alice.send("bob", "Text", subject="Subject")
        assert await bob.resource(bob.uri) == await bob.call("list_inbox")
        while (await bob.call("read", id=sent["id"]))["state"] != "surfaced":
            pass
        assert await bob.resource(f"{bob.uri}/{sent['id']}") == await bob.call("read", id=sent["id"])


async def test_templates_say_how_a_uri_is_made(town: Town, era: Era) -> None:
    async with town.agent(era=era) as agent:
        templates = (await agent.client.list_resource_templates()).resource_templates
        paths = ["mailbox:{address}", "mailbox:{address}/{id}", "mailbox:{address}/{id}/{name}"]
        assert [each.uri_template for each in templates] == paths


@pytest.mark.parametrize(
    "name",
    [
        "mailbox:nobody@nowhere",
        "mailbox:",
        "mailbox:%FF",
        "mailbox:..%2F..%2Fetc",
        "file:///etc/passwd",
        "MAILBOX:alice",
        "{own}/nonsense",
        "{own}/",
    ],
)
async def test_what_is_not_there_is_not_found_in_the_code_of_its_era(town: Town, era: Era, name: str) -> None:
    async with town.agent("alice", era) as alice:
        uri = name.replace("{own}", alice.uri)
        with pytest.raises(MCPError) as caught:
            await alice.client.read_resource(uri)
        assert caught.value.error.code == {LEGACY: -32002, MODERN: -32602}[era]
        assert caught.value.error.data == {"uri": uri}
        assert caught.value.error.message.startswith("Resource not found.")


async def test_addresses_are_completed(town: Town, era: Era) -> None:
    async with town.agent("alice", era) as alice:
        for name in ("albert", "bob"):
            await alice.call("create_mailbox", name=name)
        inbox = types.ResourceTemplateReference(uri="mailbox:{address}")
        prompt = types.PromptReference(name="hand-work-over")
        found = await alice.client.complete(inbox, {"name": "address", "value": "al"})
        assert found.completion.values == [f"albert@{town.space}", f"alice@{town.space}"]
        found = await alice.client.complete(prompt, {"name": "to", "value": "B"})
        assert found.completion.values == [f"bob@{town.space}"]
        for name, value in (("id", ""), ("to", ""), ("address", "\x00"), ("address", "@@")):
            found = await alice.client.complete(inbox, {"name": name, "value": value})
            assert found.completion.values == []


async def test_prompts_teach_the_habits(town: Town, era: Era) -> None:
    async with town.agent(era=era) as agent:
        listed = (await agent.client.list_prompts()).prompts
        assert [each.name for each in listed] == PROMPTS
        for prompt in listed:
            arguments = {each.name: "$body {x}" for each in prompt.arguments or []}
            [message] = (await agent.client.get_prompt(prompt.name, arguments)).messages
            assert isinstance(message.content, types.TextContent)
            assert "wait_for_message" in message.content.text
            assert all(value in message.content.text for value in arguments.values())


async def test_prompts_refuse_what_is_missing_or_unknown(town: Town) -> None:
    async with town.agent() as agent:
        for name, arguments, said in (
            ("nonsense", {}, "There are hand-work-over, join-a-team, take-work."),
            ("hand-work-over", {"to": "bob"}, "hand-work-over takes to, task."),
            ("take-work", {"form": "bob"}, "take-work takes from."),
        ):
            with pytest.raises(MCPError, match=said) as caught:
                await agent.client.get_prompt(name, arguments)
            assert caught.value.error.code == types.INVALID_PARAMS


# -- push


async def test_new_mail_is_pushed_to_who_subscribed(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob), bob.watching(bob.uri) as update:
        for _ in range(3):
            began = time.monotonic()
            await alice.send("bob")
            await update()
            assert time.monotonic() - began < SOON


async def test_a_burst_rings_a_few_times_and_the_last_message_is_rung(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob), bob.watching(bob.uri) as update, anyio.create_task_group() as tasks:
        heard: list[float] = []

        async def count() -> None:
            while True:
                await update()
                heard.append(time.monotonic())

        tasks.start_soon(count)
        began = time.monotonic()
        async with anyio.create_task_group() as burst:
            for number in range(100):
                burst.start_soon(alice.send, "bob", f"message {number}")
        took = time.monotonic() - began
        early = len(heard)
        assert early <= 2 + took / APART
        last = time.monotonic()
        await alice.send("bob", "last")
        await until(lambda: heard[-1] >= last, "an update of the last message")
        assert (await bob.call("list_inbox"))["unread"] == 101
        tasks.cancel_scope.cancel()


async def test_a_receipt_rings_nobody_and_a_report_does(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob), alice.watching(alice.uri) as update:
        for outcome in ("ack", "reject"):
            sent = await alice.send("bob", receipt=True)
            await bob.call("settle", ids=[sent["id"]], outcome=outcome)
        await update()  # the one that there is: of the report
        kinds = [each["kind"] for each in (await alice.call("list_inbox"))["messages"]]
        assert kinds == ["receipt", "report"]


async def test_who_only_listens_need_not_open_a_mailbox_first(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob), town.agent(era=era) as watcher, watcher.watching(bob.uri) as update:
        await alice.send("bob")
        await update()


async def test_a_message_may_be_subscribed_to_and_what_is_not_ones_own_may_not(town: Town) -> None:
    async with town.agents(("alice", LEGACY), ("bob", MODERN)) as (alice, bob):
        sent = await alice.send("bob")
        await alice.client.subscribe_resource(f"{alice.uri}/{sent['id']}")
        with pytest.raises(MCPError, match="Resource not found"):
            await alice.client.subscribe_resource("mailbox:nobody")
        async with bob.client.listen(resource_subscriptions=[bob.uri, "mailbox:nobody"]) as stream:
            assert stream.honored.resource_subscriptions == [bob.uri]


async def test_after_unsubscribing_nothing_is_pushed(town: Town) -> None:
    async with town.pair() as (alice, bob):
        await bob.client.subscribe_resource(bob.uri)
        await bob.client.subscribe_resource(bob.uri)
        await alice.send("bob")
        await bob.heard.update(bob.uri)
        await bob.client.unsubscribe_resource(bob.uri)
        await bob.client.unsubscribe_resource(bob.uri)
        await alice.send("bob")
        await bob.client.send_ping()  # what was told before came before
        assert bob.heard.all == []


async def test_a_stream_ends_with_its_request_and_another_goes_on(town: Town) -> None:
    async with town.pair(MODERN) as (alice, bob), bob.watching(bob.uri) as update:
        for _ in range(40):  # more than may be open at once
            async with bob.watching(bob.uri):
                pass
        await alice.send("bob")
        await update()


@pytest.mark.stdio("about the process that a host starts")
async def test_a_host_with_an_open_stream_leaves_at_once(town: Town) -> None:
    async with town.agent("bob", MODERN) as bob, bob.client.listen(resource_subscriptions=[bob.uri]) as stream:
        began = time.monotonic()
        await bob.relay.close_stdin()
        assert [event async for event in stream] == []  # a graceful end, not a lost stream
        assert await bob.relay.process.wait() == 0
        assert time.monotonic() - began < SOON


async def test_a_host_that_does_not_read_starves_nobody_and_hears_of_everything_later(town: Town) -> None:
    """Its queue is bounded: many updates become one, and none is lost."""
    async with town.agents(("alice", LEGACY), ("bob", LEGACY)) as (alice, bob):
        raw = Raw(town.host())
        raw.greet()
        raw.call("create_mailbox", name="slow")
        slow = f"mailbox:slow@{town.space}"
        raw.write(raw.line("resources/subscribe", {"uri": slow}))
        raw.answer()
        big = "x" * 200_000
        sent = await alice.send("slow", big)
        fillers = [raw.line("resources/read", {"uri": f"{slow}/{sent['id']}"}) for _ in range(20)]
        raw.write(*fillers)  # 4 MB of answers, more than all buffers on the way hold
        for number in range(30):
            await alice.send(["slow", "bob"], f"{number}")
        assert len(await bob.bodies()) == 30
        raw.write(raw.line("ping"))
        last = [raw.host.line()]
        while last[-1].get("id") != raw.asked or "method" in last[-1]:
            last.append(raw.host.line())
        updates = [line for line in last if line.get("method") == "notifications/resources/updated"]
        if len(updates) < 2:  # one for the first message; what rang while the queue was full follows
            updates.append(raw.host.line())
        assert updates[-1]["params"]["uri"] == slow
        assert 2 <= len(updates) < 30


async def test_a_name_of_any_script_is_addressed_by_its_percent_encoded_uri(town: Town, era: Era) -> None:
    async with town.pair(era, "alice", "почта") as (alice, bob):
        uri = f"mailbox:{quote('почта')}@{town.space}"
        async with bob.watching(uri) as update:
            await alice.send("ПОЧТА", "привет")
            await update()
        assert (await bob.resource(uri))["unread"] == 1
