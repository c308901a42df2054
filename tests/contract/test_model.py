"""Any order of verbs, against a model that is a list of dataclasses: what Hypothesis finds is a few lines long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, invariant, multiple, rule

from mcp_mailbox.delivery import EVENT_OF, TRANSITIONS, Event, Outcome, State
from mcp_mailbox.errors import Code
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Kind, Priority
from mcp_mailbox.report import POSTMASTER
from mcp_mailbox.store import Show
from tests.contract.engines import ENGINES
from tests.contract.machine import StoreMachine, tell_stories
from tests.contract.post import at, refused
from tests.contract.promises import promise

BOXES = ["ann", "bob"]
READERS = ["one", "two"]
TERM = 100
ATTEMPTS = 2
TOLD = 30
"""Of the postmaster's mail, the latest in which is looked for what came of mail to somebody."""
KINDS = {"acked": Kind.RECEIPT, "Not delivered": Kind.REPORT}
BY_TIME = {Event.EXPIRE, Event.EXHAUST}
ENDS_OF_LEASES = {Event.LAPSE, Event.GIVE_BACK}

boxes = st.sampled_from(BOXES)
readers = st.sampled_from(READERS)
requests = st.sampled_from(["7", "8", "9"])


@dataclass
class Copy:
    """A message in a mailbox, as the model has it. What the postmaster writes has no id until it is listed."""

    box: str
    sender: str
    place: int
    id: str | None
    body: str
    priority: Priority
    state: State = State.STORED
    generation: int = 0
    until: int = 0
    reader: str | None = None
    request: str | None = None
    surfaced: bool = False
    attempts: int = 0
    expires: int = 0
    began: int = 0
    """When it was written."""
    about: frozenset[str] = frozenset()
    """Of a report: to whom that was sent."""
    topic: str | None = None
    receipt: bool = False
    seen: bool = False
    leased: bool = False
    rung: bool = False
    passed_over: bool = False
    """Put off when it was rung for others: of its own time no ring is noted."""
    listed: bool = True
    ended: int = 0
    floor: int = 0
    """Leases after a restore have generations from here on."""

    @property
    def rank(self) -> tuple[int, int]:
        return (3 if self.state.dead_letter else self.priority, self.place)

    def free(self, until: int = 0) -> None:
        self.state = State.STORED
        self.until, self.reader, self.request, self.surfaced = until, None, None, False

    def held(self, now: int) -> bool:
        return self.reader is not None and self.until > now

    def expired(self, now: int) -> bool:
        return 0 < self.expires <= now

    def over(self, now: int) -> bool:
        """Nobody is to be handed it, once nobody holds it."""
        tried = self.reader is not None and self.attempts >= ATTEMPTS
        return not self.state.settled and self.until <= now and (tried or self.expired(now))

    def shown(self, now: int) -> State:
        if self.state.settled:
            return self.state
        if self.held(now):
            return State.LEASED
        if self.seen:
            return State.SURFACED
        return State.RUNG if self.leased else State.STORED  # a listing asks nobody whether it rang


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

    def end(self, copy: Copy, state: State) -> None:
        """End it, and tell its sender where that is owed."""
        copy.free()
        copy.state = state
        copy.listed = state.dead_letter
        owed = state.dead_letter or (state is State.ACKED and copy.receipt)
        if owed and copy.sender in BOXES and copy.sender != copy.box:
            told = "acked" if state is State.ACKED else "Not delivered"
            place = len(self.copies)
            about = (
                frozenset(each.box for each in self.copies if each.id == copy.id) if state.dead_letter else frozenset()
            )
            self.copies.append(Copy(copy.sender, POSTMASTER, place, None, told, Priority.NORMAL, about=about))


def of_outcome(outcome: Outcome) -> set[Event]:
    """What may happen to a delivery by an outcome."""
    events = {EVENT_OF[outcome]} if outcome in EVENT_OF else set()
    more = {
        Outcome.RELEASE: {Event.EXHAUST},
        Outcome.RETRY: {Event.RING},  # what was rung once has been
        Outcome.EXTEND: ENDS_OF_LEASES,  # by no time at all
    }
    return events | more.get(outcome, set())


