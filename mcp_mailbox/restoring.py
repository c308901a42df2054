"""`mcp-mailbox restore`: a backup put in the place of a store that nobody has open.

It knows the engine and the post office's lock; how a store lies on disk is the engine's business. The backup is copied
and checked before the lock is taken, so that hosts that call meanwhile are kept waiting for no longer than a rename
takes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mcp_mailbox import machine, rendezvous
from mcp_mailbox.config import STORE_FILE
from mcp_mailbox.engines.sqlite import restore as placing
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.store import Told


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done: where the store is, where the one before it went, whether its tokens were kept.

    `missing` attachments were damaged in the backup, or not in it.
    """

    store: Path
    aside: Path | None
    tokens_kept: bool
    missing: int


def restore(home: str, file: Path, told: Told, *, force: bool) -> Restored:
    """Put the backup in place; with `force` although there is a store, which is kept beside it.

    Raises Refusal, or rendezvous.Refused while a post office runs.
    """
    store = (Path(home) / STORE_FILE).resolve()  # journals lie beside the file itself
    if rendezvous.office_lives(home):
        raise _running(home)
    rendezvous.prepare_home(home)
    _check(file, store, force=force)
    with placing.taken_in(file, store, told) as taken:
        lock = rendezvous.hold(home)
        if lock is None:
            raise _running(home)
        try:
            _check(file, store, force=force)  # a host's call may have made one meanwhile
            placed = placing.put_in_place(taken, store, datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))
        finally:
            os.close(lock)
    return Restored(store, placed.aside, placed.tokens_kept, placed.missing)


def _check(file: Path, store: Path, *, force: bool) -> None:
    if not file.is_file():
        what = "is no file" if file.exists() else "is not there"
        raise Refusal(Code.BAD_ARGUMENT, f"{file} {what}.", "Name what `mcp-mailbox backup` made.")
    if store.exists():
        if file.samefile(store):
            raise Refusal(Code.BAD_ARGUMENT, f"{file} is the store itself.", "Name a backup.")
        if not force:
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"There is a store, {store}.",
                "With --force it is kept under another name beside the backup that takes its place.",
            )
    if file.parent != store.parent and rendezvous.office_lives(str(file.parent)) and _has_journal(file):
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"{file} is in use by a post office, and no backup.",
            f"Make one: {machine.HOME_VARIABLE}={file.parent} mcp-mailbox backup FILE",
        )


def _has_journal(file: Path) -> bool:
    return file.with_name(f"{file.name}-wal").exists()


def _running(home: str) -> rendezvous.Refused:
    return rendezvous.Refused(
        "running", f"The post office of {home} is running. Run `mcp-mailbox stop` first, then restore again."
    )
