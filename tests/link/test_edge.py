"""The edge of a hub: what its agents may rely on while the link between them fails."""

from __future__ import annotations

import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import anyio.to_thread
import pytest

from mcp_mailbox import relay
from mcp_mailbox.fronts.hub import wire
from tests.conftest import DEADLINE
from tests.fronts.pretender import Pretender
from tests.fronts.world import PATIENCE, Agent, Json, Town, asking, both_eras, until
from tests.link.conftest import Hub, Machine

pytestmark = both_eras

Machines = Callable[..., Machine]

NOTES = f"POST {wire.PATH}notes".encode()


async def drain(agent: Agent, count: int) -> list[str]:
    """Take so many messages, and return what they say."""
    got: list[str] = []
    done: list[str] = []
    with anyio.fail_after(DEADLINE):
        while len(got) < count:
            answer = await agent.call("wait_for_message", timeout=20, ack=done)
            done = [each["id"] for each in answer["messages"]]
            got += [each["body"] for each in answer["messages"]]
    await agent.call("settle", ids=done, outcome="ack")
    return got


async def test_agents_on_two_machines_write_to_each_other_and_are_woken(machine: Machines) -> None:
    async with machine().agent("alice") as alice, machine().agent("bob") as bob:
        async with asking(lambda: bob.wait_one(30)) as waiting:
            await alice.send("bob", "hello")
            message = await waiting.answer()
        assert (message["body"], message["from"]) == ("hello", alice.address)
        await bob.send("alice", "well", reply_to=message["id"])
        assert (await alice.wait_one())["body"] == "well"
        assert (await alice.call("read", id=message["thread"]))["sent"][0]["state"] == "acked"


