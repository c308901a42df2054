"""`store.Store` on SQLite: the check and the appliers run in one transaction, reads have a connection of their own.

The engine keeps the store's promises and knows no rule of the domain beyond them. One process owns the file; whoever
opens the store has made sure of that (`rendezvous`).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import anyio.to_thread

from mcp_mailbox import addresses, naming
from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import TRANSITIONS, Delivery, Outcome, State
from mcp_mailbox.engines.sqlite import failures
from mcp_mailbox.engines.sqlite.codec import Codec, Handle, unknown_message
from mcp_mailbox.engines.sqlite.schema import prepare
from mcp_mailbox.engines.sqlite.writer import Writer
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Mailbox, Profile
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
_NOTHING = (1 << 62) - 1
"""Behind every message: a section that starts there is empty."""


@asynccontextmanager
async def open_store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    """Open the store, or make it, and close it cleanly on the way out.

    Raises Refusal(STORE_DAMAGED | STORE_NEWER | STORE_FULL | STORE_FAILED).
    """
    db = await anyio.to_thread.run_sync(prepare, path)
    try:
        async with aiosqlite.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None) as reader:
            reader.row_factory = sqlite3.Row
            store = SqliteStore(db, reader, clock)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store.writer.run)
                try:
                    yield store
                finally:
                    store.writer.close()
    finally:
        db.close()


class SqliteStore:
    """The verbs. Private functions named `_do_…` run in the writer's thread, inside its transaction."""

    def __init__(self, db: sqlite3.Connection, reader: aiosqlite.Connection, clock: Clock) -> None:
        self.clock = clock
        self.writer = Writer(db)
        self._reader = reader
        self._codec = Codec(bytes(db.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()[0]))
        self._rings: list[Ring] = []
        self._latest = db.execute(query.LAST_ACCEPTED).fetchone()[0] or 0
        self._accepts = 0

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

    def _now(self) -> int:
        """Return the store's time: never before what has been accepted, whatever the clock says after a restart."""
        self._latest = max(self._latest, self.clock.now())
        return self._latest

    # -- mailboxes

    async def open(self, address: Address | None, owner: str, profile: Profile, origin: Origin) -> Opened:
        """See `Store.open`."""
        if address is not None and address.name:
            name = address.name
            looks, _ = await anyio.to_thread.run_sync(addresses.skeletons, name)
            capitals = await anyio.to_thread.run_sync(addresses.upper_skeleton, name)
            chosen = apply.NewMailbox(
                address.space,
                name,
                address.folded,
                looks,
                capitals,
                owner,
                profile.about or "",
                profile.skills or (),
                0,
            )
            return await self.writer.do(lambda db: self._do_open(db, chosen, profile, origin))
        space = address.space if address else "default"
        return await self.writer.do(lambda db: self._do_open_unnamed(db, space, owner, profile, origin))

    def _do_open(self, db: sqlite3.Connection, chosen: apply.NewMailbox, profile: Profile, origin: Origin) -> Opened:
        now = self._now()
        row = db.execute(query.MAILBOX, (chosen.space, chosen.folded)).fetchone()
        if row is None:
            alike = db.execute(
                query.LOOKALIKE, (chosen.space, chosen.looks, chosen.capitals, chosen.name.isascii())
            ).fetchone()
            if alike is not None:
                raise Refusal(
                    Code.NAME_CONFUSABLE,
                    f"{chosen.name!a} looks like the existing mailbox {alike[0]!r}.",
                    "Choose a name that nobody can mistake for it.",
                )
            mailbox = apply.create_mailbox(db, replace(chosen, created=now))
        elif row["owner"] != chosen.owner:
            raise Refusal(Code.NAME_TAKEN, f"The name {chosen.name!r} is taken.", "Choose another.")
        else:
            mailbox = row["id"]
            apply.describe_mailbox(db, mailbox, profile.about, profile.skills)
        apply.bind_reader(db, origin.reader, mailbox, now)
        return Opened(self._mailbox(db, mailbox, now), created=row is None)

    def _do_open_unnamed(
        self, db: sqlite3.Connection, space: str, owner: str, profile: Profile, origin: Origin
    ) -> Opened:
        now = self._now()
        key = f"r:{origin.reader}:{origin.request}"
        known = db.execute(query.KNOWN, (0, key)).fetchone()
        if known is not None:
            return Opened(self._mailbox(db, int(known["answer"]), now), created=True)
        for name in naming.suggestions():
            folded = addresses.fold(name)
            if db.execute(query.MAILBOX, (space, folded)).fetchone() is None:
                break
        new = apply.NewMailbox(
            space, name, folded, name, name.upper(), owner, profile.about or "", profile.skills or (), now
        )
        mailbox = apply.create_mailbox(db, new)
        apply.bind_reader(db, origin.reader, mailbox, now)
        apply.remember(db, 0, key, b"", str(mailbox), now)
        return Opened(self._mailbox(db, mailbox, now), created=True)

    def _mailbox(self, db: sqlite3.Connection, mailbox: int, now: int) -> Mailbox:
        row = db.execute(query.MAILBOX_BY_ID, (mailbox,)).fetchone()
        unread = db.execute(query.UNREAD, (mailbox, now)).fetchone()[0]
        return _to_mailbox(row, unread)

    async def bound(self, reader: str) -> Mailbox | None:
        """See `Store.bound`."""
        return await self._find(query.BOUND, (reader,))

    async def mailbox(self, address: Address) -> Mailbox | None:
        """See `Store.mailbox`."""
        return await self._find(query.MAILBOX, (address.space, address.folded))

    async def _find(self, sql: str, parameters: Sequence[Any]) -> Mailbox | None:
        rows = await self._rows(sql, parameters)
        if not rows:
            return None
        unread = await self._rows(query.UNREAD, (rows[0]["id"], self._now()))
        return _to_mailbox(rows[0], unread[0][0])

    async def mailboxes(self, owner: str, space: str, prefix: str, limit: int) -> Sequence[Address]:
        """See `Store.mailboxes`."""
        low = addresses.fold(prefix)
        rows = await self._rows(query.BY_PREFIX, (space, low, low + "\U0010ffff", owner, limit))
        return [Address(row["name"], row["space"]) for row in rows]

    async def similar(self, address: Address) -> Address | None:
        """See `Store.similar`."""
        import difflib  # noqa: PLC0415 - only a mistake pays for it

        elsewhere = await self._rows(query.SPACES, (address.folded,))
        if len(elsewhere) == 1:
            return Address(elsewhere[0]["name"], elsewhere[0]["space"])
        rows = await self._rows(query.NAMES, (address.space, _NAMES_READ))
        names = {addresses.fold(row["name"]): row["name"] for row in rows}
        close = difflib.get_close_matches(address.folded, names, n=1)
        return Address(names[close[0]], address.space) if close else None

    # -- sending

    async def accept(self, sender: Address, recipients: Sequence[Address], draft: Draft, origin: Origin) -> Accepted:
        """See `Store.accept`."""
        accepted, rings = await self.writer.do(lambda db: self._do_accept(db, sender, recipients, draft, origin))
        self._ring(rings)
        return accepted

    def _do_accept(
        self,
        db: sqlite3.Connection,
        sender: Address,
        recipients: Sequence[Address],
        draft: Draft,
        origin: Origin,
    ) -> tuple[Accepted, list[Address]]:
        sender_row = _row(db, sender)
        sender_id = sender_row["id"]
        key = f"k:{draft.key}" if draft.key is not None else f"r:{origin.reader}:{origin.request}"
        digest = _digest(recipients, draft)
        known = db.execute(query.KNOWN, (sender_id, key)).fetchone()
        if known is not None:
            if known["hash"] != digest:
                raise Refusal(
                    Code.KEY_CONFLICT,
                    f"The key {draft.key!r} was used for another message.",
                    "Use a new key for a new message; the same key only to repeat one.",
                )
            return self._accepted(json.loads(known["answer"]), repeated=True), []

        now = self._now()
        parent = self._parent(db, sender_id, draft.reply_to, origin) if draft.reply_to is not None else None
        rows = [(address, _find_row(db, address)) for address in recipients]
        found = {row["id"]: Address(row["name"], row["space"]) for _, row in rows if row is not None}
        if not found:
            raise _unknown(str(recipients[0]))
        last = db.execute(query.LAST_SEQ).fetchone()
        seq = (last[0] if last else 0) + 1
        thread = parent.thread if parent else seq
        new = apply.NewMessage(
            seq=seq,
            thread=thread,
            sender=sender_id,
            recipients=tuple(found),
            reply_to=parent.seq if parent else None,
            priority=int(draft.priority),
            accepted=now,
            subject=draft.subject,
            body=draft.body,
        )
        apply.store_message(db, new)
        if parent is not None and parent.acks is not None:
            apply.settle(db, sender_id, parent.acks, parent.seq, State.ACKED, now)
        to = [[str(found[row["id"]] if row else address), row is not None] for address, row in rows]
        answer = {"seq": seq, "thread": thread, "to": to}
        apply.remember(db, sender_id, key, digest, json.dumps(answer), now)
        self._forget_sometimes(db, now)
        return self._accepted(answer, repeated=False), list(found.values())

    def _accepted(self, answer: Mapping[str, Any], *, repeated: bool) -> Accepted:
        results = tuple(Recipient(name, None if stored else _unknown(name)) for name, stored in answer["to"])
        return Accepted(self._codec.id(answer["seq"]), self._codec.id(answer["thread"]), results, repeated)

    def _parent(self, db: sqlite3.Connection, mailbox: int, text: str, origin: Origin) -> _Parent:
        """Return what a reply answers, and whether answering acks it."""
        handle = self._codec.read(text)
        row = db.execute(query.PARENT, (handle.seq,)).fetchone()
        if row is None:
            raise unknown_message(text)
        waiting = _waiting(db, mailbox, handle.seq)
        if waiting is None:
            if row["sender"] != mailbox and db.execute(query.DONE, (mailbox, handle.seq)).fetchone() is None:
                raise unknown_message(text)
            return _Parent(handle.seq, row["thread"], None)
        refusal = _fence(text, handle, waiting, origin.reader, self._now())
        if refusal is not None and handle.generation is not None:
            raise refusal
        return _Parent(handle.seq, row["thread"], None if refusal else waiting.priority)

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
        now = self._now()
        box = _row(db, mailbox)["id"]
        before = db.execute(query.LEASED_BY_REQUEST, (origin.reader, origin.request)).fetchall()
        keys = [(row["mailbox"], row["priority"], row["seq"]) for row in before if row["mailbox"] == box]
        if not keys:
            ready = self._ready(db, box, wanted, lease.count, now, origin.reader, present)
            keys = [(row["mailbox"], row["priority"], row["seq"]) for row in _within(ready, lease.size)]
            apply.lease(db, keys, now + lease.term, origin.reader, origin.request)
        return [self._delivery(db, db.execute(query.DELIVERED, key).fetchone(), now) for key in keys]

    def _ready(
        self,
        db: sqlite3.Connection,
        box: int,
        wanted: Wanted,
        count: int,
        now: int,
        reader: str,
        present: Collection[str] | None,
    ) -> Sequence[sqlite3.Row]:
        values: dict[str, Any] = {
            "mailbox": box,
            "now": now,
            "reader": reader,
            "all_present": present is None,
            "present": json.dumps(list(present or ())),
            "count": count,
        }
        sender = _find_row(db, wanted.sender) if wanted.sender else None
        if wanted.sender and sender is None:
            return []
        if wanted.thread is not None:
            row = db.execute(query.PARENT, (self._codec.read(wanted.thread).seq,)).fetchone()
            if row is None:
                raise unknown_message(wanted.thread)
            rows = db.execute(query.READY_IN_THREAD, values | {"thread": row["thread"]}).fetchall()
            if sender is None:
                return rows
            of_sender = {row["seq"] for row in self._ready(db, box, Wanted(wanted.sender), count, now, reader, present)}
            return [row for row in rows if row["seq"] in of_sender]
        if sender is not None:
            return db.execute(query.READY_FROM, values | {"sender": sender["id"]}).fetchall()
        return db.execute(query.READY, values).fetchall()

    async def surface(self, origin: Origin) -> None:
        """See `Store.surface`. Not worth an fsync of its own: it goes with the next commit."""
        self.writer.later(lambda db: apply.surface(db, origin.reader, origin.request))

    async def give_back(self, reader: str, request: str | None, *, surfaced: bool) -> int:
        """See `Store.give_back`."""
        freed = await self.writer.do(lambda db: self._do_give_back(db, reader, request, surfaced))
        self._ring(set(freed))
        return len(freed)

    def _do_give_back(self, db: sqlite3.Connection, reader: str, request: str | None, surfaced: bool) -> list[Address]:
        if request is None:
            rows = db.execute(query.LEASED_BY_READER, (reader,)).fetchall()
        else:
            rows = db.execute(query.LEASED_BY_REQUEST, (reader, request)).fetchall()
        rows = [row for row in rows if surfaced or not row["surfaced"]]
        for row in rows:
            apply.free(db, row["mailbox"], row["priority"], row["seq"])
        return [_address(db, row["mailbox"]) for row in rows]

    async def settle(
        self, mailbox: Address, handles: Sequence[str], outcome: Outcome, origin: Origin
    ) -> Sequence[Settled]:
        """See `Store.settle`."""

        def work(db: sqlite3.Connection) -> Sequence[Settled]:
            box = _row(db, mailbox)["id"]
            return [Settled(text, self._do_settle(db, box, text, outcome, origin.reader)) for text in handles]

        results = await self.writer.do(work)
        if outcome is Outcome.RELEASE:
            self._ring([mailbox])
        return results

    def _do_settle(self, db: sqlite3.Connection, box: int, text: str, outcome: Outcome, reader: str) -> Refusal | None:
        try:
            handle = self._codec.read(text)
        except Refusal as unreadable:
            return unreadable
        waiting = _waiting(db, box, handle.seq)
        if waiting is None:
            return _already(db, box, handle.seq, text, outcome)
        now = self._now()
        refusal = _fence(text, handle, waiting, reader, now)
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
        now = self._now()
        box = await self._id(mailbox)
        first = 0
        if listing.since is not None:
            rows = await self._rows(query.FIRST_SINCE, (listing.since,))
            first = rows[0][0] - 1 if rows else _NOTHING
        rank, seq = self._codec.read_cursor(listing.cursor) if listing.cursor else (0, 0)
        after = {
            f"after{r}": _NOTHING if r < rank or (listing.urgent_only and r) else max(first, seq if r == rank else 0)
            for r in range(query.REJECTED_RANK + 1)
        }
        rows = await self._rows(query.PAGE, {"mailbox": box, "count": listing.limit + 1, **after})
        shown = rows[: listing.limit]
        unread = (await self._rows(query.UNREAD, (box, now)))[0][0]
        return Page(tuple(self._preview(row, now) for row in shown), unread, len(rows) > listing.limit)

    def _preview(self, row: sqlite3.Row, now: int) -> Preview:
        leased = row["lease_until"] > now
        waiting = State.LEASED if leased else State.STORED
        state = State.REJECTED if row["rank"] == query.REJECTED_RANK else waiting
        message = self._message(row, to=())
        delivery = Delivery(message, message.id, state, row["lease_until"] if leased else None, row["attempts"])
        return Preview(delivery, row["size"], self._codec.cursor(row["rank"], row["seq"]))

    async def read(self, mailbox: Address, id: str) -> Delivery:  # noqa: A002 - the domain's word
        """See `Store.read`."""
        seq = self._codec.read(id).seq
        box = await self._id(mailbox)
        rows = await self._rows(query.WHOLE, (seq,))
        if not rows:
            raise unknown_message(id)
        to = await self._recipients(rows[0]["recipients"])
        message = self._message(rows[0], to)
        now = self._now()
        waiting = await self._rows(query.WAITING, (box, seq))
        if waiting:
            leased = waiting[0]["lease_until"] > now
            state = State.LEASED if leased else State.STORED
            return Delivery(
                message,
                message.id,
                state,
                waiting[0]["lease_until"] if leased else None,
                waiting[0]["attempts"],
            )
        done = await self._rows(query.DONE, (box, seq))
        if done:
            return Delivery(message, message.id, State(done[0]["state"]), None, done[0]["attempts"])
        if rows[0]["sender"] != box:
            raise unknown_message(id)
        return Delivery(message, message.id, State.STORED)

    async def due(self, after: int) -> tuple[Sequence[Address], int | None]:
        """See `Store.due`."""
        now = self._now()
        rows = await self._rows(query.LAPSED, (after, now))
        upcoming = await self._rows(query.NEXT_LAPSE, (now,))
        return await self._addresses([row[0] for row in rows]), upcoming[0][0]

    async def leased_by(self, reader: str) -> Sequence[Address]:
        """See `Store.leased_by`."""
        rows = await self._rows(query.LAPSED_OF_READER, (reader, self._now()))
        return await self._addresses([row[0] for row in rows])

    async def check(self) -> str:
        """See `Store.check`."""
        rows = await self._rows("PRAGMA integrity_check(5)", ())
        return "; ".join(row[0] for row in rows)

    # -- rows

    async def _rows(self, sql: str, parameters: Any) -> list[sqlite3.Row]:
        try:
            return list(await self._reader.execute_fetchall(sql, parameters))
        except sqlite3.Error as error:
            raise failures.translate(error) from error

    async def _id(self, address: Address) -> int:
        rows = await self._rows(query.MAILBOX, (address.space, address.folded))
        if not rows:
            raise _unknown(str(address))
        return int(rows[0]["id"])

    async def _addresses(self, ids: Iterable[int]) -> list[Address]:
        found = [await self._rows(query.MAILBOX_BY_ID, (mailbox,)) for mailbox in ids]
        return [Address(rows[0]["name"], rows[0]["space"]) for rows in found]

    async def _recipients(self, text: str) -> tuple[str, ...]:
        return tuple(str(address) for address in await self._addresses(json.loads(text)))

    def _delivery(self, db: sqlite3.Connection, row: sqlite3.Row, now: int) -> Delivery:
        message = self._message(row, tuple(str(_address(db, mailbox)) for mailbox in json.loads(row["recipients"])))
        return Delivery(
            message,
            self._codec.handle(row["seq"], row["generation"]),
            State.LEASED,
            max(row["lease_until"], now),
            row["attempts"],
        )

    def _message(self, row: sqlite3.Row, to: tuple[str, ...]) -> Message:
        return Message(
            id=self._codec.id(row["seq"]),
            thread=self._codec.id(row["thread"]),
            sender=f"{row['sender_name']}@{row['sender_space']}",
            to=to,
            subject=row["subject"],
            body=row["text"],
            priority=Priority(row["priority"]),
            accepted_at=row["accepted"],
            reply_to=self._codec.id(row["reply_to"]) if row["reply_to"] is not None else None,
        )


