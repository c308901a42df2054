"""Large stores, built in seconds: rows by the million through one statement a table instead of through the verbs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from mcp_mailbox.engines.sqlite.schema import prepare
from mcp_mailbox.view.apply import checksum
from mcp_mailbox.view.derived import DERIVED
from mcp_mailbox.view.migrations import terms_of

BOXES = 50
"""Mailboxes; the first gets every second message, the others share the rest."""
UNSETTLED = 10
"""One in so many messages is not settled."""

_MAILBOXES = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :boxes)
INSERT INTO mailbox (id, space, name, folded, looks, capitals, ascii, owner, about, skills, created, written)
SELECT i, 'default', 'box-' || i, 'box-' || i, 'box-' || i, 'BOX-' || i, 1, 'someone', '', '[]', 1, 'box-' || i FROM n
"""
_MESSAGES = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :messages)
INSERT INTO message (seq, thread, reply_to, sender, recipients, priority, accepted, size, checksum, subject, preview,
    body)
SELECT i, (i + 4) / 5 * 5 - 4, nullif(i - 1, (i - 1) / 5 * 5), i % :boxes + 1, '[1]', i % 3, :start + i, 5, :checksum,
       's', 'hello', 'hello' FROM n
"""
_DELIVERIES = """
SELECT CASE i % 2 WHEN 0 THEN 1 ELSE i / 2 % (:boxes - 1) + 2 END AS mailbox, priority, i AS seq, sender, thread
FROM (SELECT seq AS i, * FROM message)
"""
_INBOX = f"""
INSERT INTO inbox (mailbox, priority, seq, sender, thread)
SELECT mailbox, priority, seq, sender, thread FROM ({_DELIVERIES}) WHERE seq / 2 % {UNSETTLED} = 0
ORDER BY mailbox, priority, seq
"""
_DONE = f"""
INSERT INTO done (mailbox, seq, state, generation, attempts, at, listed)
SELECT mailbox, seq, iif(seq / 2 % {UNSETTLED} = 1, 3, 2), 1, 1, :start, seq / 2 % {UNSETTLED} = 1 FROM ({_DELIVERIES})
WHERE seq / 2 % {UNSETTLED} <> 0 ORDER BY mailbox, seq
"""
_KEYS = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :messages / 10)
INSERT INTO idempotency (sender, key, hash, answer, at) SELECT 1, 'k:' || (1000000000 + i), x'00', '{}', :start FROM n
"""
_RESERVATIONS = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :messages / 5)
INSERT INTO reservation (mailbox, name, space, mode, note, made, until)
SELECT i % :boxes + 1, 'file ' || i, CASE i % 2 WHEN 0 THEN 'default' ELSE 'elsewhere' END, 'exclusive', '', 1,
       CASE i % 2 WHEN 0 THEN i ELSE 1 << 50 END FROM n
"""
# Neighbours of a large store: in the same space, most of them everybody's to find, with words that all have.
_NEIGHBOURS = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :messages / 100)
INSERT INTO mailbox (id, space, name, folded, looks, capitals, ascii, owner, about, skills, created, written, contact)
SELECT :boxes + i, 'default', 'x' || i, 'x' || i, 'x' || i, 'X' || i, 1,
       CASE i % 5 WHEN 0 THEN 'someone' ELSE 'somebody else' END, '', '[]', 1, 'x' || i,
       CASE i % 5 WHEN 1 THEN 'closed' WHEN 2 THEN 'space' ELSE 'open' END FROM n
"""
_SAID = """
UPDATE mailbox SET skills = json_array('skill' || (id % 2)),
    about = 'all own' || id || ' word' || (id % 3) || ' ' || iif(id <= 5, 'few', 'x')
"""
_TERMS = """
INSERT INTO mailbox_term (mailbox, term, space)
SELECT m.id, t.value, m.space FROM mailbox m, json_each(terms_of(m.name, m.about, m.skills)) t
"""
# A hundred contents, each of them attached to a hundredth of what was acked long ago.
_ATTACHMENTS = """
INSERT INTO attachment (message, position, name, type, size, sha256)
SELECT seq, 0, 'plan.md', 'text/markdown', 5, CAST(printf('%032d', seq / 20 % 100) AS BLOB)
FROM message WHERE seq % 20 = 7
"""
_COUNTERS = "INSERT INTO counter (mailbox, unsettled) SELECT mailbox, count(*) FROM inbox GROUP BY mailbox"

