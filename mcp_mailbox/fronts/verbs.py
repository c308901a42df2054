"""The verbs as fronts ask them: a name and JSON in, JSON out.

A host's tools, a person's terminal and another machine's post office ask the same things in different protocols. What
each verb does with the post office and how that is told stands here once; who asks, and what an answer may weigh there,
is in `Asking`. Whoever keeps this promise from afar (`Counter`) serves all fronts.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Bell, Ending
from mcp_mailbox.channel import Keep
from mcp_mailbox.directory import Search
from mcp_mailbox.doorbell import Doorbell, Pointer, Result, StandIn
from mcp_mailbox.doorbell import Terms as BellTerms
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import arguments, render
from mcp_mailbox.mailbox import Contact, Kind, Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.postoffice import Call, Caller, Handed, PostOffice
from mcp_mailbox.postoffice.alarms import Alarms
from mcp_mailbox.postoffice.attachments import Given
from mcp_mailbox.postoffice.waits import Wait
from mcp_mailbox.reservation import Mode, Terms
from mcp_mailbox.store import Claimer, Clock, Portion

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked, by whom, and how the answer is to be."""

    verb: str
    given: Mapping[str, Any]
    """The arguments as they came."""
    asked: Any
    """The same, as `VERBS` says that they are to be read."""
    call: Call
    label: str = "a host"
    """How a person would recognise who asks."""
    longest: float = math.inf
    """Seconds that a wait may last there."""
    ending: Ending = field(default_factory=Ending)
    """Happens when a wait is to end early."""
    room: int = render.PAGE_LIMIT
    """Bytes of a page."""
    full: bool = False
    """Whether a page tells how each message stands."""
    default: str | None = None
    """The mailbox that `create_mailbox` makes when none is named."""
    handed: Sequence[Handed] = ()
    """Files to be attached that the front has handed in."""
    at_once: bool = False
    """Whether a wait is to answer what is there now: who asks waits by itself."""
    wait: Wait | None = None
    """What a wait may leave behind when it raises Parked; None where it keeps its task, as always at an edge."""
    raw: bool = False
    """Whether another machine renders it anew for whoever reads it: with what that needs to verify it."""
    signature: str | None = None
    """What the sender's own machine has signed a `send` with."""
    written: int | None = None
    """When a `send` was answered by another machine, in ms since 1970 UTC, where it has waited there since."""


