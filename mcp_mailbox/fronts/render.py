"""What is answered, as JSON: lean results for a model, which the command line and its scripts get as well.

Sizes are bytes of that JSON. What another principal wrote is marked as `untrusted`, and there is room for the fence
that fronts for models put around it (`fence`). `reader` is the principal that reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from mcp_mailbox.addresses import Address
from mcp_mailbox.channel import Channel, Skipped
from mcp_mailbox.delivery import Delivery, Progress, State
from mcp_mailbox.directory import Entry
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import fence
from mcp_mailbox.message import Format, Kind, Message
from mcp_mailbox.postoffice.attachments import Opened as OpenedAttachment
from mcp_mailbox.reservation import SOMEBODY, Reservation, Taken, ending
from mcp_mailbox.store import (
    Accepted,
    Archived,
    ChannelPage,
    Found,
    Hit,
    Hits,
    Opened,
    Page,
    Preview,
    Reading,
    Released,
    Settled,
    Subscribed,
)

WAIT_LIMIT = 16_000
"""Bytes of a wait's or a read's answer; hosts count in KB of 1,000 or of 1,024."""
PAGE_LIMIT = 4_000
"""Bytes of a page of inbox."""
BODY_SHARE = 12_000
"""Bytes of bodies to ask the store for in one wait: the rest is room for what stands around them."""
_SUBJECT_SHOWN = 60
_SUBJECT_BEGUN = 15
"""Characters of a subject where not even that fits."""
SUBJECTS_CUT = {_SUBJECT_SHOWN, _SUBJECT_BEGUN}
"""Lengths of a subject of which there may be more."""
_PREVIEW_SHOWN = 200
"""Characters of a body in a line of its own."""
_CC_SHOWN = 5
_SHORTEST_BODY = 100
"""Bytes of a body that are always shown. With the shortened subject, ten messages fit whatever is in them."""
_FENCE = 30
"""Bytes of the fence around a name."""
_MORE = 40
"""Bytes that it takes to say that there is more."""
_ABOUT_SHOWN = 120
"""Characters of what a mailbox says it does."""
_SKILLS_SHOWN = 300
"""Bytes of a mailbox's skills."""
_ATTACHMENTS_SHOWN = 300
"""Bytes of attachments in a preview or a wait's answer."""
_RECIPIENTS_SHOWN = 2_000
"""Bytes of addresses in a page of a message; a hundred long ones would fill several."""

SCHEME = "mailbox:"
"""Of the URIs by which inboxes, messages and attachments are resources."""

Json = dict[str, Any]

INCOMPLETE = "The index is being made: newer mail may be missing here. Look again soon."
NOTHING_YET = "Nothing yet. Your mail is kept: call wait_for_message again, or go on and look later."
_STORED = {"state": State.STORED.word}
_NO_RECEIPT = "A channel sends no receipts; read counts how far its members are."
_HELD = {"state": State.HELD.word, "hint": "Its owner is asked whether you may write. Wait for that: see it with read."}
NO_TEXT = "It is no text. Open `path`: it is a copy, for you to read."
NO_TEXT_THERE = "It is no text. Read the resource `uri`."
_UNTRUSTED = {fence.UNTRUSTED: True, "verified": fence.HUB}
"""Of what another principal wrote: who it was is as sure as the hub is, which sets it."""
NOBODY = 'Nobody is found. Try fewer words, or space="*".'


class Relayed(Refusal):
    """A refusal that another post office has rendered."""

    def __init__(self, code: Code, answer: Mapping[str, Any]) -> None:
        super().__init__(code, str(answer.get("message", "")), str(answer.get("hint", "")))
        self.answer = dict(answer)


def problem(refusal: Refusal) -> Json:
    """Render a refusal as part of an answer."""
    if isinstance(refusal, Relayed):
        return refusal.answer
    answer: Json = {"error": refusal.code.value, "message": refusal.problem, **_given(hint=refusal.hint)}
    return answer | _in_the_way(refusal, PAGE_LIMIT - size(answer)) if isinstance(refusal, Taken) else answer


