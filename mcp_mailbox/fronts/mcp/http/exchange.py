"""One request of a client and its answer: what the SDK's kernel needs to run it, and how its outcome is spelled.

Both eras use it: in 2025-11-25 a `Session` stands behind it, in 2026-07-28 every request stands alone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import anyio
import mcp_types as types
from mcp.server.runner import ServerRunner
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data, progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext

from mcp_mailbox.fronts.http.gate import stopping, unauthorized
from mcp_mailbox.fronts.http.stream import End, OpenStreams, Stream
from mcp_mailbox.fronts.mcp import lines
from mcp_mailbox.fronts.mcp.client import Client, Request
from mcp_mailbox.postoffice.waits import Parked, Wait

logger = logging.getLogger(__name__)

_CANCELLED = -32800
"""What ends the stream of a request that its client cancelled: 2025-11-25 has no other way to (as LSP and the SDK)."""

Json = dict[str, Any]
Said = types.JSONRPCRequest | types.JSONRPCNotification
Ask = Callable[["Exchange", str, Mapping[str, Any] | None], Awaitable[Json]]
"""Puts a request to the client on the stream of an exchange and returns its answer."""


class Era(Protocol):
    """Whose requests these are, and what the eras do differently."""

    @property
    def open_streams(self) -> OpenStreams:
        """Where what is open is looked after."""

    @property
    def statuses(self) -> Mapping[int, int]:
        """Of errors that are told by a status of HTTP, which."""

    @property
    def ask(self) -> Ask | None:
        """What asks a client something; None where none can be asked."""

    def kernel(self, exchange: Exchange, message: Said) -> ServerRunner[Client]:
        """Return an SDK's kernel that runs the method."""

    def over(self, exchange: Exchange) -> None:
        """Hear that the last word comes: a client may use the request's id again as soon as it has that."""

    def left(self, exchange: Exchange) -> None:
        """Hear that it is not under way any more."""


_MUTE = TransportContext(kind="streamable-http", can_send_request=False)
_ASKING = TransportContext(kind="streamable-http", can_send_request=True)


