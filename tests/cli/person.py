"""Somebody at a shell or a terminal, in a home that several tests share; each one has a space of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from mcp_mailbox import frames, rendezvous

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-m", "mcp_mailbox")
DEADLINE = 60
_SPACES = count(1)
Done = subprocess.CompletedProcess[str]


class Home:
    """A directory with a store; HOME of everybody in it."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.settings = settings
        self.store = directory / ".mcp-mailbox"

    def person(self, name: str | None = "ann", space: str | None = None) -> Person:
        return Person(self, name, space or f"s{next(_SPACES)}")

    def end(self) -> None:
        if rendezvous.office_lives(str(self.store)):
            rendezvous.stop(str(self.store))


class Person:
    """Types commands."""

    def __init__(self, home: Home, name: str | None, space: str) -> None:
        self.home = home
        self.name = name
        self.space = space
        self.environment = {
            "HOME": str(home.directory),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "MCP_MAILBOX_SPACE": space,
            **home.settings,
            **({"MCP_MAILBOX_ADDRESS": name} if name is not None else {}),
        }

    def beside(self, name: str) -> Person:
        """Return somebody else in the same space."""
        return Person(self.home, name, self.space)

    def run(self, *arguments: str, stdin: str | bytes = "", **env: str) -> Done:
        done = subprocess.run(
            [*PROGRAM, *arguments],
            input=stdin if isinstance(stdin, bytes) else stdin.encode(),
            env=self.environment | env,
            cwd=self.home.directory,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return Done(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def does(self, *arguments: str, stdin: str | bytes = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def sends(self, to: str, body: str = "hello", *options: str) -> str:
        """Send it; return its id."""
        found: str = self.json("send", to, "-b", body, *options)["id"]
        return found

    @contextmanager
    def start(self, *arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        """Run it for as long as the block lasts, or until it ends."""
        with subprocess.Popen(
            [*PROGRAM, *arguments],
            env=self.environment | env,
            cwd=self.home.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def terminal(self, *arguments: str, columns: int = 80, typed: bytes = b"", **env: str) -> tuple[int, str]:
        """Run it at a terminal so wide; return its exit code and what it wrote there."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            [*PROGRAM, *arguments],
            env=self.environment | {"TERM": "xterm-256color"} | env,
            cwd=self.home.directory,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # So that Ctrl-C and Ctrl-D mean something.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - these tests have no threads
        )
        os.close(theirs)
        if typed:
            os.write(ours, typed)
        written = b""
        while block := _read(ours):
            written += block
        os.close(ours)
        assert b"Traceback" not in written, written.decode()
        return process.wait(DEADLINE), written.decode().replace("\r\n", "\n")

    def waits(self) -> None:
        """Return once somebody waits for mail."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            answer = rendezvous.ask(str(self.home.store), frames.STATUS)
            if answer is not None and json.loads(answer)["readers"]:
                return
            time.sleep(0.01)
        raise AssertionError("nobody waits")


def follows(process: subprocess.Popen[str]) -> None:
    """Return once it would tell of mail."""
    assert process.stderr is not None
    assert process.stderr.readline() == "Waiting for mail; Ctrl-C ends it.\n"


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says so when the other end is closed
        return b""


_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def plain(written: str) -> str:
    """Return what a terminal shows, without its colours."""
    return _STYLE.sub("", written)


def columns_of(table: str) -> Sequence[str]:
    """Return the titles of a table."""
    return table.splitlines()[0].split()
