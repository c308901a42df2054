"""The ASGI application: rooms behind their paths, `/healthz` and `/readyz`.

Who may come in, and how many at once, is decided here; what is asked there is the rooms' business.
"""

from __future__ import annotations

import itertools
import json
import logging
import secrets
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import anyio

from mcp_mailbox.audit import Trail
from mcp_mailbox.credentials import Credential
from mcp_mailbox.fronts.http import body, cors, gate
from mcp_mailbox.fronts.http.connection import EXTENSION
from mcp_mailbox.fronts.http.desk import Desk
from mcp_mailbox.fronts.http.gate import Gate, Refused
from mcp_mailbox.fronts.http.resource import Resource
from mcp_mailbox.fronts.http.stream import Headers, Hold, OpenStreams, Receive, Send, reply
from mcp_mailbox.fronts.http.visit import Porch, Room, Visit
from mcp_mailbox.postoffice.limits import Limits

_OUTCOMES = {401: "unauthorized", 403: "forbidden", 421: "misdirected"}
"""What the log and the audit have of those who were not let in."""

_REFUSING_SECONDS = 0.25
"""How long it takes to hear that one has asked too often: whoever asks again at once, as broken clients do, would else
keep the others waiting as much as before."""

logger = logging.getLogger(__name__)


class App:
    """The application. `running` must be entered for as long as it is called.

    `rooms` are found by a path, and by each path below one that ends in a slash; `streams` is what they keep open,
    `limits` how many requests each principal may make; `trail` takes down who was refused;
    `resource` says where tokens are to be had.
    `porches` are found by their path, and ask for no token.
    """

    def __init__(
        self,
        rooms: Mapping[str, Room],
        desk: Desk,
        entrance: Gate,
        streams: OpenStreams,
        limits: Limits,
        trail: Trail | None = None,
        resource: Resource | None = None,
        porches: Mapping[str, Porch] = MappingProxyType({}),
    ) -> None:
        self._rooms = rooms
        self._porches = porches
        self._desk = desk
        self._gate = entrance
        self._open_streams = streams
        self._limits = limits
        self._trail = trail
        self._resource = resource
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
        for room in self._rooms.values():
            room.leave()
        await self._open_streams.close()
        for room in self._rooms.values():
            room.close()

    def status(self) -> dict[str, Any]:
        """Say how things stand."""
        said: dict[str, Any] = {}
        for room in self._rooms.values():
            said |= room.status()
        return {**said, "requests": len(self._open_streams)}

    def _revoked(self, credential: str) -> None:
        self._open_streams.end_all_of(credential)
        for room in self._rooms.values():
            room.ended(credential)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        began = False
        hold = scope["extensions"].pop(EXTENSION)
        if (origin := self._gate.foreign(scope)) is not None:
            send = cors.readable(send, origin)

        async def note(message: MutableMapping[str, Any]) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._route(scope, hold, receive, note)
        except Refused as refused:
            if refused.status in _OUTCOMES:
                client = _address(scope)
                logger.info("refused (%d) %s: %s%s", refused.status, client, refused, refused.about)
                if self._trail is not None:
                    self._trail.refused(_OUTCOMES[refused.status], client=client)
            await reply(send, refused.status, refused.body, self._challenge(refused.headers))
        except body.ClientGone:
            pass
        except Exception:
            number = secrets.token_hex(4)
            logger.exception("internal error %s over HTTP", number)
            if not began:
                await reply(send, 500, json.dumps({"error": f"Internal error {number}."}).encode())

    async def _route(self, scope: MutableMapping[str, Any], hold: Hold, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if path in {"/healthz", "/readyz"} and method in {"GET", "HEAD"}:
            good = path == "/healthz" or not self._open_streams.closing
            await reply(send, 200 if good else 503, b'{"status":"ok"}' if good else b'{"status":"not ready"}')
            return
        head = gate.read_head(scope)
        self._gate.check(scope, head)
        if self._resource is not None and path in self._resource.places and method in {"GET", "HEAD"}:
            await reply(send, 200, self._resource.document)
            return
        porch = self._porches.get(path)
        if porch is not None:
            if self._open_streams.closing:
                raise gate.stopping()
            await porch.serve(head, _address(scope), receive, send)
            return
        room = self._room(path)
        if cors.is_preflight(head) and self._gate.foreign(scope) is not None:
            await reply(send, 204, b"", cors.PREFLIGHT)
            return
        visitor = await self._desk.visitor(partial(gate.bearer, head))
        if visitor is None:
            raise gate.unauthorized()
        if self._open_streams.closing:
            raise gate.stopping()
        await self._check_rate(visitor.credential, scope)
        if self._open_streams.full(visitor.id):
            raise Refused(429, "Too many requests of this token are open. End some.", {"retry-after": "1"})
        key = f"{self._epoch}.{next(self._numbers)}"
        await room.serve(Visit(head, visitor, key, receive, send, hold))

    async def _check_rate(self, who: Credential, scope: Mapping[str, Any]) -> None:
        """Raise Refused(429) for a principal that asks too often."""
        over = self._limits.request(who.principal)
        if over is not None:
            if self._trail is not None:
                client = _address(scope)
                self._trail.refused(over.code.value, client=client, principal=who.principal, credential=who.id)
            refused = gate.over_rate(over, self._limits.seconds(over))
            await anyio.sleep(_REFUSING_SECONDS)
            raise refused

    def _challenge(self, headers: Headers) -> Headers:
        """Say in a challenge where a token is to be had (RFC 9728 section 5.1)."""
        if self._resource is None:
            return headers
        about = f', resource_metadata="{self._resource.url}"'.encode()
        return [(name, value + about if name == b"www-authenticate" else value) for name, value in headers]

    def _room(self, path: str) -> Room:
        for place, room in self._rooms.items():
            if path == place or (place.endswith("/") and path.startswith(place)):
                return room
        raise Refused(404, f"There is nothing here; MCP is at {next(iter(self._rooms))}.")


def _address(scope: Mapping[str, Any]) -> str:
    """Return where a request comes from: a proxy in front of us, where there is one."""
    return str((scope.get("client") or ["?"])[0])
