"""Between the view's rows and the domain's words. Runs in whichever thread holds the connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mcp_mailbox.addresses import CHANNEL_MARK, Address
from mcp_mailbox.attachment import Attachment
from mcp_mailbox.credentials import Credential, Scope
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.invitation import Invitation
from mcp_mailbox.mailbox import Contact, Kind, Mailbox
from mcp_mailbox.message import Format
from mcp_mailbox.reservation import Mode, Reservation
from mcp_mailbox.view import apply, query

_ARRIVING_COUNTED = 1_000


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
        bool(row["confined"]),
    )


def to_invitation(row: sqlite3.Row) -> Invitation:
    """Return the invitation that this row describes."""
    return Invitation(
        row["id"],
        row["name"],
        row["principal"],
        row["created"],
        row["expires"],
        row["lasts"],
        frozenset(Scope(word) for word in row["scopes"].split()),
        row["mailbox"],
        row["space"],
        row["revoked"],
        row["redeemed"],
        row["token"],
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


def signature_of(db: sqlite3.Connection, row: sqlite3.Row) -> str | None:
    """Return what the message of this row is signed with; where it is not, nobody is asked."""
    if not row["format"] & apply.SIGNED:
        return None
    found = db.execute(query.SIGNATURE, (row["seq"],)).fetchone()
    return str(found["jws"]) if found is not None else None


def written_of(db: sqlite3.Connection, row: sqlite3.Row) -> int | None:
    """Return when the message of this row was written; where that was when it was accepted, nobody is asked."""
    if not row["format"] & apply.LATE:
        return None
    found = db.execute(query.WRITTEN, (row["seq"],)).fetchone()
    return int(found["at"]) if found is not None else None


def format_of(row: sqlite3.Row) -> Format:
    """Return what the body of this row's message is."""
    return Format(row["format"] & ~apply.FLAGS)


def address_of(db: sqlite3.Connection, mailbox: int) -> Address:
    """Return the address of the mailbox with that number."""
    row = db.execute(query.MAILBOX_BY_ID, (mailbox,)).fetchone()
    return Address(row["name"], row["space"])


def owner_of(db: sqlite3.Connection, mailbox: int) -> str:
    """Return the principal whose the mailbox with that number is."""
    return str(db.execute(query.MAILBOX_BY_ID, (mailbox,)).fetchone()["owner"])


def channel_of(db: sqlite3.Connection, channel: int) -> Address:
    """Return the address of the channel with that number."""
    row = db.execute(query.CHANNEL_BY_ID, (channel,)).fetchone()
    return Address(CHANNEL_MARK + row["name"], row["space"])


def names_of(db: sqlite3.Connection, text: str) -> tuple[str, ...]:
    """Return the addresses of the mailboxes in this JSON array of numbers; negative ones are channels'."""
    return tuple(str(address_of(db, each) if each > 0 else channel_of(db, -each)) for each in json.loads(text))


def came_by(db: sqlite3.Connection, row: sqlite3.Row) -> str | None:
    """Return the channel by which a delivery came, from a row that has its number."""
    return str(channel_of(db, row["channel"])) if row["channel"] is not None else None


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


def unknown_channel(address: str) -> Refusal:
    """Return the refusal of a channel that is not there, as far as the caller may know."""
    return Refusal(Code.UNKNOWN_CHANNEL, f"No channel {address!r}.", "subscribe makes one.")


def unknown(address: str) -> Refusal:
    """Return the refusal of a recipient that is not there."""
    return unknown_channel(address) if address.startswith(CHANNEL_MARK) else unknown_mailbox(address)


def unread(db: sqlite3.Connection, mailbox: int, now: int) -> int:
    """Return how much a wait could hand out now; of what channels still have for it, a thousand stand for more."""
    return int(db.execute(query.UNREAD, (mailbox, now)).fetchone()[0]) + arriving(db, mailbox, now)


def arriving(db: sqlite3.Connection, mailbox: int, now: int) -> int:
    """Return how much is due from channels that could be handed out now, of the first thousand."""
    values = {"mailbox": mailbox, "now": now, "most": _ARRIVING_COUNTED}
    return int(db.execute(query.ARRIVING, values).fetchone()[0])
