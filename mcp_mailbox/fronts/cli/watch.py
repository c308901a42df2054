"""`mcp-mailbox watch`: start a worker, or call a URL, when mail comes to a mailbox.

Nothing is leased here: whoever is started takes the mail by itself, and what it leaves is found at the next look. So
this process may be killed at any moment and started again, and no mail is lost by it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mcp_mailbox import rendezvous
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts.cli import exits, person, shown
from mcp_mailbox.fronts.cli.asking import ask

Json = dict[str, Any]
Run = Callable[[argparse.Namespace], int]

SECRET = "MCP_MAILBOX_WEBHOOK_SECRET"  # noqa: S105 - its name
_PATIENCE = 300.0
"""Seconds of one question to the post office."""
_SILENCE = 30.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0
"""Seconds before a worker that failed, or that left its mail, is started again: doubled each time."""
_MISTAKES = {"bad_name", "bad_argument", "unknown_mailbox", "home_unusable", "config_mismatch"}
"""Refusals that whoever typed the command can mend; anything else may be over in a moment."""


def add(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `watch`."""
    parser.description = (
        "Start a program, or call a webhook, when mail comes. It is told how much, from whom and where, as"
        " JSON on stdin and in MCP_MAILBOX_POINTER; it takes the mail by itself, as the mailbox in MCP_MAILBOX_ADDRESS."
        " One runs at a time; when it fails or leaves its mail, it is started again, later each time."
        f" A webhook is signed if {SECRET} is set: Mailbox-Signature: t=TIME,v1=HMAC-SHA256 of TIME.BODY."
    )
    parser.add_argument("--mailbox", metavar="ADDRESS", help=f"whose mail (default: {person.ADDRESS})")
    parser.add_argument("--space", help=person.SPACE_HELP)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--exec", nargs=argparse.REMAINDER, metavar="CMD", help="the program, with all that follows")
    what.add_argument("--webhook", metavar="URL", help="http or https, at a public address; redirects are not followed")
    parser.add_argument("--allow-private", action="store_true", help="let the webhook be in your own network")
    parser.add_argument("--once", action="store_true", help="leave after the first time, with the program's exit code")

    def run(chosen: argparse.Namespace) -> int:
        mailbox = chosen.mailbox or os.environ.get(person.ADDRESS)
        if not mailbox:
            parser.error(f"whose mail? Give --mailbox NAME, or set {person.ADDRESS}")
        signal.signal(signal.SIGTERM, _asked)  # so that what runs is ended too
        try:
            worker: Worker = (
                Hook(chosen.webhook, private=chosen.allow_private) if chosen.webhook else Program(chosen.exec)
            )
        except Refusal as refusal:
            parser.error(str(refusal))
        return Watch(mailbox, person.space(chosen), worker).run(once=chosen.once)

    return run


class Asked:
    """SIGTERM: it ends this process by an exception, but never between the start of a program and our knowing of it."""

    def __init__(self) -> None:
        self._held = False
        self._came = 0

    def __call__(self, number: int, _: object) -> None:
        """Handle the signal."""
        self._came = number
        self._leave()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold it until the block ends."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self._leave()

    def _leave(self) -> None:
        if self._came and not self._held:
            sys.exit(128 + self._came)


_asked = Asked()


class Worker:
    """What is started when mail comes. `leaves` tells that mail which is still there was left by it."""

    kind = ""
    leaves = True

    def work(self, pointer: Json) -> tuple[int, str]:
        """Do it to its end; return 0, or an exit code and why."""
        raise NotImplementedError


class Program(Worker):
    """A program that takes the mail by itself."""

    kind = "exec"

    def __init__(self, command: list[str]) -> None:
        if not command:
            raise Refusal(Code.BAD_ARGUMENT, "--exec has no program.", "Write it last: --exec CMD ARGUMENTS…")
        self._command = command

    def work(self, pointer: Json) -> tuple[int, str]:
        """Run it, with the pointer on its stdin."""
        text = json.dumps(pointer)
        told = {"MCP_MAILBOX_POINTER": text, "MCP_MAILBOX_ADDRESS": pointer["mailbox"]}
        process: subprocess.Popen[bytes] | None = None
        try:
            with _asked.held():
                process = subprocess.Popen(self._command, stdin=subprocess.PIPE, env=os.environ | told)  # noqa: S603
            with contextlib.suppress(BrokenPipeError):
                process.communicate(text.encode() + b"\n")
            code = process.wait()
        except OSError as error:
            return 127, f"{self._command[0]}: {error.strerror}"
        finally:
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait()
        return code, f"it ended with {code}" if code else ""


class Hook(Worker):
    """A URL. Whoever is behind it may take its time: mail that is still there is no reason to call again."""

    kind = "webhook"
    leaves = False

    def __init__(self, url: str, *, private: bool) -> None:
        from mcp_mailbox.doorbells.webhook import Webhook  # noqa: PLC0415 - TLS and HTTP are 40 ms

        self._webhook = Webhook(url, os.environ.get(SECRET, "").encode(), private=private)

    def work(self, pointer: Json) -> tuple[int, str]:
        """Call it."""
        result = self._webhook.ring(pointer)
        return (exits.NOTHING, result.reason) if result.reason else (exits.DONE, "")


class Watch:
    """Watches one mailbox for one worker."""

    def __init__(self, mailbox: str, space: str, worker: Worker) -> None:
        self._mailbox = mailbox
        self._space = space
        self._worker = worker
        self._pause = 0.0
        self._told: list[str] = []
        """What need not be told of again."""
        self._tried: set[str] = set()
        """What the worker was started for last, if it may have left that."""
        self._failed = False

    def run(self, *, once: bool) -> int:
        """Watch for ever; raises rendezvous.Refused for what only a person can mend."""
        while True:
            found = self._next()
            if found is not None and (self._failed or set(found["news"]) <= self._tried):
                self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self._pause))
                time.sleep(self._pause)
                found = self._next()  # somebody may have taken it meanwhile
            else:
                self._pause = 0.0
            if found is not None:
                code = self._start(found, found.pop("news"))
                if once:
                    return code

    def _start(self, found: Json, news: list[str]) -> int:
        """Start the worker, and return how it ended."""
        if self._worker.leaves:
            self._report(found, "")  # as soon as it starts: what comes while it works is another matter
        code, reason = self._worker.work(found)
        if reason or not self._worker.leaves:
            self._report(found, reason)
        self._told = [] if code or self._worker.leaves else news
        self._tried = set(news)
        self._failed = bool(code)
        return code

    def _next(self) -> Json | None:
        """Return what has come, None when nothing has for a while or the post office is away."""
        try:
            found = ask(
                "watch",
                lambda _: None,
                _SILENCE,
                mailbox=self._mailbox,
                space=self._space,
                besides=self._told,
                patience=_PATIENCE,
            )
        except rendezvous.Refused as refused:
            if refused.code in _MISTAKES:
                raise
            time.sleep(_FIRST_PAUSE)
            return None
        return found if "news" in found else None

    def _report(self, found: Mapping[str, Any], reason: str) -> None:
        """Have the ring noted, and say what went wrong."""
        if reason:
            print(f"mcp-mailbox: {shown.line(found['mailbox'])}: {shown.line(reason)}", file=sys.stderr, flush=True)  # noqa: T201
        with contextlib.suppress(rendezvous.Refused):  # it was rung all the same
            ask(
                "rang",
                mailbox=found["mailbox"],
                space=self._space,
                kind=self._worker.kind,
                reason=reason,
                messages=found["messages"],
                urgent=found["urgent"],
                senders=found["from"],
            )
