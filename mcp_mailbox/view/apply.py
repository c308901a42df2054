"""The appliers: each writes what one decision means. They run inside a transaction that the engine holds.

An applier checks nothing. Those that move a delivery name the event of `delivery.TRANSITIONS` that they carry out.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mcp_mailbox import directory, quotas
from mcp_mailbox.attachment import Attachment
from mcp_mailbox.consent import Standing
from mcp_mailbox.delivery import State
from mcp_mailbox.view import query
from mcp_mailbox.view.query import FOREVER

ATTACHED = 16
"""In `message.format`: there are rows of `attachment`. Whoever reads a message without any asks for none."""
_PREVIEW_LENGTH = 120
_KEY = "mailbox = ? AND priority = ? AND seq = ?"


def _delivered(after: str, last: str) -> str:
    """Return SQL for whether anything came to mailbox ?1 behind `after`, up to `last`."""
    where = f"WHERE d.mailbox = ?1 AND d.seq > {after} AND d.seq <= {last}"
    return (
        f"(EXISTS (SELECT 1 FROM done d {where})"  # noqa: S608 - constants only
        f" OR EXISTS (SELECT 1 FROM inbox d {where} AND d.priority IN (0, 1, 2)))"
    )


_RUNG_SO_FAR = "ifnull((SELECT max(seq) FROM ring WHERE mailbox = ?1), 0)"
# The ring that was of message ?2, when it is of no other.
_FORGET_RING = f"""
DELETE FROM ring WHERE mailbox = ?1 AND seq = (SELECT min(seq) FROM ring WHERE mailbox = ?1 AND seq >= ?2)
AND NOT {_delivered("ifnull((SELECT max(seq) FROM ring WHERE mailbox = ?1 AND seq < ?2), 0)", "ring.seq")}
"""  # noqa: S608 - constants only

_FORGET_ATTACHMENTS = "DELETE FROM attachment WHERE message = ?"

Key = tuple[int, int, int]
"""Of a row of `inbox`: (mailbox, priority, seq)."""


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """A row of `mailbox`."""

    space: str
    name: str
    folded: str
    looks: str
    capitals: str
    owner: str
    about: str
    skills: Sequence[str]
    created: int
    contact: str
    attempts: int
    kind: str
    share: int
    written: str


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


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A row of `contact` whose sender has asked."""

    mailbox: int
    sender: int
    at: int
    seq: int
    notice: int
    principal: str
    expires: int
    deliver_at: int
    topic: str | None


def create_mailbox(db: sqlite3.Connection, new: NewMailbox) -> int:
    """Insert a mailbox; return its row's number."""
    cursor = db.execute(
        "INSERT INTO mailbox (space, name, folded, looks, capitals, ascii, owner, about, skills, created,"
        " contact, attempts, kind, share, written) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.space,
            new.name,
            new.folded,
            new.looks,
            new.capitals,
            new.name.isascii(),
            new.owner,
            new.about,
            json.dumps(new.skills),
            new.created,
            new.contact,
            new.attempts,
            new.kind,
            new.share,
            new.written,
        ),
    )
    db.execute("INSERT INTO counter (mailbox, unsettled) VALUES (?, 0)", (cursor.lastrowid,))
    assert cursor.lastrowid is not None  # noqa: S101 - an INSERT has a row
    list_mailbox(db, cursor.lastrowid, new.space, directory.terms(new.name, new.about, new.skills))
    return cursor.lastrowid


def describe_mailbox(db: sqlite3.Connection, mailbox: int, **columns: object) -> None:
    """Set what is given, leave what is None."""
    for name, value in columns.items():
        if value is not None:
            db.execute(f"UPDATE mailbox SET {name} = ? WHERE id = ?", (value, mailbox))  # noqa: S608 - ours alone


def list_mailbox(db: sqlite3.Connection, mailbox: int, space: str, terms: frozenset[str]) -> None:
    """Let it be found by these terms and no others."""
    before = {row[0] for row in db.execute("SELECT term FROM mailbox_term WHERE mailbox = ?", (mailbox,)).fetchall()}
    gone, fresh = sorted(before - terms), sorted(terms - before)
    db.executemany("DELETE FROM mailbox_term WHERE mailbox = ? AND term = ?", [(mailbox, term) for term in gone])
    db.executemany(
        "INSERT INTO mailbox_term (mailbox, term, space) VALUES (?, ?, ?)", [(mailbox, term, space) for term in fresh]
    )