@dataclass(frozen=True, slots=True)
class _Parent:
    """The message that a reply answers; `acks` is the priority of the delivery to settle, None for none."""

    seq: int
    thread: int
    acks: int | None


def _to_mailbox(row: sqlite3.Row, unread: int) -> Mailbox:
    return Mailbox(
        Address(row["name"], row["space"]),
        row["owner"],
        row["about"],
        tuple(json.loads(row["skills"])),
        row["created"],
        unread,
    )


def _find_row(db: sqlite3.Connection, address: Address) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(query.MAILBOX, (address.space, address.folded)).fetchone()
    return row


def _row(db: sqlite3.Connection, address: Address) -> sqlite3.Row:
    row = _find_row(db, address)
    if row is None:
        raise _unknown(str(address))
    return row


def _address(db: sqlite3.Connection, mailbox: int) -> Address:
    row = db.execute(query.MAILBOX_BY_ID, (mailbox,)).fetchone()
    return Address(row["name"], row["space"])


def _waiting(db: sqlite3.Connection, mailbox: int, seq: int) -> query.Waiting | None:
    row = db.execute(query.WAITING, (mailbox, seq)).fetchone()
    return query.Waiting(*row) if row else None


def _within(rows: Iterable[sqlite3.Row], size: int) -> Iterator[sqlite3.Row]:
    """Yield rows while their bodies fit, the first one always."""
    total = 0
    for row in rows:
        if total and total + row["size"] > size:
            return
        total += row["size"]
        yield row