class Exchange:
    """One request under way; an SDK `DispatchContext`.

    A wait that idles is left, and begun anew from `body` when there is something to look at or its end has come. So of
    ten thousand waits there are ten thousand of these, and no tasks.
    """

    __slots__ = ("_body", "_era", "_progress_token", "_request", "_stream", "client", "request_id")

    def __init__(
        self,
        era: Era,
        stream: Stream,
        client: Client,
        key: str,
        message: Said,
        body: bytes = b"",
    ) -> None:
        self.request_id = message.id if isinstance(message, types.JSONRPCRequest) else None
        self._era = era
        self._stream = stream
        self.client = client
        self._request = Request(key, wait=Wait(), offer=stream.offer)
        self._progress_token = progress_token_from_params(message.params)
        self._body = body

    # -- what the kernel and the handlers use

    @property
    def transport(self) -> TransportContext:
        """What the kernel may know of the transport."""
        return _ASKING if self.can_send_request else _MUTE

    @property
    def message_metadata(self) -> ServerMessageMetadata:
        """What comes with the request, for its handler."""
        return ServerMessageMetadata(request_context=self._request)

    @property
    def can_send_request(self) -> bool:
        """Whether the client can be asked something."""
        return self._era.ask is not None and self.request_id is not None

    @property
    def cancel_requested(self) -> anyio.Event:
        """Never set: a request that is cancelled is ended. Made for who asks; nobody does."""
        return anyio.Event()

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> Json:
        """Ask the client something and return its answer. Raises NoBackChannelError where it cannot answer."""
        del opts
        if self._era.ask is None or self.request_id is None:
            raise NoBackChannelError(method)
        return await self._era.ask(self, method, params)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Tell the client something on this request's stream."""
        del opts
        await self._stream.event(notification(method, params))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress, if the client wants to hear of it."""
        if self._progress_token is None:
            return
        about = {"progressToken": self._progress_token, "progress": progress, "total": total, "message": message}
        await self.notify("notifications/progress", {key: value for key, value in about.items() if value is not None})

    async def put(self, message: Json) -> None:
        """Write a message of ours on this request's stream."""
        await self._stream.event(message)

    # -- running it

    def given_up(self, reason: object) -> None:
        """End it because its client says so, with this reason: by that one may know how long it waits."""
        self.client.gave_up(self._request, reason)
        self.cancel()

    def cancel(self) -> None:
        """End it: the client does not want the answer any more (2025-11-25; later ones close the stream)."""
        self._request.cancelled = True
        self._stream.cancel()

    async def run(self, message: types.JSONRPCRequest) -> bool:
        """Do what is asked and write its outcome; whether it went well. What it leased and nobody gets goes back.

        Returns, too, when it is left for now: the rest is done in a task of its own.
        """
        self.client.counter.arrive(self.client.caller)
        self._era.open_streams.enter(self._stream)
        self._stream.begun = self._may_rest
        return await self._run(message)

    async def note(self, message: types.JSONRPCNotification) -> None:
        """Do what a notification says, to which there is no answer."""
        kernel = self._era.kernel(self, message)
        try:
            await kernel.on_notify(self, message.method, message.params)
        finally:
            del kernel.on_notify

    def _may_rest(self) -> None:
        if self._request.wait is not None:
            self._request.wait.parks()

    def _taken_up(self) -> None:
        self._era.open_streams.start(self._run_again)

    async def _run_again(self) -> None:
        try:
            await self._run(None)
        except Exception:
            logger.exception("a request that was taken up again failed")
            self._stream.abort()

    async def _run(self, message: types.JSONRPCRequest | None) -> bool:
        """Do what `run` says, or go on with it (None)."""
        client, stream = self.client, self._stream
        answer: Json | None = None
        left = False
        try:
            with stream.scope:
                if stream.why is None:
                    answer = await (self._outcome(message) if message is not None else self._outcome_again())
            if answer is not None and self._request.leases and stream.is_gone():
                answer = None
            if answer is None or self._request.cancelled:
                if stream.gone and not self._request.cancelled:
                    client.left(self._request)
                # Before the last word: whoever does not read it must not hold what others wait for.
                await self._miss()
                await self._break_off()
                return False
            client.waited_for(self._request)
            await self._answer(answer)
            if self._request.leases:
                await (client.missed if stream.gone else client.reached)(self._request.key)
        except Parked:
            left = True
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._miss()
            raise
        finally:
            if not left:
                self._end()
                await client.counter.depart(client.caller, put_back=False)
        if left and self._request.wait is not None:
            stream.rest(self._taken_up)
            self._request.wait.park(stream.rouse)
            return False
        return answer is not None and "result" in answer

    def _end(self) -> None:
        if self._request.wait is not None:
            self._request.wait.end()
        self._era.open_streams.leave(self._stream)
        self._era.left(self)

    async def _outcome_again(self) -> Json:
        async with self._era.open_streams.turn:
            message = lines.parse(self._body)
            assert isinstance(message, types.JSONRPCRequest)  # noqa: S101 - it was before
            return await self._outcome(message)

    async def _outcome(self, message: types.JSONRPCRequest) -> Json:
        kernel = self._era.kernel(self, message)
        try:
            result = await kernel.on_request(self, message.method, message.params)
        except Exception as error:
            told = handler_exception_to_error_data(error)
            if told is None:
                logger.exception("a request failed")
                return failure(self.request_id, types.INTERNAL_ERROR, "Internal server error")
            return failure(self.request_id, told.code, told.message, told.data)
        else:
            return {"jsonrpc": "2.0", "id": self.request_id, "result": result}
        finally:
            del kernel.on_request  # which it keeps, and which keeps it until the collector comes by

    async def _answer(self, answer: Json) -> None:
        status = self._era.statuses.get(answer["error"]["code"], 200) if "error" in answer else 200
        self._era.over(self)
        await self._stream.finish(answer, status)

    async def _miss(self) -> None:
        if self._request.leases:
            await self.client.missed(self._request.key)

    async def _break_off(self) -> None:
        self._era.over(self)
        if self._request.cancelled:
            await self._stream.finish(failure(self.request_id, _CANCELLED, "Request cancelled"))
        else:
            await break_off(self._stream)


async def break_off(stream: Stream) -> None:
    """End an answer that will not come. Raises Refused while nothing has been written: no success may be read there."""
    if stream.gone or not stream.leave_unanswered():
        await stream.finish(None)
    elif stream.why is End.STOPPING:
        raise stopping()
    else:
        raise unauthorized()  # ended by hand, or by the time at which it expires


def notification(method: str, params: Mapping[str, Any] | None) -> Json:
    """Spell a notification."""
    message: Json = {"jsonrpc": "2.0", "method": method}
    return message | ({"params": dict(params)} if params is not None else {})


def failure(request_id: types.RequestId | None, code: int, message: str, data: object = None) -> Json:
    """Spell an error."""
    error: Json = {"code": code, "message": message}
    return {"jsonrpc": "2.0", "id": request_id, "error": error | ({"data": data} if data is not None else {})}
