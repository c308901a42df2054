"""What is attached to mail, fetched from the hub: judged as its message was, and put where programs can open it."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import OrderedDict
from pathlib import Path
from typing import Any

from anyio import to_thread

from mcp_mailbox import attachment
from mcp_mailbox.attachment import Attachment
from mcp_mailbox.engines.outbox import plain
from mcp_mailbox.fronts import arguments, fence, render
from mcp_mailbox.fronts.verbs import Asking
from mcp_mailbox.link.asking import Asker
from mcp_mailbox.link.hub import Away
from mcp_mailbox.link.intake import Intake
from mcp_mailbox.link.mailboxes import Mailboxes
from mcp_mailbox.link.verdicts import of_attachment
from mcp_mailbox.postoffice import Call
from mcp_mailbox.postoffice.attachments import Given, Opened
from mcp_mailbox.postoffice.copies import Copies
from mcp_mailbox.recent import trim

Json = dict[str, Any]

_OPENED_MOST = 1_000
_WHOSE = ("from", fence.UNTRUSTED, "verified")
"""What an answer says of whose words an attachment is."""


class Attachments:
    """Fetches them."""

    def __init__(self, asker: Asker, mailboxes: Mailboxes, intake: Intake, copies: Copies) -> None:
        self._asker = asker
        self._mailboxes = mailboxes
        self._intake = intake
        self._copies = copies
        self._opened: OrderedDict[tuple[str, str, str, str], Path] = OrderedDict()
        """Where copies of what is attached to messages lie, by mailbox, id, name, and what it was found to be worth."""

    async def content(self, call: Call, id_: str, name: str) -> Given:
        """Return an attachment and what is in it. Raises Refusal as the hub does, and HUB_AWAY."""
        try:
            with self._asker.suspecting(), self._asker.line.relying():
                asked = {"who": self._asker.who(call), "given": {"id": id_, "name": name}}
                said, content = await self._asker.hub.attachment(asked)
        except Away:
            raise self._asker.away("Attachments are read there.") from None
        sha256 = (await to_thread.run_sync(hashlib.sha256, content)).hexdigest()
        found = Attachment(unicodedata.normalize("NFC", name), said["type"], len(content), sha256)
        return of_attachment(await self._intake.message(call, id_), Given(found, content))

    async def read(self, asking: Asking, asked: arguments.Read, answer: Json) -> Json:
        """Return what the hub says of one as its message was judged; of a signed one the content is asked for."""
        message = await self._intake.message(asking.call, asked.id)
        name, given = str(asked.attachment), None
        if message.get("verified") in {fence.SIGNATURE, fence.FIRST}:
            given = await self.content(asking.call, asked.id, name)
            text = await to_thread.run_sync(attachment.text, given.content)
            uri = render.uri(await self._mailboxes.acted_for(asking.call), asked.id, name)
            opened = Opened(given.attachment, text, None, given.stranger, given.verified)
            answer = render.attachment(opened, asked.id, asked.offset, uri)
        else:
            answer = {each: said for each, said in answer.items() if each not in {*_WHOSE, "path"}}
            answer |= {each: message[each] for each in _WHOSE if message.get(fence.UNTRUSTED) and each in message}
        return await self._with_copy(asking, asked, answer, given)

    async def _with_copy(self, asking: Asking, asked: arguments.Read, answer: Json, given: Given | None) -> Json:
        """Put a copy of an attachment where the caller's programs can open it, as a post office of its own does."""
        whole = "body" in answer and "uri" not in answer
        if asking.call.caller.files is None or whole or int(answer.get("size", 0)) == 0:
            return answer
        name = str(answer["attachment"])
        known = (self._mailboxes.known(asking.call) or "", plain(asked.id), name, str(answer.get("verified")))
        path = self._opened.get(known)
        if path is None or not await to_thread.run_sync(path.is_file):
            found, content, *_ = given or await self.content(asking.call, asked.id, name)
            of = f"{plain(asked.id)} {found.sha256}"
            path = await to_thread.run_sync(self._copies.put, of, attachment.clean_name(found.name), content)
            self._opened[known] = path
            trim(self._opened, _OPENED_MOST)
        return render.with_copy(answer, str(path), asked.offset)
