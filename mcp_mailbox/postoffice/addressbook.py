"""Which mailbox a call acts for, and what is said of one that is not there or not the caller's: the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.credentials import Scope
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.postoffice.attendance import Attendance
from mcp_mailbox.postoffice.audience import Audience
from mcp_mailbox.postoffice.callers import Call, Caller
from mcp_mailbox.postoffice.limits import Limits
from mcp_mailbox.postoffice.readers import Readers
from mcp_mailbox.report import POSTMASTER
from mcp_mailbox.store import Opened, Store

_OWNED = 10_000
"""Mailboxes of which it is remembered whose they are."""


class AddressBook:
    """Mailboxes opened and found, for one post office. `attendance` is told who comes for which.

    `audience` learns of what these are members, before anybody listens for them.
    """

    def __init__(
        self, store: Store, readers: Readers, attendance: Attendance, audience: Audience, limits: Limits
    ) -> None:
        self._store = store
        self._readers = readers
        self._attendance = attendance
        self._audience = audience
        self._limits = limits
        self._own: dict[str, Address] = {}
        self._owned: dict[tuple[str, str, str], Address] = {}

    def forget(self, reader: str) -> None:
        """Keep nothing of a reader that has left."""
        self._own.pop(reader, None)

    async def open(self, call: Call, name: str | None, profile: Profile) -> Opened:
        """Open one's own mailbox of that name, or create it; it becomes the caller's.

        Without a name it is the one that the caller has, else one whose name the store finds.
        """
        caller = call.caller
        caller.must(Scope.CREATE)
        address = addresses.parse(name, caller.space) if name is not None else await self._kept(caller)
        caller.must_see(address.space)
        if address.folded == POSTMASTER and not await self._is_own(caller, str(address)):
            raise Refusal(Code.NAME_TAKEN, f"The name {POSTMASTER!r} is the post office's own.", "Choose another.")
        most = self._limits.mailboxes(caller)
        opened = await self._store.open(address, caller.principal, profile, call.origin, bind=caller.binds, most=most)
        if caller.binds:
            self._own[caller.reader] = opened.mailbox.address
        await self._attendance.came(caller, opened.mailbox.address, own=True)
        reads = opened.occupant
        if reads is not None and (reads.reader == caller.reader or not self._readers.is_here(reads.reader)):
            return replace(opened, occupant=None)  # nobody whom one would have to know of
        return opened

    async def ensure(self, call: Call, name: str) -> Address | None:
        """Open the mailbox, unless it is there and need not become the caller's; return its address if it was made.

        Looks first: a token may be good for a mailbox that it may not make. Raises Refusal as `open`.
        """
        if call.caller.binds or not await self._is_own(call.caller, name):
            opened = await self.open(call, name, Profile())
            return opened.mailbox.address if opened.created else None
        return None

    async def own(self, caller: Caller, name: str | None = None) -> Address:
        """Return the address that a call acts for.

        Raises Refusal(NO_MAILBOX) before one was opened, (UNKNOWN_MAILBOX) for one that is not the principal's.
        """
        found = await self._found(caller, name)
        await self._audience.learn(found)
        await self._attendance.came(caller, found, own=name is None)  # from here on its host's doorbell listens
        return found

    async def greet(self, caller: Caller) -> None:
        """Note that the caller is at its own mailbox, if it has one."""
        with suppress(Refusal):  # it asks for nothing that could be refused
            await self.own(caller)

    async def _found(self, caller: Caller, name: str | None) -> Address:
        name = name if name is not None else caller.mailbox
        if name is not None:
            address = addresses.parse(name, caller.space)
            found = await self._owned_by(caller, address)
            if found is None:
                raise await self.unknown(caller, address, own=True)
            return found
        if caller.reader not in self._own:
            bound = await self._store.bound(caller.reader) if caller.binds else None
            if bound is None or not caller.sees(bound.address.space):
                raise Refusal(Code.NO_MAILBOX, "You have no mailbox yet.", "Call create_mailbox first.")
            self._own[caller.reader] = bound.address
        return self._own[caller.reader]

    def acted_for(self, caller: Caller, name: str | None) -> Address | None:
        """Return the mailbox that a call has acted for; None for what was none of the principal's.

        Of memory alone: nothing is asked, and what a caller has merely written is not told.
        """
        name = name if name is not None else caller.mailbox
        if name is None:
            return self._own.get(caller.reader)
        with suppress(Refusal):
            address = addresses.parse(name, caller.space)
            return self._owned.get((caller.principal, address.folded, address.space))
        return None

    async def readable(self, caller: Caller, name: str | None) -> Address:
        """Return the address of a mailbox that the caller may read, and so hear of, or of its own.

        Raises Refusal as `own`.
        """
        caller.must(Scope.READ)
        return await self.own(caller, name)

    async def check_reach(self, caller: Caller, mailbox: Address, id: str | None) -> None:  # noqa: A002
        """Raise Refusal(UNKNOWN_MESSAGE) for one that only channels have of spaces which the caller does not see."""
        if caller.within is not None and id is not None:
            await self._store.check_within(mailbox, id, caller.within)

    async def _is_own(self, caller: Caller, name: str) -> bool:
        try:
            await self._found(caller, name)
        except Refusal as refusal:
            if refusal.code is not Code.UNKNOWN_MAILBOX:
                raise
            return False
        return True

    async def _kept(self, caller: Caller) -> Address:
        """Return the address of the mailbox that the caller has: once made it stays one's own, its name forgotten."""
        try:
            return await self._found(caller, None)
        except Refusal as refusal:
            if refusal.code is not Code.NO_MAILBOX:
                raise
            return Address("", caller.space)

    async def _owned_by(self, caller: Caller, address: Address) -> Address | None:
        """Return the address as it was made, if it is of the caller's principal.

        What the store says of these is remembered: that never changes.
        """
        if not caller.sees(address.space):
            return None
        key = (caller.principal, address.folded, address.space)
        if (known := self._owned.get(key)) is not None:
            return known
        mailbox = await self._store.mailbox(address)
        if mailbox is None or mailbox.owner != caller.principal:
            return None
        if len(self._owned) >= _OWNED:
            self._owned.clear()
        self._owned[key] = mailbox.address
        return mailbox.address

    async def listed(self, caller: Caller, limit: int, after: str = "") -> Sequence[Address]:
        """Return the principal's addresses in the caller's space, in order; those behind the name `after`."""
        caller.must(Scope.READ)
        if not caller.sees(caller.space):
            return ()
        return await self._store.mailboxes(caller.principal, caller.space, "", limit, after)

    async def complete(self, caller: Caller, prefix: str, limit: int) -> Sequence[Address]:
        """Return the principal's addresses that begin like this."""
        caller.must(Scope.READ)
        name, _, space = prefix.partition("@")
        if not caller.sees(space or caller.space):
            return ()
        return await self._store.mailboxes(caller.principal, space or caller.space, name, limit)

    async def meant(self, caller: Caller, address: Address) -> str:
        """Return a question for who wrote to, or waits for, what is none of the principal's: a name like it, if any.

        The same for what there is not and for what somebody else has.
        """
        if await self.owns(caller, address):
            return ""
        near = replace(address, space=caller.space)
        similar = near if await self.owns(caller, near) else await self._similar(caller, address)
        if similar is None:
            return ""
        name = similar.name if similar.space == caller.space else str(similar)
        return f"Did you mean {name!r}?"

    async def _similar(self, caller: Caller, address: Address) -> Address | None:
        if not caller.sees(address.space):
            return None
        return await self._store.similar(address, caller.principal, caller.within)

    async def owns(self, caller: Caller, address: Address) -> bool:
        """Return whether it is a mailbox of the caller's principal; nobody is told which may be meant, which costs."""
        return await self._owned_by(caller, address) is not None

    async def unknown(self, caller: Caller, address: Address, *, own: bool = False) -> Refusal:
        """Return the refusal for an address that nobody has, as far as the caller may know; or not oneself (`own`)."""
        shown = address.name if address.space == caller.space else str(address)
        hint = await self.meant(caller, address)
        hint = hint or ("create_mailbox makes it." if own else "Its owner makes it; find_mailboxes shows who is there.")
        problem = f"You have no mailbox {shown!r}." if own else f"No mailbox {shown!r}."
        return Refusal(Code.UNKNOWN_MAILBOX, problem, hint)
