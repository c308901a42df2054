"""kill -9 of a process that sends: what it had acknowledged is there, once and in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.store import Listing, Store
from tests.conftest import DEADLINE, ROOT
from tests.engines.sender import READER, SENDERS
from tests.engines.test_damage import modes

pytestmark = pytest.mark.anyio


async def _send_until_killed(path: Path, first: int, lines: int) -> list[tuple[str, int, str]]:
    """Kill the process after so many acknowledgements; return all that it gave, also those behind."""
    command = [sys.executable, "-m", "tests.engines.sender", str(path), str(first)]
    process = await anyio.open_process(command, cwd=ROOT, stderr=subprocess.PIPE)
    assert process.stdout is not None
    text = b""
    async with process:
        async for chunk in process.stdout:
            text += chunk
            if text.count(b"\n") >= lines:
                process.kill()
                break
        async for chunk in process.stdout:
            text += chunk
    whole = text.decode().rpartition("\n")[0]
    return [(line.split()[0], int(line.split()[1]), line.split()[2]) for line in whole.splitlines()]


async def _all(store: Store) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    cursor: str | None = None
    while True:
        page = await store.inbox(READER, Listing(500, cursor))
        found += [(p.delivery.message.id, p.delivery.message.body) for p in page.previews]
        if not page.more:
            return found
        cursor = page.previews[-1].cursor


async def test_what_was_acknowledged_before_a_kill_is_there_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    acknowledged: dict[tuple[str, int], str] = {}
    with anyio.fail_after(DEADLINE):
        for kill in range(5):
            for name, number, id_ in await _send_until_killed(path, kill * 1_000_000, 150 + 37 * kill):
                acknowledged[name, number] = id_
            async with open_store(path, SystemClock()) as store:
                assert await store.check() == "ok"
                found = await _all(store)
            assert len({id_ for id_, _ in found}) == len(found)
            assert len({body for _, body in found}) == len(found)
            assert {(id_, f"{name} {number}") for (name, number), id_ in acknowledged.items()} <= set(found)
            for sender in SENDERS:
                numbers = [int(body.split()[1]) for _, body in found if body.startswith(f"{sender} ")]
                assert numbers == sorted(numbers)


async def test_a_kill_while_the_store_is_made_leaves_one_that_can_be_made(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with anyio.fail_after(DEADLINE):
        for leftover in (".new", ".new-wal", ".new-shm"):
            path.with_name(path.name + leftover).write_bytes(b"half a page")
        async with open_store(path, SystemClock()) as store:
            assert await store.check() == "ok"
    assert list(modes(tmp_path)) == ["store.db"]