class Counter(Protocol):
    """What fronts ask a post office, be it this one or another machine's. Every verb may raise Refusal."""

    bell: Bell
    alarms: Alarms
    clock: Clock

    async def ask(self, asking: Asking) -> Json:
        """Do it, and return the answer."""
        ...

    def arrive(self, caller: Caller) -> None:
        """See `PostOffice.arrive`."""
        ...

    async def depart(self, caller: Caller, *, put_back: bool = True) -> None:
        """See `PostOffice.depart`."""
        ...

    def ended(self, caller: Caller) -> None:
        """Note that the reader will not come back."""
        ...

    async def reached(self, caller: Caller, request: str, *, former: bool = False) -> None:
        """See `PostOffice.reached`. `former`: it was the post office before us that answered."""
        ...

    def recalled(self, caller: Caller) -> None:
        """Note that it is known which answers of a post office before us `reached` this reader's host."""
        ...

    async def missed(self, caller: Caller, request: str) -> None:
        """See `PostOffice.missed`."""
        ...

    async def rang(self, address: Address) -> None:
        """See `PostOffice.rang`."""
        ...

    def waiting(self, caller: Caller, places: Iterable[Address]) -> AbstractContextManager[None]:
        """Count the caller as being there for as long as the block lasts."""
        ...

    def attach(self, caller: Caller, bell: Doorbell, terms: BellTerms, *, resumed: bool) -> None:
        """Ring this reader's host from now on: see `Doorbells.attach`."""
        ...

    def reachable(self, caller: Caller) -> None:
        """Note that its host may be rung by now: see `Doorbells.reachable`."""
        ...

    def begins(self, caller: Caller, host: str, *, resumed: bool) -> None:
        """Note that the caller is the newest of a host that starts one after another: see `Attendance.begins`."""
        ...

    async def greet(self, caller: Caller) -> None:
        """Note that the caller is at its own mailbox, if it has one."""
        ...

    async def ensure(self, call: Call, name: str) -> Address | None:
        """Open the mailbox of that name, unless it is there and need not become the caller's.

        Return its address if it was made.
        """
        ...

    async def readable(self, caller: Caller, name: str | None) -> Address:
        """Return the address of a mailbox that the caller may read, its own when none is named."""
        ...

    async def listed(self, caller: Caller, limit: int, after: str = "") -> Sequence[Address]:
        """Return the principal's addresses in the caller's space, in order; those behind the name `after`."""
        ...

    async def complete(self, caller: Caller, prefix: str, limit: int) -> Sequence[Address]:
        """Return the principal's addresses that begin like this."""
        ...

    async def content(self, call: Call, id: str, name: str) -> Given:  # noqa: A002 - the domain's word
        """Return an attachment and what is in it."""
        ...

    async def home(self, caller: Caller) -> Address | None:
        """Return the mailbox that is the reader's own, as far as it has come there."""
        ...

    def can_ring(self, caller: Caller) -> bool:
        """Whether the reader's host has a bell of its own."""
        ...

    async def rung(self, kind: str, result: Result, told: Pointer) -> None:
        """Note what came of a ring that somebody else has made: see `Doorbells.rang`."""
        ...

    def standing_in(self, caller: Caller, stand: StandIn) -> AbstractContextManager[None]:
        """Ring this, for which the caller may speak, while the block lasts: see `Doorbells.standing_in`."""
        ...

    async def place(self, sizes: Mapping[str, int]) -> Path:
        """Return where a front may put copies of files of these names and sizes: see `Attachments.place`."""
        ...

    async def check(self) -> str:
        """Return "ok", or what is wrong with the file that mail is kept in here."""
        ...


async def _create_mailbox(office: PostOffice, asking: Asking, asked: arguments.CreateMailbox) -> Json:
    contact = Contact(asked.contact) if asked.contact is not None else None
    kind = Kind(asked.kind) if asked.kind is not None else None
    profile = Profile(asked.about, asked.skills, contact, asked.attempts, kind, asked.share, asked.said)
    name = asked.name if asked.name is not None else asking.default
    return render.opened(await office.mailboxes.open(asking.call, name, profile))


async def _send(office: PostOffice, asking: Asking, asked: arguments.Send) -> Json:
    files: list[str | Handed] = [*asked.attach, *asking.handed]
    return render.accepted(await office.send(asking.call, draft_of(asking), files), receipt=asked.receipt)


def draft_of(asking: Asking) -> Draft:
    """Return what a `send` hands in, its files aside. Raises Refusal for what no mailbox could hold."""
    draft: Draft = asking.asked.draft
    return replace(draft, signature=asking.signature, written=asking.written)


async def _wait_for_message(office: PostOffice, asking: Asking, asked: arguments.WaitForMessage) -> Json:
    call = asking.call
    wanted = asked.wanted(call.caller.space)
    timeout = min(asked.timeout, asking.longest)
    claimer = Claimer(asking.label, asked.take_over, call.caller.several)
    found, settled = await office.wait(
        call,
        0 if asking.at_once else timeout * 1000,
        wanted,
        render.BODY_SHARE,
        asking.ending,
        asked.ack,
        claimer,
        asking.wait,
    )
    cut = timeout if timeout < asked.timeout and not asking.ending.is_set() else None
    meant = await _meant(office, call, wanted.sender) if not found else ""
    reader = call.caller.principal
    answer = render.received(found, reader, raw=asking.raw) if found else render.nothing(cut, meant, brief=asking.full)
    refused = [{"id": each.handle} | render.problem(each.refusal) for each in settled if each.refusal]
    answer |= render.skipped(await office.channels.skipped(call))
    return answer | ({"ack_failed": refused} if refused else {})


