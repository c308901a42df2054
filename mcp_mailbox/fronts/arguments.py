"""What a verb may be given, as a model or a person writes it, and what that is in the domain's words.

The low-level `Server` validates nothing, and the command line leaves it to the post office, so every call passes
through here. Both err in small ways: a number as text is read as what was meant; what cannot be is refused with what
would do.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from mcp_mailbox import addresses, presence
from mcp_mailbox.channel import MOST_COUNT
from mcp_mailbox.delivery import Outcome, Settlement
from mcp_mailbox.doorbell import Moment
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import fence, meaning
from mcp_mailbox.mailbox import Contact
from mcp_mailbox.message import Draft, Format, Priority
from mcp_mailbox.presence import Status
from mcp_mailbox.reservation import DEFAULT_TERM
from mcp_mailbox.store import Listing, Show, Wanted

M = TypeVar("M", bound="Arguments")

LIST_LIMIT = 100
DEFAULT_LIST_LIMIT = 20
_TOLD = 5
"""Mistakes that are named at once."""
DEFAULT_TIMEOUT = 50.0
"""Seconds that a wait lasts: below the 60 s after which an unknown host gives up."""
_SEVERAL = "give a text or a list of texts"
_OUTCOME_HINT = "Done is ack, back for anyone is release, never again is reject; a request is let in with accept."
_SHOW_HINT = "Without it you see what waits; what you sent is found with `from`, your own address."
_REASON_HINT = "`reason` is told to the sender; to answer, use send(reply_to)."
_CHANNEL_HINT = 'Give `from` "#name" for what is in a channel.'
_EXAMPLES = {
    "to": 'Such as "bob", or ["bob", "carol"].',
    "cc": 'Such as "bob", or ["bob", "carol"].',
    "attach": 'Paths of files, such as ["docs/plan.md"]; what is no file goes into `body`.',
}
_KINDS = {"string": "Give a text.", "bool": "Give true or false."}
_MISSING = {
    "to": "Name whom you write to; to answer, `from` of the message.",
    "body": "Say what you have to say in `body`.",
    "id": "Copy an id from list_inbox or wait_for_message.",
    "ids": "Copy the ids of what wait_for_message gave you.",
    "outcome": _OUTCOME_HINT,
}
"""Where to get what is missing."""
_IDS = {"id", "ids", "ack", "reply_to", "thread"}
"""Parameters that name messages."""

# `json_schema_input_type` is what the description of the store API says that a reader takes.
_Texts = str | list[str]
_Span = Annotated[float, Field(ge=0)] | str
_Moment = int | str


def _whole(least: int, most: int | None = None, hint: str = "") -> BeforeValidator:
    return BeforeValidator(meaning.whole(least, most, hint), json_schema_input_type=Annotated[int, Field(ge=least)])


Skills = Annotated[tuple[str, ...], BeforeValidator(meaning.skills, json_schema_input_type=_Texts)]
Names = Annotated[tuple[str, ...], BeforeValidator(meaning.names, json_schema_input_type=_Texts)]
Paths = Annotated[tuple[str, ...], BeforeValidator(meaning.paths, json_schema_input_type=_Texts)]
Recipients = Annotated[tuple[str, ...], BeforeValidator(meaning.recipients, json_schema_input_type=_Texts)]
Ids = Annotated[tuple[str, ...], BeforeValidator(meaning.ids, json_schema_input_type=_Texts)]
Id = Annotated[str, BeforeValidator(meaning.one_id)]
Mailbox = Annotated[str, BeforeValidator(meaning.one_address)]
NewName = Annotated[str, BeforeValidator(meaning.new_name)]
OneChannel = Annotated[str, BeforeValidator(meaning.one_channel)]
OneText = Annotated[str, BeforeValidator(meaning.one_text), AfterValidator(fence.bare)]
"""As an answer shows it, with its fence or without."""
Line = Annotated[str, BeforeValidator(meaning.line)]
Words = Annotated[str, BeforeValidator(meaning.words, json_schema_input_type=_Texts)]
Seconds = Annotated[float, BeforeValidator(meaning.seconds, json_schema_input_type=_Span)]
Count = Annotated[int, _whole(0)]
Kept = Annotated[int, _whole(1, hint=f"Give how many messages it keeps, 1 to {MOST_COUNT:,}.")]
"""True is not one: a channel that is to keep what is said in it would drop all but the last message."""
Limit = Annotated[int, _whole(1, LIST_LIMIT)]
"""More than a page can have is a page: `next` leads on."""
Time = Annotated[int, BeforeValidator(meaning.moment, json_schema_input_type=_Moment)]
Beginning = Annotated[int | str, BeforeValidator(meaning.beginning, json_schema_input_type=_Moment)]
Body = str | dict[str, Any] | list[Any] | int | float | bool
"""Text is kept as it is, anything else as JSON."""

Sender = Annotated[Mailbox | None, Field(alias="from")]

_PRIORITIES = {"high": "urgent", "critical": "urgent", "medium": "normal", "default": "normal"}
"""Words of scales that have a top and a middle as ours has. Not numbers: 1 may be the first or the least."""
_OUTCOMES = dict.fromkeys(
    ("done", "acked", "acknowledge", "acknowledged", "complete", "completed"), "ack"
) | dict.fromkeys(("accepted", "admit", "allow", "approve", "approved"), "accept")
"""Words for done, and for letting in: what is no request is not harmed by that.

