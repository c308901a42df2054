"""Leases taken, given back and ended."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import TRANSITIONS, Delivery, Outcome, State
from mcp_mailbox.engines.sqlite.codec import Codec, unknown_message
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.fence import already_settled, fenced
from mcp_mailbox.engines.sqlite.messages import whole
from mcp_mailbox.engines.sqlite.rows import address_of, names_of, waiting_delivery, within
from mcp_mailbox.errors import Refusal
from mcp_mailbox.message import Message
from mcp_mailbox.store import Lease, Origin, Settled, Wanted
from mcp_mailbox.view import apply, query


class Receiving:
    """The verbs that move a delivery."""

    def __init__(self, common: Common) -> None:
        self._codec = common.codec
        self._now = common.now
        self._registry = common.registry

    def claim(
        self,
        db: sqlite3.Connection,
        mailbox: Address,
        wanted: Wanted,
        lease: Lease,
        origin: Origin,
        present: Collection[str] | None,
    ) -> Sequence[Delivery]:
        """Return what is leased by that request now."""
        now = self._now()
        box = self._registry.box(db, mailbox).id
        before = db.execute(query.LEASED_BY_REQUEST, (origin.reader, origin.request)).fetchall()
        keys = [(row["mailbox"], row["priority"], row["seq"]) for row in before if row["mailbox"] == box]
        leased_before = bool(keys)
        if not leased_before:
            sql, values = self._ready(db, box, wanted)
            values |= {"mailbox": box, "now": now, "reader": origin.reader, "count": lease.count}
            values |= {"gone": json.dumps(_gone(db, box, now, present))}
            ready = db.execute(sql, values).fetchall() if sql else []
            keys = [(row["mailbox"], row["priority"], row["seq"]) for row in within(ready, lease.size)]
        rows = [db.execute(query.DELIVERED, key).fetchone() for key in keys]
        messages = [whole(self._codec, row, names_of(db, row["recipients"])) for row in rows]
        if leased_before:
            return [_leased(self._codec, *each, 0, each[1]["lease_until"]) for each in zip(messages, rows, strict=True)]
        apply.lease(db, keys, now + lease.term, origin.reader, origin.request)
        return [_leased(self._codec, *each, 1, now + lease.term) for each in zip(messages, rows, strict=True)]

    def _ready(self, db: sqlite3.Connection, box: int, wanted: Wanted) -> tuple[str, dict[str, Any]]:
        """Return the query for what is wanted, empty when there can be none, and its own parameters."""
        thread = self._thread(db, box, wanted.thread) if wanted.thread is not None else None
        sender = self._registry.find(db, wanted.sender) if wanted.sender else None
        if wanted.sender and sender is None:
            return "", {}
        values: dict[str, Any] = {"sender": sender.id if sender else None}
        if thread is not None:
            return query.READY_IN_THREAD, {**values, "thread": thread}
        return query.READY_FROM if sender else query.READY, values

    def _thread(self, db: sqlite3.Connection, box: int, text: str) -> int:
        """Return the thread that this id is in. Raises Refusal(UNKNOWN_MESSAGE), whatever else was asked."""
        seq = self._codec.read(text).seq
        row = db.execute(query.PARENT, (seq,)).fetchone()
        if row is None or not (row["sender"] == box or _has_received(db, box, seq)):
            raise unknown_message(text)
        return int(row["thread"])

    def give_back(self, db: sqlite3.Connection, reader: str, request: str | None, surfaced: bool) -> list[Address]:
        """Return the mailbox of each delivery that was put back."""
        if request is None:
            rows = db.execute(query.LEASED_BY_READER, (reader,)).fetchall()
        else:
            rows = db.execute(query.LEASED_BY_REQUEST, (reader, request)).fetchall()
        rows = [row for row in rows if surfaced or not row["surfaced"]]
        for row in rows:
            apply.free(db, row["mailbox"], row["priority"], row["seq"])
        return [address_of(db, row["mailbox"]) for row in rows]

    def settle(
        self, db: sqlite3.Connection, mailbox: Address, handles: Sequence[str], outcome: Outcome, reader: str
    ) -> tuple[Address, Sequence[Settled]]:
        """Return whose mailbox it was, and one result each."""
        box = self._registry.box(db, mailbox)
        return box.address, [Settled(text, self._settle(db, box.id, text, outcome, reader)) for text in handles]

    def _settle(self, db: sqlite3.Connection, box: int, text: str, outcome: Outcome, reader: str) -> Refusal | None:
        try:
            handle = self._codec.read(text)
        except Refusal as unreadable:
            return unreadable
        waiting = waiting_delivery(db, box, handle.seq)
        if waiting is None:
            return already_settled(db, box, handle, text, outcome)
        now = self._now()
        refusal = fenced(text, handle, waiting, reader, now)
        if refusal is not None:
            return refusal
        state = State.LEASED if waiting.reader else State.STORED
        target = TRANSITIONS[state].get(outcome.event, state)
        if target.settled:
            apply.settle(db, box, waiting.priority, handle.seq, target, now)
        else:
            apply.free(db, box, waiting.priority, handle.seq)
        return None


def _leased(codec: Codec, message: Message, row: sqlite3.Row, claimed: int, until: int) -> Delivery:
    """Return the delivery as its reader gets it; `claimed` is 1 for a row that was read before this claim."""
    handle = codec.handle(row["seq"], row["generation"] + claimed)
    return Delivery(message, handle, State.LEASED, until, row["attempts"])


def _gone(db: sqlite3.Connection, box: int, now: int, present: Collection[str] | None) -> list[str]:
    """Return the readers of leases that ran out who are not there: as few as such leases, however many are there."""
    if present is None:
        return []
    lapsed = {row["reader"] for row in db.execute(query.LAPSED_READERS, (box, now))}
    return [reader for reader in lapsed if reader not in present]


def _has_received(db: sqlite3.Connection, box: int, seq: int) -> bool:
    return waiting_delivery(db, box, seq) is not None or db.execute(query.DONE, (box, seq)).fetchone() is not None
