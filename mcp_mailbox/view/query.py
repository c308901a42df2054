"""The queries: SQL that reads the view, and the rows that it gives.

Each statement's cost is bounded by what it returns, whatever the history (`tests/view/` reads the plans and counts
the steps). A statement is a constant, so that what is measured is what runs.
"""

from __future__ import annotations

from mcp_mailbox.store import NEWS_LIMIT

DEAD_RANK = 3
"""Dead letters are listed behind the three priorities."""

_COLUMNS = "id, space, name, owner, about, skills, created, contact, attempts, kind, share"

MAILBOX = f"SELECT {_COLUMNS} FROM mailbox WHERE space = ? AND folded = ?"  # noqa: S608 - constants only
MAILBOX_BY_ID = f"SELECT {_COLUMNS} FROM mailbox WHERE id = ?"  # noqa: S608
BOUND = f"SELECT {_COLUMNS} FROM mailbox WHERE id = (SELECT mailbox FROM reader WHERE id = ?)"  # noqa: S608

LOOKALIKE = """
SELECT name, owner FROM mailbox
WHERE space = ?1 AND (looks = ?2 OR (capitals = ?3 AND ascii + ?4 < 2)) LIMIT 1
"""

BY_PREFIX = """
SELECT name, space FROM mailbox
WHERE owner = ? AND space = ? AND folded >= ? AND folded < ? ORDER BY folded LIMIT ?
"""

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
       iif(p.until > ?1, p.away, 0) AS away
