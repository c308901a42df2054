"""The sessions of 2025-11-25 over HTTP: what one client said at its beginning, kept for as long as it comes back.

A session has no task of its own. Identity is never the session: it only remembers which mailbox was opened in it, and
belongs to the credential that began it. Lost with the process; a client then begins anew (404, as the protocol says).
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import anyio
import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.models import InitializationOptions
from mcp.server.runner import ServerRunner
from mcp.shared.dispatcher import CallOptions
from mcp.shared.dispatcher import coerce_request_id as _id
from mcp.shared.exceptions import MCPError, NoBackChannelError

from mcp_mailbox.fronts.http.stream import OpenStreams, Stream
from mcp_mailbox.fronts.mcp.client import Client
from mcp_mailbox.fronts.mcp.http.exchange import Exchange, Json, Said, notification

SESSION_LIMIT = 10_000
"""Sessions kept at once; beyond, those that were idle for longest are forgotten."""
SESSIONS_EACH = 2_000
"""The same for one credential: who begins many forgets his own."""
SESSION_SECONDS = 24 * 3600.0
"""Seconds without a request after which a session is forgotten: agents think, sleep and wait for people."""


@dataclass(frozen=True, slots=True)
class Common:
    """What is the same for all sessions."""

    server: Server[Client]
    options: InitializationOptions
    open_streams: OpenStreams


class _Flag:
    """As much of an event as the kernel wants for whether a client is initialized: one with waiters is a kilobyte."""

    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Note that it is."""
        self._set = True

    def is_set(self) -> bool:
        """Whether it is."""
        return self._set


class Session:
    """One client's session; the SDK's `Outbound` for what belongs to no request, and an `Era` of its own."""

    __slots__ = (
        "_asked",
        "_common",
        "_open",
        "_questions",
        "_standing",
        "client",
        "connection",
        "id",
        "owner",
        "streams",
        "used",
    )

    statuses: Mapping[int, int] = MappingProxyType({})
    """In this era an error is an answer: 200."""

    def __init__(self, common: Common, client: Client, owner: str) -> None:
        self.id = secrets.token_hex(16)
        self.owner = owner
        """Id of the credential that began it."""
        self.client = client
        self.connection = Connection.for_loop(self, session_id=self.id)
        self.connection.initialized = _Flag()  # type: ignore[assignment]
        self.connection.exit_stack = _NOTHING_TO_CLOSE
        self._common = common
        self.used = anyio.current_time()
        self.streams = 0
        """Requests under way, the standing stream included."""
        self._standing: Stream | None = None
        self._open: dict[types.RequestId, Exchange] = {}
        self._asked: dict[types.RequestId, _Question] = {}
        self._questions = 0

    def share(self) -> None:
        """Keep once what many clients say of themselves in the same words."""
        said = self.connection.client_params
        if said is not None:
            if len(_SAID) >= _SAID_LIMIT:
                _SAID.clear()
            self.connection.client_params = _SAID.setdefault(said.model_dump_json(), said)

    # -- requests under way (`exchange.Era`)

    @property
    def open_streams(self) -> OpenStreams:
        """See `Era`."""
        return self._common.open_streams

    def kernel(self, exchange: Exchange, message: Said) -> ServerRunner[Client]:
        """See `Era`."""
        del exchange, message
        common = self._common
        return ServerRunner(common.server, self.connection, self.client, init_options=common.options)

    def begin(self, exchange: Exchange) -> bool:
        """Note a request; False when another one with its id is under way."""
        begun = self._open.setdefault(_key(exchange), exchange) is exchange
        self.streams += begun
        return begun

    def over(self, exchange: Exchange) -> None:
        """See `Era`."""
        if self._open.get(_key(exchange)) is exchange:
            del self._open[_key(exchange)]

    def left(self, exchange: Exchange) -> None:
        """See `Era`."""
        self.over(exchange)
        self.streams -= 1

    def cancel(self, params: Mapping[str, Any] | None) -> None:
        """End the request that a `notifications/cancelled` names."""
        said = params or {}
        wanted = said.get("requestId")
        if isinstance(wanted, str | int) and (exchange := self._open.get(_id(wanted))) is not None:
            exchange.given_up(said.get("reason"))

    # -- the standing stream (GET)

    async def stand(self, stream: Stream) -> None:
        """Push what rings, for as long as the stream lasts. What was told into a broken one is told again later."""
        self._standing = stream
        self.client.counter.arrive(self.client.caller)
        try:
            with stream.scope:
                await stream.open()
                await self.client.push_updates()
        finally:
            self._standing = None
            if stream.gone:
                self.client.ring_all()
            with anyio.CancelScope(shield=True):
                await self.client.counter.depart(self.client.caller, put_back=False)

    @property
    def stands(self) -> bool:
        """Whether there is a standing stream; the protocol has no use for a second one."""
        return self._standing is not None

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Tell the client something that belongs to no request, if it listens."""
        del opts
        if self._standing is not None:
            await self._standing.event(notification(method, params))

    # -- questions to the client

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> Json:
        """Refuse: a question belongs to the request that it arose from (`Exchange`), nobody may hear it elsewhere."""
        del params, opts
        raise NoBackChannelError(method)

    async def ask(self, exchange: Exchange, method: str, params: Mapping[str, Any] | None) -> Json:
        """Ask the client on that request's stream, and wait for its answer in a POST of its own."""
        self._questions += 1
        number = f"{self.id[:8]}.{self._questions}"  # of this session only: an old "yes" lands on no new question
        question = self._asked[number] = _Question()
        try:
            await exchange.put(notification(method, params) | {"id": number})
            await question.answered.wait()
        finally:
            del self._asked[number]
        answer = question.answer
        if isinstance(answer, types.JSONRPCError):
            raise MCPError.from_error_data(answer.error)
        assert answer is not None  # noqa: S101 - set before the event
        return dict(answer.result)

    def answered(self, answer: types.JSONRPCResponse | types.JSONRPCError) -> None:
        """Hand an answer to whoever asked; one to no question of ours is dropped."""
        question = self._asked.get(answer.id) if answer.id is not None else None
        if question is not None:
            question.answer = answer
            question.answered.set()

    def leave(self) -> None:
        """Let waits answer, and end the standing stream, which has no end of its own."""
        self.client.ending.set()
        if self._standing is not None:
            self._standing.scope.cancel()

    def close(self) -> None:
        """End what is under way and all subscriptions."""
        self.leave()
        self.client.close()
        self.client.counter.ended(self.client.caller)
        for exchange in list(self._open.values()):
            exchange.cancel()


