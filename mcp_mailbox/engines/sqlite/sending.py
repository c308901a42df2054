"""A message accepted: known by its key, admitted or not, stored for each recipient."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from mcp_mailbox import quotas
from mcp_mailbox.addresses import Address
from mcp_mailbox.budgets import hops_of_answer, moment
from mcp_mailbox.delivery import State
from mcp_mailbox.engines.sqlite import fanout
from mcp_mailbox.engines.sqlite.codec import unknown_message
from mcp_mailbox.engines.sqlite.common import KEY_AGE, READER_AGE, Common, request_key
from mcp_mailbox.engines.sqlite.ending import Ending
from mcp_mailbox.engines.sqlite.fence import fenced, stale_lease
from mcp_mailbox.engines.sqlite.messages import in_a_channel_within_reach
from mcp_mailbox.engines.sqlite.requests import Requests
from mcp_mailbox.engines.sqlite.rows import Box, find_mailbox, unknown, waiting_delivery
from mcp_mailbox.engines.sqlite.stopping import Stopped, Stopping
from mcp_mailbox.engines.sqlite.writer import in_whole
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.loopguard import Guard, Stop
from mcp_mailbox.mailbox import Contact
from mcp_mailbox.message import Draft, Kind
from mcp_mailbox.report import SYSTEM
from mcp_mailbox.store import Accepted, Origin, Published, Recipient, Submission
from mcp_mailbox.view import apply, query

_HELD = "held"
_FORGET_EVERY = 64
_FORGET_AT_MOST = 100
"""Keys that are dropped at once: more than come meanwhile, so that they do not pile up; few, so that nobody waits."""


class Sending:
    """The verb `accept`."""

    def __init__(self, common: Common, ending: Ending, requests: Requests, guard: Guard, stopping: Stopping) -> None:
        self._guard = guard
        self._stopping = stopping
        self._requests = requests
        self._codec = common.codec
        self._now = common.now
        self._registry = common.registry
        self._ending = ending
        self._accepts = 0
        self._trimmed = 0

    def accept(
        self, db: sqlite3.Connection, submission: Submission
    ) -> tuple[Accepted | Refusal, Collection[Address | Published]]:
        """Return the answer, for whom to ring, and where something was published.

        A refusal is returned where others are told of it, which is to be committed; it is raised where nothing is.
        """
        draft, origin = submission.draft, submission.origin
        own = self._registry.box(db, submission.sender)
        key = f"k:{draft.key}" if draft.key is not None else request_key(origin)
        digest = _digest(submission.recipients, submission.cc, draft)
        known = self._known(db, own.id, key, digest, draft)
        if known is not None:
            return known, []

        now = self._now()
        began = _began(draft, now)
        parent = self._parent(db, own.id, draft.reply_to, origin, began) if draft.reply_to is not None else None
        case = _Case(own, draft, parent, now, began)
        if parent is not None and (stop := self._stop(case, parent)) is not None:
            ways = [self._way(db, address, own, parent) for address in submission.recipients]
            return self._refused(stop.refusal, self._tell_of(db, own, parent, stop, ways))
        ways = self._ways(db, submission, own, parent)
        full = {way.id: no for way in ways if isinstance(way, _Way) and (no := self._full(case, way))}
        to = [way for way in ways[: len(submission.recipients)] if isinstance(way, _Way)]
        told_of = partial(self._tell_of_full, db, own, parent, full, [way for way in to if way.id in full])
        ways = [full[way.id].refusal if isinstance(way, _Way) and way.id in full else way for way in ways]
        found = [way for way in ways if isinstance(way, _Way)]
        if not found:
            return self._refused(next(way for way in ways if isinstance(way, Refusal)), told_of())
        if submission.most:
            _check_size(db, own.address.space, draft, len(found), submission.most)
        # Nothing is refused any more: from here on it writes.
        rung = {way.id: way.address for way in to if way.id not in full}
        new = _message(case, found, tuple(rung))
        seq, told = self._store(db, case, new, rung, {way.id: way.holds for way in found if way.holds is not None})
        addresses = (*submission.recipients, *submission.cc)
        results = [_result(address, way) for address, way in zip(addresses, ways, strict=True)]
        answer = {"seq": seq, "thread": new.thread or seq, "to": results}
        apply.remember(db, own.id, key, digest, json.dumps(answer), now)
        self._forget_sometimes(db, new.recipients, now)
        return self._accepted(answer, repeated=False), {*told, *told_of()}

    def _known(self, db: sqlite3.Connection, box: int, key: str, digest: bytes, draft: Draft) -> Accepted | None:
        """Return what was answered before under that key. Raises Refusal(KEY_CONFLICT) for another message."""
        known = db.execute(query.KNOWN, (box, key)).fetchone()
        if known is None:
            return None
        if known["hash"] != digest:
            what = f"The key {draft.key!r}" if draft.key is not None else "The same request"
            raise Refusal(
                Code.KEY_CONFLICT,
                f"{what} was used for another message.",
                "Use a new key for a new message; the same key only to repeat one.",
            )
        return self._accepted(json.loads(known["answer"]), repeated=True)

    def _ways(
        self, db: sqlite3.Connection, submission: Submission, own: Box, parent: _Parent | None
    ) -> list[_Way | Refusal]:
        """Return the way to each recipient, then to each of `cc`, or why there is none."""
        within = submission.within
        return [
            self._way(db, address, own, parent) if within in {None, address.space} else unknown(str(address))
            for address in (*submission.recipients, *submission.cc)
        ]

    def _store(
        self,
        db: sqlite3.Connection,
        case: _Case,
        new: apply.NewMessage,
        rung: Mapping[int, Address],
        holding: Mapping[int, Box],
    ) -> tuple[int, Collection[Address | Published]]:
        """Store it and do what goes with it; return its number, and what there is to ring."""
        own, parent = case.own, case.parent
        self._guard.count(new.thread, own.owner, own.id, new.recipients, case.began, late=case.late)
        if new.topic is not None:
            self._replace(db, new, case.began)
        seq = apply.store_message(db, new)
        told: set[Address | Published] = set()
        if not new.deliver_at:
            told.update(_told(address, own) for number, address in rung.items() if number not in holding)
        told.update(self._meet(db, own, seq, new, holding, parent))
        if parent is not None and parent.acks is not None:
            fanout.deliver_one(db, own.id, parent.seq, case.now)
            told.update(self._ending.end(db, (own.id, parent.acks, parent.seq), State.ACKED))
        return seq, told

    def accept_all(
        self, db: sqlite3.Connection, submissions: Sequence[Submission]
    ) -> tuple[Sequence[Accepted | Refusal], Collection[Address | Published]]:
        """Return the answer to each, in their order, and all for whom to ring."""
        answers: list[Accepted | Refusal] = []
        told: set[Address | Published] = set()
        for each in submissions:
            try:
                answer, rung = in_whole(db, partial(self.accept, submission=each))
            except Refusal as refusal:
                answers.append(refusal)
            else:
                answers.append(answer)
                told.update(rung)
        return answers, told

    def answered(self, db: sqlite3.Connection, sender: Address, origin: Origin) -> Accepted | None:
        """Return what that request was answered, None when it is new. It had no key of its own."""
        found = find_mailbox(db, sender)
        known = db.execute(query.KNOWN, (found.id, request_key(origin))).fetchone() if found is not None else None
        return self._accepted(json.loads(known["answer"]), repeated=True) if known is not None else None

    def _replace(self, db: sqlite3.Connection, new: apply.NewMessage, began: int) -> None:
        """End what nobody has seen of the same topic, where the newer one is handed out in its place.

        One that was written before another one arrived is not the newer one.
        """
        for mailbox in set(new.recipients).difference(new.held):
            if mailbox < 0:
                older = db.execute(query.SUPERSEDED, (-mailbox, new.sender, new.topic)).fetchone()
                if older is not None and older["began"] <= began:
                    apply.supersede(db, -mailbox, older["place"])
                continue
            for row in db.execute(query.REPLACEABLE, (mailbox, new.sender, new.topic)).fetchall():
                if row["began"] <= began:
                    self._ending.end(db, (row["mailbox"], row["priority"], row["seq"]), State.REPLACED)

    def _way(self, db: sqlite3.Connection, address: Address, sender: Box, parent: _Parent | None) -> _Way | Refusal:
        """Return the mailbox or channel if it takes this sender's mail: one that does not is as if it did not exist."""
        if address.is_channel:
            channel = fanout.publishable(db, sender, address)
            if channel is None:
                return unknown(str(address))
            return _Way(-channel.id, channel.address, members=channel.members)
        box = self._registry.find(db, address)
        if box is None:
            return unknown(str(address))
        if parent is not None and parent.notice and box.owner == SYSTEM:
            return _nobody_reads(box)
        same_principal = box.owner == sender.owner
        same_space = box.address.space == sender.address.space
        answers = parent is not None and parent.sender == box.id
        admitted = box.contact.admits(same_principal=same_principal, same_space=same_space, answers=answers)
        if not admitted and box.contact is not Contact.ASK:
            return unknown(str(address))
        admitted = admitted or self._requests.is_let_in(db, box, sender)
        refusal = None if admitted else self._requests.refusal(db, box, sender)
        return refusal or _Way(box.id, box.address, holds=None if admitted else box)

    # -- the loop guard

    def _stop(self, case: _Case, parent: _Parent) -> Stop | None:
        """Return why nobody may answer that, or the sender may answer no more in its thread."""
        return self._guard.of_chain(parent.hops, parent.accepted) or self._guard.of_thread(
            parent.thread, case.own.owner, case.now, late=case.late
        )

    def _full(self, case: _Case, way: _Way) -> Stop | None:
        """Return why that mailbox or channel has had enough of the sender."""
        return self._guard.of_pair(case.own.id, way.id, way.address, case.now, late=case.late)

    def _refused(self, refusal: Refusal, told: Collection[Address]) -> tuple[Refusal, Collection[Address | Published]]:
        """Return what others are told of; raise what nobody is, so that nothing is committed for it."""
        if not told:
            raise refusal
        return refusal, {*told}

    def _tell_of(
        self,
        db: sqlite3.Connection,
        own: Box,
        parent: _Parent,
        stop: Stop,
        ways: Iterable[_Way | Refusal],
        *,
        pair: bool = False,
    ) -> Collection[Address]:
        """Tell those whom the answer would have reached; nobody of one to a notice, which nobody waits for."""
        if parent.notice:
            return ()
        to = [way.id for way in ways if isinstance(way, _Way) and way.holds is None]
        # Who is answered by way of a channel that it reads waits as well.
        heard = (way for way in to if way < 0)
        if any(db.execute(query.SUBSCRIBED, (parent.sender, -way)).fetchone() is not None for way in heard):
            to.append(parent.sender)
        what = Stopped(own, parent.seq, parent.thread, parent.hops_before)
        return self._stopping.tell(db, what, stop, to, pair=pair)

    def _tell_of_full(
        self,
        db: sqlite3.Connection,
        own: Box,
        parent: _Parent | None,
        full: Mapping[int, Stop],
        ways: Sequence[_Way],
    ) -> Collection[Address]:
        """Tell those who have had enough of the sender that an answer was not for them any more."""
        if parent is None or not ways:
            return ()
        return self._tell_of(db, own, parent, full[ways[0].id], ways, pair=True)

    # -- strangers

    def _meet(
        self,
        db: sqlite3.Connection,
        own: Box,
        seq: int,
        new: apply.NewMessage,
        holding: Mapping[int, Box],
        parent: _Parent | None,
    ) -> Collection[Address]:
        """Ask those who hold the message whether the sender may write to them; let in those whom it writes to."""
        rung: set[Address] = set()
        for each in holding.values():
            rung.update(self._requests.ask(db, each, own, seq, new))
        rung.update(self._consent(db, own, new.recipients, parent))
        return rung

    def _consent(
        self, db: sqlite3.Connection, own: Box, recipients: Sequence[int], parent: _Parent | None
    ) -> Collection[Address]:
        """Let in whom the sender writes to or answers, of those who wait for that."""
        rung: set[Address] = set()
        if own.contact is Contact.OPEN:
            return rung  # nobody waits there
        if parent is not None and parent.held:
            self._requests.let_in(db, own, parent.sender)  # and acked at once: that rings for nobody
        for other in recipients:
            if other > 0 and self._requests.holds(db, own.id, other) is not None:
                rung.update(self._requests.let_in(db, own, other))
        return rung

    def _accepted(self, answer: Mapping[str, Any], *, repeated: bool) -> Accepted:
        results = tuple(_recipient(name, *said) for name, *said in answer["to"])
        id_ = self._codec.id(answer["seq"])
        thread = id_ if answer["thread"] == answer["seq"] else self._codec.id(answer["thread"])
        return Accepted(id_, thread, results, repeated)

    def _parent(self, db: sqlite3.Connection, mailbox: int, text: str, origin: Origin, began: int) -> _Parent:
        """Return what a reply, written then, answers, and whether answering acks it."""
        handle = self._codec.read(text)
        row = db.execute(query.ANSWERED, (handle.seq,)).fetchone()
        if row is None:
            raise unknown_message(text)
        waiting = waiting_delivery(db, mailbox, handle.seq)
        asker = self._requests.asker(db, mailbox, handle.seq) if row["kind"] == Kind.REQUEST else None
        parent = partial(
            _Parent,
            handle.seq,
            row["thread"],
            row["sender"] if asker is None else asker,
            hops=hops_of_answer(row["hops"], row["began"], began),
            hops_before=row["hops"],
            accepted=row["accepted"],
            notice=row["kind"] != Kind.MESSAGE,
        )
        if waiting is None:
            if self._requests.holds(db, mailbox, row["sender"]) == handle.seq:
                return parent(acks=row["priority"], held=True)
            done = db.execute(query.DONE, (mailbox, handle.seq)).fetchone()
            due = fanout.due_post(db, mailbox, handle.seq, self._now()) if done is None else None
            if due is not None:
                return parent(acks=due["priority"])
            if done is None and row["sender"] != mailbox and not in_a_channel_within_reach(db, mailbox, handle.seq):
                raise unknown_message(text)
            if done is not None and handle.generation not in (None, done["generation"]):
                raise stale_lease(text)
            return parent(acks=None)
        refusal = fenced(text, handle, waiting, origin.reader, self._now())
        if refusal is not None and handle.generation is not None:
            raise refusal
        return parent(acks=None if refusal else waiting["priority"])

    def _forget_sometimes(self, db: sqlite3.Connection, recipients: Sequence[int], now: int) -> None:
        for each in recipients:
            if each < 0:
                self._trim_sometimes(db, -each, now)
        self._accepts += 1
        if self._accepts % _FORGET_EVERY == 1:  # also in lives that are short
            apply.forget_keys(db, now - KEY_AGE, _FORGET_AT_MOST)
            apply.forget_readers(db, now - READER_AGE, _FORGET_AT_MOST)
            self._trim_next(db, now)

    def _trim_sometimes(self, db: sqlite3.Connection, number: int, now: int) -> None:
        channel = db.execute(query.CHANNEL_BY_ID, (number,)).fetchone()
        if channel["last"] % fanout.TRIM_EVERY == 0:
            fanout.trim(db, channel, now)

    def _trim_next(self, db: sqlite3.Connection, now: int) -> None:
        """Trim one channel after the other: those where nothing is said any more have their turn, too."""
        channel = db.execute(query.NEXT_CHANNEL, (self._trimmed,)).fetchone()
        self._trimmed = channel["id"] if channel is not None else 0
        if channel is not None:
            fanout.trim(db, channel, now)


