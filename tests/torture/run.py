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
from tests.torture.clients import Agent, Over, Role, Spec
from tests.torture.faults import Saboteur
from tests.torture.report import Outcome
from tests.torture.stage import Stage, copy_program

_TICK = 0.01
_OVERTIME = 2.0
"""The load goes on for at most so many times the wanted seconds, until all faults are done."""
_DESCRIPTORS = 4
"""More than at the start that a post office may have open when its hosts are gone."""


_WAYS: Mapping[str, Sequence[Over]] = {
    "both": ("stdio", "session", "stdio", "alone"),
    "stdio": ("stdio",),
    "http": ("session", "alone"),
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
    over: Literal["both", "stdio", "http"] = "both"
    """Whether hosts come over stdio or over HTTP with tokens; both: half of them each."""
    faults: Sequence[str] = tuple(plan.FAULTS)
    heal_seconds: float = 60.0
    """For everything to be readable again after the last fault, and to be read."""
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
        self.troubles: list[str] = []
        self.notes: list[str] = []

    def go(self) -> Outcome:
        if self.options.over != "stdio":
            self.stage.serve()
        before = self._open_mailboxes()
        saboteur = self._load()
        self.stage.dismiss()
        self.troubles += [f"a host ended by itself: {each}" for each in self.stage.fell]
        self._drain(before)
        self.troubles += [f"process {pid} had to be ended by force" for pid in self.stage.end()]
        self.troubles += store_check.troubles(self.stage.home / "mail.db")
        self._look_at_log()
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

    def _spec(self, role: Role, name: str, mailbox: str, place: int) -> Spec:
        options, stage = self.options, self.stage
        ways = _WAYS[options.over]
        over = ways[place % len(ways)]
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
            environment=stage.environment,
            over=over,
            port=stage.port,
            token="" if over == "stdio" else stage.token(name),
        )

    def _open_mailboxes(self) -> store_check.Footprint:
        """Make every mailbox, so that no letter is refused; return what the post office holds with one client."""
        before = store_check.Footprint(0, 0)
        for place, box in enumerate([*self.boxes, *self.outboxes]):
            agent = Agent(self._spec("reader", f"setup-{place}", box, place))
            agent.connect()
            for number, channel in enumerate(plan.CHANNELS):
                if box in self.boxes and place % (number + 1) == 0:
                    agent.subscribe(channel)
            if not place:
                before = store_check.footprint(self.stage.office() or 0)
            agent.close()
        return before

    def _load(self) -> Saboteur:
        options = self.options
        for place, name in enumerate(self.outboxes):
            self.stage.start(self._spec("sender", name, name, place))
        for place in range(options.readers):
            # Shifted by a round, so that those who share a mailbox do not all come the same way.
            box, round_ = place % len(self.boxes), place // len(self.boxes)
            self.stage.start(self._spec("reader", f"reader-{place}", self.boxes[box], place + round_))
        kinds = [kind for kind in options.faults if options.over != "http" or kind not in plan.RELAYS]
        strikes = plan.faults(options.seed, kinds, options.kills)
        saboteur = Saboteur(self.stage, strikes, options.seconds / (len(strikes) + 1), options.lease)
        began = time.monotonic()
        while (spent := time.monotonic() - began) < options.seconds * _OVERTIME:
            if spent >= options.seconds and saboteur.finished:
                break
            saboteur.step()
            self.stage.keep_serving()
            for name in self.stage.ended():
                spec = self.stage.specs[name]
                self.stage.start(replace(spec, incarnation=spec.incarnation + 1))
            time.sleep(_TICK)
        saboteur.give_up()
        self.notes.append(f"load         {spent:.0f} s; servers started: {self.stage.served}")
        return saboteur

    def _drain(self, before: store_check.Footprint) -> None:
        """Read everything that is left, as a client that nothing happens to."""
        began = time.monotonic()
        self.stage.keep_serving()
        agent = Agent(self._spec("reader", "drain", self.boxes[0], self.options.seed))
        agent.connect()
        patience = self.options.heal_seconds
        if not clients.drain(agent, [*self.boxes, *self.outboxes], patience):
            self.troubles.append(f"mail could not be drained within {patience:.0f} s")
        after = store_check.footprint(self.stage.office() or 0)
        agent.close()
        self.notes.append(f"healed       {time.monotonic() - began:.0f} s; post office: {before} → {after}")
        if after.descriptors > before.descriptors + _DESCRIPTORS:
            self.troubles.append(f"descriptors of the post office: {before.descriptors} → {after.descriptors}")

    def _look_at_log(self) -> None:
        logs = [self.stage.home / "office.log", self.stage.directory / "serve.log"]
        text = "\n".join(log.read_text(errors="replace") for log in logs if log.exists())
        errors = [line for line in text.splitlines() if " ERROR " in line or line.startswith("Traceback")]
        if errors:
            self.notes.append(f"log          {len(errors)} errors, the first: {errors[0][:160]}")
