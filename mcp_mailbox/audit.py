"""The audit log: who asked for what, when, by which way, and what came of it; JSON lines beside the store.

Never what mail says, a subject, a name of a file, or a secret: an entry has no field for them, and nothing that a
caller wrote is taken over before the store has recognised it. It is written behind the call, in a thread, and not
synced: a crash loses a quarter of a second of it, a call never waits for it. What it means is not known here.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread

from mcp_mailbox import files
from mcp_mailbox.budgets import Budget

logger = logging.getLogger(__name__)

VARIABLE = "MCP_MAILBOX_AUDIT"
FILE = "audit.jsonl"
LIMIT = 16 << 20
"""Bytes after which a file begins anew: about 80,000 calls."""
OLDER = 4
"""Files before it that are kept: `.1` is the newest of them."""
FLUSH_SECONDS = 0.25
_WAITING = 20_000
"""Entries that wait for a disk that is slow or full; more are counted, and the count is written."""
_MINUTE = 60 * 1000
_REFUSED = 60
"""Refused requests a minute that have an entry each; the next one says how many had none."""
_spell = json.JSONEncoder(separators=(",", ":")).encode
DONE = "done"


class Entry(NamedTuple):
    """One line: its names, in this order. `outcome` is `done`, or the code of why not."""

    verb: str
    outcome: str
    way: str
    """By which way it came: stdio, http, terminal."""
    principal: str = ""
    credential: str = ""
    """The id of the credential, which is no secret."""
    reader: str = ""
    """The beginning of its id: enough to tell readers apart, too little to be one."""
    mailbox: str = ""
    """The address that the call acted for."""
    ids: Sequence[str] = ()
    """Of messages, and of tokens in the commands about these."""
    to: Sequence[str] = ()
    """Who gets what was sent."""
    client: str = ""
    """The network address of who was refused before it was known who it is."""
    suppressed: int = 0
    """How many refused requests before this one have no entry."""


class Trail:
    """Writes the log in the directory of a store. `now` is the time in ms since 1970 UTC."""

    def __init__(self, home: Path, now: Callable[[], int]) -> None:
        self._path = home / FILE
        self._now = now
        self._waiting: list[tuple[int, Entry]] = []
        self._some = anyio.Event()
        self._dropped = 0
        self._failed = False
        self._refusals = Budget(_REFUSED, _MINUTE)
        self._suppressed = 0

    def note(self, entry: Entry) -> None:
        """Have it written soon."""
        if len(self._waiting) >= _WAITING:
            self._dropped += 1
            return
        self._waiting.append((self._now(), entry))
        self._some.set()

    def refused(self, outcome: str, *, client: str, principal: str = "", credential: str = "") -> None:
        """Have a request over HTTP that was let in by nobody, or too often, written soon; not each one of a flood."""
        now = self._now()
        if self._refusals.free_at(outcome, now) > now:
            self._suppressed += 1
            return
        self._refusals.take(outcome, now)
        entry = Entry("request", outcome, "http", principal, credential, client=client, suppressed=self._suppressed)
        self._suppressed = 0
        self.note(entry)

    async def run(self) -> None:
        """Write what is noted, until cancelled; what is left is written then."""
        try:
            while True:
                await self._some.wait()
                await anyio.sleep(FLUSH_SECONDS)  # calls that come together are one write
                self._some = anyio.Event()
                await self._flush()
        finally:
            with anyio.CancelScope(shield=True):
                await self._flush()

    async def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        dropped, self._dropped = self._dropped, 0
        if dropped:
            waiting.append((self._now(), Entry("dropped", "store_failed", "audit", suppressed=dropped)))
        if waiting:
            await anyio.to_thread.run_sync(self._write, waiting)

    def _write(self, entries: Sequence[tuple[int, Entry]]) -> None:
        try:
            descriptor = files.open_private(str(self._path), os.O_WRONLY | os.O_APPEND)
            try:
                data = memoryview("".join(_line(at, entry) + "\n" for at, entry in entries).encode())
                while data:
                    data = data[os.write(descriptor, data) :]
                full = os.fstat(descriptor).st_size >= LIMIT
            finally:
                os.close(descriptor)
            if full:
                self._rotate()
            self._failed = False
        except OSError as error:
            if not self._failed:
                logger.warning("calls are not audited: %s", error)
            self._failed = True
            self._dropped += len(entries)

    def _rotate(self) -> None:
        for number in range(OLDER - 1, 0, -1):
            older = _numbered(self._path, number)
            if older.exists():
                older.replace(_numbered(self._path, number + 1))
        self._path.replace(_numbered(self._path, 1))


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


@lru_cache(maxsize=4)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _line(at: int, entry: Entry) -> str:
    moment = f"{_second(at // 1000)}.{at % 1000:03}Z"
    return _spell({"at": moment} | {name: value for name, value in zip(Entry._fields, entry, strict=True) if value})


def entries(home: Path) -> Iterator[dict[str, Any]]:
    """Yield all that is kept, the oldest first; what is no entry is passed over."""
    path = home / FILE
    for each in (*(_numbered(path, number) for number in range(OLDER, 0, -1)), path):
        try:
            with each.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    try:
                        found = json.loads(line)
                    except ValueError:
                        continue  # half of a line, when the disk was full
                    if isinstance(found, dict) and isinstance(found.get("at"), str):
                        yield found
        except OSError:
            continue
