"""A host gives up on a wait before it is over: nothing is lost, nothing comes twice, and the next call resumes.

Run `python -m tests.hosts --scenario timeouts`: eleven minutes, all hosts at the same time. Each host is told to give
up on a call after `LIMIT` seconds, and its model asks for a longer wait, again and again. Mail comes once after the
host gave up and before its model asks again, and then at the moment at which it gives up, a little before and a little
after. Where the limit is learnt, no wait lasts until then any more, and the host gives up no more. Besides each waits
once for as long as it is let by itself.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.hosts import environment, plain_client
from tests.hosts.conversation import Call, Conversation, Exchange, Move, Say
from tests.hosts.endpoint import Endpoint

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hosts.hosts import ClaudeCode, Codex, GeminiCli, OpenCode, Server
    from tests.hosts.report import Report

    AnyHost = ClaudeCode | Codex | GeminiCli | OpenCode

LIMIT = 10.0
"""Seconds after which each host is told to give up on a call."""
_ASKED = 50.0
_MOMENTS = (-0.1, -0.03, -0.01, 0.0, 0.01, 0.03)
"""Seconds after the moment at which the host gave up the first time, as its model saw it."""
_TEACHES = {"claude-short": 1, "claude-http": 3, "codex-short": 2, "gemini-short": 1, "opencode-short": 1}
"""How often a host must give up until its limit is known: once if it says why. Over HTTP Claude Code does not, nor of
an answer that it has met; two waits alike are needed beside one of these."""
_START_SECONDS = 60.0
_TURN_SECONDS = 60.0
_BACKGROUND_SECONDS = 150.0
"""After so long Claude Code's interactive session has put a wait into the background (it does at 120 s)."""
_SENDER = "planner"


@dataclass(frozen=True)
class Long:
    """A wait for as long as a host lets it, asked for in one call of `asked` seconds."""

    name: str
    host: AnyHost
    asked: float
    mail_at: float | None
    """When mail comes, seconds after the call; None: never, and the call ends with a hint."""
    within: float
    """By when the model has its answer."""


def long_wait(name: str, host: AnyHost) -> Long:
    """Return how long this kind of host is waited in."""
    asked, mail_at, within = _LONG[name]
    return Long(name, host, asked, mail_at, within)


_LONG: dict[str, tuple[float, float | None, float]] = {
    "claude": (400.0, 360.0, 370.0),
    "claude over HTTP": (400.0, 360.0, 370.0),
    "codex": (600.0, None, 290.0),
    "gemini": (900.0, None, 590.0),
    "opencode": (900.0, None, 620.0),
}


class _Office:
    """Somebody who writes to all, one call at a time: it has one connection."""

    def __init__(self, line: plain_client.Line) -> None:
        self._line = line
        self._turn = threading.Lock()

    def send(self, to: str, body: str) -> None:
        with self._turn:
            self._line.call("send", {"to": to, "body": body})


@dataclass
class _Impatient:
    """A model behind a host that gives up on its waits. It acks what it gets, and asks for more until it has all."""

    name: str
    office: _Office
    gave_up: list[str] = field(default_factory=list)
    """What it was shown instead of an answer."""
    sent: list[str] = field(default_factory=list)
    after: str = ""
    """What came by the first call after the host had given up."""
    _took: float = 0.0
    _asked_at: float = 0.0
    _played: set[int] = field(default_factory=set)
    _timers: list[threading.Timer] = field(default_factory=list)

    def play(self, conversation: Conversation) -> Move:
        done = len(conversation.exchanges)
        if not done:
            return Call("create_mailbox", {"name": self.name})
        last = conversation.exchanges[-1]
        if done not in self._played:  # a host may send a request twice
            self._played.add(done)
            self._look(last)
        bodies = _bodies(conversation)
        if len(set(bodies)) == len(_MOMENTS) + 1 or len(self.gave_up) > 3 * len(_MOMENTS):
            ids = _ids(last)
            return Call("settle", {"ids": ids, "outcome": "ack"}) if ids else Say("Done.")
        return Call("wait_for_message", {"timeout": _ASKED, "ack": _ids(last)})

    def _look(self, last: Exchange) -> None:
        now = time.monotonic()
        if last.tool == "wait_for_message" and not last.value.keys() & {"messages", "timed_out"}:
            self.gave_up.append(last.result)
            if len(self.gave_up) == 1:
                self._took = now - self._asked_at
                self._send()  # the host has given up, the model has not asked again: nobody waits
                self._asked_at = time.monotonic()
                return
        elif len(self.sent) == 1 and not self.after:
            self.after = last.result
        self._asked_at = now
        moments = len(self.sent) - 1
        if moments < len(_MOMENTS) and last.value.get("messages"):
            timer = threading.Timer(self._took + _MOMENTS[moments], self._send)
            self._timers.append(timer)
            timer.start()

    def _send(self) -> None:
        body = f"Note {len(self.sent) + 1} to {self.name}."
        self.sent.append(body)
        self.office.send(self.name, body)