async def _meant(office: PostOffice, call: Call, sender: Address | None) -> str:
    """Return a question for who asked for mail of somebody, and nothing was there."""
    return await office.meant(call, sender) if sender is not None else ""


async def _list_inbox(office: PostOffice, asking: Asking, asked: arguments.ListInbox) -> Json:
    call = asking.call
    if asked.searches:
        sender, thread = asked.sender or None, asked.thread or None
        find = office.search.find
        hits = await find(call, asked.limit, asked.query, sender, asked.since, thread, asked.cursor)
        source = addresses.parse_any(sender, call.caller.space) if sender and not hits.hits else None
        return render.found(hits, call.caller.principal, await _meant(office, call, source), asking.room)
    listed = await office.list_inbox(call, asked.listing)
    page = render.page(listed, call.caller.principal, asking.room, full=asking.full)
    return page | render.skipped(await office.channels.skipped(call))


async def _read(office: PostOffice, asking: Asking, asked: arguments.Read) -> Json:
    call = asking.call
    if asked.attachment is not None:
        opened = await office.attachments.read(call, asked.id, asked.attachment)
        address = await office.mailboxes.own(call.caller, call.mailbox)
        _check_offset("attachment", len(opened.text or ""), asked.offset)
        uri = render.uri(address, asked.id, opened.attachment.name)
        return render.attachment(opened, asked.id, asked.offset, uri)
    found = await office.read(call, asked.id)
    _check_offset("body", len(found.message.body), asked.offset)
    return render.whole(found, asked.offset, call.caller.principal, raw=asking.raw)


def _check_offset(what: str, length: int, offset: int) -> None:
    if offset > length:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"The {what} has {length:,} characters; it does not reach offset {offset:,}.",
            "Use `more` of the page before.",
        )


async def _entire(office: PostOffice, asking: Asking, asked: arguments.Entire) -> Json:
    """Return a message with its whole body as text, and what that is."""
    found = await office.read(asking.call, asked.id)
    reader = asking.call.caller.principal
    if asking.raw:
        return render.signed(found, reader)
    return render.entire(found, reader) | ({"format": found.message.format.word} if asking.full else {})


async def _own(office: PostOffice, asking: Asking, asked: arguments.Own) -> Json:
    del asked
    return {"address": str(await office.mailboxes.own(asking.call.caller, asking.call.mailbox))}


async def _mailboxes(office: PostOffice, asking: Asking, asked: arguments.Mailboxes) -> Json:
    caller = asking.call.caller
    if asked.prefix is not None:
        found = await office.mailboxes.complete(caller, asked.prefix, asked.limit)
    else:
        found = await office.mailboxes.listed(caller, asked.limit, asked.after)
    return {"mailboxes": [str(each) for each in found]}


async def _arrivals(office: PostOffice, asking: Asking, asked: arguments.Arrivals) -> Json:
    page = await office.arrivals(asking.call, Portion(100, 1 << 18, asked.place))
    come = [render.arrived(each, asking.call.caller.principal) for each in page.mail if each.own is not None]
    return {"messages": come, "place": page.place, "more": page.next is not None}


async def _remind(office: PostOffice, asking: Asking, asked: arguments.Remind) -> Json:
    address = await office.mailboxes.readable(asking.call.caller, asking.call.mailbox)
    said = await office.doorbells.reminder(address, asked.event)
    return {"text": said.reminder()} if said is not None else {}


async def _news(office: PostOffice, asking: Asking, asked: arguments.News) -> Json:
    address = await office.mailboxes.readable(asking.call.caller, asking.call.mailbox)
    found = await office.doorbells.arrival(address, frozenset(asked.besides))
    if found is None:
        return {"mailbox": str(address)}
    told, news = found
    senders = [str(sender) for sender in told.senders]
    return {"mailbox": str(address), "messages": told.count, "urgent": told.urgent, "from": senders, "news": news}


