"""What a model gets to see: lean results, each the same as structured content and as JSON text.

Hosts show a model the structured content alone (docs/hosts.md), so it is the lean view itself. Sizes are bytes of
that JSON. A body stands in a JSON string, whose quotes it cannot leave: that is its fence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import mcp_types as types

from mcp_mailbox.delivery import Delivery, State
from mcp_mailbox.errors import Refusal
from mcp_mailbox.store import Accepted, Opened, Page, Preview, Settled

WAIT_LIMIT = 16_000
"""Bytes of a wait's or a read's answer; hosts count in KB of 1,000 or of 1,024."""
PAGE_LIMIT = 4_000
"""Bytes of a page of inbox."""
BODY_SHARE = 12_000
"""Bytes of bodies to ask the store for in one wait: the rest is room for what stands around them."""
_SUBJECT_SHOWN = 60
_SHORTEST_BODY = 100
"""Bytes of a body that are always shown. With the shortened subject, ten messages fit whatever is in them."""
_RECIPIENTS_SHOWN = 2_000
"""Bytes of addresses in a page of a message; a hundred long ones would fill several."""

Json = dict[str, Any]

NOTHING_YET = "Nothing yet. Your mail is kept: call wait_for_message again, or go on and look later."


def result(content: Json, *, error: bool = False) -> types.CallToolResult:
    """Wrap a tool's answer."""
    return types.CallToolResult(
        content=[types.TextContent(text=dump(content))], structured_content=content, is_error=error
    )


def refused(refusal: Refusal) -> types.CallToolResult:
    """Render a refusal so that the model can act on it."""
    return result(problem(refusal), error=True)


def problem(refusal: Refusal) -> Json:
    """Render a refusal as part of an answer."""
    return {"error": refusal.code.value, "message": refusal.problem, **_given(hint=refusal.hint)}


def opened(answer: Opened, hint: str | None) -> Json:
    """Render `create_mailbox`."""
    address = str(answer.mailbox.address)
    content: Json = {"address": address, "created": answer.created, "unread": answer.mailbox.unread}
    return content | _given(hint=hint)


def summary(principal: str, tool: str, given: Mapping[str, Any], answer: Json) -> str:
    """Say in one line what a call did: addresses and counts, never what mail says."""
    match answer:
        case {"id": id_, "to": [*recipients]}:
            to = ", ".join(each["address"] for each in recipients)
            return f"{principal}: {given.get('mailbox') or 'mail'} → {to} ({id_})"
        case {"messages": [*messages]}:
            what = "got" if tool == "wait_for_message" else "looked at"
            return f"{principal}: {what} {len(messages)} of {given.get('mailbox') or 'its mailbox'}"
        case {"address": address}:
            return f"{principal}: opened {address}"
        case _:
            return f"{principal}: {tool}"


def accepted(answer: Accepted) -> Json:
    """Render `send`."""
    to = [
        {"address": each.address} | (problem(each.refusal) if each.refusal else {"state": State.STORED.word})
        for each in answer.recipients
    ]
    content: Json = {"id": answer.id, "thread": answer.thread, "to": to}
    return content | _given(repeated=answer.repeated)


def received(deliveries: Sequence[Delivery]) -> Json:
    """Render `wait_for_message`: long bodies are cut, with `more` where to read on; then subjects, if need be."""
    messages = [_received(each) for each in deliveries]
    answer: Json = {"messages": messages}
    while (excess := size(answer) - WAIT_LIMIT) > 0:
        longest = max(messages, key=lambda message: size(message["body"]))
        if not _cut(longest, excess):
            for message in messages:
                message["subject"] = message["subject"][:_SUBJECT_SHOWN]
            break
    return answer


def nothing(cut: float | None = None) -> Json:
    """Render a wait in which nothing came; `cut` is how many seconds it lasted when that is less than was asked for."""
    why = f"On this host a wait lasts {cut:g} s at most. " if cut is not None else ""
    return {"messages": [], "timed_out": True, "hint": why + NOTHING_YET}


