"""A disk that is full and a file that is damaged, under a post office that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest
from mcp.shared.exceptions import MCPError

from tests.fronts.world import Agent, Town, both_eras
from tests.relay.world import DEADLINE

pytestmark = [*both_eras, pytest.mark.stdio("about relays")]


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """Make the directory a file system of 4 MB."""
    place.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


if sys.platform == "linux" and os.geteuid() == 0:  # others play a full disk with SQLite's own limit: test_wire.py

    async def test_on_a_full_disk_nothing_is_lost_reads_go_on_and_it_recovers_by_itself(
        new_town: Callable[..., Town],
    ) -> None:
        town = new_town()
        with small_disk(town.home.path):
            try:
                await _on_a_full_disk(town)
            finally:
                town.home.end()


async def _on_a_full_disk(town: Town) -> None:
    ballast = town.home.path / "ballast"
    async with town.agent("bob") as bob:
        async with town.agent("alice") as alice:
            await alice.send("bob", "before")
            pid = town.home.status()["pid"]
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            problem = await refused_once_full(alice)
            assert problem["error"] == "store_full"
            assert problem["hint"] == "Free some space, then do the same again."
            assert "before" in await bob.bodies()
        ballast.unlink()
        # The same again, of a host that is new.
        async with town.agent("alice") as alice:
            await alice.send("bob", "after")
            bodies = [each["body"] for each in await bob.wait()]
            assert bodies[0] == "before"
            assert bodies[-1] == "after"
            assert town.home.status()["pid"] == pid


async def refused_once_full(agent: Agent) -> dict[str, object]:
    """Send until it is refused: the journal may have room for some."""
    while True:
        result = await agent.result("send", to="bob", body="x" * 50_000)
        if result.is_error:
            return result.structured_content or {}


async def test_a_damaged_file_is_told_to_the_model_and_the_office_lives(new_town: Callable[..., Town]) -> None:
    town = new_town()
    async with town.agent("alice") as alice:
        sent = [await alice.send("alice", f"{number} " * 20_000) for number in range(60)]
        pid = town.home.status()["pid"]
        for name in ("mail.db", "mail.db-wal"):
            path = town.home.path / name
            path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * (path.stat().st_size - 4096))
        # What SQLite has in memory still works; what it must read says so, and nothing else happens.
        problems = []
        for tool, arguments in [
            *(("read", {"id": each["id"]}) for each in sent),
            ("list_inbox", {}),
            ("wait_for_message", {"timeout": 0}),
            ("create_mailbox", {}),
            ("send", {"to": "alice", "body": "x"}),
        ]:
            result = await alice.result(tool, **arguments)
            if result.is_error:
                problems.append((result.structured_content or {})["error"])
        assert set(problems) == {"store_damaged"}
        with suppress(MCPError):
            await alice.client.list_resources()
        await alice.client.send_ping()
        assert town.home.status()["pid"] == pid
    with anyio.fail_after(DEADLINE):
        await town.home.readers(0)


async def test_a_store_that_was_removed_is_told_and_the_next_call_has_a_new_one(new_town: Callable[..., Town]) -> None:
    town = new_town()
    async with town.agent("alice") as alice:
        await alice.send("alice", "before")
        for file in town.home.path.glob("mail.db*"):
            file.unlink()
        with anyio.fail_after(DEADLINE):
            made: dict[str, object] = {}
            while made.get("created") is not True:
                made = (await alice.result("create_mailbox", name="alice")).structured_content or {}
        await alice.send("alice", "after")
        assert await alice.bodies() == ["after"]
