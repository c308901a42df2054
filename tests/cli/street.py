"""A home, and the agents and watchers that live there, each a real process that a test talks with line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fronts.world import Edged, Home, Served
from tests.relay.world import Host

PROGRAM = [sys.executable, "-P", "-m", "mcp_mailbox"]


class Agent:
    """A host with a mailbox that writes its lines by hand."""

    def __init__(self, host: Host, name: str | None, calls_itself: str = "test") -> None:
        self.host = host
        self.count = 0
        client = {"name": calls_itself, "version": "1"}
        self.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
        self.host.send_raw(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        if name is not None:
            self.call("create_mailbox", name=name)

    def ask(self, method: str, params: object) -> Any:
        self.count += 1
        asked = {"jsonrpc": "2.0", "id": self.count, "method": method, "params": params}
        self.host.send_raw(json.dumps(asked).encode() + b"\n")
        while (answer := self.host.line()).get("id") != self.count:
            pass
        return answer["result"]

    def call(self, tool: str, **arguments: object) -> Any:
        answer = self.ask("tools/call", {"name": tool, "arguments": arguments})
        assert not answer.get("isError"), answer
        return answer["structuredContent"]

    def send(self, to: str = "builder", **options: object) -> None:
        self.call("send", to=to, body="a secret", **options)


class Street:
    """A home, and the agents and watchers that live there."""

    def __init__(self, directory: Path) -> None:
        """`TESTS_FRONTS=edge` makes it the edge of a hub of its own."""
        self.hub: Served | None = None
        self.home = Home(directory)
        if os.environ.get("TESTS_FRONTS") == "edge":
            there = directory / "hub"
            there.mkdir()
            self.hub = Served(there).start()
            self.home = Edged(directory, self.hub)
        self.directory = directory
        self.hosts: list[Host] = []
        self.watchers: list[subprocess.Popen[str]] = []

    def agent(self, name: str | None, calls_itself: str = "test", **env: str) -> Agent:
        host = self.home.host(**env)
        self.hosts.append(host)
        return Agent(host, name, calls_itself)

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments],
            env=self.home.environment(**env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def watch(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*PROGRAM, "watch", *arguments],
            env=self.home.environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.watchers.append(process)
        return process

    def end(self) -> None:
        for process in self.watchers:
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):  # not to their end: a worker that it left may hold them open
                if pipe is not None:
                    pipe.close()
        for host in self.hosts:
            host.end()
        self.home.end()
        if self.hub is not None:
            self.hub.end()
