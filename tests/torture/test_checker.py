"""The checker is worth what it catches: a clean history passes, and each planted fault is named by its number."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.torture import history
from tests.torture.checker import check
from tests.torture.history import Entry, Histories, Op, Session, Strike, Wait

SECOND = 1_000_000_000
BOX = "box-0@default"
SENDER = "sender-0@default"
NOBODY = "nobody-there@default"
STORED = {"state": "stored"}
Message = dict[str, Any]
Plant = Callable[[Histories], None]


def sent(number: int, at: float, result: history.Result = "ok", **changed: Any) -> Op:
    token = f"sender-0#{number}"
    args = {
        "sender": SENDER,
        "to": [BOX],
        "token": token,
        "key": f"key-{token}",
        "digest": f"digest {number}",
        "priority": "normal",
        "subject": f"about {token}",
        "reply_to": None,
    }
    answer = {"id": f"id{number}", "to": {BOX: "stored"}, "repeated": False}
    op = Op("sender-0", "sender-0.0.1", "send", _ns(at), args | changed, result, _ns(at + 0.1))
    op.answer = answer if result == "ok" else {"why": "time-out"}
    return op


def message(number: int, generation: int = 1, lease_until: float = 100, **changed: Any) -> Message:
    found = {
        "id": f"id{number}",
        "generation": generation,
        "token": f"sender-0#{number}",
        "digest": f"digest {number}",
        "from": SENDER,
        "priority": "normal",
        "subject": f"about sender-0#{number}",
        "lease_until_ns": _ns(lease_until),
    }
    return found | changed


def waited(reader: int, at: float, *messages: Message, ack: tuple[str, ...] = (), lasting: float = 0.1) -> Op:
    args = {"mailbox": BOX, "ack": list(ack), "timeout": 1}
    op = Op(f"reader-{reader}", f"reader-{reader}.0.1", "wait", _ns(at), args, "ok", _ns(at + lasting))
    op.answer = {"messages": list(messages), "ack_failed": {}}
    return op


def settled(reader: int, at: float, *ids: str, outcome: str = "ack", result: history.Result = "ok") -> Op:
    args = {"mailbox": BOX, "ids": list(ids), "outcome": outcome}
    op = Op(f"reader-{reader}", f"reader-{reader}.0.1", "settle", _ns(at), args, result, _ns(at + 0.1))
    op.answer = {"settled": list(ids), "failed": {}} if result == "ok" else {"why": "lost"}
    return op


def report(id_: str, about: str) -> Message:
    """What the postmaster writes to the sender of a message that was rejected."""
    words = f"Your message {about} to {BOX} was rejected."
    return message(0, id=id_, token=words, kind="report", subject="Not delivered") | {"from": "postmaster@default"}


def told(at: float, *reports: Message) -> Op:
    op = waited(0, at, *reports)
    op.args = {**op.args, "mailbox": SENDER}
    return op


def clean() -> Histories:
    """Three letters: one is retried and comes back after its reader was killed, one is rejected and its sender told."""
    ops = [
        sent(1, 0),
        sent(2, 1, "unknown"),
        sent(2, 2),
        sent(3, 3),
        waited(0, 4, message(1), message(2)),
        settled(0, 5, "id1.1"),
        waited(1, 20, message(2, 2), message(3)),
        settled(1, 21, "id2.2"),
        settled(1, 22, "id3.1", outcome="reject"),
        told(23, report("n1", "id3")),
    ]
    sessions = {f"reader-{n}.0.1": Session(f"reader-{n}.0.1", f"reader-{n}", 10 + n, 20 + n, 0) for n in range(3)}
    sessions["reader-0.0.1"].lost = True
    strikes = [Strike(_ns(6), "agent", (10, 20))]
    return Histories(ops, sessions, strikes, {BOX: {"id3": "rejected"}})


def _ns(seconds: float) -> int:
    return int(seconds * SECOND)


def _op(histories: Histories, kind: str, place: int) -> Op:
    return [op for op in histories.ops if op.op == kind][place]


def _messages(histories: Histories, place: int) -> list[Message]:
    found: list[Message] = _op(histories, "wait", place).answer["messages"]
    return found


# -- the plants: what each does to the clean history


def lose_a_letter(histories: Histories) -> None:
    histories.ops.append(sent(4, 3.5))


def lose_one_recipient(histories: Histories) -> None:
    op = sent(4, 3.5, to=[BOX, "box-1@default"])
    op.answer = {**op.answer, "to": {BOX: "stored", "box-1@default": "stored"}}
    histories.ops += [op, waited(1, 23, message(4)), settled(1, 24, "id4.1")]


def lose_what_was_handed_out(histories: Histories) -> None:
    histories.ops = [op for op in histories.ops if "id2.2" not in op.args.get("ids", ())]


def lose_what_was_released(histories: Histories) -> None:
    _op(histories, "settle", 1).args = {"mailbox": BOX, "ids": ["id2.2"], "outcome": "release"}


def make_a_message_up(histories: Histories) -> None:
    _messages(histories, 1).append(message(9))


def receive_what_was_refused(histories: Histories) -> None:
    histories.ops.append(sent(9, 3.5, "fail"))
    _messages(histories, 1).append(message(9))


def report_what_nobody_rejected(histories: Histories) -> None:
    histories.ops.append(told(24, report("n2", "id1")))


def report_a_rejection_twice(histories: Histories) -> None:
    histories.ops.append(told(24, report("n2", "id3")))


def change_the_body(histories: Histories) -> None:
    _messages(histories, 1)[0]["digest"] = "another"


def change_the_end_of_a_long_body(histories: Histories) -> None:
    _messages(histories, 0)[0]["digest"] = None
    read = Op("reader-0", "reader-0.0.1", "read", _ns(4.2), {"mailbox": BOX, "id": "id1.1"}, "ok", _ns(4.3))
    read.answer = {"id": "id1", "token": "sender-0#1", "digest": "another"}
    histories.ops.append(read)


def forge_the_sender(histories: Histories) -> None:
    _messages(histories, 1)[0]["from"] = "somebody@default"


def deliver_to_another_mailbox(histories: Histories) -> None:
    op = waited(2, 30, message(1))
    op.args = {"mailbox": "box-1@default", "ack": [], "timeout": 1}
    histories.ops.append(op)


def store_a_retry_twice(histories: Histories) -> None:
    _messages(histories, 1).append(message(2, id="id2b"))


def answer_a_retry_with_another_id(histories: Histories) -> None:
    again = sent(2, 2.5)
    again.answer = {**again.answer, "id": "id2b"}
    histories.ops.append(again)


def refuse_a_retry(histories: Histories) -> None:
    op = sent(2, 2.5, "fail")
    op.answer = {"why": "key_conflict"}
    histories.ops.append(op)


def swap_within_an_answer(histories: Histories) -> None:
    _messages(histories, 0).reverse()


def swap_two_answers(histories: Histories) -> None:
    histories.ops += [
        sent(4, 3.2),
        sent(5, 3.4),
        waited(1, 30, message(5)),
        waited(1, 31, message(4)),
        settled(1, 32, "id4.1", "id5.1"),
    ]


def hand_out_twice(histories: Histories) -> None:
    histories.ops.append(waited(2, 4.5, message(2, 2)))


def hand_out_the_same_lease_to_two(histories: Histories) -> None:
    histories.ops.append(waited(2, 20, message(2, 2)))


def steal_a_lease(histories: Histories) -> None:
    histories.strikes.clear()
    histories.sessions["reader-0.0.1"].lost = False


def deliver_after_the_ack(histories: Histories) -> None:
    histories.ops.append(waited(2, 30, message(1, 2)))


def deliver_after_a_rejection(histories: Histories) -> None:
    histories.ops.append(waited(2, 30, message(3, 2)))


def deliver_after_an_ack_with_the_wait(histories: Histories) -> None:
    histories.ops += [waited(1, 20.5, ack=("id2.2",)), waited(2, 30, message(2, 3))]


def deliver_after_a_reply(histories: Histories) -> None:
    answer = sent(1, 5, sender=BOX, to=[SENDER], token="reader-0#1", reply_to="id1.1")
    answer.answer = {"id": "id8", "to": {SENDER: "nothing"}, "repeated": False}
    histories.ops = [op for op in histories.ops if op.args.get("ids") != ["id1.1"]]
    histories.ops += [answer, waited(2, 30, message(1, 2))]


def let_an_old_lease_ack(histories: Histories) -> None:
    _op(histories, "settle", 1).args = {"mailbox": BOX, "ids": ["id2.1"], "outcome": "ack"}


def moved(kind: str, at: float, result: history.Result = "ok") -> Op:
    args = {"mailbox": BOX, "channel": "#news@default"}
    return Op("setup", "setup-0.0.1", kind, _ns(at), args, result, _ns(at + 0.1))


def published(number: int, at: float) -> Op:
    op = sent(number, at, to=["#news@default"])
    op.answer = {**op.answer, "to": {"#news@default": "stored"}}
    return op


def keep_from_a_member(histories: Histories) -> None:
    histories.ops += [moved("subscribe", 3.2), published(4, 3.5)]


def deliver_to_who_has_left(histories: Histories) -> None:
    histories.ops += [moved("subscribe", 3.2), moved("leave", 3.3), published(4, 3.5)]
    histories.ops += [waited(1, 30, message(4)), settled(1, 31, "id4.1")]


def lose_it_at_a_member(histories: Histories) -> None:
    histories.ops += [moved("subscribe", 3.2), published(4, 3.5), waited(1, 30, message(4))]


# -- the same at an edge


def pledged(number: int, at: float, *, entry: int = 7, **changed: Any) -> Op:
    """A letter that an edge's outbox took in, under that number; `put` notes the outbox's side."""
    op = sent(number, at, **changed)
    op.session = "sender-0.0.1"
    op.answer = {
        "id": f"outbox-{entry}",
        "to": dict.fromkeys(op.args["to"], "outbox"),
        "repeated": False,
        "accepted": "outbox",
    }
    return op


def put(histories: Histories, op: Op, answered: float, **answer: Any) -> None:
    """Have the outbox know it, and the hub's answer."""
    number = int(op.answer["id"].partition("-")[2])
    args = op.args
    given = {"body": f"{args['token']}\nwords", "to": args["to"]}
    given |= {"reply_to": args["reply_to"]} if args["reply_to"] else {}
    said = {
        "id": f"id{args['token'].partition('#')[2]}",
        "to": [{"address": each, **({"error": "no_mailbox"} if each == NOBODY else STORED)} for each in args["to"]],
    }
    at, until = op.invoke_ns, _ns(answered)
    histories.outbox[number] = Entry(number, "send", args["sender"], given, at, until, answer or said)
    histories.sessions["sender-0.0.1"] = Session("sender-0.0.1", "sender-0", 15, 25, 0, over="edge")
    histories.ops.append(op)


