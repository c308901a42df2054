"""Appliers of different messages and mailboxes commute, and what is derived equals what is made anew.

An engine may apply the records of many streams in an order of its own, as long as each stream keeps its order. A
stream here is a message with all its deliveries, a channel with all its members, or what a mailbox says of itself and
is told. The one thing that no order may
change is in which order messages are stored: their numbers are counted up, and are what everything else names.

Not here are `ring`, which is of all that has come to a mailbox so far and so goes with none of these streams alone, and
`trim`, which removes what no order needs any more, when it comes to it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_mailbox import addresses, directory
from mcp_mailbox.consent import Standing
from mcp_mailbox.delivery import State
from mcp_mailbox.view import apply, derived
from tests.contract.machine import EXAMPLES

NAMES = ["ann", "bob", "cid"]
BOXES = [1, 2, 3]
CHANNELS = [1, 2]
ENDS = [State.ACKED, State.REJECTED, State.EXPIRED, State.DEAD, State.REPLACED]
Step = Callable[[sqlite3.Connection], object]


def step(applier: Callable[..., object], *values: object, **named: object) -> Step:
    return lambda db: applier(db, *values, **named)


def fresh() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    db.executescript(files("mcp_mailbox.view").joinpath("schema.sql").read_text(encoding="utf-8"))
    for name in NAMES:
        looks, capitals = addresses.skeletons(name)
        written = addresses.written_skeleton(name)
        apply.create_mailbox(
            db,
            apply.NewMailbox("s", name, name, looks, capitals, "o", "", (), 1, "ask", 5, "pool", 9, written),
        )
    for number in CHANNELS:
        name = f"c{number}"
        apply.create_channel(db, apply.NewChannel("s", name, name, name, name, "o", 1, 100, 100, 100))
    return db


def dump(db: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table."""
    names = [
        row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    ]
    return {name: sorted(map(tuple, db.execute(f"SELECT * FROM {name}")), key=repr) for name in names}


@st.composite
def messages(draw: st.DrawFn) -> apply.NewMessage:
    channels = [-number for number in CHANNELS]
    to = draw(st.lists(st.sampled_from([*BOXES, *channels]), min_size=1, max_size=3, unique=True))
    held = draw(st.sets(st.sampled_from(to))) - set(channels)
    sender, priority, body = draw(st.sampled_from(BOXES)), draw(st.integers(0, 2)), draw(st.text("ab ", max_size=5))
    expires = draw(st.sampled_from([0, 50]))
    return apply.NewMessage(None, sender, "s", to, None, priority, 10, "", body, expires=expires, held=held)


@st.composite
def requests(draw: st.DrawFn, box: int, seq: int, sender: int) -> tuple[list[Step], State | None]:
    """What becomes of a message that a mailbox holds, and where it stands then; None while it is held."""
    at = 60 + box
    steps = [step(apply.ask, apply.NewRequest(box, sender, at, seq, 0, "p", 99, 0, None))]
    state = draw(st.sampled_from([None, State.STORED, State.REJECTED, State.EXPIRED]))
    if state is State.STORED:
        steps += [
            step(apply.let_in, box, sender, at),
            step(apply.place, box, sender, Standing.LET_IN, at),
            step(apply.note_let_in, box, sender, at),
        ]
    elif state is not None:
        steps.append(step(apply.turn_away, box, seq, state, at, "why"))
        steps.append(step(apply.place, box, sender, Standing.DECLINED, at))
    return steps, state


def copies(new: apply.NewMessage) -> st.SearchStrategy[dict[int, int]]:
    """Who gets a message by a channel, and by which."""
    boxes, channels = sorted(set(BOXES) - set(new.recipients)), [-each for each in new.recipients if each < 0]
    if not boxes or not channels:
        return st.just({})
    return st.dictionaries(st.sampled_from(boxes), st.sampled_from(channels))


