"""The queries: SQL that reads the view, and the rows that it gives.

Each statement's cost is bounded by what it returns, whatever the history (`tests/view/` reads the plans and counts
the steps). A statement is a constant, so that what is measured is what runs.
"""

from __future__ import annotations

from mcp_mailbox.consent import Standing
from mcp_mailbox.doorbell import NEWS_LIMIT
from mcp_mailbox.quotas import DELIVERY_BYTES, MESSAGE_BYTES

FOREVER = 1 << 62
"""The last place of a subscription that has not ended."""
_LET_IN = int(Standing.LET_IN)
DEAD_RANK = 3
"""Dead letters are listed behind the three priorities."""

_COLUMNS = "id, space, name, owner, about, skills, created, contact, attempts, kind, share"

MAILBOX = f"SELECT {_COLUMNS} FROM mailbox WHERE space = ? AND folded = ?"  # noqa: S608 - constants only
MAILBOX_BY_ID = f"SELECT {_COLUMNS} FROM mailbox WHERE id = ?"  # noqa: S608
BOUND = f"SELECT {_COLUMNS} FROM mailbox WHERE id = (SELECT mailbox FROM reader WHERE id = ?)"  # noqa: S608

LOOKALIKE = """
SELECT name, owner FROM mailbox INDEXED BY mailbox_looks WHERE space = ?1 AND looks IN (?2, ?5)
UNION ALL
SELECT name, owner FROM mailbox INDEXED BY mailbox_written WHERE space = ?1 AND written IN (?2, ?5)
UNION ALL
SELECT name, owner FROM mailbox INDEXED BY mailbox_capitals WHERE space = ?1 AND capitals = ?3 AND ascii + ?4 < 2
LIMIT 1
"""

BY_PREFIX = """
SELECT name, space FROM mailbox
WHERE owner = ? AND space = ? AND folded >= ? AND folded < ? ORDER BY folded LIMIT ?
"""

OWNED_BEYOND = "SELECT 1 FROM mailbox WHERE owner = ? LIMIT 1 OFFSET ?"
FOOTPRINT = (
    f"{MESSAGE_BYTES} + {DELIVERY_BYTES} * json_array_length(m.recipients) + m.size"  # noqa: S608
    " + CASE WHEN m.format & 48"  # `apply.ATTACHED | apply.SIGNED`: most have neither, and are not asked
    " THEN ifnull((SELECT sum(a.size) FROM attachment a WHERE a.message = m.seq), 0)"
    " + ifnull((SELECT length(g.jws) FROM signature g WHERE g.message = m.seq), 0) ELSE 0 END"
)
"""`quotas.footprint` of a row of message `m`."""
WEIGHED = f"SELECT b.space, {FOOTPRINT}, m.format FROM message m JOIN mailbox b ON b.id = m.sender WHERE m.seq = ?"  # noqa: S608
SPACE_SIZE = "SELECT bytes FROM space_size WHERE space = ?"

NAMES = "SELECT name FROM mailbox WHERE owner = ? AND space = ? ORDER BY folded LIMIT ?"
SPACES = "SELECT name, space FROM mailbox WHERE folded = ? AND owner = ? LIMIT 2"

# The directory: names of a space in their order, those whose contact says the same together.
MEMBER = "SELECT 1 FROM mailbox INDEXED BY mailbox_own WHERE owner = ? AND space = ? LIMIT 1"
NEXT_SPACE = """
SELECT space, id FROM mailbox INDEXED BY mailbox_owner WHERE owner = ? AND space > ? ORDER BY space, folded LIMIT 1
"""
LISTED = "SELECT id, space, folded, owner, contact FROM mailbox WHERE id = ?"
BY_CONTACT = """
SELECT id, folded, owner FROM mailbox INDEXED BY mailbox_contact
WHERE space = ? AND contact = ? AND folded > ? ORDER BY folded
"""
OWN_BY_CONTACT = """
SELECT id, folded, owner FROM mailbox INDEXED BY mailbox_own
WHERE space = ? AND contact = ? AND folded > ? AND owner = ? ORDER BY folded
"""
WITH_TERM = """
SELECT mailbox FROM mailbox_term INDEXED BY mailbox_term_space WHERE space = ? AND term BETWEEN ? AND ? LIMIT ?
"""
HAS_TERM = "SELECT 1 FROM mailbox_term WHERE mailbox = ? AND term BETWEEN ? AND ? LIMIT 1"
ENTRY = """
SELECT m.id, m.name, m.space, m.owner, m.about, m.skills, p.seen, iif(p.until > ?1, p.status, '') AS status,
       iif(p.until > ?1, p.away, 0) AS away, m.contact
FROM mailbox m LEFT JOIN presence p ON p.mailbox = m.id WHERE m.id = ?2
"""

