"""The invariants, as pure functions of what the histories say. Numbers and words are those of torture.md.

A check accuses only of what is certain. An answer that never came counts as "may have happened", and of two events
one is earlier only when it was complete before the other began; so a violation is one under every order in which the
machine can have done it.

What an edge takes in without its hub is promised like anything else, and what it means is exact (`facts.py`):

- 1: it is received, or its sender is told by the postmaster that it was not sent; all of it may be refused late only
  where it was an answer to a lease that had ended, of several recipients those that do not exist. The outbox knows
  each number that it has told, and in the end the hub has answered all of them.
- 2: who is told that nobody has a letter is told the truth, and so is who is told of one recipient.
- 3: one message, whether it went directly, by the outbox, or both after an answer that was lost; one report.
- 4: what one machine sends for a mailbox is in order, also where some of it waited in the outbox; what two machines
  send for it is when the first had reached the hub before the second began.
- 6: an ack counts from when it has reached the hub, not from when an outbox took it in: the lease may end before.
- 7: when the last fault is over for a while and the link is up, who waits is handed what nobody has been handed yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.torture.clients import DRAIN, address, token
from tests.torture.facts import NEVER, Ended, Facts, Received, Sent
from tests.torture.history import Histories, Op
from tests.torture.plan import NOWHERE

_NOWHERE = address(NOWHERE)
_LOST_NS = 35_000_000_000
"""For which the readers of an edge that is lost hold what they were handed: 30 s, and a moment to notice."""


@dataclass(frozen=True, slots=True)
class Violation:
    """What cannot be, and where to look for it in the histories."""

    invariant: int
    text: str


def nothing_is_lost(facts: Facts) -> Iterator[str]:
    """Every letter that was accepted is received, and then settled or still there."""
    for sent in facts.sent.values():
        yield from _lost(facts, sent, [each for each in sorted(sent.stored) if not each.startswith("#")])
        yield from _forgotten(facts, sent)


def members_get_it(facts: Facts) -> Iterator[str]:
    """Every letter that was published is received by all who were members then, and then settled or still there."""
    for sent in facts.sent.values():
        yield from _lost(facts, sent, sorted(facts.members(sent)))


def _lost(facts: Facts, sent: Sent, mailboxes: Iterable[str]) -> Iterator[str]:
    if sent.done_ns is None:
        return
    for mailbox in mailboxes:
        ids = facts.ids[sent.token]
        waiting = any(id_ in facts.histories.left.get(mailbox, {}) for id_ in ids)
        if (mailbox, sent.token) not in facts.read and not waiting:
            yield f"{sent.token} {sorted(ids)} was accepted for {mailbox} and never seen there"
        elif not waiting and not any((mailbox, id_) in facts.settled for id_ in ids):
            yield f"{sent.token} {sorted(ids)} vanished from {mailbox} though nobody settled it"


def _forgotten(facts: Facts, sent: Sent) -> Iterator[str]:
    """What an outbox promised: the hub has answered, and whoever did not get it stands in a report."""
    for number in sorted(sent.numbers):
        entry = facts.histories.outbox.get(number)
        if entry is None or entry.answer is None:
            fate = "is not known" if entry is None else "is still there"
            yield f"{sent.token} was accepted as outbox-{number}, which {fate} at the edge"
    told = [report for number in sent.numbers for report in facts.refused_late.get(number, ())]
    whole = any(report.nobody_has_it for report in told)
    apart = {mailbox for report in told if not report.nobody_has_it for mailbox in report.concerns}
    for mailbox in sorted(each for each in sent.pledged if not each.startswith("#")):
        if whole or mailbox in apart:
            continue
        if mailbox == _NOWHERE:
            yield f"{sent.token} {sorted(sent.numbers)} did not come to {mailbox}, and {sent.sender} was not told"
        elif mailbox not in sent.stored:  # those are looked at above
            yield from _lost(facts, sent, [mailbox])


def nothing_is_made_up(facts: Facts) -> Iterator[str]:
    """What is received was sent, to that mailbox, by that sender, with that content."""
    for each in facts.received:
        sent = facts.sent.get(each.token)
        if sent is None or not sent.possible:
            yield f"{each.token[:60]!r} ({each.id}) came to {each.mailbox}, and nobody sent it; {each.op.place}"
        elif not facts.may_get(each.mailbox, sent):
            yield f"{each.token} came to {each.mailbox}, and was sent to {sorted(sent.to)}; {each.op.place}"
        elif (each.sender, each.priority, each.subject) != (sent.sender, sent.priority, sent.subject):
            yield f"{each.token} came with another envelope: {each.sender}, {each.priority}, {each.subject!r}"
        else:
            digests = facts.whole.get((each.mailbox, each.id), set()) | ({each.digest} if each.digest else set())
            if digests - {sent.digest}:
                yield f"{each.token} came with another body; {each.op.place}"
            yield from _altered(facts, each, sent)
    for each in facts.notices:
        outcomes = {ending.outcome for ending in facts.endings_of.get(each.about, ())}
        left = facts.histories.left.get(each.about[0], {}).get(each.about[1])
        if "reject" not in outcomes and left != "dead":
            yield f"{each.token[:60]!r} was told to {each.mailbox}, and nobody rejected it; {each.op.place}"
    for each in facts.undelivered:
        yield from _untrue(facts, each)


def _altered(facts: Facts, each: Received, sent: Sent) -> Iterator[str]:
    """What goes with a letter: its file, and the signature of its sender's machine."""
    if each.files != (() if sent.file is None else sent.file[:1]):
        yield f"{each.token} came with the files {each.files}; {each.op.place}"
    for content in facts.opened.get((each.mailbox, each.id), set()) - {sent.file}:
        yield f"{each.token} came with {content[0]} and something else in it; {each.op.place}"
    if "does not match" in each.verified:
        yield f"{each.token} came with a word about its signature, {each.verified!r}; {each.op.place}"