def opened(answer: Opened) -> Json:
    """Render `create_mailbox`."""
    address = str(answer.mailbox.address)
    content: Json = {"address": address, "created": answer.created, "unread": answer.mailbox.unread}
    read_by = f"{answer.occupant.label}, since {moment(answer.occupant.since)}" if answer.occupant else None
    return content | _given(read_by=read_by)


def summary(principal: str, tool: str, given: Mapping[str, Any], answer: Json) -> str:  # noqa: PLR0911 - one a tool
    """Say in one line what a call did: addresses and counts, never what mail says."""
    match answer:
        case {"id": id_, "to": [*recipients]}:
            to = ", ".join(each["address"] for each in recipients)
            return f"{principal}: {given.get('mailbox') or 'mail'} → {to} ({id_})"
        case {"messages": [*messages]}:
            what = "got" if tool == "wait_for_message" else "looked at"
            return f"{principal}: {what} {len(messages)} of {given.get('mailbox') or 'its mailbox'}"
        case {"mailboxes": [*mailboxes]}:
            return f"{principal}: found {len(mailboxes)} mailboxes"
        case {"reserved": [*groups]}:
            names = ", ".join(name for group in groups for name in group["names"])
            return f"{principal}: reserved {names}"
        case {"channel": channel} | {"left": channel}:
            return f"{principal}: {'joined' if 'channel' in answer else 'left'} {channel}"
        case {"address": address}:
            return f"{principal}: opened {address}"
        case _:
            return f"{principal}: {tool}"


def accepted(answer: Accepted, *, receipt: bool = False) -> Json:
    """Render `send`, which may have asked for a receipt."""
    to = [
        {"address": each.address}
        | (problem(each.refusal) if each.refusal else _HELD if each.held else _STORED)
        | ({"members": each.members} if each.members is not None else {})
        for each in answer.recipients
    ]
    published = any(each.members is not None for each in answer.recipients)
    content: Json = {"id": answer.id, "thread": answer.thread, "to": to}
    return content | _given(repeated=answer.repeated, hint=_NO_RECEIPT if receipt and published else None)


def received(deliveries: Sequence[Delivery], reader: str, *, raw: bool = False) -> Json:
    """Render `wait_for_message`: long bodies are cut, with `more` where to read on; then subjects, if need be.

    `raw` is for a machine that renders it anew: bodies stay text, and what only that needs is there.
    """
    messages = [_received(each, reader) for each in deliveries]
    answer: Json = {"messages": messages}
    while (excess := weight(answer) - WAIT_LIMIT) > 0:
        longest = max(messages, key=lambda message: size(message["body"]))
        if not _cut(longest, excess):
            for shown in (_SUBJECT_SHOWN, _SUBJECT_BEGUN):
                if weight(answer) > WAIT_LIMIT:
                    for message in messages:
                        message["subject"] = message["subject"][:shown]
            break
    for message, delivery in zip(messages, deliveries, strict=True):
        if raw:
            message.update(_signed(delivery.message))
        else:
            open_json(message, delivery.message.format.word)
    return answer


def nothing(cut: float | None = None, meant: str = "", *, brief: bool = False) -> Json:
    """Render a wait in which nothing came; `cut` is how many seconds it lasted when that is less than was asked for.

    `meant` asks whether it waited for somebody else; `brief` is for a person, who knows the rest.
    """
    if brief:
        return {"messages": [], "timed_out": True, **_given(hint=meant)}
    why = f"On this host a wait lasts {cut:g} s at most. " if cut is not None else ""
    return {"messages": [], "timed_out": True, "hint": " ".join(filter(None, (why + NOTHING_YET, meant)))}


