"""`store.Store` on SQLite: the check and the appliers run in one transaction, reads have a connection of their own.

The engine keeps the store's promises and knows no rule of the domain beyond them. One process owns the file; whoever
opens the store has made sure of that (`rendezvous`). Here each verb is handed to a thread: what happens there stands
in `mailboxes`, `sending`, `receiving`, `looking`, `searching`, `archive`, `granting`, `reserving`, `directory` and
`retention` and `attaching`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from mcp_mailbox import addresses, naming
from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import Attachment
from mcp_mailbox.budgets import Limits
from mcp_mailbox.channel import Keep, Skipped
from mcp_mailbox.clocks import Onward
from mcp_mailbox.credentials import Credential
from mcp_mailbox.delivery import Delivery, Settlement
from mcp_mailbox.directory import Search
from mcp_mailbox.engines.sqlite import channels, failures, fanout, granting, packing
from mcp_mailbox.engines.sqlite.archive import Archive
from mcp_mailbox.engines.sqlite.attaching import Attaching
from mcp_mailbox.engines.sqlite.backup import Backups, back_up, check
from mcp_mailbox.engines.sqlite.blobs import Blobs, directory_of
from mcp_mailbox.engines.sqlite.channels import Channels
from mcp_mailbox.engines.sqlite.codec import Codec, Restored
from mcp_mailbox.engines.sqlite.common import Common
from mcp_mailbox.engines.sqlite.directory import Directory
from mcp_mailbox.engines.sqlite.ending import Ending
from mcp_mailbox.engines.sqlite.follower import AT_START, Follower
from mcp_mailbox.engines.sqlite.index import FILE, Index
from mcp_mailbox.engines.sqlite.lane import Lane
from mcp_mailbox.engines.sqlite.looking import Looking
from mcp_mailbox.engines.sqlite.mailboxes import Mailboxes, wanted_mailbox
from mcp_mailbox.engines.sqlite.reader import Reader
from mcp_mailbox.engines.sqlite.receiving import Receiving
from mcp_mailbox.engines.sqlite.reporting import Reporting
from mcp_mailbox.engines.sqlite.requests import Requests
from mcp_mailbox.engines.sqlite.reserving import Reserving
from mcp_mailbox.engines.sqlite.retention import Retention
from mcp_mailbox.engines.sqlite.schema import Place, prepare
from mcp_mailbox.engines.sqlite.searching import Searching
from mcp_mailbox.engines.sqlite.sending import Sending
from mcp_mailbox.engines.sqlite.stopping import Stopping
from mcp_mailbox.engines.sqlite.writer import Writer
from mcp_mailbox.errors import Blame, Refusal
from mcp_mailbox.invitation import Invitation
from mcp_mailbox.loopguard import Guard
from mcp_mailbox.mailbox import Mailbox, Occupant, Profile
from mcp_mailbox.report import Notice
from mcp_mailbox.reservation import Reservation, Terms
from mcp_mailbox.store import (
    ANYBODY,
    Accepted,
    ChannelPage,
    Claimer,
    Clock,
    Due,
    Found,
    Hits,
    Lease,
    Listing,
    MailPage,
    News,
    Opened,
    Origin,
    Page,
    Portion,
    Published,
    Query,
    Reading,
    Released,
    Reserved,
    Ring,
    Settled,
    Submission,
    Subscribed,
    Told,
    Tray,
    Wanted,
)
from mcp_mailbox.store.channels import Hear
from mcp_mailbox.view import apply, query

T = TypeVar("T")

_REST = 4.0
"""How many times as long as a slice took nothing more is removed."""


@asynccontextmanager
async def open_store(path: Path, clock: Clock, limits: Limits | None = None) -> AsyncIterator[SqliteStore]:
    """Open the store, or make it, and close it cleanly on the way out. `limits` are the loop guard's.

    Raises Refusal(STORE_DAMAGED | STORE_NEWER | STORE_FULL | STORE_FAILED).
    """
    db = await anyio.to_thread.run_sync(prepare, path)
    try:
        try:
            secret, last = (db.execute(query.META, (name,)).fetchone()[0] for name in ("secret", "time"))
            plain = db.execute(query.META, ("plain_ids",)).fetchone()
            codec = Codec(secret, _restored(db), plain[0] if plain else 0)
            skips = {(row["folded"], row["space"]) for row in db.execute(query.SKIPS).fetchall()}
            await anyio.to_thread.run_sync(packing.unpack_here, db, path, clock.now())
            reader, searcher = Reader(path), Reader(path)
        except (sqlite3.Error, TypeError) as error:
            raise failures.translate(error) from error
        index = Index(path.with_name(FILE), secret)
        guard = Guard(limits or Limits())
        store = SqliteStore(db, reader, Onward(clock, last), codec, Place(path), searcher, index, guard)
        store.skips |= skips
        store.follower.wake(AT_START)
        store.start_collecting()
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                # The disk may be full, and closing goes on.
                store.writer.later(lambda db: apply.note_time(db, store.clock.now()))
                await store.backups.close()
                await store.follower.close()
                await store.stop_collecting()
                await searcher.close()
                await anyio.to_thread.run_sync(index.close)
                await reader.close()
                await store.writer.close()  # last: who can write clears the journal away
    finally:
        db.close()  # closed already, unless the store could not be opened


def _restored(db: sqlite3.Connection) -> Restored:
    rows = [db.execute(query.META, (name,)).fetchone() for name in ("restored_seq", "restored_generation")]
    return Restored(*(row[0] for row in rows)) if all(rows) else Restored()


class SqliteStore:
    """The verbs."""

    def __init__(
        self,
        db: sqlite3.Connection,
        reader: Reader,
        clock: Clock,
        codec: Codec,
        place: Place,
        searcher: Reader,
        index: Index,
        guard: Guard,
    ) -> None:
        self._guard = guard
        self.place = place
        self.clock = clock
        self.writer = Writer(db, self._seal, self._undone)
        self.backups = Backups()
        self._reader = reader
        self._codec = codec
        self._rings: list[Ring] = []
        self._hears: list[Hear] = []
        common = Common(self._codec, clock.now)
        self._registry = common.registry
        self.skips = common.skips
        self._ending = Ending(common)
        requests = Requests(common, self._ending)
        self._mailboxes = Mailboxes(common, requests)
        self._sending = Sending(common, self._ending, requests, guard, Stopping(common, self._ending))
        self._receiving = Receiving(common, self._ending, requests)
        self._reporting = Reporting(common, self._ending)
        self._looking = Looking(common)
        self._archive = Archive(common)
        self._reserving = Reserving(common)
        self._directory = Directory(common)
        self._retention = Retention(common)
        self._index = index
        self._channels = Channels(common)
        self._searcher = searcher
        self._searching = Searching(common, index)
        self.follower = Follower(searcher, index.follow)
        self._attaching = Attaching(common, Blobs(directory_of(place.path)), reader)
        self._collecting: asyncio.Task[None] | None = None

    # -- the bell

    @contextmanager
    def on_ring(self, ring: Ring) -> Iterator[None]:
        """See `Store.on_ring`."""
        self._rings.append(ring)
        try:
            yield
        finally:
            self._rings.remove(ring)

    @contextmanager
    def on_publish(self, hear: Hear) -> Iterator[None]:
        """See `Store.on_publish`."""
        self._hears.append(hear)
        try:
            yield
        finally:
            self._hears.remove(hear)

    def _ring(self, told: Collection[Address | Published]) -> None:
        for each in told:
            if isinstance(each, Published):
                for hear in self._hears:
                    hear(each)
            else:
                for ring in self._rings:
                    ring(each)

    # -- what every transaction has

    def _seal(self, db: sqlite3.Connection) -> None:
        # A commit into a file that has no name any more would be durable for nobody.
        self.place.check()
        apply.note_time(db, self.clock.now())

    def _undone(self) -> None:
        self._registry.forget()
        self._ending.forget()
        self._guard.forget()

    # -- mailboxes

    async def open(
        self, address: Address | None, owner: str, profile: Profile, origin: Origin, *, bind: bool = True, most: int = 0
    ) -> Opened:
        """See `Store.open`."""
        space = address.space if address else addresses.DEFAULT_SPACE
        if address is not None and address.name:
            wanted = await wanted_mailbox(address.name, space, owner, profile)
            return await self._do(lambda db: self._mailboxes.open(db, wanted, profile, origin, bind=bind, most=most))
        names = naming.suggestions()
        opened = None
        while opened is None:  # suggestions never end
            wanted = await wanted_mailbox(next(names), space, owner, profile)
            opened = await self.writer.do(
                partial(
                    self._mailboxes.open_unnamed, wanted=wanted, profile=profile, origin=origin, bind=bind, most=most
                )
            )
        return opened

    async def bound(self, reader: str) -> Mailbox | None:
        """See `Store.bound`."""
        return await self._reader.do(lambda db: self._mailboxes.mailbox(db, query.BOUND, (reader,)))

    async def mailbox(self, address: Address) -> Mailbox | None:
        """See `Store.mailbox`."""
        return await self._reader.do(
            lambda db: self._mailboxes.mailbox(db, query.MAILBOX, (address.space, address.folded))
        )

    async def occupant(self, address: Address) -> Occupant | None:
        """See `Store.occupant`."""
        return await self._reader.do(lambda db: self._mailboxes.occupant_of(db, address))

    async def mailboxes(self, owner: str, space: str, prefix: str, limit: int, after: str = "") -> Sequence[Address]:
        """See `Store.mailboxes`."""
        begin = addresses.fold(prefix)
        low = max(begin, addresses.fold(after) + "\0") if after else begin  # no name has a NUL: it is the next one
        rows = await self._reader.do(
            lambda db: db.execute(query.BY_PREFIX, (owner, space, low, begin + "\U0010ffff", limit)).fetchall()
        )
        return [Address(row["name"], row["space"]) for row in rows]

    async def similar(self, address: Address, owner: str, within: str | None = None) -> Address | None:
        """See `Store.similar`."""
        return await self._reader.do(lambda db: self._mailboxes.similar(db, address, owner, within))

    # -- mail

    async def accept(self, submission: Submission) -> Accepted:
        """See `Store.accept`."""
        answer = await self._do(lambda db: self._sending.accept(db, submission))
        if isinstance(answer, Refusal):  # with which something was written: others were told of it
            raise answer
        return answer

    async def accept_all(self, submissions: Sequence[Submission]) -> Sequence[Accepted | Refusal]:
        """See `Store.accept_all`. All or nothing: it is one transaction."""
        return await self._do(lambda db: self._sending.accept_all(db, submissions))

    async def answered(self, sender: Address, origin: Origin) -> Accepted | None:
        """See `Store.answered`."""
        return await self._reader.do(lambda db: self._sending.answered(db, sender, origin))

    async def report(self, mailbox: Address, notice: Notice, origin: Origin) -> bool:
        """See `Store.report`."""
        return await self._do(lambda db: self._reporting.report(db, mailbox, notice, origin))

    async def claim(
        self,
        mailbox: Address,
        wanted: Wanted,
        lease: Lease,
        origin: Origin,
        present: Collection[str] | None,
        claimer: Claimer = ANYBODY,
    ) -> Sequence[Delivery]:
        """See `Store.claim`."""
        found = None
        while found is None:
            found = await self._do(
                lambda db: self._receiving.claim(db, mailbox, wanted, lease, origin, present, claimer)
            )
        return found

    async def surface(self, origin: Origin) -> None:
        """See `Store.surface`. Not worth an fsync of its own: it goes with the next commit."""
        self.writer.later(lambda db: apply.surface(db, origin.reader, origin.request, self.clock.now()))

    async def show(self, mailbox: Address, ids: Sequence[str]) -> None:
        """See `Store.show`."""
        self.writer.later(lambda db: self._receiving.show(db, mailbox, ids))

    async def note_ring(self, mailbox: Address) -> None:
        """See `Store.note_ring`."""
        self.writer.later(lambda db: self._receiving.note_ring(db, mailbox))

    async def give_back(self, reader: str, request: str | None, *, surfaced: bool) -> int:
        """See `Store.give_back`."""
        return await self._do(lambda db: self._receiving.give_back(db, reader, request, surfaced))

    async def settle(
        self, mailbox: Address, handles: Sequence[str], settlement: Settlement, origin: Origin
    ) -> Sequence[Settled]:
        """See `Store.settle`."""
        return await self._do(lambda db: self._receiving.settle(db, mailbox, handles, settlement, origin.reader))

    async def sweep(self, after: int, present: Collection[str]) -> bool:
        """See `Store.sweep`."""
        return await self._do(lambda db: self._receiving.sweep(db, after, present))

    async def leave(self, reader: str) -> Sequence[Address]:
        """See `Store.leave`."""
        lapsed, over = await self._reader.do(lambda db: self._looking.left(db, reader))
        while over:
            over = await self._do(lambda db: self._receiving.leave(db, reader))
        return lapsed

    async def _do(self, work: Callable[[sqlite3.Connection], tuple[T, Collection[Address | Published]]]) -> T:
        """Return what the work gives first; ring for what it gives second, once that is on disk."""
        return (await self.writer.do(work, lambda done: self._committed(done[1])))[0]

    def _committed(self, told: Collection[Address | Published]) -> None:
        self._ring(told)
        self.follower.wake()

    async def _look(self, lane: Lane, mailbox: Address, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what the work sees once all that was published to that mailbox is in it, up to now.

        Whoever publishes goes on meanwhile: nobody waits until there is nothing more.
        """

        def look(db: sqlite3.Connection) -> tuple[T] | None:
            found = db.execute(query.MAILBOX, (mailbox.space, mailbox.folded)).fetchone()
            return None if found is not None and fanout.is_due(db, found["id"]) else (work(db),)

        seen = await lane.do(look)
        if seen is not None:
            return seen[0]
        try:
            while await self.writer.do(self._catching_up(mailbox)):
                pass
        except Refusal as refusal:
            if refusal.blame is not Blame.STORE:
                raise  # a disk that is full stops nobody from reading what is there
        return await lane.do(work)

    def _catching_up(self, mailbox: Address) -> Callable[[sqlite3.Connection], bool]:
        """Return what moves a slice of what is due into that mailbox, and says whether there is more."""

        def catch_up(db: sqlite3.Connection) -> bool:
            caught = fanout.catch_up(db, self._registry.box(db, mailbox).id, self.clock.now())
            if caught.skipped:
                self.skips.add((mailbox.folded, mailbox.space))
            return caught.more

        return catch_up

    # -- looking

    async def inbox(self, mailbox: Address, listing: Listing) -> Page:
        """See `Store.inbox`."""
        return await self._look(self._reader, mailbox, lambda db: self._looking.inbox(db, mailbox, listing))

    async def read(self, mailbox: Address, id: str) -> Reading:  # noqa: A002 - the domain's word
        """See `Store.read`."""
        return await self._look(self._reader, mailbox, lambda db: self._looking.read(db, mailbox, id))

    async def check_within(self, mailbox: Address, id: str, within: str) -> None:  # noqa: A002
        """See `Store.check_within`."""
        await self._look(self._reader, mailbox, lambda db: self._looking.check_within(db, mailbox, id, within))

    async def news(self, mailbox: Address) -> Sequence[News]:
        """See `Store.news`."""
        return await self._look(self._reader, mailbox, lambda db: self._looking.news(db, mailbox))

    async def due(self, after: int) -> Due:
        """See `Store.due`."""
        return await self._reader.do(lambda db: self._looking.due(db, after))

    async def unreached(self) -> Sequence[Origin]:
        """See `Store.unreached`."""
        return await self._reader.do(lambda db: [Origin(*row) for row in db.execute(query.UNREACHED).fetchall()])

    async def holders(self) -> Sequence[tuple[str, int]]:
        """See `Store.holders`."""
        return await self._reader.do(lambda db: [tuple(row) for row in db.execute(query.HOLDERS).fetchall()])

    # -- looking back

    async def backup(self, path: Path, told: Told, *, replace: bool = False) -> int:
        """See `Store.backup`."""
        self.place.check()
        with self._attaching.blobs.resting():
            return await self.backups.run(partial(back_up, self.place.path, path, replace=replace), told)

    async def mail_of(self, mailbox: Address, portion: Portion) -> MailPage:
        """See `Store.mail_of`."""
        return await self._look(self._reader, mailbox, lambda db: self._archive.mail_of(db, mailbox, portion))

    # -- search

    async def search(self, mailbox: Address, asked: Query) -> Hits:
        """See `Store.search`."""
        return await self._look(self._searcher, mailbox, lambda db: self._searching.search(db, mailbox, asked))

    # -- channels

    async def subscribe(
        self,
        mailbox: Address,
        channel: Address,
        since: int | str | None,
        keep: Keep,
        origin: Origin,
        *,
        make: bool = True,
    ) -> Subscribed:
        """See `Store.subscribe`."""
        seen = await channels.look(channel) if make else None
        return await self.writer.do(
            lambda db: self._channels.subscribe(db, mailbox, channel, since, keep, origin, seen)
        )

    async def unsubscribe(self, mailbox: Address, channel: Address, origin: Origin) -> bool:
        """See `Store.unsubscribe`."""
        return await self.writer.do(lambda db: self._channels.unsubscribe(db, mailbox, channel, origin))

    async def channels(self, mailbox: Address, space: str, limit: int, cursor: str | None = None) -> ChannelPage:
        """See `Store.channels`."""
        return await self._reader.do(lambda db: self._channels.listed(db, mailbox, space, limit, cursor))

    async def subscriptions(self, mailbox: Address) -> Sequence[Address]:
        """See `Store.subscriptions`."""
        return await self._reader.do(lambda db: self._channels.subscriptions(db, mailbox))

    async def skipped(self, mailbox: Address) -> Sequence[Skipped]:
        """See `Store.skipped`."""
        if (mailbox.folded, mailbox.space) not in self.skips:
            return ()
        return await self._reader.do(lambda db: self._channels.skipped(db, mailbox))

    async def note_told(self, mailbox: Address, skipped: Sequence[Skipped]) -> None:
        """See `Store.note_told`."""
        await self.writer.do(lambda db: self._channels.note_told(db, mailbox, skipped))

    async def similar_channel(self, mailbox: Address, channel: Address) -> Address | None:
        """See `Store.similar_channel`."""
        return await self._reader.do(lambda db: self._channels.similar(db, mailbox, channel))

    # -- what is no longer kept

    async def forget_settled(self, before: int) -> bool:
        """See `Store.forget_settled`."""
        began = time.monotonic()
        found, more = await self._reader.do(lambda db: self._retention.look(db, before))
        if found:
            # First: what is no longer there cannot be taken out.
            await self._searcher.do(lambda mail: self._index.forget(mail, found))
            await self.writer.do(lambda db: self._retention.forget(db, found, before))
        if not more:
            await self.writer.do(self._retention.tidy)
        await anyio.sleep(_REST * (time.monotonic() - began))
        return more

    async def compact(self) -> bool:
        """See `Store.compact`."""
        began = time.monotonic()
        more = await self.writer.do(self._retention.compact)
        await anyio.sleep(_REST * (time.monotonic() - began))
        return more

    # -- attachments

    def attaching(self) -> AbstractAsyncContextManager[Tray]:
        """See `Store.attaching`."""
        return self._attaching.attaching()

    async def attachment(self, mailbox: Address, id: str, name: str) -> tuple[Attachment, bytes]:  # noqa: A002
        """See `Store.attachment`."""
        return await self._attaching.attachment(mailbox, id, name)

    async def collect(self) -> int:
        """See `Store.collect`."""
        return await self._attaching.collect(self._searcher)

    def start_collecting(self) -> None:
        """Let go of contents now and then, until it is stopped."""
        self._collecting = asyncio.get_running_loop().create_task(self._attaching.collect_now_and_then(self._searcher))

    async def stop_collecting(self) -> None:
        """Stop where it is."""
        if self._collecting is not None:
            self._collecting.cancel()
            with suppress(asyncio.CancelledError):
                await self._collecting

    @property
    def attached_bytes(self) -> int:
        """See `Store.attached_bytes`."""
        return self._attaching.blobs.size

    # -- credentials

    async def grant(self, credential: Credential, digest: bytes) -> None:
        """See `Store.grant`."""
        await self.writer.do(lambda db: granting.grant(db, credential, digest))

    async def credential(self, digest: bytes) -> Credential | None:
        """See `Store.credential`."""
        return await self._reader.do(lambda db: granting.by_digest(db, digest))

    async def credentials(self) -> Sequence[Credential]:
        """See `Store.credentials`."""
        return await self._reader.do(granting.every)

    async def revoke(self, id: str) -> Credential | None:  # noqa: A002 - the domain's word
        """See `Store.revoke`."""
        return await self.writer.do(lambda db: granting.revoke(db, id, self.clock.now()))

    async def regrant(self, id: str, digest: bytes) -> Credential | None:  # noqa: A002
        """See `Store.regrant`."""
        return await self.writer.do(lambda db: granting.regrant(db, id, digest))

    async def invite(self, invitation: Invitation, digest: bytes) -> None:
        """See `Store.invite`."""
        await self.writer.do(lambda db: granting.invite(db, invitation, digest, self.clock.now()))

    async def redeem(self, code: bytes, token: bytes, id: str) -> Credential | None:  # noqa: A002
        """See `Store.redeem`."""
        if not await self._reader.do(lambda db: granting.may_be_redeemed(db, code, self.clock.now())):
            return None
        return await self.writer.do(lambda db: granting.redeem(db, code, token, id, self.clock.now()))

    async def invitations(self) -> Sequence[Invitation]:
        """See `Store.invitations`."""
        return await self._reader.do(granting.invited)

    async def uninvite(self, id: str) -> Invitation | None:  # noqa: A002
        """See `Store.uninvite`."""
        return await self.writer.do(lambda db: granting.uninvite(db, id, self.clock.now()))

    # -- reservations

    async def reserve(self, holder: Address, names: Sequence[str], terms: Terms, origin: Origin) -> Reserved:
        """See `Store.reserve`."""
        return await self.writer.do(lambda db: self._reserving.reserve(db, holder, names, terms, origin))

    async def release_reservations(self, holder: Address, names: Sequence[str] | None, origin: Origin) -> Released:
        """See `Store.release_reservations`."""
        return await self.writer.do(lambda db: self._reserving.release(db, holder, names, origin))

    async def reservations(self, space: str) -> Sequence[Reservation]:
        """See `Store.reservations`."""
        return await self._reader.do(lambda db: self._reserving.held(db, space))

    # -- the directory

    async def find_mailboxes(
        self, principal: str, search: Search, limit: int, cursor: str | None = None, within: str | None = None
    ) -> Found:
        """See `Store.find_mailboxes`."""
        return await self._reader.do(lambda db: self._directory.find(db, principal, search, limit, cursor, within))

    async def note_seen(self, mailbox: Address) -> None:
        """See `Store.note_seen`. Not worth an fsync of its own, as `surface`."""
        now = self.clock.now()
        self.writer.later(lambda db: self._directory.note_seen(db, mailbox, now))

    async def check(self) -> str:
        """See `Store.check`."""
        # With a connection of its own: in a large store it takes long, and others look meanwhile.
        return await self.backups.run(partial(check, self.place.path), lambda *_: None)
