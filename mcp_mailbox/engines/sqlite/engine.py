"""`store.Store` on SQLite: the check and the appliers run in one transaction, reads have a connection of their own.

The engine keeps the store's promises and knows no rule of the domain beyond them. One process owns the file; whoever
opens the store has made sure of that (`rendezvous`).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from mcp_mailbox import addresses, naming
from mcp_mailbox.addresses import Address
from mcp_mailbox.clocks import Onward
from mcp_mailbox.credentials import Credential
from mcp_mailbox.delivery import TRANSITIONS, Delivery, Outcome, State
from mcp_mailbox.engines.sqlite import failures
from mcp_mailbox.engines.sqlite.codec import Codec, unknown_message
from mcp_mailbox.engines.sqlite.fence import already_settled, fenced, stale_lease
from mcp_mailbox.engines.sqlite.reader import Reader
from mcp_mailbox.engines.sqlite.rows import (
    Box,
    address_of,
    find_mailbox,
    known_mailbox,
    names_of,
    to_credential,
    to_mailbox,
    unknown_mailbox,
    waiting_delivery,
    within,
)
from mcp_mailbox.engines.sqlite.schema import Place, prepare
from mcp_mailbox.engines.sqlite.writer import Writer
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Contact, Mailbox, Profile
from mcp_mailbox.message import Draft, Message, Priority
from mcp_mailbox.store import (
    Accepted,
    Clock,
    Lease,
    Listing,
    Opened,
    Origin,
    Page,
    Preview,
    Recipient,
    Ring,
    Settled,
    Wanted,
)
from mcp_mailbox.view import apply, query

KEY_AGE = 30 * 24 * 3600 * 1000
"""ms that a key is remembered."""
_FORGET_EVERY = 256
_FORGET_AT_MOST = 100
_NAMES_READ = 2000
_BOXES = 10_000
_NOBODY = 0
"""Stands for the sender of what no mailbox has asked for."""
_NOTHING = (1 << 62) - 1
"""Behind every message: a section that starts there is empty."""


@asynccontextmanager
async def open_store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    """Open the store, or make it, and close it cleanly on the way out.

    Raises Refusal(STORE_DAMAGED | STORE_NEWER | STORE_FULL | STORE_FAILED).
    """
    db = await anyio.to_thread.run_sync(prepare, path)
    try:
        try:
            secret, last = (db.execute(query.META, (name,)).fetchone()[0] for name in ("secret", "time"))
            reader = Reader(path)
        except (sqlite3.Error, TypeError) as error:
            raise failures.translate(error) from error
        store = SqliteStore(db, reader, Onward(clock, last), secret, Place(path))
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                # An empty transaction keeps what time it is; the disk may be full, and closing goes on.
                store.writer.later(lambda _: None)
                await reader.close()
                await store.writer.close()  # last: who can write clears the journal away
    finally:
        db.close()  # closed already, unless the store could not be opened


class SqliteStore:
    """The verbs.

    Private functions named `_do_…` run in the writer's thread inside its transaction, those named `_look_…` in the
    reader's.
    """

    def __init__(self, db: sqlite3.Connection, reader: Reader, clock: Clock, secret: bytes, place: Place) -> None:
        self.place = place
        self.clock = clock
        self.writer = Writer(db, self._seal, self._undone)
        self._reader = reader
        self._codec = Codec(secret)
        self._rings: list[Ring] = []
        self._accepts = 0
        self._boxes: dict[tuple[str, str], Box] = {}

    # -- the bell

    @contextmanager
    def on_ring(self, ring: Ring) -> Iterator[None]:
        """See `Store.on_ring`."""
        self._rings.append(ring)
        try:
            yield
        finally:
            self._rings.remove(ring)

    def _ring(self, mailboxes: Collection[Address]) -> None:
        for address in mailboxes:
            for ring in self._rings:
                ring(address)

    # -- what every transaction has

    def _seal(self, db: sqlite3.Connection) -> None:
        # A commit into a file that has no name any more would be durable for nobody.
        self.place.check()
        apply.note_time(db, self.clock.now())

    def _undone(self) -> None:
        self._boxes.clear()

    def _find(self, db: sqlite3.Connection, address: Address) -> Box | None:
        """Return what is remembered of a mailbox; who changes it clears that. In the writer only."""
        key = (address.name, address.space)
        found = self._boxes.get(key)
        if found is None:
            found = find_mailbox(db, address)
            if found is not None:
                if len(self._boxes) >= _BOXES:
                    self._boxes.clear()
                self._boxes[key] = found
        return found

    def _box(self, db: sqlite3.Connection, address: Address) -> Box:
        found = self._find(db, address)
        if found is None:
            raise unknown_mailbox(str(address))
        return found

    # -- mailboxes

    async def open(
        self, address: Address | None, owner: str, profile: Profile, origin: Origin, *, bind: bool = True
    ) -> Opened:
        """See `Store.open`."""
        space = address.space if address else "default"
        if address is not None and address.name:
            wanted = await self._wanted(address.name, space, owner, profile)
            return await self.writer.do(lambda db: self._do_open(db, wanted, profile, origin, bind=bind))
        names = naming.suggestions()
        opened = None
        while opened is None:  # suggestions never end
            wanted = await self._wanted(next(names), space, owner, profile)
            opened = await self.writer.do(partial(self._do_open_unnamed, wanted=wanted, origin=origin, bind=bind))
        return opened

    async def _wanted(self, name: str, space: str, owner: str, profile: Profile) -> apply.NewMailbox:
        looks, capitals = await anyio.to_thread.run_sync(_looks, name)
        about, skills, contact = profile.about or "", profile.skills or (), profile.contact or Contact.OPEN
        return apply.NewMailbox(space, name, addresses.fold(name), looks, capitals, owner, about, skills, 0, contact)

    def _do_open(
        self, db: sqlite3.Connection, wanted: apply.NewMailbox, profile: Profile, origin: Origin, *, bind: bool
    ) -> Opened:
        row = db.execute(query.MAILBOX, (wanted.space, wanted.folded)).fetchone()
        if row is None:
            alike = _lookalike(db, wanted)
            if alike is not None:
                theirs = f"the existing mailbox {alike['name']!r}" if alike["owner"] == wanted.owner else "another one"
                raise Refusal(
                    Code.NAME_CONFUSABLE,
                    f"{wanted.name!a} looks like {theirs}.",
                    "Choose a name that nobody can mistake for it.",
                )
            return self._create(db, wanted, origin, bind=bind)
        if row["owner"] != wanted.owner:
            raise Refusal(Code.NAME_TAKEN, f"The name {wanted.name!r} is taken.", "Choose another.")
        apply.describe_mailbox(db, row["id"], profile.about, profile.skills, profile.contact)
        if profile.contact is not None:
            self._boxes.clear()
        if bind:
            apply.bind_reader(db, origin.reader, row["id"], self.clock.now())
        known = db.execute(query.KNOWN, (_NOBODY, _key(origin))).fetchone()
        return self._opened(db, row["id"], created=known is not None and int(known["answer"]) == row["id"])

    def _do_open_unnamed(
        self, db: sqlite3.Connection, wanted: apply.NewMailbox, origin: Origin, *, bind: bool
    ) -> Opened | None:
        """Return None when that name is not free."""
        known = db.execute(query.KNOWN, (_NOBODY, _key(origin))).fetchone()
        if known is not None:
            return self._opened(db, int(known["answer"]), created=True)
        if db.execute(query.MAILBOX, (wanted.space, wanted.folded)).fetchone() or _lookalike(db, wanted):
            return None
        return self._create(db, wanted, origin, bind=bind)

    def _create(self, db: sqlite3.Connection, wanted: apply.NewMailbox, origin: Origin, *, bind: bool) -> Opened:
        now = self.clock.now()
        mailbox = apply.create_mailbox(db, replace(wanted, created=now))
        if bind:
            apply.bind_reader(db, origin.reader, mailbox, now)
        apply.remember(db, _NOBODY, _key(origin), b"", str(mailbox), now)
        return self._opened(db, mailbox, created=True)

    def _opened(self, db: sqlite3.Connection, mailbox: int, *, created: bool) -> Opened:
        found = self._look_mailbox(db, query.MAILBOX_BY_ID, (mailbox,))
        assert found is not None  # noqa: S101 - it has just been read or made
        return Opened(found, created)

    async def bound(self, reader: str) -> Mailbox | None:
        """See `Store.bound`."""
        return await self._reader.do(lambda db: self._look_mailbox(db, query.BOUND, (reader,)))

    async def mailbox(self, address: Address) -> Mailbox | None:
        """See `Store.mailbox`."""
        return await self._reader.do(lambda db: self._look_mailbox(db, query.MAILBOX, (address.space, address.folded)))

    def _look_mailbox(self, db: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> Mailbox | None:
        row = db.execute(sql, parameters).fetchone()
        return to_mailbox(row, self._unread(db, row["id"])) if row else None

    def _unread(self, db: sqlite3.Connection, box: int) -> int:
        return int(db.execute(query.UNREAD, (box, self.clock.now())).fetchone()[0])

    async def mailboxes(self, owner: str, space: str, prefix: str, limit: int) -> Sequence[Address]:
        """See `Store.mailboxes`."""
        low = addresses.fold(prefix)
        rows = await self._reader.do(
            lambda db: db.execute(query.BY_PREFIX, (owner, space, low, low + "\U0010ffff", limit)).fetchall()
        )
        return [Address(row["name"], row["space"]) for row in rows]

    async def similar(self, address: Address, owner: str) -> Address | None:
        """See `Store.similar`."""
        return await self._reader.do(lambda db: self._look_similar(db, address, owner))

    def _look_similar(self, db: sqlite3.Connection, address: Address, owner: str) -> Address | None:
        import difflib  # noqa: PLC0415 - only a mistake pays for it

        elsewhere = db.execute(query.SPACES, (address.folded, owner)).fetchall()
        if len(elsewhere) == 1:
            return Address(elsewhere[0]["name"], elsewhere[0]["space"])
        rows = db.execute(query.NAMES, (owner, address.space, _NAMES_READ)).fetchall()
        names = {addresses.fold(row["name"]): row["name"] for row in rows}
        close = difflib.get_close_matches(address.folded, names, n=1)
        return Address(names[close[0]], address.space) if close else None

    # -- sending

    async def accept(self, sender: Address, recipients: Sequence[Address], draft: Draft, origin: Origin) -> Accepted:
        """See `Store.accept`."""
        accepted, _ = await self.writer.do(
            lambda db: self._do_accept(db, sender, recipients, draft, origin), lambda done: self._ring(done[1])
        )
        return accepted

    def _do_accept(
        self,
        db: sqlite3.Connection,
        sender: Address,
        recipients: Sequence[Address],
        draft: Draft,
        origin: Origin,
    ) -> tuple[Accepted, Collection[Address]]:
        """Return the answer and for whom to ring."""
        own = self._box(db, sender)
        box = own.id
        key = f"k:{draft.key}" if draft.key is not None else _key(origin)
        digest = _digest(recipients, draft)
        known = db.execute(query.KNOWN, (box, key)).fetchone()
        if known is not None:
            if known["hash"] != digest:
                raise Refusal(
                    Code.KEY_CONFLICT,
                    f"The key {draft.key!r} was used for another message.",
                    "Use a new key for a new message; the same key only to repeat one.",
                )
            return self._accepted(json.loads(known["answer"]), repeated=True), []

        now = self.clock.now()
        parent = self._parent(db, box, draft.reply_to, origin) if draft.reply_to is not None else None
        found = [(address, self._admitting(db, address, own, parent)) for address in recipients]
        to = {row.id: row.address for _, row in found if row is not None}
        if not to:
            raise unknown_mailbox(str(recipients[0]))
        new = apply.NewMessage(
            thread=parent.thread if parent else None,
            sender=box,
            recipients=tuple(to),
            reply_to=parent.seq if parent else None,
            priority=int(draft.priority),
            accepted=now,
            subject=draft.subject,
            body=draft.body,
        )
        seq = apply.store_message(db, new)
        if parent is not None and parent.acks is not None:
            apply.settle(db, box, parent.acks, parent.seq, State.ACKED, now)
        results = [[str(row.address if row else address), row is not None] for address, row in found]
        answer = {"seq": seq, "thread": new.thread or seq, "to": results}
        apply.remember(db, box, key, digest, json.dumps(answer), now)
        self._forget_sometimes(db, now)
        return self._accepted(answer, repeated=False), to.values()

    def _admitting(self, db: sqlite3.Connection, address: Address, sender: Box, parent: _Parent | None) -> Box | None:
        """Return the mailbox if it takes this sender's mail: one that does not is as if it did not exist."""
        box = self._find(db, address)
        if box is None:
            return None
        admitted = box.contact.admits(
            same_principal=box.owner == sender.owner,
            same_space=box.address.space == sender.address.space,
            answers=parent is not None and parent.sender == box.id,
        )
        return box if admitted else None

    def _accepted(self, answer: Mapping[str, Any], *, repeated: bool) -> Accepted:
        results = tuple(Recipient(name, None if stored else unknown_mailbox(name)) for name, stored in answer["to"])
        id_ = self._codec.id(answer["seq"])
        thread = id_ if answer["thread"] == answer["seq"] else self._codec.id(answer["thread"])
        return Accepted(id_, thread, results, repeated)

    def _parent(self, db: sqlite3.Connection, mailbox: int, text: str, origin: Origin) -> _Parent:
        """Return what a reply answers, and whether answering acks it."""
        handle = self._codec.read(text)
        row = db.execute(query.PARENT, (handle.seq,)).fetchone()
        if row is None:
            raise unknown_message(text)
        waiting = waiting_delivery(db, mailbox, handle.seq)
        if waiting is None:
            done = db.execute(query.DONE, (mailbox, handle.seq)).fetchone()
            if done is None and row["sender"] != mailbox:
                raise unknown_message(text)
            if done is not None and handle.generation not in (None, done["generation"]):
                raise stale_lease(text)
            return _Parent(handle.seq, row["thread"], row["sender"], None)
        refusal = fenced(text, handle, waiting, origin.reader, self.clock.now())
        if refusal is not None and handle.generation is not None:
            raise refusal
        return _Parent(handle.seq, row["thread"], row["sender"], None if refusal else waiting.priority)

    def _forget_sometimes(self, db: sqlite3.Connection, now: int) -> None:
        self._accepts += 1
        if self._accepts % _FORGET_EVERY == 0:
            apply.forget(db, now - KEY_AGE, _FORGET_AT_MOST)

    # -- receiving

    async def claim(
        self, mailbox: Address, wanted: Wanted, lease: Lease, origin: Origin, present: Collection[str] | None
    ) -> Sequence[Delivery]:
        """See `Store.claim`."""
        return await self.writer.do(lambda db: self._do_claim(db, mailbox, wanted, lease, origin, present))

    def _do_claim(
        self,
        db: sqlite3.Connection,
        mailbox: Address,
        wanted: Wanted,
        lease: Lease,
        origin: Origin,
        present: Collection[str] | None,
    ) -> Sequence[Delivery]:
        now = self.clock.now()
        box = self._box(db, mailbox).id
        before = db.execute(query.LEASED_BY_REQUEST, (origin.reader, origin.request)).fetchall()
        keys = [(row["mailbox"], row["priority"], row["seq"]) for row in before if row["mailbox"] == box]
        leased_before = bool(keys)
        if not leased_before:
            sql, values = self._ready(db, box, wanted)
            values |= {"mailbox": box, "now": now, "reader": origin.reader, "count": lease.count}
            values |= {"all_present": present is None, "present": json.dumps(list(present or ()))}
            ready = db.execute(sql, values).fetchall() if sql else []
            keys = [(row["mailbox"], row["priority"], row["seq"]) for row in within(ready, lease.size)]
        rows = [db.execute(query.DELIVERED, key).fetchone() for key in keys]
        messages = [self._whole(row, names_of(db, row["recipients"])) for row in rows]
        if leased_before:
            return [_leased(self._codec, *each, 0, each[1]["lease_until"]) for each in zip(messages, rows, strict=True)]
        apply.lease(db, keys, now + lease.term, origin.reader, origin.request)
        return [_leased(self._codec, *each, 1, now + lease.term) for each in zip(messages, rows, strict=True)]

    def _ready(self, db: sqlite3.Connection, box: int, wanted: Wanted) -> tuple[str, dict[str, Any]]:
        """Return the query for what is wanted, empty when there can be none, and its own parameters."""
        sender = self._find(db, wanted.sender) if wanted.sender else None
        if wanted.sender and sender is None:
            return "", {}
        values: dict[str, Any] = {"sender": sender.id if sender else None}
        if wanted.thread is not None:
            seq = self._codec.read(wanted.thread).seq
            row = db.execute(query.PARENT, (seq,)).fetchone()
            if row is None or not (row["sender"] == box or _has_received(db, box, seq)):
                raise unknown_message(wanted.thread)
            return query.READY_IN_THREAD, {**values, "thread": row["thread"]}
        return query.READY_FROM if sender else query.READY, values

    async def surface(self, origin: Origin) -> None:
        """See `Store.surface`. Not worth an fsync of its own: it goes with the next commit."""
        self.writer.later(lambda db: apply.surface(db, origin.reader, origin.request))

    async def give_back(self, reader: str, request: str | None, *, surfaced: bool) -> int:
        """See `Store.give_back`."""
        freed = await self.writer.do(
            lambda db: self._do_give_back(db, reader, request, surfaced), lambda freed: self._ring(set(freed))
        )
        return len(freed)

    def _do_give_back(self, db: sqlite3.Connection, reader: str, request: str | None, surfaced: bool) -> list[Address]:
        if request is None:
            rows = db.execute(query.LEASED_BY_READER, (reader,)).fetchall()
        else:
            rows = db.execute(query.LEASED_BY_REQUEST, (reader, request)).fetchall()
        rows = [row for row in rows if surfaced or not row["surfaced"]]
        for row in rows:
            apply.free(db, row["mailbox"], row["priority"], row["seq"])
        return [address_of(db, row["mailbox"]) for row in rows]

    async def settle(
        self, mailbox: Address, handles: Sequence[str], outcome: Outcome, origin: Origin
    ) -> Sequence[Settled]:
        """See `Store.settle`."""

        def work(db: sqlite3.Connection) -> tuple[Address, Sequence[Settled]]:
            box = self._box(db, mailbox)
            results = [Settled(text, self._do_settle(db, box.id, text, outcome, origin.reader)) for text in handles]
            return box.address, results

        def ring(done: tuple[Address, Sequence[Settled]]) -> None:
            if outcome is Outcome.RELEASE:
                self._ring([done[0]])

        return (await self.writer.do(work, ring))[1]

    def _do_settle(self, db: sqlite3.Connection, box: int, text: str, outcome: Outcome, reader: str) -> Refusal | None:
        try:
            handle = self._codec.read(text)
        except Refusal as unreadable:
            return unreadable
        waiting = waiting_delivery(db, box, handle.seq)
        if waiting is None:
            return already_settled(db, box, handle, text, outcome)
        now = self.clock.now()
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

    # -- looking

    async def inbox(self, mailbox: Address, listing: Listing) -> Page:
        """See `Store.inbox`."""
        return await self._reader.do(lambda db: self._look_inbox(db, mailbox, listing))

    def _look_inbox(self, db: sqlite3.Connection, mailbox: Address, listing: Listing) -> Page:
        box = known_mailbox(db, mailbox)
        first = 0
        if listing.since is not None:
            row = db.execute(query.FIRST_SINCE, (max(0, min(listing.since, _NOTHING)),)).fetchone()
            first = row[0] - 1 if row else _NOTHING
        rank, seq = self._codec.read_cursor(listing.cursor) if listing.cursor else (0, 0)
        rows: list[sqlite3.Row] = []
        for section in range(rank, 1 if listing.urgent_only else query.REJECTED_RANK + 1):
            rest = (max(first, seq if section == rank else 0), listing.limit + 1 - len(rows))
            if section == query.REJECTED_RANK:
                rows += db.execute(query.REJECTED_PAGE, (box, *rest)).fetchall()
            else:
                rows += db.execute(query.WAITING_PAGE, (box, section, *rest)).fetchall()
            if len(rows) > listing.limit:
                break
        now = self.clock.now()
        shown = tuple(self._preview(row, now) for row in rows[: listing.limit])
        return Page(shown, self._unread(db, box), len(rows) > listing.limit)

    def _preview(self, row: sqlite3.Row, now: int) -> Preview:
        leased = row["lease_until"] > now
        waiting = State.LEASED if leased else State.STORED
        state = State.REJECTED if row["rank"] == query.REJECTED_RANK else waiting
        message = self._message(row, (), row["text"])
        delivery = Delivery(message, message.id, state, row["lease_until"] if leased else None, row["attempts"])
        return Preview(delivery, row["size"], self._codec.cursor(row["rank"], row["seq"]))

    async def read(self, mailbox: Address, id: str) -> Delivery:  # noqa: A002 - the domain's word
        """See `Store.read`."""
        return await self._reader.do(lambda db: self._look_read(db, mailbox, id))

    def _look_read(self, db: sqlite3.Connection, mailbox: Address, text: str) -> Delivery:
        seq = self._codec.read(text).seq
        box = known_mailbox(db, mailbox)
        row = db.execute(query.WHOLE, (seq,)).fetchone()
        if row is None:
            raise unknown_message(text)
        message = self._whole(row, names_of(db, row["recipients"]))
        waiting = waiting_delivery(db, box, seq)
        if waiting is not None:
            leased = waiting.lease_until > self.clock.now()
            state = State.LEASED if leased else State.STORED
            return Delivery(message, message.id, state, waiting.lease_until if leased else None, waiting.attempts)
        done = db.execute(query.DONE, (box, seq)).fetchone()
        if done is not None:
            return Delivery(message, message.id, State(done["state"]), None, done["attempts"])
        if row["sender"] != box:
            raise unknown_message(text)
        return Delivery(message, message.id, State.STORED)

    async def due(self, after: int) -> tuple[Sequence[Address], int | None]:
        """See `Store.due`."""
        return await self._reader.do(lambda db: self._look_due(db, after))

    def _look_due(self, db: sqlite3.Connection, after: int) -> tuple[Sequence[Address], int | None]:
        now = self.clock.now()
        lapsed = [address_of(db, row[0]) for row in db.execute(query.LAPSED, (after, now)).fetchall()]
        return lapsed, db.execute(query.NEXT_LAPSE, (now,)).fetchone()[0]

    async def unreached(self) -> Sequence[str]:
        """See `Store.unreached`."""
        return await self._reader.do(lambda db: [row[0] for row in db.execute(query.UNREACHED).fetchall()])

    async def leased_by(self, reader: str) -> Sequence[Address]:
        """See `Store.leased_by`."""
        sql, now = query.LAPSED_OF_READER, self.clock.now()
        return await self._reader.do(lambda db: [address_of(db, row[0]) for row in db.execute(sql, (reader, now))])

    # -- credentials

    async def grant(self, credential: Credential, digest: bytes) -> None:
        """See `Store.grant`."""
        row = (
            credential.id,
            digest,
            credential.name,
            credential.principal,
            " ".join(sorted(credential.scopes)),
            credential.mailbox,
            credential.space,
            credential.created_at,
            credential.expires_at,
            credential.revoked_at,
        )
        await self.writer.do(lambda db: apply.grant(db, row))

    async def credential(self, digest: bytes) -> Credential | None:
        """See `Store.credential`."""
        return await self._reader.do(lambda db: _look_credential(db, query.TOKEN_BY_DIGEST, digest))

    async def credentials(self) -> Sequence[Credential]:
        """See `Store.credentials`."""
        return await self._reader.do(lambda db: [to_credential(row) for row in db.execute(query.TOKENS).fetchall()])

    async def revoke(self, id: str) -> Credential | None:  # noqa: A002 - the domain's word
        """See `Store.revoke`."""

        def work(db: sqlite3.Connection) -> Credential | None:
            apply.revoke(db, id, self.clock.now())
            return _look_credential(db, query.TOKEN_BY_ID, id)

        return await self.writer.do(work)

    async def regrant(self, id: str, digest: bytes) -> Credential | None:  # noqa: A002
        """See `Store.regrant`."""

        def work(db: sqlite3.Connection) -> Credential | None:
            found = _look_credential(db, query.TOKEN_BY_ID, id)
            if found is None or found.revoked_at is not None:
                return None
            apply.regrant(db, id, digest)
            return found

        return await self.writer.do(work)

    async def check(self) -> str:
        """See `Store.check`."""
        try:
            rows = await self._reader.do(lambda db: db.execute("PRAGMA integrity_check(5)").fetchall())
        except Refusal as refusal:
            if refusal.code is Code.STORE_DAMAGED:  # so much that SQLite cannot even list it
                return refusal.problem
            raise
        return "; ".join(row[0] for row in rows)

    # -- rows

    def _whole(self, row: sqlite3.Row, to: tuple[str, ...]) -> Message:
        """Return the message with its body. Raises Refusal(STORE_DAMAGED) when it is not what was accepted."""
        body: bytes = row["text"]
        if apply.checksum(row["subject"], body) != row["checksum"]:
            name = self._codec.id(row["seq"])
            raise Refusal(
                Code.STORE_DAMAGED,
                f"Message {name} is damaged on disk.",
                f"To go on without it, settle {name} with reject; a backup may still have it.",
            )
        return self._message(row, to, body.decode())

    def _message(self, row: sqlite3.Row, to: tuple[str, ...], body: str) -> Message:
        return Message(
            id=self._codec.id(row["seq"]),
            thread=self._codec.id(row["thread"]),
            sender=f"{row['sender_name']}@{row['sender_space']}",
            to=to,
            subject=row["subject"],
            body=body,
            priority=Priority(row["priority"]),
            accepted_at=row["accepted"],
            reply_to=self._codec.id(row["reply_to"]) if row["reply_to"] is not None else None,
        )


