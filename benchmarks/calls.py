"""A tool call through relay, post office and fsync, against a plain server's call of a tool that does nothing."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import ratios
from benchmarks.peer import Peer
from benchmarks.places import Place

SENDS = 800
WAKES = 300
SYNCS = 200
WARM_UP = 50
_BODY = "Could you look at the failing test in tests/relay? " * 4
_COMMIT = b"x" * 11 * 4096
"""The pages that a send changes go to the write-ahead log."""
_NO_SUCH = {"ids": ["none"], "outcome": "ack"}


def rows(place: Place) -> Iterator[ratios.Row]:
    """Measure."""
    relay = [str(place.launcher), "stdio"]
    noop_server = [str(place.python), str(Path(__file__).with_name("noop_server.py"))]
    with (
        Peer(relay, place.environment) as sender,
        Peer(relay, place.environment) as reader,
        Peer(noop_server, place.environment) as noop,
    ):
        for peer in (sender, reader, noop):
            peer.start()
        sender.call("create_mailbox", name="sender")
        reader.call("create_mailbox", name="reader")
        sender.call("create_mailbox", name="idle")

        def nothing() -> float:
            began = time.perf_counter()
            noop.call("noop", to="idle", body=_BODY)
            return time.perf_counter() - began

        def send() -> float:
            began = time.perf_counter()
            sender.call("send", to="idle", body=_BODY)
            return time.perf_counter() - began

        with tempfile.TemporaryFile(dir=place.home) as file:
            pair = ratios.alternate(SYNCS, lambda: _commit(file.fileno()), nothing)
        # What the disk alone takes of each ratio below; it grows with whatever else writes to it.
        yield pair.row("44 KB written in place and synced / no-op, p50")

        ratios.alternate(WARM_UP, send, nothing)
        yield ratios.alternate(SENDS, send, nothing).row("send / no-op tool of a plain SDK server, p50", bar=1.8, aim=1)

        done: list[str] = []

        def wake() -> float:
            waiting = reader.post("tools/call", {"name": "wait_for_message", "arguments": {"ack": done}})
            # The writer works in order: this is answered once the wait has looked and found nothing.
            reader.call("settle", **_NO_SUCH)
            began = time.perf_counter()
            sent = sender.post("tools/call", {"name": "send", "arguments": {"to": "reader", "body": _BODY}})
            got = reader.answer(waiting)
            took = time.perf_counter() - began
            sender.answer(sent)
            done[:] = [message["id"] for message in got["messages"]]
            return took

        ratios.alternate(WARM_UP, wake, nothing)
        pair = ratios.alternate(WAKES, wake, nothing)
        yield pair.row("send to a waiting agent having the body / no-op, p50")
        yield pair.row("send to a waiting agent having the body / no-op, p99", quantile=0.99)


def _commit(file: int) -> float:
    began = time.perf_counter()
    os.pwrite(file, _COMMIT, 0)
    os.fdatasync(file)
    return time.perf_counter() - began
