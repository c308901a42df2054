"""The model's stories with backups, restores and exports told in between them."""

from __future__ import annotations

from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, invariant, multiple, rule

from mcp_mailbox.delivery import State
from mcp_mailbox.report import POSTMASTER
from mcp_mailbox.store import Archived, Portion
from tests.contract.engines import ENGINES
from tests.contract.machine import tell_stories
from tests.contract.post import at
from tests.contract.promises import promise
from tests.contract.test_model import BOXES, TERM, Machine, Model, boxes

FAR = 1_000_000
"""Leases of one delivery between two restores, at most."""


class Restored(Machine):
    """Copies of the store as rules. What was given out since the copy was made stays in the bundles of the story."""

    copies = Bundle("copies")

    def __init__(self) -> None:
        super().__init__()
        self.numbers = count(1)
        self.places: dict[str, tuple[str, set[str]]] = {}
        """Of each box, a place and what had been told by then."""

    @rule(box=boxes)
    def go_on(self, box: str) -> None:
        """Follow the box from the place of the last time: what had been told is not told again, the rest is."""
        place, before = self.places.get(box, (None, set()))
        told: list[str] = []
        more = True
        while more:
            page = self.run(self.post.store.mail_of(at(box), Portion(2, 60, place)))
            told += [each.message.id for each in page.mail]
            place, more = page.place, page.next is not None
        everything = self.everything(box)
        assert set(told) == everything - before
        assert len(told) == len(set(told))
        assert place is not None
        self.places[box] = place, everything

    def everything(self, box: str) -> set[str]:
        return {each.message.id for each in self.run(self.post.store.mail_of(at(box), Portion(10_000, 1 << 30))).mail}

    @rule(target=copies)
    def back_up(self) -> tuple[Path, Model]:
        file = self.directory / f"backup {next(self.numbers)}"
        self.run(self.post.store.backup(file, lambda *_: None))
        return file, deepcopy(self.model)

    @rule(copy=copies, lost=st.booleans())
    def restore(self, copy: tuple[Path, Model], lost: bool) -> None:
        file, model = copy
        self.run(self.post.engine.close())
        self.run(self.post.engine.restore(file, lost=lost))
        self.model = deepcopy(model)
        self.places = {}  # what was given out since the backup names nothing
        floor = FAR * next(self.numbers)
        for each in self.model.copies:
            each.floor = floor

    @rule(target=Machine.handles, box=boxes, lost=st.booleans())
    def lose(self, box: str, lost: bool) -> Any:
        """Give out handles of leases, and of a new message, that a restore takes back; then lease the same again."""
        file, model = self.back_up()
        self.run(self.post.send(BOXES[0], box, body="x"))
        held = []
        for given in self.run(self.post.claim(box, "one", f"lost {next(self.numbers)}", term=TERM, present=None)):
            copy = self.model.find(box, given.message.id)
            generation = max(copy.generation + 1, copy.floor) if copy else 0
            held.append((box, given.handle, given.message.id, generation))
        self.restore((file, model), lost)
        again = self.claim(box, "two", f"again {next(self.numbers)}", 3, 10_000, None, None).values
        self.events = None
        return multiple(*held, *again)

    @invariant()
    def an_export_has_the_models_mail(self) -> None:
        for box in BOXES:
            found: list[Archived] = []
            cursor = None
            while True:
                page = self.run(self.post.store.mail_of(at(box), Portion(3, 60, cursor)))
                found += page.mail
                cursor = page.next
                if cursor is None:
                    break
            told = {each.message.id: each.own.state if each.own else None for each in found}
            assert len(told) == len(found)
            expected: dict[str, State | None] = {}
            for copy in (each for each in self.model.copies if each.id is not None):
                assert copy.id is not None
                if copy.box == box:
                    shown = copy.shown(self.now)
                    expected[copy.id] = State.RUNG if shown is State.STORED and copy.rung else shown
                elif copy.sender == box:
                    expected.setdefault(copy.id, None)
            assert {id_: state for id_, state in told.items() if id_ in expected} == expected
            # What the postmaster has written since the last listing is not known to the model by its id.
            new = [each.message for each in found if each.message.id not in expected]
            assert {message.sender for message in new} <= {f"{POSTMASTER}@default"}
            assert len(new) == len([each for each in self.model.copies if each.box == box and each.id is None])


@promise("restore-same", "restore-never-again", "mail-all", "fence")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.soak
def test_any_order_of_verbs_backups_and_restores_does_what_the_model_does(engine: str) -> None:
    tell_stories(Restored, engine)
