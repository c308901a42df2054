"""The line to the hub: whether it stands, since when not, and what is told over it.

One stream for all agents of this machine. It is believed only as long as something comes: a connection that is half
open, or trickles, is given up and opened anew, and what rang meanwhile is told then.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio
from httpx2 import ServerSentEvent

from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.link.hub import Away, Hub, Strange, Unanswered, parsed

logger = logging.getLogger(__name__)

Json = dict[str, Any]
Told = Callable[[str, Json], Awaitable[None]]

_FIRST = 0.1
_LONGEST = 1.5
"""Seconds between two attempts at most, half of it by chance: mail waits for it, and not all edges come at once."""
_STRANGE = 30.0
"""Seconds after which who does not know us is asked again."""


class Line:
    """The stream, opened again for ever. `opening` says what it is opened with, `told` is told each event."""

    def __init__(
        self, hub: Hub, opening: Callable[[], Mapping[str, object]], told: Told, now: Callable[[], int]
    ) -> None:
        self.up = False
        self.since: int | None = None
        """When it broke, in ms since 1970 UTC; None while it stands, or was never tried."""
        self.why = ""
        """Why it does not stand."""
        self._hub = hub
        self._opening = opening
        self._told = told
        self._last: str | None = None
        self._changed = anyio.Event()
        self._hurry = anyio.Event()
        self._stream = anyio.CancelScope()
        self._relying: set[anyio.CancelScope] = set()
        self._now = now

    @property
    def changed(self) -> Callable[[], Awaitable[object]]:
        """What returns once it has broken or stands again, counted from when this was asked for."""
        return self._changed.wait

    async def until_up(self) -> None:
        """Return once it stands."""
        while not self.up:
            await self._changed.wait()

    @contextmanager
    def relying(self) -> Iterator[None]:
        """Give up what the block asks the hub when the line breaks: no answer would come. Raises Unanswered then."""
        with anyio.CancelScope() as scope:
            self._relying.add(scope)
            try:
                yield
            finally:
                self._relying.discard(scope)
        if scope.cancelled_caught:
            raise Unanswered(self.why)

    def hurry(self) -> None:
        """Try at once: somebody wants something."""
        self._hurry.set()

    def suspect(self, why: str) -> None:
        """Note that a request came to nothing: the stream, which may not have noticed yet, has to prove itself anew."""
        if self.up:
            self._set(up=False, why=why)
            self._stream.cancel()

    async def run(self) -> None:
        """Keep the line."""
        pause = _FIRST
        while True:
            strange = False
            why = self.why
            self._hurry = anyio.Event()  # who asks during an attempt wants another one, too
            try:
                with anyio.CancelScope() as self._stream:
                    await self._once()
            except Away as away:
                why = str(away)
            except Strange as odd:
                why, strange = str(odd), True
            except Refusal as refusal:
                why = str(refusal)
            if self._stream.cancel_called:
                why = self.why  # which `suspect` has said
            stood = self.up or self._stream.cancel_called
            self._set(up=False, why=why)
            if stood:
                await self._hub.renew()
            pause = _FIRST if stood else min(2 * pause, _LONGEST)
            with anyio.move_on_after(_STRANGE if strange else pause * random.uniform(0.5, 1)):  # noqa: S311 - no secret
                await self._hurry.wait()
                await anyio.sleep(_FIRST)  # however many want something

    async def _once(self) -> None:
        opening = {**self._opening(), **({"since": self._last} if self._last else {})}
        async with self._hub.stream(opening) as events:
            while True:
                event = await _next(events)
                said = _read(event)
                if event.event == "hello":
                    self._begin(said)
                if event.id and len(event.id) <= wire.EVENT_ID_MOST:
                    self._last = event.id
                await self._told(event.event, said)

    def _begin(self, hello: Json) -> None:
        if not hello.get("resumed"):
            self._last = f"{hello.get('epoch', '')}"[: wire.EVENT_ID_MOST - 2] + ".0"
        self._set(up=True, why="")

    def _set(self, *, up: bool, why: str) -> None:
        news = up != self.up or (not up and self.since is None)  # what came of the first attempt is news, too
        if up:
            if self.since is not None:
                logger.info("the hub is back")
            self.since = None
        elif self.since is None:
            self.since = self._now()
            logger.warning("the hub cannot be reached: %s", why)
        self.why = why
        broke, self.up = self.up and not up, up
        if news:
            changed, self._changed = self._changed, anyio.Event()
            changed.set()
        for scope in list(self._relying) if broke else ():
            scope.cancel()


async def _next(events: AsyncIterator[ServerSentEvent]) -> ServerSentEvent:
    """Return the next event; give up a stream that does not even beat."""
    try:
        with anyio.fail_after(wire.SILENT_SECONDS):
            return await anext(events)
    except TimeoutError:
        raise Away("it is silent") from None
    except StopAsyncIteration:
        raise Away("it has ended the stream") from None


def _read(event: ServerSentEvent) -> Json:
    said = parsed(event.data or "{}")
    return said if isinstance(said, dict) else {}
