"""Ids, handles and cursors as this engine makes them. To everybody else they are opaque text.

An id is the message's number in disguise, in base 32, and four characters that only this store can compute: short
enough for a model to copy, and a typing error or an id of another store is told from a message that is gone. The
disguise is a permutation that only the store knows, so that two ids tell nobody how much was sent between them; their
length tells no more than how many digits the number has.

Ids were the plain number once. Messages of that time keep theirs: plain ones are shorter than all that came later.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from mcp_mailbox.errors import Code, Refusal

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_LETTERS = bytes(ord(_DIGITS[byte % 32]) for byte in range(256))
_CHECK = 4
_LONGEST = 13  # digits of 2**63
_SHORTEST = 3
"""Digits that any number in disguise has at least: of fewer there are too few to hide among."""
_CURSOR = "cursor "
"""Begins what a cursor's check covers and no id's, so that neither is ever taken for the other."""
_DISGUISED = "disguised "
"""Begins what the check of what is disguised covers, likewise."""
_TURNS = (0, 2, 4)
_KEPT = 1 << 13
"""Numbers that are remembered in disguise, and pieces of the disguise: a listing asks for the same ones again."""


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


class _Disguise:
    """Numbers as others of as many digits, and back: a Feistel network (Luby and Rackoff) over a keyed hash.

    Its halves are unequal where the bits are odd, as in FF1 (NIST SP 800-38G); six rounds are plenty for numbers that
    nobody can have enciphered at will.
    """

    def __init__(self, secret: bytes) -> None:
        self._keyed = hashlib.blake2s(key=secret, person=b"disguise", digest_size=5)
        self._mixed = lru_cache(_KEPT)(self._mix)
        self.put_on = lru_cache(_KEPT)(self._put_on)

    def _put_on(self, number: int, least: int) -> str:
        """Return the digits that stand for the number, at least so many."""
        text = _encode(number)
        digits = max(least, len(text))
        mixed, width = self._mixed, 5 * digits - 5 * digits // 2
        right_mask, left_mask = (1 << width) - 1, (1 << (5 * digits - width)) - 1
        left, right = number >> width, number & right_mask
        for turn in _TURNS:
            left ^= mixed(digits, turn, right) & left_mask
            right ^= mixed(digits, turn + 1, left) & right_mask
        return _encode((left << width) | right).rjust(digits, "0")

    def take_off(self, text: str) -> int:
        """Return the number that these digits stand for."""
        digits, number = len(text), _decode(text)
        mixed, width = self._mixed, 5 * digits - 5 * digits // 2
        right_mask, left_mask = (1 << width) - 1, (1 << (5 * digits - width)) - 1
        left, right = number >> width, number & right_mask
        for turn in reversed(_TURNS):
            right ^= mixed(digits, turn + 1, left) & right_mask
            left ^= mixed(digits, turn, right) & left_mask
        return (left << width) | right

    def _mix(self, digits: int, turn: int, half: int) -> int:
        mixer = self._keyed.copy()
        mixer.update(half.to_bytes(5, "big") + bytes((digits, turn)))
        return int.from_bytes(mixer.digest(), "big")


class Codec:
    """Ids of one store: `secret` is made when the store is; messages up to `plain` had their ids before disguises."""

    def __init__(self, secret: bytes, restored: Restored | None = None, plain: int = 0) -> None:
        self._secret = secret
        self._restored = restored or Restored()
        self._plain = plain
        self._plainest = len(_encode(plain)) if plain else 0
        """Digits of a plain number, at most."""
        self._least = max(_SHORTEST, self._plainest + 1)
        self._disguise = _Disguise(secret)

    @property
    def store(self) -> str:
        """What tells this store's ids from another's. Tells nothing of the secret."""
        return hashlib.blake2b(b"store", key=self._secret, digest_size=5).hexdigest()

    def next_generation(self, seq: int, generation: int) -> int:
        """Return the generation of the lease that follows that one."""
        return max(generation + 1, self._restored.generation if seq <= self._restored.seq else 0)

    def id(self, seq: int) -> str:
        """Return the id of a message."""
        if seq <= self._plain:
            number = _encode(seq)
            return number + self._check(number)
        number = self._disguise.put_on(seq, self._least)
        return number + self._check(_DISGUISED + number)

    def handle(self, seq: int, generation: int) -> str:
        """Return what settles exactly this lease."""
        return f"{self.id(seq)}.{generation}"

    def read(self, text: str) -> Handle:
        """Raise Refusal(UNKNOWN_MESSAGE) for what this store never made."""
        number, dot, generation = text.partition(".")
        body, check = number[:-_CHECK], number[-_CHECK:]
        plain = len(body) <= self._plainest
        checked = body if plain else _DISGUISED + body
        valid = _is_number(body) and self._check(checked) == check
        if not valid or (dot and not (generation.isascii() and generation.isdigit() and len(generation) < _LONGEST)):
            raise unknown_message(text)
        return Handle(_decode(body) if plain else self._disguise.take_off(body), int(generation) if dot else None)

    def cursor(self, of: str, *place: int) -> str:
        """Return the cursor of what stands behind that place in a listing; `of` names the listing and whose it is."""
        numbers = ".".join(self._disguise.put_on(each, self._least) for each in place)
        return f"n{numbers}{self._check(f'{_DISGUISED}{_CURSOR}{of} {numbers}')}"

    def read_cursor(self, of: str, text: str) -> tuple[int, ...]:
        """Return the place. Raises Refusal(BAD_ARGUMENT) for what was not made for that listing."""
        numbers, check = text[1:-_CHECK], text[-_CHECK:]
        place = numbers.split(".")
        disguised = text[:1] == "n"
        checked = f"{_DISGUISED if disguised else ''}{_CURSOR}{of} {numbers}"
        # Until there were disguises they began with a c.
        if not (text[:1] in ("n", "c") and all(map(_is_number, place)) and self._check(checked) == check):
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"{text[:40]!a} is not a cursor of this list.",
                "Copy `next` from the page before, or leave it out.",
            )
        return tuple(map(self._disguise.take_off if disguised else _decode, place))

    def _check(self, number: str) -> str:
        digest = hashlib.blake2b(number.encode(), key=self._secret, digest_size=_CHECK).digest()
        return digest.translate(_LETTERS).decode()


def unknown_message(text: str, *, sent: bool = False) -> Refusal:
    """Return the refusal for an id that names nothing the caller may see; or only what it has `sent` itself.

    That the check of one does not fit is not told: what is somebody else's is as what was never made.
    """
    hint = "It is mistyped, or gone: settled mail is removed after a while."
    hint += " Copy an id from list_inbox or wait_for_message."
    if sent:
        hint = "You sent it: its recipient settles it, and read shows how far it has come."
    elif " " in text:
        hint = "An id is one word, copied from list_inbox or wait_for_message; list_inbox(query=…) looks for words."
    return Refusal(Code.UNKNOWN_MESSAGE, f"No message {text[:40]!a} in this mailbox.", hint)


def _is_number(text: str) -> bool:
    return 0 < len(text) <= _LONGEST and all(digit in _VALUES for digit in text)


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
