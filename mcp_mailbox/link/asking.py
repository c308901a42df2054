"""Asks the hub in the name of this machine's agents, and says what there is to say when it does not answer."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts import render
from mcp_mailbox.fronts.verbs import Asking
from mcp_mailbox.link import spelling
from mcp_mailbox.link.hub import Away, Hub, Strange, TooLarge, Unanswered
from mcp_mailbox.link.line import Line
from mcp_mailbox.link.names import Names
from mcp_mailbox.link.notes import Notes
from mcp_mailbox.postoffice import Call, Caller
from mcp_mailbox.store import Clock

T = TypeVar("T")
Json = dict[str, Any]

_PATIENT = 2
"""Attempts at a request while the line stands: a connection that was idle may have been closed."""


class Asker:
    """Everything that is asked goes by here."""

    def __init__(self, hub: Hub, line: Line, notes: Notes, names: Names, clock: Clock) -> None:
        self.hub = hub
        self.life = ""
        """Tells what this process asks from what others did that had its file before: these sort before it."""
        self.line = line
        self._notes = notes
        self._names = names
        self._clock = clock

    async def begin(self, began: int) -> None:
        """Begin a life at that moment, in ms since 1970 UTC, which is later than those of all before."""
        self.life = f"{began:012x}{secrets.token_hex(4)}"
        await self._notes.begin(self.life)

    # -- how it is spelled

    def who(self, call: Call, attempt: int | None = None) -> Json:
        """Spell who asks (`wire.Who`); an attempt at a wait has its number."""
        caller = call.caller
        said = {
            "reader": caller.reader,
            "request": call.request,
            "space": caller.space,
            "own": self._names.own(caller),
            "mailbox": call.mailbox,
            "binds": caller.binds,
            "several": caller.several,
            "life": self.life if attempt is not None else None,
            "attempt": attempt,
        }
        return {name: each for name, each in said.items() if each is not None}

    def spelled(self, asking: Asking) -> Json:
        """Spell what is asked (`wire.Asked`)."""
        said: Json = {
            "who": self.who(asking.call),
            "given": dict(asking.given),
            "label": asking.label,
            "room": asking.room,
            "full": asking.full,
            "raw": True,
        }
        if asking.longest != float("inf"):
            said["longest"] = asking.longest
        if asking.default is not None:
            said["default"] = asking.default
        return said

    def note(
        self, note: str, caller: Caller | None, request: str = "note", attempt: int | None = None, **about: object
    ) -> None:
        """Have the hub told (`wire.Note`); what is None is not said."""
        who = self.who(Call(caller, request), attempt) if caller is not None else {"reader": "edge", "request": "note"}
        self._notes.add({"note": note, "who": who, **{name: each for name, each in about.items() if each is not None}})

    # -- asking

    async def now(self, asking: Asking) -> Json:
        """Ask for what nobody but the hub knows. Raises Refusal as it does, and HUB_AWAY."""
        try:
            return await self.verb(asking.verb, self.spelled(asking))
        except Away:
            raise self.away() from None

    async def verb(self, verb: str, said: Mapping[str, Any], tries: int = _PATIENT) -> Json:
        """Ask the hub. Raises Refusal as it does; Away when it cannot be reached, and is known or found not to be.

        Unanswered when it may have done it.
        """

        async def ask() -> Json:
            try:
                answer = await self.hub.verb(verb, said)
            except TooLarge as odd:
                if not self.line.up:
                    raise  # it is not known what answers there
                problem = f"This is more than the hub {self.hub.url} takes: {odd}."
                raise Refusal(Code.BAD_ARGUMENT, problem, "Nothing was done. Say less at once.") from None
            try:
                return spelling.plausible(verb, answer)
            except Strange as odd:  # it did something, whatever it was
                raise Unanswered(str(odd)) from None

        return await self._patiently(ask, tries, settles=_settles(said))

    async def sends(self, lines: Sequence[Mapping[str, Any]]) -> Sequence[Json]:
        """Hand in several sends (`wire.Sent`) at once; return the answers that came. Raises as `verb`."""
        return await self._patiently(lambda: self.hub.sends(lines), _PATIENT, settles=any(map(_settles, lines)))

    async def _patiently(self, ask: Callable[[], Awaitable[T]], tries: int, *, settles: bool) -> T:
        self.must_stand()
        await self._notes.first_told(settles=settles)
        with self.suspecting():
            asked = False
            for left in range(tries - 1, -1, -1):
                try:
                    with self.line.relying():
                        return await ask()
                except Away as away:
                    asked = asked or isinstance(away, Unanswered)
                    if not left or self.line.since is not None:
                        raise (Unanswered if asked else Away)(str(away)) from None
        raise AssertionError("it is tried once at least")

    def must_stand(self) -> None:
        """Raise Away when the line is known not to stand, upon which it is tried at once."""
        if not self.line.up:
            self.line.hurry()
            if self.line.since is not None or self.line.why:
                raise Away(self.line.why)

    @contextmanager
    def suspecting(self) -> Iterator[None]:
        """Suspect the line when the block comes to nothing. Raises Away, also for what is strange."""
        try:
            yield
        except Away as away:
            self.line.suspect(str(away))
            raise
        except Strange as odd:
            self.line.suspect(str(odd))
            raise Away(str(odd)) from None

    # -- when there is no answer

    def away(self, why: str = "") -> Refusal:
        """Return the refusal for what has to wait for the hub."""
        return Refusal(
            Code.HUB_AWAY,
            " ".join(filter(None, (self.unreachable, why))),
            "Nothing is lost: do the same again later. Mail can be sent meanwhile, and what was fetched be read.",
        )

    def lost(self) -> Refusal:
        """Return the refusal for what the hub may have done or not."""
        return Refusal(
            Code.STORE_FAILED,
            f"{self.unreachable} It was asked, and its answer was lost: whether this was done is not known.",
            "Do the same again later, or look what holds then.",
        )

    @property
    def unreachable(self) -> str:
        """Since when the hub has not been reached, and why, in words."""
        line = self.line
        since = f" since {render.moment(line.since)}" if line.since is not None else ""
        return f"The hub {self.hub.url} has not been reached{since} ({line.why or 'no connection yet'})."

    def about_away(self) -> Json:
        """Return what an answer says that is given without the hub."""
        since = self.line.since if self.line.since is not None else self._clock.now()
        return {"unreachable_since": render.moment(since), "hint": self.unreachable}

    def about_outbox(self, hint: str = "") -> Json:
        """Return what an answer says of what is in the outbox: the hub may be there, and other mail before it."""
        if self.line.up:
            return {"hint": hint} if hint else {}
        return self.about_away() | {"hint": f"{self.unreachable} {hint}".strip()}


def _settles(said: Mapping[str, Any]) -> bool:
    """Whether what is asked (`wire.Asked`) ends leases, too."""
    return any(said["given"].get(name) for name in ("ids", "ack", "reply_to"))
