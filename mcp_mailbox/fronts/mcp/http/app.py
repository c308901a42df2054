"""The ASGI application: `/mcp` in both eras, `/healthz` and `/readyz`.

2026-07-28 requests stand alone; those of the handshake era belong to a session. The SDK's kernel runs both.
"""

from __future__ import annotations

import itertools
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

import anyio
import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.runner import ServerRunner
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundLadderRejection,
    classify_inbound_request,
    decode_header_value,
    find_duplicated_routing_header,
    unsupported_protocol_version_rejection,
    validate_mcp_param_headers,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from mcp_mailbox.fronts.mcp.client import Client, Request
from mcp_mailbox.fronts.mcp.http import body, gate
from mcp_mailbox.fronts.mcp.http.exchange import Exchange, failure
from mcp_mailbox.fronts.mcp.http.gate import Gate, Head, Refused
from mcp_mailbox.fronts.mcp.http.sessions import Session, Sessions
from mcp_mailbox.fronts.mcp.http.stream import Hall, Receive, Send, Stream

logger = logging.getLogger(__name__)

PATH = "/mcp"
ADDRESS_HEADER = "mailbox-address"
SPACE_HEADER = "mailbox-space"
_SESSION_HEADER = "mcp-session-id"
_JSON = "application/json"
_EVENTS = "text/event-stream"
_NO_STATUS: Mapping[int, int] = {}
"""In the handshake era an error is an answer: 200."""
_PROTOCOL_META = "io.modelcontextprotocol/protocolVersion"


class Visitor(Protocol):
    """Whom a request speaks for."""

    @property
    def id(self) -> str:
        """The credential's id."""

    def until(self) -> float | None:
        """Return for how many more seconds the credential is good; None: for ever."""

    async def client(self, address: str | None, space: str | None, *, session: str | None) -> Client:
        """Return the state of a session, or of one request (None), with that mailbox as its own."""


class Desk(Protocol):
    """Who knows the tokens."""

    async def visitor(self, token: Callable[[], str]) -> Visitor | None:
        """Return whom the token of a request stands for; None for one that is not good."""

    def on_revoked(self, hear: Callable[[str], None]) -> None:
        """Call `hear` with the id of a credential that is not good any more."""

    @property
    def ready(self) -> bool:
        """Whether mail can be had."""


