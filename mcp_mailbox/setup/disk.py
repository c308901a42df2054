"""Files of hosts on the disk: read with what a replacement must keep, replaced whole or not at all, locked.

A symbolic link stays one, its target is replaced; owner, permissions, access list and other extended attributes stay.
Knows no formats.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcp_mailbox.setup.trouble import Unfit

_LARGEST = 64 << 20
_STALE_SECONDS = 10.0
"""npm's proper-lockfile takes a lock over whose directory nobody has touched for so long."""
_LOCK_SECONDS = 15.0
_LOCK_POLL = 0.05
_MARK = "mcp-mailbox-"
"""In the names of what is not finished, by which it is known for ours."""
_NO_ATTRIBUTES = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What a file system says that knows none."""
_KERNELS_OWN = {"security.evm", "security.ima"}
"""Signatures of contents and inode: of another file they would be wrong, and the kernel makes its own."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was found."""

    target: Path
    """Where it is once links are followed."""
    data: bytes | None
    """None: it is not there."""
    mode: int = 0
    owner: tuple[int, int] = (0, 0)
    attributes: Mapping[str, bytes] = field(default_factory=dict)
    """Extended ones, with the access list, which Linux keeps as one."""

    @property
    def text(self) -> str:
        """What stands in it, without a mark of the byte order. Raises Unfit for what is no UTF-8."""
        try:
            return (self.data or b"").removeprefix(codecs.BOM_UTF8).decode()
        except UnicodeDecodeError:
            raise Unfit("It is no UTF-8.", "Save it as UTF-8, and run this again.") from None

    def encoded(self, text: str) -> bytes:
        """Return the text as this file would have it."""
        mark = codecs.BOM_UTF8 if (self.data or b"").startswith(codecs.BOM_UTF8) else b""
        try:
            return mark + text.encode()
        except UnicodeEncodeError:
            raise Unfit("The path of this program is no UTF-8.", "Install it in another directory.") from None


def read(path: Path) -> File:
    """Read a file, or find that there is none. Raises Unfit for what is no file, or none that may be replaced."""
    try:
        target = path.resolve()
        found = target.stat()
    except FileNotFoundError:
        return File(target, None)
    except (OSError, RuntimeError) as error:
        raise Unfit(f"It cannot be read: {_reason(error)}.", "Look at it.") from None
    if not stat.S_ISREG(found.st_mode):
        raise Unfit("It is no file.", "Look at it.")
    if found.st_size > _LARGEST:
        raise Unfit(f"It is larger than {_LARGEST >> 20} MiB.", "Register the server by hand.")
    try:
        owner, attributes = (found.st_uid, found.st_gid), _attributes(target)
        return File(target, target.read_bytes(), stat.S_IMODE(found.st_mode), owner, attributes)
    except OSError as error:
        raise Unfit(f"It cannot be read: {_reason(error)}.", "Look at its permissions.") from None


def check_replaceable(file: File) -> None:
    """Raise Unfit for a file that its owner does not want written, or that has another name besides."""
    if file.data is None:
        return
    if not file.mode & 0o222 or not os.access(file.target, os.W_OK):
        raise Unfit("It is read-only: something else may manage it.", "Register the server where that takes it from.")
    if file.target.stat().st_nlink > 1:
        raise Unfit("It has another name (a hard link), which a replacement would part from it.", "Register by hand.")


def replace(file: File, data: bytes, mode: int) -> None:
    """Give the file other contents, on disk when this returns. Raises Unfit; then it is as it was."""
    directory = file.target.parent
    partial: Path | None = None
    try:
        descriptor, partial = _begin(file.target)
        with open(descriptor, "wb") as opened:  # noqa: PTH123 - a descriptor
            if file.data is not None:
                own = os.fstat(descriptor)
                if (own.st_uid, own.st_gid) != file.owner:
                    os.fchown(descriptor, *file.owner)
                # Before the mode: under an access list the group's bits are a mask, and without it they are rights.
                _give_attributes(descriptor, file)
            os.fchmod(descriptor, mode)
            opened.write(data)
            opened.flush()
            os.fsync(descriptor)
            partial.replace(file.target)  # while it is open: once it is closed, `sweep` takes it for left
        partial = None
        _sync(directory)
    except OSError as error:
        raise Unfit(f"It cannot be written: {_reason(error)}.", "Look at its directory's permissions.") from None
    finally:
        if partial:
            partial.unlink(missing_ok=True)


