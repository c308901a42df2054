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
from tests.torture.history import Recorder
from tests.torture.stage import Stage, send_signal

_BUSY_BYTES = 20_000
"""Growth of the histories after which a post office counts as being under load."""
_PATIENCE = 15.0
"""Seconds after which a post office is struck whether it is busy or not."""
_OFFICE = ("office", "both")


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
        self._office = -1
        self._office_since = 0.0
        self._office_bytes = 0

    @property
    def finished(self) -> bool:
        return not self._faults and not self._stopped

    def step(self) -> None:
        """Wake who has been stopped for long enough, and strike if it is time."""
        now = time.monotonic()
        for at, pid in [each for each in self._stopped if each[0] <= now]:
            self._stopped.remove((at, pid))
            send_signal([pid], signal.SIGCONT)
        self._look_at_office(now)
        due = self._faults and now >= self._next_at and self._ready(self._faults[0], now)
        if due and self._strike(self._faults[0], now):
            self._faults.pop(0)
            self._next_at = now + self._pause_before()

    def give_up(self) -> None:
        """Strike no more, and wake all who are stopped."""
        self._faults.clear()
        for _, pid in self._stopped:
            send_signal([pid], signal.SIGCONT)
        self._stopped.clear()

    def _pause_before(self) -> float:
        return self._faults[0].pause * self._pause if self._faults else 0.0

    def _look_at_office(self, now: float) -> None:
        pid = self._stage.office() or -1
        if pid != self._office:
            self._office, self._office_since, self._office_bytes = pid, now, self._written()

    def _written(self) -> int:
        return sum(path.stat().st_size for path in (self._stage.directory / "history").iterdir())

    def _busy(self) -> bool:
        return self._written() - self._office_bytes > _BUSY_BYTES

    def _ready(self, fault: plan.Fault, now: float) -> bool:
        if fault.kind not in _OFFICE:
            return True
        return self._office > 0 and (fault.early or self._busy() or now - self._office_since > _PATIENCE)

    def _strike(self, fault: plan.Fault, now: float) -> bool:
        """Return False when its victims are not there just now."""
        host = self._victim(fault)
        deadly, stopped = self._targets(fault.kind, host)
        if not deadly and not stopped:
            return False
        if fault.kind in _OFFICE and self._busy():
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
            names = [name for name in names if specs[name].over == "stdio"]
        return names[fault.victim % len(names)]

    def _targets(self, kind: str, host: str) -> tuple[list[int], list[int]]:
        """Return whom to kill and whom to stop; nobody when one of them is missing."""
        stage = self._stage
        relay = stage.relay(host)
        process = stage.hosts.get(host)
        running = process.pid if process and process.poll() is None else None
        over_relay = stage.specs[host].over == "stdio"
        deadly: list[int | None]
        stopped: list[int | None]
        match kind:
            case "office":
                deadly, stopped = [stage.office()], []
            case "relay":
                deadly, stopped = [relay], []
            case "client":
                deadly, stopped = [running], []
            case "agent":
                deadly, stopped = [running, relay] if over_relay else [running], []
            case "both":
                deadly, stopped = [relay if over_relay else running, stage.office()], []
            case "stop":
                deadly, stopped = [], [running]
            case _:
                deadly, stopped = [relay], [running]
        if None in deadly or None in stopped:
            return [], []
        if running in deadly:
            stage.strike(host)
        return [pid for pid in deadly if pid], [pid for pid in stopped if pid]