def reached(state: State, events: set[Event]) -> set[State]:
    """Where a delivery may stand after some of these events."""
    found = {state}
    while more := {TRANSITIONS[each][event] for each in found for event in events & set(TRANSITIONS[each])} - found:
        found |= more
    return found


class Machine(StoreMachine):
    """The verbs as rules. `handles` are what claims gave out and may be stale; `ids` are of any message."""

    handles = Bundle("handles")
    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.events: set[Event] | None = set()
        """What may have happened to deliveries by the last rule; None for anything."""
        self.states: dict[tuple[str, str], State] = {}
        for box in BOXES:
            self.run(self.post.open(box, profile=Profile(attempts=ATTEMPTS)))

    def flush(self) -> None:
        """Wait for what may take a while; the model does not take any."""
        self.run(self.post.store.give_back("nobody", None, surfaced=True))

    @rule(
        target=ids,
        sender=boxes,
        to=st.lists(boxes, min_size=1, max_size=2, unique=True),
        priority=st.sampled_from(Priority),
        body=st.sampled_from(["x", "y" * 50]),
        key=st.sampled_from([None, None, "k", "l"]),
        ttl=st.sampled_from([None, None, TERM // 2, 2 * TERM]),
        delay=st.sampled_from([0, 0, TERM // 4]),
        topic=st.sampled_from([None, None, "t"]),
        receipt=st.booleans(),
        waited=st.sampled_from([None, None, 0, TERM // 4, TERM]),
    )
    def accept(
        self,
        sender: str,
        to: list[str],
        priority: Priority,
        body: str,
        key: str | None,
        ttl: int | None,
        delay: int,
        topic: str | None,
        receipt: bool,
        waited: int | None,
    ) -> Any:
        self.events = {Event.REPLACE}
        content = (frozenset(to), priority, body, ttl, delay, topic, receipt)
        known = self.model.keys.get((sender, key)) if key else None
        options: dict[str, Any] = {"ttl": ttl, "delay": delay, "topic": topic, "receipt": receipt}
        began = self.now - (waited or 0)
        options |= {"written": began} if waited is not None else {}
        answer = self.attempt(self.post.send(sender, *to, body=body, priority=priority, key=key, **options))
        stale = waited is not None and ttl is not None and waited >= ttl
        if isinstance(answer, Code):
            if known is None:
                assert (answer, stale) == (Code.GIVEN_UP, True)
            else:
                assert (answer, known.content != content) == (Code.KEY_CONFLICT, True)
            return multiple()
        assert answer.repeated is (known is not None)
        if known:
            assert (known.id, known.content) == (answer.id, content)
        else:
            assert not stale
            assert all(copy.id != answer.id for copy in self.model.copies)
            for copy in self.model.copies:
                same = topic is not None and (copy.sender, copy.topic) == (sender, topic) and copy.box in to
                unseen = not copy.state.settled and copy.reader is None and not copy.seen
                if same and unseen and copy.began <= began:
                    self.model.end(copy, State.REPLACED)
            place = len(self.model.copies)
            expires = began + ttl if ttl else 0
            until = began + delay if began + delay > self.now else 0
            self.model.copies += [
                Copy(
                    box,
                    sender,
                    place,
                    answer.id,
                    body,
                    priority,
                    expires=expires,
                    until=until,
                    topic=topic,
                    receipt=receipt,
                    began=began,
                )
                for box in to
            ]
            if key:
                self.model.keys[sender, key] = Sent(answer.id, content)
        return answer.id

    def first(self, copies: list[Copy], most: int, size: int) -> list[Copy]:
        """Return so many of them, of so much together, the first one always."""
        found: list[Copy] = []
        used = 0
        for copy in copies:
            length = len(copy.body) if copy.sender != POSTMASTER else self.lengths[copy.id or ""]
            if len(found) == most or (found and used + length > size):
                break
            used += length
            found.append(copy)
        return found

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
        self.events = {Event.CLAIM, *BY_TIME}
        waiting = self.model.waiting(box)
        expected = [c for c in waiting if (c.reader, c.request) == (reader, request)]
        if not expected:
            ready = [
                copy
                for copy in waiting
                if copy.until <= self.now
                and not copy.over(self.now)
                and (copy.reader in (None, reader) or not (present is None or copy.reader in present))
            ]
            wanted = [copy for copy in ready if sender in (None, copy.sender)]
            if not wanted:  # of one who has written nothing, what was told of mail to it
                told = sorted((copy for copy in waiting if copy.sender == POSTMASTER), key=lambda copy: copy.place)
                wanted = [copy for copy in ready if copy in told[-TOLD:] and sender in copy.about]
            expected = self.first(wanted, most, size)
            for copy in waiting:
                if copy.over(self.now) and copy.reader == reader:
                    exhausted = copy.attempts >= ATTEMPTS
                    self.model.end(copy, State.DEAD if exhausted else State.EXPIRED)
            for copy in expected:
                copy.state, copy.surfaced, copy.leased = State.LEASED, False, True
                copy.generation = max(copy.generation + 1, copy.floor)
                copy.until, copy.reader, copy.request = self.now + TERM, reader, request
        found = self.run(
            self.post.claim(box, reader, request, most=most, size=size, term=TERM, present=present, sender=sender)
        )
        assert [d.message.id for d in found] == [c.id for c in expected]
        assert [d.attempts for d in found] == [c.attempts for c in expected]
        held = [c.until if c.held(self.now) else None for c in expected]
        assert [d.lease_until for d in found] == held
        return multiple(*((box, d.handle, c.id, c.generation) for d, c in zip(found, expected, strict=True)))

    @rule(
        handle=handles,
        reader=readers,
        outcome=st.sampled_from(Outcome),
        delay=st.sampled_from([0, TERM // 2]),
    )
    def settle(self, handle: tuple[str, str, str, int], reader: str, outcome: Outcome, delay: int) -> None:
        self.events = of_outcome(outcome)
        box, text, id_, generation = handle
        copy = self.model.find(box, id_)
        delay = delay if outcome in {Outcome.RELEASE, Outcome.EXTEND} else 0
        if copy is None:
            expected: str | None = "unknown_message"  # a restore took it away
        elif outcome is Outcome.ACCEPT:
            expected = "no_request"  # all are one principal's
        elif copy.generation != generation and not (
            outcome in {Outcome.RETRY, Outcome.PURGE} and not copy.state.settled
        ):
            expected = "stale_lease"
        else:
            expected = self._settle(copy, outcome, delay)
        assert refused(self.run(self.post.settle(box, text, outcome=outcome, reader=reader, delay=delay))) == [expected]

    @rule(id_=ids, box=boxes, reader=readers, outcome=st.sampled_from(Outcome))
    def settle_plainly(self, id_: str, box: str, reader: str, outcome: Outcome) -> None:
        self.events = of_outcome(outcome)
        copy = self.model.find(box, id_)
        if copy is None:
            expected: str | None = "unknown_message"
        elif outcome is Outcome.ACCEPT:
            expected = "no_request"
        elif (
            not copy.state.settled
            and copy.held(self.now)
            and copy.reader != reader
            and outcome not in {Outcome.RETRY, Outcome.PURGE}
        ):
            expected = "leased_elsewhere"
        else:
            expected = self._settle(copy, outcome, 0)
        assert refused(self.run(self.post.settle(box, id_, outcome=outcome, reader=reader))) == [expected]

    def _settle(self, copy: Copy, outcome: Outcome, delay: int) -> str | None:
        if outcome in {Outcome.RETRY, Outcome.PURGE}:
            return self._clear(copy, outcome)
        ends = {Outcome.ACK: State.ACKED, Outcome.REJECT: State.REJECTED}
        if copy.state.settled:
            return None if ends.get(outcome) is copy.state else "already_settled"
        if outcome in ends:
            self.model.end(copy, ends[outcome])
        elif outcome is Outcome.EXTEND:
            if copy.reader is None:
                return "stale_lease"
            copy.until = self.now + delay
        elif copy.reader is not None and copy.attempts >= ATTEMPTS:
            self.model.end(copy, State.DEAD)
        else:
            copy.free(self.now + delay if delay else 0)
            copy.seen = True
        return None

    def _clear(self, copy: Copy, outcome: Outcome) -> str | None:
        if not copy.state.dead_letter:
            return None if outcome is Outcome.RETRY and not copy.state.settled else "not_dead"
        if outcome is Outcome.PURGE:
            copy.listed = False
        else:
            copy.free()
            copy.rung, copy.passed_over = copy.rung or copy.passed_over, False
            copy.attempts, copy.expires, copy.topic, copy.seen, copy.leased = 0, 0, None, False, False
        return None

    @rule(target=ids, handle=consumes(handles), to=boxes)
    def reply(self, handle: tuple[str, str, str, int], to: str) -> Any:
        self.events = {Event.ACK}
        box, text, id_, generation = handle
        copy = self.model.find(box, id_)
        answer = self.attempt(self.post.send(box, to, body="reply", reply_to=text))
        if isinstance(answer, Code):
            assert answer is (Code.STALE_LEASE if copy else Code.UNKNOWN_MESSAGE)
            assert copy is None or copy.generation != generation
            return multiple()
        assert copy is not None
        assert copy.generation == generation
        self.model.copies.append(Copy(to, box, len(self.model.copies), answer.id, "reply", Priority.NORMAL))
        if not copy.state.settled:
            self.model.end(copy, State.ACKED)
        return answer.id

    @rule(reader=readers, request=requests | st.none(), surfaced=st.booleans())
    def give_back(self, reader: str, request: str | None, surfaced: bool) -> None:
        self.events = ENDS_OF_LEASES
        returned = [
            c
            for c in self.model.copies
            if not c.state.settled
            and c.reader == reader
            and request in (None, c.request)
            and (surfaced or not c.surfaced)
        ]
        for copy in returned:
            copy.free()
        assert self.run(self.post.store.give_back(reader, request, surfaced=surfaced)) == len(returned)

    @rule(reader=readers, request=requests)
    def surface(self, reader: str, request: str) -> None:
        self.events = {Event.SURFACE}
        for copy in self.model.copies:
            if not copy.state.settled and (copy.reader, copy.request) == (reader, request) and not copy.surfaced:
                copy.surfaced = copy.seen = True
                copy.attempts += 1
        self.run(self.post.store.surface(self.post.origin(reader, request)))
        self.flush()

    @rule(box=boxes, id_=ids)
    def show(self, box: str, id_: str) -> None:
        self.events = {Event.SHOW}
        copy = self.model.find(box, id_)
        if copy is not None and not copy.state.settled:
            copy.seen = True
        self.run(self.post.store.show(at(box), [id_]))
        self.flush()

    @rule(box=boxes)
    def ring(self, box: str) -> None:
        self.events = {Event.RING}
        for copy in self.model.copies:
            if copy.box == box and not copy.rung and not copy.passed_over:
                put_off = copy.state is State.STORED and copy.reader is None and copy.until > self.now
                copy.rung, copy.passed_over = not put_off, put_off
        self.run(self.post.store.note_ring(at(box)))
        self.flush()

    @rule(present=st.sampled_from([frozenset(), frozenset({"one"})]))
    def sweep(self, present: frozenset[str]) -> None:
        self.events = BY_TIME
        for copy in list(self.model.copies):
            if copy.over(self.now) and copy.reader not in present:
                exhausted = copy.reader is not None and copy.attempts >= ATTEMPTS
                self.model.end(copy, State.DEAD if exhausted else State.EXPIRED)
        assert not self.run(self.post.store.sweep(0, present))

    @rule(reader=readers)
    def leave(self, reader: str) -> None:
        self.events = BY_TIME
        mine = [c for c in self.model.copies if not c.state.settled and c.reader == reader and c.until <= self.now]
        assert set(self.run(self.post.store.leave(reader))) == {at(c.box) for c in mine}
        for copy in mine:
            if copy.over(self.now):
                self.model.end(copy, State.DEAD if copy.attempts >= ATTEMPTS else State.EXPIRED)

    @rule(ms=st.sampled_from([1, TERM // 4, TERM // 2, TERM - 1, TERM]))
    def time_passes(self, ms: int) -> None:
        self.events = ENDS_OF_LEASES
        self.clock.step(ms)

    @rule(back=st.sampled_from([0, 0, 500]))
    def reopen(self, back: int) -> None:
        self.events = set()
        before = self.now
        self.run(self.post.engine.close())
        self.clock.step(-back)
        self.run(self.post.engine.open())
        assert self.now == before

    @rule(box=boxes)
    def open_again(self, box: str) -> None:
        self.events = set()
        opened = self.run(self.post.open(box))
        assert not opened.created

    @invariant()
    def the_listings_are_the_models(self) -> None:
        self.lengths: dict[str, int] = {}
        for box in BOXES:
            expected = sorted(
                (c for c in self.model.copies if c.box == box and (not c.state.settled or c.listed)),
                key=lambda c: c.rank,
            )
            shown, cursor, more = [], None, True
            while more:
                page = self.run(self.post.inbox(box, 2, cursor))
                shown += [p.delivery for p in page.previews]
                self.lengths |= {p.delivery.message.id: p.size for p in page.previews}
                cursor, more = page.previews[-1].cursor if page.previews else None, page.more
            assert len(shown) == len(expected)
            # What one verb ended together was told in an order that is the store's to choose.
            known = {copy.id for copy in expected}
            new = iter(d.message for d in shown if d.message.id not in known)
            for copy in sorted((c for c in expected if c.id is None), key=lambda c: c.place):
                message = next(new)
                assert (message.sender, message.kind) == (f"{POSTMASTER}@default", KINDS[copy.body])
                copy.id = message.id
            assert [d.message.id for d in shown] == [c.id for c in expected]
            for delivery, copy in zip(shown, expected, strict=True):
                assert (delivery.state, delivery.attempts) == (copy.shown(self.now), copy.attempts)
                later = copy.until if not copy.state.settled and copy.until > self.now else None
                assert later == (delivery.lease_until or delivery.progress.deliver_at)
            ready = [c for c in self.model.waiting(box) if c.until <= self.now and not c.over(self.now)]
            assert page.unread == len(ready)

    @invariant()
    def each_change_of_a_state_is_in_the_table(self) -> None:
        for copy in self.model.copies:
            if copy.id is None or copy.box not in BOXES:
                continue
            before = self.states.get((copy.box, copy.id), State.STORED)
            if self.events is not None and not TRANSITIONS[before]:
                continue
            own = self.run(self.post.store.read(at(copy.box), copy.id)).own
            assert own is not None
            assert self.events is None or own.state in reached(before, self.events)
            self.states[copy.box, copy.id] = own.state
        self.events = None

    @invariant()
    def what_is_overdue_is_the_models(self) -> None:
        for box in BOXES:
            page = self.run(self.post.inbox(box, show=Show.OVERDUE))
            expected = sorted(
                (c.place, c.box, c.id) for c in self.model.copies if c.sender == box and not c.state.settled
            )
            found = [(p.delivery.message.to, p.delivery.message.id) for p in page.previews]
            assert found == [((f"{to}@default",), id_) for _, to, id_ in expected]

    @invariant()
    def what_is_due_is_the_models(self) -> None:
        waiting = [c for c in self.model.copies if not c.state.settled]
        due = self.run(self.post.store.due(0))
        assert set(due.mailboxes) == {at(c.box) for c in waiting if 0 < c.until <= self.now}
        moments = [moment for c in waiting for moment in (c.until, c.expires) if moment > self.now]
        assert due.next == min(moments, default=None)
        assert due.sweep is any(c.over(self.now) for c in waiting)

    @rule(id_=ids, box=boxes)
    def read(self, id_: str, box: str) -> None:
        self.events = set()
        copy = self.model.find(box, id_)
        sent = {f"{c.box}@default": c for c in self.model.copies if c.id == id_ and c.sender == box}
        found = self.attempt(self.post.store.read(at(box), id_))
        if isinstance(found, Code):
            assert found is Code.UNKNOWN_MESSAGE
            assert copy is None
            assert not sent
            return
        assert (copy is None) == (found.own is None)
        assert {address for address, _ in found.sent} == set(sent)
        for address, progress in found.sent:
            expected = sent[address].shown(self.now)
            if expected is State.STORED and sent[address].rung:
                expected = State.RUNG
            assert progress.state is expected


@promise(
    "durable",
    "order",
    "one-lease",
    "fence",
    "settled-stays",
    "unread",
    "cursor",
    "due",
    "key-repeats",
    "attempts",
    "dead-letters",
    "expires",
    "told",
    "topic",
    "overdue",
    "states",
)
@pytest.mark.parametrize("engine", ENGINES)
def test_any_order_of_verbs_does_what_the_model_does(engine: str) -> None:
    tell_stories(Machine, engine)
