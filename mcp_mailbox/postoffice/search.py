"""Mail looked for: for whom, and what may be asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.credentials import Scope
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import check_text
from mcp_mailbox.postoffice.addressbook import AddressBook
from mcp_mailbox.postoffice.callers import Call
from mcp_mailbox.postoffice.channels import Channels
from mcp_mailbox.store import Hits, Query, SearchStore

WORDS_LIMIT = 200
"""Characters of a query."""


class Search:
    """The verb about search, for one post office. `shown` is told which mail an answer shows for the first time."""

    def __init__(
        self,
        store: SearchStore,
        mailboxes: AddressBook,
        channels: Channels,
        shown: Callable[[Call, Address, Sequence[str]], None],
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._channels = channels
        self._shown = shown

    async def find(
        self,
        call: Call,
        limit: int,
        words: str = "",
        sender: str | None = None,
        since: int | None = None,
        thread: str | None = None,
        cursor: str | None = None,
    ) -> Hits:
        """Return what the caller's mailbox received or sent, newest first; a thread alone as it was said.

        With a channel for a `sender`: what is in that channel.

        Raises Refusal(BAD_ARGUMENT) for a query that is too long, else as the store does, and as `own`.
        """
        call.caller.must(Scope.READ)
        check_text("query", words)
        if len(words) > WORDS_LIMIT:
            raise Refusal(
                Code.BAD_ARGUMENT, f"`query` has {len(words):,} characters.", f"A few words; at most {WORDS_LIMIT}."
            )
        address = await self._mailboxes.own(call.caller, call.mailbox)
        await self._mailboxes.check_reach(call.caller, address, thread)
        source = addresses.parse_any(sender, call.caller.space) if sender is not None else None
        if source is not None and source.is_channel and not call.caller.sees(source.space):
            raise await self._channels.unknown(call.caller, address, source)
        told = thread is not None and not words and source is None
        asked = Query(limit, words, source, since, thread, cursor, oldest_first=told)
        try:
            found = await self._store.search(address, asked)
        except Refusal as refusal:
            if source is None or refusal.code is not Code.UNKNOWN_CHANNEL:
                raise
            raise await self._channels.unknown(call.caller, address, source) from None
        fresh = [hit.message.id for hit in found.hits if hit.own is not None and hit.own.surfaced_at is None]
        self._shown(call, address, fresh)
        return found
