"""One host: a process that writes mail, reads mail or drains mailboxes, over a relay of its own or over HTTP.

Rules what a client does and how it tells its fate: whoever is killed is started again as the next incarnation and
knows what its history says, no more. Refuses to know of faults: an end of file is all that it sees of them.

Run by `stage`: `python -m tests.torture.clients <spec as JSON>`. SIGTERM asks it to finish and leave.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Literal

from mcp_mailbox.fronts.fence import stripped
from tests.torture import history, plan
from tests.torture.relay import Relay
from tests.torture.session import Lost, Refused, Session, TimedOut
from tests.torture.web import Alone, InSession

PATIENCE = 30.0
"""Seconds for a call to survive whatever is being killed."""
TRIES = 6
_CONNECTS = 40
_INCARNATION = 100_000
"""Numbers of letters of one incarnation."""
_UNSURE = {"rpc", "internal", "store_failed", "stopping"}
"""Refusals that do not say that nothing happened."""
_SETTLE_LIMIT = 100
_DAWDLE = 6.0
"""Seconds of a lease beyond which nobody is slower."""
_WORK = 0.03
"""Mean seconds that a reader works on what it got."""

POSTMASTER = "postmaster@"
DRAIN = "drain"
_ENDLESS = 10
"""Times the patience in which everything must have come that is left."""
"""Who takes what is left in the end."""

Role = Literal["sender", "reader"]
Over = Literal["stdio", "session", "alone", "edge"]
"""By a relay; over HTTP in a session (2025-11-25); over HTTP with each request alone (2026-07-28); by a relay at the
edge of the hub that the others ask."""
RELAYED = ("stdio", "edge")
Json = dict[str, Any]


class NoOffice(Exception):  # noqa: N818
    """No post office was found, however often it was asked for."""


@dataclass(frozen=True, slots=True)
class Spec:
    """All that a client is told."""

    role: Role
    name: str
    incarnation: int
    seed: int
    mailbox: str
    boxes: Sequence[str]
    lease: float
    pace: float
    shift: int
    directory: str
    environment: Mapping[str, str]
    over: Over = "stdio"
    port: int = 0
    token: str = ""

    def history(self, incarnation: int | None = None) -> Path:
        number = self.incarnation if incarnation is None else incarnation
        return Path(self.directory) / "history" / f"{self.name}.{number}.jsonl"

    @property
    def relay_file(self) -> Path:
        """Where it says which relay it has, for those who want to kill it."""
        return Path(self.directory) / "relays" / self.name

    def dump(self) -> str:
        return json.dumps(asdict(self))


class Agent:
    """A client's verbs: each records what it asked before it asks, and what it heard."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.asked_to_leave = False
        self._conductor = os.getppid()
        self.history = history.Recorder(spec.history(), history.Timeline(spec.shift))
        self._sessions = 0
        self._name = ""
        self._session: Session | None = None

    @property
    def leaving(self) -> bool:
        """Whether to begin nothing new: asked to, or left alone by a conductor that was killed."""
        return self.asked_to_leave or os.getppid() != self._conductor

    # -- the connection

    def connect(self) -> None:
        """Connect and open the mailbox, again and again: the post office may be away."""
        trouble = ""
        for _ in range(_CONNECTS):
            self._sessions += 1
            self._name = f"{self.spec.name}.{self.spec.incarnation}.{self._sessions}"
            self._session = self._begin()
            self.history.session(self._name, self.spec.name, self._session.pid, self.spec.over)
            number = self.history.invoke(self._name, "open", {"mailbox": address(self.spec.mailbox)})
            try:
                self._session.greet(self._name, PATIENCE)
                # A pool: several agents read one, and whoever comes back after a kill is not to be held up.
                pool = {"name": self.spec.mailbox, "kind": "pool", "share": 100}
                answer = self._session.call("create_mailbox", pool, PATIENCE)
            except (Lost, TimedOut, Refused) as reason:
                trouble = repr(reason)
                self.history.complete(number, "unknown", {"why": trouble})
                self._lose()
                time.sleep(0.05)
            else:
                self.history.complete(number, "ok", answer)
                return
        raise NoOffice(f"{self.spec.name} finds none: {trouble}. See relays.err and home/office.log")

    def close(self) -> None:
        if self._session:
            self.history.ended(self._name, lost=False)
            self._session.close()
            self._session = None

    def _lose(self) -> None:
        if self._session:
            self.history.ended(self._name, lost=True)
            self._session.close()
            self._session = None

    def _begin(self) -> Session:
        spec = self.spec
        match spec.over:
            case "session":
                return InSession(spec.port, spec.token)
            case "alone":
                return Alone(spec.port, spec.token, spec.mailbox)
            case _:
                relay = Relay(spec.environment, Path(spec.directory) / "relays.err")
                self._tell_relay(relay.pid)
                return relay

    def _tell_relay(self, pid: int) -> None:
        fresh = self.spec.relay_file.with_suffix(".new")
        fresh.write_text(str(pid))
        fresh.replace(self.spec.relay_file)

    # -- one call

    def attempt(
        self,
        op: str,
        tool: str,
        arguments: Json,
        note: Json,
        told: Callable[[Json], Json],
        patience: float = PATIENCE,
    ) -> tuple[history.Result, Json]:
        """Call a tool; `note` is what the history says of the arguments, `told` makes it of the answer."""
        if self._session is None:
            self.connect()
        assert self._session
        number = self.history.invoke(self._name, op, note)
        answer: Json = {}
        try:
            answer = stripped(self._session.call(tool, arguments, patience))
        except TimedOut:
            self.history.complete(number, "unknown", {"why": "time-out"})
        except Lost:
            self.history.complete(number, "unknown", {"why": "lost"})
            self._lose()
        except Refused as refused:
            result: history.Result = "unknown" if refused.code in _UNSURE else "fail"
            self.history.complete(number, result, {"why": refused.code, "said": str(refused)[:300]})
            return result, {}
        else:
            self.history.complete(number, "ok", told(answer))
            return "ok", answer
        return "unknown", {}

    # -- verbs

    def send(self, letter: plan.Letter, pick: Random, reply_to: str | None = None) -> history.Result:
        """Send; a retry reuses the key, and what has none cannot be retried without risking a second copy."""
        note = {
            "sender": address(self.spec.mailbox),
            "to": [address(name) for name in letter.to],
            "token": letter.token,
            "key": letter.key,
            "digest": letter.digest,
            "priority": letter.priority,
            "subject": letter.subject,
            "reply_to": reply_to,
        }
        file = self._file(letter)
        note |= {"file": [file.name, plan.digest(letter.file or "")]} if file is not None else {}
        arguments: Json = {"to": letter.to, "body": letter.body, "subject": letter.subject, "priority": letter.priority}
        arguments |= {"reply_to": reply_to} if reply_to else {}
        arguments |= {"key": letter.key} if letter.key else {}
        arguments |= {"attach": [str(file)]} if file is not None else {}
        result: history.Result = "unknown"
        for _ in range(TRIES if letter.key else 1):
            patience = pick.uniform(0.001, 0.1) if pick.random() < 0.03 else PATIENCE
            result, _ = self.attempt("send", "send", arguments, note, _sent, patience)
            if result != "unknown":
                break
        return result

    def _file(self, letter: plan.Letter) -> Path | None:
        """Write what goes with a letter; only who has a relay can name a file of this machine."""
        if letter.file is None or self.spec.over not in RELAYED:
            return None
        path = Path(self.spec.directory) / "files" / letter.file_name
        path.write_bytes(letter.file.encode())
        return path

    def wait(
        self, timeout: float, ack: Sequence[str] = (), patience: float = PATIENCE, box: str | None = None
    ) -> list[Json] | None:
        """Return what came, long bodies whole; None when the answer is unknown, or given without the hub.

        Such an answer says nothing of what was to be acked, which is acked once more with the next one.
        """
        mailbox = box or self.spec.mailbox
        note = {"mailbox": address(mailbox), "ack": list(ack), "timeout": timeout}
        arguments = {"timeout": timeout, "ack": list(ack)} | ({"mailbox": box} if box else {})
        result, answer = self.attempt("wait", "wait_for_message", arguments, note, _received, patience)
        if result != "ok" or "unreachable_since" in answer:
            return None
        for message in answer["messages"]:
            if "more" in message:
                self._read_on(mailbox, message)
            for file in message.get("attachments", ()):
                self._open(mailbox, message["id"], file["name"])
        messages: list[Json] = answer["messages"]
        return messages

    def _open(self, mailbox: str, id_: str, name: str) -> None:
        """Read what is attached."""
        note = {"mailbox": address(mailbox), "id": id_, "name": name}
        arguments = {"id": id_, "attachment": name, "mailbox": mailbox}

        def told(answer: Json) -> Json:
            return {"id": handle(id_)[0], "name": answer["attachment"], "digest": plan.digest(answer["body"])}

        self.attempt("file", "read", arguments, note, told)

    def _read_on(self, mailbox: str, message: Json) -> None:
        body: str = message["body"]
        offset: int | None = message["more"]

        def told(answer: Json) -> Json:
            text = body + answer["body"]
            if "more" in answer:
                return {}
            return {"id": answer["id"], "token": token(text), "digest": plan.digest(text)}

        while offset is not None:
            arguments = {"id": message["id"], "offset": offset, "mailbox": mailbox}
            note = {"mailbox": address(mailbox), "id": message["id"], "offset": offset}
            result, answer = self.attempt("read", "read", arguments, note, told)
            if result != "ok":
                return
            body += answer["body"]
            offset = answer.get("more")

    def settle(self, handles: Sequence[str], outcome: str, box: str | None = None) -> None:
        """End leases; what is unknown is tried once more, which must do no harm."""
        mailbox = box or self.spec.mailbox
        for start in range(0, len(handles), _SETTLE_LIMIT):
            ids = list(handles[start : start + _SETTLE_LIMIT])
            note = {"mailbox": address(mailbox), "ids": ids, "outcome": outcome}
            arguments = {"ids": ids, "outcome": outcome} | ({"mailbox": box} if box else {})
            for _ in range(2):
                result, _ = self.attempt("settle", "settle", arguments, note, _settled)
                if result != "unknown":
                    break

    def subscribe(self, channel: str, *, leave: bool = False) -> None:
        """Join a channel, or leave it."""
        note = {"mailbox": address(self.spec.mailbox), "channel": address(channel)}
        arguments = {"channel": channel, "leave": leave}
        self.attempt("leave" if leave else "subscribe", "subscribe", arguments, note, lambda _: {})

    def states(self, box: str) -> dict[str, str] | None:
        """Return the state of everything that an inbox lists; None when that is unknown."""
        found: dict[str, str] = {}
        cursor: str | None = None
        while True:
            arguments = {"mailbox": box, "limit": 100} | ({"cursor": cursor} if cursor else {})
            note = {"mailbox": address(box)}
            result, answer = self.attempt("list", "list_inbox", arguments, note, _listed)
            if result != "ok" or "unreachable_since" in answer:
                return None
            found |= {message["id"]: message.get("state", "stored") for message in answer["messages"]}
            cursor = answer.get("next")
            if cursor is None:
                return found


