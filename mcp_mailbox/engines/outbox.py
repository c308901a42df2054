"""An edge's own file: what is on its way to the hub, and what was fetched from there.

What `put` has answered is on disk (`synchronous=FULL`) and stays until the hub has answered it; the answers are kept
for as long as somebody may ask by the number. What was fetched may be read while the hub cannot be reached.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from mcp_mailbox.engines import pins
from mcp_mailbox.engines.sqlite.failures import translate
from mcp_mailbox.engines.sqlite.writer import Writer
from mcp_mailbox.errors import Code, Refusal

Json = dict[str, Any]

_APPLICATION = 0x6D626F78  # "mbox"
_VERSION = 6
_SCHEMA = """
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    reader TEXT NOT NULL,
    request TEXT NOT NULL,
    verb TEXT NOT NULL,
    who TEXT NOT NULL,
    given TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    answer TEXT,
    answered_at INTEGER,
    files TEXT NOT NULL DEFAULT '[]',
    tried INTEGER NOT NULL DEFAULT 0,
    UNIQUE (reader, request)
);
CREATE INDEX outbox_waiting ON outbox (number) WHERE answer IS NULL;
CREATE INDEX outbox_answered ON outbox (answered_at) WHERE answer IS NOT NULL;
CREATE TABLE fetched (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    mailbox TEXT NOT NULL,
    id TEXT NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0,
    message TEXT NOT NULL,
    UNIQUE (mailbox, id)
);
CREATE INDEX fetched_unsettled ON fetched (mailbox, number) WHERE NOT settled;
CREATE TABLE reader (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, mailbox TEXT NOT NULL);
CREATE TABLE mailbox (address TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE life (began INTEGER NOT NULL);
"""
_SINCE = {
    1: "ALTER TABLE outbox ADD COLUMN files TEXT NOT NULL DEFAULT '[]';",
    2: """
ALTER TABLE reader RENAME TO reader_2;
CREATE TABLE reader (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, mailbox TEXT NOT NULL);
INSERT INTO reader (id, mailbox) SELECT id, mailbox FROM reader_2;
DROP TABLE reader_2;
""",
    # What was fetched by an older version does not say whose words it is.
    3: pins.SCHEMA
    + """
UPDATE fetched SET message = json_set(message, '$.untrusted', json('true'), '$.verified',
    'not checked: it was fetched by an older version');
""",
    4: "CREATE TABLE life (began INTEGER NOT NULL);",
    5: "ALTER TABLE outbox ADD COLUMN tried INTEGER NOT NULL DEFAULT 0; UPDATE outbox SET tried = asked_at;",
}
"""What each schema lacks of the next one."""
_COUNT = "SELECT count(*) FROM outbox WHERE answer IS NULL"
_WAITS, _LOOKED_UP = 0, 2
"""What `settled` of a fetched message is at first: in the inbox; not seen there, only read or found. 1: done with."""
_KEEP = """
INSERT INTO fetched (mailbox, id, settled, message) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    settled = iif(settled = 2 OR {leased}, excluded.settled, settled),
    message = iif(instr(excluded.message, '"body"') OR NOT instr(message, '"body"'), excluded.message, message)
"""
KEPT_MS = 30 * 24 * 3600 * 1000
"""For which answers are kept: as long as the hub knows a request again."""
FETCHED_MOST = 5_000
"""Fetched messages that are kept, the newest."""
UNTOLD_MOST = 5
"""Entries that the hub has refused and could tell nobody, as far as they are shown."""
WAITING_MOST = 100_000
"""Entries that wait for the hub: more are refused, not dropped."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A file on its way: what it is called, under which name its copy stands beside the outbox, how many bytes.

    `sha256` is in hex digits; empty of what an older version took in.
    """

    name: str
    copy: str
    size: int
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that the hub is to do. Times are ms since 1970 UTC."""

    number: int
    verb: str
    who: Json
    given: Json
    asked_at: int
    answer: Json | None = None
    files: tuple[Parcel, ...] = ()
    tried: int = 0
    """Since when the hub may have it; 0: it was not tried yet."""


class Outbox:
    """The file. Every verb may raise Refusal(STORE_FULL | STORE_FAILED | STORE_DAMAGED)."""

    def __init__(self, db: sqlite3.Connection, most: int = WAITING_MOST) -> None:
        self._writer = Writer(db, lambda _: None, lambda: None)
        self.pins = pins.Pins(db, self._writer)
        self._most = most
        self.waiting, self.oldest = _standing(db)
        """How many wait, and since when the first does, in ms since 1970 UTC."""
        self.untold = _untold(db)
        """What the hub has refused, and could tell nobody, the latest few."""

    async def close(self) -> None:
        """Close it."""
        await self._writer.close()

    async def put(
        self,
        verb: str,
        who: Mapping[str, object],
        given: Mapping[str, object],
        now: int,
        files: Sequence[Parcel] = (),
        *,
        tried: bool = False,
    ) -> Entry:
        """Keep it for the hub, once for each request of a reader; return it, with its answer if that has come.

        `tried`: the hub may have it, but its answer was lost.

        Raises Refusal(OUTBOX_FULL) when as many wait as may.
        """

        def work(db: sqlite3.Connection) -> tuple[Entry, bool]:
            asked = (str(who["reader"]), str(who["request"]))
            known = db.execute("SELECT * FROM outbox WHERE reader = ? AND request = ?", asked).fetchone()
            if known is not None:
                return _entry(known), False
            if self.waiting >= self._most:
                raise full()
            copies, since = json.dumps([*map(astuple, files)]), now if tried else 0
            row = db.execute(
                "INSERT INTO outbox (reader, request, verb, who, given, asked_at, files, tried)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
                (*asked, verb, json.dumps(who), json.dumps(given), now, copies, since),
            ).fetchone()
            return _entry(row), True

        entry, new = await self._writer.do(work)
        if new:
            self.waiting += 1
            self.oldest = entry.asked_at if self.oldest is None else self.oldest
        return entry

    async def knows(self, who: Mapping[str, object]) -> bool:
        """Whether that request of that reader was kept before."""
        asked = (str(who["reader"]), str(who["request"]))
        known = "SELECT 1 FROM outbox WHERE reader = ? AND request = ?"
        return await self._writer.do(lambda db: db.execute(known, asked).fetchone() is not None)

    async def later(self, now: int) -> int:
        """Return that moment, in ms since 1970 UTC, or else one later than all that were returned before.

        Clocks are put back, and what a process tells that has the file now must sort behind what others have told.
        """

        def work(db: sqlite3.Connection) -> int:
            [last] = db.execute("SELECT max(began) FROM life").fetchone()
            began = max(now, last + 1) if last is not None else now
            db.execute("DELETE FROM life")
            db.execute("INSERT INTO life VALUES (?)", (began,))
            return began

        return await self._writer.do(work)

    async def copies(self) -> set[str]:
        """Return the names of all copies that are still to be sent."""

        def work(db: sqlite3.Connection) -> set[str]:
            rows = db.execute("SELECT files FROM outbox WHERE answer IS NULL AND files != '[]'")
            return {each[1] for row in rows for each in json.loads(row["files"])}

        return await self._writer.do(work)

    async def next(self, most: int) -> Sequence[Entry]:
        """Return what has waited longest, in its order."""

        def work(db: sqlite3.Connection) -> list[Entry]:
            rows = db.execute("SELECT * FROM outbox WHERE answer IS NULL ORDER BY number LIMIT ?", (most,))
            return [_entry(row) for row in rows]

        return await self._writer.do(work)

    async def trying(self, numbers: Sequence[int], now: int) -> None:
        """Note that the hub may have these from now on, unless it might before."""

        def work(db: sqlite3.Connection) -> None:
            rows = [(now, number) for number in numbers]
            db.executemany("UPDATE outbox SET tried = ? WHERE number = ? AND NOT tried", rows)

        await self._writer.do(work)

    async def answered(self, answers: Mapping[int, Json], now: int) -> None:
        """Note what the hub has answered."""

        def work(db: sqlite3.Connection) -> tuple[int, int | None, Sequence[Entry]]:
            before = db.execute(_COUNT).fetchone()[0]
            db.executemany(
                "UPDATE outbox SET answer = ?, answered_at = ? WHERE number = ? AND answer IS NULL",
                [(json.dumps(answer), now, number) for number, answer in answers.items()],
            )
            db.execute("DELETE FROM outbox WHERE answered_at < ?", (now - KEPT_MS,))
            waiting, oldest = _standing(db)
            untold = any(answer.get("told") is False for answer in answers.values())
            return before - waiting, oldest, _untold(db) if untold else self.untold

        changed, self.oldest, self.untold = await self._writer.do(work)
        self.waiting -= changed

    async def entry(self, number: int) -> Entry | None:
        """Return one, if it is known."""

        def work(db: sqlite3.Connection) -> Entry | None:
            row = db.execute("SELECT * FROM outbox WHERE number = ?", (number,)).fetchone()
            return _entry(row) if row is not None else None

        return await self._writer.do(work)

    async def check(self) -> str:
        """Return "ok", or what is wrong with the file."""
        return await self._writer.do(lambda db: str(db.execute("PRAGMA quick_check(1)").fetchone()[0]))

    # -- what was fetched

    def keep(
        self, mailbox: str, messages: Sequence[Mapping[str, object]], *, waits: bool, leased: bool = False
    ) -> None:
        """Keep messages, by their `id` without a lease's number; soon on disk.

        `waits`: they are in the inbox. `leased`: they were handed out just now, so whatever was done with them before
        was undone.
        """
        settled = _WAITS if waits else _LOOKED_UP
        keep = _KEEP.format(leased=int(leased))
        rows = [(mailbox, plain(str(each["id"])), settled, json.dumps(each)) for each in messages]

        def work(db: sqlite3.Connection) -> None:
            db.executemany(keep, rows)
            db.execute("DELETE FROM fetched WHERE number <= (SELECT max(number) FROM fetched) - ?", (FETCHED_MOST,))

        self._writer.later(work)

    async def fetched(self, mailbox: str, id_: str) -> Json | None:
        """Return a message that was fetched before."""

        def work(db: sqlite3.Connection) -> Json | None:
            found = db.execute("SELECT message FROM fetched WHERE mailbox = ? AND id = ?", (mailbox, plain(id_)))
            row = found.fetchone()
            return json.loads(row[0]) if row is not None else None

        return await self._writer.do(work)

    async def unsettled(self, mailbox: str, most: int) -> Sequence[Json]:
        """Return what was fetched and is not settled, in the order in which it was."""

        def work(db: sqlite3.Connection) -> list[Json]:
            rows = db.execute(
                "SELECT message FROM fetched WHERE mailbox = ? AND NOT settled ORDER BY number LIMIT ?",
                (mailbox, most),
            )
            return [json.loads(row[0]) for row in rows]

        return await self._writer.do(work)

    def settled(self, mailbox: str, ids: Sequence[str]) -> None:
        """Note that these are done with; soon on disk."""
        rows = [(mailbox, plain(each)) for each in ids]

        def work(db: sqlite3.Connection) -> None:
            db.executemany("UPDATE fetched SET settled = 1 WHERE mailbox = ? AND id = ?", rows)

        self._writer.later(work)

    # -- whose mailbox

    async def bind(self, reader: str | None, mailbox: str) -> None:
        """Note a mailbox of ours, and that it is the reader's own."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR IGNORE INTO mailbox VALUES (?)", (mailbox,))
            if reader is not None:
                db.execute("INSERT OR REPLACE INTO reader (id, mailbox) VALUES (?, ?)", (reader, mailbox))

        await self._writer.do(work)

    async def readers(self, most: int) -> Sequence[tuple[str, str]]:
        """Return who was bound last, the latest at the end, and each one's mailbox; forget those before."""

        def work(db: sqlite3.Connection) -> list[tuple[str, str]]:
            rows = db.execute("SELECT number, id, mailbox FROM reader ORDER BY number DESC LIMIT ?", (most,)).fetchall()
            if rows:
                db.execute("DELETE FROM reader WHERE number < ?", (rows[-1]["number"],))
            return [(row["id"], row["mailbox"]) for row in reversed(rows)]

        return await self._writer.do(work)

    async def mailboxes(self) -> Sequence[str]:
        """Return the addresses of all mailboxes of ours that were ever asked for."""
        return await self._writer.do(
            lambda db: [row[0] for row in db.execute("SELECT address FROM mailbox ORDER BY address")]
        )


def full() -> Refusal:
    """Return the refusal of more than an outbox holds."""
    return Refusal(
        Code.OUTBOX_FULL,
        "This machine's outbox is full: its hub has been away for long. What is in it is kept; this was not taken in.",
        "Wait until the hub is reached (`mcp-mailbox status`), then do the same again.",
    )


def _standing(db: sqlite3.Connection) -> tuple[int, int | None]:
    """Return how many wait, and since when the first does."""
    first = db.execute("SELECT asked_at FROM outbox WHERE answer IS NULL ORDER BY number LIMIT 1").fetchone()
    return db.execute(_COUNT).fetchone()[0], first[0] if first is not None else None


def _untold(db: sqlite3.Connection) -> Sequence[Entry]:
    """Return what was refused and told to nobody."""
    rows = db.execute(
        "SELECT * FROM outbox WHERE answer IS NOT NULL AND json_extract(answer, '$.told') = 0"
        " ORDER BY number DESC LIMIT ?",
        (UNTOLD_MOST,),
    )
    return [_entry(row) for row in rows]


def plain(id_: str) -> str:
    """Return a message's id without the number of the lease that a handle carries."""
    return id_.partition(".")[0]


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(
        row["number"],
        row["verb"],
        json.loads(row["who"]),
        json.loads(row["given"]),
        row["asked_at"],
        json.loads(row["answer"]) if row["answer"] is not None else None,
        tuple(Parcel(*each) for each in json.loads(row["files"])),
        row["tried"],
    )


def waiting(path: Path) -> tuple[int, int | None]:
    """Return how many wait in a file, 0 where there is none, and since when, whether a post office has it open or not.

    Raises Refusal(STORE_FAILED) for one that cannot be read: what waits there is not known then.
    """
    if not path.exists():
        return 0, None
    try:
        # Not read-only: what a killed post office has left in the journal has to be taken in first.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as db:
            [version] = db.execute("PRAGMA user_version").fetchone()
            return _standing(db) if version else (0, None)
    except sqlite3.Error as error:
        problem = f"The edge's file {path} cannot be read: {error}."
        raise Refusal(Code.STORE_FAILED, problem, "Mend it, or move it and its -wal and -shm away.") from error


@asynccontextmanager
async def open_outbox(path: Path, most: int = WAITING_MOST) -> AsyncIterator[Outbox]:
    """Open the file, or make it (mode 0600).

    Raises Refusal(STORE_FAILED | STORE_DAMAGED | STORE_FULL | STORE_NEWER).
    """
    try:
        outbox = Outbox(_open(path), most)
    except sqlite3.Error as error:
        raise translate(error) from error
    except OSError as error:
        problem = f"The edge's file {path} cannot be opened: {error.strerror}."
        raise Refusal(Code.STORE_FAILED, problem, "Check its permissions.") from error
    try:
        yield outbox
    finally:
        await outbox.close()


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _prepare(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    [version] = db.execute("PRAGMA user_version").fetchone()
    [application] = db.execute("PRAGMA application_id").fetchone()
    if application == _APPLICATION and version in _SINCE:
        lacks = "".join(_SINCE[each] for each in range(version, _VERSION))
        db.executescript(f"BEGIN IMMEDIATE; {lacks} PRAGMA user_version = {_VERSION}; COMMIT;")
    if version == 0:
        # One transaction: a kill leaves an empty file, which begins anew.
        db.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} {pins.SCHEMA} PRAGMA application_id = {_APPLICATION};"
            f" PRAGMA user_version = {_VERSION}; COMMIT;"
        )
    elif application != _APPLICATION:
        problem = f"The edge's file {path} is another program's database."
        raise Refusal(Code.STORE_DAMAGED, problem, "Move it and its -wal and -shm away: the hub has all mail.")
    elif version > _VERSION:
        problem = f"The edge's file {path} has schema {version}; this program knows {_VERSION}."
        raise Refusal(Code.STORE_NEWER, problem, "Upgrade mcp-mailbox in this environment.")
