"""How an older store becomes today's: the statements that lead from the version before to each version.

A store that was migrated has the tables, columns and indexes of one that `schema.sql` made (`tests/engines`). A
version that has been released never changes.
"""

from __future__ import annotations

import json

from mcp_mailbox import directory

MIGRATIONS: dict[int, str] = {
    2: """
ALTER TABLE mailbox ADD COLUMN contact TEXT NOT NULL DEFAULT 'open';
DROP INDEX mailbox_folded;
CREATE INDEX mailbox_folded ON mailbox (folded, owner);
CREATE INDEX mailbox_owner ON mailbox (owner, space, folded);
CREATE TABLE token (
    id        TEXT PRIMARY KEY,
    digest    BLOB    NOT NULL UNIQUE,
    name      TEXT    NOT NULL,
    principal TEXT    NOT NULL,
    scopes    TEXT    NOT NULL,
    mailbox   TEXT,
    space     TEXT,
    created   INTEGER NOT NULL,
    expires   INTEGER,
    revoked   INTEGER
) WITHOUT ROWID;
CREATE INDEX token_created ON token (created, id);
""",
    # New columns of `message` stand before its body, so it is made anew; numbers go on where they were.
    3: """
ALTER TABLE mailbox ADD COLUMN attempts INTEGER NOT NULL DEFAULT 5;
CREATE TABLE message_3 (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    thread     INTEGER NOT NULL,
    sender     INTEGER NOT NULL,
    recipients TEXT    NOT NULL,
    reply_to   INTEGER,
    priority   INTEGER NOT NULL,
    accepted   INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    checksum   INTEGER NOT NULL,
    kind       INTEGER NOT NULL DEFAULT 0,
    format     INTEGER NOT NULL DEFAULT 0,
    expires    INTEGER NOT NULL DEFAULT 0,
    receipt    INTEGER NOT NULL DEFAULT 0,
    cc         TEXT    NOT NULL DEFAULT '[]',
    subject    TEXT    NOT NULL,
    preview    TEXT    NOT NULL,
    body       TEXT    NOT NULL
);
INSERT INTO message_3 (seq, thread, sender, recipients, reply_to, priority, accepted, size, checksum, subject, preview,
    body)
SELECT seq, thread, sender, recipients, reply_to, priority, accepted, size, checksum, subject, preview, body
FROM message ORDER BY seq;
DELETE FROM sqlite_sequence WHERE name = 'message_3';
INSERT INTO sqlite_sequence (name, seq) SELECT 'message_3', seq FROM sqlite_sequence WHERE name = 'message';
DROP TABLE message;
ALTER TABLE message_3 RENAME TO message;
CREATE INDEX message_accepted ON message (accepted);
ALTER TABLE inbox ADD COLUMN leased INTEGER NOT NULL DEFAULT 0;
ALTER TABLE inbox ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE inbox ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;
ALTER TABLE inbox ADD COLUMN topic TEXT;
DROP INDEX inbox_leased;
DROP INDEX inbox_lapse;
CREATE INDEX inbox_leased ON inbox (mailbox, lease_until) WHERE lease_until > 0;
CREATE INDEX inbox_lapse ON inbox (lease_until) WHERE lease_until > 0;
CREATE INDEX inbox_expiry ON inbox (expires) WHERE expires > 0;
CREATE INDEX inbox_topic ON inbox (mailbox, sender, topic) WHERE topic IS NOT NULL;
CREATE INDEX inbox_sent ON inbox (sender, seq, mailbox);
ALTER TABLE done ADD COLUMN leased INTEGER NOT NULL DEFAULT 0;
ALTER TABLE done ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE done ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE done ADD COLUMN listed INTEGER NOT NULL DEFAULT 0;
UPDATE done SET listed = 1 WHERE state = 3;
DROP INDEX done_rejected;
CREATE INDEX done_listed ON done (mailbox, seq) WHERE listed = 1;
CREATE TABLE ring (
    mailbox INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (mailbox, seq)
) WITHOUT ROWID;
CREATE INDEX reader_at ON reader (at);
""",
    4: """
CREATE TABLE reservation (
    mailbox INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    space   TEXT    NOT NULL,
    mode    TEXT    NOT NULL,
    note    TEXT    NOT NULL,
    made    INTEGER NOT NULL,
    until   INTEGER NOT NULL,
    PRIMARY KEY (mailbox, name)
) WITHOUT ROWID;
CREATE INDEX reservation_space ON reservation (space, until);
CREATE INDEX reservation_until ON reservation (until);
""",
    5: """
ALTER TABLE mailbox ADD COLUMN kind TEXT NOT NULL DEFAULT 'personal';
ALTER TABLE mailbox ADD COLUMN share INTEGER NOT NULL DEFAULT 1;
CREATE TABLE occupant (
    mailbox INTEGER PRIMARY KEY,
    reader  TEXT    NOT NULL,
    label   TEXT    NOT NULL,
    since   INTEGER NOT NULL
);
""",
    6: """
CREATE INDEX mailbox_contact ON mailbox (space, contact, folded);
CREATE INDEX mailbox_own ON mailbox (owner, space, contact, folded);
CREATE TABLE mailbox_term (
    mailbox INTEGER NOT NULL,
    term    TEXT    NOT NULL,
    space   TEXT    NOT NULL,
    PRIMARY KEY (mailbox, term)
) WITHOUT ROWID;
INSERT INTO mailbox_term (mailbox, term, space)
SELECT m.id, t.value, m.space FROM mailbox m, json_each(terms_of(m.name, m.about, m.skills)) t;
CREATE INDEX mailbox_term_space ON mailbox_term (space, term);
CREATE TABLE presence (
    mailbox INTEGER PRIMARY KEY,
    seen    INTEGER NOT NULL DEFAULT 0,
    status  TEXT    NOT NULL DEFAULT '',
    away    INTEGER NOT NULL DEFAULT 0,
    until   INTEGER NOT NULL DEFAULT 0
);
""",
    # Every mailbox that all of its space may write to is a member of #all, from now on. The postmaster, whose principal
    # is '', reads nothing.
    7: """
CREATE TABLE channel (
    id         INTEGER PRIMARY KEY,
    space      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    folded     TEXT    NOT NULL,
    looks      TEXT    NOT NULL,
    capitals   TEXT    NOT NULL,
    ascii      INTEGER NOT NULL,
    owner      TEXT    NOT NULL,
    created    INTEGER NOT NULL,
    keep_age   INTEGER NOT NULL,
    keep_count INTEGER NOT NULL,
    keep_bytes INTEGER NOT NULL,
    members    INTEGER NOT NULL DEFAULT 0,
    last       INTEGER NOT NULL DEFAULT 0,
    bytes      INTEGER NOT NULL DEFAULT 0,
    published  INTEGER NOT NULL DEFAULT 0,
    UNIQUE (space, folded)
);
CREATE INDEX channel_looks ON channel (space, looks);
CREATE INDEX channel_capitals ON channel (space, capitals, ascii);
CREATE TABLE channel_message (
    channel    INTEGER NOT NULL,
    place      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    sender     INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    below      INTEGER NOT NULL,
    deliver_at INTEGER NOT NULL DEFAULT 0,
    expires    INTEGER NOT NULL DEFAULT 0,
    replaced   INTEGER NOT NULL DEFAULT 0,
    topic      TEXT,
    PRIMARY KEY (channel, place)
) WITHOUT ROWID;
CREATE INDEX channel_message_seq ON channel_message (channel, seq);
CREATE INDEX channel_message_at ON channel_message (channel, at);
CREATE INDEX channel_message_below ON channel_message (channel, below);
CREATE INDEX channel_message_later ON channel_message (deliver_at) WHERE deliver_at > 0;
CREATE INDEX channel_message_topic ON channel_message (channel, sender, topic) WHERE topic IS NOT NULL;
CREATE TABLE subscription (
    mailbox INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    since   INTEGER NOT NULL,
    place   INTEGER NOT NULL,
    until   INTEGER NOT NULL,
    PRIMARY KEY (mailbox, channel, since)
) WITHOUT ROWID;
CREATE INDEX subscription_due ON subscription (mailbox, channel, since) WHERE place < until;
CREATE INDEX subscription_channel ON subscription (channel, until);
CREATE TABLE skip (
    mailbox INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (mailbox, channel)
) WITHOUT ROWID;
ALTER TABLE inbox ADD COLUMN channel INTEGER;
ALTER TABLE done ADD COLUMN channel INTEGER;
CREATE INDEX inbox_channel ON inbox (mailbox, channel, priority, seq) WHERE channel IS NOT NULL;
DROP INDEX inbox_sent;
CREATE INDEX inbox_sent ON inbox (sender, seq, mailbox) WHERE channel IS NULL;
INSERT INTO channel (space, name, folded, looks, capitals, ascii, owner, created, keep_age, keep_count, keep_bytes,
    members)
SELECT space, 'all', 'all', 'a11', 'ALL', 1, '', max(created), 2592000000, 10000, 67108864, count(*) FROM mailbox
WHERE owner <> '' AND contact IN ('open', 'space') GROUP BY space;
INSERT INTO subscription (mailbox, channel, since, place, until)
SELECT m.id, c.id, 0, 0, 4611686018427387904 FROM mailbox m JOIN channel c ON c.space = m.space
WHERE m.owner <> '' AND m.contact IN ('open', 'space');
""",
    8: """
CREATE TABLE contact (
    mailbox    INTEGER NOT NULL,
    sender     INTEGER NOT NULL,
    standing   INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    seq        INTEGER NOT NULL DEFAULT 0,
    notice     INTEGER NOT NULL DEFAULT 0,
    principal  TEXT    NOT NULL DEFAULT '',
    expires    INTEGER NOT NULL DEFAULT 0,
    deliver_at INTEGER NOT NULL DEFAULT 0,
    topic      TEXT,
    let_in     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (mailbox, sender)
) WITHOUT ROWID;
CREATE INDEX contact_waiting ON contact (mailbox, seq) WHERE standing = 0;
CREATE INDEX contact_principal ON contact (mailbox, principal, standing, at);
CREATE INDEX contact_expiry ON contact (expires) WHERE standing = 0;
ALTER TABLE message ADD COLUMN hops INTEGER NOT NULL DEFAULT 0;
""",
    9: """
CREATE TABLE attachment (
    message  INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    type     TEXT    NOT NULL,
    size     INTEGER NOT NULL,
    sha256   BLOB    NOT NULL,
    PRIMARY KEY (message, position)
) WITHOUT ROWID;
CREATE INDEX attachment_sha256 ON attachment (sha256);
""",
    # Rings of nothing were noted, and would never go. What has a plain id keeps it.
    10: """
INSERT INTO meta (name, value) SELECT 'plain_ids', seq FROM sqlite_sequence WHERE name = 'message';
ALTER TABLE mailbox ADD COLUMN written TEXT NOT NULL DEFAULT '';
UPDATE mailbox SET written = written_skeleton(name);
CREATE INDEX mailbox_written ON mailbox (space, written);
CREATE INDEX message_reply ON message (thread) WHERE reply_to IS NOT NULL;
DELETE FROM ring WHERE NOT EXISTS (
    SELECT 1 FROM done d WHERE d.mailbox = ring.mailbox AND d.seq <= ring.seq AND d.seq > ifnull(
        (SELECT max(seq) FROM ring r WHERE r.mailbox = ring.mailbox AND r.seq < ring.seq), 0)
) AND NOT EXISTS (
    SELECT 1 FROM inbox i WHERE i.mailbox = ring.mailbox AND i.priority IN (0, 1, 2) AND i.seq <= ring.seq
        AND i.seq > ifnull((SELECT max(seq) FROM ring r WHERE r.mailbox = ring.mailbox AND r.seq < ring.seq), 0)
);
""",
    11: """
CREATE INDEX inbox_post ON inbox (channel, seq) WHERE channel IS NOT NULL;
CREATE INDEX done_post ON done (channel, seq) WHERE channel IS NOT NULL;
""",
    # A mailbox that asks first may from now on be a member of #all without having joined: it hears there whom it knows.
    12: """
ALTER TABLE token ADD COLUMN confined INTEGER NOT NULL DEFAULT 0;
CREATE TABLE invitation (
    id        TEXT PRIMARY KEY,
    digest    BLOB    NOT NULL UNIQUE,
    name      TEXT    NOT NULL,
    principal TEXT    NOT NULL,
    scopes    TEXT    NOT NULL,
    mailbox   TEXT,
    space     TEXT,
    lasts     INTEGER NOT NULL,
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    revoked   INTEGER,
    redeemed  INTEGER,
    token     TEXT
) WITHOUT ROWID;
CREATE INDEX invitation_created ON invitation (created, id);
CREATE INDEX invitation_expires ON invitation (expires);
ALTER TABLE subscription ADD COLUMN known INTEGER NOT NULL DEFAULT 0;
""",
    # The numbers are those of `quotas` in this version.
    13: """
CREATE TABLE space_size (
    space TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO space_size (space, bytes)
SELECT b.space, sum(512 + 128 * json_array_length(m.recipients) + m.size
    + ifnull((SELECT sum(a.size) FROM attachment a WHERE a.message = m.seq), 0))
FROM message m JOIN mailbox b ON b.id = m.sender GROUP BY b.space;
""",
    14: """
CREATE TABLE signature (message INTEGER PRIMARY KEY, jws TEXT NOT NULL);
""",
    15: """
CREATE TABLE written (message INTEGER PRIMARY KEY, at INTEGER NOT NULL);
""",
}
VERSION = max(MIGRATIONS)
"""Of the schema, as `PRAGMA user_version` has it."""


def terms_of(name: str, about: str, skills: str) -> str:
    """Return a mailbox's terms as a JSON array: what a migration calls, since SQL cannot tell words apart."""
    return json.dumps(sorted(directory.terms(name, about, json.loads(skills))))
