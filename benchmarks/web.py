"""Over HTTP, in both eras: sends a second beside a plain server's no-op, an idle stream's memory, how fast a push is.

The client is as raw as the one over pipes: one connection each, no library, the same for both servers.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from benchmarks import callers, ratios
from benchmarks.peer import Peer
from benchmarks.places import Place
from tests.http.caller import ENVELOPE, LEGACY, MODERN, Caller, Line

CLIENTS = 8
ROUNDS = 12
EACH = 60
"""Calls of each client in a round."""
STREAMS = 1000
PUSHES = 300
STALLED = 50
LEAVES = 5
_BODY = "Could you look at the failing test in tests/http? " * 4
_SENDERS = [f"sender-{number}" for number in range(CLIENTS)]
_READER = "mailbox:reader@default"
_START_SECONDS = 20.0


def rows(place: Place) -> Iterator[ratios.Row]:
    """Measure."""
    with serving(place) as (ours, token, _), _noop(place) as theirs:
        us = Caller(ours, token)
        for name in _SENDERS:
            us.call("create_mailbox", name=name)
        us.call("create_mailbox", name="reader")
        for era in (LEGACY, MODERN):
            yield _throughput(era, us, Caller(theirs, None))
        for era in (LEGACY, MODERN):
            with _over_stdio(place, era) as heard:
                yield _pushes(f"stdio, {era}", us, heard)
            with _over_http(us, era) as heard:
                yield _pushes(f"HTTP, {era}", us, heard)
        with _stalled(us), _over_http(us, MODERN) as heard:
            yield _pushes(f"HTTP, beside {STALLED} who do not read", us, heard)
    yield _leaving(place)
    for era in (LEGACY, MODERN):
        with serving(place) as (ours, token, pid):  # a fresh one: nothing is freed that could be used again
            yield _idle(era, Caller(ours, token), pid)


# -- servers


@contextmanager
def serving(place: Place, **settings: str) -> Iterator[tuple[int, str, int]]:
    """Yield port, token and pid of a post office that serves, with more variables in its environment."""
    port = _free_port()
    with _process([str(place.launcher), "serve", "--port", str(port)], place, port, **settings) as pid:
        yield port, (place.home / "mail" / "token").read_text().strip(), pid


@contextmanager
def _noop(place: Place) -> Iterator[int]:
    port = _free_port()
    with _process([str(place.python), str(Path(__file__).with_name("noop_server.py")), str(port)], place, port):
        yield port


@contextmanager
def _process(command: list[str], place: Place, port: int, **settings: str) -> Iterator[int]:
    """Run it until the end; yield its pid once it listens."""
    with subprocess.Popen(command, env={**place.environment, **settings}, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + _START_SECONDS
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
        return port


# -- sends a second


def _throughput(era: str, us: Caller, them: Caller) -> ratios.Row:
    sends = [_call(us, era, "send", {"mailbox": name, "to": name, "body": _BODY}) for name in _SENDERS]
    noops = [_call(them, era, "noop", {"mailbox": name, "to": name, "body": _BODY}) for name in _SENDERS]

    def send() -> float:
        return _timed(us.port, sends)

    def noop() -> float:
        return _timed(them.port, noops)

    ratios.alternate(2, send, noop)
    pair = ratios.alternate(ROUNDS, send, noop)
    # In calls a second the ratio is the other way round.
    name = f"send/s / no-op/s of a plain SDK server, {CLIENTS} clients, {era}"
    inverse = ratios.Pair(pair.theirs, pair.ours).row(name)
    calls = 1000 * CLIENTS * EACH
    raw = {"send_per_second": calls / inverse.raw["theirs_ms"], "noop_per_second": calls / inverse.raw["ours_ms"]}
    return ratios.Row(
        name, inverse.value, inverse.low, inverse.high, bar=0.6, aim=0.8, smaller_is_better=False, raw=raw
    )


def _call(caller: Caller, era: str, tool: str, arguments: dict[str, str]) -> bytes:
    """Return the bytes of a call: the same each time, for one request follows the answer to the one before."""
    about = {"name": tool, "arguments": arguments}
    if era == LEGACY:
        caller.begin()
        return caller.spell("tools/call", **about)
    message = caller.message("tools/call", **about)
    return caller.request(body=message, **caller.modern(message))


def _timed(port: int, requests: list[bytes]) -> float:
    """Return the seconds in which all clients have made their calls."""
    return callers.timed(port, [[request] * EACH for request in requests], _is_good)


def _is_good(head: bytes, body: bytes) -> bool:
    return head.startswith(b"HTTP/1.1 200") and b'"isError":true' not in body and b'"error":' not in body


def _subscribe(us: Caller, line: Line, era: str) -> None:
    """Hear of the reader's mailbox on this connection."""
    if era == LEGACY:
        us.begin()
        us.within("resources/subscribe", uri=_READER)
        us.stand(line)
    else:
        us.listen(line, _READER)


