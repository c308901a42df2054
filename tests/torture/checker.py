"""The invariants, as pure functions of what the histories say. Numbers and words are those of torture.md.

A check accuses only of what is certain. An answer that never came counts as "may have happened", and of two events
one is earlier only when it was complete before the other began; so a violation is one under every order in which the
machine can have done it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.torture.facts import NEVER, Ended, Facts, Received, Sent
from tests.torture.history import Histories


@dataclass(frozen=True, slots=True)
class Violation:
    """What cannot be, and where to look for it in the histories."""

    invariant: int
    text: str


def nothing_is_lost(facts: Facts) -> Iterator[str]:
    """Every letter that was accepted is received, and then settled or still there."""
    for sent in facts.sent.values():
        yield from _lost(facts, sent, [each for each in sorted(sent.stored) if not each.startswith("#")])


def members_get_it(facts: Facts) -> Iterator[str]:
    """Every letter that was published is received by all who were members then, and then settled or still there."""
    for sent in facts.sent.values():
        yield from _lost(facts, sent, sorted(facts.members(sent)))


def _lost(facts: Facts, sent: Sent, mailboxes: Iterable[str]) -> Iterator[str]:
    if sent.done_ns is None:
        return
    for mailbox in mailboxes:
        waiting = any(id_ in facts.histories.left.get(mailbox, {}) for id_ in sent.ids)
        if (mailbox, sent.token) not in facts.read and not waiting:
            yield f"{sent.token} {sorted(sent.ids)} was accepted for {mailbox} and never seen there"
        elif not waiting and not any((mailbox, id_) in facts.settled for id_ in sent.ids):
            yield f"{sent.token} {sorted(sent.ids)} vanished from {mailbox} though nobody settled it"


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
    for each in facts.notices:
        outcomes = {ending.outcome for ending in facts.endings_of.get(each.about, ())}
        left = facts.histories.left.get(each.about[0], {}).get(each.about[1])
        if "reject" not in outcomes and left != "dead":
            yield f"{each.token[:60]!r} was told to {each.mailbox}, and nobody rejected it; {each.op.place}"


def nothing_is_doubled(facts: Facts) -> Iterator[str]:
    """One message for a sender's key, however often it was retried; one for what was sent once, too."""
    ids: dict[str, set[str]] = {token: set(sent.ids) for token, sent in facts.sent.items()}
    for each in facts.received:
        if each.token in ids:
            ids[each.token].add(each.id)
    for token, found in ids.items():
        sent = facts.sent[token]
        if len(found) > 1:
            yield f"{token} (key {sent.key}) is {len(found)} messages: {sorted(found)}"
        if "key_conflict" in sent.refusals:
            yield f"a retry of {token} under its own key {sent.key} was called another message"
    told: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in facts.notices:
        told[each.about].add(each.id)
    for about, notices in told.items():
        if len(notices) > 1:
            yield f"of {about} its sender was told {len(notices)} times: {sorted(notices)}"


def order_is_kept(facts: Facts) -> Iterator[str]:
    """First deliveries of what one sender sent one after another to a mailbox at a priority are in that order."""
    first = {(each.mailbox, each.token): each for each in facts.received if each.generation == 1}
    groups: dict[tuple[str, str, str], list[tuple[Sent, Received]]] = defaultdict(list)
    for (mailbox, token), received in first.items():
        sent = facts.sent.get(token)
        if sent is not None and sent.done_ns is not None:
            groups[sent.sender, mailbox, sent.priority].append((sent, received))
    for pairs in groups.values():
        yield from _inversions(pairs)


def _inversions(pairs: list[tuple[Sent, Received]]) -> Iterator[str]:
    pairs.sort(key=lambda pair: pair[0].began_ns)
    for place, (later, got_later) in enumerate(pairs):
        for earlier, got_earlier in pairs[:place]:
            if (earlier.done_ns or NEVER) >= later.began_ns:
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
    9: ("a channel message reaches every member at send time", members_get_it),
}


def check(histories: Histories) -> list[Violation]:
    """Return everything that cannot be."""
    facts = Facts(histories)
    return [Violation(number, text) for number, (_, rule) in INVARIANTS.items() for text in rule(facts)]
