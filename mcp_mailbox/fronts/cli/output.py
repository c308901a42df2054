"""Where an export goes: a file or a directory that appears whole or not at all, or standard output.

What is written is synced in pieces, so that nobody's `send` waits for all of it. Formats are not known here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from mcp_mailbox import rendezvous

_SYNC_EVERY = 8 << 20


class Output(Protocol):
    """What takes messages."""

    def write(self, text: bytes) -> None:
        """Append to it."""
        ...


class File:
    """A file that is open, synced now and then."""

    def __init__(self, file: BinaryIO, *, synced: bool) -> None:
        self._file = file
        self._synced = synced
        self._unsynced = 0

    def write(self, text: bytes) -> None:
        """Append to it."""
        self._file.write(text)
        self._unsynced += len(text)
        if self._unsynced > _SYNC_EVERY:
            self.sync()

    def sync(self) -> None:
        """Have it on disk, if it is a file."""
        self._file.flush()
        self._unsynced = 0
        if self._synced:
            os.fsync(self._file.fileno())


class Maildir:
    """A Maildir (https://cr.yp.to/proto/maildir.html) that nobody else sees yet, so `tmp` has no part in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        for name in ("tmp", "new", "cur"):
            (directory / name).mkdir(0o700)

    def add(self, text: bytes, accepted_at: int, id_: str, *, seen: bool) -> None:
        """Add a message; what nobody has settled is new."""
        self._count += 1
        # In the order of acceptance by name; no host in it: an export is the same wherever it is made.
        name = f"{accepted_at // 1000}.M{accepted_at % 1000 * 1000}Q{self._count}.{id_}"
        path = self._directory / ("cur" if seen else "new") / (f"{name}:2,S" if seen else name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(text)


class Beside:
    """Files that a file links to, in a directory beside it that is there once it has one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.partial: Path | None = None

    def add(self, id_: str, contents: Mapping[str, bytes]) -> Mapping[str, str]:
        """Add a message's attachments; return where each is, seen from the file."""
        links = {}
        for name, content in contents.items():
            if self.partial is None:
                self.partial = Path(
                    tempfile.mkdtemp(".partial", f".{self.directory.name[:100]}.", self.directory.parent)
                )
            place = self.partial / id_
            place.mkdir(0o700, exist_ok=True)
            descriptor = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(content)
            links[name] = f"{self.directory.name}/{id_}/{name}"
        return links


def absent(path: Path) -> None:
    """Raise rendezvous.Refused when something is there."""
    if os.path.lexists(path):
        raise rendezvous.Refused("exists", f"{path} exists. Choose another name; an export replaces nothing.")


@contextlib.contextmanager
def standard() -> Iterator[File]:
    """Write to standard output."""
    output = File(sys.stdout.buffer, synced=False)
    yield output
    output.sync()


@contextlib.contextmanager
def file(path: Path) -> Iterator[File]:
    """Write a file that gets its name once it is whole, if that is free then."""
    absent(path)
    with _trouble(path):
        descriptor, name = tempfile.mkstemp(".partial", f".{path.name[:100]}.", path.parent)
        partial = Path(name)
        try:
            with open(descriptor, "wb") as opened:  # noqa: PTH123 - a descriptor
                output = File(opened, synced=True)
                yield output
                output.sync()
            absent(path)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def maildir(path: Path) -> Iterator[Maildir]:
    """Write a Maildir that gets its name once it is whole, if that is free then."""
    absent(path)
    with _trouble(path):
        partial = Path(tempfile.mkdtemp(".partial", f".{path.name[:100]}.", path.parent))
        try:
            yield Maildir(partial)
            absent(path)
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Beside]:
    """Write files into a directory beside that file, which gets its name once they are all there."""
    several = Beside(path.with_name(f"{path.name}.attachments"))
    absent(several.directory)
    with _trouble(several.directory):
        try:
            yield several
            if several.partial is not None:
                absent(several.directory)
                several.partial.rename(several.directory)
        finally:
            if several.partial is not None:
                shutil.rmtree(several.partial, ignore_errors=True)


@contextlib.contextmanager
def _trouble(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "Choose a directory that is there, that you may write, and that has room."
        raise rendezvous.Refused("unwritable", f"{path} cannot be written: {error.strerror}. {hint}") from error
