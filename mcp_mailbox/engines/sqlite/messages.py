"""Rows of the view as messages, and as how far their deliveries have come."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from mcp_mailbox.attachment import Attachment
from mcp_mailbox.consent import Standing
from mcp_mailbox.delivery import Progress, State
from mcp_mailbox.engines.sqlite.codec import Codec, unknown_message
from mcp_mailbox.engines.sqlite.rows import attached, format_of, owner_of, signature_of, waiting_delivery, written_of
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Kind, Message, Priority
from mcp_mailbox.view import apply, query

_LOOKED_THROUGH = 200
"""Messages of a thread that has lost its first in which a mailbox's part is looked for, the newest ones."""


def whole(
    db: sqlite3.Connection, codec: Codec, row: sqlite3.Row, to: tuple[str, ...], cc: tuple[str, ...] = ()
) -> Message:
    """Return the message with its body. Raises Refusal(STORE_DAMAGED) when it is not what was accepted.

    `to` are all recipients, `cc` those of them who were not rung.
    """
    body: bytes = row["text"]
    attachments = attached(db, row)
    if apply.checksum(row["subject"], body, attachments) != row["checksum"]:
        name = codec.id(row["seq"])
        raise Refusal(
            Code.STORE_DAMAGED,
            f"Message {name} is damaged on disk.",
            f"To go on without it, settle {name} with reject; a backup may still have it.",
        )
    rest = tuple(address for address in to if address not in cc)
    return message(db, codec, row, rest, body.decode(), cc, attachments, signature_of(db, row))


def message(
    db: sqlite3.Connection,
    codec: Codec,
    row: sqlite3.Row,
    to: tuple[str, ...],
    body: str,
    cc: tuple[str, ...] = (),
    attachments: tuple[Attachment, ...] = (),
    signature: str | None = None,
) -> Message:
    """Return the message with that text for a body."""
    return Message(
        id=codec.id(row["seq"]),
        thread=codec.id(row["thread"]),
        sender=f"{row['sender_name']}@{row['sender_space']}",
        to=to,
        subject=row["subject"],
        body=body,
        priority=Priority(row["priority"]),
        accepted_at=row["accepted"],
        reply_to=codec.id(row["reply_to"]) if row["reply_to"] is not None else None,
        cc=cc,
        kind=Kind(row["kind"]),
        format=format_of(row),
        expires_at=row["expires"] or None,
        attachments=attachments,
        principal=row["sender_owner"],
        quotes=bool(row["format"] & apply.QUOTES),
        signature=signature,
        written_at=written_of(db, row),
    )


def progress(row: sqlite3.Row, now: int, rung: int | None = None) -> Progress:
    """Return how far a delivery has come that is not settled; `rung` is when its reader was told, where that is asked.

    What was leased once, and is not known to have been seen, has at least been rung.
    """
    later = row["lease_until"] if row["lease_until"] > now else None
    held = later is not None and row["reader"] is not None
    if held:
        state = State.LEASED
    elif row["seen"]:
        state = State.SURFACED
    else:
        state = State.RUNG if row["leased"] or rung else State.STORED
    return Progress(
        state,
        row["attempts"],
        lease_until=later if held else None,
        deliver_at=None if held else later,
        rung_at=rung,
        surfaced_at=row["seen"] or None,
        leased_at=row["leased"] or None,
    )


def progress_in(db: sqlite3.Connection, box: int, seq: int, now: int) -> Progress | None:
    """Return how far the delivery in that mailbox has come, None when there is none."""
    row = db.execute(query.RUNG, (box, seq)).fetchone()
    rung = row["at"] if row else None
    waiting = waiting_delivery(db, box, seq)
    done = db.execute(query.DONE, (box, seq)).fetchone() if waiting is None else None
    asked = db.execute(query.HELD_FROM, (box, seq)).fetchone()
    if asked is not None and rung is not None and rung < asked["let_in"]:
        rung = None  # that was of other mail: nobody is told of what is held
    if waiting is not None and rung is not None and not waiting["leased"] and rung < waiting["lease_until"]:
        rung = None  # so was that: nobody is told of what is put off
    if waiting is not None:
        found = progress(waiting, now, rung)
    elif done is not None:
        found = settled(done, rung)
    elif asked is not None and asked["standing"] == Standing.ASKED:
        return Progress(State.HELD, held_at=asked["accepted"])
    else:
        return None
    return replace(found, held_at=asked["accepted"], let_in_at=asked["let_in"] or None) if asked is not None else found


def in_a_channel_within_reach(db: sqlite3.Connection, box: int, seq: int, within: str | None = None) -> bool:
    """Whether a message is in a channel that the mailbox's principal could join, so that it may be read there.

    With `within`: in one of that space.
    """
    return db.execute(query.IN_REACH, (box, seq, within)).fetchone() is not None


def progress_of_all(
    db: sqlite3.Connection, recipients: str, names: Sequence[str], seq: int, now: int
) -> tuple[tuple[str, Progress], ...]:
    """Return how far a message has come with each of its recipients: numbers as it keeps them, and names."""
    boxes = json.loads(recipients)
    found = [(name, _told(db, box, progress_in(db, box, seq, now))) for name, box in zip(names, boxes, strict=True)]
    return tuple((name, each) for name, each in found if each is not None)


def _told(db: sqlite3.Connection, box: int, found: Progress | None) -> Progress | None:
    """Return it with whose words the reason is."""
    return replace(found, by=owner_of(db, box)) if found is not None and found.reason else found


def thread_of(codec: Codec, db: sqlite3.Connection, box: int, text: str) -> int:
    """Return the number of the thread that this id is in.

    Raises Refusal(UNKNOWN_MESSAGE) unless the mailbox sent or received that message, or may read it in a channel, or
    something of the thread that it began before it was removed.
    """
    seq = codec.read(text).seq
    row = db.execute(query.PARENT, (seq,)).fetchone()
    if row is not None and _is_of(db, box, seq, row["sender"]):
        return int(row["thread"])
    if row is None:  # of a thread whose first message is gone its number is what is left
        rest = db.execute(query.IN_THREAD, (seq, _LOOKED_THROUGH)).fetchall()
        if any(_is_of(db, box, other["seq"], other["sender"]) for other in rest):
            return seq
    raise unknown_message(text)


def visible(codec: Codec, db: sqlite3.Connection, box: int, text: str) -> int:
    """Return the number of a message.

    Raises Refusal(UNKNOWN_MESSAGE) unless the mailbox sent or received it, or may read it in a channel.
    """
    seq = codec.read(text).seq
    row = db.execute(query.PARENT, (seq,)).fetchone()
    if row is None or not _is_of(db, box, seq, row["sender"]):
        raise unknown_message(text)
    return seq


def _is_of(db: sqlite3.Connection, box: int, seq: int, sender: int) -> bool:
    """Whether that mailbox sent or received the message, or may read it in a channel."""
    return (
        sender == box
        or waiting_delivery(db, box, seq) is not None
        or db.execute(query.DONE, (box, seq)).fetchone() is not None
        or in_a_channel_within_reach(db, box, seq)
    )


def settled(row: sqlite3.Row, rung: int | None = None) -> Progress:
    """Return how far a delivery had come when it ended."""
    return Progress(
        State(row["state"]),
        row["attempts"],
        rung_at=rung,
        surfaced_at=row["seen"] or None,
        leased_at=row["leased"] or None,
        settled_at=row["at"],
        reason=row["reason"],
    )
