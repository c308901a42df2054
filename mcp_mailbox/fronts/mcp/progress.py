"""Signs of life of a call that waits, for a host that asks for them: no task is needed, nor that of the call itself.

A host that does not read misses some. How a line reaches it is its transport's (`client.Request.offer`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mcp.shared.jsonrpc_dispatcher import progress_token_from_params

from mcp_mailbox.fronts.mcp.client import Client, Context
from mcp_mailbox.postoffice.alarms import Alarms
from mcp_mailbox.postoffice.waits import Parked

_STEPS = 10
"""The first one comes up to this part of its time late, so that those of many waits fall together: one timer."""


@contextmanager
def shown(client: Client, context: Context, total: float) -> Iterator[None]:
    """Tell how long it has been, of `total` seconds, every `client.progress_every` for as long as the block lasts."""
    token = progress_token_from_params(context.params)
    if token is None or context.request is None:
        yield
        return
    wait = context.request.wait
    end = wait.shown if wait is not None else None
    if end is None:
        end = _Shown(client.counter.alarms, context.request.offer, client.progress_every * 1000, token, total).end
    try:
        yield
    except Parked:
        assert wait is not None  # noqa: S101 - it is what parks
        wait.shown = end
        raise
    except BaseException:
        end()
        raise
    end()


class _Shown:
    """Tells until its end. `every` is in ms."""

    __slots__ = ("_alarm", "_alarms", "_began", "_due", "_every", "_offer", "_token", "_total")

    def __init__(
        self, alarms: Alarms, offer: Callable[[bytes], object], every: float, token: str | int, total: float
    ) -> None:
        self._alarms = alarms
        self._offer = offer
        self._every = every
        self._token = json.dumps(token).encode()
        self._total = json.dumps(total).encode()
        self._began = alarms.now()
        step = max(1.0, every / _STEPS)
        self._due = math.ceil((self._began + every) / step) * step
        self._alarm = alarms.add(self._due, self._tell)

    def end(self) -> None:
        """Tell no more."""
        self._alarms.unset(self._alarm)

    def _tell(self) -> None:
        self._offer(
            b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"message":"waiting for mail",'
            b'"progressToken":%b,"total":%b,"progress":%.3f}}'
            % (self._token, self._total, (self._due - self._began) / 1000)
        )
        self._due = max(self._due, self._alarms.now() - self._every / _STEPS) + self._every
        self._alarm = self._alarms.add(self._due, self._tell)
