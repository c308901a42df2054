"""What the post office itself writes to a sender: receipts (RFC 8098) and reports of what came to nothing (RFC 3464).

Neither is ever reported on in turn (RFC 5321 section 4.5.5), and a receipt does not ring.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcp_mailbox.delivery import State
from mcp_mailbox.message import SUBJECT_LIMIT, Kind

POSTMASTER = "postmaster"
"""Who signs these (RFC 2142 section 5). Nobody else can have that name."""
SYSTEM = ""
"""The principal to whom the postmaster's mailboxes belong; no credential can speak for it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A receipt or a report, before it is a message."""

    kind: Kind
    subject: str
    body: str


def notice(state: State, *, id: str, subject: str, recipient: str, attempts: int, reason: str) -> Notice:  # noqa: A002
    """Return what the sender of that message is told of its delivery to the recipient, which came to that state."""
    if state is State.ACKED:
        return Notice(Kind.RECEIPT, _subject("Acked", subject), f"{recipient} has acked your message {id}.")
    why = {
        State.REJECTED: "was rejected",
        State.EXPIRED: "expired before anybody was done with it",
        State.DEAD: f"was taken {attempts} times and never acked",
    }[state]
    because = f" The reason given: {reason}" if reason else ""
    kept = f"{recipient} still has it among its dead letters; nobody will be handed it again."
    body = f"Your message {id} to {recipient} {why}.{because}\n{kept}"
    return Notice(Kind.REPORT, _subject("Not delivered", subject), body)


def _subject(what: str, subject: str) -> str:
    return f"{what}: {subject}"[:SUBJECT_LIMIT] if subject else what
