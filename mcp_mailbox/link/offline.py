"""What can be answered while the hub cannot be reached: from what was fetched, and what is on its way."""

from __future__ import annotations

from typing import Any

from mcp_mailbox.addresses import Address
from mcp_mailbox.engines.outbox import Entry, Outbox, plain
from mcp_mailbox.fronts import arguments, render
from mcp_mailbox.fronts.verbs import Asking
from mcp_mailbox.link.asking import Asker
from mcp_mailbox.link.forwarding import Forwarder
from mcp_mailbox.link.intake import is_inbox
from mcp_mailbox.link.mailboxes import Mailboxes
from mcp_mailbox.link.names import Names
from mcp_mailbox.link.verdicts import shown

Json = dict[str, Any]

_PREVIEWED = (
    *("id", "from", "subject", "priority", "sent_at", "written_at", "kind", "untrusted", "verified"),
    *("attachments", "more_attachments"),
)


class Offline:
    """Answers every verb but `send` and `wait_for_message`. Raises Refusal(HUB_AWAY) where it cannot."""

    def __init__(self, asker: Asker, mailboxes: Mailboxes, names: Names, outbox: Outbox, forwarder: Forwarder) -> None:
        self._asker = asker
        self._mailboxes = mailboxes
        self._names = names
        self._outbox = outbox
        self._forwarder = forwarder

    async def ask(self, asking: Asking) -> Json:
        """Answer."""
        asked = asking.asked
        if isinstance(asked, arguments.CreateMailbox):
            return await self._opened(asking, asked)
        address = str(await self._mailboxes.readable(asking.call.caller, asking.call.mailbox))
        if isinstance(asked, arguments.Settle):
            said = await self._forwarder.settle(asking, self._asker.who(asking.call), address)
            return {"settled": list(asked.ids), **said, **self._asker.about_outbox()}
        if isinstance(asked, arguments.ListInbox) and is_inbox(asking):
            listed = [_preview(each) for each in await self._outbox.unsettled(address, asked.limit)]
            return {"messages": listed, **self._asker.about_away()}
        if isinstance(asked, arguments.Read) and asked.attachment is not None:
            raise self._asker.away("What is attached is read there.")
        if isinstance(asked, arguments.Read | arguments.Entire):
            found = await self._outbox.fetched(address, asked.id)
            if found is None or "body" not in found:
                raise self._asker.away(f"{asked.id[:40]!a} was not fetched before.")
            return self._shown(asking, {**found, **self._asker.about_away()})
        raise self._asker.away()

    async def unsent(self, asking: Asking) -> Json | None:
        """Return what is read when that is a message of the outbox which the hub does not have, None for any other.

        It is on its way, or was refused.
        """
        asked = asking.asked
        if not isinstance(asked, arguments.Read | arguments.Entire) or getattr(asked, "attachment", None) is not None:
            return None
        entry = await self._forwarder.unsent(asked.id)
        if entry is None:
            return None
        address = str(await self._mailboxes.readable(asking.call.caller, asking.call.mailbox))
        if entry.who.get("address") != address:
            return None
        return self._shown(asking, self._of_outbox(asked.id, address, entry))

    def _shown(self, asking: Asking, found: Json) -> Json:
        asked = asking.asked
        return shown(asking, self._page(found, asked) if isinstance(asked, arguments.Read) else _entire(found))

    async def _opened(self, asking: Asking, asked: arguments.CreateMailbox) -> Json:
        """Open a mailbox that this machine has had."""
        caller = asking.call.caller
        name = asked.name if asked.name is not None else asking.default
        address: Address = await self._mailboxes.readable(caller, name)
        if caller.binds:
            await self._names.become(caller, address)
        return {"address": str(address), "created": False, **self._asker.about_away()}

    def _of_outbox(self, id_: str, mailbox: str, entry: Entry) -> Json:
        given = entry.given
        files = [{"name": each.name, "size": each.size} for each in entry.files]
        refused = entry.answer
        why = (
            {"state": "refused", "reason": refused.get("message", ""), "hint": refused.get("hint", "")}
            if refused is not None
            else {"state": "outbox", **self._asker.about_outbox()}
        )
        return {
            "id": id_,
            "from": mailbox,
            "to": [to] if isinstance(to := given.get("to"), str) else to,
            "subject": given.get("subject", ""),
            "body": given.get("body"),
            "sent_at": render.moment(entry.asked_at),
            **({"attachments": files} if files else {}),
            **why,
        }

    def _page(self, message: Json, asked: arguments.Read) -> Json:
        """Return a message from that character on, as far as it was fetched."""
        body = message["body"]
        if asked.offset == 0:
            return message
        if not isinstance(body, str) or asked.offset >= message.get("more", len(body) + 1):
            raise self._asker.away(f"Only the beginning of {asked.id[:40]!a} was fetched before.")
        return {**message, "body": body[asked.offset :]}


def _entire(message: Json) -> Json:
    """Return a message as `entire` gives it: its body as text, and what that is."""
    body = message["body"]
    text, kind = (body, "text") if isinstance(body, str) else (render.dump(body), "json")
    return {"thread": plain(message["id"]), "priority": "normal", "format": kind, **message, "body": text}


def _preview(message: Json) -> Json:
    """Return a message as a listing shows it."""
    if "preview" in message:
        return message
    body = message.get("body", "")
    text = body if isinstance(body, str) else render.dump(body)
    kept: Json = {name: message[name] for name in _PREVIEWED if name in message}
    return {**kept, "preview": text[:200]}