Not `nack`, `fail` or `delete`: whether the message is to come back, they do not say.
"""


_CONTACTS = {"ask_first": "ask", "ask first": "ask"}
_SHOWS = {"request": "requests", **dict.fromkeys(("dead_letters", "dead letters", "deadletters"), "dead")}


def _choice(*words: str, also: Mapping[str, str] | None = None, hint: str = "") -> BeforeValidator:
    return BeforeValidator(meaning.choice(words, also, hint))


class Arguments(BaseModel):
    """What all tools share: unknown parameters are refused, and null means "left out"."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    also: ClassVar[Mapping[str, str]] = {}
    """Other words for a parameter, taken for it. Only words that mean the same thing in the same unit."""
    instead: ClassVar[Mapping[str, str]] = {}
    """What to say to words that mean something else, or may."""

    @model_validator(mode="before")
    @classmethod
    def _drop_null(cls, data: object) -> object:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class CreateMailbox(Arguments):
    """`create_mailbox`."""

    also = {"mailbox": "name", "mailbox_name": "name", "address": "name", "description": "about", "ttl": "status_ttl"}

    instead = dict.fromkeys(("channel", "channels"), "subscribe joins a channel, one in each call.")

    name: NewName | None = None
    about: str | None = None
    skills: Skills | None = None
    contact: Annotated[Literal["open", "space", "ask", "closed"], _choice(*Contact, also=_CONTACTS)] | None = None
    attempts: Count | None = None
    kind: Annotated[Literal["personal", "pool"], _choice("personal", "pool")] | None = None
    share: Count | None = None
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

    also = {
        "recipient": "to",
        "recipients": "to",
        "message": "body",
        "content": "body",
        "text": "body",
        "title": "subject",
        "in_reply_to": "reply_to",
        "idempotency_key": "key",
        "channel": "to",
        **dict.fromkeys(("attachments", "attachment", "files", "file"), "attach"),
    }
    instead = {
        "from": "Who sends is your mailbox; `mailbox` selects another of yours.",
        "sender": "Who sends is your mailbox; `mailbox` selects another of yours.",
        "thread": "Give `reply_to`, an id in the thread.",
        "thread_id": "Give `reply_to`, an id in the thread.",
        "urgent": 'Give `priority` "urgent".',
        "bcc": "Give `cc`, or send it once more.",
    }

    to: Recipients
    body: Body
    subject: Line = ""
    cc: Recipients = ()
    priority: Annotated[Literal["urgent", "normal", "low"], _choice("urgent", "normal", "low", also=_PRIORITIES)] = (
        "normal"
    )
    reply_to: Id | None = None
    key: str | None = None
    ttl: Seconds | None = None
    delay: Seconds = 0
    topic: str | None = None
    receipt: bool = False
    attach: Paths = ()
    mailbox: Mailbox | None = None

    @model_validator(mode="after")
    def _can_be_read(self) -> Send:
        if not isinstance(self.body, str):
            meaning.check_json(self.body)
        return self

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

    also = {"sender": "from", "thread_id": "thread", "timeout_seconds": "timeout", "acks": "ack"}
    instead = dict.fromkeys(
        ("id", "ids", "message_id", "reply_to"), "To wait for an answer give `thread`; what you are done with, `ack`."
    ) | {"channel": _CHANNEL_HINT}

    mailbox: Mailbox | None = None
    timeout: Seconds = DEFAULT_TIMEOUT
    ack: Ids = ()
    sender: Sender = None
    thread: Id | None = None
    take_over: bool = False

    def wanted(self, space: str) -> Wanted:
        """Return what is waited for, by names of that space. Raises Refusal for what is no address."""
        return Wanted(addresses.parse_any(self.sender, space) if self.sender else None, self.thread)