def entire(reading: Reading, reader: str) -> Json:
    """Render a message with its whole body as text."""
    message, own = reading.message, reading.own
    answer: Json = {
        "id": message.id,
        "from": message.sender,
        "to": list(message.to),
        "subject": message.subject,
        "body": message.body,
        "thread": message.thread,
        "priority": message.priority.word,
        "sent_at": moment(message.accepted_at),
    }
    answer |= _given(cc=list(message.cc), reply_to=message.reply_to, **_about(message, reader, math.inf))
    if own is not None:
        answer |= {"state": own.state.word} | _given(attempts=own.attempts, reason=own.reason)
    sent: list[Json] = [{"to": to} | _history(message, each, reader) for to, each in reading.sent]
    sent += [
        {"to": each.channel, "members": dict(each.states)} | _given(at_least=each.at_least) for each in reading.counted
    ]
    return answer | _given(sent=sent)


def signed(reading: Reading, reader: str) -> Json:
    """Render a message with its whole body as text, and what another machine needs to verify it."""
    return entire(reading, reader) | _signed(reading.message)


def whole(reading: Reading, offset: int, reader: str, *, raw: bool = False) -> Json:
    """Render `read`: the body from character `offset` on, with `more` where the next page begins; `raw` as above."""
    answer = entire(reading, reader)
    answer["body"] = answer["body"][offset:]
    for name, rest in (("to", "recipients"), ("cc", "more_cc"), ("sent", "more_sent")):
        several = answer.get(name, [])
        if size(several) > _RECIPIENTS_SHOWN:
            answer[rest] = len(several)
            while size(several) > _RECIPIENTS_SHOWN:
                several.pop()
    if (excess := weight(answer) - WAIT_LIMIT) > 0:
        _cut(answer, excess, offset)
    if raw:
        return answer | _signed(reading.message)
    if not offset:
        open_json(answer, reading.message.format.word)
    return answer


def _signed(message: Message) -> Json:
    """Return what another machine needs to render and to verify a message; `files` are names and SHA-256 in hex."""
    signed_too = [[each.name, each.sha256] for each in message.attachments] if message.signature is not None else []
    return {"format": message.format.word} | _given(
        signature=message.signature, reply_to=message.reply_to, files=signed_too
    )


def attachment(opened: OpenedAttachment, id_: str, offset: int, uri: str) -> Json:
    """Render `read` of an attachment: its text from character `offset` on, or what it is and where it can be opened.

    `path` is a copy on the same machine; as the resource `uri` it is whole everywhere.
    """
    about = opened.attachment
    answer: Json = {"id": id_, "attachment": about.name, "type": about.type, "size": about.size}
    if opened.stranger is not None:
        answer |= {"from": opened.stranger, **_UNTRUSTED}
    answer |= _given(verified=opened.verified)
    path = str(opened.path) if opened.path is not None else None
    if opened.text is None:
        return answer | {"hint": NO_TEXT if path else NO_TEXT_THERE} | _given(path=path, uri=uri)
    # A character has at least a byte: of a text of megabytes no more than this is ever spelled.
    answer["body"] = opened.text[offset : offset + WAIT_LIMIT]
    if not offset and len(answer["body"]) == len(opened.text) and weight(answer) <= WAIT_LIMIT:
        return answer
    answer |= _given(path=path, uri=uri)
    if (excess := weight(answer) - WAIT_LIMIT) > 0:
        _cut(answer, excess, offset)
    return answer


def with_copy(answer: Json, path: str, offset: int) -> Json:
    """Return what `attachment` has rendered for another machine with where a copy lies on this one."""
    answer = {**answer, "path": path}
    if "body" not in answer:
        return answer | {"hint": NO_TEXT}
    if (excess := weight(answer) - WAIT_LIMIT) > 0:
        _cut(answer, excess, offset)
    return answer


def _attached(message: Message, room: float = _ATTACHMENTS_SHOWN) -> Json:
    """Render what is attached to it, as much as there is room for and one always; `read` shows all."""
    every = [{"name": each.name, "type": each.type, "size": each.size} for each in message.attachments]
    shown = list(every)
    while len(shown) > 1 and size(shown) > room:
        shown.pop()
    return {"attachments": shown, "more_attachments": len(every) - len(shown)}


