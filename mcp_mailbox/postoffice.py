"""The post office: the verbs, and every rule of the domain.

Fronts call these and translate; engines keep what these decide. How a request came, what a model gets to see and how
mail lies on disk are not known here.

A caller is a reader (durable: a relay's id) that speaks for a principal in a space. The mailbox that it opened last
is its own; naming another one of its principal's selects that for one call.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio
import anyio.lowlevel

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Bell, Ending
from mcp_mailbox.credentials import ALL_SCOPES, Scope
from mcp_mailbox.delivery import Delivery, Outcome
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Accepted, Lease, Listing, Opened, Origin, Page, Recipient, Settled, Store, Wanted

logger = logging.getLogger(__name__)

LEASE_TERM = 10 * 60 * 1000
"""ms that a reader has for a message before it may come back."""
CLAIM_COUNT = 10
"""Messages that one wait hands out at most."""
SETTLE_LIMIT = 100
"""Ids in one settle."""
_RETURN_GRACE = 3_000
"""ms after a start in which every reader counts as present: relays need a moment to reconnect. Never over a lease."""
_OWNED = 10_000
"""Mailboxes of which it is remembered whose they are."""
_RETRY = 1_000
"""ms after which a store that could not is asked again."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a reader, the principal that it speaks for, and the space of bare names."""

    reader: str
    principal: str
    space: str
    mailbox: str | None = None
    """The mailbox of calls that name none, where the reader's connection or credential says so."""
    binds: bool = True
    """Whether what the reader opens is its own from then on. Not so where several may share a reader's id."""
    scopes: frozenset[Scope] = ALL_SCOPES


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a caller. `request` is repeated only when the same request is."""

    caller: Caller
    request: str
    mailbox: str | None = None
    """The `mailbox` argument: which of one's own mailboxes is meant; None for the one opened last."""

    @property
    def origin(self) -> Origin:
        """The call as the store knows it."""
        return Origin(self.caller.reader, self.request)


@dataclass(frozen=True, slots=True)
class _Owed:
    """Leases to give back: those of a request, or all that never reached the reader (None)."""

    reader: str
    request: str | None