def undelivered(id_: str, number: int, to: str, why: str = "") -> Message:
    """What the postmaster writes of what an outbox had; `why` of some recipients alone."""
    fate = "was sent as id4, but not to all" if why else "was not sent"
    words = f"Your message outbox-{number} to {to}, about 'x', {fate}."
    said = f"{words}\n{why or 'The lease is over.'}\nThe others have it."
    return report(id_, "x") | {"token": words, "said": said}


def forget_what_the_outbox_took_in(histories: Histories) -> None:
    histories.ops.append(pledged(4, 3.5))


def leave_it_in_the_outbox(histories: Histories) -> None:
    op = pledged(4, 3.5)
    put(histories, op, 4)
    histories.outbox[7] = replace(histories.outbox[7], answer=None, answered_ns=None)


def lose_it_behind_the_outbox(histories: Histories) -> None:
    put(histories, pledged(4, 3.5), 4)


def refuse_it_late_and_tell_nobody(histories: Histories) -> None:
    put(histories, pledged(4, 3.5), 4, error="stale_lease")


def tell_nobody_of_a_recipient_that_does_not_exist(histories: Histories) -> None:
    put(histories, pledged(4, 3.5, to=[BOX, NOBODY]), 4)
    histories.ops += [waited(1, 30, message(4)), settled(1, 31, "id4.1")]


