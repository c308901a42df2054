"""What a verb may be given, as a model or a person writes it, and what that is in the domain's words.

The low-level `Server` validates nothing, and the command line leaves it to the post office, so every call passes
through here. Both err in small ways: a number as text is read as what was meant; what cannot be is refused with what
would do.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mcp_mailbox import presence
from mcp_mailbox.delivery import Outcome, Settlement
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Draft, Format, Priority
from mcp_mailbox.presence import Status
from mcp_mailbox.reservation import DEFAULT_TERM
from mcp_mailbox.store import Listing, Show

M = TypeVar("M", bound="Arguments")

LIST_LIMIT = 100
DEFAULT_LIST_LIMIT = 20
_MANY = 1000
"""Items or parameters that are looked at one by one; no verb takes as many, and each mistake would be spelled out."""
_TOLD = 5
"""Mistakes that are named at once."""
DEFAULT_TIMEOUT = 50.0
"""Seconds that a wait lasts: below the 60 s after which an unknown host gives up."""


def _one_or_several(value: object) -> object:
    if isinstance(value, list) and len(value) > _MANY:
        raise ValueError(f"it has {len(value):,} items, at most {_MANY} are allowed")
    return (value,) if isinstance(value, str) else value


def _one_or_listed(value: object) -> object:
    """Read a list that was written as text, too: as one name its brackets would be taken for a class."""
    if isinstance(value, str) and value.startswith("["):
        try:
            listed = json.loads(value)
        except ValueError:
            return (value,)
        return listed if isinstance(listed, list) else (value,)
    return _one_or_several(value)


def _recipients(value: object) -> object:
    """Read several addresses in one text, too: no address has a comma."""
    several = _one_or_listed(value)
    if not isinstance(several, list | tuple) or not all(isinstance(each, str) for each in several):
        return _one_or_several(several)
    return _one_or_several([part.strip() for each in several for part in re.split("[,;]", each)])


def _time(value: object) -> object:
    """Read an RFC 3339 time as ms since 1970; without an offset it is UTC, as all our times are."""
    if not isinstance(value, str):
        raise ValueError("it must be a time such as 2026-11-22T18:30:00Z")  # noqa: TRY004 - pydantic reads ValueError
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("it must be a time such as 2026-11-22T18:30:00Z") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


Several = Annotated[tuple[str, ...], BeforeValidator(_one_or_several)]
Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_listed)]
Recipients = Annotated[tuple[str, ...], BeforeValidator(_recipients)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Body = str | dict[str, Any] | list[Any] | int | float | bool
"""Text is kept as it is, anything else as JSON."""
Time = Annotated[int, BeforeValidator(_time)]


class Arguments(BaseModel):
    """What all tools share: unknown parameters are refused, and null means "left out"."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_null(cls, data: object) -> object:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class CreateMailbox(Arguments):
    """`create_mailbox`."""

    name: str | None = None
    about: str | None = None
    skills: Several | None = None
    contact: Literal["open", "space", "closed"] | None = None
    attempts: int | None = None
    kind: Literal["personal", "pool"] | None = None
    share: int | None = None
    status: str | None = None
    away: bool | None = None
    status_ttl: Seconds | None = None

    @property
    def said(self) -> Status | None:
        """What it says of itself; None leaves what it said before."""
        if self.status is None and self.away is None:
            if self.status_ttl is not None:
                raise Refusal(Code.BAD_ARGUMENT, "`status_ttl` is given without a status.", "Give `status`, or `away`.")
            return None
        term = presence.DEFAULT_TERM if self.status_ttl is None else round(min(self.status_ttl * 1000, 1e15))
        return Status(self.status or "", self.away or False, term)


class Send(Arguments):
    """`send`."""

    to: Recipients
    body: Body
    subject: str = ""
    cc: Recipients = ()
    priority: Literal["urgent", "normal", "low"] = "normal"
    reply_to: str | None = None
    key: str | None = None
    ttl: Seconds | None = None
    delay: Seconds = 0
    topic: str | None = None
    receipt: bool = False
    mailbox: str | None = None

    @property
    def format(self) -> Format:
        """What the body is."""
        return Format.TEXT if isinstance(self.body, str) else Format.JSON

    @property
    def text(self) -> str:
        """The body as it is stored."""
        if isinstance(self.body, str):
            return self.body
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":"))

    @property
    def draft(self) -> Draft:
        """What is handed in. Raises Refusal for what no mailbox could hold."""
        return Draft(
            self.to,
            self.text,
            self.subject,
            Priority[self.priority.upper()],
            self.reply_to,
            self.key,
            self.cc,
            self.format,
            _ms(self.ttl),
            _ms(self.delay) or 0,
            self.topic,
            self.receipt,
        )