class ListInbox(Arguments):
    """`list_inbox`."""

    also = {"sender": "from", "thread_id": "thread", "search": "query", "q": "query", "max_results": "limit"}
    instead = {
        "id": "read shows one message.",
        "offset": "Give `cursor`, `next` of the page before.",
        "channel": _CHANNEL_HINT,
        "dead": 'Give `show` "dead".',
        "overdue": 'Give `show` "overdue".',
        "requests": 'Give `show` "requests".',
        "unread": "What waits is listed without it.",
        "urgent": "Give `urgent_only`.",
        **dict.fromkeys(("before", "until"), "There is `since` alone; `cursor` goes on, to what is older in a search."),
        **dict.fromkeys(("state", "status", "filter", "folder"), f"`show` is one of {', '.join(Show)}."),
        "to": "Give `from` your own address for what you sent, or words as `query`.",
    }

    mailbox: Mailbox | None = None
    limit: Limit = DEFAULT_LIST_LIMIT
    cursor: str | None = None
    urgent_only: bool = False
    since: Time | None = None
    show: (
        Annotated[
            Literal["inbox", "dead", "overdue", "requests"],
            _choice(*Show, also=_SHOWS, hint=f"Give one of them. {_SHOW_HINT}"),
        ]
        | None
    ) = None
    query: Words = ""
    sender: Sender = None
    thread: Id | None = None

    @model_validator(mode="after")
    def _is_one(self) -> ListInbox:
        if self.searches and (self.show or self.urgent_only):
            name = "show" if self.show else "urgent_only"
            raise meaning.wrong(
                f"`{name}` is of the inbox, and `query`, `from` and `thread` look at all mail", "Leave one out."
            )
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

    also = {
        "message_id": "id",
        "message": "id",
        "ids": "id",
        **dict.fromkeys(("attachments", "file", "filename", "name"), "attachment"),
    }

    id: Id
    offset: Count = 0
    attachment: OneText | None = None
    mailbox: Mailbox | None = None


class Entire(Arguments):
    """`entire`: a message with its whole body, for what is no model."""

    id: Id
    mailbox: Mailbox | None = None


class Own(Arguments):
    """`own`: which mailbox a call acts for."""


class Mailboxes(Arguments):
    """`mailboxes`: one's own, behind the name `after`, or those that begin with `prefix`."""

    limit: Annotated[int, Field(ge=1, le=1000)] = LIST_LIMIT
    after: str = ""
    prefix: str | None = None


class Arrivals(Arguments):
    """`arrivals`: what came behind `place`; without one nothing, and the place of what comes."""

    place: str | None = None


class Remind(Arguments):
    """`remind`: what a hook is to say at that moment of a session."""

    event: Moment


class News(Arguments):
    """`news`: what would ring somebody, once there is more than `besides`."""

    besides: Annotated[tuple[str, ...], Field(max_length=1000)] = ()


class Held(Arguments):
    """`held`: what others than `besides` have reserved in the caller's space."""

    besides: str | None = None


class Settle(Arguments):
    """`settle`."""

    also = {"id": "ids", "message_id": "ids", "message_ids": "ids", "seconds": "delay"} | dict.fromkeys(
        ("action", "state", "status"), "outcome"
    )
    instead = dict.fromkeys(("message", "body", "note", "comment"), _REASON_HINT) | {
        "ack": 'Give `ids`, and "ack" as `outcome`.'
    }

    ids: Ids
    outcome: Annotated[
        Literal["ack", "release", "reject", "extend", "retry", "purge", "accept"],
        _choice(*Outcome, also=_OUTCOMES, hint=_OUTCOME_HINT),
    ]
    delay: Seconds | None = None
    reason: str = ""
    mailbox: Mailbox | None = None

    @property
    def ends(self) -> bool:
        """Whether what it is done to does not wait any more."""
        return self.outcome in {Outcome.ACK, Outcome.REJECT, Outcome.PURGE, Outcome.ACCEPT}

    @property
    def settlement(self) -> Settlement:
        """What to do with them. Raises Refusal for what cannot be."""
        return Settlement(Outcome(self.outcome), _ms(self.delay) or 0, self.reason)


class Reserve(Arguments):
    """`reserve`."""

    also = {"paths": "names", "path": "names", "files": "names", "file": "names", "pattern": "names", "name": "names"}
    instead = dict.fromkeys(("exclusive", "shared"), 'Give `mode`, "exclusive" or "shared".')

    names: Names = ()
    mode: Annotated[Literal["exclusive", "shared"], _choice("exclusive", "shared")] = "exclusive"
    ttl: Seconds = DEFAULT_TERM / 1000
    note: str = ""
    release: bool = False
    mailbox: Mailbox | None = None

    @property
    def term(self) -> int:
        """The time to live in ms; one beyond any limit stays one."""
        return round(min(self.ttl * 1000, 1e15))


