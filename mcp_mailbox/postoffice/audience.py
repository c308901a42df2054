"""Who is rung when something is published: members who listen now. Whoever is away costs nothing.

What is remembered of memberships is never stale: one process makes all changes. Of mailboxes for which nobody listens
it may be forgotten, and is learnt again with the next call that acts for them.
"""

from __future__ import annotations

from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Bell, key
from mcp_mailbox.store import ChannelStore, Published

_REMEMBERED = 10_000
"""Mailboxes whose memberships are remembered; beyond, those where somebody listens."""
_Key = tuple[str, str]


class Audience:
    """Members who may be rung, for one post office."""

    def __init__(self, store: ChannelStore, bell: Bell) -> None:
        self._store = store
        self._bell = bell
        self._channels_of: dict[_Key, frozenset[_Key]] = {}
        self._sets: dict[frozenset[_Key], frozenset[_Key]] = {}
        """Each once: most mailboxes are members of the same."""
        self._members_of: dict[_Key, set[_Key]] = {}
        self._changes = 0
        self._room = _REMEMBERED

    async def learn(self, mailbox: Address) -> None:
        """Know of what the mailbox is a member, before somebody listens for it."""
        member = key(mailbox)
        while member not in self._channels_of:
            changes = self._changes
            found = frozenset(key(channel) for channel in await self._store.subscriptions(mailbox))
            if self._changes != changes:
                continue  # somebody joined or left while this was read
            if len(self._channels_of) >= self._room:
                self._forget()
            self._know(member, found)
            for channel in found:
                self._members_of.setdefault(channel, set()).add(member)

    def _know(self, member: _Key, channels: frozenset[_Key]) -> None:
        if len(self._sets) >= _REMEMBERED:
            self._sets.clear()
        self._channels_of[member] = self._sets.setdefault(channels, channels)

    def joined(self, mailbox: Address, channel: Address) -> None:
        """Note a membership."""
        self._changes += 1
        if (known := self._channels_of.get(key(mailbox))) is not None:
            self._know(key(mailbox), known | {key(channel)})
            self._members_of.setdefault(key(channel), set()).add(key(mailbox))

    def left(self, mailbox: Address, channel: Address) -> None:
        """Note the end of one."""
        self._changes += 1
        if (known := self._channels_of.get(key(mailbox))) is not None:
            self._know(key(mailbox), known - {key(channel)})
        self._drop(key(mailbox), key(channel))

    def publish(self, published: Published) -> None:
        """Ring members who listen, but for whoever published it."""
        publisher = key(published.publisher) if published.publisher is not None else None
        for member in self._bell.listened & self._members_of.get(key(published.channel), set()):
            if member != publisher:
                self._bell.ring(Address(*member))

    def _drop(self, member: _Key, channel: _Key) -> None:
        members = self._members_of.get(channel, set())
        members.discard(member)
        if not members:
            self._members_of.pop(channel, None)

    def _forget(self) -> None:
        """Forget those for whom nobody listens."""
        for member in self._channels_of.keys() - self._bell.listened:
            for channel in self._channels_of.pop(member):
                self._drop(member, channel)
        self._room = max(_REMEMBERED, 2 * len(self._channels_of))