def _fence(text: str, handle: Handle, waiting: query.Waiting, reader: str, now: int) -> Refusal | None:
    """Return why this reader may not settle it: somebody else has leased it since."""
    if handle.generation is not None:
        if handle.generation == waiting.generation:
            return None
        return Refusal(
            Code.STALE_LEASE,
            f"The lease of {text} ran out and the message was handed out again.",
            "Leave it: its new reader settles it.",
        )
    if waiting.reader is None or waiting.reader == reader or waiting.lease_until <= now:
        return None
    return Refusal(
        Code.LEASED_ELSEWHERE,
        f"Another reader holds {text}.",
        "Leave it, or wait_for_message until it comes back.",
    )


def _already(db: sqlite3.Connection, mailbox: int, seq: int, text: str, outcome: Outcome) -> Refusal | None:
    """Return None when it was settled that way before, else why it cannot be."""
    done = db.execute(query.DONE, (mailbox, seq)).fetchone()
    if done is None:
        return unknown_message(text)
    state = State(done["state"])
    if TRANSITIONS[State.LEASED][outcome.event] is state:
        return None
    return Refusal(Code.ALREADY_SETTLED, f"{text} is {state.word} already.", "Nothing is left to do.")


def _unknown(address: str) -> Refusal:
    return Refusal(Code.UNKNOWN_MAILBOX, f"No mailbox {address!r}.", "Ask its owner to create_mailbox first.")


def _digest(recipients: Sequence[Address], draft: Draft) -> bytes:
    """Return what tells one message from another under the same key."""
    to = [f"{address.folded}@{address.space}" for address in recipients]
    content = json.dumps([to, draft.body, draft.subject, int(draft.priority), draft.reply_to])
    return hashlib.blake2b(content.encode(), digest_size=16).digest()
