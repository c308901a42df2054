"""Sends of several agents in one request: what comes while requests are under way goes together in the next one.

A hub does a batch with one sync and one request's work. Nobody waits for others who may come: whoever sends alone is
sent at once, and alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import anyio
import anyio.abc

from mcp_mailbox.errors import Blame, Refusal
from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.link import spelling
from mcp_mailbox.link.asking import Asker
from mcp_mailbox.link.hub import Away, Strange, Unanswered, refused, wire_json

Json = dict[str, Any]

_AT_ONCE = 2
"""Requests under way: the hub has something to do while this machine reads what it has answered."""
_BATCH_BYTES = 1 << 20


class _Letter:
    """A send, and what became of it."""

    def __init__(self, said: Json) -> None:
        self.said = said
        self.done = anyio.Event()
        self._answer: Json | Refusal | Away = {}

    @cached_property
    def size(self) -> int:
        """Bytes of it on the wire: of interest to others that may go with it."""
        return len(wire_json(self.said))

    def end(self, answer: Json | Refusal | Away) -> None:
        self._answer = answer
        self.done.set()

    def answer(self) -> Json:
        """Return it. Raises Refusal and Away."""
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class Together:
    """The queue. `run` must run for as long as anything is sent."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._waiting: deque[_Letter] = deque()
        self._filled = anyio.Event()

    async def send(self, said: Json) -> Json:
        """Send it (`wire.Asked`); return the hub's answer. Raises as `Asker.verb`."""
        self._asker.must_stand()
        letter = _Letter(said)
        self._waiting.append(letter)
        self._filled.set()
        try:
            await letter.done.wait()
        finally:
            if not letter.done.is_set() and letter in self._waiting:
                self._waiting.remove(letter)  # nobody wants it any more, and nobody has it yet
        return letter.answer()

    async def run(self) -> None:
        """Carry what waits, for ever."""
        async with anyio.create_task_group() as tasks:
            for _ in range(_AT_ONCE):
                tasks.start_soon(self._carry)

    async def _carry(self) -> None:
        while True:
            while not self._waiting:
                if self._filled.is_set():
                    self._filled = anyio.Event()
                await self._filled.wait()
            batch = self._next()
            try:
                if len(batch) == 1:
                    batch[0].end(await self._asker.verb("send", batch[0].said))
                else:
                    await self._sent(batch)
            except (Away, Refusal) as why:
                for each in batch:
                    each.end(why)

    def _next(self) -> Sequence[_Letter]:
        """Take what fits in one request, one at least."""
        batch = [self._waiting.popleft()]
        size = batch[0].size if self._waiting else 0
        while self._waiting and len(batch) < wire.SENDS_MOST and size + self._waiting[0].size <= _BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size += batch[-1].size
        return batch

    async def _sent(self, batch: Sequence[_Letter]) -> None:
        """Send these; what the hub has not come to waits again. Raises as `Asker.sends`."""
        lines = [{"number": number, "heard": True, **each.said} for number, each in enumerate(batch)]
        stopped = False
        for said in await self._asker.sends(lines):
            number = said.pop("number", None)
            if not isinstance(number, int) or not 0 <= number < len(batch):
                raise Unanswered("it answers what it was not asked")
            answer = _read(said)
            stopped = isinstance(answer, Refusal) and answer.blame is Blame.STORE
            batch[number].end(answer)
        left = [each for each in batch if not each.done.is_set()]
        if stopped:
            self._waiting.extendleft(reversed(left))
        for each in left if not stopped else ():
            each.end(Unanswered("it has not answered all"))


def _read(said: Json) -> Json | Refusal | Away:
    if "error" in said:
        return refused(said)
    try:
        answer = said["answer"]
        return spelling.plausible("send", answer) if isinstance(answer, dict) else Unanswered("its answer is no object")
    except (KeyError, Strange):
        return Unanswered("what it answers cannot be read")
