"""The verbs of mail for a person: what the tools are for an agent, with the same arguments and the same answers.

A person comes by one command after another, maybe several at a time, so all of them are one reader, which is here while
it waits. What an answer shows counts as seen once the command line says that it was written; what it leased goes back
otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from pydantic import BaseModel, ConfigDict

from mcp_mailbox import addresses
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import arguments
from mcp_mailbox.fronts.control.desk import Desk, Json
from mcp_mailbox.fronts.verbs import VERBS, Asking, asking
from mcp_mailbox.postoffice import Call, Caller, Handed
from mcp_mailbox.tokens import LOCAL

READER = "terminal"
_ROOM = 1 << 16
"""Bytes of a page: a person's screen is paid by nobody."""
FOLLOW_EVERY = 2_000
"""ms after which who follows a mailbox looks again: a copy does not ring."""


class Who(BaseModel):
    """Whose mail it is about.

    `own` is the mailbox of who asks, made when it is not there, which is told; `mailbox` another one of theirs, which
    must be. `request` is the same when the same is asked again.
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


async def _call(desk: Desk, who: Who) -> Call:
    space = addresses.check_name(who.space or addresses.DEFAULT_SPACE, "space")
    caller = Caller(READER, LOCAL, space, who.own, binds=False, how="terminal", several=True, exempt=True)
    if who.own is not None and who.mailbox is None:
        made = await desk.counter.ensure(Call(caller, f"{who.request} open"), who.own)
        if made is not None:
            await desk.tell({"made": str(made)})  # and not with the answer, which may be a refusal
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
            after = desk.counter.reached if desk.taken else desk.counter.missed
            await after(call.caller, call.request)


@asynccontextmanager
async def _here(desk: Desk, call: Call) -> AsyncIterator[None]:
    """Be a reader that is present."""
    desk.counter.arrive(call.caller)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            # Others of the same id may be about to be answered: `_seen` gives back what is this one's.
            await desk.counter.depart(call.caller, put_back=False)


async def _follow(desk: Desk, call: Call, asked: Follow) -> Json:
    """Tell what comes, and the place behind it, for as long as somebody listens.

    A page that is empty comes now and then, so that who follows knows that it is followed.
    """
    counter, place = desk.counter, asked.place
    address = await counter.readable(call.caller, call.mailbox)
    with counter.bell.listening(address) as ear, counter.waiting(call.caller, [address]):
        while True:
            ear.clear()
            try:
                page = await counter.ask(asking("arrivals", {"place": place}, call))
            except Refusal as refusal:
                if refusal.code is not Code.HUB_AWAY or place is None:
                    raise
                page = {"messages": [], "place": place, "more": False}  # it goes on when the hub is back
            place = page["place"]
            await desk.tell({"messages": page["messages"], "place": place})
            if page["messages"]:
                await counter.rang(address)
            if not page["more"]:
                with counter.alarms.at(counter.clock.now() + FOLLOW_EVERY, ear.hear):
                    await ear.wait()


_VERBS = {
    "send": "send",
    "list_inbox": "list_inbox",
    "read": "entire",
    "wait_for_message": "wait_for_message",
    "settle": "settle",
    "find_mailboxes": "find_mailboxes",
    "subscribe": "subscribe",
}
"""What each is at the counter: a person reads a body whole."""


async def _verb(desk: Desk, asked: Asked, *, name: str) -> Json:
    verb = _VERBS[name]
    given = {each: value for each, value in asked.given.items() if (verb, each) != ("send", "handed")}
    read = arguments.parse(VERBS[verb].arguments, name, given)
    if getattr(read, "mailbox", None) is not None:
        raise Refusal(Code.BAD_ARGUMENT, "`mailbox` is said in `who`.", "Leave it out of what is given.")
    if getattr(read, "attach", ()):
        raise Refusal(Code.BAD_ARGUMENT, "The post office opens no file for a person.", "Use --attach.")
    handed = [_File.model_validate(each) for each in asked.given.get("handed") or ()] if verb == "send" else []
    call = await _call(desk, asked.who)
    if name == "wait_for_message":
        await desk.stay.enter_async_context(_here(desk, call))
    return await desk.counter.ask(
        Asking(
            verb,
            given,
            read,
            call,
            "a person at a terminal",
            room=_ROOM,
            full=True,
            handed=[Handed(each.name, each.copied) for each in handed],
        )
    )


async def _followed(desk: Desk, asked: Asked) -> Json:
    given = arguments.parse(Follow, "follow", asked.given)
    return await _follow(desk, await _call(desk, asked.who), given)


COMMANDS = {name: (partial(_verb, name=name), Asked) for name in _VERBS} | {"follow": (_followed, Asked)}