_TOKEN = "SELECT id, name, principal, scopes, mailbox, space, created, expires, revoked, confined FROM token"  # noqa: S105
TOKEN_BY_DIGEST = f"{_TOKEN} WHERE digest = ?"
TOKEN_BY_ID = f"{_TOKEN} WHERE id = ?"
TOKENS = f"{_TOKEN} ORDER BY created, id"
TOKENS_WHOLE = (
    "SELECT id, digest, name, principal, scopes, mailbox, space, created, expires, revoked, confined FROM token"
)
TOKEN_WITH_DIGEST = "SELECT id FROM token WHERE digest = ?"  # noqa: S105
_INVITED = "mailbox, space, lasts, created, expires, revoked, redeemed, token FROM invitation"
_INVITATION = f"SELECT id, name, principal, scopes, {_INVITED}"
INVITATION_BY_DIGEST = f"{_INVITATION} WHERE digest = ?"
INVITATION_BY_ID = f"{_INVITATION} WHERE id = ?"
INVITATIONS = f"{_INVITATION} ORDER BY created, id"
INVITATIONS_WHOLE = f"SELECT id, digest, name, principal, scopes, {_INVITED}"
INVITATIONS_OPEN = "SELECT count(*) FROM invitation WHERE redeemed IS NULL AND revoked IS NULL AND expires > ?"

HELD = """
SELECT r.mailbox, r.name, r.mode, r.note, r.made, r.until, m.name AS holder, m.space, m.owner
FROM reservation r INDEXED BY reservation_space CROSS JOIN mailbox m ON m.id = r.mailbox
WHERE r.space = ? AND r.until > ? ORDER BY r.until, r.mailbox, r.name
"""
ENDED = "SELECT mailbox, name FROM reservation WHERE until <= ? ORDER BY until LIMIT ?"
RESERVATIONS_WHOLE = """
SELECT r.name, r.mode, r.note, r.made, r.until, m.space, m.folded, m.owner
FROM reservation r CROSS JOIN mailbox m ON m.id = r.mailbox
"""

# Channels. A message is in one as long as its place is behind the floor: `_KEPT` says so of one.
_CHANNEL = """
c.id, c.space, c.name, c.owner, c.created, c.members, c.last, c.bytes, c.published, c.keep_age, c.keep_count,
c.keep_bytes
"""
CHANNEL = f"SELECT {_CHANNEL} FROM channel c WHERE c.space = ? AND c.folded = ?"  # noqa: S608 - constants only
CHANNEL_BY_ID = f"SELECT {_CHANNEL} FROM channel c WHERE c.id = ?"  # noqa: S608
CHANNEL_LOOKALIKE = """
SELECT name FROM channel INDEXED BY channel_looks WHERE space = ?1 AND looks IN (?2, ?5)
UNION ALL
SELECT name FROM channel INDEXED BY channel_capitals WHERE space = ?1 AND capitals = ?3 AND ascii + ?4 < 2
LIMIT 1
"""
CHANNELS = f"""
SELECT {_CHANNEL}, EXISTS (
    SELECT 1 FROM subscription s WHERE s.mailbox = ?1 AND s.channel = c.id AND +s.until = {FOREVER}
) AS yours
FROM channel c WHERE c.space = ?2 AND c.folded > ?3 ORDER BY c.folded LIMIT ?4
"""  # noqa: S608
CHANNEL_NAMES = "SELECT name, folded FROM channel WHERE space = ? ORDER BY folded LIMIT ?"
CHANNELS_COUNTED = "SELECT count(*) FROM (SELECT 1 FROM channel WHERE space = ? AND owner = ? LIMIT ?)"
CHANNELS_WITH_CAPITALS = "SELECT name FROM channel WHERE space = ? AND name <> folded LIMIT ?"
NEXT_CHANNEL = f"SELECT {_CHANNEL} FROM channel c WHERE c.id > ? ORDER BY c.id LIMIT 1"  # noqa: S608

FLOOR_BY_BYTES = """
SELECT place FROM channel_message INDEXED BY channel_message_below
WHERE channel = ? AND below >= ? ORDER BY below, place LIMIT 1
"""
_KEPT = """
+p.place > c.last - c.keep_count AND +p.at >= :now - c.keep_age
AND (+p.below >= c.bytes - c.keep_bytes OR p.place = c.last)
"""
PLACE_SINCE = """
SELECT place FROM channel_message INDEXED BY channel_message_at
WHERE channel = ? AND at >= ? ORDER BY at, place LIMIT 1
"""
PLACE_OF = """
SELECT place, seq FROM channel_message INDEXED BY channel_message_seq
WHERE channel = ? AND seq >= ? ORDER BY seq LIMIT 1
"""
SEQ_AT = "SELECT seq FROM channel_message WHERE channel = ? AND place > ? ORDER BY place LIMIT 1"
SUPERSEDED = """
SELECT c.place, ifnull(w.at, c.at) AS began
FROM channel_message c INDEXED BY channel_message_topic LEFT JOIN written w ON w.message = c.seq
WHERE c.channel = ? AND c.sender = ? AND c.topic = ? ORDER BY c.place DESC LIMIT 1
"""


