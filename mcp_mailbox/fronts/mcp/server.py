"""The MCP server: one for all connections; each connection's `Client` is its lifespan state.

Refusals become tool results that a model can act on; bugs are logged under an id and answered with that id alone.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial, wraps
from typing import Any, NamedTuple, TypeVar, get_args

import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.runner import ServerRunner, aclose_shielded, serve_dual_era_loop
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.subscriptions import (
    SUBSCRIPTION_ID_META_KEY,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
    event_to_notification,
)
from mcp.shared.transport_context import TransportContext
from mcp_types import PROTOCOL_VERSION_META_KEY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mcp_mailbox import __version__
from mcp_mailbox.addresses import Address
from mcp_mailbox.errors import Blame, Refusal
from mcp_mailbox.fronts import fence, render
from mcp_mailbox.fronts.mcp import answers, resources, tools
from mcp_mailbox.fronts.mcp.client import SUBSCRIPTION_LIMIT, Client, Coalesced, Context
from mcp_mailbox.fronts.mcp.prompts import prompts
from mcp_mailbox.fronts.mcp.wire import Wire

P = TypeVar("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)
calls = logging.getLogger("mcp_mailbox.calls")
"""One line for each call, for somebody who watches (`office.CALLS`). Never what mail says."""

_LISTENS = 32
"""Streams of `subscriptions/listen` that one connection may hold open."""
_RESOURCE_NOT_FOUND = -32002
"""The code of 2025-11-25; since 2026-07-28 it is INVALID_PARAMS."""
_LEVELS = get_args(types.LoggingLevel)
"""In order of severity, as the schema declares them (RFC 5424)."""
_PLAIN_VERSIONS = {"2025-06-18", "2025-11-25"}
"""Those whose answers of tools are what `_hear` writes: earlier ones know no structured content, later ones stamp."""
_PLAIN_PARAMS = {"name", "arguments", "_meta"}
_CODES = {Blame.CALLER: types.INVALID_PARAMS, Blame.STATE: types.INVALID_PARAMS, Blame.STORE: types.INTERNAL_ERROR}
"""From our errors to the protocol's, where there is no tool result to put them in."""


async def serve(server: Server[Client], client: Client, wire: Wire) -> None:
    """Serve one connection until its host or its relay has gone, in the era of its first request.

    The SDK finds out which by a task and a stream between, for as long as the connection lasts: each message would pass
    both, and each agent pay for them. 2026-07-28 is left to it whole.
    """
    opening = await wire.opening()
    if opening is not None and opening.method != "initialize" and _has_envelope(opening.params):
        await serve_dual_era_loop(server, wire, wire, lifespan_state=client)
        return
    dispatcher: JSONRPCDispatcher[TransportContext] = JSONRPCDispatcher(
        wire, wire, inline_methods=frozenset({"initialize"})
    )
    connection = Connection.for_loop(dispatcher)
    options = server.create_initialization_options(NotificationOptions(tools_changed=True), dict(client.experimental))
    runner = ServerRunner(server, connection, client, init_options=options)

    async def on_request(
        context: DispatchContext[TransportContext], method: str, params: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        if method != "initialize" and _has_envelope(params):
            problem = "This connection began with initialize: the envelope of 2026-07-28 means nothing on it."
            raise MCPError(code=types.INVALID_REQUEST, message=problem)
        return await runner.on_request(context, method, params)

    try:
        await dispatcher.run(on_request, runner.on_notify)
    finally:
        await aclose_shielded(connection)


def _has_envelope(params: Mapping[str, Any] | None) -> bool:
    """Tell whether a request stands alone, as those of 2026-07-28 do."""
    meta = (params or {}).get("_meta")
    return isinstance(meta, Mapping) and PROTOCOL_VERSION_META_KEY in meta


def build_server() -> Server[Client]:
    """Return the server with all its handlers."""
    server: Server[Client] = Server(
        "mcp-mailbox",
        version=__version__,
        title="Mailbox",
        description="A durable mailbox for every agent.",
        instructions=tools.INSTRUCTIONS,
        on_list_tools=_list_tools,
        on_call_tool=_call_tool,
        on_list_resources=_list_resources,
        on_list_resource_templates=_list_templates,
        on_read_resource=_read_resource,
        on_subscribe_resource=_subscribe,
        on_unsubscribe_resource=_unsubscribe,
        on_subscriptions_listen=_listen,
        on_list_prompts=_list_prompts,
        on_get_prompt=_get_prompt,
        on_completion=_complete,
    )
    # Not OpenTelemetry's spans: a twentieth of each call, and nobody here collects them.
    server.middleware[:] = [_hear]
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, _set_level)
    server.add_notification_handler("notifications/initialized", types.NotificationParams, _initialized)
    return server


