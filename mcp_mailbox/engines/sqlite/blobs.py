"""Contents of attachments: a file each, beside the store, named after its SHA-256. Who names one is not known here.

A content is written beside its place, synced, and gets its name by one rename: it is there whole or not at all. Each
time the same content comes it takes the place of the one that is there, so that one that was damaged is mended. Nobody
writes to such a file: its mode says so, and whoever wants one for himself gets a copy.

Of two that look at one content at once (somebody is about to name it, somebody finds that nobody does), the second sees
that it is held, or that its file is not the one that was looked at.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp_mailbox.attachment import Content
from mcp_mailbox.engines.sqlite.schema import beside, sync_directory
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.store import Source

BLOCK = 1 << 18
"""Bytes that are read and written at once."""
_SYNC_EVERY = 1 << 20
"""File systems sync more than they are asked to: a commit of the writer would wait for all that is not on disk yet."""
_SUFFIX = ".attachments"
_PARTIAL = ".partial"
_PREFIX = 2
_DIGITS = 64


class Gone(Exception):  # noqa: N818 - what is said of a content
    """It is not there, or not what it was; the text says which."""


@dataclass(frozen=True, slots=True)
class Found:
    """A content's file as it was when it was looked at; `kept_at` is when it was kept last, in the store's ms.

    Two are equal when it is the same file, unchanged: a number of an inode may be another file's later.
    """

    sha256: str
    kept_at: int
    size: int
    inode: int
    changed: int


def directory_of(store: Path) -> Path:
    """Return where the contents of a store's file lie: beside it, as its journal does."""
    return beside(store, _SUFFIX)


class Blobs:
    """The contents of one store. Any thread may call. `now` is the store's time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._life = secrets.token_hex(8)
        self._numbers = 0
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        self._resting = 0

    @property
    def size(self) -> int:
        """Bytes of all contents, as far as they have been counted (`slices`)."""
        return sum(self._sizes.copy().values())

    def path(self, sha256: str) -> Path:
        """Return where a content lies."""
        return self.directory / sha256[:_PREFIX] / sha256[_PREFIX:]

    # -- writing

    def keep(self, source: Source, limit: int, now: int) -> Content | None:
        """Write a content and hold it; None when it has more than `limit` bytes. Raises as `Tray.keep`."""
        with self._lock:
            self._numbers += 1
            partial = self.directory / f".{self._life}-{self._numbers}{_PARTIAL}"
        try:
            self._make(self.directory)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                content = _pour(source, descriptor, limit)
                if content is None:
                    return None
                os.fchmod(descriptor, 0o400)
                os.utime(descriptor, ns=(now * 1_000_000, now * 1_000_000))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._place(partial, content)
        except OSError as error:
            raise _unwritten(self.directory, error) from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()
        return content

    def _place(self, partial: Path, content: Content) -> None:
        target = self.path(content.sha256)
        self._make(target.parent)
        with self._lock:
            fresh = not target.exists()
            partial.replace(target)
            self._held[content.sha256] += 1
            prefix = target.parent.name
            if fresh:
                self._sizes[prefix] = self._sizes.get(prefix, 0) + content.size
        try:
            sync_directory(target.parent)
        except OSError:
            self.let_go(content.sha256)
            raise

    def _make(self, directory: Path) -> None:
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            sync_directory(directory.parent)

    def let_go(self, sha256: str) -> Found | None:
        """Hold it once less; return it if nobody does any more."""
        with self._lock:
            self._held[sha256] -= 1
            if self._held[sha256] > 0:
                return None
            del self._held[sha256]
            return self._look(sha256)

    # -- reading

    def read(self, sha256: str) -> bytes:
        """Return a content. Raises Gone when it is not what was kept, or not there."""
        path = self.path(sha256)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise Gone("is missing") from None
        except OSError as error:
            raise Gone(f"cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Gone("is damaged")
        return content

    # -- letting go

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Let nothing be removed by who goes through all, for as long as the block lasts."""
        with self._lock:
            self._resting += 1
        try:
            yield
        finally:
            with self._lock:
                self._resting -= 1

    def slices(self) -> Iterator[Sequence[Found]]:
        """Yield all contents that nobody holds, some at a time; counts them, and clears away what a crash left."""
        if not self.directory.is_dir():
            return
        for leftover in self.directory.glob(f".*{_PARTIAL}"):
            if not leftover.name.startswith(f".{self._life}-"):
                leftover.unlink(missing_ok=True)
        for directory in sorted(each for each in self.directory.iterdir() if len(each.name) == _PREFIX):
            with self._lock:
                names = [name for name in os.listdir(directory) if len(name) == _DIGITS - _PREFIX]  # noqa: PTH208
                found = [self._look(directory.name + name) for name in names]
                there = [each for each in found if each is not None]
                self._sizes[directory.name] = sum(each.size for each in there)
                free = [each for each in there if each.sha256 not in self._held]
            yield free

    def remove(self, found: Found, *, although_resting: bool = False) -> bool:
        """Remove a content, unless somebody has kept it since it was found; return whether it has."""
        with self._lock:
            # Who holds it now has kept it since it was found, when nobody did: that made another file of it.
            if self._look(found.sha256) != found or (self._resting and not although_resting):
                return False
            path = self.path(found.sha256)
            path.unlink()
            if path.parent.name in self._sizes:
                self._sizes[path.parent.name] -= found.size
        return True

    def _look(self, sha256: str) -> Found | None:
        try:
            found = self.path(sha256).lstat()
        except OSError:
            return None
        return Found(sha256, found.st_mtime_ns // 1_000_000, found.st_size, found.st_ino, found.st_ctime_ns)


def _pour(source: Source, descriptor: int, limit: int) -> Content | None:
    digest = hashlib.sha256()
    size = unsynced = 0
    while block := source(BLOCK):
        size += len(block)
        if size > limit:
            return None
        digest.update(block)
        unsynced += len(block)
        while block:
            block = block[os.write(descriptor, block) :]
        if unsynced >= _SYNC_EVERY:
            os.fsync(descriptor)
            unsynced = 0
    return Content(digest.hexdigest(), size)


def _unwritten(directory: Path, error: OSError) -> Refusal:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal(
            Code.STORE_FULL, "The disk is full; nothing was stored.", "Free some space, then do the same again."
        )
    return Refusal(
        Code.STORE_FAILED,
        f"Nothing can be attached: {directory} cannot be written ({error.strerror}); nothing was stored.",
        "See to its permissions, or send without attachments.",
    )
