"""The fence: who may settle a delivery, and who comes too late.

A handle carries its lease's generation, and only a claim raises that. So the fence asks no clock: a late ack counts
until somebody else has leased the delivery.
"""

from __future__ import annotations

import sqlite3

from mcp_mailbox.delivery import EVENT_OF, TRANSITIONS, Outcome, State
from mcp_mailbox.engines.sqlite.codec import Handle, unknown_message
from mcp_mailbox.engines.sqlite.rows import waiting_delivery
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.view import query


def fenced(text: str, handle: Handle, waiting: sqlite3.Row, reader: str, now: int) -> Refusal | None:
    """Return why this reader may not settle it: somebody else has leased it since."""
    if handle.generation is not None:
        if handle.generation == waiting["generation"]:
            return None
        return stale_lease(text, again=waiting["reader"] == reader and waiting["lease_until"] > now)
    if waiting["reader"] is None or waiting["reader"] == reader or waiting["lease_until"] <= now:
        return None
    return Refusal(
        Code.LEASED_ELSEWHERE,
        f"Another reader holds {text}.",
        "Leave it, or wait_for_message until it comes back.",
    )


def already_settled(
    db: sqlite3.Connection, mailbox: int, handle: Handle, text: str, outcome: Outcome
) -> Refusal | None:
    """Return None when it was settled that way before, by this lease if by any, else why it cannot be."""
    done = db.execute(query.DONE, (mailbox, handle.seq)).fetchone()
    if done is None:
        about = db.execute(query.PARENT, (handle.seq,)).fetchone()
        return unknown_message(text, sent=about is not None and about["sender"] == mailbox)
    if handle.generation not in (None, done["generation"]):
        return stale_lease(text)
    state = State(done["state"])
    if TRANSITIONS[State.LEASED][EVENT_OF[outcome]] is state:
        return None
    hint = "Retry it, to have it handed out again, or purge it." if done["listed"] else "Nothing is left to do."
    return Refusal(Code.ALREADY_SETTLED, f"{text} is {state.word} already.", hint)


def stale_lease(text: str, *, again: bool = False) -> Refusal:
    """Return the refusal of a handle whose lease somebody else has now, or had last; or the same reader, `again`."""
    return Refusal(
        Code.STALE_LEASE,
        f"The lease of {text} ran out and the message was handed out again.",
        "You have it again: use the id under which it came last." if again else "Leave it: its new reader settles it.",
    )


def not_leased(text: str) -> Refusal:
    """Return the refusal of an extension of what nobody holds."""
    return Refusal(Code.STALE_LEASE, f"Nobody holds a lease of {text}.", "Take it with wait_for_message.")


def held(text: str) -> Refusal:
    """Return the refusal of anything but a decision on what is held."""
    return Refusal(
        Code.CONTACT_PENDING,
        f"{text} waits for you to let its sender in.",
        "Settle it with accept or reject; answering it accepts too.",
    )


def no_request(db: sqlite3.Connection, mailbox: int, handle: Handle, text: str) -> Refusal:
    """Return the refusal of accepting what nobody has asked by."""
    known = waiting_delivery(db, mailbox, handle.seq) or db.execute(query.DONE, (mailbox, handle.seq)).fetchone()
    if known is None:
        return unknown_message(text)
    return Refusal(Code.NO_REQUEST, f"{text} is no request.", 'See list_inbox(show="requests"); mail is acked.')


def not_dead(text: str) -> Refusal:
    """Return the refusal of clearing away what has not come to nothing."""
    return Refusal(Code.NOT_DEAD, f"{text} is no dead letter.", 'See list_inbox(show="dead").')