# -- what a history keeps of an answer


def address(name: str) -> str:
    return name if "@" in name else f"{name}@default"


def token(body: str) -> str:
    return body.partition("\n")[0]


def handle(text: str) -> tuple[str, int]:
    """Return a handle's message and its lease's generation (docs: the id that a reader settles by)."""
    number, _, generation = text.partition(".")
    return number, int(generation)


def _sent(answer: Json) -> Json:
    to = {each["address"]: each.get("state") or each["error"] for each in answer["to"]}
    return {"id": answer["id"], "to": to, "repeated": answer.get("repeated", False), **_without_hub(answer)}


def _without_hub(answer: Json) -> Json:
    """Keep what an edge says when the hub has not answered."""
    return {name: answer[name] for name in ("accepted", "unreachable_since") if name in answer}


def _listed(answer: Json) -> Json:
    return {"unread": answer.get("unread"), "listed": len(answer["messages"]), **_without_hub(answer)}


def _settled(answer: Json) -> Json:
    failed = {each["id"]: each["error"] for each in answer.get("failed", ())}
    return {"settled": answer["settled"], "failed": failed, **_without_hub(answer)}


def _received(answer: Json) -> Json:
    failed = {each["id"]: each["error"] for each in answer.get("ack_failed", ())}
    messages = [_noted(message) for message in answer["messages"]]
    return {"messages": messages, "ack_failed": failed, **_without_hub(answer)}


