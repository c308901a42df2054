"""What the command line may ask a post office to do: JSON objects over the local socket, which only its user reaches.

A request says what to `do` and the arguments; the answer is an object too, with `error`, `message` and `hint` when it
was refused. What takes long tells how far it is meanwhile. The verbs of mail are in `mail`, their arguments and answers
those of the tools. The command line's half is in `fronts/cli/`.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcp_mailbox import invitation
from mcp_mailbox.addresses import DEFAULT_SPACE, Address, parse, parse_channel
from mcp_mailbox.audit import DONE, Trail
from mcp_mailbox.credentials import ALL_SCOPES, Credential, Scope
from mcp_mailbox.delivery import Progress, State
from mcp_mailbox.doorbell import WAKES, Moment, Pointer, Quiet, Result, StandIn, Terms
from mcp_mailbox.doorbell import Outcome as RingOutcome
from mcp_mailbox.doorbells.rewake import RewakeBell
from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts import render
from mcp_mailbox.fronts.audited import CANCELLED, entry
from mcp_mailbox.fronts.control import mail
from mcp_mailbox.fronts.control.desk import Asker, Desk, Json, Keys, ReaderOf
from mcp_mailbox.fronts.verbs import Counter, asking
from mcp_mailbox.invitation import Invitation
from mcp_mailbox.postoffice import Call, Caller, PostOffice
from mcp_mailbox.store import Archived, Portion
from mcp_mailbox.tokens import LOCAL, Tokens

_YEAR = 366 * 24 * 3600 * 1000
_SIGN_EVERY = 10.0
"""Seconds between two signs of life of a command that waits."""
_REASON = 200
"""Characters of why a ring failed."""
_TELL_EVERY = 0.2
"""Seconds between two words of how far a command is."""
_PORTION = 100
_PORTION_SIZE = 1 << 18
"""Bytes of bodies in one answer: it is spelled in one go, in which nobody else is served."""
_PIECE = 1 << 20
"""Bytes of an attachment in one word of it."""
_LOOKS = 20
"""Empty pages after which an answer says so, and how to go on."""
_UNNOTED = {"hook", "watch", "rang"}
_NAMED = {"mail": "export", "attachment": "export attachment"}
_NOWHERE = Progress(State.STORED)
"""Of what was only sent: no time, no reason, no attempt."""


class _Key(BaseModel):
    model_config = ConfigDict(extra="forbid")
    address: str
    space: str = DEFAULT_SPACE


class _Trusted(_Key):
    fingerprint: str


class _Create(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    principal: str = LOCAL
    scopes: frozenset[Scope] = ALL_SCOPES
    mailbox: str | None = None
    space: str | None = None
    lasts: int | None = Field(default=None, gt=0, lt=100 * _YEAR)
    confined: bool = False


class _Invite(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = "invited"
    principal: str
    scopes: frozenset[Scope] = ALL_SCOPES
    mailbox: str | None = None
    space: str | None = None
    good_for: int = Field(default=invitation.TERM, gt=0, le=invitation.LONGEST)
    lasts: int = Field(default=invitation.TOKEN_TERM, gt=0, lt=100 * _YEAR)


class _Which(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str


class _Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Backup(BaseModel):
    model_config = ConfigDict(extra="forbid")
    path: str = Field(pattern="^/[^\0]+$")
    replace: bool = False


class _Mail(BaseModel):
    model_config = ConfigDict(extra="forbid")
    mailbox: str
    space: str
    thread: str | None = None
    channel: str | None = None
    cursor: str | None = None


class _Attachment(BaseModel):
    model_config = ConfigDict(extra="forbid")
    mailbox: str
    space: str
    id: str
    name: str


class _Place(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sizes: dict[str, int] = Field(min_length=1, max_length=1000)


class _Hook(BaseModel):
    model_config = ConfigDict(extra="forbid")
    event: Moment
    ancestors: list[int] = Field(max_length=64)
    begins: bool = False
    thread: str | None = None
    address: str | None = None
    space: str | None = None


class _Rewake(_Hook):
    host: int
    quiet: str | None = None
    wakes: int = Field(default=WAKES, ge=0)


class _Watch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    mailbox: str
    space: str
    besides: list[str] = Field(default=[], max_length=1000)
    patience: float = Field(gt=0, le=3600)


class _Rang(BaseModel):
    model_config = ConfigDict(extra="forbid")
    mailbox: str
    space: str
    kind: str = Field(max_length=20)
    reason: str = ""
    messages: int = Field(ge=0)
    urgent: int = Field(ge=0)
    senders: list[str] = Field(max_length=1000)


class _Whose(BaseModel):
    mailbox: str | None = None
    space: str | None = None


class _Held(BaseModel):
    model_config = ConfigDict(extra="forbid")
    space: str
    besides: str | None = None


async def _create(desk: Desk, asked: _Create) -> Json:
    credential, secret = await desk.tokens.issue(asked.name, **asked.model_dump(exclude={"name"}))
    rival = await desk.tokens.rival(credential)
    return {**_shown(credential), "token": secret} | ({"rival": rival} if rival is not None else {})


async def _list(desk: Desk, asked: _Nothing) -> Json:
    del asked
    return {"tokens": [_shown(each) for each in await desk.tokens.listed()]}


async def _revoke(desk: Desk, asked: _Which) -> Json:
    return _shown(await desk.tokens.revoke(asked.id))


async def _rotate(desk: Desk, asked: _Which) -> Json:
    credential, secret = await desk.tokens.rotate(asked.id)
    return {**_shown(credential), "token": secret}


async def _invite(desk: Desk, asked: _Invite) -> Json:
    made, code = await desk.tokens.invite(asked.name, **asked.model_dump(exclude={"name"}))
    return {**_invited(made), "code": code}


async def _invitations(desk: Desk, asked: _Nothing) -> Json:
    del asked
    return {"invitations": [_invited(each) for each in await desk.tokens.invitations()]}


async def _uninvite(desk: Desk, asked: _Which) -> Json:
    return _invited(await desk.tokens.uninvite(asked.id))


async def _backup(desk: Desk, asked: _Backup) -> Json:
    so_far = (0, 1)
    answer: Json = {}
    refusal: Refusal | None = None

    def told(done: int, total: int) -> None:
        nonlocal so_far
        so_far = (done, total)

    async def tell() -> None:
        while True:
            await desk.tell({"done": so_far[0], "of": so_far[1]})
            await anyio.sleep(_TELL_EVERY)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell)
        try:
            size = await desk.post_office.backup(Path(asked.path), told, replace=asked.replace)
            answer = {"file": asked.path, "bytes": size}
        except Refusal as refused:
            refusal = refused
        tasks.cancel_scope.cancel()
    if refusal is not None:
        raise refusal
    return answer


async def _mail(desk: Desk, asked: _Mail) -> Json:
    call = Call(Caller("command line", LOCAL, asked.space), "export", asked.mailbox)
    address = await desk.post_office.mailboxes.own(call.caller, call.mailbox)
    channel = parse_channel(asked.channel, asked.space) if asked.channel is not None else None
    cursor = asked.cursor
    damaged: list[str] = []
    for _ in range(_LOOKS):
        portion = Portion(_PORTION, _PORTION_SIZE, cursor, asked.thread, channel=channel)
        page = await desk.post_office.mail_of(call, portion)
        cursor = page.next
        damaged += page.damaged
        if page.mail or cursor is None:
            break
    return {
        "address": str(address),
        "mail": [_archived(each) for each in page.mail],
        "damaged": damaged,
        "next": cursor,
        "store": page.store,
        "now": page.now,
        **({"channel": str(channel)} if channel is not None else {}),
    }


async def _attachment(desk: Desk, asked: _Attachment) -> Json:
    """Tell an attachment in pieces: each is spelled in one go, as above."""
    call = Call(Caller("command line", LOCAL, asked.space), "export", asked.mailbox)
    content = (await desk.counter.content(call, asked.id, asked.name)).content
    for offset in range(0, len(content), _PIECE):
        part = await anyio.to_thread.run_sync(base64.b64encode, content[offset : offset + _PIECE])
        await desk.tell({"content": part.decode(), "size": len(content)})
    return {"size": len(content)}


async def _place(desk: Desk, asked: _Place) -> Json:
    """Say where copies of files may be put that are to be attached: their paths, with how many bytes each has."""
    return {"directory": str(await desk.counter.place(asked.sizes))}


async def _held(desk: Desk, asked: _Held) -> Json:
    call = Call(Caller("command line", LOCAL, asked.space, binds=False, several=True), "held")
    return await desk.counter.ask(asking("held", {"besides": asked.besides}, call))


async def _check(desk: Desk, asked: _Nothing) -> Json:
    del asked
    return {"store": await desk.counter.check()}


async def _hook(desk: Desk, asked: _Hook) -> Json:
    meant = await _meant(desk, asked)
    return await desk.counter.ask(asking("remind", {"event": asked.event}, meant[0])) if meant is not None else {}


async def _meant(desk: Desk, asked: _Hook) -> tuple[Call, Address] | None:
    """Return for which mailbox a host has run a hook, and how to ask for it; None when it has none that is known."""
    reader = desk.reader_of(asked.ancestors, asked.thread)
    home = await desk.counter.home(reader) if reader is not None else None
    caller = Caller("hook", LOCAL, asked.space or DEFAULT_SPACE, binds=False, several=True, exempt=True)
    if home is None and asked.address is not None:
        try:
            home = await desk.counter.readable(caller, asked.address)
        except Refusal:
            return None  # it was not opened yet
    return (Call(caller, "hook", str(home)), home) if home is not None else None


async def _rewake(desk: Desk, asked: _Rewake) -> Json:
    """Let the hook of a host wait until the host is to be woken; nothing when it is rung by a bell of its own."""

    def is_rung() -> bool:
        reader = desk.reader_of(asked.ancestors, asked.thread)
        return reader is not None and desk.counter.can_ring(reader)

    terms = Terms(Quiet.parse(asked.quiet) if asked.quiet else None, asked.wakes)
    if is_rung():
        return {}
    meant = await _meant(desk, asked)
    if meant is None:
        return {"later": True}
    call, address = meant
    bell = RewakeBell()
    desk.stay.callback(lambda: bell.over(taken=desk.taken))
    stand = StandIn(f"{bell.kind}.{asked.host}", address, bell, terms, asked.begins, is_rung, bell.leave)
    with desk.counter.standing_in(call.caller, stand):
        pointer = await bell.call()
    return {"text": pointer.text()} if pointer is not None else {}


async def _watch(desk: Desk, asked: _Watch) -> Json:
    caller = Caller("watch", LOCAL, asked.space, binds=False, several=True, exempt=True)
    address = await desk.counter.readable(caller, asked.mailbox)
    found: Json = {}
    refusal: Refusal | None = None

    async def tell() -> None:
        while True:  # silence would be taken for an office that hangs, and who asked may have gone
            await desk.tell({"waiting": str(address)})
            await anyio.sleep(_SIGN_EVERY)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell)
        try:
            found = await _news(desk, Call(caller, "watch", asked.mailbox), address, asked)
        except Refusal as refused:
            refusal = refused
        tasks.cancel_scope.cancel()
    if refusal is not None:
        raise refusal
    return found


async def _news(desk: Desk, call: Call, address: Address, asked: _Watch) -> Json:
    """Return what would ring somebody, once there is more than was told."""
    counter = desk.counter
    deadline = counter.clock.now() + asked.patience * 1000
    with (
        counter.waiting(call.caller, [address]),
        counter.bell.listening(address) as ear,
        counter.alarms.at(deadline, ear.hear),
    ):
        while True:
            ear.clear()
            found = await counter.ask(asking("news", {"besides": asked.besides}, call))
            if "news" in found or counter.clock.now() >= deadline:
                return found
            await ear.wait()


async def _keys(desk: Desk, asked: _Nothing) -> Json:
    del asked
    return await desk.keys.listed()


async def _trust(desk: Desk, asked: _Trusted) -> Json:
    return await desk.keys.trust(asked.address, asked.fingerprint, asked.space)


async def _forget(desk: Desk, asked: _Key) -> Json:
    return await desk.keys.forget(asked.address, asked.space)


async def _rang(desk: Desk, asked: _Rang) -> Json:
    caller = Caller("watch", LOCAL, asked.space, binds=False, several=True, exempt=True)
    address = await desk.counter.readable(caller, asked.mailbox)
    outcome = Result(RingOutcome.FAILED, asked.reason[:_REASON]) if asked.reason else Result(RingOutcome.RUNG)
    senders = tuple(parse(sender, asked.space) for sender in asked.senders)
    told = Pointer(desk.counter.clock.now(), address, asked.messages, senders, asked.urgent)
    await desk.counter.rung(asked.kind, outcome, told)
    return {}


_Verb = Callable[[Desk, Any], Awaitable[Json]]
COMMANDS: Mapping[str, tuple[_Verb, type[BaseModel]]] = {
    "token create": (_create, _Create),
    "token list": (_list, _Nothing),
    "token revoke": (_revoke, _Which),
    "token rotate": (_rotate, _Which),
    "invite": (_invite, _Invite),
    "invite list": (_invitations, _Nothing),
    "invite revoke": (_uninvite, _Which),
    "backup": (_backup, _Backup),
    "mail": (_mail, _Mail),
    "attachment": (_attachment, _Attachment),
    "place": (_place, _Place),
    "reservations": (_held, _Held),
    "check": (_check, _Nothing),
    **mail.COMMANDS,
    "hook": (_hook, _Hook),
    "rewake": (_rewake, _Rewake),
    "watch": (_watch, _Watch),
    "rang": (_rang, _Rang),
    "keys": (_keys, _Nothing),
    "keys trust": (_trust, _Trusted),
    "keys forget": (_forget, _Key),
}


async def command(
    counter: Counter,
    own: tuple[Tokens, PostOffice] | None,
    asker: Asker,
    asked: object,
    reader_of: ReaderOf,
    trail: Trail | None = None,
    keys: Keys | None = None,
) -> None:
    """Do what is asked, and answer. Never raises for what the command line may get wrong.

    `own` is the store of this machine, None where a hub keeps its mail; `keys` are those that it knows then.
    """
    async with AsyncExitStack() as stay:
        desk = Desk(counter, own, asker.tell, stay, reader_of, keys)
        answer: Json = {"error": CANCELLED}
        try:
            answer = await _done(desk, asked)
        finally:
            if trail is not None and own is not None:
                _note(desk, trail, asked, answer)
        desk.taken = await asker.answer(answer)


def _note(desk: Desk, trail: Trail, asked: object, answer: Json) -> None:
    """Write down what was asked, but for what hosts and watchers ask all the time, and what is no command."""
    verb = str(asked.get("do")) if isinstance(asked, dict) else ""
    if not isinstance(asked, dict) or verb not in COMMANDS or verb in _UNNOTED or verb in mail.COMMANDS:
        return
    outcome = str(answer.get("error", DONE))
    call = Call(Caller(mail.READER, LOCAL, DEFAULT_SPACE, how="terminal"), "")
    with suppress(ValidationError):
        about = (mail.Who if "who" in asked else _Whose).model_validate(asked.get("who", asked))
        caller = replace(call.caller, space=about.space or DEFAULT_SPACE)
        call = Call(caller, "", about.mailbox or getattr(about, "own", None))
    trail.note(entry(desk.post_office, _NAMED.get(verb, verb), call, outcome, answer))


async def _done(desk: Desk, asked: object) -> Json:
    if not isinstance(asked, dict):
        return {"error": "bad_argument", "message": "A command is an object with `do`.", "hint": ""}
    name, given = asked.get("do"), {key: value for key, value in asked.items() if key != "do"}
    verb, arguments = COMMANDS.get(str(name), (None, _Nothing))
    if verb is None:
        hint = "Run `mcp-mailbox stop`: an older version may be running."
        return {"error": "unknown_command", "message": f"No command {name!a}.", "hint": hint}
    try:
        return await verb(desk, arguments.model_validate(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return {"error": "bad_argument", "message": f"{where}: {first['msg']}.", "hint": ""}
    except Refusal as refusal:
        return {**render.problem(refusal), "hint": refusal.hint}


def _shown(credential: Credential) -> Json:
    return {
        "id": credential.id,
        "name": credential.name,
        "principal": credential.principal,
        "scopes": sorted(credential.scopes),
        "mailbox": credential.mailbox,
        "space": credential.space,
        "confined": credential.confined,
        "created_at": credential.created_at,
        "expires_at": credential.expires_at,
        "revoked_at": credential.revoked_at,
    }


def _invited(made: Invitation) -> Json:
    return {
        "id": made.id,
        "name": made.name,
        "principal": made.principal,
        "scopes": sorted(made.scopes),
        "mailbox": made.mailbox,
        "space": made.space,
        "lasts": made.lasts,
        "created_at": made.created_at,
        "expires_at": made.expires_at,
        "revoked_at": made.revoked_at,
        "redeemed_at": made.redeemed_at,
        "token": made.token,
    }


def _archived(each: Archived) -> Json:
    message, own = each.message, each.own or _NOWHERE
    return {
        "id": message.id,
        "thread": message.thread,
        "reply_to": message.reply_to,
        "from": message.sender,
        "to": list(message.to),
        "cc": list(message.cc),
        "subject": message.subject,
        "body": message.body,
        "format": message.format.word,
        "kind": message.kind.word,
        "priority": message.priority.word,
        "accepted_at": message.accepted_at,
        "written_at": message.written_at,
        "expires_at": message.expires_at,
        "signature": message.signature,
        "attachments": [asdict(attachment) for attachment in message.attachments],
        "sent": each.sent,
        "recipients": [{"to": to, "state": one.state.word, "at": one.since} for to, one in each.recipients],
        "state": own.state.word if each.own else None,
        "attempts": own.attempts,
        "reason": own.reason,
        "deliver_at": own.deliver_at,
        "rung_at": own.rung_at,
        "surfaced_at": own.surfaced_at,
        "leased_at": own.leased_at,
        "lease_until": own.lease_until,
        "settled_at": own.settled_at,
    }
