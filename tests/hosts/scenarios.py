"""The story that proves the product, and what must be seen in it.

Two agents that are never there at the same time exchange mail; then a reader dies while it waits; then both are
there. What counts is the next request of a host to its model: only what stands there has reached the agent.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.hosts import environment, plain_client
from tests.hosts.conversation import Call, Conversation, Script, call, follow
from tests.hosts.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hosts.hosts import Host, Server
    from tests.hosts.processes import Process
    from tests.hosts.report import Report

_QUESTION = "Question 4711: which port does the staging database listen on? I need it for the migration."
_ANSWER = "Answer 4712: it listens on 5433, and the read replica on 5434."
_LEAN = 1024
_START_SECONDS = 30.0
_TURN_SECONDS = 90.0
# From outside nothing tells that a wait has reached the server, so a waiting host gets this long to get there.
_SETTLING_SECONDS = 3.0


@dataclass
class Stage:
    """What every scenario needs."""

    root: Path
    server: Server
    claude: Host
    codex: Host
    report: Report
    wait: float
    keys: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    _runs: int = field(default=0)

    @contextmanager
    def run(self, host: Host, script: Script) -> Iterator[tuple[Endpoint, Process]]:
        """Start a host whose model plays the script; on leaving, both are gone."""
        self._runs += 1
        logs = self.root / "logs" / f"{self._runs:02}-{host.name}"
        with Endpoint(host.dialect, script, logs) as endpoint, host.start(endpoint.url, logs / "output.txt") as process:
            yield endpoint, process
        self.keys |= {request.key for request in endpoint.requests}
        self.refused |= {f"{host.name}: {what}" for what in endpoint.refused}

    def play(self, host: Host, script: Script) -> Endpoint:
        """Let a host play the script to its end."""
        with self.run(host, script) as (endpoint, process):
            self.check_end(host, process, _TURN_SECONDS)
        return endpoint

    def deliver(self, to: str, body: str) -> None:
        """Send mail as somebody who has no host."""
        try:
            sent = plain_client.send(self.server, self.root / "bystander", to, body)
        except (plain_client.NoAnswerError, OSError) as reason:
            self.report.check("the mail is accepted", False, reason)
        else:
            self.report.check("the mail is accepted", "id" in sent, sent)

    def check_end(self, host: Host, process: Process, within: float) -> None:
        code = process.ended(within)
        seen = f"still running after {within:.0f} s" if code is None else f"exit code {code}"
        self.report.check(f"{host.name} ends its turn", code == 0, seen)

    def check_mail(self, endpoint: Endpoint, body: str, sender: str) -> None:
        """Judge the request that brought the mail to the model."""
        request = endpoint.first_with(body)
        latest = request.latest() if request else None
        if request is None or latest is None:
            shown = [f"{one.tool}: {one.result[:200]}" for one in endpoint.conversation().exchanges]
            self.report.check("the model's next request contains the mail", False, shown)
            return
        copies, size = request.text.count(body), len(latest.result.encode())
        waited = latest.tool == "wait_for_message"
        self.report.check("the model's next request contains the mail", waited, latest.result)
        self.report.check("the body is there once", copies == 1, f"{copies} in {len(request.text)} characters")
        self.report.check(f"the result is lean, below {_LEAN} bytes", size < _LEAN, f"{size}, body {len(body)}")
        seen = request.conversation.mail().get("from", "")
        self.report.check("the model sees who wrote", seen.partition("@")[0] == sender, seen)

    def check_result(self, conversation: Conversation, tool: str, *expected: str) -> None:
        """Judge that the model got a result with these fields."""
        try:
            result = conversation.last(tool)
        except LookupError as reason:
            self.report.check(f"{tool} answers", False, reason)
            return
        self.report.check(f"{tool} answers {', '.join(expected)}", set(expected) <= set(result.value), result.result)


def play_all(stage: Stage) -> None:
    offline_exchange(stage)
    for host in (stage.claude, stage.codex):
        killed_reader(stage, host)
    woken_reader(stage)
    the_wall(stage)


def offline_exchange(stage: Stage) -> None:
    """Question and answer between agents whose hosts are never up together."""
    report = stage.report
    report.section("0. Codex makes its mailbox and leaves")
    endpoint = stage.play(stage.codex, follow(call("create_mailbox", name="codex", about="Runs the database")))
    stage.check_result(endpoint.conversation(), "create_mailbox", "address", "created", "unread")

    report.section("1. Claude Code writes to Codex, whose host is not running")
    question = follow(
        call("create_mailbox", name="claude"),
        call("send", to="codex", subject="Staging database", body=_QUESTION),
    )
    endpoint = stage.play(stage.claude, question)
    report.note(f"tools open without a search: {sorted(endpoint.requests[0].offered) if endpoint.requests else None}")
    stage.check_result(endpoint.conversation(), "send", "id", "thread", "to")

    report.section("2. Codex starts, reads and answers; Claude Code is not running")
    endpoint = stage.play(stage.codex, follow(call("create_mailbox", name="codex"), call("wait_for_message"), _reply))
    stage.check_mail(endpoint, _QUESTION, sender="claude")
    stage.check_result(endpoint.conversation(), "send", "id", "thread", "to")

    report.section("3. Claude Code starts again and gets the answer")
    script = follow(call("create_mailbox", name="claude"), call("wait_for_message"), _ack, call("list_inbox"))
    endpoint = stage.play(stage.claude, script)
    stage.check_mail(endpoint, _ANSWER, sender="codex")
    stage.check_result(endpoint.conversation(), "list_inbox", "messages", "unread")
    unread = {one.value.get("unread") for one in endpoint.conversation().exchanges if one.tool == "list_inbox"}
    report.check("after its ack nothing is unread", unread == {0}, unread)


def killed_reader(stage: Stage, host: Host) -> None:
    """A host dies while its model waits; what comes then belongs to the next reader."""
    stage.report.section(f"4. {host.name} is killed while it waits; its mail goes to the next reader")
    script = follow(call("create_mailbox", name=host.name), call("wait_for_message", timeout=_TURN_SECONDS), _ack)
    with stage.run(host, script) as (endpoint, process):
        waits = endpoint.has_called("wait_for_message", _START_SECONDS)
        waits = waits and process.ended(_SETTLING_SECONDS) is None
        stage.report.check(f"{host.name} waits", waits, f"{len(endpoint.requests)} requests")
        code = process.kill()
        # At once: the server may not know yet that nobody is there.
        body = f"Note 4713: sent to {host.name} right after signal {-code}."
        stage.deliver(host.name, body)
    endpoint = stage.play(host, script)
    stage.check_mail(endpoint, body, sender="bystander")


def woken_reader(stage: Stage) -> None:
    """Both hosts are up, one waits for as long as the command line says, then the other writes."""
    stage.report.section(f"5. Claude Code waits {stage.wait:.0f} s; Codex writes and wakes it")
    body = "Note 4714: the migration is done."
    patience = stage.wait + _TURN_SECONDS
    reader = follow(call("create_mailbox", name="claude"), call("wait_for_message", timeout=patience), _ack)
    writer = follow(call("create_mailbox", name="codex"), call("send", to="claude", body=body))
    with stage.run(stage.claude, reader) as (claude, process):
        claude.has_called("wait_for_message", _START_SECONDS)
        waits = process.ended(stage.wait) is None
        stage.report.check("claude still waits", waits, f"after {stage.wait:.0f} s")
        codex = stage.play(stage.codex, writer)
        stage.check_end(stage.claude, process, _TURN_SECONDS)
    stage.check_mail(claude, body, sender="codex")
    heard = claude.first_with(body)
    if heard is not None:
        told = codex.requests[-1]
        waits_made = sum(isinstance(one.move, Call) and one.move.tool == "wait_for_message" for one in claude.requests)
        report = f"{(heard.at - told.at) * 1000:+.0f} ms after Codex's model heard that it was sent"
        stage.report.note(f"Claude's model had the mail {report}, in {waits_made} waits")


def the_wall(stage: Stage) -> None:
    """Nothing of the surrounding shell went in, nothing went out."""
    stage.report.section("6. The hosts were on their own")
    only_ours = stage.keys == {environment.DUMMY_KEY}
    stage.report.check("no key but the dummy was ever sent", only_ours, f"{len(stage.keys)} kind of key")
    stage.report.note(f"asked for besides the model, and refused: {sorted(stage.refused) or 'nothing'}")


def _reply(conversation: Conversation) -> Call:
    return Call("send", {"to": "claude", "reply_to": conversation.mail()["id"], "body": _ANSWER})


def _ack(conversation: Conversation) -> Call:
    return Call("settle", {"ids": [conversation.mail()["id"]], "outcome": "ack"})