@st.composite
def deliveries(draw: st.DrawFn, seq: int, new: apply.NewMessage) -> list[Step]:
    """What becomes of a message, in each of its mailboxes, and at last of itself."""
    steps: list[Step] = []
    direct = [each for each in new.recipients if each > 0 and each not in new.held]
    waiting = dict.fromkeys(direct, True)
    ended: dict[int, State] = {}
    for box in sorted(new.held):
        begun, state = draw(requests(box, seq, new.sender))
        steps += begun
        if state is not None:
            waiting[box] = not state.settled
            ended[box] = state
    for box, channel in draw(copies(new)).items():
        steps.append(step(_deliver, box, channel, seq))
        waiting[box] = True
    for turn in range(draw(st.integers(0, 12)) if waiting else 0):
        box = draw(st.sampled_from(sorted(waiting)))
        key, at, who = (box, new.priority, seq), 100 + turn, f"{seq} {box}"
        if waiting[box]:
            end = draw(st.sampled_from([None, *ENDS]))
            plain: list[Step] = [
                step(apply.lease, [(turn + 1, key)], at, at + 9, who, "r"),
                step(apply.surface, who, "r", at),
                step(apply.show, [key], at),
                step(apply.give_back, key),
                step(apply.release, key, at, at + 5),
                step(apply.extend, key, at + 50),
            ]
            if end is None:
                steps.append(draw(st.sampled_from(plain)))
            else:
                steps.append(step(apply.settle, key, end, at, "why"))
                waiting[box], ended[box] = False, end
        elif ended[box].dead_letter:
            if draw(st.booleans()):
                steps.append(step(apply.revive, box, seq))
                waiting[box] = True
            else:
                steps.append(step(apply.purge, box, seq))
    held = set(new.held) - set(waiting)
    if not any(waiting.values()) and not held and draw(st.booleans()):
        steps.append(step(apply.forget_message, seq, new.recipients))
    return steps


def _deliver(db: sqlite3.Connection, box: int, channel: int, seq: int) -> None:
    row = db.execute(
        "SELECT p.*, m.priority, m.thread FROM channel_message p JOIN message m ON m.seq = p.seq"
        " WHERE p.channel = ? AND p.seq = ?",
        (channel, seq),
    ).fetchone()
    if row is not None:
        apply.deliver(db, box, channel, row, None)


@st.composite
def memberships(draw: st.DrawFn, channel: int, places: int) -> list[Step]:
    """What becomes of a channel in which so much was published."""
    steps: list[Step] = []
    since: dict[int, int] = {}
    for _ in range(draw(st.integers(0, 8))):
        box, place = draw(st.sampled_from(BOXES)), draw(st.integers(0, places))
        if box not in since:
            steps += [step(apply.join, box, channel, place), step(apply.count_members, channel, 1)]
            since[box] = place
            continue
        choices: list[Step] = [
            step(apply.advance, box, channel, since[box], place),
            step(apply.skip, box, channel, draw(st.sampled_from([1, 2, -1]))),
            step(apply.supersede, channel, place),
            step(apply.keep, channel, age=place, count=None, bytes=place),
        ]
        if draw(st.booleans()):
            steps.append(draw(st.sampled_from(choices)))
        else:
            steps += [step(apply.leave_channel, box, channel, places), step(apply.count_members, channel, -1)]
            del since[box]
    return steps