def _heard(known: str, mailbox: str, sender: str) -> str:
    """Whether a member gets what that sender has published (`message m`): any, or only `known` ones (`Contact.admits`).

    These are its principal's, those whom it has let in, and who answers what it has said itself.
    """
    return f"""(NOT {known}
    OR (SELECT owner FROM mailbox WHERE id = {mailbox}) = (SELECT owner FROM mailbox WHERE id = {sender})
    OR EXISTS (SELECT 1 FROM contact k WHERE k.mailbox = {mailbox} AND k.sender = {sender} AND k.standing = {_LET_IN})
    OR EXISTS (SELECT 1 FROM message r WHERE r.seq = m.reply_to AND r.sender = {mailbox}))"""  # noqa: S608


POSTS = f"""
SELECT p.place, p.seq, p.sender, p.deliver_at, p.expires, p.replaced, p.topic, m.priority, m.thread,
       {_heard(":known", ":mailbox", "p.sender")} AS heard
FROM channel_message p CROSS JOIN message m ON m.seq = p.seq
WHERE p.channel = :channel AND p.place > :place AND p.place <= :end ORDER BY p.place LIMIT :most
"""  # noqa: S608 - constants only

POSTED = """
SELECT p.place, p.seq, m.size FROM channel_message p CROSS JOIN message m ON m.seq = p.seq
WHERE p.channel = ? AND p.place > ? AND p.deliver_at <= ? ORDER BY p.place LIMIT ?
"""