# -- leaving


def _leaving(place: Place) -> ratios.Row:
    """Say how long a server takes to end after SIGTERM, with a hundred streams open."""
    took = []
    for _ in range(LEAVES):
        with ExitStack() as stack:
            port, token, pid = stack.enter_context(serving(place))
            us = Caller(port, token)
            for era in (LEGACY, MODERN):
                _listen(stack, us, era, 50)
            descriptor = os.pidfd_open(pid)
            began = time.perf_counter()
            os.kill(pid, signal.SIGTERM)
            select.select([descriptor], [], [])
            took.append(time.perf_counter() - began)
            os.close(descriptor)
    middle = ratios.percentile(took, 0.5)
    return ratios.Row("SIGTERM to the end, 100 streams open", middle, min(took), max(took), bar=0.5, unit="s")


# -- idle streams


def _idle(era: str, us: Caller, pid: int) -> ratios.Row:
    with ExitStack() as stack:
        _listen(stack, us, era, STREAMS // 5)  # what is made once is nobody's
        before = resident(pid)
        _listen(stack, us, era, STREAMS)
        each = (resident(pid) - before) / STREAMS
    what = "session with a stream and a subscription" if era == LEGACY else "stream of subscriptions/listen"
    return ratios.Row(f"idle {what}, of {STREAMS}", each, each, each, bar=60, unit="KB")


def _listen(stack: ExitStack, us: Caller, era: str, many: int) -> None:
    for _ in range(many):
        _subscribe(us, stack.enter_context(us.line()), era)


def resident(pid: int) -> float:
    """Return the memory that a process has to itself, in KB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return float(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])


# -- pushes

Heard = Callable[[], None]
"""Returns when the next update has come."""


def _pushes(name: str, us: Caller, heard: Heard) -> ratios.Row:
    """Send, and see when the update has come."""
    took: list[float] = []
    message = us.message("tools/call", name="send", arguments={"mailbox": "sender-0", "to": "reader", "body": _BODY})
    request = us.request(body=message, **us.modern(message))
    with us.line() as line:
        for _ in range(PUSHES):
            began = time.perf_counter()
            line.write(request)
            heard()
            took.append(1000 * (time.perf_counter() - began))
            line.answer()
    worst = ratios.percentile(took, 0.99)
    return ratios.Row(f"send to update, p99; {name}", worst, min(took), max(took), bar=50, unit="ms")


@contextmanager
def _over_http(us: Caller, era: str) -> Iterator[Heard]:
    with us.line() as line:
        _subscribe(us, line, era)
        yield lambda: _check(line.event())


@contextmanager
def _over_stdio(place: Place, era: str) -> Iterator[Heard]:
    with Peer([str(place.launcher), "stdio"], place.environment) as peer:
        if era == LEGACY:
            peer.start()
            peer.request("resources/subscribe", {"uri": _READER})
        else:
            wanted = {"resourceSubscriptions": [_READER]}
            peer.post("subscriptions/listen", {"notifications": wanted, "_meta": ENVELOPE})
            _check(peer.message(), "notifications/subscriptions/acknowledged")
        yield lambda: _check(peer.message())


def _check(message: dict[str, object], method: str = "notifications/resources/updated") -> None:
    if message.get("method") != method:
        raise RuntimeError(f"not {method}: {json.dumps(message)}")


@contextmanager
def _stalled(us: Caller) -> Iterator[None]:
    """Have clients that ask for an update of everything and never read one, with the smallest window there is."""
    with ExitStack() as stack:
        for _ in range(STALLED):
            line = stack.enter_context(us.line())
            line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            us.listen(line, _READER)
        yield