_NOTHING_TO_CLOSE = AsyncExitStack()
"""For all of them: nothing here puts anything on it."""
_SAID: dict[str, types.InitializeRequestParams] = {}
_SAID_LIMIT = 1_000
"""Ways in which clients speak of themselves that are remembered."""


def _key(exchange: Exchange) -> types.RequestId:
    assert exchange.request_id is not None  # noqa: S101 - notifications are not noted
    return _id(exchange.request_id)


class _Question:
    def __init__(self) -> None:
        self.answered = anyio.Event()
        self.answer: types.JSONRPCResponse | types.JSONRPCError | None = None


class Sessions:
    """All sessions, in the order of their last use."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._owned: Counter[str] = Counter()

    def add(self, session: Session) -> None:
        """Keep it; forgets others that were idle for too long, or for longest."""
        self._sessions[session.id] = session
        self._owned[session.owner] += 1
        if self._owned[session.owner] > SESSIONS_EACH and (own := self._idle_longest(session.owner)) is not None:
            self.end(own)
        while (other := self._idle_longest()) is not None and self._is_too_much(other):
            self.end(other)

    def _idle_longest(self, owner: str | None = None) -> Session | None:
        every = (session for session in self._sessions.values() if not session.streams)
        return next((session for session in every if owner in (None, session.owner)), None)

    def _is_too_much(self, session: Session) -> bool:
        return len(self._sessions) > SESSION_LIMIT or self._is_stale(session)

    @staticmethod
    def _is_stale(session: Session) -> bool:
        return session.used < anyio.current_time() - SESSION_SECONDS

    def full(self, owner: str) -> bool:
        """Whether one more would be too many, and none that is idle could be forgotten for it."""
        return (self._owned[owner] >= SESSIONS_EACH and self._idle_longest(owner) is None) or (
            len(self._sessions) >= SESSION_LIMIT and self._idle_longest() is None
        )

    def find(self, session_id: str, owner: str) -> Session | None:
        """Return that session of that credential; another's, or one too long idle, is as if it did not exist."""
        session = self._sessions.get(session_id)
        if session is None or session.owner != owner:
            return None
        if not session.streams and self._is_stale(session):
            self.end(session)
            return None
        session.used = anyio.current_time()
        self._sessions[session_id] = self._sessions.pop(session_id)
        return session

    def end(self, session: Session) -> None:
        """Forget it, and end what is under way in it."""
        if self._sessions.pop(session.id, None) is not None:
            self._owned[session.owner] -= 1
            if not self._owned[session.owner]:
                del self._owned[session.owner]
        session.close()

    def end_all_of(self, owner: str) -> None:
        """End the sessions of a credential that is not good any more."""
        for session in [each for each in self._sessions.values() if each.owner == owner]:
            self.end(session)

    def leave(self) -> None:
        """Let all waits answer and all standing streams end."""
        for session in self._sessions.values():
            session.leave()

    def close(self) -> None:
        """End all of them."""
        for session in list(self._sessions.values()):
            self.end(session)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._sessions)
