"""What every scenario has at hand: the hosts, the server, and the checks that they share.

What counts is the next request of a host to its model: only what stands there has reached the agent.
"""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.hosts import environment, plain_client
from tests.hosts.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hosts.conversation import Conversation, Script
    from tests.hosts.hosts import Host, Server
    from tests.hosts.processes import Process
    from tests.hosts.report import Report

_LEAN = 1024
START_SECONDS = 30.0
TURN_SECONDS = 90.0
_COMMAND_SECONDS = 30.0


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
            self.check_end(host, process, TURN_SECONDS)
        return endpoint

    def command(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Let a person run a command in a repository of theirs, where `mcp-mailbox` knows the store."""
        place = self.root / "repository"
        place.mkdir(exist_ok=True)
        return subprocess.run(
            command,
            cwd=place,
            env=environment.bare(self.root / "bystander") | self.server.environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )

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
