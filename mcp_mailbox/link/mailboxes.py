"""Whose mailbox a call acts for: the hub says it once, and rings it here for as long as anybody listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Bell, key
from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts.verbs import asking as plainly
from mcp_mailbox.link.asking import Asker
from mcp_mailbox.link.hub import Away
from mcp_mailbox.link.names import Names
from mcp_mailbox.postoffice import Call, Caller

Json = dict[str, Any]


class _Bell(Bell):
    """A bell that tells when the first one listens for a mailbox."""

    def __init__(self, wanted: Callable[[Address], None]) -> None:
        super().__init__()
        self._wanted = wanted

    def subscribe(self, address: Address, hear: Callable[[], None]) -> Callable[[], None]:
        """See `Bell`."""
        new = key(address) not in self.listened
        end = super().subscribe(address, hear)
        if new:
            self._wanted(address)
        return end


class Mailboxes:
    """Which mailbox is meant, and which are rung. Every verb may raise Refusal, HUB_AWAY among them."""

    def __init__(self, asker: Asker, names: Names) -> None:
        self.bell: Bell = _Bell(self._wanted)
        self._asker = asker
        self._names = names
        self._listens: dict[tuple[str, str], Address] = {}
        """Whose rings the hub was asked for."""

    async def readable(self, caller: Caller, name: str | None) -> Address:
        """Return the address of a mailbox that the caller may read, its own when none is named.

        It is rung from here on, before anybody listens.
        """
        address = self._names.of(caller, name)
        if address is None or key(address) not in self._listens:
            try:
                said = await self._asker.verb("own", self._asker.spelled(plainly("own", {}, Call(caller, "own", name))))
            except Away:
                return self._remembered(caller, name)
            address = addresses.parse(said["address"], caller.space)
            self._listens[key(address)] = address
            await self._names.keep(caller, name, address)
        return address

    def _remembered(self, caller: Caller, name: str | None) -> Address:
        """Return the address of a mailbox that was ours when the hub was last heard."""
        known = self._names.of(caller, name)
        name = name if name is not None else caller.mailbox
        if known is None and name is None:
            raise self._asker.away("It has to say which mailbox is yours.")
        if known is None and name is not None:
            known = self._names.ours(caller, name)
        if known is None:
            raise self._asker.away(f"It has to say whether you have a mailbox {name!r}.")
        return known

    async def acted_for(self, call: Call) -> Address:
        """Return the mailbox that a call acts for; the hub is asked once, and not whether it is rung."""
        known = self._names.of(call.caller, call.mailbox)
        return known if known is not None else await self.readable(call.caller, call.mailbox)

    def known(self, call: Call) -> str | None:
        """Return the mailbox that a call acts for, as far as it is known here."""
        found = self._names.of(call.caller, call.mailbox)
        return str(found) if found is not None else None

    async def home(self, caller: Caller) -> Address | None:
        """Return the mailbox that is the reader's own, None when there is none or the hub is not there to say it."""
        with suppress(Refusal):
            return await self.readable(caller, None)
        return None

    async def listed(self, caller: Caller, limit: int, after: str = "") -> Sequence[Address]:
        """See `Counter`."""
        return await self._named(caller, {"limit": limit, "after": after})

    async def complete(self, caller: Caller, prefix: str, limit: int) -> Sequence[Address]:
        """See `Counter`."""
        return await self._named(caller, {"limit": limit, "prefix": prefix})

    async def _named(self, caller: Caller, given: dict[str, object]) -> Sequence[Address]:
        said = await self._asker.now(plainly("mailboxes", given, Call(caller, "mailboxes")))
        return [addresses.parse(each, caller.space) for each in said["mailboxes"]]

    # -- rings

    def opening(self) -> Sequence[str]:
        """Return for which mailboxes a stream is opened: where somebody listens."""
        self._listens = {each: address for each, address in self._listens.items() if each in self.bell.listened}
        return [str(address) for address in self._listens.values()]

    def ring_all(self) -> None:
        """Let everybody look who listens."""
        for address in list(self._listens.values()):
            self.bell.ring(address)

    def forget_unheard(self) -> None:
        """Want no more rings of mailboxes for which nobody listens any more."""
        for each, address in list(self._listens.items()):
            if each not in self.bell.listened:
                del self._listens[each]
                self._asker.note("deafen", None, mailbox=str(address))

    def _wanted(self, address: Address) -> None:
        if key(address) not in self._listens:
            self._listens[key(address)] = address
            self._asker.note("listen", None, mailbox=str(address))
