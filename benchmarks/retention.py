"""What sends and claims notice while old mail is removed, and how fast that goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from benchmarks import ratios
from mcp_mailbox.addresses import Address
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import SqliteStore, open_store
from mcp_mailbox.engines.sqlite.schema import prepare
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Lease, Origin, Submission, Wanted
from mcp_mailbox.view.apply import checksum
from tests.view.bulk import add_words, build

MESSAGES = 100_000
_READER, _SENDER = Address("box-1", "default"), Address("box-2", "default")
_BLOCKS = 10
_CALLS = 50
_SUM = "UPDATE message SET checksum = checksum_of(subject, body), size = length(body), preview = 'hello'"
_SIZES = "SELECT (SELECT count(*) FROM message)"


def rows() -> Iterator[ratios.Row]:
    """Measure."""
    with TemporaryDirectory(prefix="mcp-mailbox-retention-") as folder:
        path = Path(folder, "mail.db")
        build(path, MESSAGES, start=0)
        add_words(path)
        with closing(prepare(path)) as db:
            db.create_function("checksum_of", 2, lambda subject, body: checksum(subject, body.encode()))
            db.execute(_SUM)
        yield from anyio.run(_measure, path)


async def _measure(path: Path) -> list[ratios.Row]:
    """Remove in every second block of calls: what else the machine does meets both alike."""
    meanwhile: tuple[list[float], list[float]] = ([], [])
    alone: tuple[list[float], list[float]] = ([], [])
    took = 0.0
    async with open_store(path, SystemClock()) as store:
        await store.follower.rest()
        await _calls(store, "warm", ([], []))
        before = await _count(store)
        for block in range(_BLOCKS):
            await _calls(store, f"alone {block}", alone)
            async with anyio.create_task_group() as tasks:
                began = time.monotonic()
                tasks.start_soon(_forget, store)
                await _calls(store, f"meanwhile {block}", meanwhile)
                took += time.monotonic() - began
                tasks.cancel_scope.cancel()
        gone = before + 2 * _BLOCKS * _CALLS - await _count(store)
    sends, claims = (ratios.Pair(*each) for each in zip(meanwhile, alone, strict=True))
    rate = gone / took
    return [
        sends.row("send while old mail is removed / alone, p50", aim=1.1),
        sends.row("the same, p99 / p50 alone", 0.99),
        ratios.Pair(sends.theirs, sends.theirs).row("send alone, p99 / p50", 0.99),
        claims.row("claim and give back while old mail is removed / alone, p50", aim=1.1),
        claims.row("the same, p99 / p50 alone", 0.99),
        ratios.Pair(claims.theirs, claims.theirs).row("claim alone, p99 / p50", 0.99),
        ratios.Row("messages removed a second behind everything else", rate, rate, rate, unit="/s"),
    ]


async def _forget(store: SqliteStore) -> None:
    while await store.forget_settled(MESSAGES):
        pass
    raise RuntimeError("all was removed before the calls were made")


async def _count(store: SqliteStore) -> int:
    return await store.writer.do(lambda db: int(db.execute(_SIZES).fetchone()[0]))


async def _calls(store: SqliteStore, key: str, into: tuple[list[float], list[float]]) -> None:
    for number in range(_CALLS):
        draft = Draft((str(_READER),), f"hello again {number}")
        began = time.perf_counter()
        await store.accept(Submission(_SENDER, [_READER], draft, Origin("benchmark", f"{key} {number}")))
        sent = time.perf_counter()
        await store.claim(_READER, Wanted(), Lease(5, 100_000, 1000), Origin("reader", f"{key} {number}"), ())
        await store.give_back("reader", f"{key} {number}", surfaced=True)
        into[0].append(sent - began)
        into[1].append(time.perf_counter() - sent)
