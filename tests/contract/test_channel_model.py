"""Any order of joining, leaving, publishing, reading and forgetting, against a model that keeps a set for each member.

MCP_MAILBOX_EXAMPLES sets how many stories are told (`machine.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from mcp_mailbox.channel import Keep
from mcp_mailbox.delivery import Outcome
from mcp_mailbox.engines.sqlite import fanout
from mcp_mailbox.message import Priority
from mcp_mailbox.store import Query
from tests.contract.engines import ENGINES
from tests.contract.machine import StoreMachine, tell_stories
from tests.contract.post import at, bodies
from tests.contract.promises import promise

BOXES = ["ann", "bob", "cid"]
CHANNELS = ["#one", "#two"]
KEEPS = {"#one": Keep(10**9, 4, 10**9), "#two": Keep(1000, 10**6, 40)}
TERM = 10**10

boxes = st.sampled_from(BOXES)
channels = st.sampled_from(CHANNELS)


@dataclass(frozen=True)
class Said:
    """A message: its number is its age, and its body."""

    number: int
    sender: str
    priority: Priority
    at: int
    size: int
    expires: int
    id: str
    channels: tuple[str, ...]


@dataclass
class Channel:
    """What was ever published, and who is a member."""

    posts: list[Said] = field(default_factory=list)
    members: set[str] = field(default_factory=set)
    unseen: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Of each mailbox the places that it has not come to yet; its own words too, where others stand before them."""

    def kept(self, keep: Keep, now: int) -> list[int]:
        assert keep.age
        assert keep.count
        assert keep.bytes
        found: list[int] = []
        size = 0
        for place in reversed(range(len(self.posts))):
            size += self.posts[place].size
            newest = place == len(self.posts) - 1
            if self.posts[place].at < now - keep.age or len(found) == keep.count or not (newest or size <= keep.bytes):
                break
            found.append(place)
        return found[::-1]