def _begin(target: Path) -> tuple[int, Path]:
    """Make the file that is to take the target's place, 0600, and hold its lock. Raises OSError."""
    while True:
        descriptor, name = tempfile.mkstemp(".tmp", _prefix(target.name), target.parent)
        with contextlib.suppress(OSError):  # where there are no locks nothing is swept, either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        os.close(descriptor)  # somebody swept between the two steps


def _prefix(name: str) -> str:
    return f".{name[:100]}.{_MARK}"


def sweep(directory: Path, name: str | None = None) -> None:
    """Remove what killed replacements have left there, of the file of that name or of all: it may hold secrets.

    What is being written right now has a lock, by whichever process, and stays. What cannot be removed stays, too.
    """
    prefix = re.escape(_prefix(name)) if name is not None else rf"\..+\.{_MARK}"
    left = re.compile(prefix + r"[a-z0-9_]{8}\.tmp")
    with contextlib.suppress(OSError):
        for each in [found for found in directory.iterdir() if left.fullmatch(found.name)]:
            _remove_if_left(each)


def _remove_if_left(path: Path) -> None:
    """Remove it unless somebody holds its lock."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file; one that is gone, be it with its directory, is as it should be. Raises Unfit."""
    try:
        path.unlink()
        _sync(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unfit(f"It cannot be removed: {_reason(error)}.", "Look at its directory's permissions.") from None


def make_directories(path: Path, mode: int = 0o700) -> list[Path]:
    """Make a directory and what leads to it; return those that were not there, outermost first. Raises Unfit."""
    missing = [each for each in (path, *path.parents) if not each.exists()][::-1]
    try:
        for each in missing:
            each.mkdir(mode)
    except OSError as error:
        raise Unfit(f"Its directory cannot be made: {_reason(error)}.", "Look at the permissions.") from None
    return missing


def remove_directories(made: list[Path]) -> None:
    """Remove directories that were made, as far as nothing is in them."""
    with contextlib.suppress(OSError):
        for each in reversed(made):
            each.rmdir()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that npm's proper-lockfile would hold for this file. Raises Unfit when it does not get free."""
    lock = path.with_name(f"{path.name}.lock")
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            lock.mkdir()
            break
        except FileExistsError:
            with contextlib.suppress(OSError):
                if time.time() - lock.stat().st_mtime > _STALE_SECONDS:
                    lock.rmdir()
                    continue
            if time.monotonic() > deadline:
                raise Unfit(f"Another program holds {lock}.", "Run this again when it is done.") from None
            time.sleep(_LOCK_POLL)  # nothing tells of a directory that goes away
        except OSError as error:
            raise Unfit(f"{lock} cannot be made: {_reason(error)}.", "Look at its directory's permissions.") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.rmdir()


def _attributes(of: Path | int) -> dict[str, bytes]:
    """Return a file's extended attributes; none where the file system or Python knows none. Raises OSError."""
    found: dict[str, bytes] = {}
    if sys.platform != "linux":
        return found
    try:
        for name in os.listxattr(of):
            if name not in _KERNELS_OWN:
                found[name] = os.getxattr(of, name)
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTES:
            raise
    return found


def _give_attributes(descriptor: int, file: File) -> None:
    """Let the new file have those of the old one, and no others. Raises Unfit when it cannot."""
    try:
        if sys.platform == "darwin":
            _copy_attributes(file.target, descriptor)
            return
        # A new file may have some of its directory: an access list, by which others could read this one.
        has = _attributes(descriptor)
        for name in has.keys() - file.attributes.keys():
            os.removexattr(descriptor, name)
        for name, value in file.attributes.items():
            if has.get(name) != value:
                os.setxattr(descriptor, name, value)
    except OSError as error:
        problem = f"Its access list or other extended attributes cannot be kept ({_reason(error)})"
        raise Unfit(f"{problem}: a replacement would be without them.", "Register by hand.") from None


def _copy_attributes(source: Path, descriptor: int) -> None:
    """Copy the access list (1) and attributes (4) by what shutil, too, copies with on macOS. Raises OSError."""
    import posix  # noqa: PLC0415 - which no other system needs

    with source.open("rb") as opened, contextlib.suppress(AttributeError):
        posix._fcopyfile(opened.fileno(), descriptor, 1 | 4)  # type: ignore[attr-defined]  # noqa: SLF001


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