async def test_what_is_sent_while_the_hub_is_away_arrives_in_order_once_when_it_is_back(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with there.agent("bob") as bob:
        async with here.agent("alice") as alice:
            await alice.send("bob", "0")
            here.link.cut()
            said = [await alice.send("bob", str(number)) for number in range(1, 200)]
            assert {each["accepted"] for each in said} == {"outbox"}
            assert said[0]["to"] == [{"address": bob.address, "state": "outbox"}]
            assert "unreachable_since" in said[0]
            assert here.waits() == 199
        # Its host and relay are gone.
        here.link.mend()
        assert await drain(bob, 200) == [str(number) for number in range(200)]
        await until(lambda: here.waits() == 0, "an empty outbox")


async def test_the_outbox_survives_a_killed_post_office(machine: Machines, there: Town) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        here.link.cut()
        await alice.send("bob", "before")
        here.home.kill_office()
        await alice.send("bob", "after")
        here.home.kill_office()
        here.link.mend()
        assert await drain(bob, 2) == ["before", "after"]


async def test_a_full_disk_at_an_edge_refuses_what_it_cannot_keep_and_loses_nothing_else(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        await alice.send("alice", "to be read meanwhile")
        read = await alice.wait_one()
        here.link.cut()
        await until(lambda: not here.reached(), "the edge to notice")
        office = here.home.status()["pid"]
        file = here.home.path / "edge.db-wal"
        before = resource.prlimit(office, resource.RLIMIT_FSIZE)
        resource.prlimit(office, resource.RLIMIT_FSIZE, (file.stat().st_size + 200_000, before[1]))
        kept = 0
        while not (said := await alice.result("send", to="bob", body=f"{kept} {'x' * 20_000}")).is_error:
            kept += 1
        refused = said.structured_content or {}
        assert refused["error"] in {"store_full", "store_failed"}
        assert 0 < kept < 20
        assert (await alice.call("read", id=read["id"]))["body"] == "to be read meanwhile"
        assert (await alice.refused("send", to="bob", body="y" * 20_000))["error"] == refused["error"]
        resource.prlimit(office, resource.RLIMIT_FSIZE, before)
        assert (await alice.send("bob", "there is room again"))["accepted"] == "outbox"
        here.link.mend()
        came = [each.partition(" ")[0] for each in await drain(bob, kept + 1)]
        assert came == [*map(str, range(kept)), "there"]


async def test_an_outbox_refuses_at_once_what_the_loop_guard_would_refuse_when_it_arrives(
    machine: Machines, there: Town
) -> None:
    here = machine(MCP_MAILBOX_PAIR_BUDGET="3")
    async with there.agent("bob") as bob, there.agent("carol") as carol, here.agent("alice") as alice:
        here.link.cut()
        await until(lambda: not here.reached(), "the edge to notice")
        for number in range(3):
            assert (await alice.send("bob", str(number)))["accepted"] == "outbox"
        no = await alice.refused("send", to=["bob", "carol"], body="3")
        assert (no["error"], no["message"].endswith("has had your 3 messages an hour.")) == ("over_budget", True)
        assert "There is room from" in no["hint"]
        assert (await alice.send("carol", "for carol"))["accepted"] == "outbox", "nothing was counted for her"
        assert (await alice.send("bob", "again", key="k"))["accepted"] == "outbox", "it may be there under its key"
        here.link.mend()
        assert await drain(bob, 4) == ["0", "1", "2", "again"]
        assert await drain(carol, 1) == ["for carol"]


async def test_an_agent_that_starts_anew_while_the_hub_is_away_still_sends_from_its_mailbox(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with there.agent("bob") as bob:
        async with here.agent("alice") as alice:
            address = alice.address
        here.link.cut()
        async with here.agent("alice") as again:  # a reader of which the hub has never heard
            assert again.address == address
            assert (await again.send("bob", "1"))["accepted"] == "outbox"
            here.home.kill_office()
            assert (await again.send("bob", "2"))["accepted"] == "outbox"
            here.link.mend()
            await until(lambda: here.reached() and here.waits() == 0, "an empty outbox")
            await again.send("bob", "3")
            assert await drain(bob, 3) == ["1", "2", "3"]
            await bob.send("alice", "well")
            message = await again.wait_one()
            assert message["body"] == "well"


async def test_a_send_whose_answer_is_lost_is_stored_once(machine: Machines, there: Town) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        await alice.send("bob", "0")
        here.link.answers.clear()
        async with asking(lambda: alice.send("bob", "1")) as sending:
            while (await bob.call("list_inbox"))["unread"] < 2:  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.01)
            here.link.cut()  # with the answer
            answer = await sending.answer()
        assert [each["state"] for each in answer["to"]] == ["outbox"]
        here.link.mend()
        await alice.send("bob", "2")
        assert await drain(bob, 3) == ["0", "1", "2"]


async def test_empty_is_told_from_unreachable(machine: Machines) -> None:
    here = machine()
    async with here.agent("alice") as alice:
        assert await alice.call("list_inbox") == {"messages": [], "unread": 0}
        assert "unreachable_since" not in await alice.call("wait_for_message", timeout=0)
        here.link.cut()
        listed = await alice.call("list_inbox")
        assert listed["messages"] == []
        assert "unread" not in listed
        assert listed["unreachable_since"] in listed["hint"]
        waited = await alice.call("wait_for_message", timeout=0.1)
        assert (waited["messages"], waited["timed_out"]) == ([], True)
        assert "unreachable_since" in waited
        refused = await alice.refused("find_mailboxes")
        assert refused["error"] == "hub_away"
        here.link.mend()
        await until(here.reached, "the hub again")
        assert await alice.call("list_inbox") == {"messages": [], "unread": 0}


async def test_what_was_fetched_stays_readable_and_can_be_settled(machine: Machines, there: Town) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        await bob.send("alice", "first", subject="one")
        await bob.send("alice", "second")
        first, second = await alice.wait()
        here.link.cut()
        read = await alice.call("read", id=first["id"])
        assert (read["body"], read["subject"]) == ("first", "one")
        assert [each["preview"] for each in (await alice.call("list_inbox"))["messages"]] == ["first", "second"]
        settled = await alice.call("settle", ids=[first["id"]], outcome="ack")
        assert (settled["settled"], settled["accepted"]) == ([first["id"]], "outbox")
        await alice.send("bob", "done", reply_to=second["id"])
        assert (await alice.call("list_inbox"))["messages"] == []
        here.link.mend()
        assert (await bob.wait_one())["body"] == "done"
        assert await alice.wait(timeout=0) == []  # neither comes again


async def test_without_the_hub_an_inbox_has_what_it_had_and_not_what_was_only_looked_up(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        mine = await alice.send("bob", "my own")
        for body in ("done with", "taken", "listed"):
            await bob.send("alice", body)
        done, *_ = await alice.wait()
        await alice.call("settle", ids=[done["id"]], outcome="ack")
        await alice.call("list_inbox")
        await alice.call("read", id=mine["id"])
        await alice.call("read", id=done["id"])
        await alice.call("list_inbox", query="own")
        there_is = [each["preview"] for each in (await alice.call("list_inbox"))["messages"]]
        here.link.cut()
        listed = await alice.call("list_inbox")
        assert sorted(each["preview"] for each in listed["messages"]) == sorted(there_is) == ["listed", "taken"]
        assert (await alice.call("read", id=mine["id"]))["body"] == "my own"


async def test_what_the_hub_refuses_of_the_outbox_can_still_be_read_and_sent_again(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with there.agent("bob"), here.agent("alice") as alice:
        here.link.cut()
        sent = await alice.send("bbo", "a long text", subject="typed wrong")
        here.link.mend()
        report = await alice.wait_one()
        assert sent["id"] in report["body"]
        assert "read" in report["body"]
        read = await alice.call("read", id=sent["id"])
        assert (read["body"], read["subject"], read["state"]) == ("a long text", "typed wrong", "refused")
        assert "bbo" in read["reason"]
        assert "unreachable_since" not in read


async def test_ids_of_the_outbox_serve_until_the_hubs_own_are_known(machine: Machines, there: Town) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        here.link.cut()
        asked = (await alice.send("bob", "what is it?", subject="question"))["id"]
        await alice.send("bob", "I mean this", reply_to=asked)
        pending = await alice.call("read", id=asked)
        assert (pending["state"], pending["body"]) == ("outbox", "what is it?")
        here.link.mend()
        [question, *rest] = await bob.wait()
        [follow] = rest or await bob.wait()
        assert follow["thread"] == question["thread"]
        await bob.send("alice", "that", reply_to=question["id"])
        answer = await alice.wait_one(thread=asked)
        assert answer["body"] == "that"
        assert (await alice.call("read", id=asked))["sent"][0]["state"] == "acked"


async def test_a_wait_goes_on_through_a_restart_of_the_hub(machine: Machines, own_hub: Hub) -> None:
    here = machine(own_hub)
    async with (
        here.agent("alice") as alice,
        Town(own_hub, here.space).agent("bob") as bob,
        asking(lambda: alice.wait_one(40)) as waiting,
    ):
        await until(here.reached, "a line")
        port = own_hub.port
        own_hub.kill_office()
        assert own_hub.process is not None
        own_hub.process.wait()
        own_hub.start(port=port)
        await bob.send("alice", "after")
        assert (await waiting.answer())["body"] == "after"


@pytest.mark.soak
async def test_a_half_open_link_is_noticed_and_the_ring_comes_within_the_promised_time(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with (
        here.agent("alice") as alice,
        here.agent("carol") as carol,
        there.agent("bob") as bob,
        asking(lambda: alice.wait_one(40)) as waiting,
    ):
        await until(here.reached, "a line")
        here.link.passes.clear()  # no end that anybody could see
        await bob.send("alice", "hello")
        with anyio.fail_after(wire.HEARTBEAT_SECONDS):  # who asks meanwhile hears of it as soon as that is noticed
            assert (await carol.send("bob", "later"))["accepted"] == "outbox"
        with anyio.fail_after(DEADLINE):
            await until(lambda: not here.reached(), "the edge to notice")
            here.link.passes.set()
            assert (await waiting.answer())["body"] == "hello"


async def test_no_ring_is_late_by_more_than_the_heartbeat_when_a_connection_was_forgotten_on_the_way(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with (
        here.agent("alice") as alice,
        there.agent("bob") as bob,
        asking(lambda: alice.wait_one(40)) as waiting,
    ):
        await until(here.reached, "a line")
        here.link.forget()
        await bob.send("alice", "hello")
        with anyio.fail_after(wire.HEARTBEAT_SECONDS):
            assert (await waiting.answer())["body"] == "hello"


async def test_a_strangers_token_is_told_and_tried_again(machine: Machines) -> None:
    here = machine(MCP_MAILBOX_TOKEN="mbx_nothing")
    async with here.agent() as alice:
        refused = await alice.refused("create_mailbox", name="alice")
        assert refused["error"] == "hub_away"
        assert "does not know our token" in refused["message"]


async def test_two_edges_of_one_principal_do_not_mix_up_their_readers(machine: Machines) -> None:
    one, other = machine(), machine()
    async with one.agent("alice") as alice, other.agent() as bob:
        refused = await bob.refused("list_inbox")
        assert refused["error"] == "no_mailbox"
        await bob.call("create_mailbox", name="bob")
        assert (await alice.call("create_mailbox"))["address"] == alice.address


async def test_an_edge_that_is_killed_gives_back_what_nobody_has_seen(machine: Machines, there: Town) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        await bob.send("alice", "hello")
        taken = await alice.wait_one()
        here.home.signal_office(signal.SIGKILL)
        answer = await alice.call("settle", ids=[taken["id"]], outcome="ack")
        assert answer["settled"] == [taken["id"]]
        assert await alice.wait(timeout=0) == []


@pytest.mark.soak
async def test_who_comes_after_a_reader_that_its_killed_post_office_could_not_report_gets_the_mail(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with there.agent("bob") as bob:
        async with here.agent("alice") as alice:
            assert await alice.wait(timeout=0) == []
            here.link.cut()
        here.home.kill_office()
        here.link.mend()
        async with here.agent("alice") as again:
            await bob.send("alice", "hello")
            assert (await again.wait_one(timeout=20))["body"] == "hello"


async def test_what_was_handed_out_in_an_answer_that_got_lost_comes_with_the_next_wait(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        assert await alice.wait(timeout=0) == []
        here.link.answers.clear()
        sent = await bob.send("alice", "hello")
        async with asking(lambda: alice.wait(timeout=3)) as waiting:
            while (await bob.call("read", id=sent["id"]))["sent"][0]["state"] != "leased":  # noqa: ASYNC110
                await anyio.sleep(0.01)
            here.link.cut()  # with the answer in which it was
            assert await waiting.answer() == []
        here.link.mend()
        assert (await alice.wait_one(timeout=15))["body"] == "hello"


@asynccontextmanager
async def crew(here: Machine, there: Town) -> AsyncIterator[tuple[Agent, Agent, Agent, Agent]]:
    """Yield the workers of one pool, two at the edge and one at the hub, and somebody at the hub who writes to it."""
    async with (
        here.agent() as carol,
        here.agent() as dave,
        there.agent() as erin,
        there.agent("bob") as bob,
    ):
        for each in (carol, dave, erin):
            await each.call("create_mailbox", name="team", kind="pool")
        yield carol, dave, erin, bob


async def take_unnoticed(here: Machine, reader: Agent, writer: Agent) -> Json:
    """Have a reader be handed a message; its machine cannot tell the hub that its host has it."""
    here.link.hold(NOTES)
    await writer.send("team", "hello")
    taken = await reader.wait_one()
    assert await anyio.to_thread.run_sync(here.link.caught.wait, PATIENCE)
    return taken


@contextmanager
def stopped(agent: Agent) -> Iterator[None]:
    """Let nothing of that agent's relay run for as long as the block lasts."""
    agent.relay.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        agent.relay.process.send_signal(signal.SIGCONT)


def lose_office(here: Machine) -> None:
    """Kill the edge's office, and with it all that was on its way to the hub."""
    here.home.kill_office()
    here.link.cut()
    here.link.mend()


@pytest.mark.soak
async def test_what_a_host_has_seen_is_not_handed_to_who_is_quicker_to_come_back_to_a_killed_edge(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with crew(here, there) as (carol, dave, erin, bob):
        taken = await take_unnoticed(here, carol, bob)
        with stopped(carol):
            lose_office(here)
            async with asking(lambda: dave.wait(timeout=0)) as waiting:
                with anyio.move_on_after(2):  # nothing tells that it is not answered
                    assert await waiting.answer() == []
                carol.relay.process.send_signal(signal.SIGCONT)
                assert await waiting.answer() == []
        assert await erin.wait(timeout=0) == []
        assert (await carol.call("settle", ids=[taken["id"]], outcome="ack"))["settled"] == [taken["id"]]


@pytest.mark.soak
async def test_what_a_host_has_seen_is_not_handed_out_again_when_its_relay_comes_back_too_late_to_say_so(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with crew(here, there) as (carol, dave, erin, bob):
        taken = await take_unnoticed(here, carol, bob)
        with stopped(carol):
            lose_office(here)
            assert await dave.wait(timeout=0) == []  # not before those who have not come back are held to have gone
            assert await erin.wait(timeout=0) == []
        assert (await carol.call("settle", ids=[taken["id"]], outcome="ack"))["settled"] == [taken["id"]]


@pytest.mark.soak
async def test_what_nobody_has_seen_is_handed_to_others_soon_after_a_killed_edge_is_back(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with crew(here, there) as (carol, dave, erin, bob):
        here.link.hold(b'"messages":[{')  # the answer of the hub in which it is
        async with asking(lambda: carol.wait(40)):
            await bob.send("team", "hello")
            assert await anyio.to_thread.run_sync(here.link.caught.wait, PATIENCE)
            with stopped(carol):
                lose_office(here)
                await bob.send("team", "later")
                assert await drain(dave, 2) == ["hello", "later"]
        assert await erin.wait(timeout=0) == []


async def test_a_lease_is_ended_after_the_hub_knows_that_its_answer_was_seen(machine: Machines, there: Town) -> None:
    """It was an attempt: who gives a message back again and again is to be noticed, however fast it does."""
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        await alice.call("create_mailbox", name="alice", attempts=1)
        here.link.hold(b'"reached"')
        await bob.send("alice", "hello")
        taken = await alice.wait_one()
        async with asking(lambda: alice.call("settle", ids=[taken["id"]], outcome="release")) as releasing:
            assert await anyio.to_thread.run_sync(here.link.caught.wait, PATIENCE)
            with anyio.move_on_after(0.5):
                await releasing.answer()
            here.link.mend()
            await releasing.answer()
        [dead] = (await alice.call("list_inbox", show="dead"))["messages"]
        assert dead["state"] == "dead"


@pytest.mark.soak
async def test_what_a_host_has_seen_is_not_handed_out_again_however_much_it_was_answered_since(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with crew(here, there) as (carol, dave, erin, bob):
        taken = await take_unnoticed(here, carol, bob)
        for _ in range(relay.REPEATED):
            await carol.call("list_inbox")
        lose_office(here)
        assert await dave.wait(timeout=0) == []
        assert await erin.wait(timeout=0) == []
        assert (await carol.call("settle", ids=[taken["id"]], outcome="ack"))["settled"] == [taken["id"]]


@pytest.mark.soak
async def test_what_a_slow_host_reads_after_the_kill_of_its_edge_is_not_handed_out_again(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with crew(here, there) as (carol, dave, erin, bob):
        with Pretender(here.home, "a-relay", 1, space=here.space) as before:
            before.tool(3, "create_mailbox", name="team", kind="pool")
            await bob.send("team", "hello")
            [taken] = before.tool(4, "wait_for_message", timeout=20)["messages"]
            here.home.kill_office()
        await carol.call("create_mailbox")  # starts another one
        with Pretender(here.home, "a-relay", 2, space=here.space, owes=1) as again:
            again.write(5, "ping", {})
            async with asking(lambda: dave.wait(timeout=0)) as waiting:
                with anyio.move_on_after(0.5):  # nothing tells that it is not answered
                    assert await waiting.answer() == []
                again.reached(4)  # the host has read it only now
                assert await waiting.answer() == []
            assert await erin.wait(timeout=0) == []
            done = again.tool(6, "settle", ids=[taken["id"]], outcome="ack")
            assert done["settled"] == [taken["id"]]


@pytest.mark.soak
async def test_what_a_host_reads_only_after_its_edge_was_stopped_is_not_handed_out_again(
    machine: Machines, there: Town
) -> None:
    here = machine()
    await until(lambda: there.home.status()["uptime_seconds"] > 4, "a hub that knows who is there")
    async with crew(here, there) as (carol, dave, erin, bob):
        with Pretender(here.home, "a-relay", 1, space=here.space) as before:
            before.tool(3, "create_mailbox", name="team", kind="pool")
            await bob.send("team", "hello")
            [taken] = before.tool(4, "wait_for_message", timeout=20)["messages"]
            await anyio.to_thread.run_sync(here.home.end)
        assert await erin.wait(timeout=0) == []
        await carol.call("create_mailbox")  # starts another one
        with Pretender(here.home, "a-relay", 2, [4], owes=0, space=here.space) as again:
            assert await dave.wait(timeout=0) == []
            done = again.tool(6, "settle", ids=[taken["id"]], outcome="ack")
            assert done["settled"] == [taken["id"]]


HASTY = """
from mcp_mailbox.fronts.hub import edges
edges.GRACE_SECONDS = 2.0
from mcp_mailbox.__main__ import main
raise SystemExit(main())
"""
"""A hub that waits 2 s for a machine that has gone."""


@pytest.fixture
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    home = Hub(tmp_path_factory.mktemp("hub"), 1, program=HASTY)
    home.start()
    yield home
    home.end()


@pytest.mark.soak
async def test_what_nobody_has_seen_of_an_edge_that_was_stopped_goes_back_when_it_stays_away(
    machine: Machines, hasty: Hub
) -> None:
    here = machine(hasty)
    town = Town(hasty, here.space)
    async with town.agent() as erin, town.agent("bob") as bob:
        await erin.call("create_mailbox", name="team", kind="pool")
        async with here.agent():
            pass  # it starts the office
        with Pretender(here.home, "a-relay", 1, space=here.space) as host:
            host.tool(3, "create_mailbox", name="team", kind="pool")
            await bob.send("team", "hello")
            assert len(host.tool(4, "wait_for_message", timeout=20)["messages"]) == 1
            await anyio.to_thread.run_sync(here.home.end)
        assert (await erin.wait_one())["body"] == "hello"