async def _hear(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Note what a message tells of the host, whatever it asks. The SDK calls it so.

    A plain call of a tool is answered here, which is what the SDK lets a middleware do: it would check the call once
    more than we do, and build, check and take apart its answer, for a quarter of what all of it costs.
    """
    ctx.lifespan_context.heard(ctx)
    if ctx.method == "tools/call" and _is_plain(ctx):
        params = ctx.params or {}
        answer = await _answer(ctx, params["name"], params.get("arguments"))
        return {
            "content": [{"type": "text", "text": render.dump(answer.content)}],
            "structuredContent": answer.content,
            "isError": answer.is_error,
        }
    return await call_next(ctx)


def _is_plain(ctx: Context) -> bool:
    """Tell whether there is nothing in a call that the SDK would refuse, or answer in another shape."""
    params = ctx.params or {}
    return (
        ctx.protocol_version in _PLAIN_VERSIONS
        and params.keys() <= _PLAIN_PARAMS
        and isinstance(params.get("name"), str)
        and params["name"] in tools.TOOLS  # of others the protocol knows what to say
        and isinstance(params.get("arguments"), dict | None)
        and (ctx.meta is not None or "_meta" not in params)  # one that is malformed is as if there were none
        and ctx.session.client_params is not None  # else there was no handshake yet
    )


def _answers(handle: Callable[[Context, P], Awaitable[R]]) -> Callable[[Context, P], Awaitable[R]]:
    """Tell what a handler refuses as an error of the protocol, and of a bug its number alone. Tools have results."""

    @wraps(handle)
    async def answer(context: Context, params: P) -> R:
        try:
            return await handle(context, params)
        except resources.Missing as missing:
            raise _not_found(context, missing) from None
        except Refusal as refusal:
            raise _refused(refusal) from None
        except MCPError:
            raise
        except Exception:
            number = secrets.token_hex(4)
            logger.exception("internal error %s in %s", number, context.method)
            told = _internal(number)
            raise MCPError(code=types.INTERNAL_ERROR, message=told["message"], data=told) from None

    return answer


_DESCRIBED = [tool.describe(name) for name, tool in tools.TOOLS.items()]


@_answers
async def _list_tools(context: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    del context, params
    return types.ListToolsResult(tools=_DESCRIBED)


async def _call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    answer = await _answer(context, params.name, params.arguments)
    return answers.result(answer.content, error=answer.is_error)


class _Answer(NamedTuple):
    content: dict[str, Any]
    is_error: bool = False


async def _answer(context: Context, name: str, arguments: Mapping[str, Any] | None) -> _Answer:
    """Return what a tool answers. Raises MCPError for one that there is not."""
    if name not in tools.TOOLS:
        raise MCPError(code=types.INVALID_PARAMS, message=tools.unknown(name))
    client = context.lifespan_context
    client.called()
    try:
        answer = await tools.run(client, context, name, arguments)
        if calls.isEnabledFor(logging.INFO):
            calls.info("%s", render.summary(client.caller.principal, name, arguments or {}, answer))
        return _Answer(fence.fenced(answer))
    except Refusal as refusal:
        if calls.isEnabledFor(logging.INFO):
            calls.info("%s: %s refused: %s", client.caller.principal, name, refusal.problem)
        return _Answer(fence.fenced(render.problem(client.explain(refusal))), is_error=True)
    except MCPError:
        raise
    except Exception:
        number = secrets.token_hex(4)
        logger.exception("internal error %s in %s", number, name)
        return _Answer(_internal(number), is_error=True)


def _internal(number: str) -> dict[str, Any]:
    """Return what may be said of a bug: the number under which the log has it."""
    return {
        "error": "internal",
        "message": f"Internal error {number}.",
        "hint": "Try once more; else tell your user the number: the post office's log explains it.",
    }


@_answers
async def _list_resources(context: Context, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    return await resources.listed(context.lifespan_context, params.cursor if params else None)


@_answers
async def _list_templates(
    context: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    del context, params
    return types.ListResourceTemplatesResult(resource_templates=resources.TEMPLATES)


@_answers
async def _read_resource(context: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    return await resources.read(context.lifespan_context, context, str(params.uri))


@_answers
async def _subscribe(context: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
    client = context.lifespan_context
    uri = str(params.uri)
    rings = await resources.rings(client, uri)
    resumed = context.request is not None and context.request.resumed
    client.subscribe(uri, rings, context.session, resumed=resumed)
    return types.EmptyResult()


@_answers
async def _unsubscribe(context: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
    context.lifespan_context.unsubscribe(str(params.uri))
    return types.EmptyResult()


@_answers
async def _listen(context: Context, params: types.SubscriptionsListenRequestParams) -> types.SubscriptionsListenResult:
    """Serve one stream of `subscriptions/listen` (2026-07-28, SEP-2575); what is not the caller's is left out."""
    client = context.lifespan_context
    if client.listens >= _LISTENS:
        raise MCPError(code=types.INTERNAL_ERROR, message=f"{_LISTENS} streams are open on this connection.")
    asked = params.notifications.resource_subscriptions or []
    places: dict[str, Address | None] = {}
    for uri in asked[:SUBSCRIPTION_LIMIT]:
        try:
            places[str(uri)] = await resources.rings(client, str(uri))
        except resources.Missing:
            continue
        except Refusal as refusal:
            if refusal.blame is not Blame.CALLER:
                raise
    asked_of = params.notifications
    honoured = types.SubscriptionFilter(
        tools_list_changed=asked_of.tools_list_changed or None, resource_subscriptions=list(places) or None
    )
    client.listens += 1
    try:
        return await _stream(context, honoured, places)
    finally:
        client.listens -= 1


async def _stream(
    context: Context, honoured: types.SubscriptionFilter, places: Mapping[str, Address | None]
) -> types.SubscriptionsListenResult:
    """Acknowledge, then send what happens until the host closes; several rings before it reads are one.

    Not the SDK's `ListenHandler`: it keeps each ring, and gives up on a host that has not read 1,024 of them.
    """
    client = context.lifespan_context
    meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: context.request_id}
    events: Coalesced[ServerEvent | None] = Coalesced()
    ends = [
        client.counter.bell.subscribe(address, partial(events.add, ResourceUpdated(uri)))
        for uri, address in places.items()
        if address is not None
    ]
    if context.request is not None and context.request.resumed:
        for uri in places:  # what rang while the post office was away was not heard
            events.add(ResourceUpdated(uri))
    if client.program_changed and honoured.tools_list_changed:
        events.add(ToolsListChanged())

    async def send(notification: types.ServerNotification) -> None:
        await context.session.send_notification(notification, related_request_id=context.request_id)

    try:
        # Also after a crash: whether the host got the first one is not known, and without it it waits for ever.
        about = types.SubscriptionsAcknowledgedNotificationParams(notifications=honoured, _meta=meta)
        await send(types.SubscriptionsAcknowledgedNotification(params=about))
        there = {address for address in places.values() if address is not None}
        with client.ending.telling(lambda: events.add(None)), client.counter.waiting(client.caller, there):
            while (event := await events.take()) is not None:
                await send(event_to_notification(event, meta))
                address = places.get(event.uri) if isinstance(event, ResourceUpdated) else None
                if address is not None:
                    await client.counter.rang(address)
    finally:
        for end in ends:
            end()
    return types.SubscriptionsListenResult(_meta=meta)


