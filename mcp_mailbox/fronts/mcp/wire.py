"""Between a relay's frames and the SDK's messages.

A host gets an answer to every request that can be told from noise (`lines.py`), and none of those with which the SDK
answers what a shutdown interrupts: the relay asks the next post office. It is told which lines to keep for that
(docs/relay.md).
"""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import anyio
import mcp_types as types
from mcp.shared.dispatcher import coerce_request_id as _id  # "7" and 7 are one id, as the SDK has it
from mcp.shared.message import ServerMessageMetadata, SessionMessage

from mcp_mailbox.bell import Ending
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts.mcp import answers
from mcp_mailbox.fronts.mcp.client import Request
from mcp_mailbox.fronts.mcp.lines import Unreadable, dig_id, parse
from mcp_mailbox.fronts.mcp.patience import LEAST, is_time_out

_KEPT = {"initialize", "resources/subscribe", "logging/setLevel"}
"""Requests that make a connection what it is, once they were granted; a subscription is kept until it is ended."""
_DISPENSABLE = {"notifications/progress"}
"""What need not reach a host that does not read; everything else waits for it."""
_PAUSE = 0.05
"""Seconds between two attempts to tell something to a host that does not read."""
_ANSWERED = 256
"""Answered waits that are remembered, for a cancellation that crosses the answer."""
_DONE = 32
"""Other answered requests that are remembered: by them a host is known that cancels what it is done with."""
_LEAD = 8
"""Messages before a host's first request that are kept; the SDK keeps as many."""
_GOODBYE = 2.0
"""Seconds that requests have to end once the host has closed."""


class Line(Protocol):
    """A frame from a relay (`office.Frame`)."""

    @property
    def kind(self) -> bytes: ...  # noqa: D102
    @property
    def serial(self) -> int: ...  # noqa: D102
    @property
    def line(self) -> bytes: ...  # noqa: D102
    @property
    def length(self) -> int: ...  # noqa: D102


class Connection(Protocol):
    """What a relay's connection offers (`office.RelayConnection`)."""

    async def receive(self) -> Line: ...  # noqa: D102
    async def answer(self, serial: int, line: bytes) -> None: ...  # noqa: D102
    async def notify(self, line: bytes) -> bool: ...  # noqa: D102
    def offer(self, line: bytes) -> bool: ...  # noqa: D102
    async def keep(self, serial: int) -> None: ...  # noqa: D102
    async def forget(self, serial: int) -> None: ...  # noqa: D102


class Mail(Protocol):
    """What the wire tells of leases: their answer reached the host, or was not wanted any more; and of its patience."""

    async def reached(self, key: str, *, former: bool) -> None: ...  # noqa: D102
    def recalled(self) -> None: ...  # noqa: D102
    async def missed(self, key: str) -> None: ...  # noqa: D102
    def gave_up(self, request: Request, reason: object, *, late: bool) -> None: ...  # noqa: D102
    def waited_for(self, request: Request) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class _Open:
    """A request under way."""

    serial: int
    request: Request
    method: str
    params: dict[str, Any]


