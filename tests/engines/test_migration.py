"""A store of an older version becomes today's, or stays what it was."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.delivery import Outcome, Settlement, State
from mcp_mailbox.directory import Search
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.errors import Refusal
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Listing, Origin, Submission
from mcp_mailbox.view.migrations import MIGRATIONS, VERSION
from tests.clocks import SteppedClock

pytestmark = pytest.mark.anyio
BACK = {
    2: "DROP TABLE token; DROP INDEX mailbox_owner; DROP INDEX mailbox_folded;"
    " CREATE INDEX mailbox_folded ON mailbox (folded); ALTER TABLE mailbox DROP COLUMN contact;",
    3: "DROP TABLE ring; DROP INDEX reader_at; DROP INDEX inbox_leased; DROP INDEX inbox_lapse;"
    " DROP INDEX inbox_expiry; DROP INDEX inbox_topic; DROP INDEX inbox_sent; DROP INDEX done_listed;"
    " ALTER TABLE mailbox DROP COLUMN attempts;"
    + "".join(
        f"ALTER TABLE {table} DROP COLUMN {column};"
        for table, columns in {
            "message": ("kind", "format", "expires", "receipt", "cc"),
            "inbox": ("leased", "seen", "expires", "topic"),
            "done": ("leased", "seen", "reason", "listed"),
        }.items()
        for column in columns
    )
    + "CREATE INDEX inbox_leased ON inbox (mailbox, lease_until) WHERE reader IS NOT NULL;"
    "CREATE INDEX inbox_lapse ON inbox (lease_until) WHERE reader IS NOT NULL;"
    "CREATE INDEX done_rejected ON done (mailbox, seq) WHERE state = 3;",
    4: "DROP TABLE reservation;",
    5: "DROP TABLE occupant; ALTER TABLE mailbox DROP COLUMN kind; ALTER TABLE mailbox DROP COLUMN share;",
    6: "DROP INDEX mailbox_contact; DROP INDEX mailbox_own; DROP TABLE mailbox_term; DROP TABLE presence;",
    7: "DROP TABLE channel; DROP TABLE channel_message; DROP TABLE subscription; DROP TABLE skip;"
    " DROP INDEX inbox_channel; DROP INDEX inbox_sent; CREATE INDEX inbox_sent ON inbox (sender, seq, mailbox);"
    " ALTER TABLE inbox DROP COLUMN channel; ALTER TABLE done DROP COLUMN channel;",
    8: "DROP TABLE contact; ALTER TABLE message DROP COLUMN hops;",
    9: "DROP TABLE attachment;",
    10: "DROP INDEX message_reply; DROP INDEX mailbox_written; ALTER TABLE mailbox DROP COLUMN written;",
    11: "DROP INDEX inbox_post; DROP INDEX done_post;",
    12: "DROP TABLE invitation; ALTER TABLE token DROP COLUMN confined; ALTER TABLE subscription DROP COLUMN known;",
    13: "DROP TABLE space_size;",
    14: "DROP TABLE signature;",
    15: "DROP TABLE written;",
}
"""What undoes each migration, so that a test has an older store."""


async def older(path: Path) -> int:
    """Make a store of version 1 with mail in it; return the last message's number."""
    async with open_store(path, SteppedClock()) as store:
        for name in ("ann", "bob"):
            profile = Profile(f"{name}'s Straße", ("Code Review",))
            await store.open(Address(name, "default"), "someone", profile, Origin(name, "open"))
        await store.open(Address("blb", "default"), "someone", Profile(), Origin("blb", "open"))
        ann, bob = Address("ann", "default"), Address("bob", "default")
        for number, body in enumerate(("kept", "rejected", "acked", "kept too")):
            sent = await store.accept(Submission(ann, [bob], Draft(("bob",), body), Origin("ann", f"{number}")))
            if outcome := {"rejected": Outcome.REJECT, "acked": Outcome.ACK}.get(body):
                await store.settle(bob, [sent.id], Settlement(outcome), Origin("bob", f"{number}"))
        await store.writer.do(lambda db: db.execute("DELETE FROM message WHERE kind <> 0"))
    with closing(sqlite3.connect(path)) as db:
        for version in sorted(MIGRATIONS, reverse=True):
            db.executescript(BACK[version])
        db.execute("PRAGMA user_version = 1")
        return int(db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'message'").fetchone()[0])


def shape(path: Path) -> dict[str, object]:
    """Everything that the tables and indexes are, but not how they were spelled."""
    with closing(sqlite3.connect(path)) as db:
        names = db.execute(
            "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
        ).fetchall()
        found: dict[str, object] = {}
        for kind, name in names:
            pragma = "table_xinfo" if kind == "table" else "index_xinfo"
            found[name] = [row[1:] if kind == "table" else row for row in db.execute(f"PRAGMA {pragma}({name})")]
        return found


async def test_an_older_store_becomes_as_a_new_one_and_keeps_its_mail(tmp_path: Path) -> None:
    last = await older(tmp_path / "old.db")
    async with open_store(tmp_path / "new.db", SteppedClock()):
        pass
    assert shape(tmp_path / "old.db") != shape(tmp_path / "new.db")
    async with open_store(tmp_path / "old.db", SteppedClock()) as store:
        found = (await store.inbox(Address("bob", "default"), Listing(10))).previews
        assert [each.delivery.message.body for each in found] == ["kept", "kept too", "rejected"]
        assert found[-1].delivery.state is State.REJECTED
        fresh = await store.accept(
            Submission(
                Address("ann", "default"), [Address("bob", "default")], Draft(("bob",), "new"), Origin("ann", "new")
            )
        )
        assert fresh.id not in {each.delivery.message.id for each in found}
        assert store._codec.read(fresh.id).seq == last + 1, "numbers go on"
        bob = await store.mailbox(Address("bob", "default"))
        assert bob is not None
        assert bob.contact is Contact.OPEN
        assert await store.credentials() == []
        assert await store.reservations("default") == []
        with pytest.raises(Refusal, match="looks like"):
            await store.open(Address("bIb", "default"), "someone", Profile(), Origin("bib", "open"))
        for search in (Search("default", "STRASSE b"), Search("default", "bo", "code review")):
            [entry] = (await store.find_mailboxes("someone", search, 10)).entries
            assert (entry.address.name, entry.status, entry.seen_at) == ("bob", "", None)
        for name in ("ann", "bob"):
            assert await store.subscriptions(Address(name, "default")) == [Address("#all", "default")]
        everybody = await store.accept(
            Submission(
                Address("ann", "default"), [Address("#all", "default")], Draft(("#all",), "all"), Origin("ann", "all")
            )
        )
        assert everybody.recipients[0].members == 2
        found = (await store.inbox(Address("bob", "default"), Listing(10))).previews
        assert "all" in [each.delivery.message.body for each in found]
        assert await store.check() == "ok"
    assert shape(tmp_path / "old.db") == shape(tmp_path / "new.db")
    with closing(sqlite3.connect(tmp_path / "old.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == VERSION


async def test_a_migration_that_fails_half_way_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.db"
    await older(path)
    before = shape(path)
    monkeypatch.setitem(MIGRATIONS, VERSION, MIGRATIONS[VERSION] + "INSERT INTO nowhere VALUES (1);")
    with pytest.raises(Exception, match="nowhere"):
        async with open_store(path, SteppedClock()):
            pass
    assert shape(path) == before
    monkeypatch.undo()
    async with open_store(path, SteppedClock()) as store:
        assert len((await store.inbox(Address("bob", "default"), Listing(10))).previews) == 3


def test_every_migration_leads_on_from_the_one_before() -> None:
    assert list(MIGRATIONS) == list(range(2, VERSION + 1)) == list(BACK)
