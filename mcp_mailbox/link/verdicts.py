"""What of a hub's answers is shown at an edge: mail with what its signature is worth here, whatever the hub says.

An answer comes as the hub keeps mail, bodies as text (`raw`). `Verdicts.judged` makes of it what is kept on this
machine, `shown` what who asked gets. Who is known by which key is the keyring's business.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from mcp_mailbox.addresses import Address
from mcp_mailbox.engines.outbox import plain
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import fence, render
from mcp_mailbox.fronts.verbs import Asking
from mcp_mailbox.link.hub import Away
from mcp_mailbox.link.keyring import UNCHECKED, Keyring
from mcp_mailbox.message import Format
from mcp_mailbox.postoffice import Call
from mcp_mailbox.postoffice.attachments import Given

Json = dict[str, Any]

_JUDGED = {"read", "entire"}
_OF_THIS_ANSWER = ("id", "from", "channel", "kind", "format", "reply_to", "sent_at", "attachments", "files")
"""What is verified as it is shown, and not as the whole message says it."""


class Verdicts:
    """What each message is worth."""

    def __init__(
        self,
        keyring: Keyring,
        mine: Callable[[Call], Awaitable[Address]],
        entire: Callable[[Call, str], Awaitable[Json]],
    ) -> None:
        """`mine` says for which mailbox a call acts, `entire` asks the hub for a message, whole."""
        self._keyring = keyring
        self._mine = mine
        self._entire = entire

    async def judged(self, asking: Asking, answer: Json) -> Json:
        """Return an answer of the hub's with what its signatures are worth: as it is kept here."""
        answer = _modest(answer)
        if asking.verb == "wait_for_message":
            return answer | {"messages": [await self._judged(asking, each) for each in answer.get("messages", [])]}
        if asking.verb in _JUDGED and "attachment" not in answer:
            return await self._judged(asking, answer)
        return answer

    async def _judged(self, asking: Asking, message: Json) -> Json:
        try:
            mine = await self._mine(asking.call)
            whole = await self._whole(asking, message)
            judged = await self._keyring.judge(message, whole, mine, delivered=asking.verb == "wait_for_message")
        except Away:
            judged = _unchecked(message, "the hub cannot be reached")
        except Refusal as refusal:
            judged = _unchecked(message, refusal.code.value)
        hidden = {"signature"} | ({"reply_to"} if asking.verb == "wait_for_message" else set())
        return {name: each for name, each in judged.items() if name not in hidden}

    async def _whole(self, asking: Asking, message: Json) -> Json:
        """Return the message with all that its signature is of, where it has one and is shown in part."""
        offset = getattr(asking.asked, "offset", 0)
        cut = "more" in message or offset or len(str(message.get("subject", ""))) in render.SUBJECTS_CUT
        if message.get("signature") is None or not cut:
            return message
        whole = await self._entire(asking.call, plain(str(message.get("id", ""))))
        body, subject = str(whole.get("body", "")), str(whole.get("subject", ""))
        end = more if isinstance(more := message.get("more"), int) else len(body)
        if body[offset:end] != message.get("body") or not subject.startswith(str(message.get("subject", ""))):
            whole = whole | {"signature": ""}  # of what is shown it is none
        shown = {name: message[name] for name in _OF_THIS_ANSWER if name in message}
        several = {name: [*_list(message, name), *_list(whole, name)] for name in ("to", "cc")}
        return {name: each for name, each in whole.items() if name not in _OF_THIS_ANSWER} | shown | several


def shown(asking: Asking, answer: Json) -> Json:
    """Return what was judged, or kept, as who asked gets it: JSON opened, but for a person, who reads the text."""
    if asking.verb == "wait_for_message":
        return answer | {"messages": [_shown(each) for each in answer.get("messages", [])]}
    if asking.verb == "read" and "attachment" not in answer:
        return _shown(answer, getattr(asking.asked, "offset", 0))
    if asking.verb == "entire":
        found = _without(answer, "files", *(() if asking.full else ("format",)))
        return found | {"format": Format.TEXT.word} if asking.full and not _opens(answer) else found
    return answer


def of_attachment(message: Json, given: Given) -> Given:
    """Return an attachment with what its message, as it was judged, says of it.

    Raises Refusal(STORE_DAMAGED) for one that is not what was signed with the message.
    """
    verified = message.get("verified")
    if verified in {fence.SIGNATURE, fence.FIRST}:
        verified = fence.SIGNATURE
        found = given.attachment
        if [found.name, found.sha256] not in message.get("files", ()):
            raise Refusal(
                Code.STORE_DAMAGED,
                f"The content that the hub has given for {found.name!r} is not what was signed with the message.",
                "Tell your user, and ask the sender for it by another way.",
            )
    stranger = str(message.get("from", "?")) if message.get(fence.UNTRUSTED) else None
    return given._replace(stranger=stranger, verified=verified)


def is_judged(message: Json) -> bool:
    """Whether what is kept of a message tells what it is worth: a preview, and what an older version kept, do not."""
    return "body" in message and not str(message.get("verified", "")).startswith(UNCHECKED)


def _shown(message: Json, offset: int = 0) -> Json:
    found = _without(message, "format", "files")
    if not offset:
        with suppress(ValueError, TypeError, RecursionError):  # whatever a hub says that it is
            render.open_json(found, str(message.get("format", "")))
    return found


def _opens(message: Json) -> bool:
    """Whether a body that is said to be JSON is that."""
    if message.get("format") == Format.JSON.word:
        try:
            json.loads(message["body"])
        except (ValueError, TypeError, RecursionError):
            return False
    return True


def _modest(answer: Json) -> Json:
    """Return an answer without what a hub has no say in: which fences there are, and that more than it verifies."""
    found = _without(answer, fence.NONCE)
    if "verified" in found:
        found["verified"] = fence.HUB
    if isinstance(found.get("messages"), list):
        found["messages"] = [_modest(each) for each in found["messages"]]
    return found


def _unchecked(message: Json, why: str) -> Json:
    return message | {fence.UNTRUSTED: True, "verified": f"{UNCHECKED}: {why}"}


def _without(found: Mapping[str, Any], *names: str) -> Json:
    return {key: each for key, each in found.items() if key not in names}


def _list(message: Json, name: str) -> list[Any]:
    found = message.get(name, ())
    return list(found) if isinstance(found, list) else []