def refuse_late_what_has_no_reason(histories: Histories) -> None:
    put(histories, pledged(4, 3.5), 4, error="no_mailbox")
    histories.ops.append(told(24, undelivered("n2", 7, "box-0")))


def tell_that_nobody_has_what_came(histories: Histories) -> None:
    put(histories, pledged(4, 3.5, reply_to="id1.1"), 4, error="stale_lease")
    histories.ops += [waited(1, 30, message(4)), settled(1, 31, "id4.1"), told(24, undelivered("n2", 7, "box-0"))]


def tell_of_another_recipient(histories: Histories) -> None:
    put(histories, pledged(4, 3.5, to=[BOX, NOBODY]), 4)
    histories.ops += [waited(1, 30, message(4)), settled(1, 31, "id4.1")]
    histories.ops.append(told(24, undelivered("n2", 7, "box-0", f"{BOX}: No mailbox.")))


def tell_twice_what_was_refused_late(histories: Histories) -> None:
    put(histories, pledged(4, 3.5, to=[BOX, NOBODY]), 4)
    histories.ops += [waited(1, 30, message(4)), settled(1, 31, "id4.1")]
    twice = [undelivered(each, 7, "box-0", f"{NOBODY}: No mailbox.") for each in ("n2", "n3")]
    histories.ops.append(told(24, *twice))