def note_seen(db: sqlite3.Connection, mailbox: int, at: int) -> None:
    """Keep when a reader of it was last here."""
    db.execute(
        "INSERT INTO presence (mailbox, seen) VALUES (?, ?) ON CONFLICT (mailbox) DO UPDATE SET seen = excluded.seen",
        (mailbox, at),
    )


def say_status(db: sqlite3.Connection, mailbox: int, status: str, away: bool, until: int) -> None:
    """Keep what its owner says of itself, until when."""
    db.execute(
        "INSERT INTO presence (mailbox, status, away, until) VALUES (?, ?, ?, ?) ON CONFLICT (mailbox)"
        " DO UPDATE SET status = excluded.status, away = excluded.away, until = excluded.until",
        (mailbox, status, away, until),
    )


def bind_reader(db: sqlite3.Connection, reader: str, mailbox: int, at: int) -> None:
    """Note which mailbox the reader opened last."""
    db.execute("INSERT OR REPLACE INTO reader (id, mailbox, at) VALUES (?, ?, ?)", (reader, mailbox, at))


def occupy(db: sqlite3.Connection, mailbox: int, reader: str, label: str, at: int) -> None:
    """Let the reader be the one who reads that mailbox."""
    db.execute(
        "INSERT OR REPLACE INTO occupant (mailbox, reader, label, since) VALUES (?, ?, ?, ?)",
        (mailbox, reader, label, at),
    )


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
            new.format | (ATTACHED if new.attachments else 0),
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
    attached = [each.size for each in new.attachments]
    _weigh(db, new.space, quotas.footprint(len(body), len(new.recipients), attached))
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


@dataclass(frozen=True, slots=True)
class NewChannel:
    """A row of `channel`."""

    space: str
    name: str
    folded: str
    looks: str
    capitals: str
    owner: str
    created: int
    keep_age: int
    keep_count: int
    keep_bytes: int


def create_channel(db: sqlite3.Connection, new: NewChannel) -> int:
    """Insert a channel; return its row's number."""
    cursor = db.execute(
        "INSERT INTO channel (space, name, folded, looks, capitals, ascii, owner, created, keep_age, keep_count,"
        " keep_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.space,
            new.name,
            new.folded,
            new.looks,
            new.capitals,
            new.name.isascii(),
            new.owner,
            new.created,
            new.keep_age,
            new.keep_count,
            new.keep_bytes,
        ),
    )
    assert cursor.lastrowid is not None  # noqa: S101 - an INSERT has a row
    return cursor.lastrowid


def keep(db: sqlite3.Connection, channel: int, **limits: int | None) -> None:
    """Set what a channel keeps; leave what is None."""
    for name, value in limits.items():
        if value is not None:
            db.execute(f"UPDATE channel SET keep_{name} = ? WHERE id = ?", (value, channel))  # noqa: S608 - ours alone


def join(db: sqlite3.Connection, mailbox: int, channel: int, since: int, *, known: bool = False) -> None:
    """Begin a membership behind that place, of all or of what is `known`. It covers what there was of others."""
    db.execute("DELETE FROM subscription WHERE mailbox = ? AND channel = ? AND since >= ?", (mailbox, channel, since))
    db.execute(
        "UPDATE subscription SET until = ?3, place = min(place, ?3)"
        " WHERE mailbox = ?1 AND channel = ?2 AND +until > ?3",
        (mailbox, channel, since),
    )
    db.execute(
        f"INSERT INTO subscription (mailbox, channel, since, place, until, known) VALUES (?, ?, ?, ?, {FOREVER}, ?)",  # noqa: S608
        (mailbox, channel, since, since, known),
    )


def count_members(db: sqlite3.Connection, channel: int, more: int) -> None:
    """Let the channel have so many members more, or fewer."""
    db.execute("UPDATE channel SET members = members + ? WHERE id = ?", (more, channel))