def _check_size(db: sqlite3.Connection, space: str, draft: Draft, recipients: int, most: int) -> None:
    """Raise Refusal(OVER_STORAGE) when the space would keep more than that with this message."""
    kept = db.execute(query.SPACE_SIZE, (space,)).fetchone()
    used = kept["bytes"] if kept is not None else 0
    size = quotas.footprint(
        len(draft.body.encode()), recipients, [each.size for each in draft.attachments], len(draft.signature or "")
    )
    if used + size > most:
        raise quotas.over_storage(space, used, size, most)


def _told(address: Address, publisher: Box) -> Address | Published:
    return Published(address, publisher.address) if address.is_channel else address


@dataclass(frozen=True, slots=True)
class _Parent:
    """The message that a reply answers; `acks` is the priority of the delivery to settle, None for none."""

    seq: int
    thread: int
    sender: int
    """Of the notice of a request who asks: that one is answered."""
    acks: int | None
    hops: int
    """Of the reply."""
    hops_before: int
    """Of what it answers."""
    accepted: int
    """When that was, in ms since 1970 UTC."""
    notice: bool
    """Whether the postmaster wrote it."""
    held: bool = False


@dataclass(frozen=True, slots=True)
class _Case:
    """What is sent, by whom, and when: times in ms since 1970 UTC."""

    own: Box
    draft: Draft
    parent: _Parent | None
    now: int
    began: int
    """When it was written."""

    @property
    def late(self) -> bool:
        """Whether it has waited in an outbox."""
        return self.draft.written is not None