def send_directly_and_by_the_outbox(histories: Histories) -> None:
    put(histories, pledged(2, 2.5), 4, id="id2b", to=[])


def overtake_the_outbox(histories: Histories) -> None:
    put(histories, pledged(4, 3.2), 20)
    later = sent(5, 3.5)
    later.session = "sender-0.0.1"
    histories.ops += [later, waited(1, 21, message(5)), waited(1, 22, message(4)), settled(1, 31, "id4.1", "id5.1")]


def overtake_what_had_reached_the_hub(histories: Histories) -> None:
    put(histories, pledged(4, 3.2), 4)
    histories.ops += [
        sent(5, 5),
        waited(1, 21, message(5)),
        waited(1, 22, message(4)),
        settled(1, 31, "id4.1", "id5.1"),
    ]


def deliver_after_an_ack_that_reached_the_hub(histories: Histories) -> None:
    op = settled(1, 21, "id2.2")
    op.answer = {"settled": ["id2.2"], "failed": {}, "accepted": "outbox"}
    given = {"ids": ["id2.2"], "outcome": "ack"}
    histories.ops = [each for each in histories.ops if each.args.get("ids") != ["id2.2"]]
    histories.ops += [op, waited(2, 40, message(2, 3))]
    histories.outbox[7] = Entry(7, "settle", BOX, given, _ns(21), _ns(30), {"settled": ["id2.2"]})


def keep_it_from_readers_who_wait(histories: Histories) -> None:
    drain = waited(0, 90, message(4))
    drain.client = "drain"
    histories.ops += [sent(4, 3.5), waited(1, 70), drain, settled(0, 91, "id4.1")]
    histories.wait = Wait(_ns(30), _ns(80), emptied=False)


def another_file(histories: Histories) -> None:
    _messages(histories, 0)[0]["files"] = ["other.txt"]


def no_file(histories: Histories) -> None:
    _op(histories, "send", 0).args = {**_op(histories, "send", 0).args, "file": ["plan.txt", "digest"]}


def another_content(histories: Histories) -> None:
    _op(histories, "send", 0).args = {**_op(histories, "send", 0).args, "file": ["plan.txt", "digest"]}
    _messages(histories, 0)[0]["files"] = ["plan.txt"]
    histories.ops.append(_opened("plan.txt", "another digest"))


def a_wrong_signature(histories: Histories) -> None:
    word = "signature does not match: it is by another key"
    _messages(histories, 0)[0]["verified"] = word


def _opened(name: str, digest: str) -> Op:
    args = {"mailbox": BOX, "id": "id1.1", "name": name}
    op = Op("reader-0", "reader-0.0.1", "file", _ns(4.2), args, "ok", _ns(4.3))
    op.answer = {"id": "id1", "name": name, "digest": digest}
    return op


PLANTS: list[tuple[Plant, int]] = [
    (another_file, 2),
    (no_file, 2),
    (another_content, 2),
    (a_wrong_signature, 2),
    (keep_from_a_member, 9),
    (lose_it_at_a_member, 9),
    (deliver_to_who_has_left, 2),
    (lose_a_letter, 1),
    (lose_one_recipient, 1),
    (lose_what_was_handed_out, 1),
    (lose_what_was_released, 1),
    (make_a_message_up, 2),
    (receive_what_was_refused, 2),
    (change_the_body, 2),
    (change_the_end_of_a_long_body, 2),
    (forge_the_sender, 2),
    (deliver_to_another_mailbox, 2),
    (report_what_nobody_rejected, 2),
    (report_a_rejection_twice, 3),
    (store_a_retry_twice, 3),
    (answer_a_retry_with_another_id, 3),
    (refuse_a_retry, 3),
    (swap_within_an_answer, 4),
    (swap_two_answers, 4),
    (hand_out_twice, 5),
    (hand_out_the_same_lease_to_two, 5),
    (steal_a_lease, 5),
    (deliver_after_the_ack, 6),
    (deliver_after_a_rejection, 6),
    (deliver_after_an_ack_with_the_wait, 6),
    (deliver_after_a_reply, 6),
    (let_an_old_lease_ack, 6),
    (forget_what_the_outbox_took_in, 1),
    (leave_it_in_the_outbox, 1),
    (lose_it_behind_the_outbox, 1),
    (refuse_it_late_and_tell_nobody, 1),
    (tell_nobody_of_a_recipient_that_does_not_exist, 1),
    (refuse_late_what_has_no_reason, 2),
    (tell_that_nobody_has_what_came, 2),
    (tell_of_another_recipient, 2),
    (tell_twice_what_was_refused_late, 3),
    (send_directly_and_by_the_outbox, 3),
    (overtake_the_outbox, 4),
    (overtake_what_had_reached_the_hub, 4),
    (deliver_after_an_ack_that_reached_the_hub, 6),
    (keep_it_from_readers_who_wait, 7),
]