class Machine(StoreMachine):
    """The verbs as rules."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = {name: Channel() for name in CHANNELS}
        self.said: list[Said] = []
        self.inbox: dict[str, dict[int, str]] = {box: {} for box in BOXES}
        """Of each mailbox what was delivered: ready, held or done."""
        self.handles: dict[tuple[str, int], str] = {}
        self.missed: dict[str, Counter[str]] = {box: Counter() for box in BOXES}
        self.run(self.post.mailboxes(*BOXES, "maker"))
        for name, keep in KEEPS.items():
            self.run(self.post.store.subscribe(at("maker"), at(name), None, keep, self.post.origin("maker")))

    # -- the model

    def due(self, box: str, now: int) -> set[int]:
        """What would come if it looked now."""
        found = set()
        for name, channel in self.channels.items():
            kept = set(channel.kept(KEEPS[name], now))
            for place in channel.unseen[box] & kept:
                each = channel.posts[place]
                if each.sender != box and not 0 < each.expires <= now and each.number not in self.inbox[box]:
                    found.add(each.number)
        return found

    def look(self, box: str) -> None:
        now = self.now
        for number in self.due(box, now):
            self.inbox[box][number] = "ready"
        for name, channel in self.channels.items():
            gone = channel.unseen[box] - set(channel.kept(KEEPS[name], now))
            self.missed[box][name] += len(gone)
            channel.unseen[box].clear()

    def ready(self, box: str, now: int) -> list[Said]:
        found = [self.said[number] for number, state in self.inbox[box].items() if state == "ready"]
        return sorted(
            (each for each in found if not 0 < each.expires <= now), key=lambda each: (each.priority, each.number)
        )

    # -- the verbs

    @rule(
        box=boxes,
        to=st.lists(channels, min_size=1, max_size=2, unique=True),
        priority=st.sampled_from(Priority),
        size=st.sampled_from([4, 15]),
        ttl=st.sampled_from([None, None, 300]),
        direct=st.sampled_from([None, None, *BOXES]),
    )
    def publish(
        self, box: str, to: list[str], priority: Priority, size: int, ttl: int | None, direct: str | None
    ) -> None:
        number = len(self.said)
        body = f"{number:04}".ljust(size, ".")
        recipients = [*to, *([direct] if direct else [])]
        sent = self.run(self.post.send(box, *recipients, body=body, priority=priority, ttl=ttl))
        told = {each.address: each.members for each in sent.recipients if each.members is not None}
        assert told == {f"{name}@default": len({*self.channels[name].members, "maker"} - {box}) for name in to}
        expires = self.now + ttl if ttl else 0
        each = Said(number, box, priority, self.now, size, expires, sent.id, tuple(to))
        self.said.append(each)
        for name in to:
            channel = self.channels[name]
            channel.posts.append(each)
            for member in channel.members:
                if member != box or channel.unseen[member]:
                    channel.unseen[member].add(len(channel.posts) - 1)
        if direct:
            self.inbox[direct][number] = "ready"

    @rule(box=boxes, name=channels, back=st.sampled_from([None, None, 0, 1, 2, 3, 6]))
    def join(self, box: str, name: str, back: int | None) -> None:
        channel = self.channels[name]
        count = len(channel.posts)
        begin = None if back is None else (0 if back == 0 else max(0, count - back))
        since = None if begin is None else (0 if back == 0 or begin >= count else channel.posts[begin].id)
        begin = 0 if since == 0 else begin
        answer = self.run(self.post.store.subscribe(at(box), at(name), since, Keep(), self.post.origin(box)))
        channel.members.add(box)
        if begin is not None:
            channel.unseen[box] |= {place for place in channel.kept(KEEPS[name], self.now) if place >= begin}
            assert answer.waiting == len(self.due(box, self.now))
        assert answer.channel.members == len(channel.members) + 1

    @rule(box=boxes, name=channels)
    def leave(self, box: str, name: str) -> None:
        was = self.run(self.post.store.unsubscribe(at(box), at(name), self.post.origin(box)))
        assert was == (box in self.channels[name].members)
        self.channels[name].members.discard(box)

    @rule(box=boxes, most=st.sampled_from([1, 3, 100]))
    def claim(self, box: str, most: int) -> None:
        self.look(box)
        expected = self.ready(box, self.now)[:most]
        found = self.run(self.post.claim(box, most=most, term=TERM))
        assert [int(body[:4]) for body in bodies(found)] == [each.number for each in expected]
        for each, delivery in zip(expected, found, strict=True):
            assert delivery.message.sender == f"{each.sender}@default"
            self.inbox[box][each.number] = "held"
            self.handles[box, each.number] = delivery.handle

    @rule(box=boxes, outcome=st.sampled_from([Outcome.ACK, Outcome.RELEASE]), data=st.data())
    def settle(self, box: str, outcome: Outcome, data: st.DataObject) -> None:
        held = [number for number, state in self.inbox[box].items() if state == "held"]
        if held:
            number = data.draw(st.sampled_from(held))
            [settled] = self.run(self.post.settle(box, self.handles[box, number], outcome=outcome))
            assert settled.refusal is None
            self.inbox[box][number] = "done" if outcome is Outcome.ACK else "ready"

    @precondition(lambda self: self.said)
    @rule(box=boxes, data=st.data())
    def ack_by_id(self, box: str, data: st.DataObject) -> None:
        """Somebody saw it in the channel, and is done with it before it was delivered."""
        due = sorted(self.due(box, self.now))
        if due:
            number = data.draw(st.sampled_from(due))
            [settled] = self.run(self.post.settle(box, self.said[number].id))
            assert settled.refusal is None
            self.inbox[box][number] = "done"

    @rule(box=boxes)
    def listed(self, box: str) -> None:
        self.look(box)
        page = self.run(self.post.inbox(box))
        waiting = {number for number, state in self.inbox[box].items() if state in {"ready", "held"}}
        shown = [int(body[:4]) for body in bodies(page)]
        assert set(shown) == waiting
        assert shown == sorted(shown, key=lambda number: (self.said[number].priority, number))

    @rule(box=boxes)
    def told(self, box: str) -> None:
        found = self.run(self.post.store.skipped(at(box)))
        assert {each.channel.name: each.count for each in found} == dict(+self.missed[box])
        self.run(self.post.store.note_told(at(box), found))
        self.missed[box].clear()

    @rule(name=channels, box=boxes)
    def read_back(self, name: str, box: str) -> None:
        self.look(box)
        found = self.run(self.post.store.search(at(box), Query(100, sender=at(name))))
        channel = self.channels[name]
        kept = [channel.posts[place].number for place in channel.kept(KEEPS[name], self.now)]
        assert [int(hit.message.body[:4]) for hit in found.hits] == kept[::-1]

    @rule(ms=st.sampled_from([1, 299, 300, 700]))
    def time_passes(self, ms: int) -> None:
        self.clock.step(ms)

    @rule()
    def reopen(self) -> None:
        self.run(self.post.reopen())

    @invariant()
    def unread_is_what_a_wait_could_hand_out(self) -> None:
        for box in BOXES:
            found = self.run(self.post.store.mailbox(at(box)))
            assert found is not None
            now = self.now
            assert found.unread == len(self.ready(box, now)) + len(self.due(box, now))


@promise("channel-members", "channel-once", "channel-intervals", "channel-replay", "channel-keeps", "channel-skipped")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("tight", [False, True], ids=["as it is", "tight"])
def test_any_order_of_joining_publishing_and_reading_does_what_the_model_does(
    engine: str, *, tight: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tight:  # so that a few messages are many
        monkeypatch.setattr(fanout, "SLICE", 2)
        monkeypatch.setattr(fanout, "TRIM", 1)
        monkeypatch.setattr(fanout, "TRIM_EVERY", 1)
    tell_stories(Machine, engine)
