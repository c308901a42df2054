"""Names held and released: for whom, and what others may know of it.

Of a reservation of another principal the name, the mode and the times are told, since it stands in the caller's way,
but neither whose it is nor what for.
"""

from __future__ import annotations

from collections.abc import Sequence

from mcp_mailbox import addresses
from mcp_mailbox.credentials import Scope
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.postoffice.addressbook import AddressBook
from mcp_mailbox.postoffice.callers import Call, Caller
from mcp_mailbox.reservation import Conflict, Reservation, Taken, Terms, wanted
from mcp_mailbox.store import Released, Store


class Reservations:
    """The verbs about reservations, for one post office."""

    def __init__(self, store: Store, mailboxes: AddressBook) -> None:
        self._store = store
        self._mailboxes = mailboxes

    async def reserve(self, call: Call, names: Sequence[str], terms: Terms) -> Sequence[Reservation]:
        """Reserve all of the names, in the space of the caller's mailbox. Raises Taken when others hold one of them."""
        call.caller.must(Scope.SEND)
        holder = await self._mailboxes.own(call.caller, call.mailbox)
        spelt = wanted(names)
        if not spelt:
            raise Refusal(Code.BAD_ARGUMENT, "`names` is empty.", "Name what you want to hold.")
        reserved = await self._store.reserve(holder, spelt, terms, call.origin)
        if reserved.conflicts:
            seen = [Conflict(each.name, each.held.seen_by(call.caller.principal)) for each in reserved.conflicts]
            raise Taken(seen, self._store.clock.now())
        return reserved.held

    async def release(self, call: Call, names: Sequence[str] | None) -> Released:
        """Release what the caller's mailbox holds under these names; None: all of it."""
        call.caller.must(Scope.SEND)
        holder = await self._mailboxes.own(call.caller, call.mailbox)
        spelt = wanted(names) if names is not None else None
        return await self._store.release_reservations(holder, spelt, call.origin)

    async def held(self, call: Call) -> tuple[Sequence[Reservation], Sequence[Reservation]]:
        """Return what the caller's mailbox holds, and what others hold in its space."""
        call.caller.must(Scope.READ)
        holder = await self._mailboxes.own(call.caller, call.mailbox)
        found = [each.seen_by(call.caller.principal) for each in await self._store.reservations(holder.space)]
        return [each for each in found if each.holder == holder], [each for each in found if each.holder != holder]

    async def of_others(self, caller: Caller) -> Sequence[Reservation]:
        """Return what is held in the caller's space by any mailbox but the caller's, which need not be there."""
        caller.must(Scope.READ)
        if not caller.sees(caller.space):
            return ()
        own = addresses.parse(caller.mailbox, caller.space) if caller.mailbox is not None else None
        found = await self._store.reservations(addresses.check_name(caller.space, "space"))
        return [
            each.seen_by(caller.principal)
            for each in found
            if own is None or each.holder is None or (each.holder.folded, each.holder.space) != (own.folded, own.space)
        ]
