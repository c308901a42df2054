"""The verbs in few words, so that a test says only what it is about."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from itertools import count
from typing import Any

from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import Attachment, Content
from mcp_mailbox.delivery import Delivery, Outcome, Progress, Settlement
from mcp_mailbox.mailbox import MOST_SHARE, Kind, Profile
from mcp_mailbox.message import Draft, Priority
from mcp_mailbox.store import (
    ANYBODY,
    Accepted,
    Claimer,
    Lease,
    Listing,
    Opened,
    Origin,
    Page,
    Settled,
    Show,
    Store,
    Submission,
    Tray,
    Wanted,
)
from tests.clocks import SteppedClock
from tests.contract.engines import Engine

SPACE = "default"
TERM = 600_000
ROOMY = 1 << 30


def at(name: str) -> Address:
    return Address(name, SPACE)


class Post:
    """A store and its readers. A reader is named after its mailbox unless the test says otherwise."""

    def __init__(self, engine: Engine, clock: SteppedClock) -> None:
        self.engine = engine
        self.clock = clock
        self._requests = count(1)

    @property
    def store(self) -> Store:
        return self.engine.store

    async def reopen(self) -> None:
        await self.engine.close()
        await self.engine.open()

    def origin(self, reader: str, request: str | None = None) -> Origin:
        return Origin(reader, request or f"request {next(self._requests)}")

    async def mailboxes(self, *names: str) -> None:
        for name in names:
            await self.open(name)

    async def open(
        self,
        name: str,
        owner: str = "someone",
        reader: str | None = None,
        request: str | None = None,
        profile: Profile | None = None,
    ) -> Opened:
        """Open it, as a pool unless the test says otherwise: most have several readers."""
        given = profile or Profile()
        kind = given.kind or Kind.POOL
        share = given.share or (MOST_SHARE if kind is Kind.POOL else None)
        given = replace(given, kind=kind, share=share)
        return await self.store.open(at(name), owner, given, self.origin(reader or name, request))

    async def send(
        self,
        sender: str,
        *to: str,
        body: str = "hello",
        subject: str = "",
        priority: Priority = Priority.NORMAL,
        reply_to: str | None = None,
        key: str | None = None,
        reader: str | None = None,
        request: str | None = None,
        cc: Sequence[str] = (),
        **options: Any,
    ) -> Accepted:
        draft = Draft(to, body, subject, priority, reply_to, key, tuple(cc), **options)
        origin = self.origin(reader or sender, request)
        return await self.store.accept(Submission(at(sender), [*map(at, to)], draft, origin, [*map(at, cc)]))

    def submission(self, sender: str, *to: str, body: str, key: str | None = None) -> Submission:
        return Submission(at(sender), [*map(at, to)], Draft(to, body, key=key), self.origin(sender))

    async def attach(self, sender: str, *to: str, files: Mapping[str, bytes], **options: Any) -> Accepted:
        """Send these files."""
        async with self.store.attaching() as tray:
            attachments = tuple([await kept(tray, name, content) for name, content in files.items()])
            return await self.send(sender, *to, attachments=attachments, **options)

    async def attached(self, mailbox: str, id_: str, name: str) -> bytes:
        found, content = await self.store.attachment(at(mailbox), id_, name)
        assert found.name == name
        return content

    async def send_many(self, sender: str, to: str, *bodies: str, priority: Priority = Priority.NORMAL) -> list[str]:
        return [(await self.send(sender, to, body=body, priority=priority)).id for body in bodies]

    async def claim(
        self,
        mailbox: str,
        reader: str | None = None,
        request: str | None = None,
        *,
        most: int = 100,
        size: int = ROOMY,
        term: int = TERM,
        present: Collection[str] | None = (),
        sender: str | None = None,
        thread: str | None = None,
        claimer: Claimer = ANYBODY,
    ) -> Sequence[Delivery]:
        wanted = Wanted(at(sender) if sender else None, thread)
        lease = Lease(most, size, term)
        return await self.store.claim(
            at(mailbox), wanted, lease, self.origin(reader or mailbox, request), present, claimer
        )

    async def claim_one(self, mailbox: str, reader: str | None = None, request: str | None = None) -> Delivery:
        [delivery] = await self.claim(mailbox, reader, request, most=1)
        return delivery

    async def settle(
        self,
        mailbox: str,
        *handles: str,
        outcome: Outcome = Outcome.ACK,
        reader: str | None = None,
        delay: int = 0,
        reason: str = "",
    ) -> Sequence[Settled]:
        settlement = Settlement(outcome, delay, reason)
        return await self.store.settle(at(mailbox), handles, settlement, self.origin(reader or mailbox))

    async def read(self, mailbox: str, id_: str) -> Progress:
        """How far the delivery in that mailbox has come."""
        own = (await self.store.read(at(mailbox), id_)).own
        assert own is not None
        return own

    async def sent(self, mailbox: str, id_: str) -> dict[str, Progress]:
        """How far the deliveries of what that mailbox has sent have come."""
        found = await self.store.read(at(mailbox), id_)
        return {address.partition("@")[0]: each for address, each in found.sent}

    async def inbox(
        self,
        mailbox: str,
        limit: int = 100,
        cursor: str | None = None,
        *,
        urgent_only: bool = False,
        since: int | None = None,
        show: Show = Show.INBOX,
        overdue: int = 0,
    ) -> Page:
        return await self.store.inbox(at(mailbox), Listing(limit, cursor, urgent_only, since, show, overdue))

    async def listed(self, mailbox: str) -> list[str]:
        return bodies(await self.inbox(mailbox))

    async def unread(self, mailbox: str) -> int:
        """The count, which every verb that tells it must agree on."""
        page = await self.inbox(mailbox)
        found = await self.store.mailbox(at(mailbox))
        assert found is not None
        assert found.unread == page.unread
        return page.unread


async def kept(tray: Tray, name: str, content: bytes) -> Attachment:
    """Keep a content as somebody's file of that name."""
    found = await tray.keep(BytesIO(content).read, ROOMY)
    assert found == Content(sha256(content).hexdigest(), len(content))
    return Attachment(name, "text/plain", found.size, found.sha256)


def bodies(found: Page | Sequence[Delivery]) -> list[str]:
    """What is said in them."""
    deliveries = [preview.delivery for preview in found.previews] if isinstance(found, Page) else found
    return [delivery.message.body for delivery in deliveries]


def refused(results: Sequence[Settled]) -> list[str | None]:
    """The code of each refusal, None where there is none."""
    return [result.refusal.code.value if result.refusal else None for result in results]