def _bodies(conversation: Conversation) -> list[str]:
    return [str(each["body"]) for one in conversation.exchanges for each in one.value.get("messages", ())]


def _ids(exchange: Exchange) -> list[str]:
    return [str(each["id"]) for each in exchange.value.get("messages", ())]


@dataclass
class Stage:
    """What the scenario needs."""

    root: Path
    server: Server
    report: Report
    lines: dict[str, list[tuple[str, bool, object]]] = field(default_factory=dict)
    """What was seen of each story, in the order in which it was: stories run at the same time."""

    def check(self, story: str, claim: str, holds: bool, seen: object) -> None:
        self.lines.setdefault(story, []).append((claim, holds, seen))

    def inbox(self, mailbox: str) -> Any:
        """Return what lies in that mailbox, as its owner at the terminal sees it."""
        command = [*self.server.command[:-1], "inbox", "--mailbox", mailbox, "--json"]
        variables = environment.bare(self.root / "bystander") | self.server.environment
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        return json.loads(done.stdout or "{}")


def prove(stage: Stage, short: list[AnyHost], long: list[Long], sitting: ClaudeCode | None) -> None:
    """Play all stories at the same time."""
    with plain_client.agent(stage.server, stage.root / "bystander", _SENDER, 900.0) as line:
        office = _Office(line)
        stories: list[Callable[[], None]] = [partial(_impatient, stage, office, host) for host in short]
        stories += [partial(_long, stage, office, each) for each in long]
        if sitting is not None:
            stories.append(lambda: _background(stage, office, sitting))
        with ThreadPoolExecutor(len(stories)) as pool:
            for done in [pool.submit(story) for story in stories]:
                done.result()
    for story, seen in stage.lines.items():
        stage.report.section(story)
        for each in seen:
            stage.report.check(*each)


def _impatient(stage: Stage, office: _Office, host: AnyHost) -> None:
    story = f"{host.name} gives up on a call after {LIMIT:.0f} s"
    model = _Impatient(host.name, office)
    logs = stage.root / "logs" / f"limit-{host.name}"
    patience = _START_SECONDS + (3 * len(_MOMENTS) + 2) * (LIMIT + 5)
    with (
        Endpoint(host.dialect, model.play, logs) as endpoint,
        host.start(endpoint.url, logs / "output.txt") as process,
    ):
        code = process.ended(patience)
    conversation = max((one.conversation for one in endpoint.requests), key=lambda one: len(one.exchanges))
    seen = Counter(_bodies(conversation))
    shown = {text[:120] for text in model.gave_up}
    stage.check(story, "its turn ends well", code == 0, code)
    stage.check(story, "its model is shown that the call timed out", bool(model.gave_up), shown)
    first = model.sent[0] if model.sent else "?"
    if (most := _TEACHES.get(host.name)) is not None:
        often = len(model.gave_up)
        stage.check(story, f"it gives up no more once its limit is known ({most} at most)", often <= most, often)
    stage.check(story, "what came after that is in the next call", first in model.after, model.after[:200])
    # The number behind the point is that of the lease: one more, where an answer met a host that had just given up.
    crossed = sum(not handle.endswith(".1") for one in conversation.exchanges for handle in _ids(one))
    moments = f"{len(model.sent) - 1} at the limit, {len(model.gave_up)} calls given up, {crossed} answers too late"
    all_sent = len(model.sent) == len(_MOMENTS) + 1
    stage.check(story, "nothing is lost", all_sent and set(seen) == set(model.sent), f"{len(seen)} seen; {moments}")
    stage.check(story, "nothing comes twice", set(seen.values()) <= {1}, dict(seen))
    left = stage.inbox(host.name)
    stage.check(story, "nothing is left behind", left.get("messages", []) == [], left)


