"""Which mailboxes this machine's readers have, as far as the hub has ever said.

What is asked of the hub names them: what was sent while it was away may be from a reader of which it has never heard,
whose mailbox was opened by what is known here.
"""

from __future__ import annotations

from collections import OrderedDict

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import key
from mcp_mailbox.engines.outbox import Outbox
from mcp_mailbox.postoffice import Caller
from mcp_mailbox.recent import trim

_MOST = 10_000
"""Readers, and names by which they mean a mailbox, that are remembered: those that came last."""


class Names:
    """The mailboxes, kept in the outbox's file. `load` comes before anything is asked."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._own: OrderedDict[str, Address] = OrderedDict()
        """By reader."""
        self._named: OrderedDict[tuple[str, str, str], Address] = OrderedDict()
        """By reader, its space and the name that it uses."""
        self._ours: dict[tuple[str, str], Address] = {}

    async def load(self) -> None:
        """Know what was known before."""
        for text in await self._outbox.mailboxes():
            address = addresses.parse(text, addresses.DEFAULT_SPACE)
            self._ours[key(address)] = address
        for reader, text in await self._outbox.readers(_MOST):
            self._own[reader] = addresses.parse(text, addresses.DEFAULT_SPACE)

    def of(self, caller: Caller, name: str | None) -> Address | None:
        """Return the mailbox that the caller means by a name, or its own; None when the hub has not said it yet."""
        name = name if name is not None else caller.mailbox
        if name is None:
            return self._own.get(caller.reader) if caller.binds else None
        return self._named.get((caller.reader, caller.space, name))

    def own(self, caller: Caller) -> str | None:
        """Return by which name the hub knows the mailbox of a call that names none; None to let the hub say it."""
        found = self.of(caller, None) if caller.mailbox is None else caller.mailbox
        return str(found) if found is not None else None

    def ours(self, caller: Caller, name: str) -> Address | None:
        """Return the mailbox of that name if anybody on this machine has ever had it."""
        return self._ours.get(key(addresses.parse(name, caller.space)))

    async def keep(self, caller: Caller, name: str | None, address: Address) -> None:
        """Note what the hub has said: it is on disk when this returns."""
        name = name if name is not None else caller.mailbox
        if name is not None:
            self._named[caller.reader, caller.space, name] = address
            trim(self._named, _MOST)
        if name is None and caller.binds:
            await self.become(caller, address)
        else:
            await self._note(None, address)

    async def become(self, caller: Caller, address: Address) -> None:
        """Note that it is the caller's own from now on."""
        if self._own.get(caller.reader) != address or key(address) not in self._ours:
            await self._note(caller.reader, address)
            self._own[caller.reader] = address
            trim(self._own, _MOST)

    async def _note(self, reader: str | None, address: Address) -> None:
        if reader is not None or key(address) not in self._ours:
            await self._outbox.bind(reader, str(address))
            self._ours[key(address)] = address
