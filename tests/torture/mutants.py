"""Bugs planted into a copy of the program: the tool is worth something when it catches each of them.

A mutant replaces exact pieces of source; when a piece is not there once, planting fails loudly, for then the program
has moved on and the mutant has to follow (`test_mutants.py` plants all of them in CI).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.torture import report
from tests.torture.clients import NoOffice
from tests.torture.report import Outcome, say
from tests.torture.run import Options, run
from tests.torture.stage import copy_program

_COMMON = "mcp_mailbox/engines/sqlite/common.py"
_RECEIVING = "mcp_mailbox/engines/sqlite/receiving.py"
_SENDING = "mcp_mailbox/engines/sqlite/sending.py"
_FANOUT = "mcp_mailbox/engines/sqlite/fanout.py"
_FENCE = "mcp_mailbox/engines/sqlite/fence.py"
_WRITER = "mcp_mailbox/engines/sqlite/writer.py"
_APPLIERS = "mcp_mailbox/view/apply"
_QUERY = "mcp_mailbox/view/query.py"
_MAILING = "mcp_mailbox/link/mailing.py"
_FORWARDING = "mcp_mailbox/link/forwarding.py"
_EDGES = "mcp_mailbox/fronts/hub/edges.py"
_OFFICE_FAULTS = ("office",)
_HEAL_SECONDS = 16.0
"""Many a mutant never heals; what is left after this is enough to accuse it."""


class Moved(Exception):  # noqa: N818
    """The source has no longer what a mutant replaces."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement; `old` must stand in the file exactly once."""

    file: str
    old: str
    new: str

    def apply(self, program: Path) -> None:
        path = program / self.file
        source = path.read_text(encoding="utf-8")
        if source.count(self.old) != 1:
            raise Moved(f"{self.file} has {source.count(self.old)} times, not once: {self.old!r}")
        path.write_text(source.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug, and the invariants of which at least one must break. `options` make the bug matter."""

    what: str
    edits: tuple[Edit, ...]
    caught_by: frozenset[int]
    options: dict[str, Any] = field(default_factory=dict)

    def plant(self, directory: Path) -> Path:
        """Return the directory of a program with this bug."""
        program = copy_program(directory)
        for edit in self.edits:
            edit.apply(program)
        return program


_CRASHES: dict[str, Any] = {"faults": _OFFICE_FAULTS, "kills": 8, "seconds": 12.0}
_CALM: dict[str, Any] = {"faults": (), "kills": 0, "seconds": 5.0}
_STALE: dict[str, Any] = {"faults": ("stale", "agent", "relay"), "kills": 16, "seconds": 35.0, "lease": 2.0}

_BROKEN: dict[str, Any] = {"over": "edge", "faults": ("office", "cut", "deaf"), "kills": 6, "seconds": 15.0}
_HELD: dict[str, Any] = {
    "over": "edge",
    "kills": 8,
    "seconds": 15.0,
    "lease": 90.0,  # what nobody has seen comes again, but not by itself
    "pace": 0.04,
    "senders": 4,
}

MUTANTS: dict[str, Mutant] = {
    "answer-before-commit": Mutant(
        "the writer answers, and commits 20 ms later",
        (
            Edit(
                _WRITER,
                "            self._seal(self._db)\n",
                "            self._seal(self._db)\n"
                "            for job in batch:\n"
                "                job.answer and job.answer.get_loop().call_soon_threadsafe(job.finish)\n"
                "            __import__('time').sleep(0.02)\n",
            ),
        ),
        frozenset({1}),
        _CRASHES | {"over": "stdio"},  # over HTTP a token that was just made would be unknown
    ),
    "no-fence": Mutant(
        "a lease of any generation settles",
        (Edit(_FENCE, '        if handle.generation == waiting["generation"]:\n', "        if waiting:\n"),),
        frozenset({5, 6}),
        _STALE,
    ),
    "no-deduplication-by-key": Mutant(
        "a retry with the same key is a new message",
        (
            Edit(
                _SENDING,
                "        if known is None:\n            return None\n",
                "        if known is None or draft.key is not None:\n            return None\n",
            ),
            Edit(f"{_APPLIERS}/upkeep.py", '"INSERT INTO idempotency (', '"INSERT OR REPLACE INTO idempotency ('),
        ),
        frozenset({3}),
        _CRASHES,
    ),
    "no-deduplication-of-resends": Mutant(
        "what a relay sends again after a crash is a new message",
        (
            Edit(
                _COMMON,
                '    return f"r:{origin.reader}:{origin.request}"',
                "    return f\"r:{origin}:{__import__('time').time_ns()}\"",
            ),
        ),
        frozenset({3}),
        _CRASHES | {"kills": 14, "senders": 12, "seconds": 20.0},
    ),
    "same-key-any-content": Mutant(
        "of a key only the beginning counts, and whether the content is the same is not asked",
        (
            Edit(_SENDING, 'key = f"k:{draft.key}" if', 'key = f"k:{draft.key[:13]}" if'),
            Edit(_SENDING, '        if known["hash"] != digest:', '        if not known["hash"]:'),
        ),
        frozenset({1, 2, 3}),
        _CALM,
    ),
    "shared-leases": Mutant(
        "what is leased is ready for others too",
        (
            Edit(_QUERY, "  AND i.lease_until <= +:now\n", "  AND :now > 0\n"),
            Edit(
                _RECEIVING,
                '    lapsed = {row["reader"] for row in db.execute(query.LAPSED_READERS, (box, now))}\n'
                "    return [reader for reader in lapsed if reader not in present]",
                '    return [row[0] for row in db.execute("SELECT DISTINCT reader FROM inbox WHERE reader NOT NULL")]',
            ),
        ),
        frozenset({5}),
        _CALM,
    ),
    "newest-first": Mutant(
        "within a priority the newest is handed out first",
        (Edit(_QUERY, "ORDER BY i.priority, i.seq LIMIT :count", "ORDER BY i.priority, i.seq DESC LIMIT :count"),),
        frozenset({4}),
        _CALM,
    ),
    "ack-only-ends-the-lease": Mutant(
        "an ack puts the message back",
        (
            Edit(
                _RECEIVING,
                "        if target.settled:\n",
                "        if target.settled and settlement.outcome is not Outcome.ACK:\n",
            ),
        ),
        frozenset({6}),
        _CALM,
    ),
    "cut-bodies": Mutant(
        "the store keeps 10,000 characters of a body",
        (Edit(_SENDING, "        body=draft.body,\n", "        body=draft.body[:10_000],\n"),),
        frozenset({2}),
        _CALM | {"seconds": 8.0},
    ),
    "forgetful-member": Mutant(
        "of what was published since it looked last a member gets the first message alone",
        (Edit(_FANOUT, "    for post in posts:\n", "    for post in posts[:1]:\n"),),
        frozenset({9}),
        _CALM,
    ),
    "joins-late": Mutant(
        "who joins gets nothing of what is published before it looks for the first time",
        (
            Edit(
                _FANOUT,
                '    place, end = row["place"], min(row["until"], row["last"])\n',
                '    end = min(row["until"], row["last"])\n'
                '    place = row["place"] if row["place"] > row["since"] else end\n',
            ),
        ),
        frozenset({9}),
        _CALM,
    ),
    "forgotten-recipient": Mutant(
        "of several recipients the last one gets nothing",
        (
            Edit(
                f"{_APPLIERS}/messages.py",
                "new.thread or seq, *rest) for mailbox in stored],",
                "new.thread or seq, *rest) for mailbox in stored[:2] if mailbox == new.recipients[0]],",
            ),
        ),
        frozenset({1}),
        _CALM,
    ),
    "outbox-forgets": Mutant(
        "an edge takes what it has handed in for done when the answer is lost",
        (
            Edit(
                _FORWARDING,
                "        with self._line.relying():\n            said_of = await self._told(lines) if lines else []\n",
                "        try:\n"
                "            with self._line.relying():\n"
                "                said_of = await self._told(lines) if lines else []\n"
                "        except Away:\n"
                "            said_of = [{'number': each['number'], 'error': 'given_up'} for each in lines]\n",
            ),
        ),
        frozenset({1}),
        _BROKEN,
    ),
    "outbox-names-anew": Mutant(
        "an edge hands in what its outbox has under a new request each time",
        (
            Edit(
                _FORWARDING,
                '"verb": entry.verb, "who": entry.who, "given": given}\n',
                '"verb": entry.verb, "who": entry.who, "given": given}\n'
                '            line["who"] = entry.who | {"request": f"{self._clock.now()} {entry.number}"}\n',
            ),
        ),
        frozenset({3}),
        _BROKEN | {"seconds": 25.0, "kills": 10, "senders": 10},
    ),
    "outbox-is-overtaken": Mutant(
        "what can go to the hub directly does not wait for the outbox",
        (
            Edit(
                _MAILING,
                "if not self._forwarder.waiting:\n            try:\n                said",
                "if self._forwarder.waiting >= 0:\n            try:\n                said",
            ),
        ),
        frozenset({4}),
        _BROKEN,
    ),
    "former-life-keeps": Mutant(
        "the hub does not put back what a former life of an edge was handed",
        (Edit(_EDGES, "                await self._office.lost(_of_others(edge, life))\n", ""),),
        frozenset({7}),
        _HELD | {"faults": ("edge", "deaf"), "kills": 12, "seconds": 20.0},
    ),
}


def catch_all(names: Sequence[str], seed: int) -> int:
    """Run each mutant; return 1 when one lives."""
    unknown = set(names) - set(MUTANTS)
    if unknown:
        say(f"No mutant {', '.join(sorted(unknown))}. There are {', '.join(MUTANTS)}.")
        return 2
    survivors = [name for name in names or MUTANTS if not _catch(name, seed)]
    say(f"\n{len(survivors)} of {len(names or MUTANTS)} mutants live: {', '.join(survivors) or 'none'}")
    return 1 if survivors else 0


def _catch(name: str, seed: int) -> bool:
    mutant = MUTANTS[name]
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="mailbox-mutant-"))
    try:
        program = mutant.plant(directory / "program")
        outcome = run(Options(seed=seed, program=program, heal_seconds=_HEAL_SECONDS, **mutant.options))
    except (Moved, NoOffice) as reason:
        say(f"BROKEN  {name}: {reason}")  # the program has moved on, and the mutant has to follow
        return False
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    shutil.rmtree(outcome.directory, ignore_errors=True)
    caught = bool(mutant.caught_by & set(outcome.by_invariant))
    say(f"{'caught' if caught else 'LIVES ':<7} {name}: {mutant.what}")
    say(f"        by {_by(outcome)}")
    say(f"        {time.monotonic() - began:.0f} s, {outcome.sends} letters, {report.struck(outcome)}")
    for violation in outcome.violations[:1]:
        say(f"        {violation.text[:220]}")
    return caught


def _by(outcome: Outcome) -> str:
    found = [f"invariant {number} ({count} violations)" for number, count in sorted(outcome.by_invariant.items())]
    return ", ".join(found) or f"nothing; troubles: {list(outcome.troubles) or 'none'}"
