"""What the view says twice: rows that follow from other rows, for speed, and how they are made anew from these.

No applier lets them differ, so a difference is a bug or damage. Not here is what follows from nothing that is kept:
`done.listed` says more than `done.state`, for a dead letter may have been purged. Nor is the search index, a file of
its own that knows by itself when it is not the mail's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from mcp_mailbox.delivery import State
from mcp_mailbox.view.migrations import terms_of
from mcp_mailbox.view.query import FOOTPRINT, FOREVER

_UNSETTLED = "(SELECT count(*) FROM inbox i WHERE i.mailbox = m.id)"
_TERMS = "SELECT m.id, t.value, m.space FROM mailbox m, json_each(terms_of(m.name, m.about, m.skills)) t"
_HAD = "SELECT mailbox, term, space FROM mailbox_term"
_SIZES = f"SELECT b.space, sum({FOOTPRINT}) AS bytes FROM message m JOIN mailbox b ON b.id = m.sender GROUP BY b.space"  # noqa: S608
_COPIED = "FROM message m WHERE m.seq = inbox.seq"
_COPY = f"""
UPDATE inbox SET sender = (SELECT m.sender {_COPIED}), thread = (SELECT m.thread {_COPIED})
WHERE EXISTS (SELECT 1 {_COPIED})
"""  # noqa: S608 - constants only
_MEMBERS = f"(SELECT count(*) FROM subscription s WHERE s.channel = channel.id AND s.until = {FOREVER})"  # noqa: S608
_OF_MESSAGE = "FROM message m WHERE m.seq = channel_message.seq"
_PUBLISHED = f"""
UPDATE channel_message SET sender = (SELECT m.sender {_OF_MESSAGE}), at = (SELECT m.accepted {_OF_MESSAGE}),
                           expires = (SELECT m.expires {_OF_MESSAGE})
WHERE EXISTS (SELECT 1 {_OF_MESSAGE})
"""  # noqa: S608
_DEAD = ", ".join(str(int(state)) for state in State if state.dead_letter)


@dataclass(frozen=True, slots=True)
class Derived:
    """How many rows differ from what they should be, and the statements that make them so."""

    differing: str
    rebuild: tuple[str, ...]


DERIVED: Mapping[str, Derived] = {
    "counter": Derived(
        "SELECT count(*) FROM mailbox m LEFT JOIN counter c ON c.mailbox = m.id"  # noqa: S608 - constants only
        f" WHERE c.unsettled IS NOT {_UNSETTLED}",
        ("DELETE FROM counter", f"INSERT INTO counter (mailbox, unsettled) SELECT m.id, {_UNSETTLED} FROM mailbox m"),  # noqa: S608
    ),
    "mailbox_term": Derived(
        f"SELECT (SELECT count(*) FROM (SELECT * FROM ({_TERMS}) EXCEPT {_HAD}))"  # noqa: S608
        f" + (SELECT count(*) FROM (SELECT * FROM ({_HAD}) EXCEPT {_TERMS}))",
        ("DELETE FROM mailbox_term", f"INSERT INTO mailbox_term (mailbox, term, space) {_TERMS}"),
    ),
    "space_size": Derived(
        f"WITH real AS ({_SIZES}) SELECT"  # noqa: S608
        " (SELECT count(*) FROM space_size s LEFT JOIN real r ON r.space = s.space"
        " WHERE s.bytes <> ifnull(r.bytes, 0))"
        " + (SELECT count(*) FROM real r WHERE NOT EXISTS (SELECT 1 FROM space_size s WHERE s.space = r.space))",
        (
            "UPDATE space_size SET bytes = 0",
            (
                f"INSERT INTO space_size (space, bytes) SELECT space, bytes FROM ({_SIZES}) WHERE true"  # noqa: S608
                " ON CONFLICT (space) DO UPDATE SET bytes = excluded.bytes"
            ),
        ),
    ),
    "inbox": Derived(
        "SELECT count(*) FROM inbox i JOIN message m ON m.seq = i.seq"
        " WHERE i.sender <> m.sender OR i.thread <> m.thread",
        (_COPY,),
    ),
    "channel.members": Derived(
        f"SELECT count(*) FROM channel WHERE members <> {_MEMBERS}",  # noqa: S608
        (f"UPDATE channel SET members = {_MEMBERS}",),  # noqa: S608
    ),
    "channel_message": Derived(
        "SELECT count(*) FROM channel_message p JOIN message m ON m.seq = p.seq"
        " WHERE p.sender <> m.sender OR p.at <> m.accepted OR p.expires <> m.expires",
        (_PUBLISHED,),
    ),
    "done.listed": Derived(
        f"SELECT count(*) FROM done WHERE listed AND state NOT IN ({_DEAD})",  # noqa: S608
        (f"UPDATE done SET listed = 0 WHERE listed AND state NOT IN ({_DEAD})",),  # noqa: S608
    ),
}


def differing(db: sqlite3.Connection) -> dict[str, int]:
    """Return what is not as what it is derived from says, and in how many rows."""
    _know_terms(db)
    counts = {name: int(db.execute(each.differing).fetchone()[0]) for name, each in DERIVED.items()}
    return {name: count for name, count in counts.items() if count}


def rebuild(db: sqlite3.Connection) -> None:
    """Make all of it anew, in the transaction that the caller holds."""
    _know_terms(db)
    for each in DERIVED.values():
        for statement in each.rebuild:
            db.execute(statement)


def _know_terms(db: sqlite3.Connection) -> None:
    db.create_function("terms_of", 3, terms_of, deterministic=True)
