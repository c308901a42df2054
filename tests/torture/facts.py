"""What histories say, in the words of the invariants: letters sent, messages received, leases ended.

Rules how operations are read, and how little an answer that never came may be taken to mean. Refuses to know what is
right and wrong (`checker.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from tests.torture.clients import handle
from tests.torture.history import Histories, Op, Session

NEVER = 1 << 62
"""Later than any time."""


@dataclass(slots=True)
class Sent:
    """One letter with all its attempts."""

    token: str
    sender: str
    to: frozenset[str]
    key: str | None
    digest: str
    priority: str
    subject: str
    began_ns: int
    done_ns: int | None = None
    """When its first good answer was there; None: its fate is unknown, or it was refused."""
    ids: set[str] = field(default_factory=set)
    stored: set[str] = field(default_factory=set)
    """Mailboxes for which it was promised to be stored."""
    refusals: list[str] = field(default_factory=list)
    possible: bool = False
    """Whether any attempt may have stored it."""


@dataclass(frozen=True, slots=True)
class Received:
    """One message in the answer of one wait: a lease."""

    op: Op
    position: int
    mailbox: str
    id: str
    generation: int
    token: str
    digest: str | None
    """None where the body was cut."""
    sender: str
    priority: str
    subject: str
    lease_until_ns: int
    kind: str = "message"

    @property
    def about(self) -> tuple[str, str]:
        """Of a notice: the recipient and the message that it is about (`report.notice` words it so)."""
        words = self.token.split()
        return words[4], words[2]

    @property
    def done_ns(self) -> int:
        """When it was here, so that its claim was before."""
        return self.op.complete_ns or NEVER


@dataclass(frozen=True, slots=True)
class Ended:
    """A reader asked to end a lease. `sure` when the post office said that it did."""

    op: Op
    mailbox: str
    id: str
    generation: int
    outcome: str
    sure: bool


class Facts:
    """The histories, read."""

    def __init__(self, histories: Histories) -> None:
        self.histories = histories
        self.sent: dict[str, Sent] = {}
        self.received: list[Received] = []
        self.notices: list[Received] = []
        """What the post office itself wrote: reports of what came to nothing."""
        self.endings: list[Ended] = []
        self.whole: dict[tuple[str, str], set[str]] = defaultdict(set)
        """Digests of long bodies that were read to their end, by mailbox and id."""
        self._moves: dict[tuple[str, str], list[Op]] = defaultdict(list)
        """Who joined and left which channel, in the order in which it was asked for."""
        self._last_good: dict[str, int] = {}
        for op in histories.ops:
            self._read(op)

    def _read(self, op: Op) -> None:
        if op.result == "ok":
            self._last_good[op.session] = max(self._last_good.get(op.session, 0), op.complete_ns or 0)
        match op.op:
            case "send":
                self._read_send(op)
            case "wait":
                for message in _messages(op):
                    (self.received if message.kind == "message" else self.notices).append(message)
                self._read_endings(op, op.args["mailbox"], op.args["ack"], "ack", op.answer.get("ack_failed", {}))
            case "settle":
                failed = op.answer.get("failed", {})
                self._read_endings(op, op.args["mailbox"], op.args["ids"], op.args["outcome"], failed)
            case "subscribe" | "leave" if op.result != "fail":
                self._moves[op.args["mailbox"], op.args["channel"]].append(op)
            case "read" if "digest" in op.answer:
                self.whole[op.args["mailbox"], op.answer["id"]].add(op.answer["digest"])
            case _:
                pass

    def _read_send(self, op: Op) -> None:
        args = op.args
        sent = self.sent.get(args["token"])
        if sent is None:
            content = (args["digest"], args["priority"], args["subject"])
            sent = Sent(args["token"], args["sender"], frozenset(args["to"]), args["key"], *content, op.invoke_ns)
            self.sent[sent.token] = sent
        sent.began_ns = min(sent.began_ns, op.invoke_ns)
        sent.possible |= op.result != "fail"
        if op.result == "fail":
            sent.refusals.append(op.answer["why"])
        elif op.result == "ok":
            sent.done_ns = min(sent.done_ns or NEVER, op.complete_ns or NEVER)
            sent.ids.add(op.answer["id"])
            sent.stored |= {mailbox for mailbox, state in op.answer["to"].items() if state == "stored"}
        if args["reply_to"]:
            self._read_endings(op, args["sender"], [args["reply_to"]], "ack", {})

    def _read_endings(self, op: Op, mailbox: str, handles: Iterable[str], outcome: str, failed: Iterable[str]) -> None:
        if op.result == "fail":
            return
        refused = set(failed)
        for text in handles:
            if text not in refused:
                self.endings.append(Ended(op, mailbox, *handle(text), outcome, op.result == "ok"))

    def members(self, sent: Sent) -> Iterator[str]:
        """Yield who was certainly a member of one of the channels that the letter was published in; not its sender."""
        for (mailbox, channel), moves in self._moves.items():
            if channel in sent.stored and mailbox != sent.sender and self._stood(moves, sent) == "subscribe":
                yield mailbox

    def may_get(self, mailbox: str, sent: Sent) -> bool:
        """Whether the letter was sent to that mailbox, or may have been by a channel."""
        return mailbox in sent.to or any(
            channel in sent.to and self._stood(moves, sent) != "leave"
            for (member, channel), moves in self._moves.items()
            if member == mailbox
        )

    @staticmethod
    def _stood(moves: Iterable[Op], sent: Sent) -> str | None:
        """Return what a mailbox had certainly done last when the letter was sent, None when that is not certain."""
        last = "leave"
        certain = True
        for op in moves:
            if op.invoke_ns > (sent.done_ns or NEVER):
                break
            if op.result == "ok" and (op.complete_ns or NEVER) < sent.began_ns:
                last, certain = op.op, True
            else:  # under way with the letter, or nobody knows whether it was done
                certain = certain and op.op == last
        return last if certain else None

    @cached_property
    def leases(self) -> dict[tuple[str, str], list[Received]]:
        """The leases of each delivery (mailbox and id), in the order of their generations."""
        found: dict[tuple[str, str], list[Received]] = defaultdict(list)
        for each in self.received:
            found[each.mailbox, each.id].append(each)
        for leases in found.values():
            leases.sort(key=lambda each: (each.generation, each.done_ns))
        return found

    @cached_property
    def endings_of(self) -> dict[tuple[str, str], list[Ended]]:
        """What was asked to end leases of each delivery."""
        found: dict[tuple[str, str], list[Ended]] = defaultdict(list)
        for each in self.endings:
            found[each.mailbox, each.id].append(each)
        return found

    @cached_property
    def read(self) -> set[tuple[str, str]]:
        """What was received: mailbox and token."""
        return {(each.mailbox, each.token) for each in self.received}

    @cached_property
    def settled(self) -> set[tuple[str, str]]:
        """What somebody asked to end for good: mailbox and id."""
        return {key for key, ends in self.endings_of.items() if any(each.outcome != "release" for each in ends)}

    @cached_property
    def session_ends(self) -> dict[str, int]:
        """Until when each client was certainly connected by that relay."""
        return {name: self._end(session) for name, session in self.histories.sessions.items()}

    def _end(self, session: Session) -> int:
        strikes = self.histories.strikes
        pids = {session.host, session.relay}
        killed = [each.ns for each in strikes if each.ns >= session.began_ns and pids & set(each.deadly)]
        if killed:
            return min(killed)
        if session.lost:
            return self._last_good.get(session.name, session.began_ns)
        return session.ended_ns or NEVER

    def certain_until(self, lease: Received) -> int:
        """Return until when that lease was certainly live: at the latest until its reader left or asked to end it."""
        asked = [
            each.op.invoke_ns
            for each in self.endings_of.get((lease.mailbox, lease.id), ())
            if each.generation == lease.generation
        ]
        return min([lease.lease_until_ns, self.session_ends.get(lease.op.session, NEVER), *asked])


def _messages(op: Op) -> Iterator[Received]:
    if op.result != "ok":
        return
    for position, message in enumerate(op.answer["messages"]):
        yield Received(
            op=op,
            position=position,
            mailbox=op.args["mailbox"],
            id=message["id"],
            generation=message["generation"],
            token=message["token"],
            digest=message["digest"],
            sender=message["from"],
            priority=message["priority"],
            subject=message["subject"],
            kind=message.get("kind", "message"),
            lease_until_ns=message["lease_until_ns"],
        )
