"""What an edge and its hub say to each other: both sides read it by these models (docs/hub.md).

Times are ms since 1970 UTC. What a newer side says besides is passed over.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mcp_mailbox.attachment import COUNT_LIMIT
from mcp_mailbox.fronts.render import PAGE_LIMIT
from mcp_mailbox.message import SIGNATURE_LIMIT

PATH = "/store/v1/"
EDGE_HEADER = "mailbox-edge"
"""The header that says which edge asks: a random name that a machine keeps."""
EDGE_PATTERN = r"[A-Za-z0-9_-]{16,64}"
MARK = "outbox-"
"""Begins the id of what is on its way: the hub's own is not known yet."""
FILE_HEADER = "mailbox-file"
"""The header that says under which name a file is handed in."""
OFFSET_HEADER = "mailbox-offset"
"""Where in it the piece begins that is handed in; 0, and it begins anew."""
PIECE_BYTES = 1 << 20
"""Bytes of a piece at most."""
STAGED_SECONDS = 600.0
"""For which a file that was handed in is kept for the send that names it."""
STAGED_BYTES = 256 << 20
"""Of all files that an edge has handed in and not sent,"""
STAGED_BYTES_EACH = 2 << 30
"""that all edges of a principal have,"""
STAGED_MOST = 5_000
"""and how many files: twice as many as the largest batch of an outbox has."""
FILE_PATTERN = r"[0-9a-f]{32}"
NDJSON = "application/x-ndjson"

HEARTBEAT_SECONDS = 5.0
"""By how much a ring may be late at most, whatever a link does that works from then on."""
BEAT_SECONDS = HEARTBEAT_SECONDS / 4
"""Between two signs of life on a stream."""
SILENT_SECONDS = 0.6 * HEARTBEAT_SECONDS
"""After which a stream is given up, and so is each step of opening one: the rest is for opening it anew."""

SENDS_MOST = 500
"""Sends in one batch."""
NOTES_MOST = 1000
"""Notes in one request, and listened mailboxes in the opening of a stream."""
EVENT_ID_MOST = 64
"""Characters of an event's id."""
DEEPEST = 200
"""Lists and objects in each other: what a verb takes, and what is around it, has fewer."""
GIVEN_BYTES = 1_900_000
"""What a verb is given, as JSON: with who asks it stays below what a request may have."""
WAITED_MS = 1_000
"""An age that is told: who reads it need not know of less. Above a year it is that of a clock that was set."""
LATEST = 253_402_300_799_000
"""The last second of the year 9999, in ms: what is shown in seconds is rounded up."""

UNSEEN_MOST = 5_000
"""Readers of which a hub says at once that nobody is known to have seen what they were handed."""

LIFE_PATTERN = r"[0-9a-f]{0,32}"
Reader = Annotated[str, Field(min_length=1, max_length=100)]
Name = Annotated[str, Field(max_length=300)]
Signature = Annotated[str | None, Field(max_length=SIGNATURE_LIMIT)]


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


_WHOLE = BeforeValidator(_whole)
Int = Annotated[int, _WHOLE]
"""A whole number, however it is spelled: 1.0 is one, too (JSON Schema 2020-12, validation 6.1.1)."""
Ms = Annotated[int, Field(ge=0, le=LATEST), _WHOLE]


class _Said(BaseModel):
    # Strict: 0 is not false, nor is "1" a number. Whoever spells them so means something else, and is told.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Who(_Said):
    """Who asks, at the edge."""

    reader: Reader
    """A relay's id: durable, and nobody else's on that machine."""
    request: str = Field(min_length=1, max_length=200)
    """Repeated only when the same request is: what it did the first time is answered, and not done again."""
    life: str = Field(default="", pattern=f"^{LIFE_PATTERN}$")
    """Of a wait: in which life of the edge it is asked (`Opening.life`). What a wait was handed in an earlier one, and
    reached nobody, is put back."""
    attempt: Int = Field(default=0, ge=0, le=1 << 31)
    """Of a wait: which attempt it is. One that was told to be `reached` or `missed` is done no more if it arrives."""
    space: Name = "default"
    own: Name | None = None
    """The mailbox of calls that name none."""
    mailbox: Name | None = None
    """The one that this call selects."""
    binds: bool = True
    """Whether what the reader opens is its own from then on."""
    several: bool = False
    """Whether other agents may have the same reader's id."""

    @property
    def name(self) -> str:
        """The request's name at the hub: attempts at a wait have one each."""
        return f"{self.request}+{self.life}.{self.attempt}" if self.life else self.request


def is_attempt(name: str, request: str) -> bool:
    """Whether it is the name (`Who.name`) of an attempt at that wait."""
    return name.startswith(f"{request}+")


