"""Who is there and what they do: whom a caller may find, and what it may know of them.

Of another principal's mailbox stands there what its owner says of it, and whether somebody is there: neither whose it
is, nor what waits in it, nor when it was last read.
"""

from __future__ import annotations

from dataclasses import replace

from mcp_mailbox.credentials import Scope
from mcp_mailbox.directory import Entry, Search
from mcp_mailbox.postoffice.addressbook import AddressBook
from mcp_mailbox.postoffice.attendance import Attendance
from mcp_mailbox.postoffice.callers import Call
from mcp_mailbox.presence import Presence
from mcp_mailbox.store import Found, Store


class Directory:
    """The verb about the directory, for one post office."""

    def __init__(self, store: Store, mailboxes: AddressBook, attendance: Attendance) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._attendance = attendance

    async def find(self, call: Call, search: Search, limit: int, cursor: str | None = None) -> Found:
        """Return a page of the mailboxes that the search finds, by name. It is empty only when there are no more."""
        call.caller.must(Scope.READ)
        await self._mailboxes.greet(call.caller)
        who, within = call.caller.principal, call.caller.within
        found = await self._store.find_mailboxes(who, search, limit, cursor, within)
        while not found.entries and found.next is not None:
            found = await self._store.find_mailboxes(who, search, limit, found.next, within)
        return replace(found, entries=[self._seen(each).seen_by(who) for each in found.entries])

    def _seen(self, entry: Entry) -> Entry:
        """Say whether somebody is there."""
        here, lately = self._attendance.seen(entry.address)
        present = Presence.AWAY if entry.away else Presence.ONLINE
        seen = max((at for at in (entry.seen_at, lately) if at is not None), default=None)
        return replace(entry, presence=present if here else Presence.OFFLINE, seen_at=seen)
