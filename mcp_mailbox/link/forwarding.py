"""From the outbox to the hub, in its order, once, whoever has gone by then; and what the ids mean that it gave out."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio
from anyio import to_thread

from mcp_mailbox.engines.outbox import KEPT_MS, Entry, Outbox, Parcel
from mcp_mailbox.errors import Blame, Code, Refusal
from mcp_mailbox.fronts import arguments, render
from mcp_mailbox.fronts.hub.wire import GIVEN_BYTES, MARK
from mcp_mailbox.fronts.verbs import Asking
from mcp_mailbox.link.hub import Away, Hub, Strange, Unreadable, refused
from mcp_mailbox.link.line import Line
from mcp_mailbox.link.parcels import Parcels
from mcp_mailbox.postoffice import DAY
from mcp_mailbox.store import Clock

logger = logging.getLogger(__name__)

Json = dict[str, Any]
Sign = Callable[[Entry, Json], Awaitable[Json]]

_BATCH = 200
_BATCH_BYTES = 1 << 20
_LEAST_BYTES = 16 << 10
_BATCH_FILES = 32 << 20
"""Bytes of the files of a batch: they are handed in before it."""
_AGAIN = 1.0
"""Seconds after which what the hub did not take is handed in again."""
_SAID, _NAMED = 200, 10
"""Characters of a subject or a name, and names, in a report of what cannot be sent."""
_DIGITS = 18
"""Of a number that SQLite can hold."""


class Forwarder:
    """Empties the outbox. `sign` returns what a line says besides; `run` must run."""

    def __init__(self, hub: Hub, line: Line, outbox: Outbox, parcels: Parcels, clock: Clock, sign: Sign) -> None:
        self._hub = hub
        self._line = line
        self.outbox = outbox
        self._parcels = parcels
        self._clock = clock
        self._signature = sign
        self._filled = anyio.Event()
        self._drained = anyio.Event()
        self._room = _BATCH_BYTES
        """Of a batch: less after one that did not come through, on a line that is slow."""
        self._unreadable: dict[int, Json] = {}
        """What the hub cannot read, and why it is given up."""

    @property
    def waiting(self) -> int:
        """How much waits: what is sent goes behind it."""
        return self.outbox.waiting

    async def put(self, asking: Asking, who: Json, files: Sequence[Parcel] = (), *, tried: bool = False) -> Entry:
        """Keep it for the hub: on disk when this returns, with its answer if it was kept before. Raises Refusal.

        `tried`: the hub may have it already.
        """
        entry = await self.outbox.put(asking.verb, who, dict(asking.given), self._clock.now(), files, tried=tried)
        self._filled.set()
        return entry

    async def settle(self, asking: Asking, who: Json, mailbox: str) -> Json:
        """Keep a `settle` for the hub; here what it ends is done with from now on. Return what an answer says of that.

        Raises Refusal as `put`, and for what makes no sense: from the hub nobody would hear it.
        """
        asked: arguments.Settle = asking.asked
        _ = asked.settlement
        await self.put(asking, who)
        if asked.ends:
            self.outbox.settled(mailbox, asked.ids)
        return {"accepted": "outbox"}

    async def drained(self) -> None:
        """Return when the outbox is empty the next time."""
        await self._drained.wait()

    async def run(self) -> None:
        """Bring what waits to the hub, in its order, for ever."""
        while True:
            self._filled = anyio.Event()
            if not self.outbox.waiting:
                self._drained.set()
                self._drained = anyio.Event()
                await self._filled.wait()
            await self._line.until_up()
            try:
                await self._batch()
                self._room = min(_BATCH_BYTES, 2 * self._room)
            except Away as away:
                self._room = max(_LEAST_BYTES, self._room // 4)
                self._line.suspect(str(away))
                self._line.hurry()
            except (Strange, Refusal) as odd:
                logger.warning("what waits is not forwarded yet: %s", odd)
                await anyio.sleep(_AGAIN)

    async def _batch(self) -> None:
        """Bring some of it to the hub. Raises Away, Strange, and Refusal when the hub takes nothing now."""
        batch = await self.outbox.next(_BATCH)
        answers: dict[int, Json] = {}
        lines: list[Json] = []
        size = handed = 0
        for entry in batch:
            given = await _replaced(entry.given, self.hubs_id)
            line: Json = {"number": entry.number, "verb": entry.verb, "who": entry.who, "given": given}
            line |= {"at": entry.asked_at, "age": max(0, self._clock.now() - entry.asked_at)}
            line |= await self._signature(entry, given)
            size += len(json.dumps(line))
            handed += sum(each.size for each in entry.files)
            if lines and (size > self._room or handed > _BATCH_FILES or _refers(given)):
                break  # what it refers to has to be answered first
            lines.append(line | await self._files_or_why_not(entry))
        handed_in = {line["number"] for line in lines}
        if new := [each.number for each in batch if each.number in handed_in and not each.tried]:
            await self.outbox.trying(new, self._clock.now())
        with self._line.relying():
            said_of = await self._told(lines) if lines else []
        for said in said_of:
            number = said.pop("number", None)
            if not isinstance(number, int) or number not in handed_in:
                raise Strange("it answers what it was not asked")
            if "error" in said and refused(said).blame is Blame.STORE:
                break  # it is to come again
            answer = said.get("answer", said)
            if not isinstance(answer, dict):
                raise Strange("its answer is no object")
            answers[number] = answer
            if "error" in said:
                logger.warning("%s%d was refused: %s", MARK, number, said["error"])
        if not answers and lines and said_of:
            raise Away("it takes nothing now")
        await self.outbox.answered(answers, self._clock.now())
        done = [each for entry in batch if entry.number in answers for each in entry.files]
        await to_thread.run_sync(self._parcels.remove, done)

    async def _told(self, lines: Sequence[Json]) -> Sequence[Json]:
        """Hand in these. Of several of which one cannot be read none is: it has to be found.

        It has to be said so that the hub can read who sends it what, and report it; what is no send is dropped.
        """
        try:
            return await self._hub.sends(lines)
        except Unreadable as odd:
            if len(lines) > 1:
                self._room = 1  # one at a time
                return []
            [line] = lines
            logger.warning("%s%d cannot be read by the hub: %s", MARK, line["number"], odd)
            problem = render.problem(
                Refusal(Code.BAD_ARGUMENT, f"The hub cannot read it: {odd}.", "Send less at once.")
            )
            if line["number"] in self._unreadable or line["verb"] != "send":
                return [{"number": line["number"], **problem}]
            self._unreadable[line["number"]] = problem
            return []

    async def _files_or_why_not(self, entry: Entry) -> Json:
        """Hand in what is to be attached; return what the line says of it, or why the entry is given up.

        Raises Away, Strange, and Refusal when the hub cannot take files now.
        """
        if (why := self._unreadable.get(entry.number)) is not None:
            return {"refused": why, "given": _brief(entry.given)}
        if entry.tried and self._clock.now() - entry.tried > KEPT_MS:
            # Longer than the hub knows requests: it might have had this one, and would do it again.
            hint = "If it still matters, look whether it was received, and send it again."
            problem = f"The hub has not answered it for more than {KEPT_MS // DAY} days, and it is given up."
            return {"refused": render.problem(Refusal(Code.GIVEN_UP, problem, hint))}
        try:
            for each in entry.files:
                await self._hub.hand_in(each.copy, await to_thread.run_sync(self._parcels.content, each))
        except Refusal as refusal:
            if refusal.blame is Blame.STORE:
                raise
            return {"refused": render.problem(refusal)}
        return {"files": named(entry.files)} if entry.files else {}

    # -- ids

    async def unsent(self, id_: str) -> Entry | None:
        """Return what has that id and is not at the hub: it is on its way, or was refused."""
        entry = await self._entry(id_)
        return entry if entry is not None and (entry.answer is None or "error" in entry.answer) else None

    async def translated(self, asking: Asking) -> Asking:
        """Return it as it is handed on, with the hub's id in the place of one of the outbox that is known by now.

        Raises Refusal(BAD_ARGUMENT) for what no hub would read.
        """
        given = arguments.written(asking.asked, asking.given)
        if (size := len(json.dumps(given))) > GIVEN_BYTES:
            if isinstance(asking.asked, arguments.Send):
                _ = asking.asked.draft  # which says better what is too large
            problem = f"{asking.verb} was given {size:,} bytes, as JSON."
            raise Refusal(Code.BAD_ARGUMENT, problem, f"At most {GIVEN_BYTES:,} go to a hub: say less at once.")
        translated = await _replaced(given, self.hubs_id)
        if translated == given:
            return replace(asking, given=given)
        return replace(asking, given=translated, asked=arguments.parse(type(asking.asked), asking.verb, translated))

    async def hubs_id(self, id_: str) -> str:
        """Return the hub's id in the place of one of the outbox, where that is known; any other one as it is."""
        entry = await self._entry(id_)
        known = entry.answer.get("id") if entry is not None and entry.answer is not None else None
        return str(known) if known is not None else id_

    async def _entry(self, id_: str) -> Entry | None:
        number = _number(id_)
        return await self.outbox.entry(number) if number is not None else None