def _noted(message: Json) -> Json:
    number, generation = handle(message["id"])
    kind = message.get("kind", "message")
    return ({} if kind == "message" else {"said": message["body"]}) | {
        "id": number,
        "generation": generation,
        "token": token(message["body"]),
        "digest": None if "more" in message else plan.digest(message["body"]),
        "from": message["from"],
        "priority": message["priority"],
        "subject": message["subject"],
        "kind": kind,
        "files": [file["name"] for file in message.get("attachments", ())],
        "verified": message.get("verified", ""),
        "lease_until_ns": int(datetime.fromisoformat(message["lease_until"]).timestamp()) * 1_000_000_000,
    }


# -- roles


def write_mail(agent: Agent) -> None:
    """Send one letter after another; look at what came back now and then."""
    spec = agent.spec
    number = spec.incarnation * _INCARNATION
    held: list[str] = []
    _finish_what_was_begun(agent)
    while not agent.leaving:
        number += 1
        pick = plan.choices(spec.seed, spec.name, number, "step")
        agent.send(plan.letter(spec.seed, spec.name, number, spec.boxes), pick)
        if pick.random() < 0.04:
            agent.subscribe(plan.CHANNELS[1], leave=pick.random() < 0.5)
        if pick.random() < 0.1:
            came = agent.wait(0.0, held)
            held = [message["id"] for message in came or ()] if came is not None else held
        time.sleep(pick.uniform(0, 2 * spec.pace))
    if held:
        agent.settle(held, "ack")


