"""Two machines, a hub and an edge, and everything between them that breaks: `python -m tests.link.machines`.

Network namespaces with a veth pair between them where there is a right to make these, else two homes with a proxy
between them; the output says which ran. Senders and readers are hosts on both machines, over real relays, each of which
remembers what a host would: what it was answered, under which key it sent, which messages it has not acked yet.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mcp_mailbox import frames, rendezvous
from mcp_mailbox.fronts.hub import wire
from tests.fronts.world import RELAY, Edged, Home, Raw, Served
from tests.link.proxy import Proxy
from tests.relay.world import Host
from tests.torture.report import say

Json = dict[str, Any]

OFFLINE = 2_000
CATCH_UP_SECONDS = 5.0
_SETTINGS = {"MCP_MAILBOX_LEASE": "3", "MCP_MAILBOX_THREAD_BUDGET": "0", "MCP_MAILBOX_PAIR_BUDGET": "0"}
_HEAL_SECONDS = 75.0
"""For what was under way when the last fault ended: a lost edge counts as present for 30 s, a lease is 3 s."""


class Trouble(Exception):  # noqa: N818
    """A promise was not kept."""


# -- the machines


class Homes:
    """Two homes on this machine; the link is a proxy."""

    name = "two homes and a proxy"
    faults = ("down", "cut", "trickle")
    prefix: dict[str, list[str]] = {"hub": [], "edge": []}  # noqa: RUF012 - never written

    def __init__(self) -> None:
        self.link = Proxy()
        self.address = "127.0.0.1"

    def hub_arguments(self) -> list[str]:
        return ["--allow-host", f"127.0.0.1:{self.link.port}"]

    def url(self, port: int) -> str:
        self.link.target = port
        return self.link.url

    def down(self, how: str) -> None:
        if how == "cut":
            self.link.cut()
        elif how == "trickle":
            self.link.trickle = 0.02
        else:
            self.link.passes.clear()

    def up(self) -> None:
        self.link.trickle = 0
        self.link.mend()

    def end(self) -> None:
        self.link.end()


class Namespaces:
    """Two network namespaces; the link is a veth pair, whose end at the hub is taken down without a word to anybody."""

    name = "network namespaces with a veth pair"
    faults = ("down",)

    def __init__(self) -> None:
        mark = f"{os.getpid() % 10_000}"
        self._names = {side: f"mbx-{side}-{mark}" for side in ("hub", "edge")}
        self.prefix = {side: ["ip", "netns", "exec", name] for side, name in self._names.items()}
        self.address = "10.77.0.1"
        self._made: list[str] = []
        try:
            for name in self._names.values():
                _ip("netns", "add", name)
                self._made.append(name)
            hub, edge = self._names["hub"], self._names["edge"]
            _ip("-n", hub, "link", "add", "mbx0", "type", "veth", "peer", "name", "mbx0", "netns", edge)
            for name, address in ((hub, self.address), (edge, "10.77.0.2")):
                _ip("-n", name, "addr", "add", f"{address}/30", "dev", "mbx0")
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "link", "set", "mbx0", "up")
        except (OSError, subprocess.CalledProcessError):
            self.end()
            raise

    def hub_arguments(self) -> list[str]:
        return ["--host", self.address, "--behind-proxy", "--allow-host", self.address]

    def url(self, port: int) -> str:
        return f"http://{self.address}:{port}"

    def down(self, how: str) -> None:
        del how
        _ip("-n", self._names["hub"], "link", "set", "mbx0", "down")

    def up(self) -> None:
        _ip("-n", self._names["hub"], "link", "set", "mbx0", "up")

    def end(self) -> None:
        for name in self._made:
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)


Place = Homes | Namespaces


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def place(*, homes: bool) -> Place:
    """Make it, as real as may be."""
    if not homes and shutil.which("ip"):
        with suppress(OSError, subprocess.CalledProcessError):
            return Namespaces()
    return Homes()


class HubHome(Served):
    """The hub's home, on its machine."""

    def __init__(self, directory: Path, where: Place) -> None:
        super().__init__(directory, *where.hub_arguments(), **_SETTINGS)
        self._where = where

    def start(self, *, port: int = 0) -> HubHome:
        command = [*self._where.prefix["hub"], sys.executable, "-P", "-m", "mcp_mailbox", "serve", "--port", str(port)]
        with (self.directory / "serve.log").open("ab") as output:
            self.process = subprocess.Popen(
                [*command, *self._where.hub_arguments()], env=self.environment(), stdout=output, stderr=output
            )
        deadline = time.monotonic() + 30
        while not self.serves():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Trouble(f"the hub does not start: {self.log()[-2000:]}")
            time.sleep(0.01)
        return self