class _Way(NamedTuple):
    """To a mailbox, into its inbox or where it `holds` what strangers send; or to a channel: a negative number."""

    id: int
    address: Address
    holds: Box | None = None
    members: int | None = None


def _result(address: Address, way: _Way | Refusal) -> list[Any]:
    """Return what a repeated request says of a recipient: True for stored, "held", False for unknown, or why not.

    Of a channel its members follow.
    """
    if isinstance(way, _Way):
        members = [] if way.members is None else [way.members]
        return [str(way.address), _HELD if way.holds else True, *members]
    if way.code in {Code.UNKNOWN_MAILBOX, Code.UNKNOWN_CHANNEL}:
        return [str(address), False]
    return [str(address), [way.code.value, way.problem, way.hint]]


def _recipient(name: str, said: Any, members: int | None = None) -> Recipient:
    """Return what `_result` has kept."""
    if said is False:
        return Recipient(name, unknown(name))
    if isinstance(said, list):
        code, problem, hint = said
        return Recipient(name, Refusal(Code(code), problem, hint))
    return Recipient(name, members=members, held=said == _HELD)


def _message(case: _Case, found: Sequence[_Way], rung: Sequence[int]) -> apply.NewMessage:
    """Return the row for these recipients, `rung` first; the others are told quietly."""
    draft, parent = case.draft, case.parent
    quiet = {way.id for way in found}.difference(rung)
    due = case.began + draft.delay
    return apply.NewMessage(
        thread=parent.thread if parent else None,
        sender=case.own.id,
        space=case.own.address.space,
        recipients=(*rung, *quiet),
        reply_to=parent.seq if parent else None,
        priority=int(draft.priority),
        accepted=case.now,
        subject=draft.subject,
        body=draft.body,
        cc=tuple(quiet),
        format=int(draft.format),
        expires=case.began + draft.ttl if draft.ttl is not None else 0,
        receipt=draft.receipt,
        topic=draft.topic,
        deliver_at=due if due > case.now else 0,
        held=tuple(way.id for way in found if way.holds is not None),
        hops=parent.hops if parent else 0,
        attachments=draft.attachments,
        signature=draft.signature,
        written=case.began if case.late else None,
    )


