"""A hub's store API: durable sends a second beside bare group commits, rings, and very many listens on one stream."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import callers, limits, ratios, web
from benchmarks.places import Place
from mcp_mailbox import quotas
from mcp_mailbox.engines.sqlite.schema import prepare
from mcp_mailbox.fronts.hub import wire
from tests.http.caller import Caller
from tests.http.store import Store

CALLERS = 64
ROUNDS = 8
EACH = 16
"""Sends of each caller in a round, or in each request of one."""
BATCHES = 4
"""Requests of each caller in a round of batches: with one, all would wait for the last of them."""
LISTENS = 10_000
RINGS = 200
IDLE_SECONDS = 20.0


def rows(place: Place) -> Iterator[ratios.Row]:
    """Measure."""
    crowd = {quotas.MAILBOXES_VARIABLE: str(CALLERS + LISTENS)}  # all of one principal: more than a hub lets it have
    with web.serving(place, **crowd) as (port, token, pid):
        store = Store(Caller(port, token))
        for number in range(CALLERS):
            store.call("create_mailbox", store.who(reader=f"m{number}"), name=f"m{number}")
        yield _throughput(store, batch=1)
        yield _throughput(store, batch=EACH)
        yield _rings(store, "1 listen", ["m0@default"])
        places = _crowd(store)
        before = web.resident(pid)
        began = time.perf_counter()
        with store.stream(*places):
            took = time.perf_counter() - began
            yield ratios.Row(f"a stream with {LISTENS:,} listens opens", took, took, took, bar=10, unit="s")
            each = (web.resident(pid) - before) / LISTENS
            yield ratios.Row(f"a listen, of {LISTENS:,}", each, each, each, bar=20, unit="KB")
        yield _rings(store, f"{LISTENS:,} listens", places)
        yield from _idle(place, port, token)


def _throughput(store: Store, batch: int) -> ratios.Row:
    pair = ratios.Pair()
    with (
        TemporaryDirectory(prefix="mcp-mailbox-hub-") as folder,
        contextlib.closing(prepare(Path(folder, "bare.db"))) as bare,
    ):
        batches = BATCHES if batch > 1 else 1
        for turn in range(ROUNDS):
            requests = [
                [
                    request
                    for each in range(batches)
                    for request in _sends(store, caller, f"{batch}.{turn}.{each}", batch)
                ]
                for caller in range(CALLERS)
            ]
            pair.theirs.append(limits.insert(bare, CALLERS, EACH * batches))
            pair.ours.append(callers.timed(store.caller.port, requests, _is_stored))
    inverse = ratios.Pair(pair.theirs, pair.ours).row("")
    sends = 1000 * CALLERS * EACH * batches
    raw = {"send_per_second": sends / inverse.raw["theirs_ms"], "bare_per_second": sends / inverse.raw["ours_ms"]}
    how = f", {batch} a request" if batch > 1 else ""
    name = f"store API, sends/s of {CALLERS} callers{how} / bare group commit"
    return ratios.Row(
        name, inverse.value, inverse.low, inverse.high, bar=0.15, aim=0.40, smaller_is_better=False, raw=raw
    )


def _sends(store: Store, caller: int, turn: str, batch: int) -> list[bytes]:
    """Spell what one caller sends in a round: one in a request, or a batch as an outbox hands it in."""
    said = [
        {"who": {"reader": f"m{caller}", "request": f"{turn}.{n}"}, "given": {"to": f"m{caller}", "body": limits.BODY}}
        for n in range(EACH)
    ]
    if batch == 1:
        return [
            store.caller.request("POST", "/store/v1/verbs/send", body=each, mailbox_edge=store.edge) for each in said
        ]
    lines = [json.dumps({"number": n, **each}).encode() for n, each in enumerate(said)]
    body = b"\n".join(lines)
    kind = {"content_type": wire.NDJSON, "mailbox_edge": store.edge}
    return [store.caller.request("POST", "/store/v1/sends", body=body, **kind)]


def _is_stored(head: bytes, body: bytes) -> bool:
    del head
    return b'"stored"' in body


def _crowd(store: Store) -> list[str]:
    """Make so many mailboxes that are listened for."""
    names = [f"idle{number}" for number in range(LISTENS)]
    for name in names:
        store.call("create_mailbox", {"reader": "crowd", "request": name, "binds": False}, name=name)
    return [f"{name}@default" for name in names]


def _rings(store: Store, what: str, places: list[str]) -> ratios.Row:
    """Send, and see when the ring is there."""
    took = []
    with store.stream(*places) as events, store.caller.line() as line:
        for _ in places:
            events.next("ring")  # what it may have missed
        for number in range(RINGS):
            to = places[number % len(places)].partition("@")[0]
            who = {"reader": "m0", "request": f"ring {what} {number}"}
            body = {"who": who, "given": {"to": to, "body": limits.BODY}}
            request = store.caller.request("POST", "/store/v1/verbs/send", body=body, mailbox_edge=store.edge)
            began = time.perf_counter()
            line.write(request)
            events.next("ring")
            took.append(1000 * (time.perf_counter() - began))
            line.answer()
    worst = ratios.percentile(took, 0.99)
    return ratios.Row(f"send to ring at the edge, p99; {what}", worst, min(took), max(took), bar=50, unit="ms")


def _idle(place: Place, port: int, token: str) -> Iterator[ratios.Row]:
    """Say what an edge takes that has a host and nothing to do."""
    home = place.home / "edge"
    hub = {"MCP_MAILBOX_HUB": f"http://127.0.0.1:{port}", "MCP_MAILBOX_TOKEN": token}
    environment = {**place.environment, "HOME": str(home), "MCP_MAILBOX_HOME": str(home / "mail"), **hub}
    home.mkdir()
    with subprocess.Popen([str(place.launcher), "stdio"], env=environment, stdin=subprocess.PIPE) as relay:
        pid = _office(place, environment)
        time.sleep(8)  # who is present is told after 5 s
        before, read = _spent(pid), _read(pid)
        time.sleep(IDLE_SECONDS)
        share = 100 * (_spent(pid) - before) / IDLE_SECONDS
        said = 60 * (_read(pid) - read) / IDLE_SECONDS
        yield ratios.Row("an idle edge, of one core", share, share, share, bar=1, unit="%")
        yield ratios.Row("an idle edge, read from everything", said, said, said, unit="B/m")
        subprocess.run([str(place.launcher), "stop"], env=environment, check=True, stdout=subprocess.DEVNULL)
        relay.kill()


def _office(place: Place, environment: dict[str, str]) -> int:
    deadline = time.monotonic() + 20
    while True:
        asked = [str(place.launcher), "status", "--json"]
        status = subprocess.run(asked, env=environment, capture_output=True, check=False)
        if status.returncode == 0 and json.loads(status.stdout).get("hub", {}).get("reached"):
            found: int = json.loads(status.stdout)["pid"]
            return found
        if time.monotonic() > deadline:
            raise RuntimeError(status.stdout.decode() + status.stderr.decode())
        time.sleep(0.2)


def _spent(pid: int) -> float:
    """Return the seconds of processor that it has had."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _read(pid: int) -> int:
    """Return the bytes that it has read, from files and sockets."""
    lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])
