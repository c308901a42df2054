"""Attachments: files taken in from those who may give them, and handed to those who may read the message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread

from mcp_mailbox import attachment
from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import Attachment, Limits, too_large
from mcp_mailbox.credentials import Scope
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.postoffice import roots
from mcp_mailbox.postoffice.addressbook import AddressBook
from mcp_mailbox.postoffice.callers import Call, Caller
from mcp_mailbox.postoffice.copies import Copies
from mcp_mailbox.postoffice.handed import Handed, Tray
from mcp_mailbox.store import Store

COPY_FROM = 12_000
"""Bytes of a text from which on who is on this machine gets a copy too: fewer are one answer."""

_NO_TRAY, _NO_TRAY_HINT = "This post office takes no files.", "Put the text into the body."


class Given(NamedTuple):
    """An attachment and what is in it; `stranger` is who sent it, where that is another principal than who reads it.

    `verified` says by what it is known whose it is, where this machine has looked itself.
    """

    attachment: Attachment
    content: bytes
    stranger: str | None = None
    verified: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """An attachment as its reader gets it: its text, if it is text; where a copy lies, on the same machine."""

    attachment: Attachment
    text: str | None
    path: Path | None
    stranger: str | None = None
    verified: str | None = None
    """Both: see `Given`."""


class Attachments:
    """The verbs about attachments, for one post office. Without `copies` nobody gets any."""

    def __init__(
        self,
        store: Store,
        mailboxes: AddressBook,
        limits: Limits,
        copies: Copies | None,
        tray: Tray | None = None,
    ) -> None:
        self._tray = tray
        self._store = store
        self._mailboxes = mailboxes
        self._limits = limits
        self._copies = copies

    @property
    def stored(self) -> int:
        """Bytes that all attachments take."""
        return self._store.attached_bytes

    @asynccontextmanager
    async def taken_in(self, caller: Caller, files: Sequence[str | Handed]) -> AsyncIterator[tuple[Attachment, ...]]:
        """Keep the files for a message that is sent within the block; they go away when it is not.

        A path is opened if the caller may give it; what its front has handed in is there already.

        Raises Refusal(FORBIDDEN | NO_FILE | ATTACHMENT_TOO_LARGE | BAD_ARGUMENT), and as the store does.
        """
        if caller.files is None and any(isinstance(each, str) for each in files):
            raise Refusal(
                Code.FORBIDDEN,
                "Over HTTP no files can be attached: a path would name one of the server's.",
                "Put the text into the body; an agent on the server's machine, on stdio, can attach.",
            )
        names = _names(files)
        taken: list[Attachment] = []
        room = self._limits.together
        async with self._store.attaching() as tray:
            for given, name in zip(files, names, strict=True):
                file = await anyio.to_thread.run_sync(self._open, caller, given)
                try:
                    limit = min(self._limits.each, room)
                    kept = await tray.keep(file.read, limit) if file.size <= limit else None
                finally:
                    file.close()
                if kept is None and limit == room < self._limits.each:
                    raise too_large(name, self._limits.together, "and those before it are too large together")
                if kept is None:
                    raise too_large(name, self._limits.each)
                room -= kept.size
                taken.append(Attachment(name, attachment.media_type(name), kept.size, kept.sha256))
            yield tuple(taken)

    async def place(self, sizes: Mapping[str, int]) -> Path:
        """Return where a front may put copies of files of these names and sizes, each under 32 hex digits.

        What would be refused once it is copied is refused before. Raises Refusal(FORBIDDEN | ATTACHMENT_TOO_LARGE |
        BAD_ARGUMENT | STORE_FULL).
        """
        if self._tray is None:
            raise Refusal(Code.FORBIDDEN, _NO_TRAY, _NO_TRAY_HINT)
        attachment.check_sizes(sizes, self._limits)
        return await anyio.to_thread.run_sync(self._tray.place)

    async def hand_in(self, copy: str, offset: int, piece: bytes) -> None:
        """Keep a piece of a file that a front hands in under that name, 32 hex digits; 0 begins it anew.

        Raises Refusal(FORBIDDEN | ATTACHMENT_TOO_LARGE | STORE_FULL), (NO_FILE) for a piece behind a gap.
        """
        if self._tray is None:
            raise Refusal(Code.FORBIDDEN, _NO_TRAY, _NO_TRAY_HINT)
        if offset + len(piece) > self._limits.each:
            raise too_large("A file", self._limits.each)
        await anyio.to_thread.run_sync(self._tray.append, copy, offset, piece)

    async def clear_away(self) -> None:
        """Let go of what was handed in long ago, and named by nobody."""
        if self._tray is not None:
            with suppress(OSError):  # who hands in the next one is told
                await anyio.to_thread.run_sync(self._tray.clear_away)

    async def take_back(self, copy: str) -> None:
        """Let go of a file that was handed in."""
        if self._tray is not None:
            await anyio.to_thread.run_sync(self._tray.remove, copy)

    def _open(self, caller: Caller, given: str | Handed) -> roots.File:
        if isinstance(given, Handed):
            if self._tray is None:
                raise Refusal(Code.FORBIDDEN, _NO_TRAY, _NO_TRAY_HINT)
            return self._tray.open(given)
        assert caller.files is not None  # noqa: S101 - refused above
        return roots.open_file(caller.files, given)

    async def content(self, call: Call, id: str, name: str) -> Given:  # noqa: A002 - the domain's word
        """Return an attachment of a message that the mailbox received or sent. Raises Refusal as the store does."""
        call.caller.must(Scope.READ)
        address = await self._mailboxes.own(call.caller, call.mailbox)
        await self._mailboxes.check_reach(call.caller, address, id)
        found, content = await self._store.attachment(address, id, name)
        return Given(found, content, await self._stranger(call.caller, address, id))

    async def _stranger(self, caller: Caller, address: Address, id_: str) -> str | None:
        try:
            message = (await self._store.read(address, id_)).message
        except Refusal as refusal:
            if refusal.code is not Code.STORE_DAMAGED:
                raise
            return "?"  # whoever it was: what is attached can still be read
        return message.sender if message.is_strangers(caller.principal) else None

    async def read(self, call: Call, id: str, name: str) -> Opened:  # noqa: A002
        """Return it as text, or where it can be opened. Raises Refusal as `content`, (STORE_FULL) without room."""
        return await anyio.to_thread.run_sync(self._opened, call, id, await self.content(call, id, name))

    def _opened(self, call: Call, id_: str, given: Given) -> Opened:
        found, content = given.attachment, given.content
        said = attachment.text(content)
        path = None
        if self._copies is not None and call.caller.files is not None and (said is None or len(content) > COPY_FROM):
            path = self._copies.put(f"{id_.partition('.')[0]} {found.sha256}", found.name, content)
        return Opened(found, said, path, given.stranger, given.verified)


def _names(files: Sequence[str | Handed]) -> Sequence[str]:
    """Return what they are called in the message. Raises Refusal(BAD_ARGUMENT) for more than it may have."""
    attachment.check_count(len(files))
    return attachment.apart(attachment.clean_name(each.name if isinstance(each, Handed) else each) for each in files)