def _finish_what_was_begun(agent: Agent) -> None:
    """Retry the letter during which the incarnation before was killed, with its key: mostly, for some never do."""
    spec = agent.spec
    pick = plan.choices(spec.seed, spec.name, spec.incarnation, "resume")
    if not spec.incarnation or pick.random() < 0.3:
        return
    before = spec.history(spec.incarnation - 1)
    if not before.exists():  # it was killed before it had begun
        return
    sent = [op for op in history.load([before]).ops if op.op == "send"]
    if sent and sent[-1].result == "unknown" and sent[-1].args["key"]:
        number = int(sent[-1].args["token"].partition("#")[2])
        agent.send(plan.letter(spec.seed, spec.name, number, spec.boxes), pick)


def read_mail(agent: Agent) -> None:
    """Wait, and end each lease in one of the ways there are; hold some for too long."""
    spec = agent.spec
    number = spec.incarnation * _INCARNATION
    held: list[str] = []  # to be acked with the next wait
    while not agent.leaving:
        number += 1
        pick = plan.choices(spec.seed, spec.name, number, "step")
        # A wait that is given up at once, mostly before its answer, at times across it.
        patience = pick.uniform(0.001, 0.1) if pick.random() < 0.04 else PATIENCE
        came = agent.wait(pick.uniform(0.2, 2.0), held, patience)
        if came is None:
            continue  # what is held is acked once more
        held = _deal_with(agent, came, pick, number)
    if held:
        agent.settle(held, "ack")


def _deal_with(agent: Agent, came: Iterable[Json], pick: Random, number: int) -> list[str]:
    """Return what is left to ack with the next wait."""
    spec = agent.spec
    ways = ("settle", "next wait", "reply", "release", "reject", "dawdle")
    sorted_: dict[str, list[Json]] = {way: [] for way in ways}
    for message in came:
        if message["from"].startswith(POSTMASTER):
            sorted_["settle"].append(message)  # whom nobody answers
            continue
        again = handle(message["id"])[1] > 1  # somebody else may still believe to have it: hold on to it at times
        sorted_[pick.choices(ways, weights=(44, 40, 8, 4, 2, 12 if again else 0.5))[0]].append(message)
    ids = {way: [message["id"] for message in sorted_[way]] for way in ways}
    time.sleep(pick.expovariate(1 / _WORK))  # it holds leases while it works, which is when to kill it
    if ids["settle"]:
        agent.settle(ids["settle"], "ack")
    for place, message in enumerate(sorted_["reply"]):
        letter = plan.reply(spec.seed, spec.name, number * 10 + place, message["from"].partition("@")[0])
        agent.send(letter, pick, reply_to=message["id"])
    for outcome in ("release", "reject"):
        if ids[outcome]:
            agent.settle(ids[outcome], outcome)
    if ids["dawdle"]:
        if pick.random() < 0.6:
            agent.close()  # and comes back as another reader, with the handles that it remembers
        time.sleep(min(spec.lease, _DAWDLE) * pick.uniform(0.8, 1.6))
        agent.settle(ids["dawdle"], "ack")
    return ids["next wait"]


def drain(agent: Agent, boxes: Sequence[str], seconds: float) -> bool:
    """Take and ack all there is, and note what is left; False when nothing has come for so long, or it never ends."""
    deadline = time.monotonic() + seconds
    end = time.monotonic() + _ENDLESS * seconds
    full = list(boxes)
    patience = 0.0
    while full and time.monotonic() < deadline:
        for box in full:
            while time.monotonic() < deadline and (came := agent.wait(patience, box=box)):
                agent.settle([message["id"] for message in came], "ack", box=box)
                deadline = min(end, time.monotonic() + seconds)  # a fast load may leave thousands
        full = [box for box in full if not _note_left(agent, box)]
        patience = 0.3  # what is left is leased to readers that are gone
    return not full


def _note_left(agent: Agent, box: str) -> bool:
    states = agent.states(box)
    if states is None:
        return False
    agent.history.left(address(box), states)
    return is_done(states)


def is_done(states: Mapping[str, str] | None) -> bool:
    """Tell whether nobody has to take anything there any more. Dead: it was taken too often while it was slow."""
    return states is not None and all(state in {"rejected", "dead"} for state in states.values())


def main() -> None:
    agent = Agent(Spec(**json.loads(sys.argv[1])))

    def leave(*_: object) -> None:
        agent.asked_to_leave = True

    signal.signal(signal.SIGTERM, leave)
    agent.connect()
    {"sender": write_mail, "reader": read_mail}[agent.spec.role](agent)
    agent.close()


if __name__ == "__main__":
    main()
