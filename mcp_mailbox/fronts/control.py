"""What the command line may ask a post office to do: JSON objects over the local socket, which only its user reaches.

A request says what to `do` and the arguments; the answer is an object too, with `error`, `message` and `hint` when it
was refused. The command line's half is in `fronts/cli/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcp_mailbox.credentials import ALL_SCOPES, Credential, Scope
from mcp_mailbox.errors import Refusal
from mcp_mailbox.tokens import LOCAL, Tokens

Json = dict[str, Any]
_YEAR = 366 * 24 * 3600 * 1000


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


async def _create(tokens: Tokens, asked: _Create) -> Json:
    credential, secret = await tokens.issue(asked.name, **asked.model_dump(exclude={"name"}))
    rival = await tokens.rival(credential)
    return {**_shown(credential), "token": secret} | ({"rival": rival} if rival is not None else {})


async def _list(tokens: Tokens, asked: _Nothing) -> Json:
    del asked
    return {"tokens": [_shown(each) for each in await tokens.listed()]}


async def _revoke(tokens: Tokens, asked: _Which) -> Json:
    return _shown(await tokens.revoke(asked.id))


async def _rotate(tokens: Tokens, asked: _Which) -> Json:
    credential, secret = await tokens.rotate(asked.id)
    return {**_shown(credential), "token": secret}


_Verb = Callable[[Tokens, Any], Awaitable[Json]]
COMMANDS: Mapping[str, tuple[_Verb, type[BaseModel]]] = {
    "token create": (_create, _Create),
    "token list": (_list, _Nothing),
    "token revoke": (_revoke, _Which),
    "token rotate": (_rotate, _Which),
}


async def command(tokens: Tokens, asked: object) -> Json:
    """Do what is asked. Never raises for what the command line may get wrong."""
    if not isinstance(asked, dict):
        return {"error": "bad_argument", "message": "A command is an object with `do`.", "hint": ""}
    name, given = asked.get("do"), {key: value for key, value in asked.items() if key != "do"}
    verb, arguments = COMMANDS.get(str(name), (None, _Nothing))
    if verb is None:
        hint = "Run `mcp-mailbox stop`: an older version may be running."
        return {"error": "unknown_command", "message": f"No command {name!a}.", "hint": hint}
    try:
        return await verb(tokens, arguments.model_validate(given))
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
