"""What setup has done, so that it can be undone: `setup.json` and the backups, in the store's home, 0600.

The records of a file are a stack: what was done last is undone first. Knows no formats.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mcp_mailbox import rendezvous
from mcp_mailbox.setup import disk
from mcp_mailbox.setup.trouble import Unfit

_BOOK = "setup.json"
_BACKUPS = "setup-backups"
_VERSION = 1


def digest(data: bytes | None) -> str | None:
    """Return what a file's contents are recognised by."""
    return None if data is None else hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Record:
    """One file that was changed."""

    host: str
    scope: str
    name: str
    """The server's, in that file."""
    file: str
    at: str
    before: str | None
    """Digest of what was there; None: nothing."""
    after: str
    """Digest of what was written."""
    backup: str | None
    """The backup's file name."""
    mode: int
    entry: dict[str, Any]
    """What was registered."""
    previous: dict[str, Any] | None
    """The entry that was there, if it was one of ours already."""
    trace: dict[str, Any]
    """What the format needs to take the entry out to the byte."""
    beside: dict[str, Any] | None = None
    """What was put into a list elsewhere in the file: `path`, `element`, `trace`."""
    besides: list[dict[str, Any]] = field(default_factory=list)
    """The same, of a file in which nothing else was changed; in the order in which it was done."""
    made: list[str] = field(default_factory=list)
    """Directories that were not there."""


class Book:
    """All records, of one store's home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file = home / _BOOK

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other setups away. Raises Unfit while there is one, and rendezvous.Refused for a home that is none."""
        rendezvous.prepare_home(str(self._home))
        descriptor = os.open(self._home / f"{_BOOK}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise Unfit("Another setup is at it.", "Run this again when it is done.") from None
        try:
            self.sweep()
            self._drop_empty()
            yield
        finally:
            os.close(descriptor)

    def sweep(self) -> None:
        """Remove what a setup that was killed has left here."""
        disk.sweep(self._home, _BOOK)
        disk.sweep(self._home / _BACKUPS)

    def records(self) -> list[Record]:
        """Return them, oldest first. Raises Unfit for a book that is not ours to read."""
        file = disk.read(self._file)
        if file.data is None:
            return []
        try:
            book = json.loads(file.data)
            if book["version"] != _VERSION:
                raise Unfit(f"{self._file} was written by another version.", "Run `setup` of that version.")
            return [Record(**each) for each in book["records"]]
        except (ValueError, KeyError, TypeError):
            raise Unfit(f"{self._file} cannot be read.", f"Backups are in {self._home / _BACKUPS}.") from None

    def add(self, record: Record) -> None:
        """Remember it, on disk when this returns."""
        self._write([*self.records(), record])

    def remove(self, record: Record) -> None:
        """Forget it, and its backup; that first, since nothing else leads to it."""
        if record.backup:
            disk.remove(self.backup(record.backup))
        self._write([each for each in self.records() if each != record])
        self._drop_empty()

    def name_backup(self, path: Path) -> str:
        """Return what a backup of that file is to be called. The record has it first: then none is left unknown."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        return f"{path.name.lstrip('.')}.{stamp}"

    def keep(self, name: str, data: bytes) -> None:
        """Keep a backup under that name."""
        disk.make_directories(self._home / _BACKUPS)
        disk.replace(disk.File(self.backup(name), None), data, 0o600)

    def backup(self, name: str) -> Path:
        """Return where a backup is."""
        return self._home / _BACKUPS / name

    def _drop_empty(self) -> None:
        with contextlib.suppress(OSError):
            (self._home / _BACKUPS).rmdir()

    def _write(self, records: list[Record]) -> None:
        if not records:
            disk.remove(self._file)
            return
        book = {"version": _VERSION, "records": [asdict(each) for each in records]}
        disk.replace(disk.File(self._file, None), json.dumps(book, indent=1).encode(), 0o600)
