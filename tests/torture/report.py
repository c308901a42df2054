"""Says what a run saw: the seed, the counts, each invariant, and the command that asks for the same again."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.torture import checker, plan
from tests.torture.checker import Violation
from tests.torture.history import Histories

_SHOWN = 5


def say(line: str = "") -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass(slots=True)
class Outcome:
    """All that is known of a run when it is over."""

    command: str
    directory: str
    histories: Histories
    violations: list[Violation]
    faults: Mapping[str, int]
    struck_busy: int
    troubles: Sequence[str] = ()
    """What is wrong with the store's file, processes that fell or were left, mail that could not be drained."""
    notes: Sequence[str] = field(default_factory=list)

    @property
    def by_invariant(self) -> Counter[int]:
        return Counter(violation.invariant for violation in self.violations)

    @property
    def sends(self) -> int:
        """Letters that were accepted."""
        return len({op.args["token"] for op in self.histories.ops if op.op == "send" and op.result == "ok"})

    @property
    def holds(self) -> bool:
        return not self.violations and not self.troubles and self.sends > 0


def counts(histories: Histories) -> str:
    """Return how many operations there were, by result and by kind."""
    results = Counter(op.result for op in histories.ops)
    kinds = Counter(op.op for op in histories.ops)
    by_kind = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return f"{len(histories.ops)} ({results['ok']} ok, {results['fail']} fail, {results['unknown']} unknown): {by_kind}"


def ways(histories: Histories) -> str:
    """Return how many operations that went well came each way."""
    over = Counter(histories.sessions[op.session].over for op in histories.ops if op.result == "ok")
    return ", ".join(f"{count} {way}" for way, count in over.most_common())


def handed_out(histories: Histories) -> str:
    """Return how many messages were handed out, and how many of these once more."""
    waits = [op for op in histories.ops if op.op == "wait" and op.result == "ok"]
    generations = [message["generation"] for op in waits for message in op.answer["messages"]]
    return f"{len(generations)}, of which {sum(each > 1 for each in generations)} redeliveries"


def under_way(histories: Histories) -> str:
    """Return how many operations were between question and answer when something was killed."""
    hit: Counter[str] = Counter()
    for strike in histories.strikes:
        for op in histories.ops:
            killed = op.complete_ns is None and histories.sessions[op.session].host in strike.deadly
            if strike.deadly and op.invoke_ns < strike.ns and (killed or strike.ns < (op.complete_ns or 0)):
                hit[op.op] += 1
    return ", ".join(f"{count} {kind}" for kind, count in hit.most_common()) or "none"


def outbox(histories: Histories) -> str:
    """Return what an edge took in without its hub, and what of it was refused there; empty where there is no edge."""
    verbs = Counter(entry.verb for entry in histories.outbox.values())
    if not verbs:
        return ""
    answers = [entry.answer or {} for entry in histories.outbox.values()]
    late = sum("error" in answer or bool(answer.get("failed")) for answer in answers)
    again = sum(bool(answer.get("repeated")) for answer in answers)
    by_verb = ", ".join(f"{count} {verb}" for verb, count in verbs.most_common())
    return f"{by_verb}; {late} refused late, {again} that the hub had already"


def refusals(histories: Histories) -> str:
    """Return why calls and settlements came to nothing: a fence that never had to hold proves nothing."""
    why: Counter[str] = Counter()
    for op in histories.ops:
        if op.result != "ok":
            why[f"{op.op}: {op.answer.get('why', 'killed')}"] += 1
        for code in {**op.answer.get("failed", {}), **op.answer.get("ack_failed", {})}.values():
            why[f"settle: {code}"] += 1
    return ", ".join(f"{count} {code}" for code, count in why.most_common()) or "none"


def struck(outcome: Outcome) -> str:
    """Return how often what was killed or stopped."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(outcome.faults.items())) or "no faults"
    kills = sum(outcome.faults.get(kind, 0) for kind in plan.KILLS)
    return f"{kinds}: {kills} kills, {outcome.struck_busy} of a post office under load"


def show(outcome: Outcome) -> None:
    """Print it."""
    histories = outcome.histories
    say(f"operations   {counts(histories)}")
    say(f"over         {ways(histories)}")
    say(f"accepted     {outcome.sends} letters")
    say(f"handed out   {handed_out(histories)}")
    say(f"not ok       {refusals(histories)}")
    say(f"faults       {struck(outcome)}")
    if found_there := outbox(histories):
        say(f"outbox       {found_there}")
    say(f"under way    {under_way(histories)} at the moment of a kill")
    for note in outcome.notes:
        say(note)
    say()
    for number, (name, _) in checker.INVARIANTS.items():
        found = [violation.text for violation in outcome.violations if violation.invariant == number]
        say(f"  {number}  {name:<42} {len(found)} violations")
        for text in found[:_SHOWN]:
            say(f"       {text}")
    say(f"     {'store, processes, healing':<42} {len(outcome.troubles)} troubles")
    for trouble in outcome.troubles:
        say(f"       {trouble}")
    say()
    say("holds" if outcome.holds else f"DOES NOT HOLD; histories in {outcome.directory}")
    say(f"again: {outcome.command}")