async def _held(office: PostOffice, asking: Asking, asked: arguments.Held) -> Json:
    found = await office.reservations.of_others(replace(asking.call.caller, mailbox=asked.besides))
    return {
        "reservations": [
            {
                "name": each.name,
                "holder": str(each.holder) if each.holder is not None else None,
                "mode": each.mode.value,
                "note": each.note,
                "made_at": each.made_at,
                "until": each.until,
            }
            for each in found
        ]
    }


async def _settle(office: PostOffice, asking: Asking, asked: arguments.Settle) -> Json:
    return render.settled(await office.settle(asking.call, asked.ids, asked.settlement))


async def _reserve(office: PostOffice, asking: Asking, asked: arguments.Reserve) -> Json:
    verbs = office.reservations
    if asked.release:
        return render.released(await verbs.release(asking.call, asked.names or None))
    if not asked.names:
        return render.held(*await verbs.held(asking.call))
    terms = Terms(Mode(asked.mode), asked.term, asked.note)
    return render.reserved(await verbs.reserve(asking.call, asked.names, terms))


async def _subscribe(office: PostOffice, asking: Asking, asked: arguments.Subscribe) -> Json:
    verbs = office.channels
    if not asked.channel:
        return render.channels(await verbs.listed(asking.call, arguments.LIST_LIMIT, asked.cursor))
    if asked.leave:
        return render.left(*await verbs.leave(asking.call, asked.channel))
    return render.subscribed(await verbs.join(asking.call, asked.channel, asked.since, Keep(count=asked.keep)))


async def _find_mailboxes(office: PostOffice, asking: Asking, asked: arguments.FindMailboxes) -> Json:
    search = Search(asked.space or asking.call.caller.space, asked.query, asked.skill)
    found = await office.directory.find(asking.call, search, asked.limit, asked.cursor)
    return render.directory(found, asking.call.caller.principal, asking.room)


@dataclass(frozen=True, slots=True)
class Verb:
    """A row: what is done with which arguments, and whether the answer may carry mail."""

    run: Callable[[PostOffice, Asking, Any], Awaitable[Json]]
    arguments: type[arguments.Arguments]
    carries_mail: bool = False


VERBS: Mapping[str, Verb] = {
    "create_mailbox": Verb(_create_mailbox, arguments.CreateMailbox),
    "send": Verb(_send, arguments.Send),
    "wait_for_message": Verb(_wait_for_message, arguments.WaitForMessage, carries_mail=True),
    "list_inbox": Verb(_list_inbox, arguments.ListInbox, carries_mail=True),
    "read": Verb(_read, arguments.Read, carries_mail=True),
    "entire": Verb(_entire, arguments.Entire, carries_mail=True),
    "own": Verb(_own, arguments.Own),
    "mailboxes": Verb(_mailboxes, arguments.Mailboxes),
    "arrivals": Verb(_arrivals, arguments.Arrivals, carries_mail=True),
    "remind": Verb(_remind, arguments.Remind),
    "news": Verb(_news, arguments.News),
    "held": Verb(_held, arguments.Held),
    "settle": Verb(_settle, arguments.Settle),
    "reserve": Verb(_reserve, arguments.Reserve),
    "find_mailboxes": Verb(_find_mailboxes, arguments.FindMailboxes),
    "subscribe": Verb(_subscribe, arguments.Subscribe),
}


def asking(verb: str, given: Mapping[str, Any], call: Call) -> Asking:
    """Read the arguments of a verb that is asked with no more ado. Raises Refusal for what cannot be read."""
    return Asking(verb, given, arguments.parse(VERBS[verb].arguments, verb, given), call)


