"""Any order of reserving, releasing and time passing, against a model that is a dictionary."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from mcp_mailbox.reservation import Mode, Terms
from mcp_mailbox.store import Released
from tests.contract.engines import ENGINES
from tests.contract.machine import StoreMachine, tell_stories
from tests.contract.post import SPACE, at
from tests.contract.promises import promise

BOXES = ["ann", "bob", "cid"]
COVERS = {
    "a": {"a", "a/b", "a/b/x", "a/c.py"},
    "a/b/": {"a/b", "a/b/x"},
    "a/c.py": {"a/c.py"},
    "*/b": {"a/b", "a/b/x", "c/b"},
    "c": {"c", "c/b"},
    "lock.1": {"lock.1"},
}
"""Which of a few paths each name stands for: two meet where they have one in common."""

boxes = st.sampled_from(BOXES)
names = st.lists(st.sampled_from(list(COVERS)), min_size=1, max_size=3, unique=True)
requests = st.sampled_from(["7", "8", None, None])


@dataclass(frozen=True)
class Held:
    """What a mailbox holds under a name."""

    mode: Mode
    note: str
    made: int
    until: int


class Machine(StoreMachine):
    """The verbs as rules."""

    def __init__(self) -> None:
        super().__init__()
        self.all: dict[tuple[str, str], Held] = {}
        self.reserved: dict[tuple[str, str], dict[str, Held]] = {}
        self.released: dict[tuple[str, str], Released] = {}
        self.run(self.post.mailboxes(*BOXES))

    def live(self) -> dict[tuple[str, str], Held]:
        return {key: held for key, held in self.all.items() if held.until > self.now}

    @rule(
        box=boxes,
        wanted=names,
        mode=st.sampled_from(Mode),
        term=st.sampled_from([1, 50, 100]),
        note=st.sampled_from(["", "why"]),
        request=requests,
    )
    def reserve(self, box: str, wanted: list[str], mode: Mode, term: int, note: str, request: str | None) -> None:
        live = self.live()
        answer = self.run(
            self.post.store.reserve(at(box), wanted, Terms(mode, term, note), self.post.origin(box, request))
        )
        told = {each.name: Held(each.mode, each.note, each.made_at, each.until) for each in answer.held}
        if request and (box, request) in self.reserved:
            assert told == self.reserved[box, request]
            return
        in_the_way = {
            (name, holder, theirs)
            for name in wanted
            for (holder, theirs), held in live.items()
            if holder != box and COVERS[name] & COVERS[theirs] and not mode is held.mode is Mode.SHARED
        }
        found = {(each.name, each.held.holder.name, each.held.name) for each in answer.conflicts if each.held.holder}
        assert found == in_the_way
        assert len(answer.conflicts) == len(in_the_way)
        if in_the_way:
            assert told == {}
            return
        for name in wanted:
            before = live.get((box, name))
            made = before.made if before else self.now
            until = max(self.now + term, before.until if before else 0)
            self.all[box, name] = Held(mode, note or (before.note if before else ""), made, until)
        assert told == {name: self.all[box, name] for name in wanted}
        if request:
            self.reserved[box, request] = told

    @rule(box=boxes, wanted=names | st.none(), request=requests)
    def release(self, box: str, wanted: list[str] | None, request: str | None) -> None:
        mine = sorted(name for holder, name in self.live() if holder == box)
        answer = self.run(self.post.store.release_reservations(at(box), wanted, self.post.origin(box, request)))
        if request and (box, request) in self.released:
            assert answer == self.released[box, request]
            return
        done = tuple(name for name in mine if wanted is None or name in wanted)
        assert answer == Released(done, tuple(name for name in wanted or () if name not in mine))
        for name in done:
            del self.all[box, name]
        if request:
            self.released[box, request] = answer

    @rule(ms=st.sampled_from([1, 49, 50, 100]))
    def time_passes(self, ms: int) -> None:
        self.clock.step(ms)

    @rule()
    def reopen(self) -> None:
        self.run(self.post.reopen())

    @invariant()
    def what_is_held_is_the_models(self) -> None:
        found = self.run(self.post.store.reservations(SPACE))
        shown = {
            (each.holder.name, each.name): Held(each.mode, each.note, each.made_at, each.until)
            for each in found
            if each.holder
        }
        assert shown == self.live()
        assert len(shown) == len(found)
        assert [each.until for each in found] == sorted(each.until for each in found)

    @invariant()
    def nothing_is_held_against_another(self) -> None:
        live = list(self.live().items())
        for (box, name), held in live:
            for (other, theirs), them in live:
                if box != other and COVERS[name] & COVERS[theirs]:
                    assert held.mode is them.mode is Mode.SHARED


@promise("reserve-one", "reserve-told", "reserve-own", "reserve-lapses", "reserve-release", "reserve-repeats")
@pytest.mark.parametrize("engine", ENGINES)
def test_any_order_of_reserving_and_releasing_does_what_the_model_does(engine: str) -> None:
    tell_stories(Machine, engine)
