-- The view. Times are ms since 1970 UTC. A mailbox, a reader and a message are known by their row's number inside,
-- and only by opaque ids outside. Not STRICT: SQLite before 3.37 is still shipped with Python 3.11.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

CREATE TABLE mailbox (
    id        INTEGER PRIMARY KEY,
    space     TEXT    NOT NULL,
    name      TEXT    NOT NULL,   -- as it was chosen
    folded    TEXT    NOT NULL,   -- as it is compared
    looks     TEXT    NOT NULL,   -- skeleton of the folded name
    capitals  TEXT    NOT NULL,   -- skeleton in capitals
    ascii     INTEGER NOT NULL,
    owner     TEXT    NOT NULL,
    about     TEXT    NOT NULL,
    skills    TEXT    NOT NULL,   -- a JSON array
    created   INTEGER NOT NULL,
    contact   TEXT    NOT NULL DEFAULT 'open',   -- who else may write to it
    attempts  INTEGER NOT NULL DEFAULT 5,        -- leases without an ack after which a delivery is a dead letter
    kind      TEXT    NOT NULL DEFAULT 'personal',
    share     INTEGER NOT NULL DEFAULT 1,        -- leases that each reader of a pool may hold
    written   TEXT    NOT NULL DEFAULT '',       -- skeleton of the name as it was chosen
    UNIQUE (space, folded)
);
CREATE INDEX mailbox_folded ON mailbox (folded, owner);   -- the same name in another space
CREATE INDEX mailbox_owner ON mailbox (owner, space, folded);
CREATE INDEX mailbox_looks ON mailbox (space, looks);
CREATE INDEX mailbox_written ON mailbox (space, written);
CREATE INDEX mailbox_capitals ON mailbox (space, capitals, ascii);
CREATE INDEX mailbox_contact ON mailbox (space, contact, folded);   -- who in a space may be found by everybody
CREATE INDEX mailbox_own ON mailbox (owner, space, contact, folded);

-- By what a mailbox is found: its words, and its skills as a whole (`directory.terms`).
CREATE TABLE mailbox_term (
    mailbox INTEGER NOT NULL,
    term    TEXT    NOT NULL,
    space   TEXT    NOT NULL,   -- the mailbox's
    PRIMARY KEY (mailbox, term)
) WITHOUT ROWID;
CREATE INDEX mailbox_term_space ON mailbox_term (space, term);

-- Apart from mailbox, since it is written while agents come and go.
CREATE TABLE presence (
    mailbox INTEGER PRIMARY KEY,
    seen    INTEGER NOT NULL DEFAULT 0,    -- when a reader was last here
    status  TEXT    NOT NULL DEFAULT '',   -- what its owner says of itself
    away    INTEGER NOT NULL DEFAULT 0,
    until   INTEGER NOT NULL DEFAULT 0     -- when that is forgotten
);

-- Apart from mailbox, so that a delivery touches a dense page and no index.
CREATE TABLE counter (
    mailbox   INTEGER PRIMARY KEY,
    unsettled INTEGER NOT NULL
);