class WaitForMessage(Arguments):
    """`wait_for_message`."""

    mailbox: str | None = None
    timeout: Seconds = DEFAULT_TIMEOUT
    ack: Several = ()
    sender: Annotated[str | None, Field(alias="from")] = None
    thread: str | None = None
    take_over: bool = False


class ListInbox(Arguments):
    """`list_inbox`."""

    mailbox: str | None = None
    limit: Annotated[int, Field(ge=1, le=LIST_LIMIT)] = DEFAULT_LIST_LIMIT
    cursor: str | None = None
    urgent_only: bool = False
    since: Time | None = None
    show: Literal["inbox", "dead", "overdue"] | None = None
    query: str = ""
    sender: Annotated[str | None, Field(alias="from")] = None
    thread: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> ListInbox:
        if self.searches and (self.show or self.urgent_only):
            name = "show" if self.show else "urgent_only"
            raise ValueError(f"{name} is of the inbox; query, from and thread look at all mail. Leave one out")
        return self

    @property
    def searches(self) -> bool:
        """Whether it asks for more than what waits."""
        return bool(self.query or self.sender or self.thread)

    @property
    def listing(self) -> Listing:
        """What to list."""
        return Listing(self.limit, self.cursor, self.urgent_only, self.since, Show(self.show or Show.INBOX))


class Read(Arguments):
    """`read`."""

    id: str
    offset: Annotated[int, Field(ge=0)] = 0
    mailbox: str | None = None


class Settle(Arguments):
    """`settle`."""

    ids: Several
    outcome: Literal["ack", "release", "reject", "extend", "retry", "purge"]
    delay: Seconds | None = None
    reason: str = ""
    mailbox: str | None = None

    @property
    def settlement(self) -> Settlement:
        """What to do with them. Raises Refusal for what cannot be."""
        return Settlement(Outcome(self.outcome), _ms(self.delay) or 0, self.reason)


class Reserve(Arguments):
    """`reserve`."""

    names: Names = ()
    mode: Literal["exclusive", "shared"] = "exclusive"
    ttl: Seconds = DEFAULT_TERM / 1000
    note: str = ""
    release: bool = False
    mailbox: str | None = None

    @property
    def term(self) -> int:
        """The time to live in ms; one beyond any limit stays one."""
        return round(min(self.ttl * 1000, 1e15))


class FindMailboxes(Arguments):
    """`find_mailboxes`."""

    query: str = ""
    skill: str = ""
    space: str | None = None
    limit: Annotated[int, Field(ge=1, le=LIST_LIMIT)] = DEFAULT_LIST_LIMIT
    cursor: str | None = None


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else math.ceil(seconds * 1000)


def parse(model: type[M], tool: str, arguments: Mapping[str, Any] | None) -> M:
    """Return the arguments, or raise Refusal(BAD_ARGUMENT) that names each problem and says what would do."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    if len(arguments or {}) > _MANY:
        problem = f"{tool} was given {len(arguments or {}):,} parameters."
        raise Refusal(Code.BAD_ARGUMENT, problem, f"It takes {', '.join(names)}.")
    try:
        return model.model_validate(dict(arguments or {}), by_alias=True)
    except ValidationError as error:
        items = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [_problem(tool, item["type"], item["loc"], item["msg"]) for item in items]
        problems[_TOLD:] = []
        unknown = next((str(item["loc"][0]) for item in items if item["type"] == "extra_forbidden"), None)
        meant = difflib.get_close_matches(unknown, names, n=1) if unknown else []
        hint = f"Did you mean `{meant[0]}`?" if meant else f"{tool} takes {', '.join(names)}."
        raise Refusal(Code.BAD_ARGUMENT, " ".join(dict.fromkeys(problems)), hint) from None


def _problem(tool: str, kind: str, location: tuple[int | str, ...], said: str) -> str:
    name = ascii(str(location[0]))[1:-1][:40] if location else "arguments"
    if kind == "extra_forbidden":
        return f"{tool} has no parameter `{name}`."
    if kind == "missing":
        return f"`{name}` is required."
    if kind == "tuple_type" or (kind == "string_type" and len(location) > 1):
        return f"`{name}`: give a text or a list of texts."
    return f"`{name}`: {said.removeprefix('Value error, ')}."
