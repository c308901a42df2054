"""What setup did taken back: the old bytes, where nobody wrote since; else our entry alone, and the rest stays."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mcp_mailbox.setup import disk, formats
from mcp_mailbox.setup.host import Host, Server, is_ours, launch
from mcp_mailbox.setup.record import Book, Record, digest
from mcp_mailbox.setup.transaction import guarded


class Undone(StrEnum):
    """How something was taken back."""

    RESTORED = "restored"
    """The file is what it was, to the byte."""
    REMOVED = "removed"
    """The file, which was not there before, is gone."""
    TAKEN_OUT = "taken_out"
    """Somebody wrote since: what was ours is out, or as it was before, and the rest stays."""
    GONE = "gone"
    """There was nothing of ours any more."""


@dataclass(frozen=True, slots=True)
class _Case:
    host: Host
    record: Record
    file: disk.File
    backup: bytes | None


def undo(record: Record, host: Host, book: Book) -> Undone:
    """Take back what the record says, and forget it. Raises Unfit, with the file and the record as they were."""
    path = Path(record.file)
    with guarded(host, path):
        file = disk.read(path)
        disk.sweep(file.target.parent, file.target.name)
        outcome = _undo(_Case(host, record, file, _backup(record, book)))
    if file.target.parent.is_dir() and disk.read(path).data is None:
        disk.remove_directories([Path(each) for each in record.made])
    book.remove(record)
    return outcome


def _backup(record: Record, book: Book) -> bytes | None:
    """Return what was there, if the backup has it yet."""
    data = disk.read(book.backup(record.backup)).data if record.backup else None
    return data if digest(data) == record.before else None


def _undo(case: _Case) -> Undone:
    record, file = case.record, case.file
    if file.data is None:
        return Undone.GONE
    if digest(file.data) == record.after:
        disk.check_replaceable(file)
        if record.before is None:
            disk.remove(file.target)
            return Undone.REMOVED
        if case.backup is not None:
            disk.replace(file, case.backup, file.mode)
            return Undone.RESTORED
    return _take_out(case)


def _take_out(case: _Case) -> Undone:
    record, file, how = case.record, case.file, case.host.format
    at = (*case.host.servers, record.name)
    text = file.text
    there = formats.at(how.read(text), at)
    edited = text
    if there is not None and is_ours(there, Server(url=launch(record.entry).url)):
        edited = how.put(text, at, record.previous)[0] if record.previous else how.take(text, at, record.trace)
    for each in [*record.besides[::-1], *([record.beside] if record.beside else [])]:
        edited = how.drop(edited, each["path"], each["element"], each["trace"])
    if edited == text:
        return Undone.GONE
    disk.check_replaceable(file)
    if record.before is None and edited.split() == case.host.fresh.split():
        disk.remove(file.target)
        return Undone.REMOVED
    disk.replace(file, file.encoded(edited), file.mode)
    return Undone.TAKEN_OUT