-- What all messages that mailboxes of a space have sent count for, in bytes (`quotas.footprint`).
CREATE TABLE space_size (
    space TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE message (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used again, or a stale handle could name another message
    thread     INTEGER NOT NULL,
    sender     INTEGER NOT NULL,
    recipients TEXT    NOT NULL,                    -- a JSON array of mailbox ids
    reply_to   INTEGER,
    priority   INTEGER NOT NULL,
    accepted   INTEGER NOT NULL,
    size       INTEGER NOT NULL,                    -- bytes of the body
    checksum   INTEGER NOT NULL,                    -- of subject, body and rows of attachment: SQLite sees damaged pages only
    kind       INTEGER NOT NULL DEFAULT 0,          -- who speaks: somebody, or the post office of what became of mail
    format     INTEGER NOT NULL DEFAULT 0,          -- of the body; 16 more when there are rows of attachment
    expires    INTEGER NOT NULL DEFAULT 0,          -- when nobody is handed it any more; 0 for never
    receipt    INTEGER NOT NULL DEFAULT 0,          -- whether its sender wants to hear of acks
    cc         TEXT    NOT NULL DEFAULT '[]',       -- those of the recipients who are not rung, as a JSON array
    subject    TEXT    NOT NULL,
    preview    TEXT    NOT NULL,                    -- its beginning, so that a listing reads no overflow page
    body       TEXT    NOT NULL,                    -- what stands before it is read without it
    hops       INTEGER NOT NULL DEFAULT 0           -- quick answers up to here; behind the body, where it can be added
);
INSERT INTO sqlite_sequence (name, seq) VALUES ('message', 0);
CREATE INDEX message_accepted ON message (accepted);
CREATE INDEX message_reply ON message (thread) WHERE reply_to IS NOT NULL;   -- what is left of a thread without a first

-- What is attached to a message. The contents are files beside the store, by their SHA-256 (`blobs.py`).
CREATE TABLE attachment (
    message  INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    type     TEXT    NOT NULL,
    size     INTEGER NOT NULL,
    sha256   BLOB    NOT NULL,
    PRIMARY KEY (message, position)
) WITHOUT ROWID;
CREATE INDEX attachment_sha256 ON attachment (sha256);   -- whether anybody names a content

-- Hot: only what is not settled. A row is ready when lease_until <= now, so nothing has to be swept; a row that nobody
-- holds and that was put off has a lease_until and no reader.
CREATE TABLE inbox (
    mailbox     INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    sender      INTEGER NOT NULL,
    thread      INTEGER NOT NULL,
    generation  INTEGER NOT NULL DEFAULT 0,
    attempts    INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL DEFAULT 0,
    reader      TEXT,                               -- who holds the lease, NULL when nobody does
    request     TEXT,                               -- by which of its requests
    surfaced    INTEGER NOT NULL DEFAULT 0,         -- whether this lease is known to have reached its reader
    leased      INTEGER NOT NULL DEFAULT 0,         -- when it was last leased
    seen        INTEGER NOT NULL DEFAULT 0,         -- when it was first in its reader's hands
    expires     INTEGER NOT NULL DEFAULT 0,         -- as its message has it, or 0 once it was retried
    topic       TEXT,                               -- a newer one of the same sender and topic takes its place
    channel     INTEGER,                            -- by which it came
    PRIMARY KEY (mailbox, priority, seq)
) WITHOUT ROWID;
CREATE INDEX inbox_sender ON inbox (mailbox, sender, priority, seq);
CREATE INDEX inbox_thread ON inbox (mailbox, thread, priority, seq);
CREATE INDEX inbox_leased ON inbox (mailbox, lease_until) WHERE lease_until > 0;
CREATE INDEX inbox_reader ON inbox (reader, request) WHERE reader IS NOT NULL;
CREATE INDEX inbox_lapse ON inbox (lease_until) WHERE lease_until > 0;
CREATE INDEX inbox_expiry ON inbox (expires) WHERE expires > 0;
CREATE INDEX inbox_topic ON inbox (mailbox, sender, topic) WHERE topic IS NOT NULL;
CREATE INDEX inbox_sent ON inbox (sender, seq, mailbox) WHERE channel IS NULL;   -- of somebody's mail, and not acked
CREATE INDEX inbox_channel ON inbox (mailbox, channel, priority, seq) WHERE channel IS NOT NULL;
CREATE INDEX inbox_post ON inbox (channel, seq) WHERE channel IS NOT NULL;

-- Cold: what is settled.
CREATE TABLE done (
    mailbox    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    leased     INTEGER NOT NULL DEFAULT 0,
    seen       INTEGER NOT NULL DEFAULT 0,
    reason     TEXT    NOT NULL DEFAULT '',
    listed     INTEGER NOT NULL DEFAULT 0,   -- a dead letter that was neither retried nor purged
    channel    INTEGER,                      -- by which it came
    PRIMARY KEY (mailbox, seq)
) WITHOUT ROWID;
CREATE INDEX done_listed ON done (mailbox, seq) WHERE listed = 1;
CREATE INDEX done_post ON done (channel, seq) WHERE channel IS NOT NULL;

-- A name that fans out. What is published is stored once; of its members each has a row.
CREATE TABLE channel (
    id         INTEGER PRIMARY KEY,
    space      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    folded     TEXT    NOT NULL,
    looks      TEXT    NOT NULL,
    capitals   TEXT    NOT NULL,
    ascii      INTEGER NOT NULL,
    owner      TEXT    NOT NULL,                -- the principal that made it
    created    INTEGER NOT NULL,
    keep_age   INTEGER NOT NULL,                -- ms, messages and bytes of bodies: what is beyond one of these is
    keep_count INTEGER NOT NULL,                -- as if it were not there, whether or not its row is
    keep_bytes INTEGER NOT NULL,
    members    INTEGER NOT NULL DEFAULT 0,      -- now
    last       INTEGER NOT NULL DEFAULT 0,      -- place of what was published last
    bytes      INTEGER NOT NULL DEFAULT 0,      -- of all that was ever published
    published  INTEGER NOT NULL DEFAULT 0,      -- when that was
    UNIQUE (space, folded)
);
CREATE INDEX channel_looks ON channel (space, looks);
CREATE INDEX channel_capitals ON channel (space, capitals, ascii);
-- What is in a channel.
CREATE TABLE channel_message (
    channel    INTEGER NOT NULL,
    place      INTEGER NOT NULL,                -- 1, 2, 3 ...: what a subscription counts in
    seq        INTEGER NOT NULL,
    sender     INTEGER NOT NULL,
    at         INTEGER NOT NULL,                -- when it was published
    below      INTEGER NOT NULL,                -- `bytes` of the channel before it
    deliver_at INTEGER NOT NULL DEFAULT 0,
    expires    INTEGER NOT NULL DEFAULT 0,
    replaced   INTEGER NOT NULL DEFAULT 0,      -- by a newer one of the same topic
    topic      TEXT,
    PRIMARY KEY (channel, place)
) WITHOUT ROWID;
CREATE INDEX channel_message_seq ON channel_message (channel, seq);
CREATE INDEX channel_message_at ON channel_message (channel, at);
CREATE INDEX channel_message_below ON channel_message (channel, below);
CREATE INDEX channel_message_later ON channel_message (deliver_at) WHERE deliver_at > 0;
CREATE INDEX channel_message_topic ON channel_message (channel, sender, topic) WHERE topic IS NOT NULL;
-- From when to when a mailbox is a member: what is published meanwhile is moved into its inbox when it is looked at.
CREATE TABLE subscription (
    mailbox INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    since   INTEGER NOT NULL,   -- behind which place it begins
    place   INTEGER NOT NULL,   -- up to which it has been delivered
    until   INTEGER NOT NULL,   -- its last place; 1 << 62 while it lasts
    known   INTEGER NOT NULL DEFAULT 0,   -- whether it hears only those whom it takes mail from
    PRIMARY KEY (mailbox, channel, since)
) WITHOUT ROWID;
CREATE INDEX subscription_due ON subscription (mailbox, channel, since) WHERE place < until;
CREATE INDEX subscription_channel ON subscription (channel, until);
-- What was gone when a member came to read it, until it is told so.
CREATE TABLE skip (
    mailbox INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (mailbox, channel)
) WITHOUT ROWID;

-- What the owner of a mailbox that asks first has said of a sender. While it has said nothing, the sender's first message
-- waits here and in no inbox: it cannot be handed out, listed or counted by mistake.
CREATE TABLE contact (
    mailbox    INTEGER NOT NULL,
    sender     INTEGER NOT NULL,
    standing   INTEGER NOT NULL,
    at         INTEGER NOT NULL,             -- since when it stands so
    seq        INTEGER NOT NULL DEFAULT 0,   -- the message that waits, or has waited
    notice     INTEGER NOT NULL DEFAULT 0,   -- by which the owner was told
    principal  TEXT    NOT NULL DEFAULT '',  -- the sender's
    expires    INTEGER NOT NULL DEFAULT 0,   -- when it has waited long enough
    deliver_at INTEGER NOT NULL DEFAULT 0,
    topic      TEXT,
    let_in     INTEGER NOT NULL DEFAULT 0,   -- when that message was let in
    PRIMARY KEY (mailbox, sender)
) WITHOUT ROWID;
CREATE INDEX contact_waiting ON contact (mailbox, seq) WHERE standing = 0;
CREATE INDEX contact_principal ON contact (mailbox, principal, standing, at);
CREATE INDEX contact_expiry ON contact (expires) WHERE standing = 0;

-- When readers were told that there is mail: of all messages up to that number, if they were not told before. A row is
-- of one delivery at least, and goes with the last of them.
CREATE TABLE ring (
    mailbox INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (mailbox, seq)
) WITHOUT ROWID;

-- What a repeated request is answered from. Names the sender's mailbox, or 0 where a request made a mailbox.
-- By rowid, in the order of age, beside a slim index: fat rows in the order of keys dirtied a page a send.
CREATE TABLE idempotency (
    sender INTEGER NOT NULL,
    key    TEXT    NOT NULL,
    hash   BLOB    NOT NULL,
    answer TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    UNIQUE (sender, key)
);

-- Credentials. Of their tokens only the SHA-256 is kept.
CREATE TABLE token (
    id        TEXT PRIMARY KEY,
    digest    BLOB    NOT NULL UNIQUE,
    name      TEXT    NOT NULL,
    principal TEXT    NOT NULL,
    scopes    TEXT    NOT NULL,   -- separated by spaces
    mailbox   TEXT,
    space     TEXT,
    created   INTEGER NOT NULL,
    expires   INTEGER,
    revoked   INTEGER,
    confined  INTEGER NOT NULL DEFAULT 0   -- whether that space is the only one that there is for it
) WITHOUT ROWID;
CREATE INDEX token_created ON token (created, id);

-- What can be redeemed for a token, once. Of its code only the SHA-256 is kept.
CREATE TABLE invitation (
    id        TEXT PRIMARY KEY,
    digest    BLOB    NOT NULL UNIQUE,
    name      TEXT    NOT NULL,
    principal TEXT    NOT NULL,
    scopes    TEXT    NOT NULL,
    mailbox   TEXT,
    space     TEXT,               -- the only one that there will be for the token
    lasts     INTEGER NOT NULL,   -- ms, of the token
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    revoked   INTEGER,
    redeemed  INTEGER,
    token     TEXT                -- the id of the one that it was redeemed for
) WITHOUT ROWID;
CREATE INDEX invitation_created ON invitation (created, id);
CREATE INDEX invitation_expires ON invitation (expires);

-- Who holds what: a row a name. One whose `until` has come is as if it were not there, so nothing has to be swept.
CREATE TABLE reservation (
    mailbox INTEGER NOT NULL,
    name    TEXT    NOT NULL,   -- in its one spelling
    space   TEXT    NOT NULL,   -- the mailbox's
    mode    TEXT    NOT NULL,
    note    TEXT    NOT NULL,
    made    INTEGER NOT NULL,
    until   INTEGER NOT NULL,
    PRIMARY KEY (mailbox, name)
) WITHOUT ROWID;
CREATE INDEX reservation_space ON reservation (space, until);
CREATE INDEX reservation_until ON reservation (until);

-- What a sender's machine has signed a message with: a JWS, as it came. `message.format` says that there is one.
CREATE TABLE signature (message INTEGER PRIMARY KEY, jws TEXT NOT NULL);

-- When a message was written that has waited in an outbox before it was accepted: `message.format` says that it has.
CREATE TABLE written (message INTEGER PRIMARY KEY, at INTEGER NOT NULL);

-- Who reads a personal mailbox.
CREATE TABLE occupant (
    mailbox INTEGER PRIMARY KEY,
    reader  TEXT    NOT NULL,
    label   TEXT    NOT NULL,
    since   INTEGER NOT NULL
);

CREATE TABLE reader (
    id      TEXT PRIMARY KEY,
    mailbox INTEGER NOT NULL,
    at      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX reader_at ON reader (at);