@pytest.mark.parametrize(("plant", "invariant"), PLANTS, ids=[plant.__name__ for plant, _ in PLANTS])
def test_a_planted_fault_is_caught_by_its_invariant(plant: Plant, invariant: int) -> None:
    histories = copy.deepcopy(clean())
    plant(histories)
    assert invariant in {violation.invariant for violation in check(histories)}


def test_a_clean_history_has_no_violations() -> None:
    assert check(clean()) == []


# -- what must not be taken for a violation


def _lawful(plant: Plant) -> Counter[int]:
    histories = clean()
    plant(histories)
    return Counter(violation.invariant for violation in check(histories))


def test_an_unknown_send_may_arrive_or_not() -> None:
    def plant(histories: Histories) -> None:
        histories.ops += [sent(4, 3.2, "unknown"), sent(5, 3.4, "unknown"), waited(1, 30, message(5))]

    assert not _lawful(plant)


def test_what_goes_with_a_letter_comes_with_it() -> None:
    def plant(histories: Histories) -> None:
        _op(histories, "send", 0).args = {**_op(histories, "send", 0).args, "file": ["plan.txt", "digest"]}
        _messages(histories, 0)[0] |= {"files": ["plan.txt"], "verified": "first signature"}
        histories.ops.append(_opened("plan.txt", "digest"))

    assert not _lawful(plant)


def test_what_is_left_in_an_inbox_is_not_lost() -> None:
    def plant(histories: Histories) -> None:
        histories.ops.append(sent(4, 3.5))
        histories.left[BOX]["id4"] = "stored"

    assert not _lawful(plant)


def test_letters_that_were_under_way_together_may_arrive_in_any_order() -> None:
    def plant(histories: Histories) -> None:
        histories.ops += [sent(4, 3.20), sent(5, 3.25), waited(1, 30, message(5), message(4))]
        histories.ops.append(settled(1, 31, "id4.1", "id5.1"))

    assert not _lawful(plant)


def test_priorities_may_overtake() -> None:
    def plant(histories: Histories) -> None:
        urgent = message(5, priority="urgent")
        histories.ops += [sent(4, 3.2), sent(5, 3.4, priority="urgent"), waited(1, 30, urgent, message(4))]
        histories.ops.append(settled(1, 31, "id4.1", "id5.1"))

    assert not _lawful(plant)


def test_an_answer_that_may_have_been_claimed_earlier_is_no_inversion() -> None:
    def plant(histories: Histories) -> None:
        histories.ops += [sent(4, 3.2), sent(5, 3.4), waited(1, 30, message(5)), waited(2, 29, message(4), lasting=5)]
        histories.ops.append(settled(1, 40, "id4.1", "id5.1"))

    assert not _lawful(plant)


def test_a_lease_that_was_released_may_be_handed_out_at_once() -> None:
    def plant(histories: Histories) -> None:
        histories.ops += [sent(4, 3.5), waited(1, 23, message(4)), settled(1, 24, "id4.1", outcome="release")]
        histories.ops += [waited(2, 24.1, message(4, 2)), settled(2, 25, "id4.2")]

    assert not _lawful(plant)


def test_an_ack_whose_answer_was_lost_may_not_have_happened() -> None:
    def plant(histories: Histories) -> None:
        histories.ops += [sent(4, 3.5), waited(1, 23, message(4)), settled(1, 24, "id4.1", result="unknown")]
        histories.ops += [waited(2, 110, message(4, 2)), settled(2, 111, "id4.2")]

    assert not _lawful(plant)