class Subscribe(Arguments):
    """`subscribe`."""

    also = {"from": "since", "unsubscribe": "leave"} | dict.fromkeys(("name", "channels", "topic", "to"), "channel")
    instead = {
        "join": "To join give `channel` alone.",
        "action": "To join give `channel` alone; to leave, `leave` true.",
        "replay": 'Give `since`, such as "all".',
        "members": "Each joins by itself.",
        **dict.fromkeys(("message", "body", "text"), 'To publish use send(to="#name").'),
        **dict.fromkeys(("about", "description"), "A channel has a name only."),
    }

    channel: OneChannel = ""
    leave: bool = False
    since: Beginning | None = None
    keep: Kept | None = None
    cursor: str | None = None
    mailbox: Mailbox | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Subscribe:
        if self.leave and (self.since is not None or self.keep is not None):
            raise meaning.wrong("`leave` goes with `channel` alone", "Leave `since` and `keep` out.")
        if not self.channel and (self.leave or self.since is not None or self.keep is not None):
            raise meaning.wrong(
                "`channel` is missing: without it channels are listed", 'Give `channel`, such as "#build".'
            )
        if self.channel and self.cursor is not None:
            raise meaning.wrong("`cursor` is of the list of channels", "Leave `channel` or `cursor` out.")
        return self


class FindMailboxes(Arguments):
    """`find_mailboxes`."""

    also = {"search": "query", "q": "query", "name": "query"}
    instead = {
        "online": "Each says whether it is online.",
        **dict.fromkeys(("channel", "channels"), "subscribe() lists channels."),
    }

    query: Words = ""
    skill: Annotated[str, AfterValidator(fence.bare)] = ""
    space: str | None = None
    limit: Limit = DEFAULT_LIST_LIMIT
    cursor: str | None = None


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else math.ceil(min(seconds * 1000, 1e15))


@cache
def _names(model: type[Arguments]) -> Sequence[str]:
    """Return how its arguments are spelled."""
    return [field.alias or name for name, field in model.model_fields.items()]


def parse(model: type[M], tool: str, arguments: Mapping[str, Any] | None) -> M:
    """Return the arguments, or raise Refusal(BAD_ARGUMENT) that names each problem and says what would do."""
    names = _names(model)
    given = arguments or {}
    if len(given) > meaning.MOST:
        problem = f"{tool} was given {len(given):,} parameters."
        raise Refusal(Code.BAD_ARGUMENT, problem, f"It takes {', '.join(names)}.")
    try:
        return model.model_validate(meaning.spelled(given, names, model.also), by_alias=True)
    except ValidationError as error:
        mistakes = [_mistake(model, tool, names, each) for each in error.errors(include_url=False)[:_TOLD]]
        problems, hints = (dict.fromkeys(texts) for texts in zip(*mistakes, strict=True))
        # What is known of one mistake helps more than what is said of all.
        told = [hint for hint in hints if hint] or [f"{tool} takes {', '.join(names)}."]
        raise Refusal(Code.BAD_ARGUMENT, " ".join(problems), " ".join(told)) from None


def written(asked: Arguments, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that were read as they are to be handed on: under their own names, ids as they were meant."""
    found = meaning.spelled(given, _names(type(asked)), asked.also)
    for name in _IDS & found.keys():
        meant = getattr(asked, name)
        found[name] = list(meant) if isinstance(meant, tuple) else meant
    return found


def _mistake(model: type[Arguments], tool: str, names: Sequence[str], error: ErrorDetails) -> tuple[str, str]:
    """Return what is wrong, and what to do where that is known."""
    kind, location = error["type"], error["loc"]
    name = ascii(str(location[0]))[1:-1][:40] if location else "arguments"
    if kind == "extra_forbidden":
        return f"{tool} has no parameter `{name}`.", _meant(model, names, name) or f"{tool} takes {', '.join(names)}."
    if kind == "missing":
        return f"`{name}` is required.", _MISSING.get(name, "")
    if kind == meaning.WRONG:
        problem = f"{error['ctx']['problem']}."
        return f"`{name}`: {problem}" if location else problem, error["ctx"]["hint"]
    if kind == "tuple_type" or (kind == "string_type" and len(location) > 1):
        return f"`{name}`: {_SEVERAL}.", _EXAMPLES.get(name, "")
    wanted = next((text for prefix, text in _KINDS.items() if kind.startswith(prefix)), None)
    if wanted is not None:
        return f"`{name}`: {meaning.shown(error['input'])} will not do.", wanted
    return f"`{name}`: {error['msg'].removeprefix('Value error, ')}.", ""


def _meant(model: type[Arguments], names: Sequence[str], name: str) -> str:
    """Return what to do instead of giving a parameter that there is not."""
    word = meaning.snake(name)
    if word in model.instead:
        return model.instead[word]
    if model.also.get(word, word) in names:
        return f"`{model.also.get(word, word)}` is given already: give one of them."
    close = difflib.get_close_matches(word, names, n=1)
    return f"Did you mean `{close[0]}`?" if close else ""
