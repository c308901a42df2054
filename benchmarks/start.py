"""An agent's start: what a host waits for before the first answer, entry point included, and what stays in memory."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator

from benchmarks import ratios
from benchmarks.peer import Peer
from benchmarks.places import Place

TIMES = 50


def rows(place: Place) -> Iterator[ratios.Row]:
    """Measure."""
    relay = [str(place.launcher), "stdio"]
    peaks: list[float] = []

    def ours() -> float:
        began = time.perf_counter()
        with Peer(relay, place.environment) as peer:
            peer.initialize()
            took = time.perf_counter() - began
            peaks.append(peer.peak)
        return took

    def theirs() -> float:
        began = time.perf_counter()
        subprocess.run([str(place.python), "-c", "pass"], env=place.environment, check=True)
        return time.perf_counter() - began

    with Peer(relay, place.environment) as first:  # the post office runs from here on
        first.start()
        pair = ratios.alternate(TIMES, ours, theirs)
        first.call("create_mailbox", name="memory")
        for _ in range(50):
            first.call("send", to="memory", body="x" * 10_000)
        first.call("wait_for_message")
        used = first.peak
    yield pair.row("start to answer of initialize / python -c pass", bar=2.5, aim=1.5)
    yield _memory("relay's memory, started", peaks)
    yield _memory("relay's memory, after 50 sends of 10 KB", [used])


def _memory(name: str, peaks: list[float]) -> ratios.Row:
    return ratios.Row(
        name, statistics.median(peaks), ratios.percentile(peaks, 0.1), ratios.percentile(peaks, 0.9), 16, 12, unit="MB"
    )
