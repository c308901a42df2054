"""Resources: `mailbox:NAME@SPACE` is an inbox, `…/ID` a message in it, `…/ID/NAME` what is attached to that.

Names are percent-encoded (RFC 3986).

Only one's own mailboxes can be read, subscribed to and completed; anybody else's are as if they did not exist.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from urllib.parse import unquote

import anyio.to_thread
import mcp_types as types

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.attachment import text as text_of
from mcp_mailbox.errors import Blame, Code, Refusal
from mcp_mailbox.fronts import fence, render
from mcp_mailbox.fronts.mcp.client import Client, Context, carries_mail
from mcp_mailbox.fronts.render import SCHEME
from mcp_mailbox.fronts.verbs import asking
from mcp_mailbox.postoffice import Call

COMPLETION_LIMIT = 100
"""Values that one completion may carry (MCP, server/utilities/completion)."""
_JSON = "application/json"
_LISTED = 100
"""Inboxes in a page of `resources/list`."""
_LARGEST = 10 << 20
"""Bytes of an attachment in one answer, which is spelled in one go."""
_URI_LIMIT = 2_000
"""Characters; a subscription keeps its URI, and ours have fewer even when each letter is percent-encoded."""
_NOT_THERE = {
    Code.UNKNOWN_MAILBOX,
    Code.UNKNOWN_MESSAGE,
    Code.UNKNOWN_ATTACHMENT,
    Code.NO_MAILBOX,
    Code.BAD_NAME,
}
"""What is refused with these is missing; with any other code it may well be there."""

TEMPLATES = [
    types.ResourceTemplate(
        name="inbox",
        uri_template=f"{SCHEME}{{address}}",
        description="Previews of what waits in a mailbox of yours. Subscribe to hear of new mail.",
        mime_type=_JSON,
    ),
    types.ResourceTemplate(
        name="message",
        uri_template=f"{SCHEME}{{address}}/{{id}}",
        description="One message whole.",
        mime_type=_JSON,
    ),
    types.ResourceTemplate(
        name="attachment",
        uri_template=f"{SCHEME}{{address}}/{{id}}/{{name}}",
        description="What is attached to a message.",
    ),
]


@dataclass(frozen=True, slots=True)
class Place:
    """What a URI names: an inbox, a message in it, or what is attached to that."""

    address: str
    id: str | None = None
    attachment: str | None = None


def parse(text: str) -> Place | None:
    """Return what it names, None when it is not ours."""
    if not text.startswith(SCHEME) or len(text) > _URI_LIMIT:
        return None
    address, *rest = map(unquote, text.removeprefix(SCHEME).split("/", 2))
    return Place(address, *rest)


async def rings(client: Client, text: str) -> Address | None:
    """Return whose bell tells of a change of that resource; None for a message, which never changes.

    Raises Missing for what is not ours or not the caller's, Refusal for what cannot be told now or to this caller.
    """
    place, address = await _own(client, text)
    return address if place.id is None else None


async def _own(client: Client, text: str) -> tuple[Place, Address]:
    """Return what the URI names and whose it is. Raises as `rings`."""
    place = parse(text)
    if place is None:
        about = f"Resources here begin with {SCHEME} and have at most {_URI_LIMIT:,} characters."
        raise Missing(text[:_URI_LIMIT], about)
    try:
        return place, await client.counter.readable(client.caller, place.address)
    except Refusal as refusal:
        raise _told(text, refusal) from None


async def listed(client: Client, cursor: str | None) -> types.ListResourcesResult:
    """Return the inboxes of the caller's principal in its space. Raises Refusal for what is no cursor of ours."""
    try:
        after = addresses.check_name(cursor) if cursor is not None else ""
    except Refusal:
        hint = "Use `nextCursor` of the page before."
        raise Refusal(Code.BAD_ARGUMENT, f"{(cursor or '')[:40]!a} is not a cursor.", hint) from None
    found = await client.counter.listed(client.caller, _LISTED + 1, after)
    page = [
        types.Resource(uri=render.uri(address), name=str(address), mime_type=_JSON, description="inbox")
        for address in found[:_LISTED]
    ]
    return types.ListResourcesResult(
        resources=page, next_cursor=found[_LISTED - 1].name if len(found) > _LISTED else None
    )


async def read(client: Client, context: Context, text: str) -> types.ReadResourceResult:
    """Return an inbox's first page, or a message or an attachment whole. Raises as `rings`."""
    place, address = await _own(client, text)
    call = Call(client.caller, context.request.key if context.request else "", str(address))
    if place.id is not None and place.attachment is not None:
        return await _attachment(client, call, text, place.id, place.attachment)
    carries_mail(context)
    try:
        verb, given = ("list_inbox", {}) if place.id is None else ("entire", {"id": place.id})
        content = await client.counter.ask(asking(verb, given, call))
    except Refusal as refusal:
        raise _told(text, refusal) from None
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=text, mime_type=_JSON, text=render.dump(fence.fenced(content)))]
    )


async def _attachment(client: Client, call: Call, text: str, id_: str, name: str) -> types.ReadResourceResult:
    """Return an attachment, one that is no text as a blob. Raises as `rings`."""
    try:
        given = await client.counter.content(call, id_, name)
    except Refusal as refusal:
        raise _told(text, refusal) from None
    found, content = given.attachment, given.content
    if len(content) > _LARGEST:
        problem = f"{found.name!r} has {len(content):,} bytes; a resource may have {_LARGEST:,}."
        raise Refusal(Code.ATTACHMENT_TOO_LARGE, problem, "An agent on the server's machine can open it (`read`).")
    said = await anyio.to_thread.run_sync(text_of, content)
    one: types.TextResourceContents | types.BlobResourceContents
    if said is not None and given.stranger is not None:
        said, nonce = fence.text(said, given.stranger, given.verified or fence.HUB)
        meta = {fence.UNTRUSTED: True, fence.NONCE: nonce}
        one = types.TextResourceContents(uri=text, mime_type=found.type, text=said, _meta=meta)
    elif said is not None:
        one = types.TextResourceContents(uri=text, mime_type=found.type, text=said)
    else:
        blob = (await anyio.to_thread.run_sync(base64.b64encode, content)).decode()
        one = types.BlobResourceContents(uri=text, mime_type=found.type, blob=blob)
    return types.ReadResourceResult(contents=[one])


async def complete(client: Client, reference: str, argument: str, value: str) -> types.CompleteResult:
    """Complete an address for a template or a prompt; anything else has no suggestions."""
    if argument not in {"address", "to", "from"} or (reference.startswith(SCHEME) and argument != "address"):
        return types.CompleteResult(completion=types.Completion(values=[]))
    try:
        found = await client.counter.complete(client.caller, value, COMPLETION_LIMIT + 1)
    except Refusal as refusal:
        if refusal.blame is not Blame.CALLER:
            raise
        found = ()
    values = [str(address) for address in found[:COMPLETION_LIMIT]]
    return types.CompleteResult(
        completion=types.Completion(values=values, total=None, has_more=len(found) > COMPLETION_LIMIT)
    )


def _told(text: str, refusal: Refusal) -> Missing | Refusal:
    return Missing(text, str(refusal)) if refusal.code in _NOT_THERE else refusal


class Missing(Exception):  # noqa: N818 - an answer, not an error of ours
    """The resource is not there, or not the caller's: the same answer for both."""

    def __init__(self, uri: str, why: str) -> None:
        super().__init__(why)
        self.uri = uri
