"""Strikes by the plan: what is killed, what is stopped, and when the moment has come.

Rules the moment and the victims. Refuses to know what clients do; it sees only that histories grow, which is how it
knows that a post office serves and is worth killing.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Sequence

from tests.torture import plan
from tests.torture.clients import RELAYED, Over
from tests.torture.history import Recorder
from tests.torture.stage import Stage, send_signal

_BUSY_BYTES = 20_000
"""Growth of the histories after which a post office counts as being under load."""
_PATIENCE = 15.0
"""Seconds after which a post office is struck whether it is busy or not."""
_OFFICES = ("office", "edge", "both")


class _Watch:
    """How long a post office has been there, and how much the histories have grown since."""

    def __init__(self) -> None:
        self.pid = -1
        self.since = 0.0
        self.bytes = 0

    def look(self, pid: int | None, now: float, written: int) -> None:
        if (pid or -1) != self.pid:
            self.pid, self.since, self.bytes = pid or -1, now, written


class Saboteur:
    """Does the planned faults one after another; `step` is to be called often."""

    def __init__(self, stage: Stage, faults: Sequence[plan.Fault], pause: float, lease: float) -> None:
        self.done: Counter[str] = Counter()
        self.struck_busy = 0
        """Kills of a post office that had served since it started."""
        self._stage = stage
        self._faults = list(faults)
        self._pause = pause
        self._lease = lease
        self._record = Recorder(stage.directory / "history" / "faults.jsonl", stage.timeline)
        self._stopped: list[tuple[float, int]] = []
        self._next_at = time.monotonic() + self._pause_before()
        self._watches: dict[Over, _Watch] = {"stdio": _Watch()}
        if stage.edge is not None:
            self._watches["edge"] = _Watch()

    @property
    def finished(self) -> bool:
        return not self._faults and not self._stopped and self._link_is_whole

    @property
    def _link_is_whole(self) -> bool:
        return self._stage.link is None or self._stage.link.whole

    def step(self) -> None:
        """Wake who has been stopped for long enough, mend the link, and strike if it is time."""
        now = time.monotonic()
        for at, pid in [each for each in self._stopped if each[0] <= now]:
            self._stopped.remove((at, pid))
            send_signal([pid], signal.SIGCONT)
        if self._stage.link is not None:
            self._stage.link.step(now)
        for over, watch in self._watches.items():
            watch.look(self._stage.office_of(over), now, self._written())
        fault = self._next()
        if fault is not None and now >= self._next_at and self._ready(fault, now) and self._strike(fault, now):
            self._faults.remove(fault)
            self._next_at = now + self._pause_before()

    def give_up(self) -> None:
        """Strike no more, wake all who are stopped, and mend the link."""
        self._faults.clear()
        for _, pid in self._stopped:
            send_signal([pid], signal.SIGCONT)
        self._stopped.clear()
        if self._stage.link is not None and not self._stage.link.whole:
            self._stage.link.mend()

    def _pause_before(self) -> float:
        return self._faults[0].pause * self._pause if self._faults else 0.0

    def _next(self) -> plan.Fault | None:
        """Return what comes next: a link that is broken is not broken again, and other faults go on meanwhile."""
        return next((each for each in self._faults if self._link_is_whole or each.kind not in plan.LINKS), None)

    def _written(self) -> int:
        return sum(path.stat().st_size for path in (self._stage.directory / "history").iterdir())

    def _watch(self, fault: plan.Fault) -> _Watch:
        """Return that of the post office that the fault strikes."""
        of_edge = fault.kind == "edge" or (fault.kind == "both" and self._over(fault) == "edge")
        return self._watches["edge" if of_edge else "stdio"]

    def _busy(self, fault: plan.Fault) -> bool:
        return self._written() - self._watch(fault).bytes > _BUSY_BYTES

    def _ready(self, fault: plan.Fault, now: float) -> bool:
        if fault.kind not in _OFFICES:
            return True
        watch = self._watch(fault)
        return watch.pid > 0 and (fault.early or self._busy(fault) or now - watch.since > _PATIENCE)

    def _strike(self, fault: plan.Fault, now: float) -> bool:
        """Return False when its victims are not there just now."""
        if fault.kind in plan.LINKS:
            assert self._stage.link is not None
            self._record.strike(f"{fault.kind} for {self._stage.link.fail(fault):.1f} s", [])
            self.done[fault.kind] += 1
            return True
        host = self._victim(fault)
        deadly, stopped = self._targets(fault.kind, host)
        if not deadly and not stopped:
            return False
        if fault.kind in _OFFICES and self._busy(fault):
            self.struck_busy += 1
        send_signal(stopped, signal.SIGSTOP)
        self._stopped += [(now + self._lease + 1.5, pid) for pid in stopped]
        self._record.strike(fault.kind, deadly)
        send_signal(deadly, signal.SIGKILL)
        self.done[fault.kind] += 1
        return True

    def _victim(self, fault: plan.Fault) -> str:
        names = sorted(self._stage.specs)
        specs = self._stage.specs
        if fault.kind in plan.STOPS:
            names = [name for name in names if specs[name].role == "reader"]
        if fault.kind in plan.RELAYS:
            names = [name for name in names if specs[name].over in RELAYED]
        return names[fault.victim % len(names)]

    def _over(self, fault: plan.Fault) -> Over:
        return self._stage.specs[self._victim(fault)].over

    def _targets(self, kind: str, host: str) -> tuple[list[int], list[int]]:
        """Return whom to kill and whom to stop; nobody when one of them is missing."""
        stage = self._stage
        relay = stage.relay(host)
        process = stage.hosts.get(host)
        running = process.pid if process and process.poll() is None else None
        over = stage.specs[host].over
        deadly: list[int | None]
        stopped: list[int | None]
        match kind:
            case "office":
                deadly, stopped = [stage.hub.office()], []
            case "edge":
                deadly, stopped = [stage.office_of("edge")], []
            case "relay":
                deadly, stopped = [relay], []
            case "client":
                deadly, stopped = [running], []
            case "agent":
                deadly, stopped = [running, relay] if over in RELAYED else [running], []
            case "both":
                deadly, stopped = [relay if over in RELAYED else running, stage.office_of(over)], []
            case "stop":
                deadly, stopped = [], [running]
            case _:
                deadly, stopped = [relay], [running]
        if None in deadly or None in stopped:
            return [], []
        if running in deadly:
            stage.strike(host)
        return [pid for pid in deadly if pid], [pid for pid in stopped if pid]
