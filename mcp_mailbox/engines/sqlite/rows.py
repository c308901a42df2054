"""Between the view's rows and the domain's words. Runs in whichever thread holds the connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import Attachment
from mcp_mailbox.credentials import Credential, Scope
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Contact, Kind, Mailbox
from mcp_mailbox.message import Format
from mcp_mailbox.reservation import Mode, Reservation
from mcp_mailbox.view import apply, query


def to_mailbox(row: sqlite3.Row, unread: int) -> Mailbox:
    """Return the mailbox that this row describes."""
    return Mailbox(
        Address(row["name"], row["space"]),
        row["owner"],
        row["about"],
        tuple(json.loads(row["skills"])),
        row["created"],
        unread,
        Contact(row["contact"]),
        row["attempts"],
        Kind(row["kind"]),
        row["share"],
    )


class Box(NamedTuple):
    """A mailbox's number, its address as it was chosen, whose it is, and what its owner has set."""

    id: int
    address: Address
    owner: str
    contact: Contact
    attempts: int
    kind: Kind
    share: int


def find_mailbox(db: sqlite3.Connection, address: Address) -> Box | None:
    """Return what sending and receiving need to know of a mailbox, if there is one."""
    row = db.execute(query.MAILBOX, (address.space, address.folded)).fetchone()
    if row is None:
        return None
    address = Address(row["name"], row["space"])
    contact, kind = Contact(row["contact"]), Kind(row["kind"])
    return Box(row["id"], address, row["owner"], contact, row["attempts"], kind, row["share"])


def known_mailbox(db: sqlite3.Connection, address: Address) -> int:
    """Return a mailbox's number. Raises Refusal(UNKNOWN_MAILBOX)."""
    found = find_mailbox(db, address)
    if found is None:
        raise unknown_mailbox(str(address))
    return found.id


def to_credential(row: sqlite3.Row) -> Credential:
    """Return the credential that this row describes."""
    return Credential(
        row["id"],
        row["name"],
        row["principal"],
        row["created"],
        frozenset(Scope(word) for word in row["scopes"].split()),
        row["mailbox"],
        row["space"],
        row["expires"],
        row["revoked"],
    )


def to_reservation(row: sqlite3.Row) -> Reservation:
    """Return the reservation that this row of HELD describes."""
    holder = Address(row["holder"], row["space"])
    return Reservation(row["name"], holder, row["owner"], Mode(row["mode"]), row["note"], row["made"], row["until"])


def attached(db: sqlite3.Connection, row: sqlite3.Row) -> tuple[Attachment, ...]:
    """Return what is attached to the message of this row; where there is nothing, nobody is asked."""
    if not row["format"] & apply.ATTACHED:
        return ()
    rows = db.execute(query.ATTACHMENTS, (row["seq"],)).fetchall()
    return tuple(Attachment(each["name"], each["type"], each["size"], each["sha256"].hex()) for each in rows)


def format_of(row: sqlite3.Row) -> Format:
    """Return what the body of this row's message is."""
    return Format(row["format"] & ~apply.ATTACHED)


def address_of(db: sqlite3.Connection, mailbox: int) -> Address:
    """Return the address of the mailbox with that number."""
    row = db.execute(query.MAILBOX_BY_ID, (mailbox,)).fetchone()
    return Address(row["name"], row["space"])


def names_of(db: sqlite3.Connection, text: str) -> tuple[str, ...]:
    """Return the addresses of the mailboxes in this JSON array of numbers."""
    return tuple(str(address_of(db, mailbox)) for mailbox in json.loads(text))


def waiting_delivery(db: sqlite3.Connection, mailbox: int, seq: int) -> sqlite3.Row | None:
    """Return what is known of a delivery that is not settled: a row of WAITING."""
    row: sqlite3.Row | None = db.execute(query.WAITING, (mailbox, seq)).fetchone()
    return row


def within(rows: Iterable[sqlite3.Row], size: int) -> Iterator[sqlite3.Row]:
    """Yield rows while their bodies fit, the first one always."""
    for place, row in enumerate(rows):
        size -= row["size"]
        if place and size < 0:
            return
        yield row


def unknown_mailbox(address: str) -> Refusal:
    """Return the refusal of an address that nobody has."""
    return Refusal(Code.UNKNOWN_MAILBOX, f"No mailbox {address!r}.", "Ask its owner to create_mailbox first.")


def unread(db: sqlite3.Connection, mailbox: int, now: int) -> int:
    """Return how much a wait could hand out now."""
    return int(db.execute(query.UNREAD, (mailbox, now)).fetchone()[0])
