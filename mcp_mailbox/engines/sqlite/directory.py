"""Mailboxes found: by name, or by the rarest of the terms that are looked for.

Whatever is looked for, a page looks at so many mailboxes and no more: the few that have a rare term all at once, else
name after name until the page is full or enough have been seen; the cursor then says where to go on.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

from mcp_mailbox.addresses import Address
from mcp_mailbox.directory import EVERY_SPACE, Entry, Search, Term
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.rows import unread
from mcp_mailbox.mailbox import Contact
from mcp_mailbox.report import SYSTEM
from mcp_mailbox.store import Found
from mcp_mailbox.view import apply, query

_RARE = 256
"""Mailboxes that are looked at one by one, and put in order, because they have a term."""
_WALKED = 300
"""Mailboxes that are looked at for one page; a space counts as `_SPACE` of them."""
_SPACE = 30
_BEHIND, _FROM = 0, 1


class _Step(NamedTuple):
    """A place that was come to: behind a mailbox, which may be one to show, or at the beginning of its space."""

    where: int
    mailbox: int
    found: bool


class _Asker(NamedTuple):
    """For whom: a principal, and whether it has a mailbox in the space that is looked into."""

    principal: str
    member: bool

    def sees_all(self, contact: Contact) -> bool:
        """Whether others' mailboxes that say so are there for this one."""
        return contact.shows(same_space=self.member)

    def sees(self, row: sqlite3.Row) -> bool:
        """Whether this mailbox is."""
        own = bool(row["owner"] == self.principal)
        return row["owner"] != SYSTEM and (own or self.sees_all(Contact(row["contact"])))


class Directory:
    """The verbs about the directory."""

    def __init__(self, common: Common) -> None:
        self._codec = common.codec
        self._now = common.now
        self._registry = common.registry

    def find(
        self,
        db: sqlite3.Connection,
        principal: str,
        search: Search,
        limit: int,
        cursor: str | None,
        within: str | None = None,
    ) -> Found:
        """Return a page. Runs in the reader's thread."""
        if within is not None and search.space == EVERY_SPACE:
            search = replace(search, space=within)
        of = f"directory {principal!r} {search}"
        begin = self._codec.read_cursor(of, cursor) if cursor is not None else None
        entries: list[Entry] = []
        if within not in {None, search.space}:
            return Found(entries)
        with closing(_steps(db, principal, search, begin)) as steps:
            walked = 0
            for step in steps:
                walked += _SPACE if step.where == _FROM else 1
                if step.found and len(entries) == limit:
                    return Found(entries, entries[-1].cursor)
                behind = self._codec.cursor(of, step.where, step.mailbox)
                if step.found:
                    entries.append(self._entry(db, step.mailbox, principal, behind))
                if walked >= _WALKED:
                    return Found(entries, behind)
        return Found(entries)

    def _entry(self, db: sqlite3.Connection, mailbox: int, principal: str, cursor: str) -> Entry:
        now = self._now()
        row = db.execute(query.ENTRY, (now, mailbox)).fetchone()
        return Entry(
            Address(row["name"], row["space"]),
            row["owner"],
            row["about"],
            tuple(json.loads(row["skills"])),
            cursor,
            row["status"],
            bool(row["away"]),
            row["seen"] or None,
            unread(db, mailbox, now) if row["owner"] == principal else None,
            contact=Contact(row["contact"]),
        )

    def note_seen(self, db: sqlite3.Connection, mailbox: Address, at: int) -> None:
        """Keep that somebody was there."""
        found = self._registry.find(db, mailbox)
        if found is not None:
            apply.note_seen(db, found.id, at)


def _steps(
    db: sqlite3.Connection, principal: str, search: Search, begin: tuple[int, ...] | None
) -> Generator[_Step, None, None]:
    """Go through the spaces that are looked into, from that place on."""
    space, after = search.space, ""
    if begin is not None:
        where, mailbox = begin
        row = db.execute(query.LISTED, (mailbox,)).fetchone()
        space, after = row["space"], row["folded"] if where == _BEHIND else ""
    if search.space != EVERY_SPACE or begin is not None:
        yield from _in_space(db, principal, search, space, after)
    if search.space == EVERY_SPACE:
        passed = space if begin is not None else ""
        while (row := db.execute(query.NEXT_SPACE, (principal, passed)).fetchone()) is not None:
            passed = row["space"]
            yield _Step(_FROM, row["id"], found=False)
            yield from _in_space(db, principal, search, passed, "")


def _in_space(
    db: sqlite3.Connection, principal: str, search: Search, space: str, after: str
) -> Generator[_Step, None, None]:
    """Go through a space behind that name."""
    asker = _Asker(principal, db.execute(query.MEMBER, (principal, space)).fetchone() is not None)
    having = [db.execute(query.WITH_TERM, (space, *term, _RARE + 1)).fetchall() for term in search.terms]
    rarest = min(having, key=len, default=None)
    if rarest is not None and len(rarest) <= _RARE:
        rows = [db.execute(query.LISTED, (mailbox,)).fetchone() for mailbox in {row[0] for row in rarest}]
        seen = sorted((row["folded"], row["id"]) for row in rows if row["folded"] > after and asker.sees(row))
        yield from (_Step(_BEHIND, mailbox, _has(db, mailbox, search.terms)) for _, mailbox in seen)
    else:
        with closing(_by_name(db, asker, space, after)) as names:
            yield from (_Step(_BEHIND, mailbox, _has(db, mailbox, search.terms)) for mailbox in names)


def _has(db: sqlite3.Connection, mailbox: int, terms: tuple[Term, ...]) -> bool:
    return all(db.execute(query.HAS_TERM, (mailbox, *term)).fetchone() for term in terms)


def _by_name(db: sqlite3.Connection, asker: _Asker, space: str, after: str) -> Generator[int, None, None]:
    """Go through what is there for the asker: what of each contact it sees is in order by an index."""
    walks = [
        db.execute(query.BY_CONTACT, (space, contact, after))
        if asker.sees_all(contact)
        else db.execute(query.OWN_BY_CONTACT, (space, contact, after, asker.principal))
        for contact in Contact
    ]
    try:
        for row in heapq.merge(*walks, key=lambda row: str(row["folded"])):
            if row["owner"] != SYSTEM:
                yield row["id"]
    finally:
        for walk in walks:
            walk.close()
