"""What the hub has answered, until who asked gets it: judged here, kept for when the hub is away, and then shown."""

from __future__ import annotations

from typing import Any

from mcp_mailbox import addresses
from mcp_mailbox.engines.outbox import Outbox, plain
from mcp_mailbox.fronts import arguments
from mcp_mailbox.fronts.verbs import Asking
from mcp_mailbox.fronts.verbs import asking as plainly
from mcp_mailbox.link.asking import Asker
from mcp_mailbox.link.hub import Away
from mcp_mailbox.link.keyring import Keyring
from mcp_mailbox.link.mailboxes import Mailboxes
from mcp_mailbox.link.names import Names
from mcp_mailbox.link.verdicts import Verdicts, is_judged, shown
from mcp_mailbox.postoffice import Call

Json = dict[str, Any]


class Intake:
    """Takes answers in."""

    def __init__(self, asker: Asker, mailboxes: Mailboxes, names: Names, outbox: Outbox, keyring: Keyring) -> None:
        self._asker = asker
        self._mailboxes = mailboxes
        self._names = names
        self._outbox = outbox
        self._verdicts = Verdicts(keyring, mailboxes.acted_for, self._all_of)

    async def taken(self, asking: Asking, answer: Json) -> Json:
        """Return an answer of the hub's as who asked gets it."""
        return shown(asking, await self._kept(asking, answer))

    async def message(self, call: Call, id_: str) -> Json:
        """Return a message as it was judged here: what is kept, or else the hub is asked for it.

        Raises Refusal as the hub does, and HUB_AWAY.
        """
        kept = await self._outbox.fetched(str(await self._mailboxes.acted_for(call)), id_)
        if kept is not None and is_judged(kept):
            return kept
        asking = plainly("entire", {"id": plain(id_)}, call)
        try:
            return await self._kept(asking, await self._all_of(call, plain(id_)))
        except Away:
            raise self._asker.away("It has to say whose words these are.") from None

    async def _all_of(self, call: Call, id_: str) -> Json:
        """Return a message whole, as the hub keeps it. Raises Away, and Refusal as it does."""
        said = self._asker.spelled(plainly("entire", {"id": id_}, call))
        said["who"]["request"] = f"verify {id_}"
        return await self._asker.verb("entire", said)

    async def _kept(self, asking: Asking, answer: Json) -> Json:
        """Judge what the hub has answered, and keep it for when it cannot be reached."""
        answer = await self._verdicts.judged(asking, answer)
        caller = asking.call.caller
        if isinstance(asking.asked, arguments.CreateMailbox):
            address = addresses.parse(answer["address"], caller.space)
            if caller.binds:
                await self._names.become(caller, address)
            else:
                name = asking.asked.name if asking.asked.name is not None else asking.default
                await self._names.keep(caller, name, address)
        mailbox = self._mailboxes.known(asking.call)
        if mailbox is not None:
            if asking.verb in {"wait_for_message", "list_inbox"}:
                fetched = [each for each in answer.get("messages", []) if "body" in each or "preview" in each]
                if fetched:
                    leased = asking.verb == "wait_for_message"
                    self._outbox.keep(mailbox, fetched, waits=is_inbox(asking), leased=leased)
            elif asking.verb in {"read", "entire"} and "body" in answer and not _is_part(asking):
                self._outbox.keep(mailbox, [answer], waits=False)
            elif isinstance(asking.asked, arguments.Settle) and asking.asked.ends:
                self._outbox.settled(mailbox, answer.get("settled", []))
            elif isinstance(asking.asked, arguments.Send) and asking.asked.reply_to:
                self._outbox.settled(mailbox, [asking.asked.reply_to])
        return answer


def is_inbox(asking: Asking) -> bool:
    """Whether the answer is what waits, and not what was found among all mail."""
    asked = asking.asked
    return not isinstance(asked, arguments.ListInbox) or (not asked.searches and asked.show in {None, "inbox"})


def _is_part(asking: Asking) -> bool:
    """Whether what is read is less than a message: an attachment, or a later page."""
    asked = asking.asked
    return isinstance(asked, arguments.Read) and (asked.attachment is not None or asked.offset > 0)
