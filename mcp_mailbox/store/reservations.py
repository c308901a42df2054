"""The promise about reservations: made all or none, extended, released, told to whoever they stand in the way of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mcp_mailbox.addresses import Address
from mcp_mailbox.reservation import Conflict, Reservation, Terms
from mcp_mailbox.store.basics import Origin


@dataclass(frozen=True, slots=True)
class Reserved:
    """Answer of `reserve`: what is held now, or what stood in the way and nothing was changed."""

    held: tuple[Reservation, ...]
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True, slots=True)
class Released:
    """Answer of `release_reservations`. What was not held, or not any more, is no error."""

    names: tuple[str, ...]
    not_held: tuple[str, ...] = ()


class ReservationStore(Protocol):
    """The verbs about reservations. Names are spelled as `patterns.spell` does; a space is that of its mailboxes.

    One whose time has come is as if it had never been made, whether or not it is still on disk.
    """

    async def reserve(self, holder: Address, names: Sequence[str], terms: Terms, origin: Origin) -> Reserved:
        """Reserve all of the names for that mailbox, or none when another one holds what meets one of them.

        Mailboxes may share what all of them hold as shared; one is never in its own way. A name that it holds already
        gets the terms' mode and note, and keeps the later of both ends.

        A repeated request gets the same answer, and what it did is not done again; one that met a conflict did
        nothing, and is asked anew.

        Raises Refusal(BAD_ARGUMENT) when the mailbox or the space would hold too much, (UNKNOWN_MAILBOX).
        """
        ...

    async def release_reservations(self, holder: Address, names: Sequence[str] | None, origin: Origin) -> Released:
        """Release what that mailbox holds under exactly these names, with or without a slash; None: all that it holds.

        A repeated request gets the same answer, and what was reserved meanwhile stays.
        """
        ...

    async def reservations(self, space: str) -> Sequence[Reservation]:
        """Return what is held in the space, what ends first at first."""
        ...
