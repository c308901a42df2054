"""A message: what is said, by whom, to whom. Immutable once accepted.

What becomes of it in each mailbox is `delivery.py`'s business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from mcp_mailbox.attachment import Attachment, check_count
from mcp_mailbox.errors import Code, Refusal

BODY_LIMIT = 256 * 1024
"""Bytes of UTF-8 in a body."""
SUBJECT_LIMIT = 200
"""Characters in a subject."""
KEY_LIMIT = 200
"""Characters in an idempotency key."""
RECIPIENT_LIMIT = 100
"""Addresses that one message can be sent to."""
TOPIC_LIMIT = 100
"""Characters in a topic."""
SIGNATURE_LIMIT = 8_192
"""Characters of a signature."""
_SIGNATURE = re.compile(rf"[A-Za-z0-9._-]{{1,{SIGNATURE_LIMIT}}}", re.ASCII)
LONGEST = 365 * 24 * 3600 * 1000
"""ms of a time to live; a message may be held back for a twelfth of that."""


class Priority(IntEnum):
    """Which mail is read first. The numbers are the order in the store."""

    URGENT = 0
    NORMAL = 1
    LOW = 2

    @property
    def word(self) -> str:
        """The word that agents use."""
        return self.name.lower()


class Kind(IntEnum):
    """Who speaks: somebody, or the post office of what became of a message. The numbers are what the store holds."""

    MESSAGE = 0
    RECEIPT = 1
    """It was acked, and the sender had asked to be told (RFC 8098)."""
    REPORT = 2
    """It came to nothing (RFC 3464)."""
    REQUEST = 3
    """A stranger asks to be let in."""

    @property
    def word(self) -> str:
        """The word that agents read."""
        return self.name.lower()


class Format(IntEnum):
    """What a body is. The numbers are what the store holds."""

    TEXT = 0
    JSON = 1

    @property
    def word(self) -> str:
        """The word that programs read."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Draft:
    """What a sender hands in. Durations are in ms.

    `key` makes a retry harmless; `reply_to` is a message id or a lease's handle. Who is in `cc` gets the message but is
    not rung. After `ttl` nobody is handed it any more; before `delay` is over nobody is yet. Of what one sender sends
    one mailbox under one `topic`, only the newest that nobody has seen is kept. `receipt` asks to be told of the ack.
    `attachments` are contents that were kept before (`store.attachments`). The same content under another signature,
    or written at another time, is the same message.
    """

    to: tuple[str, ...]
    body: str
    subject: str = ""
    priority: Priority = Priority.NORMAL
    reply_to: str | None = None
    key: str | None = None
    cc: tuple[str, ...] = ()
    format: Format = Format.TEXT
    ttl: int | None = None
    delay: int = 0
    topic: str | None = None
    receipt: bool = False
    attachments: tuple[Attachment, ...] = ()
    signature: str | None = None
    """What the sender's own machine has signed it with: handed on as it is, and read by nobody here."""
    written: int | None = None
    """When its sender was answered, in ms since 1970 UTC, where it has waited since: `ttl` and `delay` begin then."""

    def __post_init__(self) -> None:
        """Refuse what no mailbox could hold.

        Raises Refusal(BAD_ARGUMENT | BODY_TOO_LARGE).
        """
        if not self.to:
            raise Refusal(Code.BAD_ARGUMENT, "`to` is empty.", "Name at least one address.")
        if len(self.to) + len(self.cc) > RECIPIENT_LIMIT:
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"`to` and `cc` have {len(self.to) + len(self.cc)} addresses.",
                f"At most {RECIPIENT_LIMIT} are allowed.",
            )
        check_text("body", self.body)
        size = len(self.body.encode())
        if size > BODY_LIMIT:
            raise Refusal(
                Code.BODY_TOO_LARGE,
                f"The body has {size:,} bytes; the limit is {BODY_LIMIT:,}.",
                "Send it in parts, or attach a file.",
            )
        _check_line("subject", self.subject, SUBJECT_LIMIT)
        if self.key is not None:
            _check_line("key", self.key, KEY_LIMIT)
            if not self.key:
                raise Refusal(Code.BAD_ARGUMENT, "`key` is empty.", "Leave it out, or choose one per message.")
        self._check_options()
        check_count(len(self.attachments))
        if self.signature is not None and not _SIGNATURE.fullmatch(self.signature):
            raise Refusal(
                Code.BAD_ARGUMENT,
                "The signature is none that could be handed on.",
                f"It is a JWS in its compact form, of at most {SIGNATURE_LIMIT:,} characters.",
            )

    def _check_options(self) -> None:
        if self.topic is not None:
            _check_line("topic", self.topic, TOPIC_LIMIT)
            if not self.topic:
                raise Refusal(Code.BAD_ARGUMENT, "`topic` is empty.", "Leave it out, or name one.")
        if self.ttl is not None and not 0 < self.ttl <= LONGEST:
            raise Refusal(Code.BAD_ARGUMENT, "`ttl` is out of range.", "Give seconds, above 0 and up to a year.")
        if not 0 <= self.delay <= LONGEST // 12:
            raise Refusal(Code.BAD_ARGUMENT, "`delay` is out of range.", "Give seconds, from 0 to 30 days.")
        if self.ttl is not None and self.ttl <= self.delay:
            raise Refusal(Code.BAD_ARGUMENT, "`ttl` ends before `delay`: nobody would ever get it.", "Raise `ttl`.")


@dataclass(frozen=True, slots=True)
class Message:
    """An accepted message.

    `accepted_at` is the store's time in ms since 1970 UTC; `thread` is the id of its first message.
    """

    id: str
    thread: str
    sender: str
    to: tuple[str, ...]
    subject: str
    body: str
    priority: Priority
    accepted_at: int
    reply_to: str | None = None
    cc: tuple[str, ...] = ()
    kind: Kind = Kind.MESSAGE
    format: Format = Format.TEXT
    expires_at: int | None = None
    attachments: tuple[Attachment, ...] = ()
    principal: str = ""
    """Whose the sender's mailbox is; nobody's but the post office's where it is empty."""
    quotes: bool = False
    """Of a notice: whether it has words of another principal than whom it is for."""
    signature: str | None = None
    written_at: int | None = None
    """When its sender was answered, where it has waited elsewhere before it was accepted."""

    def is_strangers(self, reader: str) -> bool:
        """Whether it has words of another principal than the reader: data for it, and never what its user wants."""
        return self.quotes if self.kind is not Kind.MESSAGE else self.principal != reader


def check_text(what: str, text: str) -> None:
    """Raise Refusal(BAD_ARGUMENT) for what is no Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"`{what}` contains a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}.",
            "Send valid Unicode.",
        ) from None


def _check_line(what: str, text: str, limit: int) -> None:
    check_text(what, text)
    if len(text) > limit:
        raise Refusal(Code.BAD_ARGUMENT, f"`{what}` has {len(text):,} characters.", f"At most {limit} are allowed.")
    if "\0" in text or text.splitlines() not in ([], [text]):
        raise Refusal(Code.BAD_ARGUMENT, f"`{what}` has a line break or a NUL.", "Write it in one line.")