def _untrue(facts: Facts, report: Received) -> Iterator[str]:
    """What is told of a letter that an outbox had: it is its sender's, refused for a reason that there can be."""
    entry = facts.histories.outbox.get(report.number or 0)
    what = f"{report.token[:60]!r} was told to {report.mailbox}"
    if entry is None or entry.mailbox != report.mailbox or "body" not in entry.given:
        yield f"{what}, who has not sent it; {report.op.place}"
        return
    sent = facts.sent[token(entry.given["body"])]
    if not report.nobody_has_it:
        if report.concerns != {_NOWHERE} & sent.to:
            yield f"{what} about {sorted(report.concerns)}, who could have got it; {report.op.place}"
    elif any((mailbox, sent.token) in facts.read for mailbox in sent.to):
        yield f"{what} as not sent, and came; {report.op.place}"
    elif "reply_to" not in entry.given:
        yield f"{what}, and there is no reason not to send it: {report.said[-200:]!r}; {report.op.place}"


def nothing_is_doubled(facts: Facts) -> Iterator[str]:
    """One message for a sender's key, however often it was retried; one for what was sent once, too."""
    for name, found in facts.ids.items():
        sent = facts.sent[name]
        if len(found) > 1:
            yield f"{name} (key {sent.key}) is {len(found)} messages: {sorted(found)}"
        if "key_conflict" in sent.refusals:
            yield f"a retry of {name} under its own key {sent.key} was called another message"
    told: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in facts.notices:
        told[each.about].add(each.id)
    for about, notices in told.items():
        if len(notices) > 1:
            yield f"of {about} its sender was told {len(notices)} times: {sorted(notices)}"
    for number, reports in facts.refused_late.items():
        if len({each.id for each in reports}) > 1:
            yield f"of outbox-{number} its sender was told {len({each.id for each in reports})} times"


def order_is_kept(facts: Facts) -> Iterator[str]:
    """First deliveries of what one sender sent one after another to a mailbox at a priority are in that order."""
    first = {(each.mailbox, each.token): each for each in facts.received if each.generation == 1}
    groups: dict[tuple[str, str, str], list[tuple[Sent, Received]]] = defaultdict(list)
    for (mailbox, name), received in first.items():
        sent = facts.sent.get(name)
        if sent is not None and sent.done_ns is not None:
            groups[sent.sender, mailbox, sent.priority].append((sent, received))
    for pairs in groups.values():
        yield from _inversions(pairs)


