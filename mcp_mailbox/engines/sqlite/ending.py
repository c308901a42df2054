"""A delivery comes to an end: it leaves the hot table, and its sender is told where that is owed.

What is told is `report`'s business. It derives from the end itself, in the same transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from itertools import chain, count

from mcp_mailbox import addresses, message
from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import State
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.rows import address_of, owner_of
from mcp_mailbox.mailbox import DEFAULT_ATTEMPTS, DEFAULT_SHARE, Contact, Kind
from mcp_mailbox.message import Priority
from mcp_mailbox.report import POSTMASTER, SYSTEM, Notice, notice
from mcp_mailbox.view import apply, query
from mcp_mailbox.view.apply import Key

MOST = 100
"""Deliveries that end in one transaction by the passing of time."""


class Ending:
    """What all verbs that end deliveries share. Each returns the mailboxes to ring."""

    def __init__(self, common: Common) -> None:
        self._codec = common.codec
        self._now = common.now
        self._postmasters: dict[str, int] = {}

    def forget(self) -> None:
        """Remember nothing: a transaction was rolled back, and what it made is not there."""
        self._postmasters.clear()

    def end(self, db: sqlite3.Connection, key: Key, state: State, reason: str = "") -> Collection[Address]:
        """End a delivery."""
        mailbox, _, seq = key
        apply.settle(db, key, state, self._now(), reason)
        return self.tell(db, mailbox, seq, state, reason)

    def turn_away(
        self, db: sqlite3.Connection, mailbox: int, seq: int, state: State, reason: str = ""
    ) -> Collection[Address]:
        """End what was held."""
        apply.turn_away(db, mailbox, seq, state, self._now(), reason)
        return self.tell(db, mailbox, seq, state, reason, held=True)

    def tell(
        self, db: sqlite3.Connection, mailbox: int, seq: int, state: State, reason: str, *, held: bool = False
    ) -> Collection[Address]:
        """Tell the sender of what has ended, where that is owed.

        Of what came by a channel nobody is told: a thousand members would be a storm.
        """
        told = db.execute(query.REPORTED, (seq,)).fetchone()
        owed = state.dead_letter or (state is State.ACKED and told["receipt"])
        if not owed or told["kind"] != message.Kind.MESSAGE or told["sender"] == mailbox:
            return ()
        if db.execute(query.CAME_BY, (mailbox, seq)).fetchone()["channel"] is not None:
            return ()
        recipient, sender = address_of(db, mailbox), address_of(db, told["sender"])
        attempts = db.execute(query.DONE, (mailbox, seq)).fetchone()["attempts"]
        subject = told["subject"]
        said = notice(
            state,
            id=self._codec.id(seq),
            subject=subject,
            recipient=str(recipient),
            attempts=attempts,
            reason=reason,
            held=held,
        )
        quotes = bool(reason) and owner_of(db, mailbox) != owner_of(db, told["sender"])
        self.post(db, told["sender"], sender.space, told["thread"], seq, said, hops=told["hops"], quotes=quotes)
        return (sender,) if said.kind is message.Kind.REPORT else ()

    def post(
        self,
        db: sqlite3.Connection,
        to: int,
        space: str,
        thread: int | None,
        about: int | None,
        said: Notice,
        *,
        expires: int = 0,
        hops: int = 0,
        priority: Priority = Priority.NORMAL,
        quotes: bool = False,
    ) -> int:
        """Write to a mailbox of that space, in that thread and about that message, if any; return the notice's number.

        `quotes` says that it has words of another principal.
        It has the hops of what it is about: to answer reports with more mail is a chain, too.
        """
        return apply.store_message(
            db,
            apply.NewMessage(
                thread=thread,
                sender=self._postmaster(db, space),
                space=space,
                recipients=(to,),
                reply_to=about,
                priority=int(priority),
                accepted=self._now(),
                subject=said.subject,
                body=said.body,
                kind=int(said.kind),
                format=int(said.format),
                expires=expires,
                hops=hops,
                quotes=quotes,
            ),
        )

    def carry_off(
        self, db: sqlite3.Connection, rows: Iterable[sqlite3.Row], present: Collection[str], most: int = MOST
    ) -> tuple[Collection[Address], bool]:
        """End what is over and held by nobody who is present; return also whether there may be more."""
        over = []
        for row in rows:
            if row["reader"] is None or row["reader"] not in present:
                over.append(row)
            if len(over) == most:
                break
        told: set[Address] = set()
        for row in over:
            key = (row["mailbox"], row["priority"], row["seq"])
            told.update(self.end(db, key, State.DEAD if row["exhausted"] else State.EXPIRED))
        return told, len(over) == most

    def postmaster(self, db: sqlite3.Connection, space: str) -> int | None:
        """Return the number of the post office's own mailbox in that space, if there is one."""
        found = self._postmasters.get(space)
        row = db.execute(query.MAILBOX, (space, POSTMASTER)).fetchone() if found is None else None
        return int(row["id"]) if row is not None and row["owner"] == SYSTEM else found

    def _postmaster(self, db: sqlite3.Connection, space: str) -> int:
        """Return the number of the post office's own mailbox in that space, which is made when there is none."""
        found = self._postmasters.get(space)
        if found is None:
            # An older store may have somebody's mailbox of that name.
            names = chain((POSTMASTER,), (f"{POSTMASTER}-{number}" for number in count(2)))
            found = next(number for name in names if (number := self._own(db, name, space)) is not None)
            self._postmasters[space] = found
        return found

    def _own(self, db: sqlite3.Connection, name: str, space: str) -> int | None:
        row = db.execute(query.MAILBOX, (space, name)).fetchone()
        if row is not None:
            return int(row["id"]) if row["owner"] == SYSTEM else None
        looks, capitals = addresses.skeletons(name)[0], addresses.upper_skeleton(name)
        return apply.create_mailbox(
            db,
            apply.NewMailbox(
                space,
                name,
                name,
                looks,
                capitals,
                SYSTEM,
                "Says what became of mail.",
                (),
                self._now(),
                Contact.CLOSED,
                DEFAULT_ATTEMPTS,
                Kind.PERSONAL,
                DEFAULT_SHARE,
                addresses.written_skeleton(name),
            ),
        )
