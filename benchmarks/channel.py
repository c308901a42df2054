"""A message to a channel of a thousand members against one to a mailbox; and what each member pays when it looks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from benchmarks import ratios
from mcp_mailbox.addresses import Address
from mcp_mailbox.channel import Keep
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Lease, Origin, Store, Submission, Wanted

MEMBERS = 1_000
_TIMES = 300
_MISSED = 1_000
_SENDER, _ONE = Address("sender", "default"), Address("one", "default")
_CHANNEL, _FEW = Address("#many", "default"), Address("#few", "default")


async def _rows() -> AsyncIterator[ratios.Row]:
    with TemporaryDirectory(prefix="mcp-mailbox-channel-") as folder:
        async with open_store(Path(folder, "mail.db"), SystemClock()) as store:
            boxes = [Address(f"m{number}", "default") for number in range(MEMBERS)]
            async with anyio.create_task_group() as tasks:
                for box in (_SENDER, _ONE, *boxes):
                    tasks.start_soon(_open, store, box)
            async with anyio.create_task_group() as tasks:
                for box in boxes:
                    tasks.start_soon(_join, store, box, _CHANNEL)
            for box in boxes[:10]:
                await _join(store, box, _FEW)
            published, few = ratios.Pair(), ratios.Pair()
            for turn in range(_TIMES):
                many = await _send(store, _CHANNEL, f"many {turn}")
                direct = await _send(store, _ONE, f"one {turn}")
                published.ours.append(many)
                published.theirs.append(direct)
                few.ours.append(many)
                few.theirs.append(await _send(store, _FEW, f"few {turn}"))
            yield published.row(f"publish to {MEMBERS} members / send to one mailbox, p50", bar=10, aim=1.5)
            yield published.row("the same, p99 / p50", 0.99)
            yield few.row(f"publish to {MEMBERS} members / to 10", bar=2, aim=1.2)
            fresh = ratios.Pair()
            for turn, box in enumerate(boxes[:200]):  # each has missed `_TIMES` messages; after this, one
                await _claim(store, box, f"catch up {turn}")
            for turn, box in enumerate(boxes[:200]):
                await _send(store, _CHANNEL, f"fresh {turn}")
                await _send(store, _ONE, f"fresh one {turn}")
                fresh.ours.append(await _claim(store, box, f"fresh {turn}"))
                fresh.theirs.append(await _claim(store, _ONE, f"fresh {turn}"))
            yield fresh.row("claim of what was published / of direct mail")
            for turn in range(_MISSED - _TIMES - 200):
                await _send(store, _CHANNEL, f"missed {turn}")
            took = [await _claim(store, box, "missed") for box in boxes[500:520]]
            value = 1000 * ratios.percentile(took, 0.5)
            low, high = (1000 * ratios.percentile(took, part) for part in (0.1, 0.9))
            yield ratios.Row(f"first claim of who has missed {_MISSED} messages", value, low, high, unit="ms")


async def _open(store: Store, box: Address) -> None:
    await store.open(box, "local", Profile(), Origin(box.name, "open"))


async def _join(store: Store, box: Address, channel: Address) -> None:
    await store.subscribe(box, channel, None, Keep(), Origin(box.name, f"join {channel}"))


async def _send(store: Store, to: Address, request: str) -> float:
    began = time.perf_counter()
    await store.accept(
        Submission(_SENDER, [to], Draft((str(to),), "Could you look at it? " * 10), Origin("sender", request))
    )
    return time.perf_counter() - began


async def _claim(store: Store, box: Address, request: str) -> float:
    began = time.perf_counter()
    found = await store.claim(box, Wanted(), Lease(1, 1, 600_000), Origin(box.name, request), ())
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} messages claimed")
    return time.perf_counter() - began


def rows() -> Iterator[ratios.Row]:
    """Measure."""

    async def every() -> list[ratios.Row]:
        return [row async for row in _rows()]

    yield from anyio.run(every)