FROM mailbox m LEFT JOIN presence p ON p.mailbox = m.id WHERE m.id = ?2
"""

_TOKEN = "SELECT id, name, principal, scopes, mailbox, space, created, expires, revoked FROM token"  # noqa: S105
TOKEN_BY_DIGEST = f"{_TOKEN} WHERE digest = ?"
TOKEN_BY_ID = f"{_TOKEN} WHERE id = ?"
TOKENS = f"{_TOKEN} ORDER BY created, id"
TOKENS_WHOLE = "SELECT id, digest, name, principal, scopes, mailbox, space, created, expires, revoked FROM token"

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

# What is leased or put off cannot be handed out, nor what waits to be carried off: tried too often, or expired.
UNREAD = """
SELECT unsettled - (
    SELECT count(*) FROM inbox INDEXED BY inbox_leased
    WHERE mailbox = ?1 AND lease_until > 0 AND (lease_until > ?2 OR (
        reader IS NOT NULL AND attempts >= (SELECT attempts FROM mailbox WHERE id = ?1)))
) - (
    SELECT count(*) FROM inbox INDEXED BY inbox_expiry
    WHERE expires > 0 AND expires <= ?2 AND mailbox = ?1 AND lease_until <= ?2 AND (
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

KNOWN = "SELECT hash, answer FROM idempotency WHERE sender = ? AND key = ?"

PARENT = "SELECT thread, sender, priority, kind FROM message WHERE seq = ?"
WAITING = """
SELECT i.priority, i.generation, i.lease_until, i.reader, i.attempts, i.leased, i.seen
FROM message m CROSS JOIN inbox i ON i.mailbox = ?1 AND i.priority = m.priority AND i.seq = m.seq WHERE m.seq = ?2
"""
DONE = "SELECT state, generation, attempts, at, leased, seen, reason, listed FROM done WHERE mailbox = ? AND seq = ?"
RUNG = "SELECT at FROM ring WHERE mailbox = ? AND seq >= ? ORDER BY seq LIMIT 1"
REPORTED = "SELECT sender, thread, subject, receipt, kind, reply_to FROM message WHERE seq = ?"
REPLACEABLE = """
SELECT mailbox, priority, seq FROM inbox INDEXED BY inbox_topic
WHERE mailbox = ? AND sender = ? AND topic = ? AND reader IS NULL AND seen = 0
"""

_READY = """
  AND i.lease_until <= :now
  AND (i.expires = 0 OR i.expires > :now)
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
READY_IN_THREAD = (
    f"{_READY_COLUMNS} FROM inbox i INDEXED BY inbox_thread CROSS JOIN message m ON m.seq = i.seq"
    " WHERE i.mailbox = :mailbox AND i.thread = :thread AND (:sender IS NULL OR i.sender = :sender)"
    f"{_READY}"
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
       m.expires, s.name AS sender_name, s.space AS sender_space
"""
# A body is read as bytes: damaged text may be no UTF-8, and must not stop what reads it.
_BODY = "CAST(m.body AS BLOB) AS text, m.checksum"
DELIVERED = f"""
SELECT i.generation, i.lease_until, i.reader, i.attempts, i.leased, i.seen, {_BODY}, {_MESSAGE}
FROM inbox i JOIN message m ON m.seq = i.seq JOIN mailbox s ON s.id = m.sender
WHERE i.mailbox = ? AND i.priority = ? AND i.seq = ?
"""  # noqa: S608 - constants only
WHOLE = f"""
SELECT {_BODY}, m.sender, {_MESSAGE} FROM message m JOIN mailbox s ON s.id = m.sender WHERE m.seq = ?
"""  # noqa: S608

# A listing is these, one behind the other: each is in the order of its index, and begins where the cursor stands.
WAITING_PAGE = f"""
SELECT i.priority AS rank, i.lease_until, i.reader, i.attempts, i.leased, i.seen, m.preview AS text, {_MESSAGE}
FROM inbox i CROSS JOIN message m ON m.seq = i.seq CROSS JOIN mailbox s ON s.id = i.sender
WHERE i.mailbox = ? AND i.priority = ? AND i.seq > ? ORDER BY i.seq LIMIT ?
"""  # noqa: S608 - constants only
DEAD_PAGE = f"""
SELECT {DEAD_RANK} AS rank, d.state, d.attempts, d.at, d.leased, d.seen, d.reason, m.preview AS text, {_MESSAGE}
FROM done d INDEXED BY done_listed CROSS JOIN message m ON m.seq = d.seq CROSS JOIN mailbox s ON s.id = m.sender
WHERE d.mailbox = ? AND d.listed = 1 AND d.seq > ? ORDER BY d.seq LIMIT ?
"""  # noqa: S608 - constants only
# What somebody has sent by a time and nobody has acked, the oldest first.
LAST_BEFORE = "SELECT seq FROM message WHERE accepted <= ? ORDER BY accepted DESC, seq DESC LIMIT 1"
OVERDUE_PAGE = f"""
SELECT i.mailbox, b.name AS to_name, b.space AS to_space, i.lease_until, i.reader, i.attempts, i.leased, i.seen,
       m.preview AS text, {_MESSAGE}
FROM inbox i INDEXED BY inbox_sent CROSS JOIN message m ON m.seq = i.seq CROSS JOIN mailbox s ON s.id = i.sender
CROSS JOIN mailbox b ON b.id = i.mailbox
WHERE i.sender = ? AND (i.seq, i.mailbox) > (?, ?) AND i.seq <= ? ORDER BY i.seq, i.mailbox LIMIT ?
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
# The log as the search index reads it, and what it finds. Damaged text must not stop the one or the other.
LAST = "SELECT seq FROM sqlite_sequence WHERE name = 'message'"
MARK = "SELECT accepted, checksum FROM message WHERE seq = ?"
INDEXED = """
SELECT seq, thread, sender, recipients, accepted, checksum, size, format, CAST(subject AS BLOB) AS title,
       CAST(body AS BLOB) AS text FROM message WHERE seq > ? ORDER BY seq LIMIT ?
"""
HIT = f"""
SELECT m.preview AS text, m.sender, {_MESSAGE} FROM message m CROSS JOIN mailbox s ON s.id = m.sender WHERE m.seq = ?
"""  # noqa: S608 - constants only
BEGINNING = "SELECT CAST(substr(body, 1, ?) AS BLOB) FROM message WHERE seq = ?"

# What is ready and new to a reader, of the newest of one priority: a look that ends, however much waits.
NEWS = f"""
SELECT newest.seq, newest.thread, newest.priority, m.kind, m.cc,
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
SELECT DISTINCT reader FROM inbox INDEXED BY inbox_reader WHERE reader IS NOT NULL AND NOT surfaced
"""
HOLDERS = """
SELECT reader, min(lease_until) FROM inbox INDEXED BY inbox_reader WHERE reader IS NOT NULL GROUP BY reader
"""
LAPSED_OF_READER = """
SELECT DISTINCT mailbox FROM inbox INDEXED BY inbox_reader WHERE reader = ? AND lease_until <= ?
"""
