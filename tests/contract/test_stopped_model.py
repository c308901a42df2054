"""Any order of writing, answering and crashing under small budgets: who is told of a refusal, against a plain model."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from mcp_mailbox.budgets import HOUR, Limits
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.message import Kind
from mcp_mailbox.store import Accepted, Portion
from tests.contract.engines import ENGINES
from tests.contract.machine import StoreMachine, tell_stories
from tests.contract.post import ROOMY, at
from tests.contract.promises import promise

OWNERS = {"ann": "a", "ada": "a", "bob": "b", "cid": "c"}
"""Mailboxes, and whose they are."""
names = st.sampled_from(list(OWNERS))
some = st.lists(names, min_size=1, max_size=2, unique=True)


@dataclass
class Said:
    """A message that everybody here may answer who has it; `notice` when the postmaster wrote it."""

    id: str
    thread: str
    readers: set[str]
    notice: bool = False


@dataclass
class Model:
    """Who has written where, what was told when, and of whom each has reports."""

    said: list[Said] = field(default_factory=list)
    part: dict[str, set[str]] = field(default_factory=dict)
    told: dict[tuple[str, str], int] = field(default_factory=dict)
    reports: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in OWNERS})
    """Threads, the oldest first."""

    def refused(self, sender: str, answered: Said, to: list[str], now: int, *, pair: bool) -> None:
        others = [each for each in to if each != sender and each in self.part[answered.thread]]
        keys = [(answered.thread, OWNERS[sender]), *((f"pair {each}", OWNERS[sender]) for each in others if pair)]
        due = all(now >= self.told.get(key, -HOUR) + HOUR for key in keys)
        if others and due and not answered.notice:
            self.told |= dict.fromkeys(keys, now)
            for each in others:
                self.reports[each].append(answered.thread)


class Machine(StoreMachine):
    """The verbs as rules."""

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.run(self.post.engine.close())
        self.post.engine.limits = Limits(thread=3, pair=6, hops=3)
        self.run(self.post.engine.open())
        for name, owner in OWNERS.items():
            self.run(self.post.open(name, owner=owner, profile=Profile(contact=Contact.OPEN)))

    @rule(sender=names, to=some)
    def write(self, sender: str, to: list[str]) -> None:
        sent = self.attempt(self.post.send(sender, *to))
        if isinstance(sent, Accepted):
            self.note(sent, sender, to)

    @rule(sender=names, to=some, which=st.integers(0, 5), times=st.integers(1, 4))
    def answer(self, sender: str, to: list[str], which: int, times: int) -> None:
        mine = [each for each in self.model.said if sender in each.readers]
        if not mine:
            return
        answered = mine[-1 - which % len(mine)]
        for _ in range(times):
            self.answer_once(sender, to, answered)

    def answer_once(self, sender: str, to: list[str], answered: Said) -> None:
        try:
            sent = self.run(self.post.send(sender, *to, reply_to=answered.id))
        except Refusal as refusal:
            if refusal.code in {Code.TOO_MANY_HOPS, Code.OVER_BUDGET}:
                pair = "messages an hour" in refusal.problem
                self.model.refused(sender, answered, to, self.now, pair=pair)
            return
        full = [name for name, each in zip(to, sent.recipients, strict=True) if each.refusal is not None]
        if full:
            self.model.refused(sender, answered, full, self.now, pair=True)
        self.note(sent, sender, [each for each in to if each not in full])

    def note(self, sent: Accepted, sender: str, to: list[str]) -> None:
        self.model.part.setdefault(sent.thread, set()).add(sender)
        reached = {name for name, each in zip(to, sent.recipients, strict=False) if each.refusal is None}
        self.model.said.append(Said(sent.id, sent.thread, {sender, *reached}))

    @rule(minutes=st.sampled_from([1, 10, 20, 60]))
    def step(self, minutes: int) -> None:
        self.clock.step(minutes * 60_000)

    @rule()
    def crash(self) -> None:
        self.run(self.post.engine.crash())

    @invariant()
    def everybody_was_told_what_it_should_be(self) -> None:
        for name in OWNERS:
            page = self.run(self.post.store.mail_of(at(name), Portion(1000, ROOMY)))  # also what an answer has acked
            found = [each.message for each in page.mail if each.message.kind is Kind.REPORT]
            assert [each.thread for each in found] == self.model.reports[name]
            known = {each.id for each in self.model.said}
            self.model.said += [Said(m.id, m.thread, {name}, notice=True) for m in found if m.id not in known]


@promise("guard-others", "guard-others-once", "guard-others-quiet")
@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_is_refused_those_are_told_who_wait_and_once(engine: str) -> None:
    tell_stories(Machine, engine, steps=20)