@dataclass(frozen=True, slots=True)
class _Parent:
    """The message that a reply answers; `acks` is the priority of the delivery to settle, None for none."""

    seq: int
    thread: int
    sender: int
    acks: int | None


def _leased(codec: Codec, message: Message, row: sqlite3.Row, claimed: int, until: int) -> Delivery:
    """Return the delivery as its reader gets it; `claimed` is 1 for a row that was read before this claim."""
    handle = codec.handle(row["seq"], row["generation"] + claimed)
    return Delivery(message, handle, State.LEASED, until, row["attempts"])


def _key(origin: Origin) -> str:
    """Return the key of what was given none."""
    return f"r:{origin.reader}:{origin.request}"


def _looks(name: str) -> tuple[str, str]:
    return addresses.skeletons(name)[0], addresses.upper_skeleton(name)


def _has_received(db: sqlite3.Connection, box: int, seq: int) -> bool:
    return waiting_delivery(db, box, seq) is not None or db.execute(query.DONE, (box, seq)).fetchone() is not None


def _lookalike(db: sqlite3.Connection, wanted: apply.NewMailbox) -> sqlite3.Row | None:
    alike = db.execute(query.LOOKALIKE, (wanted.space, wanted.looks, wanted.capitals, wanted.name.isascii()))
    row: sqlite3.Row | None = alike.fetchone()
    return row


def _look_credential(db: sqlite3.Connection, sql: str, key: object) -> Credential | None:
    row = db.execute(sql, (key,)).fetchone()
    return to_credential(row) if row else None


def _digest(recipients: Sequence[Address], draft: Draft) -> bytes:
    """Return what tells one message from another under the same key."""
    to = sorted({f"{address.folded}@{address.space}" for address in recipients})
    content = (str(len(to)), *to, draft.body, draft.subject, draft.priority.word, draft.reply_to or "")
    digest = hashlib.blake2b(digest_size=16)
    for part in (text.encode() for text in content):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()
