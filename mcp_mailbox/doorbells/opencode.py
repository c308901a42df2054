"""OpenCode: its own HTTP server takes a prompt for one of its sessions (`prompt_async`), idle or busy.

It has that server where it was started with a port (`opencode --port 4096`, `opencode serve`). Which session is ours no
call of its MCP client says, so it is looked up while a call of ours is under way: the session that is busy then. One
that has not called since the start is taken to be where its user was last: the newest session of the directory that
our relay was started in. A session of another directory is never spoken to. The relay carries the questions, to the
process that started it and no other.

Seen with 1.18.33: a server is started in the directory of its sessions, `session/status` lists the busy sessions of
that process, and a prompt without `agent` and `model` is answered by the default ones and not by the session's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from mcp_mailbox import frames
from mcp_mailbox.doorbell import Outcome, Pointer, Result
from mcp_mailbox.doorbells.claude import Relay, read_outcome

Json = dict[str, Any]

NO_SESSION = "opencode has no session in its directory"
_ODD = "opencode answered something else"
_NEWEST = 20
"""Sessions that are looked through, the newest first: archived ones stand among them."""
_NOT_FOUND = "404"
_REFUSED = "401"


class _UnheardError(Exception):
    """A question came to nothing; says why."""


class OpenCodeBell:
    """The bell of one OpenCode, behind its relay, which was started in `cwd`. `session` tells where it called last."""

    kind = frames.OPENCODE

    def __init__(self, relay: Relay, cwd: str, session: Callable[[], str | None]) -> None:
        self._relay = relay
        self._cwd = cwd
        self._session = session
        self._looking = False

    async def ring(self, pointer: Pointer) -> Result:
        """Prompt the session with the pointer, as who works there now: a planner is not made to build."""
        try:
            session = await self._known() or await self._newest()
            if session is None:
                return Result(Outcome.FAILED, NO_SESSION)
            prompt: Json = {"parts": [{"type": "text", "text": pointer.text()}]}
            if isinstance(agent := session.get("agent"), str):
                prompt["agent"] = agent
            if (model := _model(session)) is not None:
                prompt |= model
            await self._ask("POST", f"/session/{quote(session['id'], safe='')}/prompt_async", prompt)
        except _UnheardError as reason:
            return Result(Outcome.FAILED, str(reason))
        return Result(Outcome.RUNG)

    async def calling(self) -> str | None:
        """Return the session whose call is under way; None when that cannot be told, or is being looked up."""
        if self._looking:
            return None
        self._looking = True
        try:
            states = await self._ask("GET", "/session/status")
            busy = [each for each in states if states[each].get("type") != "idle"]
            if len(busy) > 1:  # a subagent's parent is busy, too
                busy = [each["id"] for each in await self._list() if each["id"] in busy]
            return busy[0] if len(busy) == 1 else None
        except (_UnheardError, AttributeError, TypeError):
            return None
        finally:
            self._looking = False

    async def _known(self) -> Json | None:
        """Return the session that called last, None when it is gone."""
        known = self._session()
        if known is None:
            return None
        found = await self._ask("GET", f"/session/{quote(known, safe='')}", missing={})
        return found if self._is_ours(found) else None

    async def _newest(self) -> Json | None:
        """Return the session of the directory that was used last."""
        ours = [each for each in await self._list() if self._is_ours(each)]
        return max(ours, key=lambda each: each.get("time", {}).get("updated", 0), default=None)

    async def _list(self) -> list[Json]:
        found = await self._ask("GET", "/session", roots="true", limit=_NEWEST)
        if not isinstance(found, list):
            raise _UnheardError(_ODD)
        return [each for each in found if isinstance(each, dict) and isinstance(each.get("id"), str)]

    def _is_ours(self, session: object) -> bool:
        """Tell whether it belongs to the directory, is no subagent's and not put away."""
        if not isinstance(session, dict) or not isinstance(session.get("id"), str) or session.get("parentID"):
            return False
        directory, times = session.get("directory"), session.get("time")
        if not isinstance(directory, str) or not isinstance(times, dict) or times.get("archived"):
            return False
        return os.path.realpath(directory) == os.path.realpath(self._cwd)

    async def _ask(self, method: str, path: str, body: Json | None = None, *, missing: Any = None, **query: Any) -> Any:
        """Return what it answers. `missing`: what stands for what is not there. Raises _UnheardError."""
        # Always with the directory: without, it is the server's own, and sessions of any project are at hand there.
        line = f"{method} {path}?{urlencode({'directory': self._cwd, **query})}"
        if body is not None:
            line += " " + json.dumps(body)
        result = read_outcome(await self._relay(self.kind, line.encode()))
        if result.outcome is not Outcome.RUNG:
            raise _UnheardError(result.reason)
        status, _, text = result.reason.partition(" ")
        if status == _NOT_FOUND and missing is not None:
            return missing
        if status == _REFUSED:
            raise _UnheardError("opencode asks for a password")
        if not status.startswith("2"):
            raise _UnheardError(f"opencode answered {status}")
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise _UnheardError(_ODD) from None


def _model(session: Json) -> Json | None:
    """Return the session's model as a prompt names it, None when it does not say."""
    said = session.get("model")
    if not isinstance(said, dict) or not isinstance(said.get("id"), str) or not isinstance(said.get("providerID"), str):
        return None
    variant = {"variant": said["variant"]} if isinstance(said.get("variant"), str) else {}
    return {"model": {"providerID": said["providerID"], "modelID": said["id"]}, **variant}
