"""What can go wrong, who is to blame, and what to do next.

Every refusal that a user meets is a `Refusal`: a stable `Code`, one sentence of what is wrong and a hint that
says what to do instead. A bug is not a refusal: it stays an ordinary exception, and a front answers it with
"internal error" and an id. This module knows no protocol: each front has one table from `Blame` to its own errors.

    Blame.CALLER   the arguments are wrong: change them
    Blame.STATE    the arguments were fine, the world has moved: look again
    Blame.STORE    neither: the store cannot do it now
"""

from __future__ import annotations

from enum import StrEnum


class Blame(StrEnum):
    """Who has to change something before the same call can succeed."""

    CALLER = "caller"
    STATE = "state"
    STORE = "store"


class Code(StrEnum):
    """What was refused. Codes are part of the interface: add to them, never rename one."""

    BAD_ARGUMENT = "bad_argument"
    BAD_NAME = "bad_name"
    NAME_CONFUSABLE = "name_confusable"
    NAME_TAKEN = "name_taken"
    BODY_TOO_LARGE = "body_too_large"
    NO_MAILBOX = "no_mailbox"
    UNKNOWN_MAILBOX = "unknown_mailbox"
    UNKNOWN_CHANNEL = "unknown_channel"
    UNKNOWN_MESSAGE = "unknown_message"
    KEY_CONFLICT = "key_conflict"
    STALE_LEASE = "stale_lease"
    LEASED_ELSEWHERE = "leased_elsewhere"
    READ_ELSEWHERE = "read_elsewhere"
    LEASE_LIMIT = "lease_limit"
    ALREADY_SETTLED = "already_settled"
    NOT_DEAD = "not_dead"
    STORE_FULL = "store_full"
    STORE_FAILED = "store_failed"
    STORE_DAMAGED = "store_damaged"
    STORE_NEWER = "store_newer"
    STOPPING = "stopping"
    FORBIDDEN = "forbidden"
    RESERVED = "reserved"
    CONTACT_PENDING = "contact_pending"
    CONTACT_DECLINED = "contact_declined"
    NO_REQUEST = "no_request"
    OVER_BUDGET = "over_budget"
    TOO_MANY_HOPS = "too_many_hops"
    NO_FILE = "no_file"
    ATTACHMENT_TOO_LARGE = "attachment_too_large"
    UNKNOWN_ATTACHMENT = "unknown_attachment"
    HUB_AWAY = "hub_away"
    OVER_RATE = "over_rate"
    OVER_WAITERS = "over_waiters"
    OVER_STORAGE = "over_storage"
    OVER_MAILBOXES = "over_mailboxes"
    OUTBOX_FULL = "outbox_full"
    GIVEN_UP = "given_up"
    AT_HUB = "at_hub"


BLAME: dict[Code, Blame] = {
    Code.BAD_ARGUMENT: Blame.CALLER,
    Code.BAD_NAME: Blame.CALLER,
    Code.NAME_CONFUSABLE: Blame.CALLER,
    Code.NAME_TAKEN: Blame.CALLER,
    Code.BODY_TOO_LARGE: Blame.CALLER,
    Code.NO_MAILBOX: Blame.CALLER,
    Code.UNKNOWN_MAILBOX: Blame.CALLER,
    Code.UNKNOWN_CHANNEL: Blame.CALLER,
    Code.UNKNOWN_MESSAGE: Blame.CALLER,
    Code.KEY_CONFLICT: Blame.CALLER,
    Code.STALE_LEASE: Blame.STATE,
    Code.LEASED_ELSEWHERE: Blame.STATE,
    Code.READ_ELSEWHERE: Blame.STATE,
    Code.LEASE_LIMIT: Blame.STATE,
    Code.ALREADY_SETTLED: Blame.STATE,
    Code.NOT_DEAD: Blame.STATE,
    Code.STORE_FULL: Blame.STORE,
    Code.STORE_FAILED: Blame.STORE,
    Code.STORE_DAMAGED: Blame.STORE,
    Code.STORE_NEWER: Blame.STORE,
    Code.STOPPING: Blame.STORE,
    Code.FORBIDDEN: Blame.CALLER,
    Code.RESERVED: Blame.STATE,
    Code.CONTACT_PENDING: Blame.STATE,
    Code.CONTACT_DECLINED: Blame.STATE,
    Code.NO_REQUEST: Blame.STATE,
    Code.OVER_BUDGET: Blame.STATE,
    Code.TOO_MANY_HOPS: Blame.STATE,
    Code.NO_FILE: Blame.CALLER,
    Code.ATTACHMENT_TOO_LARGE: Blame.CALLER,
    Code.UNKNOWN_ATTACHMENT: Blame.CALLER,
    Code.HUB_AWAY: Blame.STORE,
    Code.OVER_RATE: Blame.STATE,
    Code.OVER_WAITERS: Blame.STATE,
    Code.OVER_STORAGE: Blame.STATE,
    Code.OVER_MAILBOXES: Blame.STATE,
    Code.OUTBOX_FULL: Blame.STORE,
    Code.GIVEN_UP: Blame.STATE,
    Code.AT_HUB: Blame.CALLER,
}


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """The answer "no": `code`, what is wrong (`problem`), what to do instead (`hint`)."""

    def __init__(self, code: Code, problem: str, hint: str = "") -> None:
        super().__init__(f"{problem} {hint}".strip())
        self.code = code
        self.problem = problem
        self.hint = hint

    @property
    def blame(self) -> Blame:
        """Who has to change something."""
        return BLAME[self.code]
