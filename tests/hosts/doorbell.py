"""Idle hosts in a terminal are woken by mail: nobody types, no call is pending, the model is asked in half a second.

Run `python -m tests.hosts --scenario doorbell`. What counts is the first request to the model that names who wrote.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.hosts import environment, plain_client
from tests.hosts.conversation import Call, Conversation, Move, Say
from tests.hosts.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hosts.hosts import ClaudeCode, Codex, OpenCode, Server
    from tests.hosts.plain_client import Line
    from tests.hosts.report import Report
    from tests.hosts.terminal import Terminal

_ROUNDS = 20
_SOON = 0.5
_PATIENCE = 15.0
START_SECONDS = 90.0
_IDLE_SECONDS = 60.0
REST = 2.0
"""Seconds after a message until the next: in that time a scripted turn is over. From outside nothing tells when."""
_BURST = 100
SENDER = "planner"
_HELLO = "Look whether you have mail."


def reader(conversation: Conversation) -> Move:
    """Be a model that takes its mail when it is told of some, acks it, and ends its turn when there is no more."""
    if _HELLO in conversation.prompt:
        return Call("list_inbox", {})  # so that its thread is known
    if conversation.prompt:
        return Call("wait_for_message", {"timeout": 0}) if "call wait_for_message" in conversation.prompt else _done()
    last = conversation.exchanges[-1] if conversation.exchanges else None
    ids = [each["id"] for each in last.value.get("messages", [])] if last else []
    return Call("wait_for_message", {"timeout": 0, "ack": ids}) if ids else _done()


def sleeper(conversation: Conversation) -> Move:
    """Be a model that never looks."""
    del conversation
    return _done()


def _done() -> Say:
    return Say("Done.")


@dataclass
class Watch:
    """A host in its terminal, its model, and somebody who writes to it."""

    endpoint: Endpoint
    terminal: Terminal
    sender: Line
    to: str
    sent: int = field(default=0)

    def send(self, **options: Any) -> float:
        """Send a message; return when that was answered."""
        self.sent += 1
        self.sender.call("send", {"to": self.to, "body": f"Body {self.sent} is not for a doorbell.", **options})
        return time.monotonic()

    def woken(self, after: float, within: float = _PATIENCE) -> float | None:
        """Return when the model was asked, after that time, with a ring that names the sender."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            for request in list(self.endpoint.requests):
                if request.at >= after and f"from {SENDER} in {self.to}" in request.conversation.prompt:
                    return request.at
            time.sleep(0.002)  # the endpoint tells of no request by an event
        return None

    def greet(self) -> None:
        """Have its model call once, so that the conversation in which it does is known."""
        before = len(self.endpoint.requests)
        self.terminal.type(_HELLO)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            latest = [one.latest() for one in list(self.endpoint.requests)[before:]]
            if any(each is not None and each.tool == "list_inbox" for each in latest):
                break
            time.sleep(0.01)  # the endpoint tells of no request by an event
        time.sleep(REST)

    def rings(self, after: float) -> int:
        """How often it was told of mail since then."""
        told = " ".join(one.conversation.prompt for one in list(self.endpoint.requests) if one.at >= after)
        return len(set(re.findall(rf"Mail at [\d:]+: [^;]* from {SENDER} in {self.to}", told)))

    def latency(self) -> float | None:
        """Send one and return how long it took to the model, in seconds."""
        before = time.monotonic()
        sent = self.send()
        woken = self.woken(before)
        return None if woken is None else woken - sent