@_answers
async def _list_prompts(context: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
    del context, params
    return types.ListPromptsResult(prompts=[prompt.describe() for prompt in prompts().values()])


@_answers
async def _get_prompt(context: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    del context
    prompt = prompts().get(params.name)
    if prompt is None:
        there = ", ".join(prompts())
        raise MCPError(code=types.INVALID_PARAMS, message=f"No prompt {params.name[:40]!a}. There are {there}.")
    text = prompt.fill(params.arguments or {})
    return types.GetPromptResult(
        description=prompt.description,
        messages=[types.PromptMessage(role="user", content=types.TextContent(text=text))],
    )


@_answers
async def _complete(context: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    reference = params.ref
    name = reference.uri if isinstance(reference, types.ResourceTemplateReference) else reference.name
    argument = params.argument
    return await resources.complete(context.lifespan_context, name, argument.name, argument.value)


@_answers
async def _set_level(context: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
    """Tell a host that asked to hear it that the post office was away (2025-11-25 only)."""
    if context.lifespan_context.resumed and _LEVELS.index(params.level) <= _LEVELS.index("notice"):
        away = "The post office was restarted; nothing was lost, open calls were asked again."
        await context.session.send_notification(
            types.LoggingMessageNotification(
                params=types.LoggingMessageNotificationParams(level="notice", logger="mcp-mailbox", data=away)
            )
        )
    return types.EmptyResult()


async def _initialized(context: Context, params: types.NotificationParams) -> None:
    """After a hand-over to another version the host's list of tools may be stale (2025-11-25)."""
    del params
    if context.lifespan_context.program_changed:
        await context.session.send_tool_list_changed()


def _not_found(context: Context, missing: resources.Missing) -> MCPError:
    modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
    code = types.INVALID_PARAMS if modern else _RESOURCE_NOT_FOUND
    return MCPError(code=code, message=f"Resource not found. {missing}", data={"uri": missing.uri})


def _refused(refusal: Refusal) -> MCPError:
    return MCPError(code=_CODES[refusal.blame], message=str(refusal), data=render.problem(refusal))
