"""Ids, handles and cursors as this engine makes them. To everybody else they are opaque text.

An id is the message's number in base 32 and four characters that only this store can compute: short enough for a
model to copy, and a typing error or an id of another store is told from a message that is gone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mcp_mailbox.errors import Code, Refusal

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_LETTERS = bytes(ord(_DIGITS[byte % 32]) for byte in range(256))
_CHECK = 4
_LONGEST = 13  # digits of 2**63
_CURSOR = "cursor "
"""Begins what a cursor's check covers and no id's, so that neither is ever taken for the other."""


@dataclass(frozen=True, slots=True)
class Handle:
    """What an id names: a message, and the generation of a lease when it carries one."""

    seq: int
    generation: int | None


@dataclass(frozen=True, slots=True)
class Restored:
    """What a store that was restored remembers of it: deliveries up to `seq` have leases from `generation` on.

    Between the backup and its restore they may have had others, whose handles must not fit a lease of today.
    """

    seq: int = 0
    generation: int = 0


class Codec:
    """Ids of one store: `secret` is made when the store is."""

    def __init__(self, secret: bytes, restored: Restored | None = None) -> None:
        self._secret = secret
        self._restored = restored or Restored()

    @property
    def store(self) -> str:
        """What tells this store's ids from another's. Tells nothing of the secret."""
        return hashlib.blake2b(b"store", key=self._secret, digest_size=5).hexdigest()

    def next_generation(self, seq: int, generation: int) -> int:
        """Return the generation of the lease that follows that one."""
        return max(generation + 1, self._restored.generation if seq <= self._restored.seq else 0)

    def id(self, seq: int) -> str:
        """Return the id of a message."""
        number = _encode(seq)
        return number + self._check(number)

    def handle(self, seq: int, generation: int) -> str:
        """Return what settles exactly this lease."""
        return f"{self.id(seq)}.{generation}"

    def read(self, text: str) -> Handle:
        """Raise Refusal(UNKNOWN_MESSAGE) for what this store never made."""
        number, dot, generation = text.partition(".")
        body, check = number[:-_CHECK], number[-_CHECK:]
        valid = 0 < len(body) <= _LONGEST and all(digit in _VALUES for digit in body) and self._check(body) == check
        if not valid or (dot and not (generation.isascii() and generation.isdigit() and len(generation) < _LONGEST)):
            raise unknown_message(text)
        return Handle(_decode(body), int(generation) if dot else None)

    def cursor(self, of: str, *place: int) -> str:
        """Return the cursor of what stands behind that place in a listing; `of` names the listing and whose it is."""
        numbers = ".".join(map(_encode, place))
        return f"c{numbers}{self._check(f'{_CURSOR}{of} {numbers}')}"

    def read_cursor(self, of: str, text: str) -> tuple[int, ...]:
        """Return the place. Raises Refusal(BAD_ARGUMENT) for what was not made for that listing."""
        numbers, check = text[1:-_CHECK], text[-_CHECK:]
        place = numbers.split(".")
        if not (
            text[:1] == "c"
            and all(0 < len(number) <= _LONGEST and all(digit in _VALUES for digit in number) for number in place)
            and self._check(f"{_CURSOR}{of} {numbers}") == check
        ):
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"{text[:40]!a} is not a cursor of this list.",
                "Copy `next` from the page before, or leave it out.",
            )
        return tuple(map(_decode, place))

    def _check(self, number: str) -> str:
        digest = hashlib.blake2b(number.encode(), key=self._secret, digest_size=_CHECK).digest()
        return digest.translate(_LETTERS).decode()


def unknown_message(text: str, *, sent: bool = False) -> Refusal:
    """Return the refusal for an id that names nothing the caller may see; or only what it has `sent` itself."""
    hint = "Copy an id from list_inbox or wait_for_message."
    if sent:
        hint = "You sent it: its recipient settles it, and read shows how far it has come."
    elif " " in text:
        hint = "An id is one word, copied from list_inbox or wait_for_message; list_inbox(query=…) looks for words."
    return Refusal(Code.UNKNOWN_MESSAGE, f"No message {text[:40]!a} in this mailbox.", hint)


def _encode(number: int) -> str:
    digits = ""
    while True:
        digits = _DIGITS[number % 32] + digits
        number //= 32
        if not number:
            return digits


def _decode(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * 32 + _VALUES[digit]
    return number
