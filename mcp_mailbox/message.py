"""A message: what is said, by whom, to whom. Immutable once accepted.

What becomes of it in each mailbox is `delivery.py`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from mcp_mailbox.errors import Code, Refusal

BODY_LIMIT = 256 * 1024
"""Bytes of UTF-8 in a body."""
SUBJECT_LIMIT = 200
"""Characters in a subject."""
KEY_LIMIT = 200
"""Characters in an idempotency key."""
RECIPIENT_LIMIT = 100
"""Addresses that one message can be sent to."""


class Priority(IntEnum):
    """Which mail is read first. The numbers are the order in the store."""

    URGENT = 0
    NORMAL = 1
    LOW = 2

    @property
    def word(self) -> str:
        """The word that agents use."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Draft:
    """What a sender hands in. `key` makes a retry harmless; `reply_to` is a message id or a lease's handle."""

    to: tuple[str, ...]
    body: str
    subject: str = ""
    priority: Priority = Priority.NORMAL
    reply_to: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no mailbox could hold.

        Raises Refusal(BAD_ARGUMENT | BODY_TOO_LARGE).
        """
        if not self.to:
            raise Refusal(Code.BAD_ARGUMENT, "`to` is empty.", "Name at least one address.")
        if len(self.to) > RECIPIENT_LIMIT:
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"`to` has {len(self.to)} addresses.",
                f"At most {RECIPIENT_LIMIT} are allowed.",
            )
        _check_text("body", self.body)
        size = len(self.body.encode())
        if size > BODY_LIMIT:
            raise Refusal(
                Code.BODY_TOO_LARGE,
                f"The body has {size:,} bytes; the limit is {BODY_LIMIT:,}.",
                "Send it in parts, or write a file and send its path.",
            )
        _check_line("subject", self.subject, SUBJECT_LIMIT)
        if self.key is not None:
            _check_line("key", self.key, KEY_LIMIT)
            if not self.key:
                raise Refusal(Code.BAD_ARGUMENT, "`key` is empty.", "Leave it out, or choose one per message.")


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


def _check_text(what: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"`{what}` contains a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}.",
            "Send valid Unicode.",
        ) from None


def _check_line(what: str, text: str, limit: int) -> None:
    _check_text(what, text)
    if len(text) > limit:
        raise Refusal(Code.BAD_ARGUMENT, f"`{what}` has {len(text):,} characters.", f"At most {limit} are allowed.")
    if "\0" in text or text.splitlines() not in ([], [text]):
        raise Refusal(Code.BAD_ARGUMENT, f"`{what}` has a line break or a NUL.", "It is a single line.")
