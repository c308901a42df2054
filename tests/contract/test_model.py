"""Any order of verbs, against a model that is a list of dataclasses: what Hypothesis finds is a story of a few lines.

MCP_MAILBOX_EXAMPLES sets how many stories are told.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from mcp_mailbox.delivery import Outcome, State
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Priority
from tests.clocks import SteppedClock
from tests.contract.engines import ENGINES
from tests.contract.post import Post, at, bodies, refused
from tests.contract.promises import promise

T = TypeVar("T")
BOXES = ["ann", "bob"]
READERS = ["one", "two"]
EXAMPLES = int(os.environ.get("MCP_MAILBOX_EXAMPLES", "60"))
TERM = 100

boxes = st.sampled_from(BOXES)
readers = st.sampled_from(READERS)
requests = st.sampled_from(["7", "8", "9"])


@dataclass
class Copy:
    """A message in a mailbox, as the model has it."""

    box: str
    sender: str
    place: int
    id: str
    body: str
    priority: Priority
    state: State = State.STORED
    generation: int = 0
    until: int = 0
    reader: str | None = None
    request: str | None = None
    surfaced: bool = False
    attempts: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        return (3 if self.state is State.REJECTED else self.priority, self.place)

    def free(self) -> None:
        self.until, self.reader, self.request, self.surfaced = 0, None, None, False


@dataclass
class Sent:
    """What a key stands for."""

    id: str
    content: tuple[object, ...]


@dataclass
class Model:
    """What a store must hold."""

    copies: list[Copy] = field(default_factory=list)
    keys: dict[tuple[str, str], Sent] = field(default_factory=dict)

    def waiting(self, box: str) -> list[Copy]:
        return sorted((c for c in self.copies if c.box == box and not c.state.settled), key=lambda c: c.rank)

    def find(self, box: str, id_: str) -> Copy | None:
        return next((c for c in self.copies if c.box == box and c.id == id_), None)

    def leased(self, copy: Copy, now: int) -> bool:
        return copy.reader is not None and copy.until > now


class Machine(RuleBasedStateMachine):
    """The verbs as rules. `handles` are what claims gave out and may be stale; `ids` are of any message."""

    engine_name = "sqlite"
    handles = Bundle("handles")
    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="mailbox-model-"))
        self.runner = asyncio.Runner()
        self.clock = SteppedClock()
        self.post = Post(ENGINES[self.engine_name](self.directory / "store", self.clock), self.clock)
        self.model = Model()
        self.run(self.post.engine.open())
        self.run(self.post.mailboxes(*BOXES))

    def run(self, verb: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(verb)

    def attempt(self, verb: Coroutine[Any, Any, T]) -> T | Code:
        try:
            return self.run(verb)
        except Refusal as refusal:
            return refusal.code

    @property
    def now(self) -> int:
        return self.post.store.clock.now()

    def teardown(self) -> None:
        self.run(self.post.engine.close())
        self.runner.close()
        shutil.rmtree(self.directory)

    @rule(
        target=ids,
        sender=boxes,
        to=st.lists(boxes, min_size=1, max_size=2, unique=True),
        priority=st.sampled_from(Priority),
        body=st.sampled_from(["x", "y" * 50]),
        key=st.sampled_from([None, None, "k", "l"]),
    )
    def accept(self, sender: str, to: list[str], priority: Priority, body: str, key: str | None) -> Any:
        content = (frozenset(to), priority, body)
        known = self.model.keys.get((sender, key)) if key else None
        answer = self.attempt(self.post.send(sender, *to, body=body, priority=priority, key=key))
        if isinstance(answer, Code):
            assert answer is Code.KEY_CONFLICT
            assert known
            assert known.content != content
            return multiple()
        assert answer.repeated is (known is not None)
        if known:
            assert (known.id, known.content) == (answer.id, content)
        else:
            assert all(copy.id != answer.id for copy in self.model.copies)
            place = len(self.model.copies)
            self.model.copies += [Copy(box, sender, place, answer.id, body, priority) for box in to]
            if key:
                self.model.keys[sender, key] = Sent(answer.id, content)
        return answer.id

    @rule(
        target=handles,
        box=boxes,
        reader=readers,
        request=requests,
        most=st.integers(1, 3),
        size=st.sampled_from([1, 60, 10_000]),
        present=st.sampled_from([None, frozenset(), frozenset({"one"})]),
        sender=st.sampled_from([None, None, *BOXES]),
    )
    def claim(
        self,
        box: str,
        reader: str,
        request: str,
        most: int,
        size: int,
        present: frozenset[str] | None,
        sender: str | None,
    ) -> Any:
        waiting = self.model.waiting(box)
        expected = [c for c in waiting if (c.reader, c.request) == (reader, request)]
        if not expected:
            for copy in waiting:
                kept = copy.reader not in (None, reader) and (present is None or copy.reader in present)
                if self.model.leased(copy, self.now) or kept or sender not in (None, copy.sender):
                    continue
                full = sum(len(c.body) for c in expected) + len(copy.body) > size
                if len(expected) == most or (expected and full):
                    break
                expected.append(copy)
            for copy in expected:
                copy.state, copy.generation, copy.surfaced = State.LEASED, copy.generation + 1, False
                copy.until, copy.reader, copy.request = self.now + TERM, reader, request
        found = self.run(
            self.post.claim(box, reader, request, most=most, size=size, term=TERM, present=present, sender=sender)
        )
        assert [d.message.id for d in found] == [c.id for c in expected]
        assert bodies(found) == [c.body for c in expected]
        assert [d.attempts for d in found] == [c.attempts for c in expected]
        assert [d.lease_until for d in found] == [c.until for c in expected]
        return multiple(*((box, d.handle, c.id, c.generation) for d, c in zip(found, expected, strict=True)))

    @rule(handle=handles, reader=readers, outcome=st.sampled_from(Outcome))
    def settle(self, handle: tuple[str, str, str, int], reader: str, outcome: Outcome) -> None:
        box, text, id_, generation = handle
        copy = self.model.find(box, id_)
        assert copy is not None
        expected = "stale_lease" if copy.generation != generation else self._settle(copy, outcome)
        assert refused(self.run(self.post.settle(box, text, outcome=outcome, reader=reader))) == [expected]

    @rule(id_=ids, box=boxes, reader=readers, outcome=st.sampled_from(Outcome))
    def settle_plainly(self, id_: str, box: str, reader: str, outcome: Outcome) -> None:
        copy = self.model.find(box, id_)
        if copy is None:
            expected: str | None = "unknown_message"
        elif not copy.state.settled and self.model.leased(copy, self.now) and copy.reader != reader:
            expected = "leased_elsewhere"
        else:
            expected = self._settle(copy, outcome)
        assert refused(self.run(self.post.settle(box, id_, outcome=outcome, reader=reader))) == [expected]

    def _settle(self, copy: Copy, outcome: Outcome) -> str | None:
        target = {Outcome.ACK: State.ACKED, Outcome.REJECT: State.REJECTED, Outcome.RELEASE: State.STORED}[outcome]
        if copy.state.settled:
            return None if copy.state is target else "already_settled"
        copy.state = target
        copy.free()
        return None

    @rule(target=ids, handle=consumes(handles), to=boxes)
    def reply(self, handle: tuple[str, str, str, int], to: str) -> Any:
        box, text, id_, generation = handle
        copy = self.model.find(box, id_)
        assert copy is not None
        answer = self.attempt(self.post.send(box, to, body="reply", reply_to=text))
        if isinstance(answer, Code):
            assert answer is Code.STALE_LEASE
            assert copy.generation != generation
            return multiple()
        assert copy.generation == generation
        if not copy.state.settled:
            self._settle(copy, Outcome.ACK)
        self.model.copies.append(Copy(to, box, len(self.model.copies), answer.id, "reply", Priority.NORMAL))
        return answer.id

    @rule(reader=readers, request=requests | st.none(), surfaced=st.booleans())
    def give_back(self, reader: str, request: str | None, surfaced: bool) -> None:
        returned = [
            c
            for c in self.model.copies
            if not c.state.settled
            and c.reader == reader
            and request in (None, c.request)
            and (surfaced or not c.surfaced)
        ]
        for copy in returned:
            copy.state = State.STORED
            copy.free()
        assert self.run(self.post.store.give_back(reader, request, surfaced=surfaced)) == len(returned)

    @rule(reader=readers, request=requests)
    def surface(self, reader: str, request: str) -> None:
        for copy in self.model.copies:
            if not copy.state.settled and (copy.reader, copy.request) == (reader, request) and not copy.surfaced:
                copy.surfaced = True
                copy.attempts += 1
        self.run(self.post.store.surface(self.post.origin(reader, request)))
        # It may take a while, the model does not: a verb that changes nothing waits for all before it.
        self.run(self.post.store.give_back("nobody", None, surfaced=True))

    @rule(ms=st.sampled_from([1, TERM - 1, TERM]))
    def time_passes(self, ms: int) -> None:
        self.clock.step(ms)

    @rule(back=st.sampled_from([0, 0, 500]))
    def reopen(self, back: int) -> None:
        before = self.now
        self.run(self.post.engine.close())
        self.clock.step(-back)
        self.run(self.post.engine.open())
        assert self.now == before

    @rule(box=boxes)
    def open_again(self, box: str) -> None:
        opened = self.run(self.post.open(box))
        assert not opened.created

    @invariant()
    def the_listings_are_the_models(self) -> None:
        for box in BOXES:
            expected = sorted(
                (c for c in self.model.copies if c.box == box and c.state is not State.ACKED), key=lambda c: c.rank
            )
            shown, cursor, more = [], None, True
            while more:
                page = self.run(self.post.inbox(box, 2, cursor))
                shown += [p.delivery for p in page.previews]
                cursor, more = page.previews[-1].cursor if page.previews else None, page.more
            assert [d.message.id for d in shown] == [c.id for c in expected]
            for delivery, copy in zip(shown, expected, strict=True):
                leased = self.model.leased(copy, self.now)
                held = copy.state if copy.state.settled else (State.LEASED if leased else State.STORED)
                assert (delivery.state, delivery.attempts) == (held, copy.attempts)
                assert delivery.lease_until == (copy.until if leased and not copy.state.settled else None)
            ready = [c for c in self.model.waiting(box) if not self.model.leased(c, self.now)]
            assert page.unread == len(ready)

    @invariant()
    def what_is_due_is_the_models(self) -> None:
        leases = [c for c in self.model.copies if not c.state.settled and c.reader is not None]
        mailboxes, upcoming = self.run(self.post.store.due(0))
        assert set(mailboxes) == {at(c.box) for c in leases if c.until <= self.now}
        assert upcoming == min((c.until for c in leases if c.until > self.now), default=None)

    @rule(id_=ids, box=boxes)
    def read(self, id_: str, box: str) -> None:
        copy = self.model.find(box, id_)
        wrote = any(c.id == id_ and c.sender == box for c in self.model.copies)
        found = self.attempt(self.post.store.read(at(box), id_))
        if isinstance(found, Code):
            assert found is Code.UNKNOWN_MESSAGE
            assert copy is None
            assert not wrote
            return
        assert copy is not None or wrote
        if copy is not None and copy.state.settled:
            assert found.state is copy.state


@promise(
    "durable", "order", "one-lease", "fence", "settled-stays", "unread", "cursor", "due", "key-repeats", "attempts"
)
@pytest.mark.parametrize("engine", ENGINES)
def test_any_order_of_verbs_does_what_the_model_does(engine: str) -> None:
    machine = type("Machine", (Machine,), {"engine_name": engine})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
