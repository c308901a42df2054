"""How an older store becomes today's: the statements that lead from the version before to each version.

A store that was migrated has the tables, columns and indexes of one that `schema.sql` made (`tests/engines`). A
version that has been released never changes.
"""

from __future__ import annotations

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
    3: "SELECT 1;",
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
}
VERSION = max(MIGRATIONS)
"""Of the schema, as `PRAGMA user_version` has it."""
