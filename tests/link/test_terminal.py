"""A person at an edge: the same commands, and what is said of the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
import pytest

from mcp_mailbox.engines.outbox import open_outbox
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts.cli import exits
from tests.cli.person import Home, Person
from tests.fronts.world import Town, both_eras, until
from tests.link.conftest import Machine

pytestmark = [*both_eras, pytest.mark.soak]

Machines = Callable[..., Machine]


def person(here: Machine, name: str = "ann") -> Person:
    home = Home(here.home.directory, **here.home.settings, MCP_MAILBOX_HOME=str(here.home.path))
    home.store = here.home.path
    return home.person(name, here.space)


async def test_a_person_at_an_edge_is_told_when_the_hub_is_away_and_what_waits(machine: Machines, there: Town) -> None:
    here = machine()
    ann = person(here)
    run = anyio.to_thread.run_sync
    async with there.agent("bob") as bob:
        assert (await run(ann.does, "send", "bob", "-b", "one")).startswith("Sent ")
        assert (await bob.wait_one())["body"] == "one"
        await bob.send("ann", "to be read")
        assert "started" in await run(ann.does, "watch", "--once", "--exec", "echo", "started")
        assert "to be read" in await run(ann.does, "inbox")
        shown = await run(ann.does, "status")
        assert f"{here.link.url}, reached" in shown
        here.link.cut()
        await until(lambda: not here.reached(), "the edge to notice")
        done = await run(ann.run, "send", "bob", "-b", "two")
        assert done.stdout == "Kept for the hub: outbox-1 to bob.\n"
        assert "has not been reached since" in done.stderr
        listed = await run(ann.run, "inbox")
        assert "to be read" in listed.stdout
        assert "has not been reached since" in listed.stderr
        assert (await run(ann.does, "read", "outbox-1")).endswith("\ntwo\n")
        shown = await run(ann.does, "status")
        assert "not reached since" in shown
        assert "1 on the way, the oldest since" in shown
        doctor = await run(ann.run, "doctor", "--json")
        assert '"what": "hub"' in doctor.stdout
        assert "1 in the outbox" in doctor.stdout
        assert (await run(ann.run, "agents")).returncode == exits.UNREACHABLE
        refused = await run(ann.run, "token", "list")
        assert refused.returncode == 3
        assert "on the hub's machine" in refused.stderr
        here.link.mend()
        assert (await bob.wait_one())["body"] == "two"


async def test_a_report_of_what_a_person_sent_names_commands(machine: Machines, there: Town) -> None:
    here = machine()
    ann = person(here)
    run = anyio.to_thread.run_sync
    async with there.agent("bob"):
        await run(ann.run, "inbox")
        here.link.cut()
        await until(lambda: not here.reached(), "the edge to notice")
        assert (await run(ann.does, "send", "nobody-at-all", "-b", "x")).startswith("Kept for the hub: ")
        here.link.mend()
        told = await run(ann.does, "wait", "--timeout", "30")
        assert "`mcp-mailbox agents` shows who is there" in told
        assert "find_mailboxes" not in told


async def test_a_token_that_is_refused_keeps_what_waits_and_status_says_so(machine: Machines, there: Town) -> None:
    here = machine()
    async with there.agent("bob") as bob:
        async with here.agent("alice") as alice:
            here.link.cut()
            await alice.send("bob", "kept")
        here.home.end()
        good, here.home.settings["MCP_MAILBOX_TOKEN"] = here.home.settings["MCP_MAILBOX_TOKEN"], "mbx_wrong"
        here.link.mend()
        async with here.agent():
            await until(lambda: "why" in here.home.status()["hub"], "a word of the hub")
            hub = here.home.status()["hub"]
            assert "does not know our token" in hub["why"]
            assert (hub["outbox"], "oldest" in hub) == (1, True)
        here.home.end()
        here.home.settings["MCP_MAILBOX_TOKEN"] = good
        async with here.agent():
            assert (await bob.wait_one())["body"] == "kept"


async def test_an_outbox_that_is_full_or_without_room_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    async with open_outbox(tmp_path / "edge.db", most=2) as outbox:
        who = {"reader": "r", "request": "1"}
        await outbox.put("send", who, {"to": "bob"}, 5)
        await outbox.put("send", {**who, "request": "2"}, {}, 7)
        with pytest.raises(Refusal) as refused:
            await outbox.put("send", {**who, "request": "3"}, {}, 8)
        assert refused.value.code is Code.OUTBOX_FULL
        assert (await outbox.put("send", who, {"to": "bob"}, 9)).number == 1, "what is repeated is answered"
        assert (outbox.waiting, outbox.oldest) == (2, 5)
        await outbox.answered({1: {"id": "x"}}, 10)
        assert (outbox.waiting, outbox.oldest) == (1, 7)
        # As a disk that is full: no page may be added.
        await outbox._writer.do(lambda db: db.execute("PRAGMA max_page_count = 1").fetchone())
        with pytest.raises(Refusal) as refused:
            await outbox.put("send", {**who, "request": "4"}, {"body": "x" * 100_000}, 11)
        assert refused.value.code is Code.STORE_FULL
        assert [entry.number for entry in await outbox.next(9)] == [2]