def leave_channel(db: sqlite3.Connection, mailbox: int, channel: int, last: int) -> None:
    """End a membership with that place. One in which nothing was published leaves nothing behind."""
    db.execute(
        f"UPDATE subscription SET until = ? WHERE mailbox = ? AND channel = ? AND +until = {FOREVER}",  # noqa: S608
        (last, mailbox, channel),
    )
    db.execute(
        "DELETE FROM subscription WHERE mailbox = ? AND channel = ? AND since = until AND +until = ?",
        (mailbox, channel, last),
    )


def advance(db: sqlite3.Connection, mailbox: int, channel: int, since: int, place: int) -> None:
    """Note that a member has got what was published up to that place."""
    db.execute(
        "UPDATE subscription SET place = ? WHERE mailbox = ? AND channel = ? AND since = ?",
        (place, mailbox, channel, since),
    )


def deliver(db: sqlite3.Connection, mailbox: int, channel: int, post: sqlite3.Row, topic: str | None) -> bool:
    """Put what was published into a member's inbox, unless it is there or was; return whether it is there now."""
    changed = db.execute(
        "INSERT OR IGNORE INTO inbox (mailbox, priority, seq, sender, thread, lease_until, expires, topic, channel)"
        " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9"
        " WHERE NOT EXISTS (SELECT 1 FROM done WHERE mailbox = ?1 AND seq = ?3)",
        (
            mailbox,
            post["priority"],
            post["seq"],
            post["sender"],
            post["thread"],
            post["deliver_at"],
            post["expires"],
            topic,
            channel,
        ),
    ).rowcount
    if changed:
        db.execute("UPDATE counter SET unsettled = unsettled + 1 WHERE mailbox = ?", (mailbox,))
    return bool(changed)


def supersede(db: sqlite3.Connection, channel: int, place: int) -> None:
    """Deliver it to nobody any more: there is something newer of its topic."""
    db.execute("UPDATE channel_message SET replaced = 1 WHERE channel = ? AND place = ?", (channel, place))


def skip(db: sqlite3.Connection, mailbox: int, channel: int, count: int) -> None:
    """Note that so much was gone when the member came to read it; a negative count takes back what was told."""
    db.execute(
        "INSERT INTO skip (mailbox, channel, count) VALUES (?, ?, ?)"
        " ON CONFLICT (mailbox, channel) DO UPDATE SET count = count + excluded.count",
        (mailbox, channel, count),
    )
    db.execute("DELETE FROM skip WHERE mailbox = ? AND channel = ? AND count <= 0", (mailbox, channel))


def trim(db: sqlite3.Connection, channel: int, floor: int, most: int) -> bool:
    """Drop what a channel keeps no more, and memberships that are over and told: at most so many rows of each.

    Return whether there may be more. The messages themselves stay.
    """
    gone = db.execute(
        "DELETE FROM channel_message WHERE channel = ?1 AND place <= min(?2, ?3 - 1 + ("
        " SELECT min(place) FROM channel_message WHERE channel = ?1))",
        (channel, floor, most),
    ).rowcount
    db.execute(
        "DELETE FROM subscription WHERE (mailbox, channel, since) IN ("
        " SELECT mailbox, channel, since FROM subscription INDEXED BY subscription_channel"
        " WHERE channel = ? AND until <= ? AND place = until LIMIT ?)",
        (channel, floor, most),
    )
    return gone >= most


def ask(db: sqlite3.Connection, new: NewRequest) -> None:
    """Keep a message that waits to be let in, in place of what was known of its sender."""
    db.execute(
        "INSERT OR REPLACE INTO contact (mailbox, sender, standing, at, seq, notice, principal, expires, deliver_at,"
        " topic) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.mailbox,
            new.sender,
            int(Standing.ASKED),
            new.at,
            new.seq,
            new.notice,
            new.principal,
            new.expires,
            new.deliver_at,
            new.topic,
        ),
    )