# `+until`: by that index all members of a channel would be looked at for one.
SUBSCRIBED = f"""
SELECT since, place, known FROM subscription WHERE mailbox = ? AND channel = ? AND +until = {FOREVER}
"""  # noqa: S608
SUBSCRIPTIONS = f"""
SELECT c.name, c.space FROM subscription s INDEXED BY subscription_due CROSS JOIN channel c ON c.id = s.channel
WHERE s.mailbox = ? AND s.place < s.until AND s.until = {FOREVER}
"""  # noqa: S608
EVER_SUBSCRIBED = "SELECT channel FROM subscription WHERE mailbox = ? ORDER BY channel"
# Where something was published that has not been delivered: a step for each channel that one is a member of.
_DUE = """
FROM subscription s INDEXED BY subscription_due CROSS JOIN channel c ON c.id = s.channel
WHERE s.mailbox = ?1 AND s.place < s.until AND c.last > s.place
"""
DUE_SUBSCRIPTIONS = f"SELECT s.mailbox, s.since, s.place, s.until, s.known, {_CHANNEL} {_DUE}"
DUE_SOMEWHERE = f"SELECT 1 {_DUE}"
ARRIVING = f"""
SELECT count(DISTINCT +p.seq)
FROM (
    SELECT p.seq, p.sender, p.deliver_at, p.expires, p.replaced, s.known
    FROM subscription s INDEXED BY subscription_due CROSS JOIN channel c ON c.id = s.channel
    CROSS JOIN channel_message p ON p.channel = s.channel AND p.place > s.place AND p.place <= s.until
    WHERE s.mailbox = :mailbox AND s.place < s.until AND c.last > s.place AND {_KEPT} LIMIT :most
) p CROSS JOIN message m ON m.seq = p.seq
WHERE p.sender <> :mailbox AND NOT p.replaced AND p.deliver_at <= :now AND (p.expires = 0 OR p.expires > :now)
  AND {_heard("p.known", ":mailbox", "p.sender")}
  AND NOT EXISTS (SELECT 1 FROM done d WHERE d.mailbox = :mailbox AND d.seq = p.seq)
  AND NOT EXISTS (
      SELECT 1 FROM inbox i WHERE i.mailbox = :mailbox AND i.priority = m.priority AND i.seq = p.seq)
"""  # noqa: S608
# One message that is due to a member, wherever it stands among the others.
COVERING = f"""
SELECT c.id AS channel, p.place, p.seq, p.sender, p.deliver_at, p.expires, p.replaced, p.topic, m.priority, m.thread,
       {_heard("s.known", ":mailbox", "p.sender")} AS heard
FROM message m CROSS JOIN json_each(m.recipients) r CROSS JOIN channel c ON c.id = -r.value
CROSS JOIN channel_message p INDEXED BY channel_message_seq ON p.channel = c.id AND p.seq = m.seq
CROSS JOIN subscription s ON s.mailbox = :mailbox AND s.channel = c.id AND s.since < p.place
WHERE m.seq = :seq AND r.value < 0 AND s.place < p.place AND +s.until >= p.place AND {_KEPT}
LIMIT 1
"""  # noqa: S608
# Who could join a channel may read what is in it.
IN_REACH = """
SELECT 1 FROM message m CROSS JOIN json_each(m.recipients) r CROSS JOIN channel c ON c.id = -r.value
CROSS JOIN channel_message p ON p.channel = c.id AND p.seq = m.seq
CROSS JOIN mailbox b ON b.id = ?1
WHERE m.seq = ?2 AND r.value < 0
  AND EXISTS (SELECT 1 FROM mailbox o INDEXED BY mailbox_owner WHERE o.owner = b.owner AND o.space = c.space)
  AND (?3 IS NULL OR c.space = ?3)
LIMIT 1
"""
SKIPPED = """
SELECT c.name, c.space, k.count FROM skip k CROSS JOIN channel c ON c.id = k.channel WHERE k.mailbox = ?
"""
SKIPS = "SELECT DISTINCT m.folded, m.space FROM skip k CROSS JOIN mailbox m ON m.id = k.mailbox"
LATER_CHANNELS = """
SELECT DISTINCT c.name, c.space FROM channel_message p INDEXED BY channel_message_later
CROSS JOIN channel c ON c.id = p.channel WHERE p.deliver_at > 0 AND p.deliver_at > ? AND p.deliver_at <= ?
"""
NEXT_LATER = """
SELECT min(deliver_at) FROM channel_message INDEXED BY channel_message_later WHERE deliver_at > 0 AND deliver_at > ?
"""
MEMBERS_FROM = """
SELECT count(*) FROM (
    SELECT 1 FROM subscription INDEXED BY subscription_channel WHERE channel = ? AND until >= ? LIMIT ?
)
"""
# Of so many members, those to whom it was published, and how far it has come there.
MEMBERS_STATES = f"""
SELECT some.mailbox, some.place, d.state, i.seq, i.lease_until, i.reader, i.attempts, i.leased, i.seen,
       EXISTS (SELECT 1 FROM ring WHERE ring.mailbox = some.mailbox AND ring.seq >= :seq) AS rung
FROM (
    SELECT mailbox, since, place, known FROM subscription INDEXED BY subscription_channel
    WHERE channel = :channel AND until >= :place LIMIT :most
) some
CROSS JOIN message m ON m.seq = :seq
LEFT JOIN done d ON d.mailbox = some.mailbox AND d.seq = :seq
LEFT JOIN inbox i ON i.mailbox = some.mailbox AND i.priority = :priority AND i.seq = :seq
WHERE some.since < :place AND some.mailbox <> :sender AND {_heard("some.known", "some.mailbox", ":sender")}
"""  # noqa: S608

# What is leased or put off cannot be handed out, nor what waits to be carried off: tried too often, or expired.
UNREAD = """
SELECT unsettled - (
    SELECT count(*) FROM inbox INDEXED BY inbox_leased
    WHERE mailbox = ?1 AND lease_until > 0 AND (lease_until > +?2 OR (
        reader IS NOT NULL AND attempts >= (SELECT attempts FROM mailbox WHERE id = ?1)))
) - (
    SELECT count(*) FROM inbox INDEXED BY inbox_expiry
    WHERE expires > 0 AND expires <= +?2 AND mailbox = ?1 AND lease_until <= +?2 AND (
        reader IS NULL OR attempts < (SELECT attempts FROM mailbox WHERE id = ?1))
) FROM counter WHERE mailbox = ?1
"""

META = "SELECT value FROM meta WHERE name = ?"
LAST_NUMBER = "SELECT seq FROM sqlite_sequence WHERE name = 'message'"
# A dead letter goes on with its generation when it is retried.
LAST_GENERATION = """
SELECT max(generation) FROM (SELECT max(generation) AS generation FROM inbox UNION ALL SELECT max(generation) FROM done)
"""
FIRST_SINCE = "SELECT seq FROM message WHERE accepted >= ? ORDER BY accepted, seq LIMIT 1"

TOLD = "SELECT at FROM idempotency WHERE sender = ? AND key = ?"
KNOWN = "SELECT hash, answer FROM idempotency WHERE sender = ? AND key = ?"