class PostOffice:
    """The verbs over one store. `business` must be entered for as long as they are called."""

    def __init__(self, store: Store, *, lease_term: int = LEASE_TERM) -> None:
        self.bell = Bell()
        self._store = store
        self._lease_term = lease_term
        self._present: Counter[str] = Counter()
        self._everybody = True
        self._own: dict[str, Address] = {}
        self._owned: dict[tuple[str, str, str], Address] = {}
        self._looked = 0
        self._next_lapse: int | None = None
        self._lapse_moved = anyio.Event()
        self._owed: list[_Owed] = []
        self._owing = anyio.Event()

    @asynccontextmanager
    async def business(self) -> AsyncIterator[None]:
        """Ring for what commits and for what lapses."""
        with self._store.on_ring(self.bell.ring):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._ring_lapses)
                tasks.start_soon(self._end_grace)
                tasks.start_soon(self._pay_back)
                yield
                tasks.cancel_scope.cancel()

    # -- presence

    def arrive(self, caller: Caller) -> None:
        """Count the reader as present: its leases are not handed to others."""
        self._present[caller.reader] += 1

    async def depart(self, caller: Caller, *, put_back: bool = True) -> None:
        """Put back at once what was leased and never reached the reader; what lapsed goes to others.

        `put_back` False leaves that to `missed` and `let_go`: others of the same id may be about to be answered.
        """
        self._present[caller.reader] -= 1
        if self._present[caller.reader] > 0:
            return  # it has reconnected already
        del self._present[caller.reader]
        self._own.pop(caller.reader, None)
        if put_back:
            await self._put_back(_Owed(caller.reader, None))

    async def let_go(self, caller: Caller) -> None:
        """Ring where the reader holds leases that ran out while it was present, once it is not any more."""
        if caller.reader not in self._present:
            for address in await self._store.leased_by(caller.reader):
                self.bell.ring(address)

    @property
    def present(self) -> int:
        """How many readers are here."""
        return len(self._present)

    # -- mailboxes

    async def open_mailbox(self, call: Call, name: str | None, profile: Profile) -> Opened:
        """Open one's own mailbox of that name, or create it; it becomes the caller's."""
        caller = call.caller
        self._allow(caller, Scope.CREATE)
        address = addresses.parse(name, caller.space) if name is not None else Address("", caller.space)
        opened = await self._store.open(address, caller.principal, profile, call.origin, bind=caller.binds)
        if caller.binds:
            self._own[caller.reader] = opened.mailbox.address
        return opened

    async def own(self, caller: Caller, name: str | None = None) -> Address:
        """Return the address that a call acts for.

        Raises Refusal(NO_MAILBOX) before one was opened, (UNKNOWN_MAILBOX) for one that is not the principal's.
        """
        name = name if name is not None else caller.mailbox
        if name is not None:
            address = addresses.parse(name, caller.space)
            key = (caller.principal, address.folded, address.space)
            return self._owned.get(key) or await self._look_up(caller, address, key)
        if caller.reader not in self._own:
            bound = await self._store.bound(caller.reader) if caller.binds else None
            if bound is None:
                raise Refusal(Code.NO_MAILBOX, "You have no mailbox yet.", "Call create_mailbox first.")
            self._own[caller.reader] = bound.address
        return self._own[caller.reader]

    async def readable(self, caller: Caller, name: str) -> Address:
        """Return the address of a mailbox that the caller may read, and so hear of. Raises Refusal as `own`."""
        self._allow(caller, Scope.READ)
        return await self.own(caller, name)

    async def _look_up(self, caller: Caller, address: Address, key: tuple[str, str, str]) -> Address:
        """Ask the store, and remember what it says of mailboxes that are the principal's: that never changes."""
        mailbox = await self._store.mailbox(address)
        if mailbox is None or mailbox.owner != caller.principal:
            raise await self._unknown(caller, address)
        if len(self._owned) >= _OWNED:
            self._owned.clear()
        self._owned[key] = mailbox.address
        return mailbox.address

    async def complete(self, caller: Caller, prefix: str, limit: int) -> Sequence[Address]:
        """Return the principal's addresses that begin like this."""
        self._allow(caller, Scope.READ)
        name, _, space = prefix.partition("@")
        return await self._store.mailboxes(caller.principal, space or caller.space, name, limit)

    # -- verbs

    async def send(self, call: Call, draft: Draft) -> Accepted:
        """Store a message durably for every recipient, and ring; one result each."""
        self._allow(call.caller, Scope.SEND)
        sender = await self.own(call.caller, call.mailbox)
        recipients: dict[tuple[str, str], Address] = {}
        for text in draft.to:
            address = addresses.parse(text, call.caller.space)
            recipients.setdefault((address.folded, address.space), address)
        to = list(recipients.values())
        try:
            accepted = await self._store.accept(sender, to, draft, call.origin)
        except Refusal as refusal:
            if refusal.code is Code.UNKNOWN_MAILBOX:
                raise await self._unknown(call.caller, to[0]) from None
            raise
        return replace(accepted, recipients=tuple([await self._hinted(call, each) for each in accepted.recipients]))

    async def wait(self, call: Call, patience: float, wanted: Wanted, size: int, ending: Ending) -> Sequence[Delivery]:
        """Lease what is there, or what comes within `patience` ms; empty when nothing did.

        A wait that is cancelled leaves every message where it was. `ending` ends it early.
        """
        self._allow(call.caller, Scope.READ)
        address = await self.own(call.caller, call.mailbox)
        clock = self._store.clock
        deadline = clock.now() + patience
        with self.bell.listening(address) as ear, ending.telling(ear.hear):
            while True:
                ear.clear()
                found = await self._claim(call, address, wanted, size)
                left = deadline - clock.now()
                if found or left <= 0 or ending.is_set():
                    return found
                await _first_of(ear.wait, lambda: clock.sleep_until(deadline))

    async def list_inbox(self, call: Call, listing: Listing) -> Page:
        """List what is not settled; nothing is leased by looking."""
        self._allow(call.caller, Scope.READ)
        return await self._store.inbox(await self.own(call.caller, call.mailbox), listing)

    async def read(self, call: Call, id: str) -> Delivery:  # noqa: A002 - the domain's word
        """Return a message that the mailbox received or sent, whole."""
        self._allow(call.caller, Scope.READ)
        return await self._store.read(await self.own(call.caller, call.mailbox), id)

    async def settle(self, call: Call, ids: Sequence[str], outcome: Outcome) -> Sequence[Settled]:
        """End leases, one result each."""
        self._allow(call.caller, Scope.READ)
        if not ids or len(ids) > SETTLE_LIMIT:
            raise Refusal(Code.BAD_ARGUMENT, f"{len(ids)} ids were given.", f"Give 1 to {SETTLE_LIMIT}.")
        return await self._store.settle(await self.own(call.caller, call.mailbox), ids, outcome, call.origin)

    async def reached(self, caller: Caller, request: str) -> None:
        """Note that the answer of that request reached the caller's host."""
        await self._store.surface(Origin(caller.reader, request))

    async def missed(self, caller: Caller, request: str) -> None:
        """Put back at once what that request leased: its answer was not wanted any more."""
        await self._put_back(_Owed(caller.reader, request))

    # -- inside

    @staticmethod
    def _allow(caller: Caller, scope: Scope) -> None:
        if scope not in caller.scopes:
            raise Refusal(
                Code.FORBIDDEN,
                f"This token may not {scope}.",
                f"It may {', '.join(sorted(caller.scopes))}; who issued it can issue another.",
            )

    async def _claim(self, call: Call, address: Address, wanted: Wanted, size: int) -> Sequence[Delivery]:
        lease = Lease(CLAIM_COUNT, size, self._lease_term)
        present = None if self._everybody else self._present.keys()
        found = await self._store.claim(address, wanted, lease, call.origin, present)
        if found:
            try:
                # The claim cannot be cancelled half way; a caller who has gone meanwhile gets nothing.
                await anyio.lowlevel.checkpoint_if_cancelled()
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await self.missed(call.caller, call.request)
                raise
            self._expect_lapse(min(each.lease_until or 0 for each in found))
        return found

    def _expect_lapse(self, at: int) -> None:
        if self._next_lapse is None or at < self._next_lapse:
            self._lapse_moved.set()

    async def _put_back(self, owed: _Owed) -> None:
        """Give leases back now, or as soon as the store can: whoever held them is not there to try again."""
        try:
            await self._store.give_back(owed.reader, owed.request, surfaced=owed.request is not None)
            if owed.request is None:
                for address in await self._store.leased_by(owed.reader):
                    self.bell.ring(address)
        except Refusal as refusal:
            if refusal.code is not Code.STOPPING:
                logger.warning("leases are not given back yet: %s", refusal)
                self._owed.append(owed)
                self._owing.set()

    async def _pay_back(self) -> None:
        while True:
            await self._owing.wait()
            await self._pause(_RETRY)
            self._owing = anyio.Event()
            owed, self._owed = self._owed, []
            for each in owed:
                # Who has come back holds again what it held: its answers may be on their way.
                if each.request is not None or each.reader not in self._present:
                    await self._put_back(each)

    async def _ring_lapses(self) -> None:
        """Ring where a lease runs out: one timer for all."""
        clock = self._store.clock
        while True:
            self._lapse_moved = anyio.Event()
            after, self._looked = self._looked, clock.now()
            try:
                lapsed, self._next_lapse = await self._store.due(after)
            except Refusal as refusal:
                logger.warning("lapsed leases are not seen yet: %s", refusal)
                self._looked = min(self._looked, after)
                await self._pause(_RETRY)
                continue
            for address in lapsed:
                self.bell.ring(address)
            await self._until_lapse(self._next_lapse)

    async def _until_lapse(self, moment: int | None) -> None:
        """Wait for it, or for a claim whose lease ends earlier."""
        if moment is None:
            await self._lapse_moved.wait()
        else:
            await _first_of(self._lapse_moved.wait, lambda: self._store.clock.sleep_until(moment))

    async def _pause(self, ms: float) -> None:
        await self._store.clock.sleep_until(self._store.clock.now() + ms)

    async def _end_grace(self) -> None:
        await self._pause(min(_RETURN_GRACE, self._lease_term))
        self._everybody = False
        self._looked = 0  # ring again for all that has lapsed meanwhile
        self._lapse_moved.set()
        # Readers that ended together with the post office before us: nobody has seen what they were handed.
        for reader in await self._unreached():
            if reader not in self._present:
                await self._put_back(_Owed(reader, None))

    async def _unreached(self) -> Sequence[str]:
        while True:
            try:
                return await self._store.unreached()
            except Refusal as refusal:
                logger.warning("readers that have gone are not seen yet: %s", refusal)
                await self._pause(_RETRY)

    async def _hinted(self, call: Call, recipient: Recipient) -> Recipient:
        if recipient.refusal is None:
            return recipient
        address = addresses.parse(recipient.address, call.caller.space)
        return replace(recipient, refusal=await self._unknown(call.caller, address))

    async def _unknown(self, caller: Caller, address: Address) -> Refusal:
        similar = await self._store.similar(address, caller.principal)
        shown = address.name if address.space == caller.space else str(address)
        hint = "Its owner makes it with create_mailbox."
        if similar is not None:
            name = similar.name if similar.space == caller.space else str(similar)
            hint = f"Did you mean {name!r}?"
        return Refusal(Code.UNKNOWN_MAILBOX, f"No mailbox {shown!r}.", hint)


async def _first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return when the first of them does; cancel the others."""
    async with anyio.create_task_group() as tasks:

        async def run(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            tasks.cancel_scope.cancel()

        for wait in waits:
            tasks.start_soon(run, wait)
