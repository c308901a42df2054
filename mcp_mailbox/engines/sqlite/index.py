"""The index of words: a file of its own beside the mail, which can be lost at any time and is made anew.

It follows the mail behind a watermark, in slices, in the thread of those who search, and never in the writer's: what
is sent waits for no index. All that is said in it is found by number, and looked at again in the mail before anybody
sees it. Which of it somebody may see is not known here.

A message's row is its number and a text: its words, and words about it (`words.reader` …). Of the text only the index
is kept, without places in it: that halves it, and a word costs one list.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mcp_mailbox.engines.sqlite import words
from mcp_mailbox.engines.sqlite.rows import attached, format_of, within
from mcp_mailbox.engines.sqlite.schema import Place, give_back_pages
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Format
from mcp_mailbox.view import query

logger = logging.getLogger(__name__)

FILE = "search.db"
APPLICATION = 0x4D425352  # "MBSR"
VERSION = 2
"""Of how text becomes words, too: an index of another version is made anew."""
WINDOW = 1 << 19
"""Messages of the history that are looked through at once.

In FTS5 a range of rowids bounds what is found and not what is looked through: two words that many messages have, and
none both, are compared to the end. So each message has a word for its window: that list ends.
"""
_SLICE = 200
"""Messages that are indexed at once,"""
_SLICE_SIZE = 1 << 18
"""and bytes of bodies: 15 ms, 100 in Chinese, which a search may have to wait."""
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_MODULE = "fts5"
_MISSING = ("no such table", "vtable constructor failed")

_SCHEMA = f"""
CREATE TABLE progress (
    store    BLOB    NOT NULL,   -- of which store
    seq      INTEGER NOT NULL,   -- up to which message
    mark     INTEGER NOT NULL,   -- the last of these that could be read, and what it was:
    accepted INTEGER NOT NULL,   -- a store that was restored has another one there, or none
    checksum INTEGER NOT NULL
);
-- What was taken out and may be in the mail yet: a word is taken out once, or the index is no longer sound.
CREATE TABLE forgotten (
    seq INTEGER PRIMARY KEY
);
CREATE VIRTUAL TABLE said USING {_MODULE}(
    text, content = '', columnsize = 0, detail = none, tokenize = "{words.STEMMER}"
);
"""
_PROGRESS = "SELECT store, seq, mark, accepted, checksum FROM progress"
_ADVANCE = "UPDATE progress SET seq = ?, mark = ?, accepted = ?, checksum = ?"
_ADD = "INSERT INTO said (rowid, text) VALUES (?, ?)"
_TAKE_OUT = "INSERT INTO said (said, rowid, text) VALUES ('delete', ?, ?)"
_NEWEST = "SELECT rowid FROM said WHERE said MATCH ? AND rowid >= ? AND rowid <= ? ORDER BY rowid DESC LIMIT ?"
_OLDEST = "SELECT rowid FROM said WHERE said MATCH ? AND rowid >= ? AND rowid <= ? ORDER BY rowid LIMIT ?"


class Damaged(Refusal):
    """The index is not what it should be. It has been thrown away."""

    def __init__(self) -> None:
        super().__init__(Code.STORE_FAILED, "The search index was damaged and is made anew.", "Search again soon.")


class Index:
    """The index of one store, whose `secret` tells it from others. For one thread, with its connection to the mail."""

    def __init__(self, path: Path, secret: bytes) -> None:
        self._path = path
        self._store = hashlib.blake2b(secret, person=b"search index").digest()
        self._db: sqlite3.Connection | None = None
        self._place: Place | None = None
        self._asked: sqlite3.Connection | None = None
        self.through = 0
        """The last message that is indexed,"""
        self.until = 0
        """and when it was accepted."""

    def follow(self, mail: sqlite3.Connection) -> bool:
        """Index the next slice; return whether there is more.

        Raises Damaged once it has thrown the index away, Refusal when there can be none now.
        """
        last = _last(mail)
        if not last:
            return False  # no file before there is mail
        self._tokenizer()  # nor where there can be no index
        with self._open(mail) as db:
            if self.through >= last:
                return False
            rows, through = _readable(mail, self.through, last)
            mark = rows[-1] if rows else None
            db.execute("BEGIN IMMEDIATE")
            db.executemany(_ADD, ((row["seq"], _text(mail, row)) for row in rows))
            if mark is not None:
                db.execute(_ADVANCE, (through, mark["seq"], mark["accepted"], mark["checksum"]))
            else:
                db.execute("UPDATE progress SET seq = ?", (through,))
            db.execute("COMMIT")
            self.through = through
            self.until = mark["accepted"] if mark is not None else self.until
        return through < last

    def forget(self, mail: sqlite3.Connection, seqs: Sequence[int]) -> None:
        """Take out messages that are about to be removed from the mail, and put back those that were not after all.

        Raises Refusal when it cannot now. What it holds of a text that was damaged since stays: the mail decides.
        """
        if not self._path.exists():
            return
        try:
            with self._open(mail) as db:
                db.execute("BEGIN IMMEDIATE")
                waiting = {row[0] for row in db.execute("SELECT seq FROM forgotten")}
                for seq in waiting.difference(seqs):
                    db.executemany(_ADD, ((row["seq"], _text(mail, row)) for row in _sound(mail, seq)))
                    db.execute("DELETE FROM forgotten WHERE seq = ?", (seq,))
                for seq in seqs:
                    if seq <= self.through and seq not in waiting:
                        db.executemany(_TAKE_OUT, ((row["seq"], _text(mail, row)) for row in _sound(mail, seq)))
                        db.execute("INSERT INTO forgotten (seq) VALUES (?)", (seq,))
                self._move_mark(db, mail, frozenset(seqs))
                db.execute("COMMIT")
                give_back_pages(db)
        except Damaged:
            return  # it is made anew of what there is then

    def _move_mark(self, db: sqlite3.Connection, mail: sqlite3.Connection, seqs: frozenset[int]) -> None:
        """Have the mark be a message that stays: without it the index would be taken for another store's."""
        mark = db.execute("SELECT mark FROM progress").fetchone()[0]
        if mark not in seqs:
            return
        while mark in seqs:
            row = mail.execute(query.LAST_TO, (mark - 1,)).fetchone()
            mark, accepted, checksum = tuple(row) if row is not None else (0, 0, 0)
        db.execute(_ADVANCE, (self.through, mark, accepted, checksum))

    def find(
        self,
        mail: sqlite3.Connection,
        every: Sequence[str],
        first: int,
        last: int,
        limit: int,
        *,
        oldest_first: bool,
        some: Sequence[str] = (),
    ) -> Sequence[int]:
        """Return the numbers of messages, from `first` to `last` in one window, that have every one of these words.

        And one of `some`, where there are any.
        """
        match = " AND ".join(f'"{word}"' for word in (words.window(first // WINDOW), *every))
        if some:
            one = " OR ".join(f'"{word}"' for word in some)
            match += f" AND ({one})"
        with self._open(mail) as db:
            return [row[0] for row in db.execute(_OLDEST if oldest_first else _NEWEST, (match, first, last, limit))]

    def words(self, text: str) -> list[str]:
        """Return the words of a query, each once; no word has a quote or anything else that MATCH would read."""
        db = self._tokenizer()
        db.execute("INSERT INTO asked (rowid, text) VALUES (1, ?)", (words.spread(text, asked=True),))
        found = [row[0] for row in db.execute("SELECT term FROM terms") if row[0]]  # an accent alone leaves nothing
        db.execute("INSERT INTO asked (asked) VALUES ('delete-all')")
        return found

    def _tokenizer(self) -> sqlite3.Connection:
        if self._asked is None:
            self._asked = _tokenizing()
        return self._asked

    def close(self) -> None:
        """Let go of the file."""
        for db in (self._db, self._asked):
            if db is not None:
                db.close()
        self._db = self._asked = None

    # -- the file

    @contextlib.contextmanager
    def _open(self, mail: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        """Lend the connection, opened or made anew as need be. Raises Damaged and Refusal for what goes wrong."""
        try:
            if self._db is None or self._place is None or not self._place.kept:
                self._db = self._prepared(mail)
                self._place = Place(self._path)
            yield self._db
        except (sqlite3.Error, OSError) as error:
            if self._db is not None and self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            if _is_damage(error):
                logger.warning("the search index is damaged (%s) and is made anew", error)
                self._remove()
                raise Damaged from error
            raise _unusable(error) from error

    def _prepared(self, mail: sqlite3.Connection) -> sqlite3.Connection:
        if self._db is not None:
            self._db.close()
            self._db = None
        with contextlib.ExitStack() as stack:
            db = stack.enter_context(contextlib.closing(self._connect()))
            if self._is_ours(db, mail):
                stack.pop_all()
                return db
        self._remove()
        with contextlib.ExitStack() as stack:
            db = stack.enter_context(contextlib.closing(self._connect()))
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
            )
            db.execute("INSERT INTO progress VALUES (?, 0, 0, 0, 0)", (self._store,))
            stack.pop_all()
        return db

    def _connect(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        # What is lost with the power is indexed again; what is there is whole (pragma_synchronous, WAL and NORMAL).
        db.execute("PRAGMA synchronous = NORMAL")
        return db

    def _is_ours(self, db: sqlite3.Connection, mail: sqlite3.Connection) -> bool:
        """Whether this is the index of that mail, as far as it goes."""
        try:
            kind = [db.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in ("application_id", "user_version")]
            if kind != [APPLICATION, VERSION]:
                return False
            db.execute("SELECT rowid FROM said WHERE said MATCH 'x' LIMIT 0").fetchone()
            store, seq, mark, accepted, checksum = db.execute(_PROGRESS).fetchone()
        except (sqlite3.DatabaseError, TypeError) as error:  # TypeError: no row
            if isinstance(error, TypeError) or _is_damage(error):
                return False
            raise
        try:
            there = mail.execute(query.MARK, (mark,)).fetchone()
        except sqlite3.DatabaseError:  # of the mail: whoever reads it is told
            there = None
        same = (mark == 0 and there is None) or (there is not None and tuple(there) == (accepted, checksum))
        if store != self._store or seq > _last(mail) or not same:
            return False
        self.through, self.until = seq, accepted
        return True

    def _remove(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self.through = self.until = 0


def _readable(mail: sqlite3.Connection, after: int, last: int) -> tuple[Sequence[sqlite3.Row], int]:
    """Return the next slice and where it ends. What is damaged is passed over: whoever reads it is told."""
    rows: list[sqlite3.Row] = []
    try:
        rows.extend(within(mail.execute(query.INDEXED, (after, _SLICE)), _SLICE_SIZE))
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        last = after + 1  # when it is the very next one
    return rows, rows[-1]["seq"] if rows else last


def _sound(mail: sqlite3.Connection, seq: int) -> Sequence[sqlite3.Row]:
    """Return the message as it was indexed, nothing when it is not as it was."""
    try:
        rows = mail.execute(query.INDEXED, (seq - 1, 1)).fetchall()
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        return ()
    return [row for row in rows if row["seq"] == seq and _checksum(row) == row["checksum"]]


def _checksum(row: sqlite3.Row) -> int:
    return zlib.crc32(row["text"], zlib.crc32(row["title"]))


def _last(mail: sqlite3.Connection) -> int:
    return int(mail.execute(query.LAST).fetchone()[0])


def _text(mail: sqlite3.Connection, row: sqlite3.Row) -> str:
    """Return all that a message is found by: what it says, what its attachments are called."""
    body = row["text"].decode(errors="replace")
    if format_of(row) is Format.JSON:
        body = words.unescaped(body)
    recipients = set(map(int, row["recipients"].strip("[]").split(",")))
    mailboxes = {row["sender"], *(each for each in recipients if each > 0)}
    about = [words.window(row["seq"] // WINDOW), words.sender(row["sender"]), words.thread(row["thread"])]
    about += map(words.reader, mailboxes)
    about += (words.channel(-each) for each in recipients if each < 0)
    titles = [row["title"].decode(errors="replace"), *(each.name for each in attached(mail, row))]
    return f"{' '.join(about)} {words.spread(' '.join(titles))}\n{words.spread(body)}"


def _tokenizing() -> sqlite3.Connection:
    """Return a place where the tokenizer says which words a text has. Their endings stay: MATCH takes them off."""
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"""
            CREATE VIRTUAL TABLE asked USING {_MODULE}(
                text, content = '', columnsize = 0, detail = none, tokenize = "{words.TOKENIZER}")
        """)
        db.execute("CREATE VIRTUAL TABLE terms USING fts5vocab('asked', 'row')")
    except sqlite3.OperationalError as error:
        db.close()
        raise _unusable(error) from error
    return db


def _is_damage(error: Exception) -> bool:
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED or str(error).startswith(_MISSING)


def _unusable(error: Exception) -> Refusal:
    if "no such module" in str(error):
        version = sqlite3.sqlite_version
        return Refusal(
            Code.STORE_FAILED,
            f"There is no search here: Python's SQLite {version} has no FTS5.",
            "Everything else works. Use a Python whose SQLite has it.",
        )
    return Refusal(
        Code.STORE_FAILED,
        f"The search index cannot be used ({error}).",
        "Everything else works. Try again later; space on the disk or permissions may be missing.",
    )
