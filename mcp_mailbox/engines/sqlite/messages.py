"""Rows of the view as messages."""

from __future__ import annotations

import sqlite3

from mcp_mailbox.engines.sqlite.codec import Codec
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Message, Priority
from mcp_mailbox.view import apply


def whole(codec: Codec, row: sqlite3.Row, to: tuple[str, ...]) -> Message:
    """Return the message with its body. Raises Refusal(STORE_DAMAGED) when it is not what was accepted."""
    body: bytes = row["text"]
    if apply.checksum(row["subject"], body) != row["checksum"]:
        name = codec.id(row["seq"])
        raise Refusal(
            Code.STORE_DAMAGED,
            f"Message {name} is damaged on disk.",
            f"To go on without it, settle {name} with reject; a backup may still have it.",
        )
    return message(codec, row, to, body.decode())


def message(codec: Codec, row: sqlite3.Row, to: tuple[str, ...], body: str) -> Message:
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
    )
