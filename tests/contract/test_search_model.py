"""Any mail, any search, against a model that compares all of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from mcp_mailbox.delivery import Outcome
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.store import Query
from tests.contract.engines import ENGINES
from tests.contract.machine import StoreMachine, tell_stories
from tests.contract.post import at
from tests.contract.promises import promise

BOXES = ["ann", "bob", "cid"]
SAID: dict[str, set[str]] = {
    "deploy": {"deploy"},
    "Deploys": {"deploy"},
    "FAILED!": {"fail"},
    "na\u00efve": {"naive"},
    "東京都": set("東京都") | {"東京", "京都"},
    "京": {"京"},
    "ann": {"ann"},
    "r1": {"r1"},
    "\ue000r1": {"r1"},
    "\ue000s2": {"s2"},
    "\ue000w0": {"w0"},
    '"': set(),
    "AND": {"and"},
    "OR": {"or"},
    "NOT": {"not"},
    "(*": set(),
}
"""By what each piece of a message is found,"""
ASKED = SAID | {"東京都": {"東京", "京都"}}
"""and what it asks for in a query."""

boxes = st.sampled_from(BOXES)
pieces = st.lists(st.sampled_from(list(SAID)), min_size=1, max_size=4)


def words(parts: list[str], of: dict[str, set[str]]) -> set[str]:
    return set().union(*(of[part] for part in parts))


@dataclass(frozen=True)
class Said:
    """A message, and who may read it."""

    id: str
    thread: str
    sender: str
    readers: frozenset[str]
    words: set[str]
    at: int


class Machine(StoreMachine):
    """The verbs as rules."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Said] = []

    @initialize()
    def mailboxes(self) -> None:
        self.run(self.post.mailboxes(*BOXES))

    @rule(sender=boxes, to=st.sets(boxes, min_size=1), body=pieces, subject=pieces | st.none(), reply=st.booleans())
    def send(self, sender: str, to: set[str], body: list[str], subject: list[str] | None, *, reply: bool) -> None:
        mine = [said for said in self.all if sender in said.readers]
        parent = mine[-1].id if reply and mine else None
        sent = self.run(
            self.post.send(sender, *to, body=" ".join(body), subject=" ".join(subject or []), reply_to=parent)
        )
        found = words(body + (subject or []), SAID)
        self.all.append(
            Said(sent.id, sent.thread, sender, frozenset({sender, *to}), found, self.post.store.clock.now())
        )

    @rule(box=boxes, ms=st.sampled_from([0, 1, 1000]))
    def time_passes_and_somebody_acks(self, box: str, ms: int) -> None:
        self.clock.step(ms)
        for delivery in self.run(self.post.claim(box, most=1)):
            self.run(self.post.settle(box, delivery.handle, outcome=Outcome.ACK))

    @rule()
    def reopen(self) -> None:
        self.run(self.post.reopen())

    @rule(
        box=boxes,
        asked=pieces | st.just([]),
        sender=boxes | st.none(),
        back=st.none() | st.sampled_from([-1, 0, 1000]),
        place=st.none() | st.integers(0, 5),
        limit=st.integers(1, 4),
        oldest_first=st.booleans(),
    )
    def search(
        self,
        box: str,
        asked: list[str],
        sender: str | None,
        back: int | None,
        place: int | None,
        limit: int,
        *,
        oldest_first: bool,
    ) -> None:
        since = None if back is None else self.post.store.clock.now() - back
        said = self.all[-1 - place] if place is not None and place < len(self.all) else None
        wanted = words(asked, ASKED)
        expected = [
            each.id
            for each in self.all
            if box in each.readers
            and wanted <= each.words
            and (sender is None or each.sender == sender)
            and (since is None or each.at >= since)
            and (said is None or each.thread == said.thread)
        ]
        query = Query(
            limit,
            " ".join(asked),
            at(sender) if sender else None,
            since,
            said.id if said else None,
            oldest_first=oldest_first,
        )
        unknown = said is not None and box not in said.readers
        if unknown or (asked and not wanted):
            with pytest.raises(Refusal) as refusal:
                self.run(self.post.store.search(at(box), query))
            assert refusal.value.code is (Code.UNKNOWN_MESSAGE if unknown else Code.BAD_ARGUMENT)
            return
        page = self.run(self.post.store.search(at(box), query))
        found = [hit.message.id for hit in page.hits]
        while page.next is not None:
            assert len(page.hits) == limit
            page = self.run(self.post.store.search(at(box), replace(query, cursor=page.next)))
            found += [hit.message.id for hit in page.hits]
            assert page.complete_until is None
        assert found == (expected if oldest_first else expected[::-1])


@promise("search-words", "search-own", "search-filters", "search-thread", "search-fresh", "cursor")
@pytest.mark.parametrize("engine", ENGINES)
def test_any_search_finds_what_comparing_all_mail_finds(engine: str) -> None:
    tell_stories(Machine, engine)
