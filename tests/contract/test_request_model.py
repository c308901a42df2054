"""Any order of strangers writing and an owner deciding, against a model that is a dictionary.

MCP_MAILBOX_EXAMPLES sets how many stories are told (`machine.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from mcp_mailbox.consent import ASK_AGAIN, REQUEST_TERM, Standing
from mcp_mailbox.delivery import Outcome, State
from mcp_mailbox.errors import Code
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.message import Kind
from mcp_mailbox.store import Show
from tests.contract.engines import ENGINES
from tests.contract.machine import StoreMachine, tell_stories
from tests.contract.post import at, refused
from tests.contract.promises import promise

STRANGERS = {"eve": "eve", "evil": "eve", "sam": "sam"}
"""Mailboxes, and whose they are."""
TTL = 1000

strangers = st.sampled_from(list(STRANGERS))


@dataclass
class Sent:
    """A message to bob. One that is held has `until`, when it lapses."""

    sender: str
    id: str
    state: State
    expires: int = 0
    until: int = 0
    let_in: bool = False


@dataclass
class Notice:
    """What the postmaster wrote to bob of a stranger."""

    about: str
    id: str
    until: int
    waits: bool = True


@dataclass
class Model:
    """What bob's mailbox must be like."""

    contact: Contact = Contact.ASK
    standing: dict[str, tuple[Standing, int]] = field(default_factory=dict)
    asked_by: dict[str, Sent] = field(default_factory=dict)
    """The last message by which each stranger asked."""
    sent: list[Sent] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def held(self) -> list[Sent]:
        return [each for each in self.sent if each.state is State.HELD]

    def put_away(self, about: str) -> None:
        for each in [each for each in self.notices if each.about == about][-1:]:
            each.waits = False


