"""Messages: stored with a delivery for each recipient, published, and removed with all that is kept of them."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from mcp_mailbox import quotas
from mcp_mailbox.attachment import Attachment
from mcp_mailbox.view import query
from mcp_mailbox.view.apply.deliveries import delivered
from mcp_mailbox.view.query import FOREVER

ATTACHED = 16
"""In `message.format`: there are rows of `attachment`. Whoever reads a message without any asks for none."""
SIGNED = 32
"""There, too: there is a row of `signature`."""
QUOTES = 64
"""There, too: it is a notice that has words of another principal than whom it is for."""
LATE = 128
"""There, too: there is a row of `written`."""
FLAGS = ATTACHED | SIGNED | QUOTES | LATE
_PREVIEW_LENGTH = 120
# The ring that was of message ?2, when it is of no other.
_FORGET_RING = f"""
DELETE FROM ring WHERE mailbox = ?1 AND seq = (SELECT min(seq) FROM ring WHERE mailbox = ?1 AND seq >= ?2)
AND NOT {delivered("ifnull((SELECT max(seq) FROM ring WHERE mailbox = ?1 AND seq < ?2), 0)", "ring.seq")}
"""  # noqa: S608 - constants only


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A row of `message`; no thread: it begins one. `cc` is a part of the recipients; channels are negative there."""

    thread: int | None
    sender: int
    space: str
    """The sender's."""
    recipients: Sequence[int]
    reply_to: int | None
    priority: int
    accepted: int
    subject: str
    body: str
    cc: Sequence[int] = ()
    kind: int = 0
    format: int = 0
    expires: int = 0
    receipt: bool = False
    topic: str | None = None
    deliver_at: int = 0
    held: Collection[int] = ()
    """Those of the recipients who have to let it in first."""
    hops: int = 0
    attachments: Sequence[Attachment] = ()
    quotes: bool = False
    signature: str | None = None
    written: int | None = None

    @property
    def flags(self) -> int:
        """What its format says besides."""
        signed = SIGNED if self.signature is not None else 0
        late = LATE if self.written is not None else 0
        return (ATTACHED if self.attachments else 0) | signed | (QUOTES if self.quotes else 0) | late


def store_message(db: sqlite3.Connection, new: NewMessage) -> int:
    """Insert a message and a stored delivery for each recipient that does not hold it; return its number."""
    body = new.body.encode()
    cursor = db.execute(
        "INSERT INTO message (thread, sender, recipients, reply_to, priority, accepted, size, checksum,"
        " kind, format, expires, receipt, cc, subject, preview, body, hops)"
        " VALUES (ifnull(?, (SELECT seq + 1 FROM sqlite_sequence WHERE name = 'message')),"
        " ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.thread,
            new.sender,
            _array(new.recipients),
            new.reply_to,
            new.priority,
            new.accepted,
            len(body),
            checksum(new.subject, body, new.attachments),
            new.kind,
            new.format | new.flags,
            new.expires,
            new.receipt,
            _array(new.cc),
            new.subject,
            preview(new.body),
            new.body,
            new.hops,
        ),
    )
    seq = cursor.lastrowid
    assert seq is not None  # noqa: S101 - an INSERT has a row
    if new.attachments:
        db.executemany(
            "INSERT INTO attachment (message, position, name, type, size, sha256) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (seq, position, each.name, each.type, each.size, bytes.fromhex(each.sha256))
                for position, each in enumerate(new.attachments)
            ],
        )
    if new.signature is not None:
        db.execute("INSERT INTO signature (message, jws) VALUES (?, ?)", (seq, new.signature))
    if new.written is not None:
        db.execute("INSERT INTO written (message, at) VALUES (?, ?)", (seq, new.written))
    attached = [each.size for each in new.attachments]
    _weigh(db, new.space, quotas.footprint(len(body), len(new.recipients), attached, len(new.signature or "")))
    rest = (new.deliver_at, new.expires, new.topic)
    stored = [each for each in new.recipients if each > 0 and each not in new.held]
    db.executemany(
        "INSERT INTO inbox (mailbox, priority, seq, sender, thread, lease_until, expires, topic)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(mailbox, new.priority, seq, new.sender, new.thread or seq, *rest) for mailbox in stored],
    )
    db.executemany("UPDATE counter SET unsettled = unsettled + 1 WHERE mailbox = ?", [(each,) for each in stored])
    for each in new.recipients:
        if each < 0:
            _publish(db, -each, seq, new, len(body))
    return seq


