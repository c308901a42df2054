"""The ASGI application: `/mcp` in both eras, `/healthz` and `/readyz`.

2026-07-28 requests stand alone (`alone.py`); those of the handshake era belong to a session (`handshake.py`). Which it
is, and what is the same for both, is decided here.
"""

from __future__ import annotations

import itertools
import json
import logging
import secrets
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from mcp.server.lowlevel import Server
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from mcp_mailbox.fronts.mcp.client import Client
from mcp_mailbox.fronts.mcp.http import body, cors, gate
from mcp_mailbox.fronts.mcp.http.alone import Alone, is_alone
from mcp_mailbox.fronts.mcp.http.connection import EXTENSION
from mcp_mailbox.fronts.mcp.http.desk import Desk
from mcp_mailbox.fronts.mcp.http.gate import Gate, Refused
from mcp_mailbox.fronts.mcp.http.handshake import SESSION_HEADER, Handshake
from mcp_mailbox.fronts.mcp.http.stream import EVENTS, JSON, OpenStreams, Receive, Send, reply
from mcp_mailbox.fronts.mcp.http.visit import Visit

logger = logging.getLogger(__name__)

PATH = "/mcp"


class App:
    """The application. `running` must be entered for as long as it is called."""

    def __init__(self, server: Server[Client], desk: Desk, entrance: Gate) -> None:
        self._desk = desk
        self._gate = entrance
        self._open_streams = OpenStreams()
        self._alone = Alone(server, self._open_streams)
        self._handshake = Handshake(server, self._open_streams)
        self._epoch = secrets.token_hex(6)  # request keys must not repeat in another life of the process
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve; on the way out what is open ends at once, and its clients are told."""
        self._desk.on_revoked(self._revoked)
        async with self._open_streams.open():
            yield

    async def close(self) -> None:
        """End what is open: waits answer, streams end; takes no more."""
        self._alone.leave()
        self._handshake.sessions.leave()
        await self._open_streams.close()
        self._handshake.sessions.close()

    def status(self) -> dict[str, Any]:
        """Say how things stand."""
        return {"sessions": len(self._handshake.sessions), "requests": len(self._open_streams)}

    def _revoked(self, credential: str) -> None:
        self._open_streams.end_all_of(credential)
        self._handshake.sessions.end_all_of(credential)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        began = False
        if (origin := self._gate.foreign(scope)) is not None:
            send = cors.readable(send, origin)

        async def note(message: MutableMapping[str, Any]) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._route(scope, receive, note)
        except Refused as refused:
            if refused.status in {401, 403, 421}:
                client = (scope.get("client") or ["?"])[0]
                logger.info("refused (%d) %s: %s%s", refused.status, client, refused, refused.about)
            await reply(send, refused.status, refused.body, refused.headers)
        except body.ClientGone:
            pass
        except Exception:
            number = secrets.token_hex(4)
            logger.exception("internal error %s over HTTP", number)
            if not began:
                await reply(send, 500, json.dumps({"error": f"Internal error {number}."}).encode())

    async def _route(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if path in {"/healthz", "/readyz"} and method in {"GET", "HEAD"}:
            good = path == "/healthz" or not self._open_streams.closing
            await reply(send, 200 if good else 503, b'{"status":"ok"}' if good else b'{"status":"not ready"}')
            return
        head = gate.read_head(scope)
        self._gate.check(scope, head)
        if path != PATH:
            raise Refused(404, f"There is nothing here; MCP is at {PATH}.")
        if cors.is_preflight(head) and self._gate.foreign(scope) is not None:
            await reply(send, 204, b"", cors.PREFLIGHT)
            return
        visitor = await self._desk.visitor(partial(gate.bearer, head))
        if visitor is None:
            raise gate.unauthorized()
        if self._open_streams.closing:
            raise gate.stopping()
        if self._open_streams.full(visitor.id):
            raise Refused(429, "Too many requests of this token are open. End some.", {"retry-after": "1"})
        key = f"{self._epoch}.{next(self._numbers)}"
        visit = Visit(head, visitor, key, receive, send, scope["extensions"][EXTENSION])
        version = head.get(MCP_PROTOCOL_VERSION_HEADER)
        alone = version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS
        if method == "POST":
            await self._post(visit, alone=alone)
        elif method == "GET" and not alone:
            await self._handshake.get(visit)
        elif method == "DELETE" and not alone:
            await self._handshake.delete(visit)
        else:
            raise Refused(405, f"{method} means nothing here.", {"allow": "POST" if alone else "GET, POST, DELETE"})

    async def _post(self, visit: Visit, *, alone: bool) -> None:
        head = visit.head
        kind = (head.get("content-type") or "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise Refused(415, f"The Content-Type must be {JSON}.")
        if (head.get("content-encoding") or "identity").lower() != "identity":
            raise Refused(415, "Send the body as it is, without a Content-Encoding.", {"accept-encoding": "identity"})
        if not gate.accepts(head, (JSON, EVENTS)):
            raise Refused(406, f"Accept both {JSON} and {EVENTS}.")
        message = body.parse(await body.read(head, visit.receive))
        if not visit.visitor.good():  # a body may take its time
            raise gate.unauthorized()
        if alone or (head.get(SESSION_HEADER) is None and is_alone(message)):
            await self._alone.serve(visit, message)
        else:
            await self._handshake.post(visit, message)