def named(files: Sequence[Parcel]) -> list[Json]:
    """Return files as the hub is told of them."""
    return [{"name": each.name, "copied": each.copy} for each in files]


def _brief(given: Mapping[str, Any]) -> Json:
    """Return of what a send is given as much as its report has."""
    to, subject = given.get("to", ()), given.get("subject", "")
    several = [to] if isinstance(to, str) else list(to)
    return {"to": [str(each)[:_SAID] for each in several[:_NAMED]], "subject": str(subject)[:_SAID], "body": ""}


def _number(id_: str) -> int | None:
    """Return the number in an id of the outbox; None for any other id."""
    number = id_.removeprefix(MARK)
    good = number != id_ and number.isascii() and number.isdigit() and len(number) <= _DIGITS
    return int(number) if good else None


def _refers(given: Mapping[str, Any]) -> bool:
    """Whether arguments name an id of the outbox."""
    several = [given.get("reply_to"), *(given.get("ids") or ())]
    return any(isinstance(each, str) and each.startswith(MARK) for each in several)


async def _replaced(given: Mapping[str, Any], hubs: Callable[[str], Any]) -> Json:
    """Return arguments with ids of the hub's for those of the outbox."""
    found: Json = {}
    for name, each in given.items():
        if name in {"id", "ids", "thread", "reply_to", "ack"} and isinstance(each, str) and each.startswith(MARK):
            found[name] = await hubs(each)
        elif name in {"ids", "ack"} and isinstance(each, list):
            found[name] = [await hubs(one) if isinstance(one, str) and one.startswith(MARK) else one for one in each]
        else:
            found[name] = each
    return found