def place(db: sqlite3.Connection, mailbox: int, sender: int, standing: Standing, at: int) -> None:
    """Keep where a sender stands."""
    db.execute(
        "INSERT INTO contact (mailbox, sender, standing, at) VALUES (?, ?, ?, ?) ON CONFLICT (mailbox, sender)"
        " DO UPDATE SET standing = excluded.standing, at = excluded.at",
        (mailbox, sender, int(standing), at),
    )


def let_in(db: sqlite3.Connection, mailbox: int, sender: int, at: int) -> None:
    """Event.CONSENT for what the sender has waiting."""
    db.execute(
        "INSERT INTO inbox (mailbox, priority, seq, sender, thread, lease_until, expires, topic)"
        " SELECT c.mailbox, m.priority, c.seq, c.sender, m.thread, iif(c.deliver_at > ?, c.deliver_at, 0), m.expires,"
        " c.topic FROM contact c JOIN message m ON m.seq = c.seq WHERE c.mailbox = ? AND c.sender = ?",
        (at, mailbox, sender),
    )
    db.execute("UPDATE counter SET unsettled = unsettled + 1 WHERE mailbox = ?", (mailbox,))


def note_let_in(db: sqlite3.Connection, mailbox: int, sender: int, at: int) -> None:
    """Keep when the message that a sender asked by was let in."""
    db.execute("UPDATE contact SET let_in = ? WHERE mailbox = ? AND sender = ?", (at, mailbox, sender))


def turn_away(db: sqlite3.Connection, mailbox: int, seq: int, state: State, at: int, reason: str = "") -> None:
    """Event.DECLINE or EXPIRE for what is held."""
    db.execute(
        "INSERT INTO done (mailbox, seq, state, generation, attempts, at, reason, listed)"
        " VALUES (?, ?, ?, 0, 0, ?, ?, ?)",
        (mailbox, seq, int(state), at, reason, state.dead_letter),
    )


def ring(db: sqlite3.Connection, mailbox: int, at: int) -> None:
    """Event.RING for all that has come to that mailbox so far, or is due there, unless it was rung before."""
    db.execute(
        "INSERT OR IGNORE INTO ring (mailbox, seq, at)"  # noqa: S608 - constants only
        " SELECT ?1, seq, ?2 FROM sqlite_sequence WHERE name = 'message'"
        f" AND ({_delivered(_RUNG_SO_FAR, 'sqlite_sequence.seq')} OR EXISTS ({query.DUE_SOMEWHERE}))",
        (mailbox, at),
    )


def show(db: sqlite3.Connection, rows: Iterable[Key], at: int) -> None:
    """Event.SHOW for what has not been seen."""
    db.executemany(
        f"UPDATE inbox SET seen = ? WHERE {_KEY} AND seen = 0",  # noqa: S608 - constants only
        [(at, *row) for row in rows],
    )


def lease(
    db: sqlite3.Connection, rows: Iterable[tuple[int, Key]], at: int, until: int, reader: str, request: str
) -> None:
    """Event.CLAIM for each key, with the generation of its new lease."""
    db.executemany(
        "UPDATE inbox SET generation = ?, leased = ?, lease_until = ?, reader = ?, request = ?,"  # noqa: S608
        f" surfaced = 0 WHERE {_KEY}",
        [(generation, at, until, reader, request, *key) for generation, key in rows],
    )


def surface(db: sqlite3.Connection, reader: str, request: str, at: int) -> None:
    """Event.SURFACE for what that request leased."""
    db.execute(
        "UPDATE inbox SET surfaced = 1, attempts = attempts + 1, seen = iif(seen, seen, ?)"
        " WHERE reader = ? AND request = ? AND surfaced = 0",
        (at, reader, request),
    )


def give_back(db: sqlite3.Connection, key: Key) -> None:
    """Event.GIVE_BACK: ready for anybody at once. The generation stays, so a late ack still counts."""
    db.execute(
        f"UPDATE inbox SET lease_until = 0, reader = NULL, request = NULL, surfaced = 0 WHERE {_KEY}",  # noqa: S608
        key,
    )


def release(db: sqlite3.Connection, key: Key, at: int, until: int) -> None:
    """Event.RELEASE: ready for anybody then; 0 for at once. Who releases it has seen it."""
    give_back(db, key)
    db.execute(
        f"UPDATE inbox SET lease_until = ?, seen = iif(seen, seen, ?) WHERE {_KEY}",  # noqa: S608
        (until, at, *key),
    )