def entire(delivery: Delivery) -> Json:
    """Render a message with its whole body."""
    message = delivery.message
    answer: Json = {
        "id": message.id,
        "from": message.sender,
        "to": list(message.to),
        "subject": message.subject,
        "body": message.body,
        "thread": message.thread,
        "priority": message.priority.word,
        "sent_at": moment(message.accepted_at),
        "state": delivery.state.word,
    }
    return answer | _given(reply_to=message.reply_to, attempts=delivery.attempts)


def whole(delivery: Delivery, offset: int) -> Json:
    """Render `read`: the body from character `offset` on, with `more` where the next page begins."""
    answer = entire(delivery)
    answer["body"] = answer["body"][offset:]
    if size(answer["to"]) > _RECIPIENTS_SHOWN:
        answer["recipients"] = len(answer["to"])
        while size(answer["to"]) > _RECIPIENTS_SHOWN:
            answer["to"].pop()
    if (excess := size(answer) - WAIT_LIMIT) > 0:
        _cut(answer, excess, offset)
    return answer


def page(answer: Page) -> Json:
    """Render `list_inbox`: as many previews as fit, the first one always."""
    content: Json = {"messages": [], "unread": answer.unread}
    for shown, preview in enumerate(answer.previews):
        content["messages"].append(_previewed(preview))
        if shown and size(content) > PAGE_LIMIT - 40:  # room for the cursor
            content["messages"].pop()
            return content | {"next": answer.previews[shown - 1].cursor}
    return content | (_given(next=answer.previews[-1].cursor) if answer.more else {})


def settled(results: Iterable[Settled]) -> Json:
    """Render `settle`."""
    done = list(results)
    failed = [{"id": each.handle} | problem(each.refusal) for each in done if each.refusal]
    answer: Json = {"settled": [each.handle for each in done if not each.refusal]}
    return answer | _given(failed=failed)


def moment(ms: int) -> str:
    """Return the time as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def dump(content: object) -> str:
    """Return compact JSON; letters of all scripts as they are."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def size(content: object) -> int:
    """Return the bytes of its JSON."""
    return len(dump(content).encode())


def _received(delivery: Delivery) -> Json:
    message = delivery.message
    answer: Json = {
        "id": delivery.handle,
        "from": message.sender,
        "subject": message.subject,
        "body": message.body,
        "thread": message.thread,
        "priority": message.priority.word,
        "sent_at": moment(message.accepted_at),
        "lease_until": moment(delivery.lease_until or 0),
    }
    return answer | _given(attempts=delivery.attempts)


def _previewed(preview: Preview) -> Json:
    delivery, message = preview.delivery, preview.delivery.message
    answer: Json = {
        "id": message.id,
        "from": message.sender,
        "preview": message.body,
        "priority": message.priority.word,
        "sent_at": moment(message.accepted_at),
    }
    return answer | _given(
        subject=message.subject[:_SUBJECT_SHOWN],
        state=delivery.state.word if delivery.state is not State.STORED else None,
        bytes=preview.size if preview.size > len(message.body.encode()) else None,
    )


def _cut(message: Json, excess: int, offset: int = 0) -> bool:
    """Shorten the body by about `excess` bytes and say where it goes on; False when nothing is left to cut."""
    body: str = message["body"]
    room = size(body) - excess - 24  # `,"more":123456`
    kept = _prefix(body, max(room, _SHORTEST_BODY))
    if kept >= len(body):
        return False
    message["body"] = body[:kept]
    message["more"] = offset + kept
    return True


def _prefix(body: str, room: int) -> int:
    """Return how many characters of `body` have JSON of at most `room` bytes."""
    low, high = 0, min(len(body), room)
    while low < high:
        middle = (low + high + 1) // 2
        if size(body[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _given(**fields: object) -> Json:
    """Return the fields that say something."""
    return {name: value for name, value in fields.items() if value}
