"""Whose signature it is, as far as this machine knows: a key is pinned with the first message that it has signed.

A verdict is a word in the message's `verified`. `hub`: nothing but the hub says who it was. `signature`: the key that
is known for the sender has signed this, to here, and nothing else by the same signature. `first signature`: so has a
key, and it is known from now on. Anything else says what is wrong, and such a message is untrusted whosever it claims
to be.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.engines.outbox import plain
from mcp_mailbox.engines.pins import CHOSEN, OWN, Pins
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import arguments, fence
from mcp_mailbox.link.signatures import EARLY, File, Key, Manifest, Mismatch, Said, opened
from mcp_mailbox.store import Clock

Json = dict[str, Any]

WRONG = "signature does not match"
MISSING = "no signature, and this address has signed before"
UNCHECKED = "not checked"
_FINGERPRINT_LENGTH = 43


class Keyring:
    """The keys of others, and this machine's own if it signs."""

    def __init__(self, pins: Pins, clock: Clock, key: Key | None) -> None:
        self._pins = pins
        self._clock = clock
        self._key = key
        self._own: set[str] = set()

    @property
    def signs(self) -> bool:
        """Whether this machine signs what it sends."""
        return self._key is not None

    async def sign(
        self, sender: Address, asked: arguments.Send, space: str, once: str, at: int, files: Sequence[File] = ()
    ) -> str | None:
        """Return the signature of what is sent, `once` for each message; None where this machine does not sign."""
        if self._key is None:
            return None
        own = sender.compared
        if own not in self._own:
            await self._pins.put(own, self._key.fingerprint, OWN, self._clock.now())
            self._own.add(own)
        to = [addresses.parse_any(each, space) for each in (*asked.draft.to, *asked.draft.cc)]
        reply_to = plain(asked.reply_to) if asked.reply_to is not None else None
        said = Said(once, sender, to, asked.subject, asked.text, asked.format.word, at, reply_to, files)
        return self._key.sign(said)

    async def judge(self, message: Json, whole: Json, mine: Address, *, delivered: bool) -> Json:
        """Return the message with what its signature is worth.

        `whole` is the same one with all of its subject and body, `mine` the mailbox that reads it, `delivered` whether
        it is there because somebody sent it there.
        """
        try:
            sender = addresses.parse(str(message.get("from", "")), mine.space)
        except Refusal:
            return _suspect(message, f"{WRONG}: its sender cannot be read")
        if whole.get("signature") is None:
            known = self._pins.of(sender.compared)
            return _suspect(message, MISSING) if known is not None else message
        try:
            said = opened(whole["signature"])
            _check(said, sender, whole, mine, delivered=delivered)
            new = await self._meet(said, sender, plain(str(whole.get("id", ""))))
            at = _signed_at(said, message)
        except Mismatch as mismatch:
            return _suspect(message, f"{WRONG}: {mismatch}")
        except (TypeError, ValueError, KeyError, AttributeError):  # a hub may say anything
            return _suspect(message, f"{WRONG}: what is said of it cannot be read")
        return message | {"verified": fence.FIRST if new else fence.SIGNATURE} | at

    async def _meet(self, said: Manifest, sender: Address, id_: str) -> bool:
        """Make sure that it is the sender's key, and of no other message; return whether the key is new."""
        now = self._clock.now()
        known, new = await self._pins.meet(sender.compared, said.fingerprint, now)
        if known != said.fingerprint:
            raise Mismatch("it is by another key than the one that is known for this address")
        if await self._pins.used(said.fingerprint, said.once, id_, now) != id_:
            raise Mismatch("it was made for another message, and is replayed")
        return new

    # -- what a person asks

    async def listed(self) -> Json:
        """Return this machine's fingerprint and those that it knows."""
        keys = [
            {"address": each.address, "fingerprint": each.fingerprint, "since": each.since, "how": each.how}
            for each in await self._pins.all()
        ]
        return {"own": self._key.fingerprint if self._key is not None else None, "keys": keys}

    async def trust(self, address: str, fingerprint: str, space: str) -> Json:
        """Pin the key with that fingerprint."""
        if len(fingerprint) != _FINGERPRINT_LENGTH or not fingerprint.isascii():
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"{fingerprint[:60]!a} is no fingerprint.",
                "It has 43 letters, as `mcp-mailbox keys` shows it on the machine whose it is.",
            )
        found = addresses.parse(address, space).compared
        await self._pins.put(found, fingerprint, CHOSEN, self._clock.now())
        return {"address": found, "fingerprint": fingerprint}

    async def forget(self, address: str, space: str) -> Json:
        """Know no key of that address any more: the next one is pinned."""
        found = addresses.parse(address, space).compared
        if not await self._pins.forget(found):
            raise Refusal(Code.BAD_ARGUMENT, f"No key of {found} is known.", "`mcp-mailbox keys` lists those that are.")
        self._own.discard(found)
        return {"address": found}


def _check(said: Manifest, sender: Address, whole: Json, mine: Address, *, delivered: bool) -> None:
    """Raise Mismatch unless the message is what was signed, and was sent here."""
    body = whole["body"] if isinstance(whole.get("body"), str) else json.dumps(whole.get("body"))
    said.check(sender, str(whole.get("subject", "")), body, str(whole.get("format")))
    if whole.get("kind") is not None:
        raise Mismatch("what it is was not signed")
    said.check_files(_files(whole))
    if said.reply_to != whole.get("reply_to"):
        raise Mismatch("it answers another message")
    channel = [str(whole["channel"])] if whole.get("channel") else []
    shown = _addresses([*channel, *whole.get("to", ()), *whole.get("cc", ())], mine.space)
    if not all(map(said.is_to, shown)) or (delivered and not channel and not said.is_to(mine)):
        raise Mismatch("it was addressed to others")
    sent_at = whole.get("sent_at")
    if not isinstance(sent_at, str) or said.at > _ms(sent_at) + EARLY:
        raise Mismatch("it is dated before it was signed")


def _files(whole: Json) -> Sequence[File]:
    """Return what a hub says is attached: all of it, of which as much is shown as there is room for."""
    try:
        files = [(str(name), str(sha256)) for name, sha256 in whole.get("files", ())]
        shown = [str(each["name"]) for each in whole.get("attachments", ())]
    except (TypeError, ValueError, KeyError):
        raise Mismatch("what is attached cannot be read") from None
    if shown != [name for name, _ in files][: len(shown)] or (files and not shown):
        raise Mismatch("it is shown with other attachments than it has")
    return files


def _addresses(several: Sequence[object], space: str) -> Sequence[Address]:
    try:
        return [addresses.parse_any(str(each), space) for each in several]
    except Refusal:
        raise Mismatch("an address in it cannot be read") from None


def _signed_at(said: Manifest, message: Json) -> Json:
    """Return when it was signed, where the hub says another time: mail may wait in an outbox, or be held back."""
    late = abs(_ms(str(message["sent_at"])) - said.at) > EARLY
    at = datetime.fromtimestamp(said.at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"signed_at": at} if late else {}


def _suspect(message: Json, why: str) -> Json:
    return message | {fence.UNTRUSTED: True, "verified": why}


def _ms(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Mismatch("its time cannot be read") from None