def extend(db: sqlite3.Connection, key: Key, until: int) -> None:
    """Event.EXTEND."""
    db.execute(f"UPDATE inbox SET lease_until = ? WHERE {_KEY}", (until, *key))  # noqa: S608


def settle(db: sqlite3.Connection, key: Key, state: State, at: int, reason: str = "") -> None:
    """Event.ACK, REJECT, EXHAUST, EXPIRE or REPLACE: from the hot table to the cold one."""
    db.execute(
        "INSERT INTO done (mailbox, seq, state, generation, attempts, at, leased, seen, reason, listed, channel)"  # noqa: S608
        f" SELECT mailbox, seq, ?, generation, attempts, ?, leased, seen, ?, ?, channel FROM inbox WHERE {_KEY}",
        (int(state), at, reason, state.dead_letter, *key),
    )
    db.execute(f"DELETE FROM inbox WHERE {_KEY}", key)  # noqa: S608
    db.execute("UPDATE counter SET unsettled = unsettled - 1 WHERE mailbox = ?", (key[0],))


def revive(db: sqlite3.Connection, mailbox: int, seq: int) -> None:
    """Event.RETRY: back to the hot table, as if it had never been seen; its generation goes on."""
    db.execute(
        "INSERT INTO inbox (mailbox, priority, seq, sender, thread, generation, channel)"
        " SELECT d.mailbox, m.priority, d.seq, m.sender, m.thread, d.generation, d.channel"
        " FROM done d JOIN message m ON m.seq = d.seq WHERE d.mailbox = ? AND d.seq = ?",
        (mailbox, seq),
    )
    db.execute("DELETE FROM done WHERE mailbox = ? AND seq = ?", (mailbox, seq))
    db.execute("UPDATE counter SET unsettled = unsettled + 1 WHERE mailbox = ?", (mailbox,))


def purge(db: sqlite3.Connection, mailbox: int, seq: int) -> None:
    """List a dead letter no more."""
    db.execute("UPDATE done SET listed = 0 WHERE mailbox = ? AND seq = ?", (mailbox, seq))


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
    db.execute(_FORGET_ATTACHMENTS, (seq,))
    db.executemany("DELETE FROM done WHERE mailbox = ? AND seq = ?", rows)
    db.executemany(_FORGET_RING, rows)
    db.execute("DELETE FROM message WHERE seq = ?", (seq,))


def remember(db: sqlite3.Connection, sender: int, key: str, digest: bytes, answer: str, at: int) -> None:
    """Keep what a repeated request is answered from."""
    db.execute(
        "INSERT INTO idempotency (sender, key, hash, answer, at) VALUES (?, ?, ?, ?, ?)",
        (sender, key, digest, answer, at),
    )


def note_told(db: sqlite3.Connection, sender: int, key: str, at: int) -> None:
    """Keep when something was told that is told once in a while."""
    db.execute(
        "INSERT OR REPLACE INTO idempotency (sender, key, hash, answer, at) VALUES (?, ?, x'', '', ?)",
        (sender, key, at),
    )