@dataclass
class Stage:
    """What the scenario needs."""

    root: Path
    server: Server
    report: Report
    _runs: int = field(default=0)

    @contextmanager
    def run(self, host: ClaudeCode | Codex | OpenCode, to: str, model: Any) -> Iterator[Watch]:
        """Start a host whose model is played; on leaving, it is gone."""
        self._runs += 1
        logs = self.root / "logs" / f"doorbell-{self._runs:02}-{to}"
        sending = plain_client.agent(self.server, self.root / "bystander", SENDER, 900.0)
        with (
            Endpoint(host.dialect, model, logs) as endpoint,
            sending as sender,
            host.sit_down(endpoint.url, logs / "terminal.txt") as terminal,
        ):
            yield Watch(endpoint, terminal, sender, to)

    def log(self) -> list[dict[str, Any]]:
        """The log of rings, the newest last."""
        rings: list[dict[str, Any]] = self.command("doorbells", "--json")
        return rings

    def command(self, *arguments: str) -> Any:
        """Return what a command of ours prints as JSON."""
        variables = environment.bare(self.root / "bystander") | self.server.environment
        command = [*self.server.command[:-1], *arguments]
        return json.loads(subprocess.run(command, env=variables, capture_output=True, check=True).stdout)

    def is_here(self, count: int) -> bool:
        """Wait until so many relays are connected."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.command("status", "--json").get("readers") == count:
                return True
        return False

    def seated(self) -> None:
        """Wait until the sender's relay and the host's are there, and the host has drawn its screen."""
        if not self.is_here(2):
            self.report.check("its relay is there", False, self.command("status", "--json"))
        time.sleep(REST)

    def kill_office(self) -> None:
        """End the post office as a machine without memory does."""
        pid = self.command("status", "--json")["pid"]
        os.kill(pid, signal.SIGKILL)


Make = Callable[..., "ClaudeCode | Codex | OpenCode"]
"""Makes a host with a home of that name, and these variables in its registration."""


def claude_code(stage: Stage, make: Make) -> None:
    """Play all of it with Claude Code."""
    host = make("claude-door", MCP_MAILBOX_ADDRESS="builder")
    report = stage.report
    report.section("8. Claude Code sits idle in a terminal; planner writes")
    with stage.run(host, "builder", reader) as watch:
        stage.seated()
        rounds(report, watch, "idle")
        report.note(f"the first ring: {_first(watch)}")
        report.section("8a. After /clear")
        watch.terminal.type("/clear")
        time.sleep(REST)
        rounds(report, watch, "after /clear", 5)
        _common(stage, watch, "8")
    report.section("8f. The host starts again")
    with stage.run(host, "builder", reader) as watch:
        stage.seated()
        rounds(report, watch, "after the host's restart", 5)
    _away(stage, host, make)
    _deaf(stage, make)
    _mute(stage, make)


def codex(stage: Stage, make: Make) -> None:
    """Play what Codex can do: it is rung by `codex queue`, in the thread of its last call."""
    report = stage.report
    report.section("9. Codex sits idle in a terminal; planner writes")
    with stage.run(make("codex-door", MCP_MAILBOX_ADDRESS="builder"), "builder", reader) as watch:
        stage.seated()
        watch.greet()
        rounds(report, watch, "idle")
        report.note(f"the first ring: {_first(watch)}")
        _another_thread(stage, watch, "/new")
        _another_thread(stage, watch, "/clear")
        _common(stage, watch, "9")
    report.section("9f. The host starts again, and its model has called once")
    with stage.run(make("codex-door", MCP_MAILBOX_ADDRESS="builder"), "builder", reader) as watch:
        stage.seated()
        watch.greet()
        rounds(report, watch, "after the host's restart", 5)


def _another_thread(stage: Stage, watch: Watch, command: str) -> None:
    """Begin another conversation in the same host: from its first call on, mail is told of there."""
    stage.report.section(f"9. After {command}, and a call")
    watch.terminal.type(command)
    time.sleep(REST)
    began = time.monotonic()
    watch.greet()
    rounds(stage.report, watch, f"after {command}", 5)
    news = [one.conversation for one in list(watch.endpoint.requests) if one.at >= began]
    told = next((one for one in news if f"from {SENDER} in" in one.prompt), None)
    tools = [each.tool for each in told.exchanges] if told else "never"
    stage.report.check("it is told in the new conversation", tools == ["list_inbox"], tools)
    taken = [each.result for one in news for each in one.exchanges if each.tool == "wait_for_message"]
    stage.report.check("and may take its mail there", not any("read_elsewhere" in each for each in taken), taken[:1])


def opencode(stage: Stage, make: Make) -> None:
    """Play all of it with OpenCode, which has a port."""
    report = stage.report
    report.section("10. OpenCode sits idle in a terminal, with a port; planner writes")
    host = make("opencode-door", port=_free_port(), MCP_MAILBOX_ADDRESS="builder")
    with stage.run(host, "builder", reader) as watch:
        stage.seated()
        watch.greet()
        rounds(report, watch, "idle")
        report.note(f"the first ring: {_first(watch)}")
        _common(stage, watch, "10")
    report.section("10f. The host starts again")
    with stage.run(host, "builder", reader) as watch:
        stage.seated()
        settled = watch.terminal.settles(START_SECONDS)  # before that its port answers late
        report.check("it has started, and is idle", settled, settled)
        rounds(report, watch, "after the host's restart, before a call", 5)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _common(stage: Stage, watch: Watch, number: str) -> None:
    """Play what holds for every host."""
    report = stage.report
    report.section(f"{number}b. After the post office was killed with signal 9")
    stage.kill_office()
    stage.seated()
    rounds(report, watch, "after kill -9", 5)

    report.section(f"{number}c. {_BURST} messages at once, read as they come")
    rings, took = _burst(watch)
    report.check("a burst rings once or twice", rings in (1, 2), f"{rings} rings, sent in {took:.2f} s")

    report.section(f"{number}d. What never rings")
    began = time.monotonic()
    watch.sender.call("send", {"to": SENDER, "cc": watch.to, "body": "For your information."})
    watch.send(priority="low")
    time.sleep(2 * REST)
    report.check("neither a Cc nor low priority", not watch.rings(began), f"{watch.rings(began)} rings")

    report.section(f"{number}e. Nothing happens for a minute")
    before = len(watch.endpoint.requests)
    time.sleep(_IDLE_SECONDS)
    asked = len(watch.endpoint.requests) - before
    report.check("an idle minute costs no request", asked == 0, f"{asked} requests")


def _burst(watch: Watch) -> tuple[int, float]:
    """Send many at once; return how often that rang, and how many seconds it took to send them."""
    began = time.monotonic()
    for _ in range(_BURST):
        watch.send()
    took = time.monotonic() - began
    time.sleep(_PATIENCE)
    return watch.rings(began), took


def _away(stage: Stage, host: ClaudeCode | Codex | OpenCode, make: Make) -> None:
    stage.report.section("8g. Mail came while the host was away; it starts")
    with stage.run(make("claude-other", MCP_MAILBOX_ADDRESS="other"), "builder", reader) as away:
        away.send()
        began = time.monotonic()
        with stage.run(host, "builder", reader) as watch:
            woken = watch.woken(began)
            seen = woken and f"{woken - began:.1f} s after its start"
            stage.report.check("it is told what waits", woken is not None, seen)


def _deaf(stage: Stage, make: Make) -> None:
    stage.report.section(f"8h. {_BURST} messages at once for a model that never looks")
    with stage.run(make("claude-deaf", MCP_MAILBOX_ADDRESS="builder"), "builder", sleeper) as watch:
        stage.seated()
        rings, took = _burst(watch)
        stage.report.check("a burst rings once or twice", rings in (1, 2), f"{rings} rings, sent in {took:.2f} s")
        rounds(stage.report, watch, "one by one", 5)


def _mute(stage: Stage, make: Make) -> None:
    stage.report.section("8i. A host that asked for silence")
    host = make("claude-mute", MCP_MAILBOX_ADDRESS="mute", MCP_MAILBOX_DOORBELL="off")
    with stage.run(host, "mute", reader) as watch:
        stage.seated()
        began = time.monotonic()
        watch.send()
        stage.report.check("is not rung", watch.woken(began, 2 * REST) is None, f"{watch.rings(began)} rings")


def rounds(report: Report, watch: Watch, when: str, rounds: int = _ROUNDS) -> None:
    """Send so many, one after another, and judge each."""
    took = []
    for _ in range(rounds):
        took.append(watch.latency())
        time.sleep(REST)
    heard = [one for one in took if one is not None]
    soon = sum(one <= _SOON for one in heard)
    spread = f"median {statistics.median(heard) * 1000:.0f} ms, most {max(heard) * 1000:.0f} ms" if heard else "never"
    report.check(
        f"{when}: the model is told who wrote within {_SOON} s", soon == rounds, f"{soon} of {rounds}, {spread}"
    )


def _first(watch: Watch) -> str:
    """Return what the first ring looked like to the model."""
    return next((one.conversation.prompt for one in watch.endpoint.requests if SENDER in one.conversation.prompt), "")
