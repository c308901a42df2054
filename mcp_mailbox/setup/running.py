"""A host registered and met, or all of it taken back: what `setup` does once somebody has said yes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp_mailbox.setup import disk, formats
from mcp_mailbox.setup.handshake import Greeting, greet
from mcp_mailbox.setup.hooks import HOOKED
from mcp_mailbox.setup.host import Host, Scope, Surroundings, launch
from mcp_mailbox.setup.hosts import HOSTS
from mcp_mailbox.setup.plan import Action, Change
from mcp_mailbox.setup.record import Book, Record
from mcp_mailbox.setup.transaction import apply
from mcp_mailbox.setup.trouble import Unfit
from mcp_mailbox.setup.undo import Undone, undo


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a change."""

    change: Change
    backup: str | None = None
    """Where the old file is."""
    greeting: Greeting | None = None
    unfit: Unfit | None = None
    """What went wrong."""
    registered: bool = False
    """Whether the host has the server now, whatever else went wrong."""


def register(change: Change, book: Book, where: Surroundings) -> Outcome:
    """Make a change, and meet the server that the file registers.

    A program that does not answer is taken out again, since some hosts do not start then; a server over HTTP may just
    be down.
    """
    if change.action is Action.REFUSE:
        return Outcome(change, unfit=change.refused)
    record: Record | None = None
    backup: str | None = None
    try:
        if change.action is not Action.NOTHING:
            record = apply(change, book)
            backup = str(book.backup(record.backup)) if record.backup else None
        elif change.file is not None:
            disk.sweep(change.file.target.parent, change.file.target.name)
    except Unfit as unfit:
        return Outcome(change, unfit=unfit)
    if change.host in HOOKED.values():
        return Outcome(change, backup, registered=True)  # no server is met by hooks
    try:
        greeting = _meet(change, where)
    except Unfit as unfit:
        if record is None or launch(change.entry).url:
            return Outcome(change, backup, unfit=unfit, registered=True)
        undo(record, change.host, book)
        return Outcome(change, unfit=Unfit(f"It was taken out again: {unfit.problem}", unfit.hint))
    return Outcome(change, backup, greeting, registered=True)


def _meet(change: Change, where: Surroundings) -> Greeting:
    """Read the entry as the host will, and do what it says."""
    assert change.path is not None  # noqa: S101 - it was read or written a moment ago
    entry = formats.at(change.host.format.read(disk.read(change.path).text), change.at)
    directory = where.project if change.scope is Scope.PROJECT else where.home
    return greet(launch(entry), directory, where.env)


def chosen(
    records: Sequence[Record], hosts: Sequence[Host], scope: Scope | None, name: str | None, where: Surroundings
) -> list[Record]:
    """Return which records are meant, in the order in which they are undone. Without a choice: all, of all projects."""

    def is_meant(record: Record) -> bool:
        if hosts and record.host.removesuffix(HOOKS) not in {host.name for host in hosts}:
            return False
        here = scope is not Scope.PROJECT or Path(record.file).is_relative_to(where.project)
        return scope in {None, record.scope} and here and name in {None, record.name}

    return [each for each in records if is_meant(each)][::-1]


HOOKS = "-hooks"
"""Ends the name under which a host's hooks are recorded."""
ALL: Mapping[str, Host] = {**HOSTS, **{each.name: each for each in HOOKED.values()}}


def take_back(record: Record, book: Book, hosts: Mapping[str, Host] = ALL) -> Undone:
    """Undo one record. Raises Unfit."""
    if record.host not in hosts:
        raise Unfit(f"This version does not know the host {record.host!r}.", "Undo it with the version that set it up.")
    return undo(record, hosts[record.host], book)