PARENT = "SELECT thread, sender, priority, kind, reply_to FROM message WHERE seq = ?"
_WAITED = "LEFT JOIN written w ON w.message = m.seq"
_BEGAN = "ifnull(w.at, m.accepted)"
"""When message `m` was written, behind `_WAITED`."""
ANSWERED = (
    f"SELECT m.thread, m.sender, m.priority, m.accepted, {_BEGAN} AS began, m.kind, m.hops"  # noqa: S608
    f" FROM message m {_WAITED} WHERE m.seq = ?"
)
WAITING = """
SELECT i.priority, i.generation, i.lease_until, i.reader, i.attempts, i.leased, i.seen
FROM message m CROSS JOIN inbox i ON i.mailbox = ?1 AND i.priority = m.priority AND i.seq = m.seq WHERE m.seq = ?2
"""
DONE = "SELECT state, generation, attempts, at, leased, seen, reason, listed FROM done WHERE mailbox = ? AND seq = ?"
RUNG = "SELECT at FROM ring WHERE mailbox = ? AND seq >= ? ORDER BY seq LIMIT 1"
CAME_BY = "SELECT channel FROM done WHERE mailbox = ? AND seq = ?"
CC = "SELECT cc FROM message WHERE seq = ?"
REPORTED = "SELECT sender, thread, subject, receipt, kind, hops FROM message WHERE seq = ?"
REPLACEABLE = f"""
SELECT i.mailbox, i.priority, i.seq, {_BEGAN} AS began
FROM inbox i INDEXED BY inbox_topic JOIN message m ON m.seq = i.seq {_WAITED}
WHERE i.mailbox = ? AND i.sender = ? AND i.topic = ? AND i.reader IS NULL AND i.seen = 0
"""  # noqa: S608
BEGAN = f"SELECT {_BEGAN} FROM message m {_WAITED} WHERE m.seq = ?"  # noqa: S608

# Who stands where with a mailbox that asks first. 0 is Standing.ASKED, spelled out so that the indexes are used.
CONTACT = """
SELECT standing, at, seq, notice, deliver_at, topic, let_in FROM contact WHERE mailbox = ? AND sender = ?
"""
ASKING = """
SELECT 1 FROM contact INDEXED BY contact_principal WHERE mailbox = ?1 AND principal = ?2 AND standing = 0
UNION ALL
SELECT 1 FROM contact INDEXED BY contact_principal WHERE mailbox = ?1 AND principal = ?2 AND standing = 3 AND at > ?3
LIMIT ?4
"""
REQUESTS = """
SELECT c.sender, b.space FROM contact c INDEXED BY contact_waiting CROSS JOIN mailbox b ON b.id = c.sender
WHERE c.mailbox = ? AND c.standing = 0
"""
HELD_FROM = """
SELECT c.standing, c.let_in, m.accepted FROM message m CROSS JOIN contact c
ON c.mailbox = ?1 AND c.sender = m.sender AND c.seq = m.seq WHERE m.seq = ?2
"""
LAPSED_REQUESTS = """
SELECT mailbox, sender, seq FROM contact INDEXED BY contact_expiry WHERE standing = 0 AND expires <= ? LIMIT ?
"""
NEXT_REQUEST = "SELECT min(expires) FROM contact INDEXED BY contact_expiry WHERE standing = 0 AND expires > ?"

# `+:now`: against the bare parameter of a comparison SQLite holds the conditions of partial indexes (lease_until > 0,
# expires > 0), by its value, and so prepares the statement anew whenever that is another one: always, and at six times
# the cost of running it. `tests/view/test_plans.py` sees to it.
_READY = """
  AND i.lease_until <= +:now
  AND (i.expires = 0 OR i.expires > +:now)
  AND (i.reader IS NULL OR (i.attempts < :attempts
       AND (i.reader = :reader OR i.reader IN (SELECT value FROM json_each(:gone)))))
ORDER BY i.priority, i.seq LIMIT :count
"""
_READY_COLUMNS = "SELECT i.mailbox, i.priority, i.seq, m.size"
READY = f"{_READY_COLUMNS} FROM inbox i CROSS JOIN message m ON m.seq = i.seq WHERE i.mailbox = :mailbox{_READY}"
READY_FROM = (
    f"{_READY_COLUMNS} FROM inbox i INDEXED BY inbox_sender CROSS JOIN message m ON m.seq = i.seq"
    f" WHERE i.mailbox = :mailbox AND i.sender = :sender{_READY}"
)
# Of the postmaster's mail, at most so many rows: what came of mail to one sender. 2 is Kind.REPORT.
READY_ABOUT = (
    f"{_READY_COLUMNS} FROM (SELECT mailbox, priority, seq FROM inbox INDEXED BY inbox_sender"  # noqa: S608
    " WHERE mailbox = :mailbox AND sender = :postmaster ORDER BY priority DESC, seq DESC LIMIT 30) newest"
    " CROSS JOIN inbox i ON i.mailbox = newest.mailbox AND i.priority = newest.priority AND i.seq = newest.seq"
    " CROSS JOIN message m ON m.seq = i.seq AND m.kind = 2 CROSS JOIN message a ON a.seq = m.reply_to"
    " WHERE EXISTS (SELECT 1 FROM json_each(a.recipients) r WHERE r.value = :sender)"
    f"{_READY}"
)
READY_BY_CHANNEL = (
    f"{_READY_COLUMNS} FROM inbox i INDEXED BY inbox_channel CROSS JOIN message m ON m.seq = i.seq"
    f" WHERE i.mailbox = :mailbox AND i.channel = :channel AND i.channel IS NOT NULL{_READY}"
)
READY_IN_THREAD = (
    f"{_READY_COLUMNS} FROM inbox i INDEXED BY inbox_thread CROSS JOIN message m ON m.seq = i.seq"
    " WHERE i.mailbox = :mailbox AND i.thread = :thread AND (:sender IS NULL OR i.sender = :sender)"
    f" AND (:channel IS NULL OR i.channel = :channel){_READY}"
)

