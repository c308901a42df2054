"""A mailbox: a durable named destination that an agent, a person or a worker pool reads."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from mcp_mailbox.addresses import Address
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.presence import Status

ABOUT_LIMIT = 500
"""Characters in `about`."""
SKILL_LIMIT = 20
"""Skills of one mailbox; each has at most 50 characters."""
_SKILL_LENGTH = 50
DEFAULT_ATTEMPTS = 5
MOST_ATTEMPTS = 100
DEFAULT_SHARE = 1
MOST_SHARE = 100


class Kind(StrEnum):
    """Who reads a mailbox."""

    PERSONAL = "personal"
    """One reader at a time."""
    POOL = "pool"
    """Several, who share its work: each message is leased to one of them."""


class Contact(StrEnum):
    """Who besides its own principal may write to a mailbox."""

    OPEN = "open"
    """Anybody who has a mailbox."""
    SPACE = "space"
    """Mailboxes of the same space."""
    ASK = "ask"
    """Whom its owner has let in; the first message of anybody else waits for that."""
    CLOSED = "closed"
    """Nobody."""

    @property
    def is_in_all(self) -> bool:
        """Whether such a mailbox is a member of #all without having joined it."""
        return self is not Contact.CLOSED

    @property
    def hears_known(self) -> bool:
        """Whether it hears there only those whom it takes mail from: a stranger's broadcast asks nobody."""
        return self is Contact.ASK

    def admits(self, *, same_principal: bool, same_space: bool, answers: bool, let_in: bool = False) -> bool:
        """Tell whether a message is let in. An answer to what the mailbox itself has sent always is."""
        return (
            same_principal
            or answers
            or self is Contact.OPEN
            or (self is Contact.SPACE and same_space)
            or (self is Contact.ASK and let_in)
        )

    def shows(self, *, same_space: bool) -> bool:
        """Tell whether other principals may know of the mailbox: they may write to it, or ask whether they may."""
        return self is Contact.ASK or self.admits(same_principal=False, same_space=same_space, answers=False)


DEFAULT_CONTACT = Contact.ASK
"""Of a new mailbox: other principals' first contact waits for its owner's consent."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a mailbox's owner says of itself. None leaves what is there."""

    about: str | None = None
    skills: tuple[str, ...] | None = None
    contact: Contact | None = None
    attempts: int | None = None
    """How often a message may be in a reader's hands without an ack, before it is a dead letter."""
    kind: Kind | None = None
    share: int | None = None
    """How many leases each reader of a pool may hold at once."""
    status: Status | None = None

    def __post_init__(self) -> None:
        """Raise Refusal(BAD_ARGUMENT) for what is too long to be listed, or cannot be."""
        if self.attempts is not None and not 0 < self.attempts <= MOST_ATTEMPTS:
            raise Refusal(Code.BAD_ARGUMENT, f"`attempts` is {self.attempts}.", f"Give 1 to {MOST_ATTEMPTS}.")
        if self.share is not None and not 0 < self.share <= MOST_SHARE:
            raise Refusal(Code.BAD_ARGUMENT, f"`share` is {self.share}.", f"Give 1 to {MOST_SHARE}.")
        if self.about is not None and len(self.about) > ABOUT_LIMIT:
            raise Refusal(Code.BAD_ARGUMENT, f"`about` has {len(self.about)} characters.", f"At most {ABOUT_LIMIT}.")
        skills = self.skills or ()
        if len(skills) > SKILL_LIMIT or any(not 0 < len(skill) <= _SKILL_LENGTH for skill in skills):
            raise Refusal(
                Code.BAD_ARGUMENT,
                "`skills` is too long.",
                f"At most {SKILL_LIMIT} skills of 1 to {_SKILL_LENGTH} characters.",
            )
        for text in (self.about or "", *skills):
            if any(unicodedata.category(character) in {"Cc", "Cs"} and character not in "\n\t" for character in text):
                raise Refusal(Code.BAD_ARGUMENT, "`about` or `skills` has control characters.", "Send plain text.")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox as the store knows it. `owner` is a principal; `unread` counts what a wait could hand out now."""

    address: Address
    owner: str
    about: str
    skills: tuple[str, ...]
    created_at: int
    unread: int
    contact: Contact = DEFAULT_CONTACT
    attempts: int = DEFAULT_ATTEMPTS
    kind: Kind = Kind.PERSONAL
    share: int = DEFAULT_SHARE


@dataclass(frozen=True, slots=True)
class Occupant:
    """Who reads a personal mailbox: a reader, how a person would recognise it, and since when (ms since 1970 UTC)."""

    reader: str
    label: str
    since: int
