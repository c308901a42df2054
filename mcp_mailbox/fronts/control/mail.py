"""The verbs of mail for a person: what the tools are for an agent, with the same arguments and the same answers.

A person comes by one command after another, maybe several at a time, so all of them are one reader, which is here while
it waits. What an answer shows counts as seen once the command line says that it was written; what it leased goes back
otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

import anyio
from pydantic import BaseModel, ConfigDict

from mcp_mailbox import addresses
from mcp_mailbox.bell import Ending
from mcp_mailbox.channel import Keep
from mcp_mailbox.directory import Search
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import arguments, render
from mcp_mailbox.fronts.control.desk import Desk, Json
from mcp_mailbox.postoffice import Call, Caller, Handed
from mcp_mailbox.store import Claimer, Portion
from mcp_mailbox.tokens import LOCAL

READER = "terminal"
_ROOM = 1 << 16
"""Bytes of a page: a person's screen is paid by nobody."""
_PORTION = Portion(100, 1 << 18)


class Who(BaseModel):
    """Whose mail it is about.

    `own` is the mailbox of who asks, opened when it is not there; `mailbox` another one of theirs, which must be.
    `request` is the same when the same is asked again.
    """

    model_config = ConfigDict(extra="forbid")
    request: str
    space: str | None = None
    own: str | None = None
    mailbox: str | None = None


class Asked(BaseModel):
    """What a verb of mail is asked with; what is `given` are the arguments of the tool of that name."""

    model_config = ConfigDict(extra="forbid")
    who: Who
    given: dict[str, Any] = {}


class Follow(arguments.Arguments):
    """`follow`: goes on from `place`; without one it begins with what comes from now on."""

    place: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    copied: str


class Send(arguments.Send):
    """`send`: files are not named but handed in, since the post office opens none for a person (`attachments`)."""

    handed: tuple[_File, ...] = ()


async def _call(desk: Desk, who: Who) -> Call:
    space = addresses.check_name(who.space or addresses.DEFAULT_SPACE, "space")
    caller = Caller(READER, LOCAL, space, who.own, binds=False, how="terminal", several=True, exempt=True)
    if who.own is not None and who.mailbox is None:
        await desk.post_office.mailboxes.ensure(Call(caller, f"{who.request} open"), who.own)
    call = Call(caller, who.request, who.mailbox)
    await desk.stay.enter_async_context(_seen(desk, call))
    return call


@asynccontextmanager
async def _seen(desk: Desk, call: Call) -> AsyncIterator[None]:
    """Note afterwards whether what the answer shows or leases is in a person's hands."""
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            after = desk.post_office.reached if desk.taken else desk.post_office.missed
            await after(call.caller, call.request)


@asynccontextmanager
async def _here(desk: Desk, call: Call) -> AsyncIterator[None]:
    """Be a reader that is present."""
    desk.post_office.arrive(call.caller)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            # Others of the same id may be about to be answered: `_seen` gives back what is this one's.
            await desk.post_office.depart(call.caller, put_back=False)


async def _send(desk: Desk, call: Call, asked: Send) -> Json:
    handed = [Handed(each.name, each.copied) for each in asked.handed]
    return render.accepted(await desk.post_office.send(call, asked.draft, handed), receipt=asked.receipt)


async def _list_inbox(desk: Desk, call: Call, asked: arguments.ListInbox) -> Json:
    if asked.searches:
        sender, thread = asked.sender or None, asked.thread or None
        find = desk.post_office.search.find
        found = await find(call, asked.limit, asked.query, sender, asked.since, thread, asked.cursor)
        source = addresses.parse_any(sender, call.caller.space) if sender and not found.hits else None
        return render.found(found, await _meant(desk, call, source), room=_ROOM)
    page = render.page(await desk.post_office.list_inbox(call, asked.listing), _ROOM, full=True)
    return page | render.skipped(await desk.post_office.channels.skipped(call))