def _began(draft: Draft, now: int) -> int:
    """Return when it was written. Raises Refusal(GIVEN_UP) for what is over before it has arrived."""
    if draft.written is None:
        return now
    began = min(draft.written, now)
    if draft.ttl is not None and began + draft.ttl <= now:
        problem = f"It expired at {moment(began + draft.ttl)}, before it arrived."
        raise Refusal(Code.GIVEN_UP, problem, "If it still matters, send it again.")
    return began


def _nobody_reads(postmaster: Box) -> Refusal:
    return Refusal(
        Code.UNKNOWN_MAILBOX,
        f"Nobody reads what {postmaster.address} is sent.",
        "Answer whom its message is about; settle is how it is done with.",
    )


def _digest(recipients: Sequence[Address], cc: Sequence[Address], draft: Draft) -> bytes:
    """Return what tells one message from another under the same key.

    What is left at its default adds nothing, so that a new option does not make yesterday's keys conflict.
    """
    to = sorted({address.compared for address in recipients})
    content = [str(len(to)), *to, draft.body, draft.subject, draft.priority.word, draft.reply_to or ""]
    content += sorted(f"cc {address.compared}" for address in cc)
    options = (
        ("format", draft.format),
        ("ttl", draft.ttl),
        ("delay", draft.delay),
        ("topic", draft.topic),
        ("receipt", draft.receipt),
    )
    content += [f"{name} {value}" for name, value in options if value]
    content += [f"attachment {each.sha256} {each.name}" for each in draft.attachments]
    parts = [text.encode() for text in content]
    spelled = b"".join([len(part).to_bytes(4, "big") + part for part in parts])
    return hashlib.blake2b(spelled, digest_size=16).digest()
