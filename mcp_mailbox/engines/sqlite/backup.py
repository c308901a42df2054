"""The store's file copied, with the contents of attachments in the copy (`packing`), or checked, while it is in use.

Pages are copied here; of what they hold nothing is known.

A copy is of one moment: its connection stays in one snapshot from the first page to the last, so that it neither
waits for the writer nor starts anew with each commit, as SQLite's backup does otherwise. What it writes is synced in
small pieces, or a commit of the writer would wait for all of it: file systems sync more than they are asked to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio

from mcp_mailbox.engines.sqlite import failures, packing
from mcp_mailbox.engines.sqlite.files import NO_LINKS, Ended, full, is_ours, problem, unwritable
from mcp_mailbox.engines.sqlite.schema import sync_directory
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.store import Told
from mcp_mailbox.view import derived, query

T = TypeVar("T")

_STEP_PAGES = 64
_STEPS_A_SYNC = 16
_PAUSE_AT_MOST = 0.05
"""Seconds. A copy rests as long as it works, so that it takes at most half of what disk and processor can do."""


class Backups:
    """The copies and checks under way: each ends with the store, and with whoever asked for it."""

    def __init__(self) -> None:
        self._under_way: dict[asyncio.Future[Any], threading.Event] = {}
        self._closed = False

    async def run(self, work: Callable[[Told], T], told: Told) -> T:
        """Return what the work returns, which it does in a thread of its own.

        Cancelled, it ends the work first. Raises what the work raises, or Refusal(STOPPING).
        """
        if self._closed:
            raise _stopping()
        end = threading.Event()

        def step(done: int, total: int) -> None:
            if end.is_set():
                raise Ended
            told(done, total)

        future = asyncio.get_running_loop().run_in_executor(None, work, step)
        self._under_way[future] = end
        try:
            return await asyncio.shield(future)
        except Ended:
            raise _stopping() from None
        except anyio.get_cancelled_exc_class():
            await self._end([future])
            raise
        finally:
            self._under_way.pop(future, None)

    async def close(self) -> None:
        """End those under way, and begin no other."""
        self._closed = True
        await self._end(list(self._under_way))

    async def _end(self, futures: Sequence[asyncio.Future[Any]]) -> None:
        for future in futures:
            self._under_way[future].set()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*futures, return_exceptions=True)


def back_up(store: Path, target: Path, told: Told, *, replace: bool = False) -> int:
    """Copy the store to `target`, checked and synced, while others read and write it; return its bytes.

    Raises Refusal(BAD_ARGUMENT) when it cannot be written there, (STORE_FULL), (STORE_DAMAGED) when the copy is not
    sound. Whatever it raises, there is nothing new beside `target`, and what stood there before stands there.
    """
    _check_free(store, target, replace=replace)
    try:
        descriptor, name = tempfile.mkstemp(".partial", f".{target.name[:100]}.", target.parent)
    except OSError as error:
        raise unwritable(target, error) from error
    copy = Path(name)
    try:
        _copy_pages(store, copy, descriptor, told)
        _check_copy(copy, told)
        size = os.fstat(descriptor).st_size
        _give_name(copy, target, replace=replace)
        sync_directory(target.parent)
    except OSError as error:
        raise unwritable(target, error) from error
    except sqlite3.Error as error:
        raise _untaken(target, error) from error
    finally:
        os.close(descriptor)
        copy.unlink(missing_ok=True)
    return size


def check(store: Path, told: Told) -> str:
    """Return "ok", or what is wrong with the store as SQLite or its own rows tell, while others read and write it."""
    uri = f"{store.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
        wrong = problem(db, partial(told, 1, 1))
        if wrong is not None:
            return wrong
        rows = derived.differing(db)
        return "; ".join(f"{count} rows of {name} are not what the others say" for name, count in rows.items()) or "ok"


def _check_free(store: Path, target: Path, *, replace: bool) -> None:
    if not os.path.lexists(target):
        return
    if not replace:
        raise Refusal(Code.BAD_ARGUMENT, f"{target} exists.", "Choose another name, or replace it with --force.")
    if target.exists() and target.samefile(store):
        raise Refusal(Code.BAD_ARGUMENT, f"{target} is the store itself.", "Choose another place.")
    if not is_ours(target):
        raise Refusal(Code.BAD_ARGUMENT, f"{target} is no backup, and is not replaced.", "Choose another name.")


def _copy_pages(store: Path, copy: Path, descriptor: int, told: Told) -> None:
    uri = f"{store.absolute().as_uri()}?mode=ro"
    with (
        contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as source,
        contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as target,
    ):
        # What a crash leaves of it is thrown away, so it needs no journal, and is synced below.
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")
        source.execute("BEGIN")
        source.execute(query.META, ("secret",)).fetchone()  # only what is read begins the snapshot
        steps, began = 0, time.monotonic()

        def rest(_: int, remaining: int, total: int) -> None:
            nonlocal steps, began
            told(total - remaining, total)
            steps += 1
            if steps % _STEPS_A_SYNC == 0:
                os.fsync(descriptor)
            time.sleep(min(time.monotonic() - began, _PAUSE_AT_MOST))
            began = time.monotonic()

        source.backup(target, pages=_STEP_PAGES, progress=rest)
        source.execute("COMMIT")
        packing.pack(store, target, lambda: rest(0, 0, 1))
    os.fsync(descriptor)


def _check_copy(copy: Path, told: Told) -> None:
    """Raise Refusal(STORE_DAMAGED) unless SQLite finds nothing wrong. Leaves no file beside it."""
    uri = f"{copy.absolute().as_uri()}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
        found = problem(db, partial(told, 1, 1))
    if found is not None:
        raise Refusal(
            Code.STORE_DAMAGED,
            f"The store is damaged ({found}); no backup was made of that.",
            "Restore an earlier backup. To keep what is left, `mcp-mailbox stop`, then copy its directory.",
        )


def _give_name(copy: Path, target: Path, *, replace: bool) -> None:
    """Rename it, but to a name that came into being meanwhile only when that is wanted."""
    if not replace:
        try:
            target.hardlink_to(copy)
        except FileExistsError:
            raise Refusal(Code.BAD_ARGUMENT, f"{target} exists.", "Choose another name.") from None
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
        else:
            return
    copy.rename(target)


def _untaken(target: Path, error: sqlite3.Error) -> BaseException:
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return full(target) if primary == sqlite3.SQLITE_FULL else failures.translate(error)


def _stopping() -> Refusal:
    return Refusal(Code.STOPPING, "The post office is stopping; this was not done.", "Try again: it starts on demand.")
