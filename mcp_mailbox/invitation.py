"""Invitations: a code that is good once, for a token; how a code is written, and what it becomes.

A code has 130 random bits as 26 characters of Crockford's base 32 and two that check them, in groups of four: one wrong
character, or two of the 26 swapped that are neighbours, and it is told to be mistyped. Who keeps invitations, and who
may ask, is not known here.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from mcp_mailbox import credentials
from mcp_mailbox.credentials import ALL_SCOPES, Credential, Scope
from mcp_mailbox.errors import Code, Refusal

TERM = 24 * 3600 * 1000
"""ms for which a code is good."""
LONGEST = 30 * TERM
TOKEN_TERM = 90 * TERM
"""ms for which its token is, from when it was redeemed."""
REPEAT_TERM = 10 * 60 * 1000
"""ms for which a code that was redeemed answers the same to who did it, even when its own term is over."""
REMEMBERED = 30 * TERM
"""ms after its end for which an invitation is listed."""
OPEN_LIMIT = 1_000
"""Invitations that may be open at once."""
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's: no I, L, O, U."""
_READ = {letter: place for place, letter in enumerate(_ALPHABET)} | {"I": 1, "L": 1, "O": 0}
_BITS = 130
_LENGTH = 28
_GROUP = 4
_PRIME = 1021
"""The largest prime below 32 * 32. A wrong character adds d * 32**n with |d| < 32, swapped neighbours 31 times as much:
none of these is a multiple of it."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """A code without its secret: what its token will be. Times are ms since 1970 UTC."""

    id: str
    name: str
    """What the token will be called."""
    principal: str
    created_at: int
    expires_at: int
    lasts: int
    """ms for which the token will be good."""
    scopes: frozenset[Scope] = ALL_SCOPES
    mailbox: str | None = None
    space: str | None = None
    """The only space that there will be for the token; None for all of them."""
    revoked_at: int | None = None
    redeemed_at: int | None = None
    token: str | None = None
    """The id of the credential that it was redeemed for."""

    def open(self, now: int) -> bool:
        """Tell whether it can still be redeemed."""
        return self.redeemed_at is None and self.revoked_at is None and now < self.expires_at

    def repeats(self, now: int) -> bool:
        """Tell whether who has redeemed it may be told so again: the first answer may have been lost."""
        return self.redeemed_at is not None and now < max(self.expires_at, self.redeemed_at + REPEAT_TERM)

    def credential(self, token: str, now: int) -> Credential:
        """Return what it becomes. Raises Refusal(BAD_ARGUMENT) for what cannot be one."""
        return Credential(
            token,
            self.name,
            self.principal,
            now,
            self.scopes,
            self.mailbox,
            self.space,
            now + self.lasts,
            confined=self.space is not None,
        )


def new_id() -> str:
    """Return a new invitation's id, which is no secret."""
    return f"i-{secrets.token_hex(4)}"


def new_code() -> str:
    """Return a new code as it is written: seven groups of four."""
    number = secrets.randbits(_BITS)
    written = _spelt(number, _LENGTH - 2) + _spelt(number % _PRIME, 2)
    return "-".join(written[begin : begin + _GROUP] for begin in range(0, _LENGTH, _GROUP))


def read_code(text: str) -> str:
    """Return the one spelling of a code, however somebody has written it. Raises Refusal(BAD_ARGUMENT)."""
    letters = [letter for letter in text.upper() if letter not in "- \t\r\n"]
    strange = next((letter for letter in letters if letter not in _READ), None)
    if strange is not None:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"{strange!a} stands in no code.",
            "A code has seven groups of four letters and digits, without U; copy it whole.",
        )
    if len(letters) != _LENGTH:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"The code has {len(letters)} letters and digits; {_LENGTH} is right.",
            "Copy it whole: seven groups of four.",
        )
    digits = [_READ[letter] for letter in letters]
    if _value(digits[:-2]) % _PRIME != _value(digits[-2:]):
        raise Refusal(Code.BAD_ARGUMENT, "The code is mistyped.", "Compare it with what you were given.")
    return "".join(_ALPHABET[digit] for digit in digits)


def digest(code: str) -> bytes:
    """Return what is kept of a code in its one spelling: its SHA-256, as of a token."""
    return hashlib.sha256(b"mcp-mailbox invitation " + code.encode()).digest()


def token_digest(text: str) -> bytes:
    """Read the digest of a token that somebody has made, as hexadecimal. Raises Refusal(BAD_ARGUMENT)."""
    try:
        found = bytes.fromhex(text) if text.isascii() and not any(map(str.isspace, text)) else b""
    except ValueError:
        found = b""
    if len(found) != credentials.DIGEST_BYTES:
        raise Refusal(
            Code.BAD_ARGUMENT,
            "`token_sha256` is no SHA-256.",
            f"Give the {2 * credentials.DIGEST_BYTES} hexadecimal digits of the token that you have made.",
        )
    return found


def _spelt(number: int, length: int) -> str:
    return "".join(_ALPHABET[number >> (5 * place) & 31] for place in reversed(range(length)))


def _value(digits: list[int]) -> int:
    found = 0
    for digit in digits:
        found = found * 32 + digit
    return found