class _Patient(Host):
    """Waits for what takes the time in which a silent link is noticed, on a machine that is busy."""

    def line(self, seconds: float = 60.0) -> Json:
        return super().line(seconds)


@dataclass
class World:
    """Both machines."""

    where: Place
    hub: HubHome
    edge: Home
    port: int

    def home(self, side: str) -> Home:
        return self.hub if side == "hub" else self.edge

    def relay(self, side: str) -> Host:
        """Start a relay on that machine."""
        read, write = os.pipe()
        process = subprocess.Popen(
            [*self.where.prefix[side], sys.executable, *RELAY],
            stdin=subprocess.PIPE,
            stdout=write,
            stderr=subprocess.DEVNULL,
            env=self.home(side).environment(MCP_MAILBOX_SPACE="street"),
        )
        os.close(write)
        return _Patient(process, read)

    def kill_hub(self) -> None:
        assert self.hub.process is not None
        pid = self.hub.status()["pid"]
        os.kill(pid, signal.SIGKILL)
        self.hub.process.wait()
        self.hub.start(port=self.port)

    def kill_edge(self) -> None:
        answer = rendezvous.ask(str(self.edge.path), frames.STATUS)
        if answer is not None:
            with suppress(ProcessLookupError, KeyError):
                os.kill(self.edge.status()["pid"], signal.SIGKILL)

    def waiting(self) -> int:
        """How much is in the outbox."""
        found: int = self.edge.status()["hub"]["outbox"]
        return found


@contextmanager
def world(*, homes: bool) -> Iterator[World]:
    """Yield both machines."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="mbx-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        where = place(homes=homes)
        stack.callback(where.end)
        for side in ("hub", "edge"):
            (directory / side).mkdir()
        hub = HubHome(directory / "hub", where)
        stack.callback(hub.end)
        hub.start()
        settings = {**_SETTINGS, "MCP_MAILBOX_HUB_INSECURE": "1"}
        edge = Edged(directory / "edge", hub, where.url(hub.port), **settings)
        stack.callback(edge.end)
        stack.callback(where.up)
        yield World(where, hub, edge, hub.port)


# -- hosts


class Client:
    """A host that starts its relay again when it is gone, and does the same again."""

    def __init__(self, world: World, side: str, mailbox: str) -> None:
        self.world, self.side, self.mailbox = world, side, mailbox
        self._host: Raw | None = None
        self.started = 0
        self.stopping = threading.Event()
        self.deadline = 0.0

    @property
    def pid(self) -> int | None:
        return self._host.host.pid if self._host is not None else None

    def call(self, tool: str, /, **arguments: object) -> Json:
        """Call until it is answered."""
        while True:
            try:
                return self._connected().call(tool, **arguments)
            except (OSError, EOFError, AssertionError, KeyError, ValueError) as error:
                if self.stopping.is_set():
                    raise
                gone = not self._alive() or "closed its output" in str(error)
                if isinstance(error, AssertionError) and "hub_away" not in str(error) and not gone:
                    raise Trouble(f"{self.mailbox}: {tool} was refused: {error}") from error
                if gone:
                    self.leave()
                time.sleep(0.05)

    def _alive(self) -> bool:
        return self._host is not None and self._host.host.process.poll() is None

    def _connected(self) -> Raw:
        if self._host is None:
            self._host = Raw(self.world.relay(self.side))
            self._host.greet()
            self.started += 1
            self._host.call("create_mailbox", name=self.mailbox)
        return self._host

    def leave(self) -> None:
        if self._host is not None:
            with suppress(OSError):
                self._host.host.end()
            self._host = None


@dataclass
class Letters:
    """What was accepted, by pair, and what came, in its order."""

    sent: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    got: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    """By reader: sender and body, first deliveries alone."""
    acked: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    story: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By reader: when what came, and over its how manieth relay."""
    trouble: list[str] = field(default_factory=list)
    late: list[float] = field(default_factory=list)


class Sender(Client):
    """Sends one letter after another to everybody in turn."""

    def run(self, letters: Letters, readers: list[str], pause: Callable[[], float], until: threading.Event) -> None:
        number = 0
        while not until.is_set():
            to, body = readers[number % len(readers)], f"{self.mailbox} {number} {time.time()}"
            answer = self.call("send", to=to, body=body, key=f"{self.mailbox}-{number}")
            state = answer["to"][0].get("state", answer.get("accepted"))
            if state not in {"stored", "outbox"}:
                letters.trouble.append(f"{body!r} was answered {answer}")
            letters.sent[self.mailbox, to].append(body)
            number += 1
            time.sleep(pause())


