"""Requests of 2026-07-28: each stands alone, says in its envelope who asks and how, and repeats it in its head."""

from __future__ import annotations

import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.runner import ServerRunner
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundLadderRejection,
    classify_inbound_request,
    find_duplicated_routing_header,
    unsupported_protocol_version_rejection,
    validate_mcp_param_headers,
)

from mcp_mailbox.fronts.http.gate import Head, Refused
from mcp_mailbox.fronts.http.stream import OpenStreams
from mcp_mailbox.fronts.http.visit import Visit
from mcp_mailbox.fronts.mcp.client import Client
from mcp_mailbox.fronts.mcp.http.clients import Clients
from mcp_mailbox.fronts.mcp.http.exchange import Ask, Exchange, Said, failure

_SHOWN = 100
"""Characters of a host's name, and of its version, that tell it from others."""
_PROTOCOL_META = "io.modelcontextprotocol/protocolVersion"


def is_alone(message: types.JSONRPCMessage) -> bool:
    """Tell the era of a request without a version header by its envelope; the header's absence is then an error."""
    if not isinstance(message, types.JSONRPCRequest) or message.method == "initialize":
        return False
    meta = (message.params or {}).get("_meta")
    return isinstance(meta, dict) and _PROTOCOL_META in meta


class Alone:
    """All requests of this era."""

    statuses = ERROR_CODE_HTTP_STATUS
    ask: Ask | None = None

    def __init__(self, server: Server[Client], clients: Clients, streams: OpenStreams) -> None:
        self.open_streams = streams
        self._server = server
        self._making = clients
        self._under_way: dict[Exchange, None] = {}

    async def serve(self, visit: Visit, message: types.JSONRPCMessage, body: bytes) -> None:
        """Answer it. Raises Refused for what contradicts itself or the protocol."""
        head = visit.head
        if isinstance(message, types.JSONRPCNotification):
            # It defines none from client to server: a client cancels by closing the stream of its request.
            _reject(unsupported_protocol_version_rejection(head.get(MCP_PROTOCOL_VERSION_HEADER) or ""), None)
            await visit.reply(202)
            return
        if not isinstance(message, types.JSONRPCRequest):
            problem = "Answers are not posted in this version."
            raise Refused(400, problem, body=failure(None, types.INVALID_REQUEST, problem))
        twice = find_duplicated_routing_header(head.raw)
        if twice is not None:
            _reject(InboundLadderRejection(types.HEADER_MISMATCH, f"{twice} appears more than once"), message.id)
        route = classify_inbound_request({"method": message.method, "params": message.params}, headers=head.values)
        if isinstance(route, InboundLadderRejection):
            raise _rejected(route, message.id)
        _reject(self._check_parameters(head, message), message.id)
        client = await self._making.make(visit, None, _host(route.client_info))
        exchange = Exchange(self, visit.stream(), client, visit.key, message, body)
        self._under_way[exchange] = None
        await exchange.run(message)

    def kernel(self, exchange: Exchange, message: Said) -> ServerRunner[Client]:
        """See `Era`."""
        route = classify_inbound_request({"method": message.method, "params": message.params})
        assert not isinstance(route, InboundLadderRejection)  # noqa: S101 - it was none with its head, which asks more
        connection = Connection.from_envelope(route.protocol_version, route.client_info, route.client_capabilities)
        return ServerRunner(self._server, connection, exchange.client)  # `serve_one`, less a stack that nothing uses

    def over(self, exchange: Exchange) -> None:
        """See `Era`."""

    def left(self, exchange: Exchange) -> None:
        """See `Era`."""
        self._under_way.pop(exchange, None)
        exchange.client.close()

    def leave(self) -> None:
        """Let all waits answer."""
        for exchange in list(self._under_way):
            exchange.client.ending.set()

    def _check_parameters(self, head: Head, message: types.JSONRPCRequest) -> InboundLadderRejection | None:
        """Compare `Mcp-Param-*` headers with the arguments that a tool's schema wants mirrored."""
        schema_of = self._server.get_tool_input_schema
        params = message.params or {}
        name, arguments = params.get("name"), params.get("arguments")
        if message.method != "tools/call" or schema_of is None or not isinstance(name, str):
            return None
        schema = schema_of(name)
        if schema is None or not isinstance(arguments, dict | None):
            return None
        return validate_mcp_param_headers(schema, arguments or {}, head.values)


def _host(info: object) -> str:
    """Return what the envelope says of the host; nothing has looked at it yet."""
    said = [info.get(each) for each in ("name", "version")] if isinstance(info, dict) else []
    return " ".join(each[:_SHOWN] for each in said if isinstance(each, str))


def _reject(rejection: InboundLadderRejection | None, request_id: types.RequestId | None) -> None:
    if rejection is not None:
        raise _rejected(rejection, request_id)


def _rejected(rejection: InboundLadderRejection, request_id: types.RequestId | None) -> Refused:
    status = ERROR_CODE_HTTP_STATUS.get(rejection.code, 400)
    told = failure(request_id, rejection.code, rejection.message, rejection.data)
    return Refused(status, rejection.message, body=told)