class App:
    """The application. `running` must be entered for as long as it is called."""

    def __init__(self, server: Server[Client], desk: Desk, entrance: Gate) -> None:
        self._server = server
        self._desk = desk
        self._gate = entrance
        self._hall = Hall()
        self._sessions = Sessions()
        self._options = server.create_initialization_options(NotificationOptions(tools_changed=True))
        self._epoch = secrets.token_hex(6)  # request keys must not repeat in another life of the process
        self._numbers = itertools.count(1)
        self._lone: dict[Client, None] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve; on the way out what is open ends at once, and its clients are told."""
        self._desk.on_revoked(self._revoked)
        async with self._hall.open():
            yield

    async def close(self) -> None:
        """End what is open: waits answer, streams end; takes no more."""
        for client in list(self._lone):
            client.ending.set()
        self._sessions.leave()
        await self._hall.close()
        self._sessions.close()

    def status(self) -> dict[str, Any]:
        """Say how things stand."""
        return {"sessions": len(self._sessions), "requests": len(self._hall)}

    def _revoked(self, credential: str) -> None:
        self._hall.end_all_of(credential)
        self._sessions.end_all_of(credential)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        began = False

        async def note(message: MutableMapping[str, Any]) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._route(scope, receive, note)
        except Refused as refused:
            if refused.status in {401, 403, 421}:
                logger.info("refused (%d) %s: %s", refused.status, (scope.get("client") or ["?"])[0], refused)
            await _reply(send, refused.status, refused.body, refused.headers)
        except body.ClientGone:
            pass
        except Exception:
            number = secrets.token_hex(4)
            logger.exception("internal error %s over HTTP", number)
            if not began:
                await _reply(send, 500, json.dumps({"error": f"Internal error {number}."}).encode())

    async def _route(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if path in {"/healthz", "/readyz"} and method in {"GET", "HEAD"}:
            good = path == "/healthz" or (self._desk.ready and not self._hall.closing)
            await _reply(send, 200 if good else 503, b'{"status":"ok"}' if good else b'{"status":"not ready"}')
            return
        head = gate.read_head(scope)
        self._gate.check(scope, head)
        if path != PATH:
            raise Refused(404, f"There is nothing here; MCP is at {PATH}.")
        visitor = await self._desk.visitor(partial(gate.bearer, head))
        if visitor is None:
            raise gate.unauthorized()
        if self._hall.closing:
            raise Refused(503, "The post office is stopping. Do the same again.", {"retry-after": "1"})
        version = head.get(MCP_PROTOCOL_VERSION_HEADER)
        modern = version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS
        if method == "POST":
            await self._post(head, visitor, receive, send, modern=modern)
        elif method in {"GET", "DELETE"} and not modern:
            session = self._session(head, visitor)
            await (self._get if method == "GET" else self._delete)(head, session, receive, send)
        else:
            allowed = "POST" if modern else "GET, POST, DELETE"
            raise Refused(405, f"{method} means nothing here.", {"allow": allowed})

    # -- POST

    async def _post(self, head: Head, visitor: Visitor, receive: Receive, send: Send, *, modern: bool) -> None:
        kind = (head.get("content-type") or "").partition(";")[0].strip().lower()
        if kind != _JSON:
            raise Refused(415, f"The Content-Type must be {_JSON}.")
        if not gate.accepts(head, (_JSON, _EVENTS)):
            raise Refused(406, f"Accept both {_JSON} and {_EVENTS}.")
        message = body.parse(await body.read(head, receive))
        if modern or (head.get(_SESSION_HEADER) is None and _is_modern(message)):
            await self._alone(head, visitor, message, receive, send)
        elif isinstance(message, types.JSONRPCRequest) and message.method == "initialize":
            await self._begin(head, visitor, message, receive, send)
        else:
            await self._in_session(self._session(head, visitor), visitor, message, receive, send)

    # -- 2026-07-28

    async def _alone(
        self, head: Head, visitor: Visitor, message: types.JSONRPCMessage, receive: Receive, send: Send
    ) -> None:
        if isinstance(message, types.JSONRPCNotification):
            # It defines none from client to server: a client cancels by closing the stream of its request.
            _reject(unsupported_protocol_version_rejection(head.get(MCP_PROTOCOL_VERSION_HEADER) or ""), None)
            await _reply(send, 202, b"")
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
        client = await visitor.client(_header(head, ADDRESS_HEADER), _header(head, SPACE_HEADER), session=None)
        connection = Connection.from_envelope(route.protocol_version, route.client_info, route.client_capabilities)
        stream = self._stream(visitor, receive, send)
        exchange = Exchange(stream, client, self._request(), message)
        runner = ServerRunner(self._server, connection, client)  # `serve_one`, less an exit stack that nothing uses
        work = partial(runner.on_request, exchange, message.method, message.params)
        self._lone[client] = None
        try:
            await exchange.run(work, self._hall, ERROR_CODE_HTTP_STATUS)
        finally:
            del self._lone[client]
            client.close()

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

    # -- 2025-11-25 and before

    async def _begin(
        self, head: Head, visitor: Visitor, message: types.JSONRPCRequest, receive: Receive, send: Send
    ) -> None:
        if (named := head.get(_SESSION_HEADER)) is not None and self._sessions.find(named, visitor.id) is None:
            raise _no_session()
        key = secrets.token_hex(16)
        client = await visitor.client(_header(head, ADDRESS_HEADER), _header(head, SPACE_HEADER), session=key)
        session = Session(self._server, client, visitor.id, self._options)
        if await self._run(session, visitor, message, receive, send):
            self._sessions.add(session)
        else:
            session.close()

    async def _in_session(
        self, session: Session, visitor: Visitor, message: types.JSONRPCMessage, receive: Receive, send: Send
    ) -> None:
        if isinstance(message, types.JSONRPCRequest):
            await self._run(session, visitor, message, receive, send)
            return
        stream = self._stream(visitor, receive, send, session)
        await stream.finish(None, 202)  # first: what a handler tells in answer to it belongs elsewhere
        if isinstance(message, types.JSONRPCNotification):
            if message.method == "notifications/cancelled":
                session.cancel(message.params)
            note = Exchange(stream, session.client, self._request(), message)
            await session.runner.on_notify(note, message.method, message.params)
        else:
            session.answered(message)

    async def _run(
        self, session: Session, visitor: Visitor, message: types.JSONRPCRequest, receive: Receive, send: Send
    ) -> bool:
        stream = self._stream(visitor, receive, send, session)
        exchange = Exchange(stream, session.client, self._request(), message, session.ask)
        if not session.begin(exchange):
            # JSON-RPC has no way to tell their answers apart.
            problem = f"The id {message.id!a} is that of a request under way."
            raise Refused(400, problem, body=failure(message.id, types.INVALID_REQUEST, problem))
        session.streams += 1
        try:
            work = partial(session.runner.on_request, exchange, message.method, message.params)
            return await exchange.run(work, self._hall, _NO_STATUS)
        finally:
            session.streams -= 1
            session.end(exchange)

    async def _get(self, head: Head, session: Session, receive: Receive, send: Send) -> None:
        if not gate.accepts(head, (_EVENTS,)):
            raise Refused(406, f"Accept {_EVENTS}.")
        if session.stands:
            raise Refused(409, "This session has a stream already.")
        stream = Stream(receive, send, session.owner, [_session_header(session)])
        session.streams += 1
        self._hall.enter(stream)
        try:
            await session.stand(stream)
            await stream.finish(None)
        finally:
            self._hall.leave(stream)
            session.streams -= 1

    async def _delete(self, head: Head, session: Session, receive: Receive, send: Send) -> None:
        del head, receive
        self._sessions.end(session)
        await _reply(send, 204, b"")

    def _session(self, head: Head, visitor: Visitor) -> Session:
        named = head.get(_SESSION_HEADER)
        if named is None:
            raise Refused(400, "Begin with initialize, then send its Mcp-Session-Id.", body=_about_session("missing"))
        session = self._sessions.find(named, visitor.id)
        if session is None:
            raise _no_session()
        return session

    # -- small things

    def _stream(self, visitor: Visitor, receive: Receive, send: Send, session: Session | None = None) -> Stream:
        stream = Stream(receive, send, visitor.id, [_session_header(session)] if session is not None else None)
        left = visitor.until()
        if left is not None:
            stream.scope.deadline = anyio.current_time() + left
        return stream

    def _request(self) -> Request:
        return Request(f"{self._epoch}.{next(self._numbers)}")


def _is_modern(message: types.JSONRPCMessage) -> bool:
    """Tell the era of a request without a version header by its envelope; the header's absence is then an error."""
    if not isinstance(message, types.JSONRPCRequest) or message.method == "initialize":
        return False
    meta = (message.params or {}).get("_meta")
    return isinstance(meta, dict) and _PROTOCOL_META in meta