class Wire:
    """One relay's connection as the stream pair that the SDK's loop wants; it is both ends."""

    def __init__(
        self,
        connection: Connection,
        mail: Mail,
        epoch: int,
        ending: Ending,
        *,
        discovers: bool = True,
        written: int | None = None,
    ) -> None:
        """`written`: how many answers of earlier epochs the host has, or is about to read; None: that was not said."""
        self._connection = connection
        self._mail = mail
        self._epoch = epoch
        self._ending = ending
        self._discovers = discovers
        """Whether a host may ask what there is without a handshake (2026-07-28); one that may not shakes hands."""
        self._open: dict[types.RequestId, _Open] = {}
        self._waits: dict[int, Request] = {}
        self._wait_ids: dict[types.RequestId, int] = {}
        self._kept: dict[str, int] = {}
        self._ahead: deque[SessionMessage | Exception] = deque()
        """What is to be received before anything else."""
        self._again: set[int] = set()
        """Lines of earlier epochs that came again: they come before all that are new,"""
        self._new = math.inf
        """of which this is the first."""
        self._due = written
        """How many answers of earlier epochs are still to be heard of; None: until the first line comes."""
        self._recalled = False
        self._end = math.inf
        self._reading = anyio.CancelScope()
        self._leaving = False
        self._unheard: set[int] = set()
        """Answered waits of which the relay has not said yet that the host has the answer."""
        self._done: deque[types.RequestId] = deque(maxlen=_DONE)
        """Other requests that were answered."""
        self._tidies = False
        """Whether the host cancels each call once more when it is done with it (OpenCode)."""

    def leave(self) -> None:
        """Take nothing new, which is the next post office's; end once what is under way is through."""
        self._leaving = True
        self._end_if_through()

    def _end_if_through(self) -> None:
        if self._leaving and not self._open and not self._unheard:
            self._end = -math.inf
            self._reading.cancel()

    # -- reading

    async def receive(self) -> SessionMessage | Exception:
        """Return the host's next message; raises EndOfStream when the host or the relay has gone."""
        if self._ahead:
            return self._ahead.popleft()
        if self._due == 0:
            self._recall()
        while True:
            frame = await self._frame()
            if frame.kind != b"w":
                self._note_line(frame)
            match frame.kind:
                case b"m" | b"r":
                    message = await self._message(frame)
                    if message is not None:
                        return message
                case b"o":
                    problem = f"The line has {frame.length:,} bytes, more than can be read."
                    await self._refuse(frame.serial, dig_id(frame.line), types.INVALID_REQUEST, problem)
                case b"w":
                    await self._written(frame.serial)
                case b"e":
                    # The host has closed stdin: what is under way ends soon, and its answers are still written.
                    self._ending.set()
                    self._end = min(self._end, anyio.current_time() + _GOODBYE)
                case _:
                    pass  # a newer relay may say more than we know

    async def opening(self) -> types.JSONRPCRequest | None:
        """Return the host's first request, which is still to be received; None when it has gone without one."""
        lead: list[SessionMessage | Exception] = []
        try:
            while True:
                item = await self.receive()
                request = isinstance(item, SessionMessage) and isinstance(item.message, types.JSONRPCRequest)
                if request or len(lead) < _LEAD:
                    lead.append(item)
                if isinstance(item, SessionMessage) and isinstance(item.message, types.JSONRPCRequest):
                    return item.message
        except anyio.EndOfStream:
            return None
        finally:
            self._ahead.extendleft(reversed(lead))

    async def _frame(self) -> Line:
        with anyio.CancelScope(deadline=self._end) as self._reading:
            return await self._connection.receive()
        raise anyio.EndOfStream

    async def _message(self, frame: Line) -> SessionMessage | None:
        try:
            message = parse(frame.line)
        except Unreadable as unreadable:
            await self._refuse_unreadable(frame.serial, unreadable)
            return None
        if self._leaving and not self._cancels_ours(message):
            return None  # unanswered and not forgotten, so the relay asks the next post office
        if isinstance(message, types.JSONRPCRequest):
            return await self._request(frame, message)
        if isinstance(message, types.JSONRPCNotification):
            await self._notification(frame.serial, message)
            return SessionMessage(message)
        await self._connection.forget(frame.serial)
        return self._answer_of_host(message)

    def _cancels_ours(self, message: types.JSONRPCMessage) -> bool:
        if not isinstance(message, types.JSONRPCNotification) or message.method != "notifications/cancelled":
            return False
        cancelled = (message.params or {}).get("requestId")
        return isinstance(cancelled, str | int) and (_id(cancelled) in self._open or _id(cancelled) in self._wait_ids)

    async def _request(self, frame: Line, message: types.JSONRPCRequest) -> SessionMessage | None:
        if _id(message.id) in self._open:
            # JSON-RPC has no way to tell their answers apart, and the SDK would answer one of them.
            problem = f"The id {message.id!a} is that of a request under way."
            await self._refuse(frame.serial, message.id, types.INVALID_REQUEST, problem)
            return None
        if message.method == "server/discover" and not self._discovers:
            await self._refuse(frame.serial, message.id, types.METHOD_NOT_FOUND, "Method not found: server/discover")
            return None
        request = Request(str(frame.serial), resumed=frame.kind == b"r", offer=self._connection.offer)
        self._open[_id(message.id)] = _Open(frame.serial, request, message.method, message.params or {})
        if request.resumed and message.method == "initialize":
            # The host said so to the post office before us, and will not say it again.
            done = types.JSONRPCNotification(jsonrpc="2.0", method="notifications/initialized")
            self._ahead.append(SessionMessage(done))

        async def unanswered() -> None:
            self._open.pop(_id(message.id), None)
            await self._leave_unanswered(frame.serial, request)
            self._end_if_through()

        return SessionMessage(message, ServerMessageMetadata(request_context=request, on_request_unanswered=unanswered))

    async def _notification(self, serial: int, message: types.JSONRPCNotification) -> None:
        await self._connection.forget(serial)
        if message.method == "notifications/cancelled":
            said = message.params or {}
            cancelled = said.get("requestId")
            if isinstance(cancelled, str | int):
                await self._cancelled(_id(cancelled), said.get("reason"))

    async def _cancelled(self, cancelled: types.RequestId, reason: object) -> None:
        if (under_way := self._open.get(cancelled)) is not None:
            # The SDK learns of it a moment later, and until then may still answer.
            under_way.request.cancelled = True
            self._mail.gave_up(under_way.request, reason, late=False)
        elif (late := self._wait_ids.pop(cancelled, None)) is not None:
            request = self._waits.pop(late, None)
            if request is not None:
                self._mail.gave_up(request, reason, late=True)
            if not self._is_done_with(late, request, reason):
                # The answer has crossed the cancellation: the host will not show it to anybody.
                self._unheard.discard(late)
                await self._mail.missed(str(late))
                self._end_if_through()
        elif cancelled in self._done:
            self._tidies = True

    def _is_done_with(self, serial: int, request: Request | None, reason: object) -> bool:
        """Tell whether the host cancels an answer that it has taken, as it does with each.

        What was given up is never called so as long as no call was cancelled that was answered too soon to be given up.
        """
        if serial in self._unheard or is_time_out(reason):
            return False
        known = self._tidies
        self._tidies = known or (request is not None and _was_quick(request))
        return known

    async def _keep(self, granted: _Open) -> None:
        uri = granted.params.get("uri", "")
        if granted.method in _KEPT:
            name = f"{granted.method} {uri}"
            await self._drop_kept(name)
            self._kept[name] = granted.serial
            await self._connection.keep(granted.serial)
        elif granted.method == "resources/unsubscribe":
            await self._drop_kept(f"resources/subscribe {uri}")

    async def _drop_kept(self, name: str) -> None:
        if (serial := self._kept.pop(name, None)) is not None:
            await self._connection.forget(serial)

    def _answer_of_host(self, message: types.JSONRPCResponse | types.JSONRPCError) -> SessionMessage | None:
        """Give the answer its number back; one to a question of an earlier epoch is dropped."""
        prefix = f"{self._epoch}."
        if isinstance(message.id, str) and message.id.startswith(prefix) and message.id[len(prefix) :].isdigit():
            return SessionMessage(message.model_copy(update={"id": int(message.id[len(prefix) :])}))
        return None

    def _note_line(self, frame: Line) -> None:
        """Know which answers are of this epoch: those to the lines that came in it."""
        if frame.kind == b"m":
            self._new = min(self._new, frame.serial)
        elif self._new == math.inf:
            self._again.add(frame.serial)
        if self._due is None:
            self._recall()

    def _recall(self) -> None:
        """Tell, once, that all is known of the answers before this epoch."""
        if not self._recalled:
            self._recalled = True
            self._mail.recalled()

    async def _written(self, serial: int) -> None:
        # Of an earlier epoch: that office did not hear of it, or the host has not read it until now.
        former = serial < self._new and serial not in self._again
        if serial in self._waits or former:
            await self._mail.reached(str(serial), former=former)
        if former and self._due:
            self._due -= 1
            if not self._due:
                self._recall()
        self._unheard.discard(serial)
        self._end_if_through()

    # -- refusing

    async def _refuse_unreadable(self, serial: int, unreadable: Unreadable) -> None:
        if unreadable.tool_call and unreadable.id is not None:
            # A model can mend what it reads as a tool's answer.
            refusal = Refusal(Code.BAD_ARGUMENT, unreadable.problem, "Send valid JSON and valid Unicode.")
            result = answers.refused(refusal).model_dump(by_alias=True, mode="json", exclude_none=True)
            await self._write_answer(serial, {"jsonrpc": "2.0", "id": unreadable.id, "result": result})
        elif unreadable.silent:
            await self._connection.forget(serial)
        else:
            await self._refuse(serial, unreadable.id, unreadable.code, unreadable.problem)

    async def _refuse(self, serial: int, request_id: types.RequestId | None, code: int, problem: str) -> None:
        error = {"code": code, "message": problem}
        await self._write_answer(serial, {"jsonrpc": "2.0", "id": request_id, "error": error})

    async def _write_answer(self, serial: int, message: dict[str, Any]) -> None:
        await self._connection.answer(serial, json.dumps(message, separators=(",", ":")).encode())

    # -- writing

    async def send(self, item: SessionMessage) -> None:
        """Write one message of ours."""
        message = item.message
        if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
            await self._answer(message)
        elif isinstance(message, types.JSONRPCRequest):
            # Numbers begin anew in every epoch: an old "yes" must not land on a new question.
            await self._tell(_dump(message.model_copy(update={"id": f"{self._epoch}.{message.id}"})))
        elif message.method in _DISPENSABLE:
            await self._connection.notify(_dump(message))
        else:
            await self._tell(_dump(message))

    async def _tell(self, line: bytes) -> None:
        """Say it as soon as the host reads again; whoever says it waits alone."""
        while not await self._connection.notify(line):  # noqa: ASYNC110 - it has no event for that
            await anyio.sleep(_PAUSE)

    async def _answer(self, message: types.JSONRPCResponse | types.JSONRPCError) -> None:
        if isinstance(message, types.JSONRPCError) and message.error.code == types.CONNECTION_CLOSED:
            # What the SDK says for a request that our end interrupted. The relay asks the next office instead.
            return
        answered = self._open.pop(_id(message.id), None) if message.id is not None else None
        if answered is None:
            return
        if answered.request.cancelled:
            with anyio.CancelScope(shield=True):
                await self._leave_unanswered(answered.serial, answered.request)
            self._end_if_through()
            return
        if answered.request.leases and message.id is not None:
            self._remember_wait(answered.serial, _id(message.id), answered.request)
        elif message.id is not None:
            self._done.append(_id(message.id))
        if isinstance(message, types.JSONRPCResponse):
            await self._keep(answered)
        self._mail.waited_for(answered.request)
        await self._connection.answer(answered.serial, _dump(message))
        self._end_if_through()

    async def _leave_unanswered(self, serial: int, request: Request) -> None:
        if request.leases:
            await self._mail.missed(request.key)
        await self._connection.forget(serial)

    def _remember_wait(self, serial: int, request_id: types.RequestId, request: Request) -> None:
        self._waits[serial] = request
        self._wait_ids[request_id] = serial
        self._unheard.add(serial)
        while len(self._waits) > _ANSWERED:
            oldest = next(iter(self._waits))
            del self._waits[oldest]
            self._unheard.discard(oldest)
        while len(self._wait_ids) > _ANSWERED:
            self._wait_ids.pop(next(iter(self._wait_ids)))

    # -- being a stream

    async def aclose(self) -> None:
        """Nothing to close: the connection is the office's."""

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the connection open."""

    def __aiter__(self) -> Self:
        """Iterate over the host's messages."""
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        """Return the next message."""
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None


def _was_quick(request: Request) -> bool:
    """Tell whether a request, which is cancelled now, was not under way for long enough to be given up."""
    age = anyio.current_time() - request.began if request.began is not None else 0.0
    return not request.resumed and age < LEAST


def _dump(message: types.JSONRPCMessage) -> bytes:
    return message.model_dump_json(by_alias=True, exclude_unset=True).encode()
