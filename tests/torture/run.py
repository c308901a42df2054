"""One run: set up, load and faults, heal, drain, check.

Rules the order of these. What clients do, what strikes and what is right stand in modules of their own.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tests.torture import checker, clients, history, plan, store_check
from tests.torture.clients import RELAYED, Agent, Over, Role, Spec
from tests.torture.faults import Saboteur
from tests.torture.machine import Machine
from tests.torture.report import Outcome
from tests.torture.stage import Stage, copy_program

_TICK = 0.01
_LOOK = 0.3
_OVERTIME = 2.0
"""The load goes on for at most so many times the wanted seconds, until all faults are done."""
_IDLE_SECONDS = 8.0
"""For connections between edge and hub that nobody uses any more to be closed."""
_DESCRIPTORS = 4
"""More than at the start that a post office may have open when its hosts are gone."""


WAYS: Mapping[str, Sequence[Over]] = {
    "both": ("stdio", "session", "stdio", "alone"),
    "stdio": ("stdio",),
    "http": ("session", "alone"),
    "edge": ("edge", "stdio", "edge", "session"),
    "all": ("edge", "stdio", "session", "edge", "alone"),
}
"""How hosts connect, by turns."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to do. The same options ask for the same run."""

    seed: int = 1
    seconds: float = 60.0
    kills: int = 20
    senders: int = 6
    readers: int = 8
    mailboxes: int = 4
    lease: float = 3.0
    pace: float = 0.02
    over: Literal["both", "stdio", "http", "edge", "all"] = "both"
    """Whether hosts come over stdio or over HTTP with tokens; both: half of them each. edge, all: some of them at an
    edge, whose hub the others ask."""
    faults: Sequence[str] = tuple(plan.FAULTS)
    heal_seconds: float = 60.0
    """For everything to be readable again after the last fault, and to be read."""
    whole_seconds: float = 50.0
    """For readers to be handed everything after the last fault, where there is an edge: a lost one counts as present
    for 30 s, and then leases have to run out."""
    keep: bool = False
    program: Path | None = None

    def command(self) -> str:
        words = ["python", "-m", "tests.torture"]
        for name in ("seed", "seconds", "kills", "senders", "readers", "mailboxes", "lease", "pace"):
            words += [f"--{name}", f"{getattr(self, name):g}"]
        words += ["--over", self.over, "--faults", ",".join(self.faults)]
        return shlex.join(words)


def run(options: Options) -> Outcome:
    """Do it; nothing is left behind but the histories of a run that does not hold, or is to be kept."""
    directory = Path(tempfile.mkdtemp(prefix="mailbox-torture-"))
    program = options.program or copy_program(directory / "program")
    stage = Stage(directory, program, options.lease, options.seed)
    try:
        outcome = _Run(options, stage).go()
    except BaseException as reason:
        stage.end()
        if not isinstance(reason, Exception):
            shutil.rmtree(directory, ignore_errors=True)  # somebody ended the run: there is nothing to look into
        raise
    if outcome.holds and not options.keep:
        shutil.rmtree(directory)
    return outcome


