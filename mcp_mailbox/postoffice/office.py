"""The verbs over one store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import Limits as AttachmentLimits
from mcp_mailbox.bell import Bell, Ending
from mcp_mailbox.consent import REQUEST_TERM
from mcp_mailbox.credentials import Scope
from mcp_mailbox.delivery import Delivery, Outcome, Settlement
from mcp_mailbox.errors import Blame, Code, Refusal
from mcp_mailbox.message import Draft
from mcp_mailbox.postoffice.addressbook import AddressBook
from mcp_mailbox.postoffice.alarms import Alarms
from mcp_mailbox.postoffice.attachments import Attachments
from mcp_mailbox.postoffice.attendance import Attendance
from mcp_mailbox.postoffice.audience import Audience
from mcp_mailbox.postoffice.callers import Call, Caller
from mcp_mailbox.postoffice.channels import Channels
from mcp_mailbox.postoffice.copies import Copies
from mcp_mailbox.postoffice.directory import Directory
from mcp_mailbox.postoffice.doorbells import Doorbells
from mcp_mailbox.postoffice.handed import Handed, Tray
from mcp_mailbox.postoffice.limits import Limits
from mcp_mailbox.postoffice.readers import Readers
from mcp_mailbox.postoffice.reservations import Reservations
from mcp_mailbox.postoffice.retention import KEEP_TERM, Retention
from mcp_mailbox.postoffice.search import Search
from mcp_mailbox.postoffice.waits import Parked, Wait
from mcp_mailbox.quotas import NONE as NO_QUOTAS
from mcp_mailbox.quotas import Quotas, storage_again
from mcp_mailbox.report import Undelivered, undelivered
from mcp_mailbox.store import (
    ANYBODY,
    Accepted,
    Claimer,
    Lease,
    Listing,
    MailPage,
    Origin,
    Page,
    Portion,
    Reading,
    Recipient,
    Settled,
    Show,
    Store,
    Submission,
    Told,
    Wanted,
)

LEASE_TERM = 10 * 60 * 1000
"""ms that a reader has for a message before it may come back."""
CLAIM_COUNT = 10
"""Messages that one wait hands out at most."""
SETTLE_LIMIT = 100
"""Ids in one settle."""
DEFAULT_LIMITS = AttachmentLimits()
OVERDUE = LEASE_TERM
"""ms after which mail that nobody has acked is overdue."""
_SETTLING = 1_000
"""ms that a wait gives another reader to be noticed as gone: one that starts anew is often here before that."""
_HINTED = 5
"""Unknown recipients of a message for whom is looked who may be meant: up to 70 ms each, where names are many."""
_UNKNOWN = {Code.UNKNOWN_MAILBOX, Code.UNKNOWN_CHANNEL}
_LOOPS = {Code.TOO_MANY_HOPS, Code.OVER_BUDGET}
_SHOWN = 1000
"""Answers with previews that are under way to their hosts."""


class PostOffice:
    """The verbs over one store. `business` must be entered for as long as they are called.

    `copies` is where attachments are put for agents on this machine, `handed` where fronts put those that they hand in.
    """

    def __init__(
        self,
        store: Store,
        *,
        lease_term: int = LEASE_TERM,
        keep: int = KEEP_TERM,
        attachments: AttachmentLimits = DEFAULT_LIMITS,
        copies: Path | None = None,
        handed: Path | None = None,
        quotas: Quotas = NO_QUOTAS,
    ) -> None:
        self.bell = Bell()
        self.alarms = Alarms(store.clock)
        self.limits = Limits(store.clock, quotas)
        self.clock = store.clock
        self._audience = Audience(store, self.bell)
        self._readers = Readers(store, self.bell, self._audience, lease_term)
        self.attendance = Attendance(store, self._readers.is_here)
        self.doorbells = Doorbells(store, self.bell, self.attendance)
        self.mailboxes = AddressBook(store, self._readers, self.attendance, self._audience, self.limits)
        self.channels = Channels(store, self.mailboxes, self._audience)
        self.reservations = Reservations(store, self.mailboxes)
        self.directory = Directory(store, self.mailboxes, self.attendance)
        self.retention = Retention(store, keep)
        self.search = Search(store, self.mailboxes, self.channels, self._show)
        self.attachments = Attachments(
            store, self.mailboxes, attachments, Copies(copies) if copies else None, Tray(handed) if handed else None
        )
        self._store = store
        self._lease_term = lease_term
        self.looped: tuple[int, int, Address] | None = None
        """How often the loop guard has said no, when it last did, and to whom."""
        self._unsure: dict[Wait, None] = {}
        """Waits that began before it was known who is here."""
        self._ended = self._end
        """Made once, and not for each wait."""
        self._shown: dict[tuple[str, str], tuple[Address, Sequence[str]]] = {}

    @asynccontextmanager
    async def business(self) -> AsyncIterator[None]:
        """Ring for what commits and for what lapses."""
        with self._store.on_ring(self.bell.ring), self._store.on_publish(self._audience.publish):
            async with self.doorbells.listening(), anyio.create_task_group() as tasks:
                tasks.start_soon(self.alarms.run)
                await self._readers.start(tasks)
                tasks.start_soon(self._become_sure)
                tasks.start_soon(self.retention.run)
                yield
                tasks.cancel_scope.cancel()

    async def _become_sure(self) -> None:
        await self._readers.known()
        unsure, self._unsure = self._unsure, {}
        for wait in unsure:
            wait.hear()

    # -- presence

    def arrive(self, caller: Caller) -> None:
        """Count the reader as present: its leases are not handed to others."""
        self._readers.arrive(caller.reader)

    async def depart(self, caller: Caller, *, put_back: bool = True) -> None:
        """Put back at once what was leased and never reached the reader; what lapsed goes to others.

        `put_back` False leaves the first to `missed`: others of the same id may be about to be answered.
        """
        if await self._readers.depart(caller.reader, put_back=put_back):
            self.doorbells.detach(caller)
            await self.attendance.left(caller)
            self.mailboxes.forget(caller.reader)

    @property
    def present(self) -> int:
        """How many readers are here."""
        return len(self._readers)

    # -- verbs

    async def send(self, call: Call, draft: Draft, attach: Sequence[str | Handed] = ()) -> Accepted:
        """Store a message durably for every recipient, and ring; one result each.

        `attach` are paths of files, or files that the caller's front has handed in.

        Raises Refusal as the store does, as `own`, and as `Attachments.taken_in`.
        """
        call.caller.must(Scope.SEND)
        sender = await self.mailboxes.own(call.caller, call.mailbox)
        await self.mailboxes.check_reach(call.caller, sender, draft.reply_to)
        if not attach:
            return await self._send(call, sender, draft)
        # Who asks again after a crash is told what came of it, whatever has become of the files.
        known = await self._store.answered(sender, call.origin) if draft.key is None else None
        if known is not None:
            return await self._told(call, sender, known)
        async with self.attachments.taken_in(call.caller, attach) as taken:
            return await self._send(call, sender, replace(draft, attachments=taken))

    async def send_all(self, sends: Sequence[tuple[Call, Draft]]) -> Sequence[Accepted | Refusal]:
        """Send these, which have no files, in their order, with one sync for all; of each what `send` says.

        None overtakes another. Raises Refusal(blame: the store): what was stored is told when they come again.
        """
        answers: dict[int, Accepted | Refusal] = {}
        submissions: dict[int, Submission] = {}
        for number, (call, draft) in enumerate(sends):
            try:
                call.caller.must(Scope.SEND)
                sender = await self.mailboxes.own(call.caller, call.mailbox)
                await self.mailboxes.check_reach(call.caller, sender, draft.reply_to)
                submissions[number] = self._submission(call, sender, draft)
            except Refusal as refusal:
                if refusal.blame is Blame.STORE:
                    raise
                answers[number] = refusal
        done = await self._store.accept_all(list(submissions.values())) if submissions else ()
        for (number, submission), said in zip(submissions.items(), done, strict=True):
            try:
                answers[number] = await self._concluded(sends[number][0], submission, said)
            except Refusal as refusal:
                answers[number] = refusal
        return [answers[number] for number in range(len(sends))]

    async def _send(self, call: Call, sender: Address, draft: Draft) -> Accepted:
        each = self._submission(call, sender, draft)
        said: Accepted | Refusal
        try:
            said = await self._store.accept(each)
        except Refusal as refusal:
            said = refusal
        return await self._concluded(call, each, said)

    def _submission(self, call: Call, sender: Address, draft: Draft) -> Submission:
        to = _addresses(draft.to, call.caller.space)
        cc = {key: address for key, address in _addresses(draft.cc, call.caller.space).items() if key not in to}
        most, within = self.limits.space(call.caller), call.caller.within
        return Submission(sender, list(to.values()), draft, call.origin, list(cc.values()), most, within)

    async def _concluded(self, call: Call, submission: Submission, said: Accepted | Refusal) -> Accepted:
        """Note what came of it, and say it to who asked. Raises what was refused."""
        sender, draft = submission.sender, submission.draft
        if isinstance(said, Refusal):
            self._count_loop(said, sender)
            if said.code is Code.OVER_STORAGE:
                raise storage_again(said, self.retention.next_look)
            if said.code in _UNKNOWN:
                raise await self._unknown(call.caller, sender, submission.recipients[0])
            raise said
        if not said.repeated:
            full = (each.refusal for each in said.recipients if each.refusal and each.refusal.code in _LOOPS)
            self._count_loop(next(full, None), sender)
        if draft.reply_to is not None:
            self.doorbells.settled(call.caller, sender)
        now = self._store.clock.now()
        began = now if draft.written is None else min(draft.written, now)
        for later in filter(None, (draft.delay, draft.ttl)):
            self._readers.expect(began + later)
        if any(each.held for each in said.recipients):
            self._readers.expect(now + REQUEST_TERM)
        return await self._told(call, sender, said)

    def _count_loop(self, refusal: Refusal | None, sender: Address) -> None:
        """Keep for a person that the loop guard has said no, also to a part of a message's recipients."""
        if refusal is not None and refusal.code in _LOOPS:
            self.looped = (self.looped[0] + 1 if self.looped else 1, self._store.clock.now(), sender)

    async def _told(self, call: Call, sender: Address, accepted: Accepted) -> Accepted:
        unknown = [each for each in accepted.recipients if each.refusal is not None and each.refusal.code in _UNKNOWN]
        hinted = {each.address: await self._hinted(call, sender, each) for each in unknown[:_HINTED]}
        told = tuple(hinted.get(each.address, each) for each in accepted.recipients)
        return replace(accepted, recipients=told)

    async def undelivered(self, call: Call, what: Undelivered) -> Accepted | None:
        """Tell who asked that it came to nothing, once for that request: it was answered "accepted" by another machine.

        What was accepted after all is told to nobody, and returned: the answer was lost. Raises Refusal as `own`.
        """
        sender = await self.mailboxes.own(call.caller, call.mailbox)
        known = await self._store.answered(sender, call.origin) if what.stored is None else None
        if known is not None:
            return await self._told(call, sender, known)
        await self._store.report(sender, undelivered(what), call.origin)
        return None

    async def wait(
        self,
        call: Call,
        patience: float,
        wanted: Wanted,
        size: int,
        ending: Ending,
        ack: Sequence[str] = (),
        claimer: Claimer = ANYBODY,
        kept: Wait | None = None,
    ) -> tuple[Sequence[Delivery], Sequence[Settled]]:
        """Ack what is done, then lease what is there, or what comes within `patience` ms; empty when nothing did.

        At most about `size` bytes of bodies. A wait that is cancelled leaves every message where it was, what it acked
        stays acked. `ending` ends it early. Raises Refusal(UNKNOWN_MESSAGE) for a thread that is not the caller's,
        (BAD_ARGUMENT) for too many ids to ack, before it has done anything; (OVER_WAITERS) when it has acked; as `own`.
        With `kept` it may raise Parked, and goes on when it is called with the same.
        """
        wait = kept or Wait()
        try:
            if wait.address is None:
                address = await self._begin(call, patience, wanted, ack, claimer, ending, wait)
            else:
                address = wait.address
                await anyio.lowlevel.checkpoint()  # who was called to end looks for nothing
            found = await self._wait(call, address, wait, wanted, size)
        except Parked:
            raise
        except BaseException:
            wait.end()
            raise
        wait.end()
        if found:
            self.doorbells.looked(call.caller, address, taken=True)
        return found, wait.settled

    async def _begin(
        self,
        call: Call,
        patience: float,
        wanted: Wanted,
        ack: Sequence[str],
        claimer: Claimer,
        ending: Ending,
        wait: Wait,
    ) -> Address:
        call.caller.must(Scope.READ)
        address = await self.mailboxes.own(call.caller, call.mailbox)
        await self.mailboxes.check_reach(call.caller, address, wanted.thread)
        if wanted.thread is not None and ack:
            await self._store.mail_of(address, Portion(1, 1, thread=wanted.thread))
        wait.settled = await self.settle(call, ack, Settlement(Outcome.ACK)) if ack else ()
        self.doorbells.looked(call.caller, address)
        now = self._store.clock.now()
        self.limits.begin(call.caller, wait, now + patience)
        self.attendance.begin(call.caller, [address])
        wait.address, wait.caller, wait.ending, wait.claimer = address, call.caller, ending, claimer
        wait.until, wait.refusable, wait.ends = now + patience, now + min(patience, _SETTLING), self._ended
        hear = wait.hear  # made once for all of them
        self.bell.listen(address, wait, hear)
        wait.alarm = self.alarms.add(wait.until, hear)
        ending.tell(hear)
        return address

    def _end(self, wait: Wait, address: Address, caller: Caller) -> None:
        wait.ending.untell(wait.hear)
        self.alarms.unset(wait.alarm)
        self.bell.ignore(address, wait)
        self.attendance.end(caller, [address])
        self.limits.end(caller, wait)
        self._unsure.pop(wait, None)

    async def _wait(self, call: Call, address: Address, wait: Wait, wanted: Wanted, size: int) -> Sequence[Delivery]:
        clock = self._store.clock
        while True:
            wait.clear()
            unsure = self._readers.present is None
            try:
                found = await self._claim(call, address, wanted, size, wait.claimer)
            except Refusal as refusal:
                if refusal.code is not Code.READ_ELSEWHERE or clock.now() >= wait.refusable:
                    raise
                with self.alarms.at(wait.refusable, wait.hear):
                    await wait.heard_here()
                continue
            wait.claimer = replace(wait.claimer, take_over=False)  # once: who is driven out by another stays out
            if not found and unsure and self._readers.present is not None:
                continue  # it became known meanwhile who is here: what was held back for that may be handed out
            left = wait.until - clock.now()
            if found or left <= 0 or wait.ending.is_set():
                if not found and unsure:
                    self._readers.doubt(call.caller.reader, address)
                return found
            if unsure:
                # Who waits where another one reads learns, soon after a start, whether that is still here.
                self._unsure[wait] = None
            await wait.heard()

    async def list_inbox(self, call: Call, listing: Listing) -> Page:
        """List what is not settled; nothing is leased by looking. Raises Refusal as the store does, and as `own`."""
        call.caller.must(Scope.READ)
        address = await self.mailboxes.own(call.caller, call.mailbox)
        found = await self._store.inbox(address, replace(listing, overdue=OVERDUE))
        self.doorbells.looked(call.caller, address)
        if listing.show not in {Show.OVERDUE, Show.REQUESTS}:
            fresh = [each.delivery.message.id for each in found.previews if each.delivery.progress.surfaced_at is None]
            self._show(call, address, fresh)
        return found

    async def read(self, call: Call, id: str) -> Reading:  # noqa: A002 - the domain's word
        """Return a message that the mailbox received or sent, whole. Raises Refusal as the store does, and as `own`."""
        call.caller.must(Scope.READ)
        address = await self.mailboxes.own(call.caller, call.mailbox)
        await self.mailboxes.check_reach(call.caller, address, id)
        found = await self._store.read(address, id)
        self.doorbells.looked(call.caller, address)
        if found.own is not None and found.own.surfaced_at is None:
            self._show(call, address, [found.message.id])
        return found

    async def mail_of(self, call: Call, portion: Portion) -> MailPage:
        """Return a page of all mail that the mailbox received or sent, whatever became of it."""
        call.caller.must(Scope.READ)
        address = await self.mailboxes.own(call.caller, call.mailbox)
        await self.mailboxes.check_reach(call.caller, address, portion.thread)
        return await self._store.mail_of(address, portion)

    async def arrivals(self, call: Call, portion: Portion) -> MailPage:
        """Return a page of all mail that the mailbox received or sent behind the portion's cursor.

        Without one the page is of nothing: `place` says where what comes begins. Nothing is leased, nor shown; who was
        told of it is `rang`. Raises Refusal as the store does, and as `own`.
        """
        return await self.mail_of(call, portion if portion.cursor is not None else replace(portion, latest=True))

    async def check(self) -> str:
        """Return "ok", or what is wrong with the store; for whoever owns the store alone."""
        return await self._store.check()

    async def backup(self, path: Path, told: Told, *, replace: bool) -> int:
        """Copy the whole store, everybody's mail, to a file; for whoever owns the store alone."""
        return await self._store.backup(path, told, replace=replace)

    async def settle(self, call: Call, ids: Sequence[str], settlement: Settlement) -> Sequence[Settled]:
        """Do this with deliveries, one result each.

        A lease that is extended for no time in particular lasts as long again as a new one.
        Raises Refusal(BAD_ARGUMENT) for too many ids, and as `own`.
        """
        call.caller.must(Scope.READ)
        if not ids or len(ids) > SETTLE_LIMIT:
            raise Refusal(Code.BAD_ARGUMENT, f"{len(ids)} ids were given.", f"Give 1 to {SETTLE_LIMIT}.")
        address = await self.mailboxes.own(call.caller, call.mailbox)
        if settlement.outcome is Outcome.EXTEND and not settlement.delay:
            settlement = replace(settlement, delay=self._lease_term)
        settled = await self._store.settle(address, ids, settlement, call.origin)
        self.doorbells.settled(call.caller, address)
        if settlement.outcome is Outcome.EXTEND:
            self._readers.leased(call.caller.reader, self._store.clock.now() + settlement.delay)
        elif settlement.delay:
            self._readers.expect(self._store.clock.now() + settlement.delay)
        return settled

    async def rang(self, address: Address) -> None:
        """Note that somebody was told of mail in that mailbox."""
        await self._store.note_ring(address)

    async def reached(self, caller: Caller, request: str) -> None:
        """Note that the answer of that request reached the caller's host."""
        await self.channels.reached(caller, request)
        shown = self._shown.pop((caller.reader, request), None)
        if shown is None:
            await self._store.surface(Origin(caller.reader, request))
        else:
            await self._store.show(*shown)

    async def missed(self, caller: Caller, request: str) -> None:
        """Put back at once what that request leased: its answer was not wanted any more."""
        self.channels.missed(caller, request)
        if self._shown.pop((caller.reader, request), None) is None:
            await self._readers.put_back(caller.reader, request)

    async def lost(self, which: Callable[[Origin], bool]) -> None:
        """Put back what was leased by these requests: who asked has begun anew, and had no answer that it kept."""
        await self._readers.put_back_those(which)

    async def seen(self, which: Callable[[Origin], bool]) -> None:
        """Note that the answers of these requests reached their hosts, as far as that was not known."""
        for each in await self.unreached(which):
            await self._store.surface(each)

    async def unreached(self, which: Callable[[Origin], bool]) -> Sequence[Origin]:
        """Return which of these requests hold leases whose answer is not known to have reached its host."""
        return [each for each in await self._store.unreached() if which(each)]

    # -- inside

    def _show(self, call: Call, address: Address, ids: Sequence[str]) -> None:
        """Keep what an answer shows until it is known to have reached the caller's host."""
        if ids:
            while len(self._shown) >= _SHOWN:
                del self._shown[next(iter(self._shown))]
            self._shown[call.caller.reader, call.request] = (address, ids)

    async def _claim(
        self, call: Call, address: Address, wanted: Wanted, size: int, claimer: Claimer
    ) -> Sequence[Delivery]:
        lease = Lease(CLAIM_COUNT, size, self._lease_term)
        present = self._readers.present
        if present is not None and (abandoned := self.attendance.abandoned(call.caller)):
            present = present - abandoned
        found = await self._store.claim(address, wanted, lease, call.origin, present, claimer)
        if found:
            try:
                # The claim cannot be cancelled half way; a caller who has gone meanwhile gets nothing.
                await anyio.lowlevel.checkpoint_if_cancelled()
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await self.missed(call.caller, call.request)
                raise
            self._readers.leased(call.caller.reader, min(each.lease_until or 0 for each in found))
        return found

    async def _hinted(self, call: Call, sender: Address, recipient: Recipient) -> Recipient:
        address = addresses.parse_any(recipient.address, call.caller.space)
        return replace(recipient, refusal=await self._unknown(call.caller, sender, address))

    async def meant(self, call: Call, address: Address) -> str:
        """Return a question for who looked for mail of an address and found none: a name like it, if any."""
        if address.is_channel or not call.caller.sees(address.space):
            return ""
        mailbox = await self.mailboxes.own(call.caller, call.mailbox)
        channel = None
        if not await self.mailboxes.owns(call.caller, address):
            channel = await self.channels.meant(call.caller, mailbox, address)
        return await self.mailboxes.meant(call.caller, address) if channel is None else f"Did you mean {channel!r}?"

    async def _unknown(self, caller: Caller, sender: Address, address: Address) -> Refusal:
        if address.is_channel:
            return await self.channels.unknown(caller, sender, address)
        meant = await self.channels.meant(caller, sender, address)
        refusal = await self.mailboxes.unknown(caller, address)
        return refusal if meant is None else Refusal(refusal.code, refusal.problem, f"Did you mean {meant!r}?")


def _addresses(texts: Iterable[str], space: str) -> dict[tuple[str, str], Address]:
    """Return each address once, by what makes it the same."""
    found: dict[tuple[str, str], Address] = {}
    for text in texts:
        address = addresses.parse_any(text, space)
        found.setdefault((address.folded, address.space), address)
    return found