LAPSED_READERS = """
SELECT reader FROM inbox INDEXED BY inbox_leased
WHERE mailbox = ? AND lease_until > 0 AND lease_until <= ? AND reader IS NOT NULL
"""

OCCUPANT = "SELECT reader, label, since FROM occupant WHERE mailbox = ?"
HOLDS = """
SELECT priority, seq, generation FROM inbox INDEXED BY inbox_reader WHERE reader = ? AND mailbox = ?
"""

LEASED_BY_REQUEST = """
SELECT mailbox, priority, seq, surfaced, attempts FROM inbox INDEXED BY inbox_reader
WHERE reader = ? AND request = ? ORDER BY priority, seq
"""
LEASED_BY_READER = """
SELECT mailbox, priority, seq, surfaced, attempts FROM inbox INDEXED BY inbox_reader WHERE reader = ?
"""

# Over: nobody is to be handed these any more, as soon as nobody holds them.
_OVER = """
SELECT i.mailbox, i.priority, i.seq, i.reader, i.attempts, i.expires > 0 AND i.expires <= :now AS expired,
       i.reader IS NOT NULL AND i.attempts >= b.attempts AS exhausted
"""
_IS_OVER = "(i.expires > 0 AND i.expires <= :now OR i.reader IS NOT NULL AND i.attempts >= b.attempts)"
OVER_BY_EXPIRY = f"""
{_OVER} FROM inbox i INDEXED BY inbox_expiry CROSS JOIN mailbox b ON b.id = i.mailbox
WHERE i.expires > 0 AND i.expires <= :now AND i.lease_until <= :now
"""
OVER_BY_LAPSE = f"""
{_OVER} FROM inbox i INDEXED BY inbox_lapse CROSS JOIN mailbox b ON b.id = i.mailbox
WHERE i.lease_until > 0 AND i.lease_until > :after AND i.lease_until <= :now AND {_IS_OVER}
"""
OVER_OF_READER = f"""
{_OVER} FROM inbox i INDEXED BY inbox_reader CROSS JOIN mailbox b ON b.id = i.mailbox
WHERE i.reader = :reader AND i.lease_until <= :now AND {_IS_OVER}
"""

_MESSAGE = """
       m.seq, m.thread, m.recipients, m.cc, m.reply_to, m.priority, m.accepted, m.size, m.subject, m.kind, m.format,
       m.expires, s.name AS sender_name, s.space AS sender_space, s.owner AS sender_owner
"""
# A body is read as bytes: damaged text may be no UTF-8, and must not stop what reads it.
_BODY = "CAST(m.body AS BLOB) AS text, m.checksum"
DELIVERED = f"""
SELECT i.generation, i.lease_until, i.reader, i.attempts, i.leased, i.seen, i.channel, {_BODY}, {_MESSAGE}
FROM inbox i JOIN message m ON m.seq = i.seq JOIN mailbox s ON s.id = m.sender
WHERE i.mailbox = ? AND i.priority = ? AND i.seq = ?
"""  # noqa: S608 - constants only
WHOLE = f"""
SELECT {_BODY}, m.sender, {_MESSAGE} FROM message m JOIN mailbox s ON s.id = m.sender WHERE m.seq = ?
"""  # noqa: S608

ATTACHMENTS = "SELECT name, type, size, sha256 FROM attachment WHERE message = ? ORDER BY position"
SIGNATURE = "SELECT jws FROM signature WHERE message = ?"
WRITTEN = "SELECT at FROM written WHERE message = ?"
FORMAT = "SELECT seq, format FROM message WHERE seq = ?"
IS_ATTACHED = "SELECT 1 FROM attachment WHERE sha256 = ? LIMIT 1"
ALL_ATTACHED = "SELECT DISTINCT sha256 FROM attachment"