class _Run:
    def __init__(self, options: Options, stage: Stage) -> None:
        self.options = options
        self.stage = stage
        self.boxes = [f"box-{number}" for number in range(options.mailboxes)]
        self.outboxes = [f"sender-{number}" for number in range(options.senders)]
        self.with_edge = "edge" in WAYS[options.over]
        self.record = history.Recorder(stage.directory / "history" / "run.jsonl", stage.timeline)
        self.before: list[store_check.Footprint] = []
        """What the machines' post offices held with one client."""
        self.troubles: list[str] = []
        self.notes: list[str] = []

    def go(self) -> Outcome:
        if self.with_edge:
            self.stage.serve_an_edge()
        elif self.options.over != "stdio":
            self.stage.serve()
        self._open_mailboxes()
        saboteur = self._load()
        self.stage.dismiss("sender")
        if self.with_edge:
            self._be_whole()
        self.stage.dismiss("reader")
        self.troubles += [f"a host ended by itself: {each}" for each in self.stage.fell]
        self._empty_outbox()
        self._drain()
        self.troubles += [f"process {pid} had to be ended by force" for pid in self.stage.end()]
        self.troubles += store_check.troubles(self.stage.hub.home / "mail.db")
        if self.stage.edge is not None:
            file = self.stage.edge.home / "edge.db"
            self.troubles += store_check.edge_troubles(file)
            for entry in store_check.outbox(file):
                self.record.outbox(entry)
        self._look_at_logs()
        histories = history.load(sorted((self.stage.directory / "history").iterdir()))
        return Outcome(
            command=self.options.command(),
            directory=str(self.stage.directory),
            histories=histories,
            violations=checker.check(histories),
            faults=saboteur.done,
            struck_busy=saboteur.struck_busy,
            troubles=self.troubles,
            notes=self.notes,
        )

    def _spec(self, role: Role, name: str, mailbox: str, place: int, over: Over | None = None) -> Spec:
        options, stage = self.options, self.stage
        ways = WAYS[options.over]
        over = over or ways[place % len(ways)]
        return Spec(
            role=role,
            name=name,
            incarnation=0,
            seed=options.seed,
            mailbox=mailbox,
            boxes=self.boxes,
            lease=options.lease,
            pace=options.pace,
            shift=stage.timeline.shift,
            directory=str(stage.directory),
            environment=stage.environment(over),
            over=over,
            port=stage.port,
            token="" if over in RELAYED else stage.token(name),
        )

    def _open_mailboxes(self) -> None:
        """Make every mailbox, so that no letter is refused; look at what a post office holds with one client."""
        for place, box in enumerate([*self.boxes, *self.outboxes]):
            agent = Agent(self._spec("reader", f"setup-{place}", box, place))
            agent.connect()
            for number, channel in enumerate(plan.CHANNELS):
                if box in self.boxes and place % (number + 1) == 0:
                    agent.subscribe(channel)
            if not place:
                self.before = [store_check.footprint(each.office() or 0) for each in self.stage.machines]
            agent.close()
            if self.with_edge and agent.spec.over != "edge":  # which knows a mailbox that it has opened without its hub
                agent = Agent(self._spec("reader", f"setup-{place}-edge", box, place, "edge"))
                agent.connect()
                agent.close()

    def _load(self) -> Saboteur:
        options = self.options
        for place, name in enumerate(self.outboxes):
            self.stage.start(self._spec("sender", name, name, place))
        for place in range(options.readers):
            # Shifted by a round, so that those who share a mailbox do not all come the same way.
            box, round_ = place % len(self.boxes), place // len(self.boxes)
            self.stage.start(self._spec("reader", f"reader-{place}", self.boxes[box], place + round_))
        kinds = [kind for kind in options.faults if self._can_be(kind)]
        strikes = plan.faults(options.seed, kinds, options.kills)
        saboteur = Saboteur(self.stage, strikes, options.seconds / (len(strikes) + 1), options.lease)
        began = time.monotonic()
        while (spent := time.monotonic() - began) < options.seconds * _OVERTIME:
            if spent >= options.seconds and saboteur.finished:
                break
            saboteur.step()
            self.stage.keep_serving()
            self._start_again()
            time.sleep(_TICK)
        saboteur.give_up()
        self.notes.append(f"load         {spent:.0f} s; servers started: {self.stage.served}")
        return saboteur

    def _can_be(self, kind: str) -> bool:
        without_relays = self.options.over == "http" and kind in plan.RELAYS
        return not without_relays and (self.with_edge or kind not in plan.EDGES)

    def _start_again(self) -> None:
        for name in self.stage.ended():
            spec = self.stage.specs[name]
            self.stage.start(replace(spec, incarnation=spec.incarnation + 1))

    def _be_whole(self) -> None:
        """Let readers go on until nothing is left in their inboxes, or that takes too long."""
        began = self.stage.timeline.now()
        until = time.monotonic() + self.options.whole_seconds
        agent = Agent(self._spec("reader", "watch", self.boxes[0], 0, "stdio"))
        agent.connect()
        left = list(self.boxes)
        while left and time.monotonic() < until:
            self.stage.keep_serving()
            self._start_again()
            left = [box for box in left if not clients.is_done(agent.states(box))]
            time.sleep(_LOOK)
        agent.close()
        self.record.waited(began, emptied=not left)
        seconds = (self.stage.timeline.now() - began) / 1e9
        self.notes.append(f"whole        {seconds:.1f} s after the last fault{f': not {left}' if left else ''}")

    def _empty_outbox(self) -> None:
        """Let the edge bring everything to the hub: some host of its has to be there, or nobody starts it."""
        edge = self.stage.edge
        if edge is None:
            return
        self.stage.keep_serving()
        agent = Agent(self._spec("reader", "waker", self.boxes[0], 0, "edge"))
        agent.connect()
        until = time.monotonic() + self.options.heal_seconds
        while (said := edge.standing()).get("outbox", 1) and time.monotonic() < until:
            self.stage.keep_serving()
            time.sleep(_LOOK)
        self.notes.append(f"edge         {self._look_at_footprint(edge)}")
        agent.close()
        if said.get("outbox", 1):
            self.troubles.append(f"the outbox is not empty: {said}")

    def _look_at_footprint(self, machine: Machine) -> str:
        """Return what its post office holds, which may not be more than at the start."""
        before = self.before[self.stage.machines.index(machine)]
        until = time.monotonic() + (_IDLE_SECONDS if self.with_edge else 0)
        while True:
            after = store_check.footprint(machine.office() or 0)
            grown = after.descriptors > before.descriptors + _DESCRIPTORS
            if not grown or time.monotonic() > until:
                break
            time.sleep(_LOOK)
        if grown:
            self.troubles.append(f"descriptors of a post office: {before.descriptors} → {after.descriptors}")
        return f"{before} → {after}"

    def _drain(self) -> None:
        """Read everything that is left, as a client that nothing happens to."""
        began = time.monotonic()
        self.stage.keep_serving()
        agent = Agent(self._spec("reader", clients.DRAIN, self.boxes[0], self.options.seed))
        agent.connect()
        patience = self.options.heal_seconds
        if not clients.drain(agent, [*self.boxes, *self.outboxes], patience):
            self.troubles.append(f"mail is left that did not come for {patience:.0f} s")
        footprint = self._look_at_footprint(self.stage.hub)
        agent.close()
        self.notes.append(f"healed       {time.monotonic() - began:.0f} s; post office: {footprint}")

    def _look_at_logs(self) -> None:
        logs = [machine.home / "office.log" for machine in self.stage.machines]
        logs.append(self.stage.directory / "serve.log")
        text = "\n".join(log.read_text(errors="replace") for log in logs if log.exists())
        errors = [line for line in text.splitlines() if " ERROR " in line or line.startswith("Traceback")]
        if errors:
            self.notes.append(f"log          {len(errors)} errors, the first: {errors[0][:160]}")
