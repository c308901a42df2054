"""Names reserved and released: checked and set in one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from mcp_mailbox.addresses import Address
from mcp_mailbox.engines.sqlite.common import KEY_AGE, Common, request_key
from mcp_mailbox.engines.sqlite.rows import Box, to_reservation
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.reservation import HELD_LIMIT, NAMES_LIMIT, SPACE_LIMIT, Mode, Reservation, Terms, conflicts
from mcp_mailbox.store import Origin, Released, Reserved
from mcp_mailbox.view import apply, query

_FORGET_AT_MOST = NAMES_LIMIT
"""What has ended is dropped as fast as a call can add to it, and no faster."""


class Reserving:
    """The verbs about reservations."""

    def __init__(self, common: Common) -> None:
        self._now = common.now
        self._registry = common.registry

    def reserve(
        self, db: sqlite3.Connection, holder: Address, names: Sequence[str], terms: Terms, origin: Origin
    ) -> Reserved:
        """Return what is held now, or what stands in the way."""
        box = self._registry.box(db, holder)
        key = f"reserve {request_key(origin)}"
        known = db.execute(query.KNOWN, (box.id, key)).fetchone()
        if known is not None:
            return Reserved(tuple(_told(box, json.loads(known["answer"]))))
        now = self._now()
        rows = db.execute(query.HELD, (box.address.space, now)).fetchall()
        found = conflicts(names, terms.mode, [to_reservation(row) for row in rows if row["mailbox"] != box.id])
        if found:
            return Reserved((), tuple(found))
        mine = {row["name"]: to_reservation(row) for row in rows if row["mailbox"] == box.id}
        fresh = len(set(names) - mine.keys())
        _check_room(len(mine), fresh, HELD_LIMIT, "Your mailbox")
        _check_room(len(rows), fresh, SPACE_LIMIT, "The space")
        held = [_extended(box, name, terms, mine.get(name), now) for name in names]
        for each in held:
            new = apply.Holding(box.id, each.name, box.address.space, each.mode, each.note, each.made_at, each.until)
            apply.hold(db, new)
        answer = [[each.name, each.mode, each.note, each.made_at, each.until] for each in held]
        self._remember(db, box, key, answer, now)
        return Reserved(tuple(held))

    def release(self, db: sqlite3.Connection, holder: Address, names: Sequence[str] | None, origin: Origin) -> Released:
        """Return what was released."""
        box = self._registry.box(db, holder)
        key = f"release {request_key(origin)}"
        known = db.execute(query.KNOWN, (box.id, key)).fetchone()
        if known is not None:
            return Released(*map(tuple, json.loads(known["answer"])))
        now = self._now()
        rows = db.execute(query.HELD, (box.address.space, now)).fetchall()
        mine = sorted(row["name"] for row in rows if row["mailbox"] == box.id)
        asked = None if names is None else {name.rstrip("/") for name in names}
        released = [name for name in mine if asked is None or name.rstrip("/") in asked]
        for name in released:
            apply.let_go(db, box.id, name)
        found = {name.rstrip("/") for name in released}
        answer = (released, [name for name in names or () if name.rstrip("/") not in found])
        self._remember(db, box, key, answer, now)
        return Released(*map(tuple, answer))

    def held(self, db: sqlite3.Connection, space: str) -> Sequence[Reservation]:
        """Return what is held in a space. Runs in the reader's thread."""
        return [to_reservation(row) for row in db.execute(query.HELD, (space, self._now())).fetchall()]

    def _remember(self, db: sqlite3.Connection, box: Box, key: str, answer: object, now: int) -> None:
        apply.remember(db, box.id, key, b"", json.dumps(answer), now)
        for row in db.execute(query.ENDED, (now, _FORGET_AT_MOST)).fetchall():
            apply.let_go(db, row["mailbox"], row["name"])
        apply.forget_keys(db, now - KEY_AGE, _FORGET_AT_MOST)


def _extended(box: Box, name: str, terms: Terms, before: Reservation | None, now: int) -> Reservation:
    until = now + terms.term
    if before is None:
        return Reservation(name, box.address, box.owner, terms.mode, terms.note, now, until)
    note = terms.note or before.note
    return Reservation(name, box.address, box.owner, terms.mode, note, before.made_at, max(until, before.until))


def _told(box: Box, answer: Iterable[tuple[str, str, str, int, int]]) -> Iterable[Reservation]:
    for name, mode, note, made, until in answer:
        yield Reservation(name, box.address, box.owner, Mode(mode), note, made, until)


def _check_room(held: int, fresh: int, limit: int, where: str) -> None:
    if fresh and held + fresh > limit:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"{where} holds {held} names; {fresh} more would be over {limit}.",
            "Release some, or reserve a folder (src/) or a pattern (src/**/*.py) instead of each file.",
        )