# A listing is these, one behind the other: each is in the order of its index, and begins where the cursor stands.
WAITING_PAGE = f"""
SELECT i.priority AS rank, i.lease_until, i.reader, i.attempts, i.leased, i.seen, i.channel, m.preview AS text,
       {_MESSAGE}
FROM inbox i CROSS JOIN message m ON m.seq = i.seq CROSS JOIN mailbox s ON s.id = i.sender
WHERE i.mailbox = ? AND i.priority = ? AND i.seq > ? ORDER BY i.seq LIMIT ?
"""  # noqa: S608 - constants only
DEAD_PAGE = f"""
SELECT {DEAD_RANK} AS rank, d.state, d.attempts, d.at, d.leased, d.seen, d.reason, d.channel,
       m.preview AS text, {_MESSAGE}
FROM done d INDEXED BY done_listed CROSS JOIN message m ON m.seq = d.seq CROSS JOIN mailbox s ON s.id = m.sender
WHERE d.mailbox = ? AND d.listed = 1 AND d.seq > ? ORDER BY d.seq LIMIT ?
"""  # noqa: S608 - constants only
REQUESTS_PAGE = f"""
SELECT m.preview AS text, {_MESSAGE}
FROM contact c INDEXED BY contact_waiting CROSS JOIN message m ON m.seq = c.seq
CROSS JOIN mailbox s ON s.id = m.sender
WHERE c.mailbox = ? AND c.standing = 0 AND c.seq > ? ORDER BY c.seq LIMIT ?
"""  # noqa: S608 - constants only
# What somebody has sent by a time and nobody has acked, the oldest first.
LAST_BEFORE = "SELECT seq FROM message WHERE accepted <= ? ORDER BY accepted DESC, seq DESC LIMIT 1"
OVERDUE_PAGE = f"""
SELECT i.mailbox, b.name AS to_name, b.space AS to_space, i.lease_until, i.reader, i.attempts, i.leased, i.seen,
       m.preview AS text, {_MESSAGE}
FROM inbox i INDEXED BY inbox_sent CROSS JOIN message m ON m.seq = i.seq CROSS JOIN mailbox s ON s.id = i.sender
CROSS JOIN mailbox b ON b.id = i.mailbox
WHERE i.sender = ? AND i.channel IS NULL AND (i.seq, i.mailbox) > (?, ?) AND i.seq <= ?
ORDER BY i.seq, i.mailbox LIMIT ?
"""  # noqa: S608 - constants only

# All mail of a mailbox is found by looking through the store's, so many rows at a time: an index on who sent what would
# cost each send 6 %, and is wanted by nobody but an export.
RANGE_END = "SELECT seq FROM message WHERE seq > ? ORDER BY seq LIMIT 1 OFFSET ?"
LAST_MESSAGE = "SELECT max(seq) FROM message"
MAIL_IN_RANGE = """
SELECT m.seq, m.size FROM message m
WHERE m.seq > :after AND m.seq <= :last AND (:thread IS NULL OR m.thread = :thread)
  AND (m.sender = :mailbox
       OR EXISTS (SELECT 1 FROM done d WHERE d.mailbox = :mailbox AND d.seq = m.seq)
       OR EXISTS (SELECT 1 FROM inbox i WHERE i.mailbox = :mailbox AND i.priority = m.priority AND i.seq = m.seq))
ORDER BY m.seq LIMIT :limit
"""
# What may go: all of it is settled, none of it is listed, and it is so for long enough. Whatever else keeps a message
# is to be asked here.
_MAY_GO = """
json_valid(m.recipients) AND NOT EXISTS (
    SELECT 1 FROM json_each(m.recipients) LEFT JOIN done d ON d.mailbox = json_each.value AND d.seq = m.seq
    WHERE json_each.value > 0 AND (d.seq IS NULL OR d.listed OR d.at > :before)
) AND NOT EXISTS (
    SELECT 1 FROM json_each(m.recipients) WHERE json_each.value < 0 AND (
        EXISTS (SELECT 1 FROM channel_message p WHERE p.channel = -json_each.value AND p.seq = m.seq)
        OR EXISTS (SELECT 1 FROM inbox i INDEXED BY inbox_post WHERE i.channel = -json_each.value AND i.seq = m.seq)
        OR EXISTS (
            SELECT 1 FROM done d INDEXED BY done_post
            WHERE d.channel = -json_each.value AND d.seq = m.seq AND (d.listed OR d.at > :before)
        )
    )
)
"""
_DELIVERIES = """
json_array_length(m.recipients) + (
    SELECT count(*) FROM json_each(m.recipients) CROSS JOIN done d INDEXED BY done_post
    ON d.channel = -json_each.value AND d.seq = m.seq WHERE json_each.value < 0
)
"""
MAY_GO = f"SELECT m.recipients FROM message m WHERE m.seq = :seq AND {_MAY_GO}"  # noqa: S608 - constants only
MAY_GO_PAGE = f"""
SELECT m.seq, m.size, CASE WHEN {_MAY_GO} THEN {_DELIVERIES} ELSE 0 END AS deliveries FROM message m
WHERE m.seq > :after AND m.seq <= :last ORDER BY m.seq LIMIT :limit
"""  # noqa: S608
CAME_TO = "SELECT mailbox FROM done INDEXED BY done_post WHERE channel = ? AND seq = ?"
IN_THREAD = """
SELECT seq, sender FROM message INDEXED BY message_reply WHERE thread = ? AND reply_to IS NOT NULL
ORDER BY seq DESC LIMIT ?
"""
# A thread from its beginning or its end. What answers in it has `reply_to`; what began it is the message of its number.
_OF_THREAD = """
SELECT seq FROM message INDEXED BY message_reply
WHERE thread = :thread AND reply_to IS NOT NULL AND seq >= :first AND seq <= :last ORDER BY seq {} LIMIT :some
"""
THREAD_UP = _OF_THREAD.format("")
THREAD_DOWN = _OF_THREAD.format("DESC")

