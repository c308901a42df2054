"""The verbs over one store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import anyio.lowlevel

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Bell, Ending
from mcp_mailbox.credentials import Scope
from mcp_mailbox.delivery import Delivery, Outcome
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Draft
from mcp_mailbox.postoffice.addressbook import AddressBook
from mcp_mailbox.postoffice.callers import Call, Caller
from mcp_mailbox.postoffice.readers import Readers, first_of
from mcp_mailbox.postoffice.reservations import Reservations
from mcp_mailbox.store import Accepted, Lease, Listing, Origin, Page, Recipient, Settled, Store, Wanted

LEASE_TERM = 10 * 60 * 1000
"""ms that a reader has for a message before it may come back."""
CLAIM_COUNT = 10
"""Messages that one wait hands out at most."""
SETTLE_LIMIT = 100
"""Ids in one settle."""


class PostOffice:
    """The verbs over one store. `business` must be entered for as long as they are called."""

    def __init__(self, store: Store, *, lease_term: int = LEASE_TERM) -> None:
        self.bell = Bell()
        self.mailboxes = AddressBook(store)
        self.reservations = Reservations(store, self.mailboxes)
        self._store = store
        self._lease_term = lease_term
        self._readers = Readers(store, self.bell, lease_term)

    @asynccontextmanager
    async def business(self) -> AsyncIterator[None]:
        """Ring for what commits and for what lapses."""
        with self._store.on_ring(self.bell.ring):
            async with anyio.create_task_group() as tasks:
                self._readers.start(tasks)
                yield
                tasks.cancel_scope.cancel()

    # -- presence

    def arrive(self, caller: Caller) -> None:
        """Count the reader as present: its leases are not handed to others."""
        self._readers.arrive(caller.reader)

    async def depart(self, caller: Caller, *, put_back: bool = True) -> None:
        """Put back at once what was leased and never reached the reader; what lapsed goes to others.

        `put_back` False leaves the first to `missed`: others of the same id may be about to be answered.
        """
        if await self._readers.depart(caller.reader):
            self.mailboxes.forget(caller.reader)
            if put_back:
                await self._readers.put_back(caller.reader)

    @property
    def present(self) -> int:
        """How many readers are here."""
        return len(self._readers)

    # -- verbs

    async def send(self, call: Call, draft: Draft) -> Accepted:
        """Store a message durably for every recipient, and ring; one result each."""
        call.caller.must(Scope.SEND)
        sender = await self.mailboxes.own(call.caller, call.mailbox)
        recipients: dict[tuple[str, str], Address] = {}
        for text in draft.to:
            address = addresses.parse(text, call.caller.space)
            recipients.setdefault((address.folded, address.space), address)
        to = list(recipients.values())
        try:
            accepted = await self._store.accept(sender, to, draft, call.origin)
        except Refusal as refusal:
            if refusal.code is Code.UNKNOWN_MAILBOX:
                raise await self.mailboxes.unknown(call.caller, to[0]) from None
            raise
        return replace(accepted, recipients=tuple([await self._hinted(call, each) for each in accepted.recipients]))

    async def wait(
        self, call: Call, patience: float, wanted: Wanted, size: int, ending: Ending, ack: Sequence[str] = ()
    ) -> tuple[Sequence[Delivery], Sequence[Settled]]:
        """Ack what is done, then lease what is there, or what comes within `patience` ms; empty when nothing did.

        At most about `size` bytes of bodies. A wait that is cancelled leaves every message where it was, what it acked
        stays acked. `ending` ends it early. Raises Refusal(UNKNOWN_MESSAGE) for a thread that is not the caller's,
        (BAD_ARGUMENT) for too many ids to ack, before it has done anything; and as `own`.
        """
        call.caller.must(Scope.READ)
        address = await self.mailboxes.own(call.caller, call.mailbox)
        if wanted.thread is not None and ack:
            await self._store.read(address, wanted.thread)
        settled = await self.settle(call, ack, Outcome.ACK) if ack else ()
        return await self._wait(call, address, patience, wanted, size, ending), settled

    async def _wait(
        self, call: Call, address: Address, patience: float, wanted: Wanted, size: int, ending: Ending
    ) -> Sequence[Delivery]:
        clock = self._store.clock
        deadline = clock.now() + patience
        with self.bell.listening(address) as ear, ending.telling(ear.hear):
            while True:
                ear.clear()
                found = await self._claim(call, address, wanted, size)
                left = deadline - clock.now()
                if found or left <= 0 or ending.is_set():
                    return found
                await first_of(ear.wait, lambda: clock.sleep_until(deadline))

    async def list_inbox(self, call: Call, listing: Listing) -> Page:
        """List what is not settled; nothing is leased by looking."""
        call.caller.must(Scope.READ)
        return await self._store.inbox(await self.mailboxes.own(call.caller, call.mailbox), listing)

    async def read(self, call: Call, id: str) -> Delivery:  # noqa: A002 - the domain's word
        """Return a message that the mailbox received or sent, whole."""
        call.caller.must(Scope.READ)
        return await self._store.read(await self.mailboxes.own(call.caller, call.mailbox), id)

    async def settle(self, call: Call, ids: Sequence[str], outcome: Outcome) -> Sequence[Settled]:
        """End leases, one result each."""
        call.caller.must(Scope.READ)
        if not ids or len(ids) > SETTLE_LIMIT:
            raise Refusal(Code.BAD_ARGUMENT, f"{len(ids)} ids were given.", f"Give 1 to {SETTLE_LIMIT}.")
        return await self._store.settle(await self.mailboxes.own(call.caller, call.mailbox), ids, outcome, call.origin)

    async def reached(self, caller: Caller, request: str) -> None:
        """Note that the answer of that request reached the caller's host."""
        await self._store.surface(Origin(caller.reader, request))

    async def missed(self, caller: Caller, request: str) -> None:
        """Put back at once what that request leased: its answer was not wanted any more."""
        await self._readers.put_back(caller.reader, request)

    # -- inside

    async def _claim(self, call: Call, address: Address, wanted: Wanted, size: int) -> Sequence[Delivery]:
        lease = Lease(CLAIM_COUNT, size, self._lease_term)
        found = await self._store.claim(address, wanted, lease, call.origin, self._readers.present)
        if found:
            try:
                # The claim cannot be cancelled half way; a caller who has gone meanwhile gets nothing.
                await anyio.lowlevel.checkpoint_if_cancelled()
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await self.missed(call.caller, call.request)
                raise
            self._readers.leased(call.caller.reader, min(each.lease_until or 0 for each in found))
        return found

    async def _hinted(self, call: Call, recipient: Recipient) -> Recipient:
        if recipient.refusal is None:
            return recipient
        address = addresses.parse(recipient.address, call.caller.space)
        return replace(recipient, refusal=await self.mailboxes.unknown(call.caller, address))