def _weigh(db: sqlite3.Connection, space: str, size: int) -> None:
    """Count what a message adds to the sender's space."""
    if not db.execute("UPDATE space_size SET bytes = bytes + ? WHERE space = ?", (size, space)).rowcount:
        db.execute("INSERT INTO space_size (space, bytes) VALUES (?, ?)", (space, size))


def _publish(db: sqlite3.Connection, channel: int, seq: int, new: NewMessage, size: int) -> None:
    """Give a message the next place in a channel: as much for a thousand members as for one."""
    db.execute(
        "INSERT INTO channel_message (channel, place, seq, sender, at, below, deliver_at, expires, topic)"
        " SELECT id, last + 1, ?, ?, ?, bytes, ?, ?, ? FROM channel WHERE id = ?",
        (seq, new.sender, new.accepted, new.deliver_at, new.expires, new.topic, channel),
    )
    # Whoever has read all there is need not come for what it says itself.
    db.execute(
        f"UPDATE subscription SET place = place + 1 WHERE mailbox = ? AND channel = ? AND +until = {FOREVER}"  # noqa: S608
        " AND place = (SELECT last FROM channel WHERE id = ?)",
        (new.sender, channel, channel),
    )
    db.execute(
        "UPDATE channel SET last = last + 1, bytes = bytes + ?, published = ? WHERE id = ?",
        (size, new.accepted, channel),
    )


def forget_message(db: sqlite3.Connection, seq: int, recipients: Iterable[int]) -> None:
    """Remove a message, its deliveries to these recipients, and all that is kept of them; none is unsettled.

    Whatever else is to be kept of a message is to be removed here. Contents of attachments are let go later.
    """
    rows: list[tuple[int, int]] = []
    for each in recipients:
        mailboxes = [each] if each > 0 else [row[0] for row in db.execute(query.CAME_TO, (-each, seq)).fetchall()]
        rows += [(mailbox, seq) for mailbox in mailboxes]
    weighed = db.execute(query.WEIGHED, (seq,)).fetchone()
    if weighed is not None:
        _weigh(db, weighed[0], -weighed[1])
        if weighed[2] & SIGNED:
            db.execute("DELETE FROM signature WHERE message = ?", (seq,))
        if weighed[2] & LATE:
            db.execute("DELETE FROM written WHERE message = ?", (seq,))
    db.execute("DELETE FROM attachment WHERE message = ?", (seq,))
    db.executemany("DELETE FROM done WHERE mailbox = ? AND seq = ?", rows)
    db.executemany(_FORGET_RING, rows)
    db.execute("DELETE FROM message WHERE seq = ?", (seq,))


def checksum(subject: str, body: bytes, attachments: Iterable[Attachment] = ()) -> int:
    """Return the CRC-32 of a message's text, and of what is attached."""
    value = zlib.crc32(body, zlib.crc32(subject.encode()))
    for each in attachments:
        value = zlib.crc32(f"{each.name}\0{each.type}\0{each.size}\0{each.sha256}\0".encode(), value)
    return value


def preview(body: str) -> str:
    """Return the body's beginning on one line."""
    beginning = " ".join(body[: 2 * _PREVIEW_LENGTH].split())
    return beginning if len(beginning) <= _PREVIEW_LENGTH else beginning[: _PREVIEW_LENGTH - 1] + "…"


def _array(numbers: Iterable[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"