def _history(message: Message, progress: Progress, reader: str) -> Json:
    """Render how far a delivery has come: its state, and when it came into each that it has had."""
    ended = {progress.state.word: progress.settled_at} if progress.settled_at is not None else {}
    times = {
        "held": progress.held_at,
        "stored": message.accepted_at if progress.held_at is None else progress.let_in_at,
        "rung": progress.rung_at,
        "surfaced": progress.surfaced_at,
        "leased": progress.leased_at,
        **ended,
        "lease_until": progress.lease_until,
        "deliver_at": progress.deliver_at,
    }
    at = {name: moment(time) for name, time in times.items() if time is not None}
    about = _given(attempts=progress.attempts, reason=progress.reason)
    quoted = {fence.UNTRUSTED: True} if progress.reason and progress.by not in {None, reader} else {}
    return {"state": progress.state.word, "at": at} | about | quoted


def page(answer: Page, reader: str, room: float = PAGE_LIMIT, *, full: bool = False) -> Json:
    """Render `list_inbox`: as many previews as fit, the first one always; `full` with each one's state and attempts."""
    content: Json = {"messages": [], "unread": answer.unread}
    for shown, preview in enumerate(answer.previews):
        content["messages"].append(_previewed(preview, reader) | (_standing(preview) if full else {}))
        if shown and weight(content) > room - _MORE:
            content["messages"].pop()
            return content | {"next": answer.previews[shown - 1].cursor}
    return content | (_given(next=answer.previews[-1].cursor) if answer.more else {})


def _standing(preview: Preview) -> Json:
    progress = preview.delivery.progress
    until = moment(progress.lease_until) if progress.lease_until is not None else None
    return {"state": progress.state.word, "attempts": progress.attempts, **_given(lease_until=until)}


def found(answer: Hits, reader: str, meant: str = "", room: float = PAGE_LIMIT) -> Json:
    """Render `list_inbox` that searched: as many hits as fit, the first one always; says so while hits may be missing.

    A page without hits may have a next one. `meant` asks whether somebody else's mail was looked for.
    """
    content: Json = {"messages": [], **_given(hint=meant)}
    if answer.complete_until is not None:
        content |= {"complete_until": moment(answer.complete_until), "hint": f"{INCOMPLETE} {meant}".strip()}
    for shown, hit in enumerate(answer.hits):
        content["messages"].append(_hit(hit, reader))
        if shown and weight(content) > room - _MORE:
            content["messages"].pop()
            return content | {"next": answer.hits[shown - 1].cursor}
    return content | _given(next=answer.next)


def _hit(hit: Hit, reader: str) -> Json:
    message, own = hit.message, hit.own
    answer: Json = {
        "id": message.id,
        "from": message.sender,
        "preview": message.body,
        "sent_at": moment(message.accepted_at),
    }
    return answer | _given(
        to=list(message.to),
        more_to=hit.recipients - len(message.to),
        subject=message.subject[:_SUBJECT_SHOWN],
        state=own.state.word if own is not None else None,
        bytes=hit.size if hit.size > len(message.body.encode()) else None,
        **_about(message, reader),
    )


def settled(results: Iterable[Settled]) -> Json:
    """Render `settle`."""
    done = list(results)
    failed = [{"id": each.handle} | problem(each.refusal) for each in done if each.refusal]
    answer: Json = {"settled": [each.handle for each in done if not each.refusal]}
    return answer | _given(failed=failed)


def subscribed(answer: Subscribed) -> Json:
    """Render `subscribe`."""
    channel = answer.channel
    return {
        "channel": str(channel.address),
        "created": answer.created,
        "members": channel.members,
        "keeps": channel.keep.count,
        **_given(waiting=answer.waiting),
    }


def left(channel: Address, was: bool) -> Json:
    """Render `subscribe` with `leave`."""
    return {"left": str(channel), **_given(hint=None if was else "You were not a member.")}


def channels(answer: ChannelPage) -> Json:
    """Render `subscribe` without a channel: as many as fit, the first one always."""
    content: Json = {"channels": []}
    for shown, (channel, _) in enumerate(answer.channels):
        content["channels"].append(_channel(channel))
        if shown and size(content) > PAGE_LIMIT - _MORE:
            content["channels"].pop()
            return content | {"next": answer.channels[shown - 1][1]}
    return content | _given(next=answer.next)


