"""What histories say, in the words of the invariants: letters sent, messages received, leases ended.

Rules how operations are read, and how little an answer that never came may be taken to mean. Refuses to know what is
right and wrong (`checker.py`).

An edge may take something in without its hub (`accepted: "outbox"`). For who asked, that is done: it is promised. At
the hub it is done later, at an unknown moment until the hub's answer, which the outbox keeps. So

- a letter has two moments: `done_ns`, when its sender was told, from which on it comes before whatever else this
  machine sends; and `kept_ns`, when the hub certainly had it, which is what other machines' letters are ordered by,
  and what channels' members are counted by. Without an outbox the two are one.
- its id is the hub's, by the outbox's record; who promised it is bound by its token alone (`pledged`, `numbers`).
- a lease that was settled into an outbox ended only if the hub's answer says so: it may have run out before. The same
  holds for an answer (`reply_to`). What a wait was to ack is nothing certain when it was answered without the hub.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from tests.torture.clients import address, handle, token
from tests.torture.history import Entry, Histories, Op, Session

NEVER = 1 << 62
"""Later than any time."""
_DRIFT_NS = 50_000_000
"""By how much an edge's clock, which has milliseconds, may say another time than the run's."""


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
    file: tuple[str, str] | None = None
    """The name of a file that goes with it, and the digest of what is in it."""
    done_ns: int | None = None
    """When its first good answer was there; None: its fate is unknown, or it was refused."""
    kept_ns: int | None = None
    """When the hub certainly had it; None: that is unknown."""
    machine: str = "hub"
    """Where it was sent."""
    pledged: set[str] = field(default_factory=set)
    """Mailboxes and channels for which an outbox took it in."""
    numbers: set[int] = field(default_factory=set)
    """Under which numbers."""
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
    said: str = ""
    """The body of what the post office itself wrote."""
    files: tuple[str, ...] = ()
    """What is attached, by name."""
    verified: str = ""
    """What its signature is worth."""

    @property
    def about(self) -> tuple[str, str]:
        """Of a notice: the recipient and the message that it is about (`report.notice` words it so)."""
        words = self.token.split()
        return words[4], words[2]

    @property
    def number(self) -> int | None:
        """Of a report about what an outbox had: its number there (`report.undelivered` words it so)."""
        return outbox_number(self.token.split()[2])

    @property
    def nobody_has_it(self) -> bool:
        """Of such a report: whether it says that nobody got it."""
        return self.token.endswith(" was not sent.")

    @property
    def concerns(self) -> set[str]:
        """Of such a report: which recipients did not get it when others did."""
        return {address(line.partition(": ")[0]) for line in self.said.splitlines()[1:-1]}

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
        self.undelivered: list[Received] = []
        """Those of them that are about what an outbox had."""
        self.endings: list[Ended] = []
        self.whole: dict[tuple[str, str], set[str]] = defaultdict(set)
        """Digests of long bodies that were read to their end, by mailbox and id."""
        self.opened: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        """Names and digests of attached files that were read, by mailbox and id."""
        self._asked: dict[tuple[str, str, int], int] = {}
        """When somebody asked first to end each lease, whatever came of it."""
        self._moves: dict[tuple[str, str], list[Op]] = defaultdict(list)
        """Who joined and left which channel, in the order in which it was asked for."""
        self._last_good: dict[str, int] = {}
        for op in histories.ops:
            self._read(op)
        for entry in histories.outbox.values():
            self._read_entry(entry)

    def _read(self, op: Op) -> None:
        if op.result == "ok":
            self._last_good[op.session] = max(self._last_good.get(op.session, 0), op.complete_ns or 0)
        match op.op:
            case "send":
                self._read_send(op)
            case "wait":
                for message in _messages(op):
                    if message.kind == "message":
                        self.received.append(message)
                    else:
                        (self.notices if message.number is None else self.undelivered).append(message)
                self._read_endings(op, op.args["mailbox"], op.args["ack"], "ack", op.answer.get("ack_failed", {}))
            case "settle":
                failed = op.answer.get("failed", {})
                self._read_endings(op, op.args["mailbox"], op.args["ids"], op.args["outcome"], failed)
            case "subscribe" | "leave" if op.result != "fail":
                self._moves[op.args["mailbox"], op.args["channel"]].append(op)
            case "file" if "digest" in op.answer:
                content = (op.answer["name"], op.answer["digest"])
                self.opened[op.args["mailbox"], op.answer["id"]].add(content)
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
            sent.machine = self._machine(op)
            sent.file = (args["file"][0], args["file"][1]) if "file" in args else None
            self.sent[sent.token] = sent
        sent.began_ns = min(sent.began_ns, op.invoke_ns)
        sent.possible |= op.result != "fail"
        if op.result == "fail":
            sent.refusals.append(op.answer["why"])
        elif op.result == "ok":
            sent.done_ns = min(sent.done_ns or NEVER, op.complete_ns or NEVER)
            number = outbox_number(op.answer["id"])
            if number is not None:
                sent.numbers.add(number)
                sent.pledged |= op.answer["to"].keys()
            else:
                sent.ids.add(op.answer["id"])
                sent.kept_ns = min(sent.kept_ns or NEVER, op.complete_ns or NEVER)
                sent.stored |= {mailbox for mailbox, state in op.answer["to"].items() if state == "stored"}
        if args["reply_to"]:
            self._read_endings(op, args["sender"], [args["reply_to"]], "ack", {})

    def _read_endings(self, op: Op, mailbox: str, handles: Iterable[str], outcome: str, failed: Iterable[str]) -> None:
        for text in handles:
            lease = (mailbox, *handle(text))
            self._asked[lease] = min(op.invoke_ns, self._asked.get(lease, NEVER))
        if op.result == "fail":
            return
        refused = set(failed)
        sure = op.result == "ok" and not op.answer.keys() & {"accepted", "unreachable_since"}
        for text in handles:
            if text not in refused:
                self.endings.append(Ended(op, mailbox, *handle(text), outcome, sure))

    def _read_entry(self, entry: Entry) -> None:
        """Read what the hub answered to what an outbox had: what was done there, and until when."""
        if entry.answered_ns is None or entry.answer is None or "error" in entry.answer:
            return
        op = Op("outbox", "outbox", f"{entry.verb} {entry.number}", entry.asked_ns - _DRIFT_NS, {}, "ok")
        op.complete_ns = entry.answered_ns + _DRIFT_NS
        if entry.verb == "settle":
            failed = {each["id"] for each in entry.answer.get("failed", ())}
            self._read_endings(op, entry.mailbox, entry.given["ids"], entry.given["outcome"], failed)
            return
        sent = self.sent.get(token(entry.given["body"]))
        if sent is not None:
            sent.ids.add(entry.answer["id"])
            sent.kept_ns = min(sent.kept_ns or NEVER, op.complete_ns)
            sent.stored |= {each["address"] for each in entry.answer["to"] if each.get("state") == "stored"}
        if "reply_to" in entry.given:
            self._read_endings(op, entry.mailbox, [entry.given["reply_to"]], "ack", {})

    def _machine(self, op: Op) -> str:
        session = self.histories.sessions.get(op.session)
        return "edge" if session is not None and session.over == "edge" else "hub"

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
            if op.invoke_ns > (sent.kept_ns or NEVER):
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
    def ids(self) -> dict[str, set[str]]:
        """Return all ids under which each letter is known: those that were answered, and those that came."""
        found = {token_: set(sent.ids) for token_, sent in self.sent.items()}
        for each in self.received:
            if each.token in found:
                found[each.token].add(each.id)
        return found

    @cached_property
    def refused_late(self) -> dict[int, list[Received]]:
        """Return what senders were told of what an outbox had, by its number there."""
        found: dict[int, list[Received]] = defaultdict(list)
        for each in self.undelivered:
            if each.number is not None:
                found[each.number].append(each)
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
        """Return until when that lease was certainly live: at the latest until its reader left or asked to end it.

        Also when the answer is that it had ended: what was asked may have been done, and asked again after a kill.
        """
        asked = self._asked.get((lease.mailbox, lease.id, lease.generation), NEVER)
        return min(lease.lease_until_ns, self.session_ends.get(lease.op.session, NEVER), asked)


def outbox_number(id_: str) -> int | None:
    """Return the number of what waits in an outbox; None for an id of the hub's."""
    number = id_.removeprefix("outbox-")
    return int(number) if number != id_ else None


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
            said=message.get("said", ""),
            files=tuple(message.get("files", ())),
            verified=message.get("verified", ""),
            lease_until_ns=message["lease_until_ns"],
        )
