"""The link between an edge and its hub, and what a seed does to it: for a while, and then it is whole again."""

from __future__ import annotations

import time

from mcp_mailbox.fronts.hub import wire
from tests.link.proxy import Proxy
from tests.torture import plan

_LONG = 0.75
_LONG_SECONDS = wire.SILENT_SECONDS + 1
"""Longer than a stream may be silent until it is given up."""
_BYTE_SECONDS = 0.02


class Link:
    """A proxy, and until when it is broken."""

    def __init__(self) -> None:
        self._proxy = Proxy()
        self._until: float | None = None
        self._loses = False

    @property
    def url(self) -> str:
        return self._proxy.url

    @property
    def host(self) -> str:
        """What a request over it calls the hub."""
        return f"127.0.0.1:{self._proxy.port}"

    def lead_to(self, port: int) -> None:
        self._proxy.target = port

    @property
    def whole(self) -> bool:
        return self._until is None

    def fail(self, fault: plan.Fault) -> float:
        """Break it; return for how many seconds. `early` faults lose what they held, others bring it late."""
        proxy = self._proxy
        lasts = 0.3 + 3 * fault.lasts
        match fault.kind:
            case "cut":
                proxy.cut()
            case "trickle":
                proxy.trickle = _BYTE_SECONDS * fault.lasts
            case kind:
                (proxy.passes if kind == "silent" else proxy.answers).clear()
                if fault.lasts > _LONG:
                    lasts = _LONG_SECONDS + 3 * fault.lasts
        self._loses = fault.early
        self._until = time.monotonic() + lasts
        return lasts

    def step(self, now: float) -> None:
        """Mend it if it has been broken for long enough."""
        if self._until is not None and now >= self._until:
            self.mend()

    def mend(self) -> None:
        proxy = self._proxy
        if self._loses:
            proxy.cut()
        proxy.trickle = 0
        proxy.mend()
        self._until = None

    def end(self) -> None:
        self._proxy.end()