class Machine(StoreMachine):
    """The verbs as rules."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.run(self.post.open("bob", profile=Profile(contact=Contact.ASK)))
        for name, owner in STRANGERS.items():
            self.run(self.post.open(name, owner=owner, profile=Profile(contact=Contact.OPEN)))

    def expected(self, sender: str) -> Code | State:
        """What becomes of a message now."""
        standing, since = self.model.standing.get(sender, (None, 0))
        if self.model.contact in {Contact.OPEN, Contact.SPACE}:
            return State.STORED
        if self.model.contact is Contact.CLOSED:
            return Code.UNKNOWN_MAILBOX
        if standing is Standing.LET_IN:
            return State.STORED
        if standing is Standing.DECLINED:
            return Code.CONTACT_DECLINED
        if standing is Standing.ASKED or (standing is Standing.LAPSED and self.now < since + ASK_AGAIN):
            return Code.CONTACT_PENDING
        return State.HELD

    @rule(sender=strangers, ttl=st.sampled_from([None, None, TTL]))
    def write(self, sender: str, ttl: int | None) -> None:
        expected = self.expected(sender)
        before = {p.delivery.message.id for p in self.run(self.post.inbox("bob")).previews}
        answer = self.attempt(self.post.send(sender, "bob", body=sender, ttl=ttl))
        if isinstance(answer, Code):
            assert answer is expected
            return
        assert expected is (State.HELD if answer.recipients[0].held else State.STORED)
        sent = Sent(sender, answer.id, expected, self.now + ttl if ttl else 0)
        self.model.sent.append(sent)
        if expected is State.HELD:
            sent.until = self.now + (ttl or REQUEST_TERM)
            self.model.standing[sender] = (Standing.ASKED, self.now)
            self.model.asked_by[sender] = sent
            [told] = {p.delivery.message.id for p in self.run(self.post.inbox("bob")).previews} - before
            self.model.notices.append(Notice(sender, told, sent.until))

    @rule(sender=strangers, outcome=st.sampled_from([Outcome.ACCEPT, Outcome.REJECT]), by=st.integers(0, 3))
    def decide_by_a_notice(self, sender: str, outcome: Outcome, by: int) -> None:
        told = [each for each in self.model.notices if each.about == sender]
        if told:
            notice = told[by % len(told)]
            assert refused(self.run(self.post.settle("bob", notice.id, outcome=outcome))) == [None]
            self._decided(sender, outcome)
            notice.waits = False

    @rule(sender=strangers)
    def ack_the_notice(self, sender: str) -> None:
        """Done with being told, and nothing is decided."""
        for notice in [each for each in self.model.notices if each.about == sender and each.waits]:
            assert refused(self.run(self.post.settle("bob", notice.id))) == [None]
            notice.waits = False

    @rule(sender=strangers, outcome=st.sampled_from([Outcome.ACCEPT, Outcome.REJECT]))
    def decide_by_the_message(self, sender: str, outcome: Outcome) -> None:
        sent = self.model.asked_by.get(sender)
        if sent is None or (outcome is Outcome.REJECT and sent.let_in):
            return  # that is to reject mail, which other tests are about
        repeats = self.model.standing[sender][0] is Standing.LET_IN
        expected = ["no_request"] if sent.let_in and not repeats else [None]
        assert refused(self.run(self.post.settle("bob", sent.id, outcome=outcome))) == expected
        if not sent.let_in:
            self._decided(sender, outcome)

    def _decided(self, sender: str, outcome: Outcome) -> None:
        standing = Standing.LET_IN if outcome is Outcome.ACCEPT else Standing.DECLINED
        sent = self.model.asked_by[sender]
        if standing is Standing.LET_IN and not sent.let_in:
            if sent.state is not State.HELD:
                sent.expires = 0  # as everything that is put back
            sent.let_in, sent.state = True, State.STORED
        elif sent.state is State.HELD:
            sent.state = State.REJECTED
        if self.model.standing[sender][0] is not standing:
            self.model.standing[sender] = (standing, self.now)
        self.model.put_away(sender)

    @rule(to=strangers, answers=st.booleans())
    def write_to_a_stranger(self, to: str, answers: bool) -> None:
        held = next((each for each in self.model.held() if each.sender == to), None)
        reply_to = held.id if held is not None and answers else None
        self.run(self.post.send("bob", to, reply_to=reply_to))
        if held is not None and self.model.contact is not Contact.OPEN:
            self._decided(to, Outcome.ACCEPT)
            held.state = State.ACKED if answers else State.STORED

    @rule(contact=st.sampled_from([Contact.ASK, Contact.ASK, *Contact]))
    def change_the_policy(self, contact: Contact) -> None:
        self.run(self.post.open("bob", profile=Profile(contact=contact)))
        self.model.contact = contact
        if contact in {Contact.OPEN, Contact.SPACE}:
            for sent in self.model.held():
                sent.state, sent.let_in = State.STORED, True
                self.model.standing[sent.sender] = (Standing.LAPSED, 0)
                self.model.put_away(sent.sender)

    @rule(ms=st.sampled_from([1, TTL, ASK_AGAIN, REQUEST_TERM]))
    def time_passes(self, ms: int) -> None:
        self.clock.step(ms)

    @rule()
    def sweep(self) -> None:
        self.run(self.post.store.sweep(0, ()))
        for sent in self.model.sent:
            if sent.state is State.HELD and sent.until <= self.now:
                sent.state = State.EXPIRED
                self.model.standing[sent.sender] = (Standing.LAPSED, self.now)
            elif sent.state is State.STORED and 0 < sent.expires <= self.now:
                sent.state = State.EXPIRED
        for notice in self.model.notices:
            notice.waits = notice.waits and notice.until > self.now

    @rule()
    def reopen(self) -> None:
        self.run(self.post.reopen())

    @invariant()
    def what_waits_is_the_models(self) -> None:
        page = self.run(self.post.inbox("bob", show=Show.REQUESTS))
        assert [each.delivery.message.id for each in page.previews] == [each.id for each in self.model.held()]
        listed = [each.delivery for each in self.run(self.post.inbox("bob")).previews]
        mail = {each.message.id for each in listed if each.message.kind is Kind.MESSAGE and not each.state.dead_letter}
        waiting = [each for each in self.model.sent if each.state is State.STORED]
        assert mail == {each.id for each in waiting}
        ready = [each for each in waiting if not 0 < each.expires <= self.now]
        told = [each for each in self.model.notices if each.waits and each.until > self.now]
        assert page.unread == len(ready) + len(told)

    @invariant()
    def what_is_due_is_the_models(self) -> None:
        moments = [each.until for each in self.model.held()]
        moments += [each.expires for each in self.model.sent if each.state is State.STORED]
        moments += [each.until for each in self.model.notices if each.waits]
        assert self.run(self.post.store.due(0)).next == min((each for each in moments if each > self.now), default=None)

    @invariant()
    def what_senders_see_is_the_models(self) -> None:
        for sent in self.model.sent:
            [(address, progress)] = self.run(self.post.store.read(at(sent.sender), sent.id)).sent
            assert (address, progress.state) == ("bob@default", sent.state)


@promise("ask-holds", "ask-consent", "ask-decline", "ask-lapse", "ask-policy")
@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_strangers_and_the_owner_do_is_as_the_model_says(engine: str) -> None:
    tell_stories(Machine, engine)
