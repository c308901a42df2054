"""Which keys an edge knows of which addresses, in its own file: what a hub says is not asked about them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from mcp_mailbox.engines.sqlite.writer import Writer

SCHEMA = """
CREATE TABLE pin (
    address TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    since INTEGER NOT NULL,
    how TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE signed_once (
    fingerprint TEXT NOT NULL,
    once TEXT NOT NULL,
    id TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, once)
) WITHOUT ROWID;
CREATE INDEX signed_once_at ON signed_once (at);
"""
_KEPT_MS = 400 * 24 * 3600 * 1000
"""For which it is known which message a signature was of: longer than a hub keeps mail by default."""
FIRST, CHOSEN, OWN = "first contact", "trusted", "own"


@dataclass(frozen=True, slots=True)
class Pin:
    """The key of an address, by its fingerprint; since when, in ms since 1970 UTC, and how it was learnt."""

    address: str
    fingerprint: str
    since: int
    how: str


class Pins:
    """The keys. Addresses are as they are compared. What changes them may raise Refusal as the file's verbs do."""

    def __init__(self, db: sqlite3.Connection, writer: Writer) -> None:
        self._writer = writer
        # Asked for each message that comes, and this process alone writes them.
        self._known: dict[str, str] = dict(db.execute("SELECT address, fingerprint FROM pin").fetchall())

    def of(self, address: str) -> str | None:
        """Return the fingerprint that is known for an address."""
        return self._known.get(address)

    async def meet(self, address: str, fingerprint: str, now: int) -> tuple[str, bool]:
        """Pin a key, unless the address has one; return what it has now, and whether it is new."""
        if (known := self.of(address)) is not None:
            return known, False

        def work(db: sqlite3.Connection) -> tuple[str, bool]:
            new = db.execute("INSERT OR IGNORE INTO pin VALUES (?, ?, ?, ?)", (address, fingerprint, now, FIRST))
            row = db.execute("SELECT fingerprint FROM pin WHERE address = ?", (address,)).fetchone()
            return str(row[0]), bool(new.rowcount)

        found, new = await self._writer.do(work)
        self._known[address] = found
        return found, new

    async def put(self, address: str, fingerprint: str, how: str, now: int) -> None:
        """Pin a key, whatever was known."""
        row = (address, fingerprint, now, how)
        await self._writer.do(lambda db: db.execute("INSERT OR REPLACE INTO pin VALUES (?, ?, ?, ?)", row))
        self._known[address] = fingerprint

    async def forget(self, address: str) -> bool:
        """Know no key of an address any more; return whether one was known."""
        was = await self._writer.do(
            lambda db: bool(db.execute("DELETE FROM pin WHERE address = ?", (address,)).rowcount)
        )
        self._known.pop(address, None)
        return was

    async def all(self) -> Sequence[Pin]:
        """Return all, by address."""
        return await self._writer.do(
            lambda db: [Pin(*row) for row in db.execute("SELECT address, fingerprint, since, how FROM pin ORDER BY 1")]
        )

    async def used(self, fingerprint: str, once: str, id_: str, now: int) -> str:
        """Note that a signature came with a message; return the id of the one that it came with first."""

        def work(db: sqlite3.Connection) -> str:
            db.execute("DELETE FROM signed_once WHERE at < ?", (now - _KEPT_MS,))
            db.execute("INSERT OR IGNORE INTO signed_once VALUES (?, ?, ?, ?)", (fingerprint, once, id_, now))
            known = (fingerprint, once)
            return str(db.execute("SELECT id FROM signed_once WHERE fingerprint = ? AND once = ?", known).fetchone()[0])

        return await self._writer.do(work)
