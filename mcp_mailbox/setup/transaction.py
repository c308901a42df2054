"""A planned change made: record, backup, temporary file and rename, read again; rolled back when that fails.

A file that is another one by now than it was when the change was planned is left alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mcp_mailbox.setup import disk, formats
from mcp_mailbox.setup.host import Host, Scope
from mcp_mailbox.setup.plan import Change
from mcp_mailbox.setup.record import Book, Record, digest
from mcp_mailbox.setup.trouble import Unfit


@contextlib.contextmanager
def guarded(host: Host, path: Path) -> Iterator[None]:
    """Keep the host from writing meanwhile, if it has a way for that."""
    if host.locked and path.parent.is_dir():
        with disk.locked(path):
            yield
    else:
        yield


def apply(change: Change, book: Book) -> Record:
    """Make the change; return the record of it. Raises Unfit, with the file as it was."""
    path, file = change.path, change.file
    if path is None or file is None:
        raise Unfit("There is no file to change.", "Plan it anew.")
    # A user's directory may come to hold secrets; a project's is for all who work on it.
    made = disk.make_directories(file.target.parent, 0o700 if change.scope is Scope.USER else 0o777)
    try:
        with guarded(change.host, path):
            disk.sweep(file.target.parent, file.target.name)
            _check_unchanged(path, file)
            return _write(change, path, file, book, made)
    except BaseException:
        disk.remove_directories(made)
        raise


def _check_unchanged(path: Path, file: disk.File) -> None:
    if disk.read(path) != file:
        raise Unfit("It was changed by somebody else meanwhile.", "Run this again.")


def _write(change: Change, path: Path, file: disk.File, book: Book, made: list[Path]) -> Record:
    record = Record(
        host=change.host.name,
        scope=change.scope,
        name=change.name,
        file=str(path),
        at=str(file.target),
        before=digest(file.data),
        after=digest(change.after) or "",
        backup=book.name_backup(path) if file.data is not None else None,
        mode=file.mode if file.data is not None else _new_mode(change.scope),
        entry=dict(change.entry),
        previous=change.previous,
        trace=change.trace,
        beside=change.beside,
        besides=change.besides,
        made=[str(each) for each in made],
    )
    book.add(record)
    try:
        if record.backup and file.data is not None:
            book.keep(record.backup, file.data)
        disk.replace(file, change.after, record.mode)
        _read_again(change, path, file, record)
    except BaseException:
        with contextlib.suppress(Unfit):  # what could not be written cannot be written back
            if disk.read(path).data == change.after:
                restore(file, record.mode)
        book.remove(record)
        raise
    return record


def _read_again(change: Change, path: Path, file: disk.File, record: Record) -> None:
    now = disk.read(path)
    try:
        there = formats.at(change.host.format.read(now.text), change.at)
    except Unfit:
        restore(file, record.mode)
        raise Unfit("What was written could not be read again.", "The file is as it was.") from None
    if there != change.entry:
        # Theirs is newer: it stays.
        raise Unfit("Somebody else wrote it at the same moment.", "Run this again.")


def restore(file: disk.File, mode: int) -> None:
    """Have the file as it was found."""
    if file.data is None:
        disk.remove(file.target)
    else:
        disk.replace(file, file.data, mode)


def _new_mode(scope: Scope) -> int:
    """Return the mode of a file that was not there: a user's may come to hold secrets."""
    if scope is Scope.USER:
        return stat.S_IRUSR | stat.S_IWUSR
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
