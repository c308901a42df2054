"""What a seed stands for: who writes what to whom under which key, and which fault strikes when.

Everything here is a pure function of the seed, so that a run can be asked for again. How the machine interleaves the
processes is not in the seed and cannot be: the same seed meets the same mail, the same keys and the same faults.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

PRIORITIES = ("urgent", "normal", "low")
CHANNELS = ("#news", "#half")
"""All boxes are members of the first, every second one of the second; senders come and go in the second."""
NOWHERE = "nobody-there"
"""A mailbox that nobody makes: some mail goes there beside real ones, and is refused."""

KILLS: dict[str, str] = {
    "office": "kill -9 of the post office; where there is an edge, the hub's",
    "edge": "kill -9 of the edge's post office",
    "relay": "kill -9 of a relay: its host sees EOF and starts another one",
    "client": "kill -9 of a host: its relay sees EOF, a server its connection's end",
    "agent": "kill -9 of a host, together with its relay if it has one",
    "both": "kill -9 of a relay, or of a host that speaks HTTP, together with the post office",
}
STOPS: dict[str, str] = {
    "stop": "SIGSTOP of a reader's host for longer than its lease",
    "stale": "the same, and its relay is killed meanwhile: it wakes up with leases that others may hold by then",
}
LINKS: dict[str, str] = {
    "cut": "the link between edge and hub is cut",
    "silent": "nothing passes it and nobody is told; what was held comes late, or is lost",
    "deaf": "the same for what the hub answers: it does what it is asked",
    "trickle": "it passes a byte at a time",
}
FAULTS = KILLS | STOPS | LINKS
RELAYS = ("relay", "stale")
"""What can be done to hosts that have a relay only."""
EDGES = ("edge", *LINKS)
"""What can be done only where there is an edge."""

_LETTERS = 'abcdefghijklmnopqrstuvwxyz      äß→語\U0001f4ec"\\\n\t<>&{}0123456789'
_ODD_BODY = 0.04
"""Share of bodies that are longer than a page of a wait."""
_WITH_FILE = 0.08


@dataclass(frozen=True, slots=True)
class Letter:
    """A message before it is sent. `token` names it for good: it is the body's first line."""

    token: str
    to: tuple[str, ...]
    body: str
    subject: str
    priority: str
    key: str | None
    file: str | None = None
    """What is in a file that goes with it, if its sender can send files."""

    @property
    def digest(self) -> str:
        return digest(self.body)

    @property
    def file_name(self) -> str:
        return f"{self.token.replace('#', '-')}.txt"


@dataclass(frozen=True, slots=True)
class Fault:
    """One blow. `victim` picks among those there are; `early` strikes a post office before it has served.

    Of a link `early` loses what was held, and `lasts` is the share of the longest time for which it is broken.
    """

    kind: str
    victim: int
    early: bool
    pause: float
    """Share of the mean pause between faults that this one waits for."""
    lasts: float = 0.0


def digest(body: str) -> str:
    return hashlib.blake2b(body.encode(), digest_size=12).hexdigest()


def choices(*parts: object) -> Random:
    """Return the stream of choices of that name."""
    return Random(":".join(map(str, parts)))


def letter(seed: int, author: str, number: int, boxes: Sequence[str]) -> Letter:
    """Return the author's message of that number, to one of the boxes or to several, or to channels."""
    pick = choices(seed, author, number, "letter")
    to = pick.sample(list(boxes), k=2 if len(boxes) > 1 and pick.random() < 0.12 else 1)
    if pick.random() < 0.15:
        channels = pick.sample(CHANNELS, k=pick.choice((1, 1, 2)))
        to = [*channels, *(to if pick.random() < 0.3 else [])]
    if pick.random() < 0.03:
        to.append(NOWHERE)
    return _write(pick, f"{author}#{number}", to)


def reply(seed: int, author: str, number: int, to: str) -> Letter:
    """Return the author's answer of that number."""
    return _write(choices(seed, author, number, "reply"), f"{author}#{number}", [to])


def _write(pick: Random, token: str, to: Sequence[str]) -> Letter:
    length = pick.randrange(20, 400) if pick.random() > _ODD_BODY else pick.choice((4_000, 15_000, 40_000))
    text = "".join(pick.choices(_LETTERS, k=length))
    # Without a key the relay's request is the key, which only the relay itself can repeat.
    key = f"key-{token}" if pick.random() < 0.8 else None
    priority = pick.choices(PRIORITIES, weights=(1, 4, 1))[0]
    file = "".join(pick.choices(_LETTERS, k=pick.randrange(1, 2000))) if pick.random() < _WITH_FILE else None
    return Letter(token, tuple(to), f"{token}\n{text}", f"about {token}", priority, key, file)


def faults(seed: int, kinds: Sequence[str], kills: int) -> list[Fault]:
    """Return that many kills, the kinds by turns; every other one is followed by what links do, each fourth by a stop.

    Of those that are among the kinds.
    """
    pick = choices(seed, "faults")
    deadly = _turns(pick, [kind for kind in kinds if kind in KILLS], kills)
    gentle = _turns(pick, [kind for kind in kinds if kind in STOPS], max(kills // 4, 2 if kills else 0))
    broken = _turns(pick, [kind for kind in kinds if kind in LINKS], max(kills // 2, 4 if kills else 0))
    order: list[str] = []
    for place, kind in enumerate(deadly):
        order.append(kind)
        if place % 4 == 0 and gentle:
            order.append(gentle.pop())
        if place % 2 == 0 and broken:
            order.append(broken.pop())
    if not deadly:
        order += gentle
    order += broken
    struck = [Fault(kind, pick.randrange(1 << 16), pick.random() < 0.15, pick.uniform(0.3, 1.7)) for kind in order]
    return [_of_link(seed, place, fault) if fault.kind in LINKS else fault for place, fault in enumerate(struck)]


def _of_link(seed: int, place: int, fault: Fault) -> Fault:
    pick = choices(seed, "link", place)
    return replace(fault, early=pick.random() < 0.5, lasts=pick.random())


def _turns(pick: Random, kinds: Sequence[str], count: int) -> list[str]:
    if not kinds:
        return []
    order = [kinds[place % len(kinds)] for place in range(count)]
    pick.shuffle(order)
    return order
