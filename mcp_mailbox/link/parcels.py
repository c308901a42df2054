"""Files on their way to the hub: copies beside the outbox, on disk before `send` has answered, gone when it has them.

Whose files may be read is `postoffice/roots.py`'s business, and who names them the outbox's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from mcp_mailbox import attachment
from mcp_mailbox.attachment import Limits, too_large
from mcp_mailbox.engines.outbox import Parcel, full
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.postoffice.roots import File

_BLOCK = 1 << 20
Opener = Callable[[], File]


class Parcels:
    """The directory. Blocks; any thread may call."""

    def __init__(self, directory: Path, limits: Limits, most: int) -> None:
        self._directory = directory
        self._limits = limits
        self._most = most
        self.size = 0
        """Bytes of all that is here."""
        self._counting = threading.Lock()

    def begin(self, wanted: Collection[str]) -> None:
        """Let go of what nobody names: somebody has died over it. Raises Refusal(STORE_FAILED)."""
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._directory.chmod(0o700)
            for each in list(self._directory.iterdir()):
                if each.name in wanted:
                    self.size += each.stat().st_size
                else:
                    each.unlink()
        except OSError as error:
            hint = "See to its permissions."
            raise Refusal(Code.STORE_FAILED, f"{self._directory}: {error.strerror}.", hint) from error

    def check_sizes(self, sizes: Mapping[str, int]) -> None:
        """Raise Refusal for files of these paths and sizes that no message may have, or that have no room here."""
        attachment.check_sizes(sizes, self._limits)
        if self.size + sum(sizes.values()) > self._most:
            raise full()

    def take(self, files: Sequence[tuple[str, Opener]]) -> Sequence[Parcel]:
        """Copy these, and return what they are called; on disk when this returns, and all of them or none.

        Raises Refusal as their openers do, (ATTACHMENT_TOO_LARGE), (OUTBOX_FULL) and (STORE_FULL).
        """
        attachment.check_count(len(files))
        names = [attachment.clean_name(name) for name, _ in files]
        taken: list[Parcel] = []
        try:
            for name, (_, opened) in zip(names, files, strict=True):
                taken.append(self._copy(name, opened, self._limits.together - sum(each.size for each in taken)))
            self._sync()
        except BaseException:
            self.remove(taken)
            raise
        return taken

    def _copy(self, name: str, opened: Opener, room: int) -> Parcel:
        file = opened()
        limit = min(self._limits.each, room)
        copy = os.urandom(16).hex()
        size, digest = 0, hashlib.sha256()
        try:
            if self.size + file.size > self._most:
                raise full()
            descriptor = os.open(self._directory / copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(descriptor, "wb") as to:  # noqa: PTH123 - a descriptor
                    while block := file.read(_BLOCK):
                        size += len(block)
                        self._check(name, size, limit)
                        to.write(block)
                        digest.update(block)
                    to.flush()
                    os.fsync(descriptor)
            except BaseException:
                (self._directory / copy).unlink()
                raise
        except OSError as error:
            raise _no_room(name, error) from error
        finally:
            file.close()
        self._count(size)
        return Parcel(name, copy, size, digest.hexdigest())

    def _check(self, name: str, size: int, limit: int) -> None:
        if size > limit and limit < self._limits.each:
            raise too_large(name, self._limits.together, "and those before it are too large together")
        if size > limit:
            raise too_large(name, self._limits.each)

    def _sync(self) -> None:
        try:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _no_room("a file", error) from error

    def content(self, parcel: Parcel) -> bytes:
        """Return what is in it. Raises Refusal(NO_FILE) for what somebody has taken away."""
        try:
            return (self._directory / parcel.copy).read_bytes()
        except OSError as error:
            problem = f"The copy of {parcel.name!r} that was to be sent cannot be read: {error.strerror}."
            raise Refusal(Code.NO_FILE, problem, "Send it again.") from None

    def remove(self, parcels: Sequence[Parcel]) -> None:
        """Let go of them."""
        for each in parcels:
            with contextlib.suppress(OSError):
                (self._directory / each.copy).unlink()
                self._count(-each.size)

    def _count(self, size: int) -> None:
        with self._counting:
            self.size += size


def _no_room(name: str, error: OSError) -> Refusal:
    problem = f"{name!r} cannot be kept until the hub has it: {error.strerror}. Nothing was sent."
    return Refusal(Code.STORE_FULL, problem, "Free some space, then send it again.")