def grant(db: sqlite3.Connection, row: Sequence[object]) -> None:
    """Insert a row of `token`, its columns in order."""
    db.execute(
        "INSERT INTO token (id, digest, name, principal, scopes, mailbox, space, created, expires, revoked, confined)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )


def revoke(db: sqlite3.Connection, token: str, at: int) -> None:
    """End a token, unless it has ended."""
    db.execute("UPDATE token SET revoked = ? WHERE id = ? AND revoked IS NULL", (at, token))


def regrant(db: sqlite3.Connection, token: str, digest: bytes) -> None:
    """Give a token another secret."""
    db.execute("UPDATE token SET digest = ? WHERE id = ?", (digest, token))


def replace_tokens(db: sqlite3.Connection, rows: Iterable[Sequence[object]]) -> None:
    """Have these and no others."""
    db.execute("DELETE FROM token")
    for row in rows:
        grant(db, row)


def invite(db: sqlite3.Connection, row: Sequence[object]) -> None:
    """Insert a row of `invitation`, its columns in order."""
    db.execute(
        "INSERT INTO invitation (id, digest, name, principal, scopes, mailbox, space, lasts, created, expires, revoked,"
        " redeemed, token) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )


def redeem(db: sqlite3.Connection, invitation: str, token: str, at: int) -> None:
    """Note for which token an invitation was redeemed."""
    db.execute("UPDATE invitation SET redeemed = ?, token = ? WHERE id = ?", (at, token, invitation))


def uninvite(db: sqlite3.Connection, invitation: str, at: int) -> None:
    """End an invitation, unless it has ended."""
    db.execute(
        "UPDATE invitation SET revoked = ? WHERE id = ? AND revoked IS NULL AND redeemed IS NULL", (at, invitation)
    )


def forget_invitations(db: sqlite3.Connection, before: int) -> None:
    """Drop those whose term was over before that."""
    db.execute("DELETE FROM invitation WHERE expires < ?", (before,))


def replace_invitations(db: sqlite3.Connection, rows: Iterable[Sequence[object]]) -> None:
    """Have these and no others."""
    db.execute("DELETE FROM invitation")
    for row in rows:
        invite(db, row)


def replace_reservations(db: sqlite3.Connection, rows: Iterable[Sequence[object]]) -> None:
    """Have these rows of RESERVATIONS_WHOLE and no others, but for holders that are not there."""
    db.execute("DELETE FROM reservation")
    db.executemany(
        "INSERT INTO reservation (mailbox, name, space, mode, note, made, until)"
        " SELECT id, ?, space, ?, ?, ?, ? FROM mailbox WHERE space = ? AND folded = ? AND owner = ?",
        rows,
    )


def go_on(db: sqlite3.Connection, seq: int, values: Mapping[str, int]) -> None:
    """Give the next message a number behind `seq`, and keep these values in `meta`."""
    db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'message'", (seq,))
    db.executemany("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", values.items())


@dataclass(frozen=True, slots=True)
class Holding:
    """A row of `reservation`."""

    mailbox: int
    name: str
    space: str
    mode: str
    note: str
    made: int
    until: int


def hold(db: sqlite3.Connection, new: Holding) -> None:
    """Reserve a name for a mailbox, in place of what it holds under that name."""
    db.execute(
        "INSERT OR REPLACE INTO reservation (mailbox, name, space, mode, note, made, until)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (new.mailbox, new.name, new.space, new.mode, new.note, new.made, new.until),
    )


def let_go(db: sqlite3.Connection, mailbox: int, name: str) -> None:
    """End a reservation."""
    db.execute("DELETE FROM reservation WHERE mailbox = ? AND name = ?", (mailbox, name))


def note_time(db: sqlite3.Connection, now: int) -> None:
    """Keep what time it is, so that it goes on from here."""
    db.execute("UPDATE meta SET value = ? WHERE name = 'time'", (now,))


def forget_keys(db: sqlite3.Connection, before: int, most: int) -> None:
    """Drop the oldest keys, at most so many, so that no transaction grows long."""
    db.execute(
        "DELETE FROM idempotency WHERE rowid < (SELECT min(rowid) FROM idempotency) + ? AND at < ?", (most, before)
    )


def forget_readers(db: sqlite3.Connection, before: int, most: int) -> None:
    """Drop what readers opened that have opened nothing since, at most so many."""
    db.execute(
        "DELETE FROM reader WHERE id IN (SELECT id FROM reader INDEXED BY reader_at WHERE at < ? LIMIT ?)",
        (before, most),
    )


def forget_attachments(db: sqlite3.Connection, seq: int) -> None:
    """Drop what a message has attached; their contents go when nobody else names them.

    A part of the message's own removal: one that stays without them is a damaged one.
    """
    db.execute(
        "UPDATE space_size SET bytes = bytes - ifnull((SELECT sum(size) FROM attachment WHERE message = ?1), 0)"
        " WHERE space = (SELECT b.space FROM message m JOIN mailbox b ON b.id = m.sender WHERE m.seq = ?1)",
        (seq,),
    )
    db.execute(_FORGET_ATTACHMENTS, (seq,))


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
