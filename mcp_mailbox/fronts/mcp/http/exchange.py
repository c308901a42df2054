"""One request of a client and its answer: what the SDK's kernel needs to run it, and how its outcome is spelled.

Both eras use it: in 2025-11-25 a `Session` stands behind it, in 2026-07-28 every request stands alone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any

import anyio
import mcp_types as types
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data, progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext

from mcp_mailbox.fronts.http.gate import stopping, unauthorized
from mcp_mailbox.fronts.http.stream import End, OpenStreams, Stream
from mcp_mailbox.fronts.mcp.client import Client, Request

logger = logging.getLogger(__name__)

_CANCELLED = -32800
"""What ends the stream of a request that its client cancelled: 2025-11-25 has no other way to (as LSP and the SDK)."""

Json = dict[str, Any]
Ask = Callable[["Exchange", str, Mapping[str, Any] | None], Awaitable[Json]]
"""Puts a request to the client on the stream of an exchange and returns its answer."""


class Exchange:
    """One request under way; an SDK `DispatchContext`."""

    def __init__(
        self,
        stream: Stream,
        client: Client,
        request: Request,
        message: types.JSONRPCRequest | types.JSONRPCNotification,
        ask: Ask | None = None,
        over: Callable[[], None] = lambda: None,
    ) -> None:
        self.transport = TransportContext(kind="streamable-http", can_send_request=ask is not None)
        self.request_id = message.id if isinstance(message, types.JSONRPCRequest) else None
        self.message_metadata = ServerMessageMetadata(request_context=request)
        self.can_send_request = ask is not None
        self._stream = stream
        self._client = client
        self._request = request
        request.offer = stream.offer
        self._progress_token = progress_token_from_params(message.params)
        self._ask = ask
        self._over = over
        """Called before the last word: a client may use the request's id again as soon as it has that."""

    # -- what the kernel and the handlers use

    @cached_property
    def cancel_requested(self) -> anyio.Event:
        """Never set: a request that is cancelled is ended. Made for who asks; nobody does."""
        return anyio.Event()

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> Json:
        """Ask the client something and return its answer. Raises NoBackChannelError where it cannot answer."""
        del opts
        if self._ask is None:
            raise NoBackChannelError(method)
        return await self._ask(self, method, params)

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

    def cancel(self) -> None:
        """End it: the client does not want the answer any more (2025-11-25; later ones close the stream)."""
        self._request.cancelled = True
        self._stream.scope.cancel()

    async def run(self, work: Callable[[], Awaitable[Json]], streams: OpenStreams, statuses: Mapping[int, int]) -> bool:
        """Do the work and write its outcome; whether it went well. What it leased and nobody gets goes back at once."""
        client, stream = self._client, self._stream
        answer: Json | None = None
        client.counter.arrive(client.caller)
        streams.enter(stream)
        try:
            with stream.scope:
                if stream.why is None:
                    answer = await self._outcome(work)
            if answer is not None and self._request.leases and stream.is_gone():
                answer = None
            if answer is None or self._request.cancelled:
                # Before the last word: whoever does not read it must not hold what others wait for.
                await self._miss()
                await self._break_off()
                return False
            await self._answer(answer, statuses)
            if self._request.leases:
                await (client.missed if stream.gone else client.reached)(self._request.key)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._miss()
            raise
        finally:
            streams.leave(stream)
            await client.counter.depart(client.caller, put_back=False)
        return "result" in answer

    async def _outcome(self, work: Callable[[], Awaitable[Json]]) -> Json:
        try:
            return {"jsonrpc": "2.0", "id": self.request_id, "result": await work()}
        except Exception as error:
            told = handler_exception_to_error_data(error)
            if told is None:
                logger.exception("a request failed")
                return failure(self.request_id, types.INTERNAL_ERROR, "Internal server error")
            return failure(self.request_id, told.code, told.message, told.data)

    async def _answer(self, answer: Json, statuses: Mapping[int, int]) -> None:
        status = statuses.get(answer["error"]["code"], 200) if "error" in answer else 200
        self._over()
        await self._stream.finish(answer, status)

    async def _miss(self) -> None:
        if self._request.leases:
            await self._client.missed(self._request.key)

    async def _break_off(self) -> None:
        self._over()
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