async def _meant(desk: Desk, call: Call, sender: addresses.Address | None) -> str:
    """Return a question for who asked for mail of somebody, and nothing was there."""
    return await desk.post_office.meant(call, sender) if sender is not None else ""


async def _read(desk: Desk, call: Call, asked: arguments.Read) -> Json:
    """Return it with its whole body as text, and what that is."""
    found = await desk.post_office.read(call, asked.id)
    return render.entire(found) | {"format": found.message.format.word}


async def _wait_for_message(desk: Desk, call: Call, asked: arguments.WaitForMessage) -> Json:
    wanted = asked.wanted(call.caller.space)
    claimer = Claimer("a person at a terminal", asked.take_over, several=True)
    await desk.stay.enter_async_context(_here(desk, call))
    patience = asked.timeout * 1000
    found, _ = await desk.post_office.wait(call, patience, wanted, render.BODY_SHARE, Ending(), asked.ack, claimer)
    answer = render.received(found) if found else {"messages": [], "timed_out": True}
    if not found and (meant := await _meant(desk, call, wanted.sender)):
        answer["hint"] = meant
    return answer | render.skipped(await desk.post_office.channels.skipped(call))


async def _settle(desk: Desk, call: Call, asked: arguments.Settle) -> Json:
    return render.settled(await desk.post_office.settle(call, asked.ids, asked.settlement))


async def _find_mailboxes(desk: Desk, call: Call, asked: arguments.FindMailboxes) -> Json:
    search = Search(asked.space or call.caller.space, asked.query, asked.skill)
    return render.directory(await desk.post_office.directory.find(call, search, asked.limit, asked.cursor), _ROOM)


async def _subscribe(desk: Desk, call: Call, asked: arguments.Subscribe) -> Json:
    verbs = desk.post_office.channels
    if not asked.channel:
        return render.channels(await verbs.listed(call, arguments.LIST_LIMIT, asked.cursor))
    if asked.leave:
        return render.left(*await verbs.leave(call, asked.channel))
    return render.subscribed(await verbs.join(call, asked.channel, asked.since, Keep(count=asked.keep)))


async def _follow(desk: Desk, call: Call, asked: Follow) -> Json:
    """Tell what comes, and the place behind it, for as long as somebody listens."""
    address = await desk.post_office.mailboxes.own(call.caller, call.mailbox)
    portion = Portion(_PORTION.count, _PORTION.size, asked.place)
    async with aclosing(desk.post_office.follow(call, portion)) as pages:
        async for page in pages:
            come = [render.arrived(each) for each in page.mail if each.own is not None]
            await desk.tell({"messages": come, "place": page.place})
            if come:
                await desk.post_office.rang(address)
    raise AssertionError("it ends when whoever asked has gone")


_Run = Callable[[Desk, Call, Any], Awaitable[Json]]
VERBS: Mapping[str, tuple[_Run, type[arguments.Arguments]]] = {
    "send": (_send, Send),
    "list_inbox": (_list_inbox, arguments.ListInbox),
    "read": (_read, arguments.Read),
    "wait_for_message": (_wait_for_message, arguments.WaitForMessage),
    "settle": (_settle, arguments.Settle),
    "find_mailboxes": (_find_mailboxes, arguments.FindMailboxes),
    "subscribe": (_subscribe, arguments.Subscribe),
    "follow": (_follow, Follow),
}


async def _verb(desk: Desk, asked: Asked, *, name: str) -> Json:
    run, model = VERBS[name]
    given = arguments.parse(model, name, asked.given)
    if getattr(given, "mailbox", None) is not None:
        raise Refusal(Code.BAD_ARGUMENT, "`mailbox` is said in `who`.", "Leave it out of what is given.")
    return await run(desk, await _call(desk, asked.who), given)


COMMANDS = {name: (partial(_verb, name=name), Asked) for name in VERBS}
