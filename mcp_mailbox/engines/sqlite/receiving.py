"""Leases taken, extended, given back and ended; dead letters retried and purged."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import EVENT_OF, TRANSITIONS, Delivery, Outcome, Progress, Settlement, State
from mcp_mailbox.engines.sqlite import fanout, reading
from mcp_mailbox.engines.sqlite.codec import Handle, unknown_message
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.ending import Ending
from mcp_mailbox.engines.sqlite.fence import (
    already_settled,
    fenced,
    held,
    no_request,
    not_dead,
    not_leased,
    stale_lease,
)
from mcp_mailbox.engines.sqlite.messages import progress, thread_of, whole
from mcp_mailbox.engines.sqlite.requests import Requests
from mcp_mailbox.engines.sqlite.rows import Box, address_of, came_by, names_of, waiting_delivery, within
from mcp_mailbox.errors import Refusal
from mcp_mailbox.store import Claimer, Lease, Origin, Settled, Wanted
from mcp_mailbox.view import apply, query
from mcp_mailbox.view.apply import Key

_DECIDE = {Outcome.ACCEPT, Outcome.REJECT}
"""What may be a word about who asks to be let in."""


class Receiving:
    """The verbs that move a delivery. Those that may report something return whom to ring."""

    def __init__(self, common: Common, ending: Ending, requests: Requests) -> None:
        self._requests = requests
        self._codec = common.codec
        self._now = common.now
        self._registry = common.registry
        self._skips = common.skips
        self._ending = ending

    # -- leases

    def claim(
        self,
        db: sqlite3.Connection,
        mailbox: Address,
        wanted: Wanted,
        lease: Lease,
        origin: Origin,
        present: Collection[str] | None,
        claimer: Claimer,
    ) -> tuple[Sequence[Delivery] | None, Collection[Address]]:
        """Return what is leased by that request now; None to be asked again, while channels have more to deliver."""
        now = self._now()
        box = self._registry.box(db, mailbox)
        before = db.execute(query.LEASED_BY_REQUEST, (origin.reader, origin.request)).fetchall()
        keys = [_key(row) for row in before if row["mailbox"] == box.id]
        if keys:
            rows = [db.execute(query.DELIVERED, key).fetchone() for key in keys]
            return [self._delivery(db, row, row["generation"], progress(row, now)) for row in rows], ()
        sql, values = self._ready(db, box.id, wanted)
        turn = reading.turn(db, box, origin.reader, claimer, present)
        if turn is None:
            return [], ()
        count = min(lease.count, turn.count)
        values |= {"mailbox": box.id, "now": now, "reader": origin.reader, "count": count}
        values |= {"gone": json.dumps(_gone(db, box.id, now, present)), "attempts": box.attempts}
        caught = fanout.catch_up(db, box.id, now)
        if caught.skipped:
            self._skips.add((box.address.folded, box.address.space))
        if caught.more:
            return None, ()
        ready = self._found(db, box, sql, values)
        keys = [_key(row) for row in within(ready, lease.size)]
        rows = [db.execute(query.DELIVERED, key).fetchone() for key in keys]
        generations = [self._codec.next_generation(row["seq"], row["generation"]) for row in rows]
        until = now + lease.term
        try:
            found = [self._claimed(db, *each, now, until) for each in zip(rows, generations, strict=True)]
        except Refusal:
            if not caught.written:
                raise
            return None, ()  # a verb refuses before it writes: now that this is written, it will
        # Who asks again holds nothing any more of what is over. Refusals are behind us: from here on it writes.
        over = db.execute(query.OVER_OF_READER, {"reader": origin.reader, "now": now})
        told, _ = self._ending.carry_off(db, [row for row in over if row["mailbox"] == box.id], ())
        if turn.replaces is not None:
            apply.occupy(db, box.id, origin.reader, claimer.label, now)
        if claimer.take_over and turn.replaces:
            for row in db.execute(query.HOLDS, (turn.replaces, box.id)).fetchall():
                apply.give_back(db, (box.id, row["priority"], row["seq"]))
            told = {*told, box.address}  # who waits there learns of it, and what was taken back is handed out
        apply.lease(db, zip(generations, keys, strict=True), now, until, origin.reader, origin.request)
        return found, told

    def _found(self, db: sqlite3.Connection, box: Box, sql: str, values: dict[str, Any]) -> Sequence[sqlite3.Row]:
        """Return what is ready; of one sender who has nothing, what the postmaster says of mail to that one."""
        ready = db.execute(sql, values).fetchall() if sql else []
        if not ready and sql is query.READY_FROM:
            about = {**values, "postmaster": self._ending.postmaster(db, box.address.space)}
            ready = db.execute(query.READY_ABOUT, about).fetchall()
        return ready

    def _claimed(self, db: sqlite3.Connection, row: sqlite3.Row, generation: int, now: int, until: int) -> Delivery:
        """Return the delivery as it is once it is leased."""
        seen = row["seen"] or None
        leased = Progress(State.LEASED, row["attempts"], lease_until=until, surfaced_at=seen, leased_at=now)
        return self._delivery(db, row, generation, leased)

    def _delivery(self, db: sqlite3.Connection, row: sqlite3.Row, generation: int, progress: Progress) -> Delivery:
        message = whole(db, self._codec, row, names_of(db, row["recipients"]), names_of(db, row["cc"]))
        return Delivery(message, self._codec.handle(row["seq"], generation), progress, came_by(db, row))

    def _ready(self, db: sqlite3.Connection, box: int, wanted: Wanted) -> tuple[str, dict[str, Any]]:
        """Return the query for what is wanted, empty when there can be none, and its own parameters."""
        thread = thread_of(self._codec, db, box, wanted.thread) if wanted.thread is not None else None
        channel = wanted.sender is not None and wanted.sender.is_channel
        source = None
        if wanted.sender is not None:
            by_name = fanout.find(db, wanted.sender) if channel else None
            box_ = self._registry.find(db, wanted.sender) if not channel else None
            source = by_name["id"] if by_name is not None else box_.id if box_ is not None else None
            if source is None:
                return "", {}
        values: dict[str, Any] = {"sender": None if channel else source, "channel": source if channel else None}
        if thread is not None:
            return query.READY_IN_THREAD, {**values, "thread": thread}
        if source is None:
            return query.READY, values
        return query.READY_BY_CHANNEL if channel else query.READY_FROM, values

    def give_back(
        self, db: sqlite3.Connection, reader: str, request: str | None, surfaced: bool
    ) -> tuple[int, Collection[Address]]:
        """Return how many were put back."""
        if request is None:
            rows = db.execute(query.LEASED_BY_READER, (reader,)).fetchall()
        else:
            rows = db.execute(query.LEASED_BY_REQUEST, (reader, request)).fetchall()
        rows = [row for row in rows if surfaced or not row["surfaced"]]
        for row in rows:
            apply.give_back(db, _key(row))
        return len(rows), {address_of(db, row["mailbox"]) for row in rows}

    def sweep(self, db: sqlite3.Connection, after: int, present: Collection[str]) -> tuple[bool, Collection[Address]]:
        """Carry out what time has done; return also whether there may be more."""
        now = self._now()
        lapsed = db.execute(query.OVER_BY_LAPSE, {"after": after, "now": now})
        told, more = self._ending.carry_off(db, lapsed, present)
        expired = db.execute(query.OVER_BY_EXPIRY, {"now": now})
        told_too, more_too = self._ending.carry_off(db, expired, present)
        told_of_requests, more_requests = self._requests.lapse(db)
        return more or more_too or more_requests, {*told, *told_too, *told_of_requests}

    def leave(self, db: sqlite3.Connection, reader: str) -> tuple[bool, Collection[Address]]:
        """Carry off what is over of what a reader held; return also whether there may be more."""
        over = db.execute(query.OVER_OF_READER, {"reader": reader, "now": self._now()})
        told, more = self._ending.carry_off(db, over, ())
        return more, told

    def show(self, db: sqlite3.Connection, mailbox: Address, ids: Sequence[str]) -> None:
        """Note what a listing has shown."""
        box = self._registry.box(db, mailbox).id
        seqs = [self._codec.read(text).seq for text in ids]
        found = [(seq, waiting_delivery(db, box, seq)) for seq in seqs]
        apply.show(db, [(box, waiting["priority"], seq) for seq, waiting in found if waiting is not None], self._now())

    def note_ring(self, db: sqlite3.Connection, mailbox: Address) -> None:
        """Note that somebody was told."""
        apply.ring(db, self._registry.box(db, mailbox).id, self._now())

    # -- outcomes

    def settle(
        self, db: sqlite3.Connection, mailbox: Address, handles: Sequence[str], settlement: Settlement, reader: str
    ) -> tuple[Sequence[Settled], Collection[Address]]:
        """Return one result each."""
        box = self._registry.box(db, mailbox)
        told: set[Address] = set()
        results = [Settled(text, self._settle(db, box, text, settlement, reader, told)) for text in handles]
        return results, told

    def _settle(
        self,
        db: sqlite3.Connection,
        box: Box,
        text: str,
        settlement: Settlement,
        reader: str,
        told: set[Address],
    ) -> Refusal | None:
        try:
            handle = self._codec.read(text)
        except Refusal as unreadable:
            return unreadable
        asker = self._requests.asker(db, box.id, handle.seq) if settlement.outcome in _DECIDE else None
        if asker is not None:
            return self._decide(db, box, text, handle, asker, settlement, reader, told)
        if settlement.outcome is Outcome.ACCEPT:
            if self._requests.was_accepted(db, box.id, handle.seq):
                return None  # said again: whose answer was lost did it before
            return no_request(db, box.id, handle, text)
        if settlement.outcome in {Outcome.RETRY, Outcome.PURGE}:
            return self._clear(db, box, text, handle, settlement.outcome, told)
        return self._move(db, box, text, handle, settlement, reader, told)

    def _move(
        self,
        db: sqlite3.Connection,
        box: Box,
        text: str,
        handle: Handle,
        settlement: Settlement,
        reader: str,
        told: set[Address],
    ) -> Refusal | None:
        """End a lease or what nobody holds, put it back, or extend it."""
        waiting = self._waiting(db, box, handle.seq)
        if waiting is None:
            if self._requests.is_held(db, box.id, handle.seq):
                return held(text)
            return already_settled(db, box.id, handle, text, settlement.outcome)
        now = self._now()
        refusal = fenced(text, handle, waiting, reader, now)
        if refusal is not None:
            return refusal
        key = (box.id, waiting["priority"], handle.seq)
        if settlement.outcome is Outcome.EXTEND and not waiting["reader"]:
            return not_leased(text)
        target = TRANSITIONS[progress(waiting, now).state][EVENT_OF[settlement.outcome]]
        until = now + settlement.delay
        if target.settled:
            told.update(self._ending.end(db, key, target, settlement.reason))
        elif settlement.outcome is Outcome.EXTEND:
            apply.extend(db, key, until)
        elif waiting["reader"] and waiting["attempts"] >= box.attempts:
            told.update(self._ending.end(db, key, State.DEAD, settlement.reason))
        else:
            apply.release(db, key, now, until if settlement.delay else 0)
            if not settlement.delay:
                told.add(box.address)
        return None

    def _waiting(self, db: sqlite3.Connection, box: Box, seq: int) -> sqlite3.Row | None:
        """Return what is not settled, also when it was seen in a channel before it was delivered."""
        waiting = waiting_delivery(db, box.id, seq)
        if waiting is None:
            fanout.deliver_one(db, box.id, seq, self._now())
            waiting = waiting_delivery(db, box.id, seq)
        return waiting

    def _decide(
        self,
        db: sqlite3.Connection,
        box: Box,
        text: str,
        handle: Handle,
        asker: int,
        settlement: Settlement,
        reader: str,
        told: set[Address],
    ) -> Refusal | None:
        """Let in or decline who asked, by what is held or by the notice of it, which is then done with."""
        waiting = waiting_delivery(db, box.id, handle.seq)
        done = db.execute(query.DONE, (box.id, handle.seq)).fetchone()
        if waiting is not None:
            refusal = fenced(text, handle, waiting, reader, self._now())
            if refusal is not None:
                return refusal
        elif done is not None and handle.generation not in (None, done["generation"]):
            return stale_lease(text)
        if settlement.outcome is Outcome.ACCEPT:
            told.update(self._requests.let_in(db, box, asker))
        else:
            told.update(self._requests.decline(db, box, asker, settlement.reason))
        if waiting is not None:  # by a notice that was not the last of this sender
            self._requests.put_away(db, box.id, handle.seq)
        return None

    def _clear(
        self, db: sqlite3.Connection, box: Box, text: str, handle: Handle, outcome: Outcome, told: set[Address]
    ) -> Refusal | None:
        """Retry or purge a dead letter."""
        done = db.execute(query.DONE, (box.id, handle.seq)).fetchone()
        if done is None:
            if self._requests.is_held(db, box.id, handle.seq):
                return held(text)
            if waiting_delivery(db, box.id, handle.seq) is None:
                return unknown_message(text)
            return None if outcome is Outcome.RETRY else not_dead(text)
        if handle.generation not in (None, done["generation"]):
            return stale_lease(text)
        state = State(done["state"])
        if not state.dead_letter:
            return not_dead(text)
        if outcome is Outcome.RETRY:
            apply.revive(db, box.id, handle.seq)
            told.add(box.address)
        else:
            apply.purge(db, box.id, handle.seq)
        return None


def _key(row: sqlite3.Row) -> Key:
    return row["mailbox"], row["priority"], row["seq"]


def _gone(db: sqlite3.Connection, box: int, now: int, present: Collection[str] | None) -> list[str]:
    """Return the readers of leases that ran out who are not there: as few as such leases, however many are there."""
    if present is None:
        return []
    lapsed = {row["reader"] for row in db.execute(query.LAPSED_READERS, (box, now))}
    return [reader for reader in lapsed if reader not in present]