def _long(stage: Stage, office: _Office, each: Long) -> None:
    story = f"{each.name} waits for as long as it is let ({each.asked:.0f} s asked for)"
    name, body, host = each.host.name, f"Late news for {each.name}.", each.host
    asked: list[float] = []
    answers: list[tuple[float, Exchange]] = []
    timers: list[threading.Timer] = []

    def play(conversation: Conversation) -> Move:
        if not conversation.exchanges:
            return Call("create_mailbox", {"name": name})
        last = conversation.exchanges[-1]
        if last.tool == "create_mailbox":
            if not asked:
                asked.append(time.monotonic())
                if each.mail_at is not None:
                    timers.append(threading.Timer(each.mail_at, office.send, (name, body)))
                    timers[0].start()
            return Call("wait_for_message", {"timeout": each.asked})
        if last.tool == "wait_for_message" and not answers:
            answers.append((time.monotonic() - asked[0], last))
            if each.mail_at is None:
                office.send(name, body)
            return Call("wait_for_message", {"timeout": 5}) if each.mail_at is None else Say("Done.")
        return Say("Done.")

    logs = stage.root / "logs" / f"long-{name}"
    with Endpoint(host.dialect, play, logs) as endpoint, host.start(endpoint.url, logs / "output.txt") as process:
        code = process.ended(_START_SECONDS + each.within + _TURN_SECONDS)
    for timer in timers:
        timer.cancel()
    took, first = answers[0] if answers else (0.0, Exchange("", ""))
    stage.check(story, "its turn ends well", code == 0, code)
    if each.mail_at is None:
        hint = str(first.value.get("hint", first.result))
        stage.check(
            story, "the call ends before the host's limit, and says so", first.timed_out, f"{took:.1f} s: {hint}"
        )
        bodies = _bodies(max((one.conversation for one in endpoint.requests), key=lambda one: len(one.exchanges)))
        stage.check(story, "what came meanwhile is in the next call", bodies == [body], bodies)
    else:
        late = took - each.mail_at
        stage.check(
            story,
            f"mail after {each.mail_at:.0f} s ends the call",
            body in first.result and late < 2,
            f"{late * 1000:.0f} ms later",
        )


def _background(stage: Stage, office: _Office, host: ClaudeCode) -> None:
    """Claude Code in a terminal puts a wait into the background; its return starts a turn."""
    story = "Claude Code in a terminal: a wait goes to the background at 120 s"
    body = "Late news for whoever sits there."
    shown: list[tuple[float, str]] = []
    asked: list[float] = []

    def play(conversation: Conversation) -> Move:
        if conversation.exchanges and conversation.exchanges[-1].tool == "wait_for_message":
            shown.append((time.monotonic() - asked[0], conversation.exchanges[-1].result + conversation.prompt))
            return Say("Done.")
        if conversation.exchanges and not asked:
            asked.append(time.monotonic())
            return Call("wait_for_message", {"timeout": 600})
        return Say("Done.") if conversation.exchanges else Call("create_mailbox", {"name": host.name})

    logs = stage.root / "logs" / "background"
    with Endpoint(host.dialect, play, logs) as endpoint, host.sit_down(endpoint.url, logs / "terminal.txt") as terminal:
        time.sleep(10.0)  # it tells of no moment at which it is ready
        terminal.type("Wait for mail.")
        _until(lambda: bool(asked), _START_SECONDS)
        _until(lambda: bool(shown), _BACKGROUND_SECONDS)
        away = shown[-1] if shown else (0.0, "nothing")
        time.sleep(max(0.0, _BACKGROUND_SECONDS - away[0]))
        before, sent = len(endpoint.requests), time.monotonic()
        office.send(host.name, body)
        _until(lambda: any(body in one.text for one in endpoint.requests[before:]), 15.0)
        heard = [one.at - sent for one in endpoint.requests[before:] if body in one.text]
    stage.check(story, "the model goes on without it", bool(shown), f"after {away[0]:.0f} s: {away[1][:160]}")
    stage.check(story, "mail then starts a turn", bool(heard), f"{heard[0] * 1000:.0f} ms" if heard else "never")


def _until(holds: Callable[[], bool], within: float) -> None:
    deadline = time.monotonic() + within
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)  # a script tells of its moves by no event
