"""How much of a hub one principal, and one space, may take: what is counted, how much it is, how more is refused.

The loop guard (`loopguard`) keeps agents from themselves, quotas keep the others who use the same hub from one of them.
Defaults are what no agent meets at work; 0 is none. Who is not counted at all is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mcp_mailbox.budgets import moment
from mcp_mailbox.errors import Code, Refusal

RATE_VARIABLE = "MCP_MAILBOX_RATE"
WAITERS_VARIABLE = "MCP_MAILBOX_WAITERS"
SPACE_VARIABLE = "MCP_MAILBOX_SPACE_MIB"
MAILBOXES_VARIABLE = "MCP_MAILBOX_MAILBOXES"

MINUTE = 60 * 1000
"""ms over which the rate of requests is an average: a minute's share may come at once."""
RATE = 250
"""Requests of a principal a second: as many waits as may be open, each asked again after a host's 55 s, are 218."""
WAITERS = 12_000
"""Waits of a principal that are under way: as many as one token may have requests open."""
MIB = 1 << 20
SPACE = 10_240 * MIB
"""Bytes that a space keeps: twenty million messages of an agent's size, or 400 with all that may be attached."""
MAILBOXES = 10_000
"""Mailboxes of a principal: a machine whose agents take a new one each time, thirty a day for a year."""
MESSAGE_BYTES = 512
"""Bytes that a message counts for beside what it says: its row, its key, its words in indexes."""
DELIVERY_BYTES = 128
"""Bytes that each recipient counts for, likewise."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """What each principal and each space may take; 0 for any number."""

    rate: int = RATE
    waiters: int = WAITERS
    space: int = SPACE
    mailboxes: int = MAILBOXES


NONE = Quotas(0, 0, 0, 0)


class Over(Refusal):
    """A quota is used up; `again` is when to try again, in ms since 1970 UTC."""

    def __init__(self, code: Code, problem: str, hint: str, again: int) -> None:
        super().__init__(code, problem, hint)
        self.again = again


def footprint(body: int, recipients: int, attachments: Iterable[int] = (), signature: int = 0) -> int:
    """Return what a message counts for, in bytes: of body, recipients, each attachment, a signature."""
    return MESSAGE_BYTES + DELIVERY_BYTES * recipients + body + sum(attachments) + signature


def over_rate(rate: int, now: int, again: int) -> Over:
    """Return the refusal of a request that comes too soon; there is room for one from `again` on."""
    return Over(
        Code.OVER_RATE,
        f"You have used your {rate * MINUTE // 1000:,} requests a minute, {rate:,} a second on average.",
        f"There is room from {moment(max(again, now))} on: wait until then, and make fewer calls."
        f" Who runs the server may raise {RATE_VARIABLE}.",
        again,
    )


def over_waiters(most: int, used: int, again: int) -> Over:
    """Return the refusal of a wait; the first of those under way ends `again`, if not before."""
    return Over(
        Code.OVER_WAITERS,
        f"{used:,} waits of yours are under way; the limit is {most:,}.",
        f"One ends at {moment(again)} or before: wait again then, or list_inbox now."
        f" Who runs the server may raise {WAITERS_VARIABLE}.",
        again,
    )


def over_storage(space: str, used: int, size: int, most: int) -> Refusal:
    """Return the refusal of a message of that size, in bytes, where `used` of `most` are kept."""
    return Refusal(
        Code.OVER_STORAGE,
        f"The space {space!r} keeps {used / MIB:,.1f} of its {most / MIB:,.1f} MiB; this message is {size:,} bytes.",
        _raise_storage(),
    )


def storage_again(refusal: Refusal, look: int | None) -> Refusal:
    """Say when what is old is removed next; None for never."""
    if look is None:
        return Refusal(refusal.code, refusal.problem, f"Nothing is ever removed here. {_raise_storage()}")
    hint = f"Settled mail that is old goes next at {moment(look)}: settle what is done, and try again then."
    return Over(refusal.code, refusal.problem, f"{hint} {_raise_storage()}", look)


def _raise_storage() -> str:
    return f"Who runs the server may raise {SPACE_VARIABLE}."


def over_mailboxes(most: int) -> Refusal:
    """Return the refusal of one mailbox more."""
    return Refusal(
        Code.OVER_MAILBOXES,
        f"You have {most:,} mailboxes, which is the limit.",
        f"Open one that you have: mailboxes stay. Who runs the server may raise {MAILBOXES_VARIABLE}.",
    )
