"""What the command line may ask a post office to do: JSON objects over the local socket, which only its user reaches.

A request says what to `do` and the arguments; the answer is an object too, with `error`, `message` and `hint` when it
was refused. The command line's half is in `fronts/cli/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcp_mailbox.credentials import ALL_SCOPES, Credential, Scope
from mcp_mailbox.errors import Refusal
from mcp_mailbox.postoffice import Caller, PostOffice
from mcp_mailbox.reservation import Reservation
from mcp_mailbox.tokens import LOCAL, Tokens

Json = dict[str, Any]
_YEAR = 366 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Parts:
    """What commands are about."""

    tokens: Tokens
    office: PostOffice


class _Create(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    principal: str = LOCAL
    scopes: frozenset[Scope] = ALL_SCOPES
    mailbox: str | None = None
    space: str | None = None
    lasts: int | None = Field(default=None, gt=0, lt=100 * _YEAR)


class _Which(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str


class _Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Held(BaseModel):
    model_config = ConfigDict(extra="forbid")
    space: str
    besides: str | None = None


async def _create(parts: Parts, asked: _Create) -> Json:
    credential, secret = await parts.tokens.issue(asked.name, **asked.model_dump(exclude={"name"}))
    rival = await parts.tokens.rival(credential)
    return {**_shown(credential), "token": secret} | ({"rival": rival} if rival is not None else {})


async def _list(parts: Parts, asked: _Nothing) -> Json:
    del asked
    return {"tokens": [_shown(each) for each in await parts.tokens.listed()]}


async def _revoke(parts: Parts, asked: _Which) -> Json:
    return _shown(await parts.tokens.revoke(asked.id))


async def _rotate(parts: Parts, asked: _Which) -> Json:
    credential, secret = await parts.tokens.rotate(asked.id)
    return {**_shown(credential), "token": secret}


async def _held(parts: Parts, asked: _Held) -> Json:
    caller = Caller("command line", LOCAL, asked.space, mailbox=asked.besides)
    return {"reservations": [_described(each) for each in await parts.office.reservations.of_others(caller)]}


_Verb = Callable[[Parts, Any], Awaitable[Json]]
COMMANDS: Mapping[str, tuple[_Verb, type[BaseModel]]] = {
    "token create": (_create, _Create),
    "token list": (_list, _Nothing),
    "token revoke": (_revoke, _Which),
    "token rotate": (_rotate, _Which),
    "reservations": (_held, _Held),
}


async def command(parts: Parts, asked: object) -> Json:
    """Do what is asked. Never raises for what the command line may get wrong."""
    if not isinstance(asked, dict):
        return {"error": "bad_argument", "message": "A command is an object with `do`.", "hint": ""}
    name, given = asked.get("do"), {key: value for key, value in asked.items() if key != "do"}
    verb, arguments = COMMANDS.get(str(name), (None, _Nothing))
    if verb is None:
        hint = "Run `mcp-mailbox stop`: an older version may be running."
        return {"error": "unknown_command", "message": f"No command {name!a}.", "hint": hint}
    try:
        return await verb(parts, arguments.model_validate(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return {"error": "bad_argument", "message": f"{where}: {first['msg']}.", "hint": ""}
    except Refusal as refusal:
        return {"error": str(refusal.code), "message": refusal.problem, "hint": refusal.hint}


def _shown(credential: Credential) -> Json:
    return {
        "id": credential.id,
        "name": credential.name,
        "principal": credential.principal,
        "scopes": sorted(credential.scopes),
        "mailbox": credential.mailbox,
        "space": credential.space,
        "created_at": credential.created_at,
        "expires_at": credential.expires_at,
        "revoked_at": credential.revoked_at,
    }


def _described(held: Reservation) -> Json:
    return {
        "name": held.name,
        "holder": str(held.holder) if held.holder is not None else None,
        "mode": held.mode.value,
        "note": held.note,
        "made_at": held.made_at,
        "until": held.until,
    }