_MISSING = "INSERT INTO counter (mailbox, unsettled) SELECT id, 0 FROM mailbox WHERE id > :boxes"
# One that asks first, and whom many have asked: a quarter of them waits.
_ASKED = f"""
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :messages / 10)
INSERT INTO contact (mailbox, sender, standing, at, seq, principal, expires)
SELECT {BOXES - 1}, (1 << 40) + i, i % 4, 1, i, 'p' || i, 1 << 50 FROM n
"""
_REST = (_NEIGHBOURS, _SAID, _TERMS, _MISSING, _ATTACHMENTS, _ASKED)


# Everybody is in two channels: one in which nothing was said, and one in which a tenth of all messages was.
_CHANNELS = (
    """
    INSERT INTO channel (id, space, name, folded, looks, capitals, ascii, owner, created, keep_age, keep_count,
        keep_bytes, members, last, bytes, published)
    SELECT 1, 'default', 'all', 'all', 'a11', 'ALL', 1, '', 1, 315360000000, 1000000, 1 << 34,
        count(*), 0, 0, 0 FROM mailbox
    """,
    """
    INSERT INTO channel (id, space, name, folded, looks, capitals, ascii, owner, created, keep_age, keep_count,
        keep_bytes, members, last, bytes, published)
    SELECT 2, 'default', 'busy', 'busy', 'busy', 'BUSY', 1, '', 1, 315360000000, 1000000, 1 << 34, count(*),
        :messages / 10, :messages / 2, :start FROM mailbox
    """,
    """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :messages / 10)
    INSERT INTO channel_message (channel, place, seq, sender, at, below)
    SELECT 2, i, i * 10, i * 10 % :boxes + 1, :start + i * 10, i * 5 FROM n
    """,
    """
    INSERT INTO subscription (mailbox, channel, since, place, until)
    SELECT m.id, c.id, 0, c.last, 1 << 62 FROM mailbox m, channel c
    """,
)

_WORDS = """
UPDATE message SET recipients = '[' || CASE seq % 2 WHEN 0 THEN 1 ELSE seq / 2 % (:boxes - 1) + 2 END || ']',
    body = 'hello' || CASE seq % 2 WHEN 0 THEN ' even' ELSE ' odd' END
        || CASE seq % 2000 WHEN 20 THEN ' rare' ELSE '' END || ' ' || (seq % 7919) || ' ' || (seq % 104729),
    preview = 'hello'
"""


def add_words(path: Path) -> None:
    """Give the messages words: all of them `hello`, those of the first mailbox `even` and the others `odd`.

    One in a thousand of the first mailbox's is `rare`. Their checksums are no longer right; nobody reads them whole.
    """
    with closing(prepare(path)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute(_WORDS, {"boxes": BOXES})
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def build(path: Path, messages: int, start: int) -> None:
    """Make a store that has had so many messages; a tenth of them waits, a tenth was rejected, the rest was acked.

    A fifth as many reservations: half of them have ended, half are held in another space. A hundredth as
    many mailboxes more, four fifths of them another principal's. All of them are members of two channels. A tenth as
    many strangers have asked the last mailbox but one to be let in, which is open until a test says otherwise.
    """
    values = {"boxes": BOXES, "messages": messages, "start": start, "checksum": checksum("s", b"hello")}
    with closing(prepare(path)) as db:
        db.create_function("terms_of", 3, terms_of, deterministic=True)
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        for statement in (_MAILBOXES, _MESSAGES, _INBOX, _DONE, _KEYS, _RESERVATIONS, _COUNTERS, *_REST, *_CHANNELS):
            db.execute(statement, values)
        for statement in DERIVED["space_size"].rebuild:
            db.execute(statement)
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