def _reject(rejection: InboundLadderRejection | None, request_id: types.RequestId | None) -> None:
    if rejection is not None:
        raise _rejected(rejection, request_id)


def _rejected(rejection: InboundLadderRejection, request_id: types.RequestId | None) -> Refused:
    status = ERROR_CODE_HTTP_STATUS.get(rejection.code, 400)
    told = failure(request_id, rejection.code, rejection.message, rejection.data)
    return Refused(status, rejection.message, body=told)


def _no_session() -> Refused:
    return Refused(404, "No such session. Begin with initialize.", body=_about_session("unknown"))


def _about_session(what: str) -> dict[str, Any]:
    return failure(None, types.INVALID_REQUEST, f"The Mcp-Session-Id is {what}. Begin with initialize.")


def _session_header(session: Session) -> tuple[bytes, bytes]:
    return (_SESSION_HEADER.encode(), session.id.encode())


def _header(head: Head, name: str) -> str | None:
    """Return a header that may be spelled as SEP-2243 spells what is not ASCII. Raises Refused(400)."""
    value = head.get(name)
    decoded = decode_header_value(value)
    if value is not None and decoded is None:
        raise Refused(400, f"The header {name} is no valid base64.")
    return decoded or None


async def _reply(send: Send, status: int, content: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    about = [(b"content-length", b"%d" % len(content)), *(headers or [])]
    if content:
        about.append((b"content-type", _JSON.encode()))
    await send({"type": "http.response.start", "status": status, "headers": about})
    await send({"type": "http.response.body", "body": content})
