"""Requests of 2025-11-25 and before: a handshake begins a session, and all that follows names it."""

from __future__ import annotations

import secrets
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import NotificationOptions, Server

from mcp_mailbox.fronts.http import gate
from mcp_mailbox.fronts.http.gate import Refused
from mcp_mailbox.fronts.http.stream import EVENTS, OpenStreams, Stream, dump
from mcp_mailbox.fronts.http.visit import Visit
from mcp_mailbox.fronts.mcp.client import Client
from mcp_mailbox.fronts.mcp.http.clients import Clients
from mcp_mailbox.fronts.mcp.http.exchange import Exchange, break_off, failure
from mcp_mailbox.fronts.mcp.http.sessions import Common, Session, Sessions

SESSION_HEADER = "mcp-session-id"
_INITIALIZE_BYTES = 32 * 1024
"""Bytes of what a client says of itself."""


class Handshake:
    """All requests of this era, and their sessions."""

    def __init__(self, server: Server[Client], clients: Clients, streams: OpenStreams) -> None:
        self.sessions = Sessions()
        self._clients = clients
        self._open_streams = streams
        options = server.create_initialization_options(NotificationOptions(tools_changed=True))
        self._common = Common(server, options, streams)

    async def post(self, visit: Visit, message: types.JSONRPCMessage, body: bytes) -> None:
        """Take a message. Raises Refused(400 | 404) without a session."""
        if isinstance(message, types.JSONRPCRequest) and message.method == "initialize":
            await self._begin(visit, message, body)
            return
        session = self._session(visit)
        if isinstance(message, types.JSONRPCRequest):
            await self._run(session, visit, message, body)
            return
        stream = _stream(visit, session)
        await stream.finish(None, 202)  # first: what a handler tells in answer to it belongs elsewhere
        if isinstance(message, types.JSONRPCNotification):
            if message.method == "notifications/cancelled":
                session.cancel(message.params)
            await Exchange(session, stream, session.client, visit.key, message).note(message)
        else:
            session.answered(message)

    async def get(self, visit: Visit) -> None:
        """Be the session's standing stream. Raises Refused(404 | 406 | 409)."""
        session = self._session(visit)
        if not gate.accepts(visit.head, (EVENTS,)):
            raise Refused(406, f"Accept {EVENTS}.")
        if session.stands:
            raise Refused(409, "This session has a stream already.")
        stream = _stream(visit, session)
        session.streams += 1
        self._open_streams.enter(stream)
        try:
            if stream.why is None:
                await session.stand(stream)
            await break_off(stream)
        finally:
            self._open_streams.leave(stream)
            session.streams -= 1

    async def delete(self, visit: Visit) -> None:
        """End the session. Raises Refused(404)."""
        self.sessions.end(self._session(visit))
        await visit.reply(204)

    async def _begin(self, visit: Visit, message: types.JSONRPCRequest, body: bytes) -> None:
        if (named := visit.head.get(SESSION_HEADER)) is not None and self.sessions.find(
            named, visit.visitor.id
        ) is None:
            raise _no_session()
        if len(dump(message.params or {})) > _INITIALIZE_BYTES:
            raise Refused(413, f"initialize may have at most {_INITIALIZE_BYTES:,} bytes: a session keeps them.")
        client = await self._clients.make(visit, secrets.token_hex(16))
        if self.sessions.full(visit.visitor.id):
            raise Refused(429, "Too many sessions are in use. End some with DELETE.", {"retry-after": "1"})
        session = Session(self._common, client, visit.visitor.id)
        self.sessions.add(session)  # before the answer: the client's next request may be here before we are back
        begun = False
        try:
            begun = await self._run(session, visit, message, body)
        finally:
            if begun:
                session.share()
            else:
                self.sessions.end(session)

    async def _run(self, session: Session, visit: Visit, message: types.JSONRPCRequest, body: bytes) -> bool:
        exchange = Exchange(session, _stream(visit, session), session.client, visit.key, message, body)
        if not session.begin(exchange):
            # JSON-RPC has no way to tell their answers apart.
            problem = f"The id {message.id!a} is that of a request under way."
            raise Refused(400, problem, body=failure(message.id, types.INVALID_REQUEST, problem))
        return await exchange.run(message)

    def _session(self, visit: Visit) -> Session:
        named = visit.head.get(SESSION_HEADER)
        if named is None:
            raise Refused(400, "Begin with initialize, then send its Mcp-Session-Id.", body=_about_session("missing"))
        session = self.sessions.find(named, visit.visitor.id)
        if session is None:
            raise _no_session()
        return session


def _stream(visit: Visit, session: Session) -> Stream:
    return visit.stream([(SESSION_HEADER.encode(), session.id.encode())])


def _no_session() -> Refused:
    return Refused(404, "No such session. Begin with initialize.", body=_about_session("unknown"))


def _about_session(what: str) -> dict[str, Any]:
    return failure(None, types.INVALID_REQUEST, f"The Mcp-Session-Id is {what}. Begin with initialize.")
