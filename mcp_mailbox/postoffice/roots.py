"""Whose files may be attached: a path becomes an open file, or is refused.

The post office runs as the user and may read what a host's sandbox keeps from its agent. So an agent gives nothing
away that the user has not allowed in the host's registration, and a path counts by where it leads: it is resolved
once, and then opened part by part without following a link, so that what is put in its place meanwhile is no way out.
What is not there, what is elsewhere and what may not be seen are told alike. What becomes of the file is not known
here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from mcp_mailbox.errors import Code, Refusal

VARIABLE = "MCP_MAILBOX_ATTACH"
_SHOWN = 200
_ROOTS_SHOWN = 5
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""A directory on the way: it need not be readable, only passable."""
_LAST = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Should a FIFO take the file's place, nobody waits for its other end."""


@dataclass(frozen=True, slots=True)
class Roots:
    """What one host may give: files below `allowed`; relative paths begin at its `project`, where that is known.

    `store` is the post office's own directory, of which nothing is ever given; `ignored` is what the user has said and
    does not count.
    """

    allowed: tuple[str, ...]
    project: str | None
    store: str
    ignored: tuple[str, ...] = ()


class File:
    """An open file and what it is called. `read` is a `store.Source`."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._began = os.fstat(descriptor)

    @property
    def size(self) -> int:
        """Bytes that it had when it was opened."""
        return self._began.st_size

    def read(self, count: int) -> bytes:
        """Return the next bytes. Raises Refusal(NO_FILE) when it cannot be read, or was written to meanwhile."""
        try:
            block = os.read(self._descriptor, count)
        except OSError as error:
            raise _refused(
                f"{self.path[:_SHOWN]!r} cannot be read: {error.strerror}.", "Attach another file."
            ) from error
        if not block:
            now = os.fstat(self._descriptor)
            if (now.st_size, now.st_mtime_ns) != (self._began.st_size, self._began.st_mtime_ns):
                problem = f"{self.path[:_SHOWN]!r} was changed while it was read."
                raise _refused(problem, "Send again once it is written.")
        return block

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


def parse(value: str, project: str | None, store: str) -> Roots:
    """Read what a host's registration allows: directories, separated as in PATH; `.` is the host's own.

    A relative one counts only where it leads to somebody's project, not to all of the machine or of the user's home.
    """
    allowed, ignored = [], []
    for part in filter(None, value.split(os.pathsep)):
        one: str | None = os.path.expanduser(part)  # noqa: PTH111 - a text; pathlib forgets `.`
        if not os.path.isabs(part) and not part.startswith("~"):  # noqa: PTH117
            one = os.path.normpath(os.path.join(project, part)) if project is not None else None  # noqa: PTH118
            if one in {"/", os.path.expanduser("~")}:  # noqa: PTH111
                one = None
        if one is None:
            ignored.append(part)
        else:
            allowed.append(one)
    return Roots(tuple(dict.fromkeys(allowed)), project, store, tuple(ignored))


def open_file(roots: Roots, path: str) -> File:
    """Open a file to be attached. Blocks; raises Refusal(FORBIDDEN | NO_FILE | BAD_ARGUMENT)."""
    if not roots.allowed and roots.ignored:
        where = f"which works in {roots.project!r}" if roots.project is not None else "whose directory is not known"
        raise Refusal(
            Code.FORBIDDEN,
            f"This host may not attach files: {VARIABLE} is {os.pathsep.join(roots.ignored)[:_SHOWN]!r}, which counts"
            f" only from a project's directory, and not for a host {where}.",
            f"Ask your user to set {VARIABLE} to whole paths; or put the text into the body.",
        )
    if not roots.allowed:
        raise Refusal(
            Code.FORBIDDEN,
            "This host may not attach files: its user has allowed no directory.",
            f"Ask your user to set {VARIABLE} in this server's registration (env), to . for the project's directory or"
            f" to paths separated by {os.pathsep}; or put the text into the body.",
        )
    if not path:
        raise Refusal(Code.BAD_ARGUMENT, "A path in `attach` is empty.", "Name a file.")
    if not os.path.isabs(path):  # noqa: PTH117
        if roots.project is None:
            raise _refused(f"{path[:_SHOWN]!r} is relative, and where is not known.", "Give the whole path.")
        path = os.path.join(roots.project, path)  # noqa: PTH118
    try:
        real = _resolved(path)
        if not any(_is_below(real, _resolved(root)) for root in roots.allowed):
            raise _elsewhere(roots, path)
        return File(path, _walk(real, path, roots.store))
    except (OSError, ValueError):  # ValueError: a NUL
        raise _elsewhere(roots, path) from None


def _walk(real: str, path: str, store: str) -> int:
    """Open a resolved path part by part. Raises OSError for what has changed since, Refusal(NO_FILE)."""
    *parents, name = real.strip("/").split("/")
    forbidden = _identity(store)
    directory = os.open("/", _STEP)
    try:
        for parent in parents:
            following = os.open(parent, _STEP, dir_fd=directory)
            os.close(directory)
            directory = following
            found = os.fstat(directory)
            if (found.st_dev, found.st_ino) == forbidden:
                raise FileNotFoundError  # the store's own, by whatever name
        _check(os.stat(name, dir_fd=directory, follow_symlinks=False), path)
        try:
            descriptor = os.open(name, _LAST, dir_fd=directory)
        except PermissionError:
            raise _refused(f"{path[:_SHOWN]!r} may not be read.", "See to its permissions.") from None
    finally:
        os.close(directory)
    try:
        found = os.fstat(descriptor)
        _check(found, path)  # what was opened, whatever it was a moment ago
        _check_names(found, store)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(found: os.stat_result, path: str) -> None:
    """Raise for what is no regular file."""
    if stat.S_ISLNK(found.st_mode):
        raise FileNotFoundError  # nothing leads there any more
    if stat.S_ISDIR(found.st_mode):
        raise _refused(f"{path[:_SHOWN]!r} is a directory.", "Attach its files, or an archive of it.")
    if not stat.S_ISREG(found.st_mode):
        raise _refused(f"{path[:_SHOWN]!r} is no regular file.", "Attach files only.")


def _check_names(found: os.stat_result, store: str) -> None:
    """Raise FileNotFoundError for the database, its journal, a token: a file of the store by another name."""
    if found.st_nlink == 1:
        return
    with os.scandir(store) as entries:
        own = {each.inode() for each in entries}
    if found.st_ino in own and found.st_dev == os.stat(store).st_dev:  # noqa: PTH116
        raise FileNotFoundError


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _resolved(path: str) -> str:
    return os.path.realpath(path)


def _is_below(real: str, root: str) -> bool:
    return real.startswith(root.rstrip("/") + "/")


def _elsewhere(roots: Roots, path: str) -> Refusal:
    shown: Iterable[str] = (root[:_SHOWN] for root in roots.allowed[:_ROOTS_SHOWN])
    return _refused(
        f"{path[:_SHOWN]!r} is no file in the directories that this host may attach from.",
        f"These are: {', '.join(shown)} ({VARIABLE}). A link that leads out of them does not count.",
    )


def _refused(problem: str, hint: str) -> Refusal:
    return Refusal(Code.NO_FILE, problem, hint)
