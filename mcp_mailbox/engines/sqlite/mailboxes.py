"""Mailboxes made, opened, described and found."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import anyio.to_thread

from mcp_mailbox import addresses, directory, quotas
from mcp_mailbox.addresses import Address
from mcp_mailbox.engines.sqlite import fanout
from mcp_mailbox.engines.sqlite.common import Common, request_key
from mcp_mailbox.engines.sqlite.requests import Requests
from mcp_mailbox.engines.sqlite.rows import to_mailbox, unread
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import (
    DEFAULT_ATTEMPTS,
    DEFAULT_CONTACT,
    DEFAULT_SHARE,
    Contact,
    Kind,
    Mailbox,
    Occupant,
    Profile,
)
from mcp_mailbox.store import Opened, Origin
from mcp_mailbox.view import apply, query

_NAMES_READ = 2000
_NOBODY = 0
"""Stands for the sender of what no mailbox has asked for."""


class Mailboxes:
    """The verbs about mailboxes."""

    def __init__(self, common: Common, requests: Requests) -> None:
        self._requests = requests
        self._now = common.now
        self._registry = common.registry

    def open(
        self,
        db: sqlite3.Connection,
        wanted: apply.NewMailbox,
        profile: Profile,
        origin: Origin,
        *,
        bind: bool,
        most: int,
    ) -> tuple[Opened, Collection[Address]]:
        """Open the mailbox, or make it; return also whom to ring.

        Raises Refusal(NAME_CONFUSABLE | NAME_TAKEN | KEY_CONFLICT | OVER_MAILBOXES).
        """
        row = db.execute(query.MAILBOX, (wanted.space, wanted.folded)).fetchone()
        if row is None:
            alike = _lookalike(db, wanted)
            if alike is not None:
                theirs = f"the existing mailbox {alike['name']!r}" if alike["owner"] == wanted.owner else "another one"
                raise Refusal(
                    Code.NAME_CONFUSABLE,
                    f"{wanted.name!a} looks like {theirs}.",
                    "Choose a name that nobody can mistake for it.",
                )
            if db.execute(query.KNOWN, (_NOBODY, request_key(origin))).fetchone():
                raise Refusal(
                    Code.KEY_CONFLICT,
                    "This request has made another mailbox before.",
                    "Ask under a new name of the request; repeat one only as it was.",
                )
            _check_count(db, wanted.owner, most)
            return self._create(db, wanted, profile, origin, bind=bind), ()
        if row["owner"] != wanted.owner:
            raise Refusal(Code.NAME_TAKEN, f"The name {wanted.name!r} is taken.", "Choose another.")
        known = db.execute(query.KNOWN, (_NOBODY, request_key(origin))).fetchone()
        created = known is not None and int(known["answer"]) == row["id"]
        rung: Collection[Address] = ()
        if not self._is_repeated(db, row["id"], profile, origin):
            rung = self._change(db, row, profile)
            if bind:
                apply.bind_reader(db, origin.reader, row["id"], self._now())
        return self._opened(db, row["id"], created=created), rung

    def _is_repeated(self, db: sqlite3.Connection, mailbox: int, profile: Profile, origin: Origin) -> bool:
        """Whether that request has opened it so before: a copy that comes late would undo what was said since."""
        key, digest = _open_key(origin), _digest(profile)
        done = db.execute(query.KNOWN, (mailbox, key)).fetchone()
        if done is None:
            apply.remember(db, mailbox, key, digest, "", self._now())
        return done is not None and done["hash"] == digest

    def _change(self, db: sqlite3.Connection, row: sqlite3.Row, profile: Profile) -> Collection[Address]:
        """Have a mailbox be what its owner says; return whom to ring."""
        skills = json.dumps(profile.skills) if profile.skills is not None else None
        settings = {
            "contact": profile.contact,
            "attempts": profile.attempts,
            "kind": profile.kind,
            "share": profile.share,
        }
        apply.describe_mailbox(db, row["id"], about=profile.about, skills=skills, **settings)
        if any(value is not None for value in settings.values()):
            self._registry.forget()
        about, able = profile.about, profile.skills
        if about not in (None, row["about"]) or skills not in (None, row["skills"]):
            about = row["about"] if about is None else about
            able = json.loads(row["skills"]) if able is None else able
            apply.list_mailbox(db, row["id"], row["space"], directory.terms(row["name"], about, able))
        self._say(db, row["id"], profile)
        if profile.contact in (None, row["contact"]):
            return ()
        box = self._registry.box(db, Address(row["name"], row["space"]))
        fanout.review(db, box.id, row["space"], box.contact)
        return self._requests.review(db, box)

    def open_unnamed(
        self,
        db: sqlite3.Connection,
        wanted: apply.NewMailbox,
        profile: Profile,
        origin: Origin,
        *,
        bind: bool,
        most: int,
    ) -> Opened | None:
        """Return None when that name is not free. Raises Refusal(OVER_MAILBOXES)."""
        known = db.execute(query.KNOWN, (_NOBODY, request_key(origin))).fetchone()
        if known is not None:
            return self._opened(db, int(known["answer"]), created=True)
        _check_count(db, wanted.owner, most)
        if db.execute(query.MAILBOX, (wanted.space, wanted.folded)).fetchone() or _lookalike(db, wanted):
            return None
        return self._create(db, wanted, profile, origin, bind=bind)

    def _create(
        self, db: sqlite3.Connection, wanted: apply.NewMailbox, profile: Profile, origin: Origin, *, bind: bool
    ) -> Opened:
        now = self._now()
        mailbox = apply.create_mailbox(db, replace(wanted, created=now))
        fanout.welcome(db, mailbox, wanted.space, Contact(wanted.contact), now)
        self._say(db, mailbox, profile)
        if bind:
            apply.bind_reader(db, origin.reader, mailbox, now)
        apply.remember(db, _NOBODY, request_key(origin), b"", str(mailbox), now)
        apply.remember(db, mailbox, _open_key(origin), _digest(profile), "", now)
        return self._opened(db, mailbox, created=True)

    def _say(self, db: sqlite3.Connection, mailbox: int, profile: Profile) -> None:
        said = profile.status
        if said is not None:
            apply.say_status(db, mailbox, said.text, said.away, self._now() + said.term)

    def _opened(self, db: sqlite3.Connection, mailbox: int, *, created: bool) -> Opened:
        found = self.mailbox(db, query.MAILBOX_BY_ID, (mailbox,))
        assert found is not None  # noqa: S101 - it has just been read or made
        return Opened(found, created, self.occupant(db, mailbox))

    def occupant(self, db: sqlite3.Connection, mailbox: int) -> Occupant | None:
        """Return who read a personal mailbox last."""
        row = db.execute(query.OCCUPANT, (mailbox,)).fetchone()
        return Occupant(*row) if row else None

    def occupant_of(self, db: sqlite3.Connection, address: Address) -> Occupant | None:
        """Return who read the mailbox of that name last."""
        row = db.execute(query.MAILBOX, (address.space, address.folded)).fetchone()
        return self.occupant(db, row["id"]) if row is not None else None

    def mailbox(self, db: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> Mailbox | None:
        """Return the mailbox that the query finds."""
        row = db.execute(sql, parameters).fetchone()
        return to_mailbox(row, unread(db, row["id"], self._now())) if row else None

    def similar(self, db: sqlite3.Connection, address: Address, owner: str, within: str | None) -> Address | None:
        """Return the same name in the one other space that has it, else the name most like it."""
        import difflib  # noqa: PLC0415 - only a mistake pays for it

        elsewhere = db.execute(query.SPACES, (address.folded, owner)).fetchall() if within is None else ()
        if within not in {None, address.space}:
            return None
        if len(elsewhere) == 1:
            return Address(elsewhere[0]["name"], elsewhere[0]["space"])
        rows = db.execute(query.NAMES, (owner, address.space, _NAMES_READ)).fetchall()
        names = {addresses.fold(row["name"]): row["name"] for row in rows}
        close = difflib.get_close_matches(address.folded, names, n=1)
        return Address(names[close[0]], address.space) if close else None


async def wanted_mailbox(name: str, space: str, owner: str, profile: Profile) -> apply.NewMailbox:
    """Return what to insert when there is no such mailbox; what a name looks like takes a while to find out."""
    looks, capitals, written = await anyio.to_thread.run_sync(_looks, name)
    return apply.NewMailbox(
        space,
        name,
        addresses.fold(name),
        looks,
        capitals,
        owner,
        profile.about or "",
        profile.skills or (),
        0,
        profile.contact or DEFAULT_CONTACT,
        profile.attempts or DEFAULT_ATTEMPTS,
        profile.kind or Kind.PERSONAL,
        profile.share or DEFAULT_SHARE,
        written,
    )


def _open_key(origin: Origin) -> str:
    """Return under which key of a mailbox is kept that a request has opened it."""
    return f"open {request_key(origin)}"


def _digest(profile: Profile) -> bytes:
    """Return what tells one opening from another under the same name of a request."""
    return hashlib.blake2b(repr(profile).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _check_count(db: sqlite3.Connection, owner: str, most: int) -> None:
    """Raise Refusal(OVER_MAILBOXES) when the owner has so many; 0 is any number. Reads `most` rows of an index."""
    if most and db.execute(query.OWNED_BEYOND, (owner, most - 1)).fetchone():
        raise quotas.over_mailboxes(most)


def _looks(name: str) -> tuple[str, str, str]:
    return addresses.skeletons(name)[0], addresses.upper_skeleton(name), addresses.written_skeleton(name)


def _lookalike(db: sqlite3.Connection, wanted: apply.NewMailbox) -> sqlite3.Row | None:
    looks = (wanted.looks, wanted.capitals, wanted.name.isascii(), wanted.written)
    alike = db.execute(query.LOOKALIKE, (wanted.space, *looks))
    row: sqlite3.Row | None = alike.fetchone()
    return row