def _channel(channel: Channel) -> Json:
    last = moment(channel.last_at) if channel.last_at is not None else None
    return {"channel": str(channel.address), "members": channel.members, **_given(last_at=last, yours=channel.yours)}


def skipped(several: Sequence[Skipped]) -> Json:
    """Render what a member has missed because a channel no longer kept it."""
    return _given(skipped=[{"channel": str(each.channel), "count": each.count} for each in several])


def arrived(mail: Archived, reader: str) -> Json:
    """Render what has come, as a listing that shows no more than its beginning."""
    message = mail.message
    body = message.body[:_PREVIEW_SHOWN]
    return {
        "id": message.id,
        "from": message.sender,
        "preview": body,
        "priority": message.priority.word,
        "sent_at": moment(message.accepted_at),
    } | _given(
        subject=message.subject,
        thread=message.thread if message.thread != message.id else None,
        bytes=len(message.body.encode()) if len(body) < len(message.body) else None,
        **_about(message, reader),
    )


def directory(answer: Found, reader: str, room: float = PAGE_LIMIT) -> Json:
    """Render `find_mailboxes`: as many as fit, the first one always."""
    content: Json = {"mailboxes": []}
    for shown, entry in enumerate(answer.entries):
        content["mailboxes"].append(_listed(entry, reader))
        if shown and weight(content) > room - _MORE:  # room for the cursor
            content["mailboxes"].pop()
            return content | {"next": answer.entries[shown - 1].cursor}
    return content | _given(next=answer.next, hint=None if answer.entries else NOBODY)


def _listed(entry: Entry, reader: str) -> Json:
    skills = list(entry.skills)
    while size(skills) > _SKILLS_SHOWN:
        skills.pop()
    known = {
        "last_seen": moment(entry.seen_at) if entry.seen_at is not None else None,
        "unread": entry.unread,
    }
    return {
        "address": str(entry.address),
        **_given(about=_beginning(entry.about), skills=skills, more_skills=len(entry.skills) - len(skills)),
        "presence": entry.presence.value,
        **_given(status=entry.status, contact=entry.contact.value if entry.asks_first else None),
        **{name: value for name, value in known.items() if value is not None},
        **_given(untrusted=entry.owner != reader and bool(entry.about or entry.skills or entry.status)),
    }


def _beginning(about: str) -> str:
    line = " ".join(about.split())
    return line if len(line) <= _ABOUT_SHOWN else line[: _ABOUT_SHOWN - 1] + "…"


def reserved(held: Sequence[Reservation]) -> Json:
    """Render `reserve`."""
    return {"reserved": _grouped(held, own=True)}


def released(answer: Released) -> Json:
    """Render `reserve` with `release`."""
    return {"released": list(answer.names), **_given(not_held=list(answer.not_held))}


def held(yours: Sequence[Reservation], others: Sequence[Reservation]) -> Json:
    """Render `reserve` without names: as much as fits, yours first, and how many names are left out."""
    content: Json = {"yours": [], "others": []}
    for section, reservations in (("yours", yours), ("others", others)):
        room = PAGE_LIMIT - size(content) - _MORE
        content[section] = _grouped(reservations, room, own=section == "yours")
    shown = sum(len(group["names"]) for group in content["yours"] + content["others"])
    return content | _given(more=len(yours) + len(others) - shown)


def _grouped(reservations: Sequence[Reservation], room: float = math.inf, *, own: bool) -> list[Json]:
    """Render names that were reserved alike as one, while there is room."""
    groups: dict[tuple[object, ...], Json] = {}
    for each in reservations:
        key = (each.holder, each.mode, each.until, each.note)
        group = groups.get(key) or {"names": [], **_holding(each, own=own)}
        room -= size(each.name) + 1 + (0 if key in groups else size(group) + 1)
        room -= _FENCE if fence.UNTRUSTED in group else 0
        if room < 0:
            break
        groups[key] = group
        group["names"].append(each.name)
    return list(groups.values())


