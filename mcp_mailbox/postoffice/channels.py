"""Channels joined, left, listed: for whom, and what is said of one that is not there.

Whoever has a mailbox in a space may join its channels, publish to them and make new ones. Other spaces' channels are as
if they did not exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.channel import Keep, Skipped
from mcp_mailbox.credentials import Scope
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.postoffice.addressbook import AddressBook
from mcp_mailbox.postoffice.audience import Audience
from mcp_mailbox.postoffice.callers import Call, Caller
from mcp_mailbox.store import ChannelPage, Store, Subscribed

_TELLING = 1_000
"""Answers that say what was skipped and are under way to their hosts."""


class Channels:
    """The verbs about channels, for one post office."""

    def __init__(self, store: Store, mailboxes: AddressBook, audience: Audience) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._audience = audience
        self._telling: dict[tuple[str, str], tuple[Address, Sequence[Skipped]]] = {}

    async def join(self, call: Call, channel: str, since: int | str | None, keep: Keep) -> Subscribed:
        """Make the caller's mailbox a member of the channel, which is made when there is none.

        Raises Refusal as the store does, and as `own`.
        """
        call.caller.must(Scope.READ)
        if keep:
            call.caller.must(Scope.SEND)
        mailbox = await self._mailboxes.own(call.caller, call.mailbox)
        wanted = await self._wanted(call.caller, mailbox, channel)
        make = Scope.SEND in call.caller.scopes  # who may say nothing makes no place to say it
        try:
            subscribed = await self._store.subscribe(mailbox, wanted, since, keep, call.origin, make=make)
        except Refusal as refusal:
            if refusal.code is Code.UNKNOWN_MESSAGE:
                shown = _shown(call.caller, wanted)
                hint = f'Give "all", a time such as 2026-11-22T18:30:00Z, or an id from list_inbox(from={shown!r}).'
                raise Refusal(refusal.code, f"{shown} has no message {str(since)[:40]!a}.", hint) from None
            raise await self.explained(call.caller, mailbox, wanted, refusal) from None
        self._audience.joined(mailbox, subscribed.channel.address)
        return replace(subscribed, channel=replace(subscribed.channel, owner=""))

    async def leave(self, call: Call, channel: str) -> tuple[Address, bool]:
        """End the membership; return whether there was one."""
        call.caller.must(Scope.READ)
        mailbox = await self._mailboxes.own(call.caller, call.mailbox)
        wanted = await self._wanted(call.caller, mailbox, channel)
        try:
            was = await self._store.unsubscribe(mailbox, wanted, call.origin)
        except Refusal as refusal:
            raise await self.explained(call.caller, mailbox, wanted, refusal) from None
        self._audience.left(mailbox, wanted)
        return wanted, was

    async def listed(self, call: Call, limit: int, cursor: str | None = None) -> ChannelPage:
        """Return a page of the channels of the caller's space, by name."""
        call.caller.must(Scope.READ)
        mailbox = await self._mailboxes.own(call.caller, call.mailbox)
        return await self._store.channels(mailbox, mailbox.space, limit, cursor)

    async def skipped(self, call: Call) -> Sequence[Skipped]:
        """Return what the caller's mailbox has missed and was not told yet; told once the answer is there."""
        mailbox = await self._mailboxes.own(call.caller, call.mailbox)
        found = self._fresh(mailbox, await self._store.skipped(mailbox))
        if found:
            while len(self._telling) >= _TELLING:
                del self._telling[next(iter(self._telling))]
            self._telling[call.caller.reader, call.request] = (mailbox, found)
        return found

    async def reached(self, caller: Caller, request: str) -> None:
        """Note that the answer of that request reached the caller's host."""
        told = self._telling.get((caller.reader, request))
        if told is not None:
            await self._store.note_told(*told)
            self._telling.pop((caller.reader, request), None)

    def missed(self, caller: Caller, request: str) -> None:
        """Note that it did not: it is said again."""
        self._telling.pop((caller.reader, request), None)

    def _fresh(self, mailbox: Address, skipped: Sequence[Skipped]) -> Sequence[Skipped]:
        """Return what no answer is under way with."""
        if not skipped:
            return ()
        under_way: Counter[Address] = Counter()
        for box, told in self._telling.values():
            if box == mailbox:
                under_way.update({each.channel: each.count for each in told})
        left = [replace(each, count=each.count - under_way[each.channel]) for each in skipped]
        return [each for each in left if each.count > 0]

    async def _wanted(self, caller: Caller, mailbox: Address, channel: str) -> Address:
        """Read the address of a channel. Raises Refusal(BAD_NAME | UNKNOWN_CHANNEL)."""
        wanted = addresses.parse_channel(channel, caller.space)
        if not caller.sees(wanted.space):
            raise await self.unknown(caller, mailbox, wanted)
        return wanted

    async def explained(self, caller: Caller, mailbox: Address, channel: Address, refusal: Refusal) -> Refusal:
        """Return the refusal with a hint that helps, where a channel is not there."""
        if refusal.code is not Code.UNKNOWN_CHANNEL:
            return refusal
        return await self.unknown(caller, mailbox, channel)

    async def meant(self, caller: Caller, mailbox: Address, name: Address) -> str | None:
        """Return the channel of that very name, of which the mark was left out."""
        if not caller.sees(name.space):
            return None
        channel = addresses.parse_channel(name.name, name.space)
        similar = await self._store.similar_channel(mailbox, channel)
        if similar is None or similar.folded != channel.folded:
            return None
        return _shown(caller, similar)

    async def unknown(self, caller: Caller, mailbox: Address, channel: Address) -> Refusal:
        """Return the refusal of a channel that is not there, as far as the caller may know."""
        seen = caller.sees(channel.space)
        similar = await self._store.similar_channel(mailbox, channel) if seen else None
        shown = _shown(caller, channel)
        hint = f"subscribe(channel={shown!r}) makes it." if Scope.SEND in caller.scopes else "subscribe() lists them."
        if similar is not None:
            name = _shown(caller, similar)
            hint = f"Did you mean {name!r}? {hint}"
        elif not seen or channel.space != caller.space:
            hint = "You have no mailbox in its space, or nobody has made it."
        return Refusal(Code.UNKNOWN_CHANNEL, f"No channel {shown!r}.", hint)


def _shown(caller: Caller, address: Address) -> str:
    """Return it as the caller may write it."""
    return address.name if address.space == caller.space else str(address)