@pytest.mark.parametrize(
    "moves",
    [
        [],
        [("leave", 3.2, "ok")],
        [("subscribe", 3.5, "ok")],
        [("subscribe", 3.2, "unknown")],
        [("subscribe", 3.2, "ok"), ("leave", 3.3, "ok")],
        [("subscribe", 3.2, "ok"), ("leave", 3.5, "ok")],
        [("subscribe", 3.2, "ok"), ("leave", 3.3, "unknown")],
    ],
)
def test_who_may_not_have_been_a_member_need_not_get_it(moves: list[tuple[str, float, history.Result]]) -> None:
    def plant(histories: Histories) -> None:
        histories.ops += [*(moved(*move) for move in moves), published(4, 3.5)]

    assert not _lawful(plant)


@pytest.mark.parametrize("result", ["ok", "unknown"])
def test_who_may_have_been_a_member_may_get_it(result: history.Result) -> None:
    def plant(histories: Histories) -> None:
        histories.ops += [moved("subscribe", 3.45, result), published(4, 3.5)]
        histories.ops += [waited(1, 30, message(4)), settled(1, 31, "id4.1")]

    assert not _lawful(plant)


def test_an_outbox_that_says_what_became_of_everything_has_no_violations() -> None:
    def plant(histories: Histories) -> None:
        put(histories, pledged(4, 3.2, to=[BOX, NOBODY]), 6)
        put(histories, pledged(5, 3.4, entry=8, reply_to="id1.1"), 6, error="stale_lease")
        other = sent(6, 3.6)  # at the hub, while the first was on its way there
        other.session = "elsewhere"
        histories.ops += [
            other,
            waited(1, 20.5, message(6)),
            waited(1, 21, message(4)),
            settled(1, 31, "id4.1", "id6.1"),
        ]
        there = undelivered("n2", 7, f"box-0, {NOBODY}", f"{NOBODY}: No mailbox.")
        histories.ops.append(told(24, there, undelivered("n3", 8, "box-0")))

    assert not _lawful(plant)


def test_readers_may_be_slow_and_what_a_lost_edge_holds_takes_its_time() -> None:
    def plant(histories: Histories) -> None:
        keep_it_from_readers_who_wait(histories)
        histories.ops = [op for op in histories.ops if op.invoke_ns != _ns(70)]
        histories.ops.append(waited(1, 40))

    assert not _lawful(plant)


def test_an_ack_that_an_outbox_took_in_may_come_too_late() -> None:
    def plant(histories: Histories) -> None:
        early, late = settled(1, 24, "id4.1"), settled(2, 111, "id4.2")
        early.answer = {"settled": ["id4.1"], "failed": {}, "accepted": "outbox"}
        histories.ops += [sent(4, 3.5), waited(1, 23, message(4)), early, waited(2, 110, message(4, 2)), late]
        given = {"ids": ["id4.1"], "outcome": "ack"}
        failed = {"settled": [], "failed": [{"id": "id4.1", "error": "stale_lease"}]}
        histories.outbox[7] = Entry(7, "settle", BOX, given, _ns(24), _ns(112), failed)

    assert not _lawful(plant)


def test_what_a_wait_was_to_ack_may_not_have_happened_when_it_was_answered_without_the_hub() -> None:
    def plant(histories: Histories) -> None:
        asked = waited(1, 24, ack=("id4.1",))
        asked.answer = {**asked.answer, "unreachable_since": "now"}
        histories.ops += [sent(4, 3.5), waited(1, 23, message(4)), asked, waited(2, 110, message(4, 2))]
        histories.ops.append(settled(2, 111, "id4.2"))

    assert not _lawful(plant)


# -- reading


def test_a_history_is_read_as_it_was_written_and_what_a_kill_tore_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "reader-0.0.jsonl"
    recorder = history.Recorder(path, history.Timeline.start())
    recorder.session("reader-0.0.1", "reader-0", 42, "stdio")
    first = recorder.invoke("reader-0.0.1", "wait", {"mailbox": BOX, "ack": []})
    recorder.complete(first, "ok", {"messages": [], "ack_failed": {}})
    recorder.invoke("reader-0.0.1", "wait", {"mailbox": BOX, "ack": []})
    with path.open("a") as file:
        file.write('{"ns": 1, "t": "compl')
    found = history.load([path])
    assert [(op.op, op.result, op.complete_ns is None) for op in found.ops] == [
        ("wait", "ok", False),
        ("wait", "unknown", True),
    ]
    assert found.ops[0].invoke_ns <= (found.ops[0].complete_ns or 0) <= found.ops[1].invoke_ns
    assert found.sessions["reader-0.0.1"].relay == 42