def is_of_another_life(name: str, life: str) -> bool:
    """Whether it is the name of an attempt at a wait, and of another life of its edge."""
    return "+" in name and f"+{life}." not in name


class Parcel(_Said):
    """A file that was handed in (POST files), and what it is called."""

    name: str = Field(max_length=1000)
    copied: str = Field(pattern=f"^{FILE_PATTERN}$")


Parcels = Annotated[tuple[Parcel, ...], Field(max_length=COUNT_LIMIT, strict=False)]  # a list, in JSON


class Asked(_Said):
    """The body of a verb."""

    who: Who
    given: dict[str, Any] = Field(default_factory=dict)
    """The verb's arguments: those of the tool of that name."""
    label: str = Field(default="a host", max_length=200)
    """How a person would recognise who asks."""
    longest: float | None = Field(default=None, ge=0)
    """Seconds that a wait may last at that host; it is the edge that waits."""
    room: Int = Field(default=PAGE_LIMIT, ge=1000, le=1 << 20)
    """Bytes of a page."""
    full: bool = False
    default: Name | None = None
    """The mailbox that `create_mailbox` makes when none is named."""
    files: Parcels = ()
    """What `send` is to attach."""
    raw: bool = False
    """Whether bodies are wanted as they are, without fences, and what verifies them: who asks fences them."""
    signature: Signature = None
    """Of a `send`: see docs/security.md."""


class Problem(_Said):
    """Why something cannot be, and what to do."""

    error: str = Field(max_length=40)
    message: str = Field(max_length=2000)
    hint: str = Field(default="", max_length=2000)


class Sent(Asked):
    """A line of a batch, mostly of what an outbox had: `number` comes back with its answer.

    `at` is when the edge took it in. `refused`: the edge itself gives it up; nothing is done but to tell its sender.
    """

    number: Int
    verb: Literal["send", "settle"] = "send"
    at: Ms | None = None
    age: Ms | None = None
    """ms for which it has waited there, by that machine's clock, which may be another one than the hub's."""
    refused: Problem | None = None
    heard: bool = False
    """Whether who sends it is there, and hears of a refusal by the answer: nobody else tells it."""


class Bell(_Said):
    """The bell of a reader's host, and when it may be rung."""

    kind: str = Field(max_length=20)
    quiet: str | None = Field(default=None, max_length=20)
    east: Annotated[int, Field(ge=-1440, le=1440), _WHOLE] | None = None
    """By how many minutes the edge's local time, in which `quiet` is, is ahead of UTC."""
    wakes: Int | None = None
    resumed: bool = False


class Note(_Said):
    """Something that is told and not asked.

    `here`: the reader is connected, with its bell if its host has one. `begins`: it is the newest of a host that starts
    one after another. `gone`: it is not any more. `reached` and
    `missed`: what became of the answer to a request. `rang`: somebody was told of mail. `listen` and `deafen`: whether
    rings of a mailbox are wanted. `belled`: what came of a ring (`number`). `stands` and `sits`: something that may be
    rung in the place of a reader of that mailbox, by the name `host`, is there or not any more.
    """

    note: Literal[
        "here", "begins", "gone", "reached", "missed", "rang", "listen", "deafen", "belled", "present", "stands", "sits"
    ]
    who: Who | None = None
    mailbox: Name | None = None
    bell: Bell | None = None
    host: str = Field(default="", max_length=100)
    resumed: bool = False
    number: Int = 0
    outcome: str = Field(default="", max_length=20)
    reason: str = Field(default="", max_length=200)
    readers: list[Reader] = Field(default=[], max_length=20_000)
    """Of `present`: who is connected; everybody else has gone."""
    put_back: bool = True
    former: bool = False
    """Of `reached`: an earlier life of the edge asked for it, by whichever attempt."""


class Notes(_Said):
    """Notes, in their order."""

    notes: list[Note] = Field(max_length=NOTES_MOST)
    life: str = Field(default="", pattern=f"^{LIFE_PATTERN}$")
    """Of the process that tells them (`Opening.life`)."""
    first: Int = Field(default=0, ge=0, le=1 << 62)
    """The number of the first one, counted from 1 in that life; 0: they are not counted. None is done twice, nor out of
    turn: a batch whose answer was lost is told again with what came since, and may arrive once more after that."""


class Opening(_Said):
    """The body that opens a stream."""

    since: str | None = Field(default=None, max_length=EVENT_ID_MOST)
    """The id of the last event that the edge has seen."""
    listens: list[Name] = Field(default=[], max_length=20_000)
    """All mailboxes whose rings it wants."""
    life: str = Field(default="", pattern=f"^{LIFE_PATTERN}$")
    """Of the process that asks, later ones sort behind earlier ones: it knows nothing of what these have asked."""
    space: Name = "default"