class Here:
    """The counter of the post office in this process."""

    def __init__(self, office: PostOffice) -> None:
        self.office = office
        self.bell = office.bell
        self.alarms = office.alarms
        self.clock = office.clock

    async def ask(self, asking: Asking) -> Json:
        """See `Counter`."""
        return await VERBS[asking.verb].run(self.office, asking, asking.asked)

    async def send_all(self, sends: Sequence[tuple[Asking, Draft]]) -> Sequence[Json | Refusal]:
        """Send these, which have no files, with what they hand in (`draft_of`), in their order.

        Return of each the answer, or why it is refused. Raises Refusal as `PostOffice.send_all`.
        """
        said = await self.office.send_all([(asking.call, draft) for asking, draft in sends])
        return [
            each if isinstance(each, Refusal) else render.accepted(each, receipt=asking.asked.receipt)
            for (asking, _), each in zip(sends, said, strict=True)
        ]

    def arrive(self, caller: Caller) -> None:
        """See `Counter`."""
        self.office.arrive(caller)

    async def depart(self, caller: Caller, *, put_back: bool = True) -> None:
        """See `Counter`."""
        await self.office.depart(caller, put_back=put_back)

    def ended(self, caller: Caller) -> None:
        """See `Counter`."""
        self.office.attendance.ended(caller)

    async def reached(self, caller: Caller, request: str, *, former: bool = False) -> None:
        """See `Counter`."""
        del former  # a request has the same name there
        await self.office.reached(caller, request)

    def recalled(self, caller: Caller) -> None:
        """See `Counter`: those here keep their leases until they go."""

    async def missed(self, caller: Caller, request: str) -> None:
        """See `Counter`."""
        await self.office.missed(caller, request)

    async def rang(self, address: Address) -> None:
        """See `Counter`."""
        await self.office.rang(address)

    def waiting(self, caller: Caller, places: Iterable[Address]) -> AbstractContextManager[None]:
        """See `Counter`."""
        return self.office.attendance.waiting(caller, places)

    def attach(self, caller: Caller, bell: Doorbell, terms: BellTerms, *, resumed: bool) -> None:
        """See `Counter`."""
        self.office.doorbells.attach(caller, bell, terms, resumed=resumed)

    def reachable(self, caller: Caller) -> None:
        """See `Counter`."""
        self.office.doorbells.reachable(caller)

    def begins(self, caller: Caller, host: str, *, resumed: bool) -> None:
        """See `Counter`."""
        self.office.attendance.begins(caller, host, resumed=resumed)

    async def greet(self, caller: Caller) -> None:
        """See `Counter`."""
        await self.office.mailboxes.greet(caller)

    async def ensure(self, call: Call, name: str) -> Address | None:
        """See `Counter`."""
        return await self.office.mailboxes.ensure(call, name)

    async def readable(self, caller: Caller, name: str | None) -> Address:
        """See `Counter`."""
        return await self.office.mailboxes.readable(caller, name)

    async def listed(self, caller: Caller, limit: int, after: str = "") -> Sequence[Address]:
        """See `Counter`."""
        return await self.office.mailboxes.listed(caller, limit, after)

    async def complete(self, caller: Caller, prefix: str, limit: int) -> Sequence[Address]:
        """See `Counter`."""
        return await self.office.mailboxes.complete(caller, prefix, limit)

    async def content(self, call: Call, id: str, name: str) -> Given:  # noqa: A002
        """See `Counter`."""
        return await self.office.attachments.content(call, id, name)

    async def home(self, caller: Caller) -> Address | None:
        """See `Counter`."""
        return self.office.attendance.home(caller.reader)

    def can_ring(self, caller: Caller) -> bool:
        """See `Counter`."""
        return self.office.doorbells.can_ring(caller)

    async def rung(self, kind: str, result: Result, told: Pointer) -> None:
        """See `Counter`."""
        await self.office.doorbells.rang(kind, result, told)

    def standing_in(self, caller: Caller, stand: StandIn) -> AbstractContextManager[None]:
        """See `Counter`."""
        del caller
        return self.office.doorbells.standing_in(stand)

    async def place(self, sizes: Mapping[str, int]) -> Path:
        """See `Counter`."""
        return await self.office.attachments.place(sizes)

    async def check(self) -> str:
        """See `Counter`."""
        return await self.office.check()