class Reader(Client):
    """Takes what comes, and acks it with the next wait."""

    def run(self, letters: Letters, until: threading.Event) -> None:
        seen: dict[str, str] = {}
        done: list[str] = []
        while not until.is_set():
            try:
                answer = self.call("wait_for_message", timeout=2, ack=done)
            except (OSError, EOFError, AssertionError):
                if until.is_set():
                    return
                raise
            failed = {each["id"] for each in answer.get("ack_failed", [])}
            if "unreachable_since" not in answer:
                letters.acked[self.mailbox] |= {each.partition(".")[0] for each in done if each not in failed}
                done = []
            for each in answer["messages"]:
                id_ = each["id"].partition(".")[0]
                letters.story[self.mailbox].append(
                    f"{time.time():.3f} relay {self.started} {each['id']} {each['body']}"
                )
                if id_ in letters.acked[self.mailbox]:
                    letters.trouble.append(f"{each['body']!r} came again although it was acked")
                if id_ not in seen:
                    seen[id_] = each["body"]
                    sender, _, at = each["body"].split()
                    letters.got[self.mailbox].append((sender, each["body"]))
                    letters.late.append(time.time() - float(at))
                done.append(each["id"])


# -- scenarios


def offline(world: World, count: int = OFFLINE) -> None:
    """The edge takes in letters while the link is down; all arrive soon after it is up, in order, once."""
    alice, bob = Client(world, "edge", "alice"), Client(world, "hub", "bob")
    bob.call("list_inbox")
    alice.call("send", to="bob", body="0")
    world.where.down("down")
    began = time.monotonic()
    host = alice._connected()
    wanted: list[int] = []
    first = alice.call("send", to="bob", body="1")
    for number in range(2, count + 1):
        host.write(host.tool("send", to="bob", body=str(number)))
        wanted.append(host.asked)
        if len(wanted) == 50:
            _accepted(host, wanted)
    _accepted(host, wanted)
    took = time.monotonic() - began
    if first.get("accepted") != "outbox" or world.waiting() != count:
        raise Trouble(f"{world.waiting()} of {count} are in the outbox; the first was answered {first}")
    alice.leave()  # the agent's host is long gone
    got: list[str] = []
    done: list[str] = []
    world.where.up()
    up = time.monotonic()
    while len(got) <= count and time.monotonic() - up < 60:
        answer = bob.call("wait_for_message", timeout=20, ack=done)
        done = [each["id"] for each in answer["messages"]]
        got += [each["body"] for each in answer["messages"]]
    caught_up = time.monotonic() - up
    bob.call("settle", ids=done, outcome="ack")
    again = bob.call("wait_for_message", timeout=0)["messages"]
    bob.leave()
    say(f"{count} accepted without the hub in {took:.1f} s; all received {caught_up:.2f} s after the link was up")
    if got != [str(number) for number in range(count + 1)] or again:
        raise Trouble(f"{len(got)} came, of {count + 1}, or not in order: {got[:5]} … {got[-5:]}, then {again}")
    if caught_up > CATCH_UP_SECONDS:
        raise Trouble(f"the last one came {caught_up:.2f} s after the link was up, and not {CATCH_UP_SECONDS}")


def _accepted(host: Raw, wanted: list[int]) -> None:
    for number in wanted:
        message = host.message(number)
        if message.get("result", {}).get("structuredContent", {}).get("accepted") != "outbox":
            raise Trouble(f"not accepted: {message}")
    wanted.clear()


def ring_after_silence(world: World, how: str) -> None:
    """A wait goes on through a link that fails without a word; the ring is late by what is promised at most."""
    alice, bob = Client(world, "edge", "carol"), Client(world, "hub", "dave")
    alice.call("list_inbox")
    bob.call("list_inbox")
    answers: list[Json] = []
    waiting = threading.Thread(target=lambda: answers.append(alice.call("wait_for_message", timeout=55)))
    waiting.start()
    time.sleep(0.5)  # nothing tells when it waits
    world.where.down(how)
    bob.call("send", to="carol", body="hello")
    time.sleep(1)
    world.where.up()
    began = time.monotonic()
    waiting.join(60)
    took = time.monotonic() - began
    for each in (alice, bob):
        each.stopping.set()
        each.leave()
    if not answers or [each["body"] for each in answers[0]["messages"]] != ["hello"]:
        raise Trouble(f"the wait ended with {answers}")
    say(f"the ring was {took:.2f} s late after a link that was {how}")
    if took > wire.HEARTBEAT_SECONDS:
        raise Trouble(f"a ring was {took:.1f} s late")


