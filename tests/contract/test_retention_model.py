"""The model's stories with time running long: what has had its time goes, and nothing else ever does."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from mcp_mailbox.store import Portion, Query
from tests.contract.engines import ENGINES
from tests.contract.machine import tell_stories
from tests.contract.post import at
from tests.contract.promises import promise
from tests.contract.test_archive_model import Restored
from tests.contract.test_model import TERM, boxes

GONE = "gone"


class Kept(Restored):
    """Removal as a rule, among sends, leases, backups and restores. `ended` is when a copy was settled."""

    @rule(age=st.sampled_from([0, 0, TERM // 2, 2 * TERM]))
    def forget(self, age: int) -> None:
        before = self.now - age
        while self.run(self.post.store.forget_settled(before)):
            pass
        kept = {c.place for c in self.model.copies if not c.state.settled or c.listed or c.ended > before}
        for copy in self.model.copies:
            if copy.place not in kept:
                copy.box = copy.sender = GONE

    @rule()
    def compact(self) -> None:
        while self.run(self.post.store.compact()):
            pass

    @rule(box=boxes)
    def a_search_finds_what_is_exported(self, box: str) -> None:
        page = self.run(self.post.store.mail_of(at(box), Portion(1000, 1 << 30)))
        assert page.next is None
        hits = self.run(self.post.store.search(at(box), Query(1000, oldest_first=True)))
        assert [hit.message.id for hit in hits.hits] == [each.message.id for each in page.mail]

    @invariant()
    def it_is_noted_when_a_copy_ended(self) -> None:
        for copy in self.model.copies:
            if not copy.state.settled:
                copy.ended = 0
            elif not copy.ended:
                copy.ended = self.now


@promise("keep-settled", "keep-unsettled", "restore-same", "mail-all")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.soak
def test_whatever_happens_what_is_settled_and_old_goes_and_nothing_else(engine: str) -> None:
    tell_stories(Kept, engine)