# The log as the search index reads it, and what it finds. Damaged text must not stop the one or the other.
LAST = "SELECT seq FROM sqlite_sequence WHERE name = 'message'"
MARK = "SELECT accepted, checksum FROM message WHERE seq = ?"
INDEXED = """
SELECT seq, thread, sender, recipients, accepted, checksum, size, format, CAST(subject AS BLOB) AS title,
       CAST(body AS BLOB) AS text FROM message WHERE seq > ? ORDER BY seq LIMIT ?
"""
FIRST_FROM = "SELECT seq FROM message WHERE seq >= ? ORDER BY seq LIMIT 1"
LAST_TO = "SELECT seq, accepted, checksum FROM message WHERE seq <= ? ORDER BY seq DESC LIMIT 1"
HIT = f"""
SELECT m.preview AS text, m.sender, {_MESSAGE} FROM message m CROSS JOIN mailbox s ON s.id = m.sender WHERE m.seq = ?
"""  # noqa: S608 - constants only
BEGINNING = "SELECT CAST(substr(body, 1, ?) AS BLOB) FROM message WHERE seq = ?"

# What is ready and new to a reader, of the newest of one priority: a look that ends, however much waits.
NEWS = f"""
SELECT newest.seq, newest.thread, newest.priority, newest.channel, m.kind, m.cc,
       max(m.accepted, newest.lease_until, newest.leased) AS since, s.name AS sender_name, s.space AS sender_space
FROM (SELECT * FROM inbox WHERE mailbox = :mailbox AND priority = :priority ORDER BY seq DESC LIMIT {NEWS_LIMIT}) newest
CROSS JOIN message m ON m.seq = newest.seq CROSS JOIN mailbox s ON s.id = newest.sender
WHERE newest.lease_until <= :now AND (newest.expires = 0 OR newest.expires > :now)
  AND (newest.seen = 0 OR newest.lease_until > 0 AND newest.reader IS NULL OR :pool)
"""  # noqa: S608 - constants only
LAST_RUNG = "SELECT seq FROM ring WHERE mailbox = ? ORDER BY seq DESC LIMIT 1"

LAPSED = """
SELECT DISTINCT mailbox FROM inbox INDEXED BY inbox_lapse
WHERE lease_until > 0 AND lease_until > ? AND lease_until <= ?
"""
NEXT_LAPSE = "SELECT min(lease_until) FROM inbox INDEXED BY inbox_lapse WHERE lease_until > 0 AND lease_until > ?"
NEXT_EXPIRY = "SELECT min(expires) FROM inbox INDEXED BY inbox_expiry WHERE expires > 0 AND expires > ?"
UNREACHED = """
SELECT DISTINCT reader, request FROM inbox INDEXED BY inbox_reader WHERE reader IS NOT NULL AND NOT surfaced
"""
HOLDERS = """
SELECT reader, min(lease_until) FROM inbox INDEXED BY inbox_reader WHERE reader IS NOT NULL GROUP BY reader
"""
LAPSED_OF_READER = """
SELECT DISTINCT mailbox FROM inbox INDEXED BY inbox_reader WHERE reader = ? AND lease_until <= ?
"""
