"""What clients asked and what they heard, as JSON lines; and reading that again.

Two lines an operation, as Jepsen does it: one before the request leaves, one when its fate is known. A host that is
killed in between leaves the first one only, which is `unknown`, as are a time-out and a lost connection. An operation
is `fail` only when the server said that it did not happen.

All times are ns since 1970 on one clock: CLOCK_MONOTONIC, which every process of a machine shares, shifted once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Result = Literal["ok", "fail", "unknown"]


@dataclass(slots=True)
class Op:
    """One operation. Of `unknown` ones `complete_ns` is when the client gave up, None when it was killed."""

    client: str
    session: str
    op: str
    invoke_ns: int
    args: Mapping[str, Any]
    result: Result = "unknown"
    complete_ns: int | None = None
    answer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where to look for it in the histories."""
        return f"{self.op} of {self.session} at {self.invoke_ns}"


@dataclass(slots=True)
class Session:
    """A client's time on one connection: with a relay, or over HTTP (then `relay` is the client itself)."""

    name: str
    client: str
    host: int
    relay: int
    began_ns: int
    ended_ns: int | None = None
    """When the client left by itself."""
    lost: bool = False
    """The connection ended by itself."""
    over: str = "stdio"


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault that was done: the processes were sent the signal just after `ns`."""

    ns: int
    kind: str
    deadly: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """What an edge's outbox took in, as its file says in the end: times are the edge's own, to the millisecond."""

    number: int
    verb: str
    mailbox: str
    given: Mapping[str, Any]
    asked_ns: int
    answered_ns: int | None = None
    answer: Mapping[str, Any] | None = None
    """What the hub answered; None: nothing."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How long readers went on after the last fault: until all inboxes were empty, or for as long as they were let."""

    began_ns: int
    ended_ns: int
    emptied: bool


@dataclass(slots=True)
class Histories:
    """All that a run left behind. `left` is what was still in an inbox at the end: id, state by mailbox."""

    ops: list[Op] = field(default_factory=list)
    sessions: dict[str, Session] = field(default_factory=dict)
    strikes: list[Strike] = field(default_factory=list)
    left: dict[str, dict[str, str]] = field(default_factory=dict)
    outbox: dict[int, Entry] = field(default_factory=dict)
    """By number."""
    wait: Wait | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The run's clock."""

    shift: int

    @classmethod
    def start(cls) -> Timeline:
        return cls(time.time_ns() - time.monotonic_ns())

    def now(self) -> int:
        return time.monotonic_ns() + self.shift


class Recorder:
    """Writes one client's history; each line reaches the file before the call returns, so a kill takes nothing."""

    def __init__(self, path: Path, timeline: Timeline) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._timeline = timeline
        self._number = 0

    def session(self, name: str, client: str, relay: int, over: str) -> None:
        self._line(t="session", session=name, client=client, host=os.getpid(), relay=relay, over=over)

    def ended(self, name: str, *, lost: bool) -> None:
        self._line(t="ended", session=name, lost=lost)

    def invoke(self, session: str, op: str, args: Mapping[str, Any]) -> int:
        self._number += 1
        self._line(t="invoke", n=self._number, session=session, op=op, args=args)
        return self._number

    def complete(self, number: int, result: Result, answer: Mapping[str, Any]) -> None:
        self._line(t="complete", n=number, result=result, answer=answer)

    def left(self, mailbox: str, states: Mapping[str, str]) -> None:
        self._line(t="left", mailbox=mailbox, states=states)

    def outbox(self, entry: Entry) -> None:
        self._line(t="outbox", entry=asdict(entry))

    def waited(self, began_ns: int, *, emptied: bool) -> None:
        self._line(t="waited", began=began_ns, emptied=emptied)

    def strike(self, kind: str, deadly: Iterable[int]) -> None:
        self._line(t="strike", kind=kind, deadly=list(deadly))

    def _line(self, **entry: Any) -> None:
        text = json.dumps({"ns": self._timeline.now(), **entry}, separators=(",", ":"))
        os.write(self._descriptor, text.encode() + b"\n")


def load(paths: Iterable[Path]) -> Histories:
    """Read every file."""
    found = Histories()
    for path in paths:
        _add(found, path)
    found.ops.sort(key=lambda op: op.invoke_ns)
    found.strikes.sort(key=lambda strike: strike.ns)
    return found


def _add(found: Histories, path: Path) -> None:
    under_way: dict[int, Op] = {}
    for entry in _entries(path):
        match entry["t"]:
            case "session":
                name, client = entry["session"], entry["client"]
                pids = (entry["host"], entry["relay"])
                found.sessions[name] = Session(name, client, *pids, entry["ns"], over=entry["over"])
            case "ended":
                session = found.sessions[entry["session"]]
                session.lost = entry["lost"]
                session.ended_ns = None if session.lost else entry["ns"]
            case "invoke":
                client = found.sessions[entry["session"]].client
                op = Op(client, entry["session"], entry["op"], entry["ns"], entry["args"])
                under_way[entry["n"]] = op
                found.ops.append(op)
            case "complete":
                op = under_way.pop(entry["n"])
                op.complete_ns, op.result, op.answer = entry["ns"], entry["result"], entry["answer"]
            case "left":
                found.left[entry["mailbox"]] = entry["states"]
            case "outbox":
                found.outbox[entry["entry"]["number"]] = Entry(**entry["entry"])
            case "waited":
                found.wait = Wait(entry["began"], entry["ns"], entry["emptied"])
            case "strike":
                found.strikes.append(Strike(entry["ns"], entry["kind"], tuple(entry["deadly"])))


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):  # what was torn by a kill never happened, as far as its writer knew
            yield json.loads(line)
