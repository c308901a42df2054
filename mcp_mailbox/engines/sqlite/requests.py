"""Requests: a stranger's first message is held, its mailbox's owner told, and what that one decides carried out.

Where a stranger stands is `consent`'s business. A held message stands in
`contact` alone, so that no other verb meets it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from mcp_mailbox import consent
from mcp_mailbox.addresses import Address
from mcp_mailbox.consent import Known, Standing
from mcp_mailbox.delivery import State
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.ending import MOST, Ending
from mcp_mailbox.engines.sqlite.rows import Box, waiting_delivery
from mcp_mailbox.errors import Refusal
from mcp_mailbox.message import Kind
from mcp_mailbox.report import request
from mcp_mailbox.view import apply, query


class Requests:
    """What all verbs share that meet strangers. Those that move a delivery return the mailboxes to ring."""

    def __init__(self, common: Common, ending: Ending) -> None:
        self._codec = common.codec
        self._now = common.now
        self._ending = ending

    # -- asking

    def is_let_in(self, db: sqlite3.Connection, box: Box, sender: Box) -> bool:
        """Whether the owner of that mailbox has let the sender in."""
        known = self._known(db, box.id, sender.id)
        return known is not None and known.standing is Standing.LET_IN

    def refusal(self, db: sqlite3.Connection, box: Box, sender: Box) -> Refusal | None:
        """Return why the sender may not ask to be let in."""
        now = self._now()
        since = now - consent.ASK_AGAIN
        asking = db.execute(query.ASKING, (box.id, sender.owner, since, consent.ASKING_LIMIT)).fetchall()
        return consent.may_ask(str(box.address), self._known(db, box.id, sender.id), len(asking), now)

    def ask(
        self, db: sqlite3.Connection, box: Box, sender: Box, seq: int, new: apply.NewMessage
    ) -> Collection[Address]:
        """Hold that message for the owner of the mailbox, and tell it."""
        now = self._now()
        term = now + consent.REQUEST_TERM
        expires = min(new.expires, term) if new.expires else term
        said = request(
            id=self._codec.id(seq),
            sender=str(sender.address),
            known_since=db.execute(query.MAILBOX_BY_ID, (sender.id,)).fetchone()["created"],
            subject=new.subject,
            preview=apply.preview(new.body),
        )
        notice = self._ending.post(
            db, box.id, box.address.space, new.thread or seq, seq, said, expires=expires, hops=new.hops, quotes=True
        )
        asked = apply.NewRequest(box.id, sender.id, now, seq, notice, sender.owner, expires, new.deliver_at, new.topic)
        apply.ask(db, asked)
        return (box.address,)

    # -- deciding

    def asker(self, db: sqlite3.Connection, mailbox: int, seq: int) -> int | None:
        """Return who asked that mailbox by this message, or by what this is the notice of; None when nobody did.

        A message that its sender asked by is a request for as long as it was not let in.
        """
        about = db.execute(query.PARENT, (seq,)).fetchone()
        if about is None:
            return None
        if about["kind"] == Kind.REQUEST:
            received = waiting_delivery(db, mailbox, seq) or db.execute(query.DONE, (mailbox, seq)).fetchone()
            asked = db.execute(query.PARENT, (about["reply_to"],)).fetchone() if received else None
            return int(asked["sender"]) if asked is not None else None
        row = db.execute(query.CONTACT, (mailbox, about["sender"])).fetchone()
        asked = row is not None and row["seq"] == seq and not row["let_in"]
        return int(about["sender"]) if asked and waiting_delivery(db, mailbox, seq) is None else None

    def was_accepted(self, db: sqlite3.Connection, mailbox: int, seq: int) -> bool:
        """Whether that mailbox let the sender of that message in, who had asked by it."""
        about = db.execute(query.PARENT, (seq,)).fetchone()
        row = db.execute(query.CONTACT, (mailbox, about["sender"])).fetchone() if about is not None else None
        return row is not None and row["seq"] == seq and row["standing"] == Standing.LET_IN

    def is_held(self, db: sqlite3.Connection, mailbox: int, seq: int) -> bool:
        """Whether that mailbox holds that message."""
        about = db.execute(query.PARENT, (seq,)).fetchone()
        return about is not None and self.holds(db, mailbox, about["sender"]) == seq

    def holds(self, db: sqlite3.Connection, mailbox: int, sender: int) -> int | None:
        """Return the message of that sender which that mailbox holds."""
        row = db.execute(query.CONTACT, (mailbox, sender)).fetchone()
        return row["seq"] if row is not None and row["standing"] == Standing.ASKED else None

    def let_in(self, db: sqlite3.Connection, box: Box, sender: int) -> Collection[Address]:
        """Let the sender in; what it asked by is stored, also when it was declined or had lapsed meanwhile."""
        row = db.execute(query.CONTACT, (box.id, sender)).fetchone()
        rung: Collection[Address] = ()
        if row is not None and row["seq"] and not row["let_in"]:
            rung = self._deliver(db, box, sender, row)
        self._place(db, box, sender, row, Standing.LET_IN)
        return rung

    def decline(self, db: sqlite3.Connection, box: Box, sender: int, reason: str) -> Collection[Address]:
        """Let the sender in no more; what it asked by is a dead letter, unless it was let in before."""
        row = db.execute(query.CONTACT, (box.id, sender)).fetchone()
        told: Collection[Address] = ()
        if row is not None and row["standing"] == Standing.ASKED:
            told = self._ending.turn_away(db, box.id, row["seq"], State.REJECTED, reason)
        self._place(db, box, sender, row, Standing.DECLINED)
        return told

    def review(self, db: sqlite3.Connection, box: Box) -> Collection[Address]:
        """Store what waits of senders whom the mailbox admits by now, without a word of its owner about any of them."""
        rung: set[Address] = set()
        for asked in db.execute(query.REQUESTS, (box.id,)).fetchall():
            same = asked["space"] == box.address.space
            if box.contact.admits(same_principal=False, same_space=same, answers=False):
                row = db.execute(query.CONTACT, (box.id, asked["sender"])).fetchone()
                rung.update(self._deliver(db, box, asked["sender"], row))
                self._place(db, box, asked["sender"], row, Standing.LAPSED, at=0)  # may ask again at once
        return rung

    def lapse(self, db: sqlite3.Connection) -> tuple[Collection[Address], bool]:
        """End what has waited for its time; return also whether there may be more."""
        over = db.execute(query.LAPSED_REQUESTS, (self._now(), MOST)).fetchall()
        told: set[Address] = set()
        for row in over:
            told.update(self._ending.turn_away(db, row["mailbox"], row["seq"], State.EXPIRED))
            apply.place(db, row["mailbox"], row["sender"], Standing.LAPSED, self._now())
        return told, len(over) == MOST

    def _known(self, db: sqlite3.Connection, mailbox: int, sender: int) -> Known | None:
        row = db.execute(query.CONTACT, (mailbox, sender)).fetchone()
        return Known(Standing(row["standing"]), row["at"]) if row is not None else None

    def _deliver(self, db: sqlite3.Connection, box: Box, sender: int, row: sqlite3.Row) -> Collection[Address]:
        """Store what the sender asked by, whatever became of it meanwhile; ring unless it is only a copy."""
        now = self._now()
        if row["standing"] == Standing.ASKED:
            apply.let_in(db, box.id, sender, now)
        elif db.execute(query.DONE, (box.id, row["seq"])).fetchone() is None:
            return ()  # its owner has put it back before
        else:
            apply.revive(db, box.id, row["seq"])
        apply.note_let_in(db, box.id, sender, now)
        quiet = box.id in json.loads(db.execute(query.CC, (row["seq"],)).fetchone()[0])
        return () if quiet or row["deliver_at"] > now else (box.address,)

    def _place(
        self,
        db: sqlite3.Connection,
        box: Box,
        sender: int,
        row: sqlite3.Row | None,
        standing: Standing,
        at: int | None = None,
    ) -> None:
        """Keep where the sender stands, and put away the notice by which the owner was asked."""
        if row is None or row["standing"] != standing:
            apply.place(db, box.id, sender, standing, self._now() if at is None else at)
        if row is not None:
            self.put_away(db, box.id, row["notice"])

    def put_away(self, db: sqlite3.Connection, mailbox: int, notice: int) -> None:
        """Be done with a notice, if it still waits: what it asks is decided."""
        waiting = waiting_delivery(db, mailbox, notice)
        if waiting is not None:
            self._ending.end(db, (mailbox, waiting["priority"], notice), State.ACKED)