def _inversions(pairs: list[tuple[Sent, Received]]) -> Iterator[str]:
    pairs.sort(key=lambda pair: pair[0].began_ns)
    for place, (later, got_later) in enumerate(pairs):
        for earlier, got_earlier in pairs[:place]:
            done_ns = earlier.done_ns if earlier.machine == later.machine else earlier.kept_ns
            if (done_ns or NEVER) >= later.began_ns:
                continue  # these two were under way together
            same = got_earlier.op is got_later.op and got_later.position < got_earlier.position
            if same or got_later.done_ns < got_earlier.op.invoke_ns:
                yield f"{later.token} was delivered before {earlier.token} at {got_later.mailbox}; {got_later.op.place}"


def leases_are_exclusive(facts: Facts) -> Iterator[str]:
    """A lease is handed out once, and the next one only when it has ended."""
    for leases in facts.leases.values():
        for lease, following in pairwise(leases):
            what = f"{lease.token} at {lease.mailbox}: {lease.op.place} and {following.op.place}"
            if lease.generation == following.generation:
                yield f"lease {lease.generation} was handed out twice, {what}"
            elif following.done_ns < facts.certain_until(lease):
                yield f"lease {following.generation} began while {lease.generation} was live, {what}"


def acked_is_over(facts: Facts) -> Iterator[str]:
    """What was acked, or rejected, is handed out no more: neither later nor by a later lease."""
    for key, endings in facts.endings_of.items():
        final = [each for each in endings if each.sure and each.outcome != "release"]
        found = [(ending, lease) for lease in facts.leases.get(key, ()) for ending in final if _after(ending, lease)]
        for ending, lease in found[:1]:
            yield (
                f"{lease.token} at {lease.mailbox} came again as lease {lease.generation} ({lease.op.place})"
                f" after lease {ending.generation} had ended with {ending.outcome} ({ending.op.place})"
            )


def readers_are_handed_it(facts: Facts) -> Iterator[str]:
    """No reader is told that there is nothing when there is something that nobody has ever been handed.

    Some time after the last fault: until then a lost edge's readers may hold it. How slow readers are is their affair.
    """
    wait = facts.histories.wait
    if wait is None or wait.emptied:
        return
    in_vain = {
        op.args["mailbox"]: op
        for op in facts.histories.ops
        if _heard_nothing(op) and wait.began_ns + _LOST_NS < op.invoke_ns and (op.complete_ns or NEVER) < wait.ended_ns
    }
    seen = {(each.mailbox, each.id) for each in facts.received if each.op.client != DRAIN}
    for each in facts.received:
        asked = in_vain.get(each.mailbox)
        if asked is not None and (each.mailbox, each.id) not in seen:
            yield f"{each.token} ({each.id}) was not handed to who waited at {each.mailbox}; {asked.place}"


def _heard_nothing(op: Op) -> bool:
    """Whether the hub has said to a reader that nothing is there."""
    answer = op.answer
    return op.op == "wait" and op.result == "ok" and not answer["messages"] and "unreachable_since" not in answer


def _after(ending: Ended, lease: Received) -> bool:
    # The fence lets an old lease be settled only until the next one begins, so the next one cannot come at all.
    return lease.generation > ending.generation or lease.op.invoke_ns > (ending.op.complete_ns or NEVER)


INVARIANTS: dict[int, tuple[str, Callable[[Facts], Iterator[str]]]] = {
    1: ("every ok send is received after healing", nothing_is_lost),
    2: ("only what was sent is received, unchanged", nothing_is_made_up),
    3: ("one message for (sender, key)", nothing_is_doubled),
    4: ("first deliveries in the sender's order", order_is_kept),
    5: ("no two live leases on one delivery", leases_are_exclusive),
    6: ("after an ok ack, never again", acked_is_over),
    7: ("after the last fault readers get it all", readers_are_handed_it),
    9: ("a channel message reaches every member at send time", members_get_it),
}


def check(histories: Histories) -> list[Violation]:
    """Return everything that cannot be."""
    facts = Facts(histories)
    return [Violation(number, text) for number, (_, rule) in INVARIANTS.items() for text in rule(facts)]
