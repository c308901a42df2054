"""Consent: what the owner of a mailbox that asks first has said of a stranger, and when a stranger may ask.

A stranger is a mailbox, not a principal: who lets one agent in has not let in all that its owner may ever start. Where
that is kept, and what is told to whom, is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from mcp_mailbox.errors import Code, Refusal

REQUEST_TERM = 30 * 24 * 3600 * 1000
"""ms for which a request waits; its message's time to live, where that is shorter."""
ASK_AGAIN = 24 * 3600 * 1000
"""ms after which a request that nobody has answered may be made again: a short time to live must not ring for ever."""
ASKING_LIMIT = 5
"""Requests of one principal at one mailbox that wait, or lapsed less than `ASK_AGAIN` ago: no more rings by more."""


class Standing(IntEnum):
    """Where a stranger stands. The numbers are what the store holds."""

    ASKED = 0
    """Its first message waits."""
    LET_IN = 1
    DECLINED = 2
    LAPSED = 3
    """Its request ended without an answer: it may ask again, a while after that."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a mailbox knows of a stranger: where it stands, since when (ms since 1970 UTC)."""

    standing: Standing
    at: int


def may_ask(address: str, known: Known | None, asking: int, now: int) -> Refusal | None:
    """Return why a stranger may not ask that mailbox to be let in. `asking` of its principal count there."""
    if known is not None and known.standing is Standing.DECLINED:
        return Refusal(Code.CONTACT_DECLINED, f"{address} does not take your mail.", "Its owner alone can change that.")
    if known is not None and known.standing is Standing.ASKED:
        return Refusal(
            Code.CONTACT_PENDING,
            f"Your first message to {address} still waits for its owner to let you in.",
            "Wait: read of that message shows when it is stored, and a report tells you if it comes to nothing.",
        )
    if known is not None and now < known.at + ASK_AGAIN:
        again = datetime.fromtimestamp((known.at + ASK_AGAIN) / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")
        return Refusal(
            Code.CONTACT_PENDING, f"Nobody has answered your request to {address}.", f"Ask again at {again}."
        )
    if asking >= ASKING_LIMIT:
        return Refusal(
            Code.CONTACT_PENDING,
            f"{asking} mailboxes of your principal have asked {address} to be let in, without an answer.",
            "Wait until its owner has decided on one of them, or a day.",
        )
    return None