def storm(world: World, seed: int, strikes: int) -> None:
    """Kill edge, hub and relays, break the link, at moments of the seed; nothing is lost, doubled or out of order."""
    dice = random.Random(seed)
    letters = Letters()
    stop_sending, stop_reading = threading.Event(), threading.Event()
    readers = [Reader(world, side, f"reader-{side}-{seed}") for side in ("edge", "hub")]
    senders = [Sender(world, side, f"sender-{side}-{seed}") for side in ("edge", "hub")]
    clients = [*senders, *readers]
    names = [each.mailbox for each in readers]
    for each in clients:
        each.call("list_inbox")
    pause = partial(dice.uniform, 0.001, 0.03)
    threads = [_thread(letters, partial(each.run, letters, names, pause, stop_sending)) for each in senders]
    threads += [_thread(letters, partial(each.run, letters, stop_reading)) for each in readers]
    done = _strike(world, dice, clients, strikes)
    stop_sending.set()
    for thread in threads[: len(senders)]:
        thread.join(60)
    began = time.monotonic()
    while _missing(letters) and not letters.trouble and time.monotonic() - began < _HEAL_SECONDS:
        time.sleep(0.1)
    healed = time.monotonic() - began
    stop_reading.set()
    for reader in readers:
        reader.stopping.set()
    for thread in threads:
        thread.join(30)
    for client in clients:
        client.leave()
    total = sum(map(len, letters.sent.values()))
    starts = sum(each.started - 1 for each in clients)
    say(f"seed {seed:3}: {total:5} letters, {done}, {starts} relays anew, whole {healed:.1f} s after the last fault")
    _judge(letters)


def _thread(letters: Letters, run: Callable[[], None]) -> threading.Thread:
    def body() -> None:
        try:
            run()
        except Exception as error:  # noqa: BLE001 - told in the end
            letters.trouble.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=body)
    thread.start()
    return thread


def _strike(world: World, dice: random.Random, clients: list[Client], strikes: int) -> str:
    """Do what the seed says; return what was done."""
    kinds = ("hub", "edge", "relay", *world.where.faults)
    done: dict[str, int] = defaultdict(int)
    for _ in range(strikes):
        time.sleep(dice.uniform(0.1, 1.2))
        kind = dice.choice(kinds)
        done[kind] += 1
        if kind == "hub":
            world.kill_hub()
        elif kind == "edge":
            world.kill_edge()
        elif kind == "relay":
            pid = dice.choice(clients).pid
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            world.where.down(kind)
            time.sleep(dice.uniform(0.2, 1.5))
            world.where.up()
    return ", ".join(f"{kind} {count}" for kind, count in sorted(done.items()))


def _missing(letters: Letters) -> set[str]:
    sent = {body for bodies in letters.sent.values() for body in bodies}
    return sent - {body for got in letters.got.values() for _, body in got}


def _judge(letters: Letters) -> None:
    trouble = list(letters.trouble)
    if missing := _missing(letters):
        trouble.append(f"{len(missing)} were lost: {sorted(missing)[:5]}")
    for (sender, reader), sent in letters.sent.items():
        got = [body for each, body in letters.got[reader] if each == sender]
        if len(got) != len(set(got)):
            trouble.append(f"{reader} got something of {sender} as two messages")
        accepted = set(sent)
        came = [body for body in got if body in accepted]
        if came != sent:
            wrong = [pair for pair in zip(came, sent, strict=False) if pair[0] != pair[1]][:3]
            story = [line for line in letters.story[reader] if any(body in line for pair in wrong for body in pair)]
            trouble.append(f"what {sender} sent to {reader} came in another order: {wrong}\n" + "\n".join(story))
    if trouble:
        raise Trouble("; ".join(trouble[:10]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.link.machines", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3, help="so many, from --seed on")
    parser.add_argument("--strikes", type=int, default=6, help="faults for each seed")
    parser.add_argument("--offline", type=int, default=OFFLINE, help="letters taken in while the link is down; 0: none")
    parser.add_argument("--homes", action="store_true", help="two homes and a proxy, whatever there is a right to")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that nothing is left running
    try:
        with world(homes=given.homes) as both:
            say(f"on {both.where.name}")
            if given.offline:
                offline(both, given.offline)
                for how in both.where.faults:
                    ring_after_silence(both, how)
            for seed in range(given.seed, given.seed + given.seeds):
                try:
                    storm(both, seed, given.strikes)
                except Trouble:
                    say(f"edge: {both.edge.status()}\n{both.edge.log()[-3000:]}\nhub: {both.hub.log()[-3000:]}")
                    raise
    except Trouble as trouble:
        say(f"FAILED: {trouble}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