def _holding(held: Reservation, *, own: bool = False) -> Json:
    by = str(held.holder) if held.holder is not None else SOMEBODY
    about: Json = {"mode": held.mode.value, "until": ending(held.until), **_given(note=held.note)}
    # Whose it is is only told of one's own principal's; of another's the name is that one's words.
    return about if own else {"by": by, **about, **_given(untrusted=held.holder is None)}


def _in_the_way(taken: Taken, room: int) -> Json:
    """Render what stands in the way, as much of it as fits."""
    shown: list[Json] = []
    for each in taken.conflicts:
        about = {"name": each.name, "held": each.held.name, **_holding(each.held), "since": moment(each.held.made_at)}
        room -= size(about) + fence.added(about) + 1
        if room < _MORE:
            break
        shown.append(about)
    return {"conflicts": shown, **_given(more=len(taken.conflicts) - len(shown))}


def uri(address: Address, *rest: str) -> str:
    """Return the URI of an inbox; with an id that of a message, with a name besides that of an attachment."""
    return "/".join((f"{SCHEME}{quote(str(address), safe='@')}", *(quote(each, safe="") for each in rest)))


def moment(ms: int) -> str:
    """Return the time as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def dump(content: object) -> str:
    """Return compact JSON; letters of all scripts as they are."""
    return _ENCODER.encode(content)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def size(content: object) -> int:
    """Return the bytes of its JSON."""
    return len(dump(content).encode())


def weight(answer: Json) -> int:
    """Return the bytes of an answer's JSON with the fences in it."""
    return size(answer) + fence.added(answer)


def _received(delivery: Delivery, reader: str) -> Json:
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
    cc = list(message.cc)
    return answer | _given(
        channel=delivery.channel,
        attempts=delivery.attempts,
        cc=cc[:_CC_SHOWN],
        more_cc=len(cc[_CC_SHOWN:]),
        **_about(message, reader),
    )


def _about(message: Message, reader: str, room: float = _ATTACHMENTS_SHOWN) -> Json:
    """Render what few messages have."""
    return {
        **(_UNTRUSTED if message.is_strangers(reader) else {}),
        "kind": message.kind.word if message.kind is not Kind.MESSAGE else None,
        "written_at": moment(message.written_at) if message.written_at is not None else None,
        "expires_at": moment(message.expires_at) if message.expires_at is not None else None,
        **_attached(message, room),
    }


def open_json(shown: Json, kind: str) -> None:
    """Show a body that is JSON as that, where it is whole; a stranger's stays text in its fence.

    What the post office says of a stranger is opened, and of that the stranger's words alone are fenced.
    """
    if kind != Format.JSON.word or "more" in shown:
        return
    if shown.get("kind") == Kind.REQUEST.word:
        shown["body"] = json.loads(shown["body"])
        for name in _UNTRUSTED:
            shown.pop(name, None)
    elif fence.UNTRUSTED not in shown:
        shown["body"] = json.loads(shown["body"])


def _previewed(preview: Preview, reader: str) -> Json:
    delivery, message = preview.delivery, preview.delivery.message
    answer: Json = {
        "id": message.id,
        "from": message.sender,
        "preview": message.body,
        "priority": message.priority.word,
        "sent_at": moment(message.accepted_at),
    }
    progress = delivery.progress
    told = message.to or progress.state in {State.LEASED, State.HELD} or progress.state.dead_letter
    return (
        answer
        | _given(
            channel=delivery.channel,
            to=message.to[0] if message.to else None,  # of what one has sent; what one got is to oneself
            subject=message.subject[:_SUBJECT_SHOWN],
            state=delivery.state.word if told else None,
            reason=progress.reason[:_SUBJECT_SHOWN],
            deliver_at=moment(progress.deliver_at) if progress.deliver_at is not None else None,
            bytes=preview.size if preview.size > len(message.body.encode()) else None,
            **_about(message, reader),
        )
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
