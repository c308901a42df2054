"""What this machine says besides of what it sends, where it signs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_mailbox import addresses, attachment
from mcp_mailbox.engines.outbox import Entry, Parcel
from mcp_mailbox.fronts import arguments
from mcp_mailbox.fronts.verbs import Asking
from mcp_mailbox.link.asking import Asker
from mcp_mailbox.link.keyring import Keyring
from mcp_mailbox.link.mailboxes import Mailboxes
from mcp_mailbox.store import Clock

Json = dict[str, Any]


class Signing:
    """Signs in the name of mailboxes. `of` and `late` return {"signature"}, or nothing."""

    def __init__(self, keyring: Keyring, mailboxes: Mailboxes, asker: Asker, clock: Clock) -> None:
        self._keyring = keyring
        self._mailboxes = mailboxes
        self._asker = asker
        self._clock = clock

    async def of(self, asking: Asking, files: Sequence[Parcel] = ()) -> Json:
        """Sign what is sent now."""
        if not isinstance(asking.asked, arguments.Send) or not self._keyring.signs:
            return {}
        sender = await self._mailboxes.acted_for(asking.call)
        return await self._signed(str(sender), asking.asked, self._asker.who(asking.call), self._clock.now(), files)

    async def late(self, entry: Entry, given: Json) -> Json:
        """Sign what has waited here: only now the ids in it are the hub's."""
        sender = entry.who.get("address")
        if entry.verb != "send" or sender is None or not self._keyring.signs:
            return {}
        asked = arguments.parse(arguments.Send, "send", given)
        return await self._signed(str(sender), asked, entry.who, entry.asked_at, entry.files)

    async def _signed(
        self, sender: str, asked: arguments.Send, who: Mapping[str, Any], at: int, files: Sequence[Parcel]
    ) -> Json:
        names = attachment.apart(each.name for each in files)  # as the hub calls them
        attached = [(name, each.sha256) for name, each in zip(names, files, strict=True)]
        if not all(sha256 for _, sha256 in attached):
            return {}  # taken in by an older version, which signed nothing
        space = str(who.get("space", addresses.DEFAULT_SPACE))
        once = hashlib.sha256(f"{who['reader']}\0{who['request']}".encode()).hexdigest()[:32]
        signature = await self._keyring.sign(addresses.parse(sender, space), asked, space, once, at, attached)
        return {"signature": signature} if signature is not None else {}