@st.composite
def sayings(draw: st.DrawFn, box: int) -> list[Step]:
    """What a mailbox says of itself, and holds."""
    steps: list[Step] = []
    for turn in range(draw(st.integers(0, 6))):
        about = draw(st.sampled_from(["", "code review", "Straße"]))
        terms = directory.terms(NAMES[box - 1], about, ())
        holding = apply.Holding(box, draw(st.sampled_from(["a", "b"])), "s", "exclusive", "", turn, turn + 9)
        choices: list[list[Step]] = [
            [
                step(apply.describe_mailbox, box, about=about),
                step(apply.list_mailbox, box, "s", terms),
            ],
            [step(apply.note_seen, box, turn)],
            [step(apply.say_status, box, "busy", turn % 2 == 0, turn)],
            [step(apply.hold, holding)],
            [step(apply.let_go, box, holding.name)],
            [step(apply.occupy, box, f"r{turn}", "", turn)],
            [step(apply.bind_reader, f"r{box}", box, turn)],
        ]
        steps += draw(st.sampled_from(choices))
    return steps


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[apply.NewMessage], list[list[Step]], list[list[int]]]:
    """Messages, streams, and two orders in which their steps come."""
    new = draw(st.lists(messages(), min_size=1, max_size=4))
    asked: set[tuple[int, int]] = set()
    for place, each in enumerate(new):  # who asks twice is one stream: of each sender a mailbox holds one message
        held = [box for box in each.held if (box, each.sender) not in asked]
        new[place] = replace(each, held=held)
        asked.update((box, each.sender) for box in held)
    streams = [draw(deliveries(seq, each)) for seq, each in enumerate(new, start=1)]
    streams += [draw(sayings(box)) for box in BOXES]
    streams += [draw(memberships(each, sum(-each in one.recipients for one in new))) for each in CHANNELS]
    turns = [number for number, stream in enumerate(streams) for _ in stream]
    return new, streams, [draw(st.permutations(turns)), draw(st.permutations(turns))]


def told(
    new: Sequence[apply.NewMessage], streams: Sequence[Sequence[Step]], order: Sequence[int]
) -> sqlite3.Connection:
    db = fresh()
    for each in new:
        apply.store_message(db, each)
    left: list[Iterator[Step]] = [iter(stream) for stream in streams]
    for number in order:
        next(left[number])(db)
    return db


@settings(max_examples=EXAMPLES, deadline=None)
@given(histories())
def test_any_order_that_keeps_each_streams_own_gives_the_same_view(
    history: tuple[list[apply.NewMessage], list[list[Step]], list[list[int]]],
) -> None:
    new, streams, orders = history
    one, other = [told(new, streams, order) for order in orders]
    with closing(one), closing(other):
        assert dump(one) == dump(other)


@settings(max_examples=EXAMPLES, deadline=None)
@given(histories())
def test_what_is_derived_is_what_it_is_when_it_is_made_anew(
    history: tuple[list[apply.NewMessage], list[list[Step]], list[list[int]]],
) -> None:
    new, streams, orders = history
    with closing(told(new, streams, orders[0])) as db:
        assert derived.differing(db) == {}
        before = dump(db)
        derived.rebuild(db)
        assert dump(db) == before


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("counter", "UPDATE counter SET unsettled = unsettled + 1 WHERE mailbox = 1"),
        ("counter", "DELETE FROM counter WHERE mailbox = 2"),
        ("mailbox_term", "DELETE FROM mailbox_term WHERE mailbox = 1"),
        ("mailbox_term", "INSERT INTO mailbox_term VALUES (3, 'x', 's')"),
        ("inbox", "UPDATE inbox SET thread = 7"),
        ("space_size", "UPDATE space_size SET bytes = bytes + 1"),
        ("space_size", "DELETE FROM space_size"),
        ("done.listed", "UPDATE done SET listed = 1"),
        ("channel.members", "UPDATE channel SET members = 2 WHERE id = 1"),
        ("channel_message", "UPDATE channel_message SET sender = 2"),
    ],
)
def test_what_differs_is_found_and_made_right(name: str, damage: str) -> None:
    with closing(fresh()) as db:
        for _ in range(2):
            apply.store_message(db, apply.NewMessage(None, 1, "s", (2,), None, 1, 10, "", "x"))
        apply.store_message(db, apply.NewMessage(None, 1, "s", (-1,), None, 1, 10, "", "x"))
        apply.join(db, 3, 1, 0)
        apply.count_members(db, 1, 1)
        apply.settle(db, (2, 1, 1), State.ACKED, 11)
        before = dump(db)
        db.execute(damage)
        assert derived.differing(db) == {name: 1}
        derived.rebuild(db)
        assert dump(db) == before
