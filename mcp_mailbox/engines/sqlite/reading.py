"""Whose turn it is to read a mailbox: one reader's, or a pool's, each with its share."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from mcp_mailbox.engines.sqlite.rows import Box
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Kind
from mcp_mailbox.store import Claimer
from mcp_mailbox.view import query

_ANY = 1 << 30


@dataclass(frozen=True, slots=True)
class Turn:
    """A reader may claim: at most `count` deliveries.

    `replaces` is the reader whose place it takes, empty for nobody's; None where it has that place already.
    """

    count: int
    replaces: str | None = None


def turn(
    db: sqlite3.Connection, box: Box, reader: str, claimer: Claimer, present: Collection[str] | None
) -> Turn | None:
    """Return what the reader may do now, None while it is not known whether another one is still there.

    Raises Refusal(READ_ELSEWHERE | LEASE_LIMIT).
    """
    if box.kind is Kind.POOL:
        return Turn(_share(db, box, reader, claimer))
    row = db.execute(query.OCCUPANT, (box.id,)).fetchone()
    if row is None:
        return Turn(_ANY, "")
    if row["reader"] == reader:
        return Turn(_ANY)
    if claimer.take_over:
        return Turn(_ANY, row["reader"])
    if present is None:
        return None
    if row["reader"] not in present:
        return Turn(_ANY, row["reader"])
    since = datetime.fromtimestamp(row["since"] / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    raise Refusal(
        Code.READ_ELSEWHERE,
        f"{row['label'] or 'Another agent'} reads {box.address} since {since}.",
        "Use a mailbox of your own; take_over=true reads here instead; create_mailbox(kind='pool') lets both read.",
    )


def _share(db: sqlite3.Connection, box: Box, reader: str, claimer: Claimer) -> int:
    if claimer.several:
        return box.share
    held = db.execute(query.HOLDS, (reader, box.id)).fetchall()
    if len(held) >= box.share:
        raise Refusal(
            Code.LEASE_LIMIT,
            f"You hold {len(held)} of {box.share} messages that one reader of {box.address} may hold.",
            "Ack, answer, release or reject what you hold; wait_for_message(ack=[…]) does it in one call.",
        )
    return box.share - len(held)
