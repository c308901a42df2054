"""The hooks of Claude Code that say that there is mail: an element in each of three lists of its `settings.json`.

Knows that file, and what runs there; how it is edited, recorded and undone is as with servers. Hooks of others stay.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp_mailbox.setup import disk
from mcp_mailbox.setup.formats import Json
from mcp_mailbox.setup.host import Host, Scope, Server, Surroundings, said
from mcp_mailbox.setup.hosts import claude_code
from mcp_mailbox.setup.jsonc import Dialect
from mcp_mailbox.setup.plan import Action, Change, twice
from mcp_mailbox.setup.trouble import Unfit

EVENTS = ("SessionStart", "UserPromptSubmit", "Stop")
"""Those that `mcp-mailbox hook` knows."""
_NAME = "hooks"
_SECONDS = 10
"""The host ends it then; it gives up by itself after 2."""
_OURS = re.compile(r"(mcp-mailbox|mcp_mailbox)['\"]? hook [A-Za-z]+\s*")


def _files(where: Surroundings, scope: Scope) -> Sequence[Path]:
    if scope is Scope.PROJECT:
        return [where.project / ".claude/settings.json"]
    return [where.directory("CLAUDE_CONFIG_DIR", ".claude") / "settings.json"]


CLAUDE = Host(
    name="claude-hooks",
    title="Claude Code's hooks",
    format=Json(Dialect.JSON),
    servers=(),
    files=_files,
    is_here=lambda where: where.has_program("claude"),
    write=lambda _: None,
    documented="https://code.claude.com/docs/en/hooks",
    afterwards="sessions that are open have them after a restart",
)


def plan_hooks(scope: Scope, server: Server, where: Surroundings) -> Change:
    """Find out what is to be done so that the hooks of this installation are there, once each."""
    path = _files(where, scope)[0]
    try:
        if scope is Scope.USER and (plugin := claude_code.HOST.plugin(where)):
            raise twice(plugin)
        return _change(scope, server, path)
    except Unfit as unfit:
        lists = {event: [_element(server, event)] for event in EVENTS}
        snippet = CLAUDE.format.shown((_NAME,), lists)
        return Change(CLAUDE, scope, Action.REFUSE, _NAME, path, refused=unfit, snippet=snippet)


def registered(where: Surroundings) -> Path | None:
    """Return the user's file that has hooks of ours; None where there are none, or nobody can tell."""
    [path] = _files(where, Scope.USER)
    try:
        there = said(path, CLAUDE.format)
        return path if any(_place(_listed(there, event), event) for event in EVENTS) else None
    except Unfit:
        return None


def _change(scope: Scope, server: Server, path: Path) -> Change:
    file = disk.read(path)
    before = "" if file.data is None else file.text
    text, besides, updated = before, [], False
    for event in EVENTS:
        element = _element(server, event)
        present = _listed(CLAUDE.format.read(text), event)
        found = _place(present, event)
        if found is None:
            text, trace = CLAUDE.format.append(text, (_NAME, event), element)
        else:
            at = (_NAME, event, str(found[0]), "hooks", str(found[1]), "command")
            command = element["hooks"][0]["command"]
            if present[found[0]]["hooks"][found[1]]["command"] == command:
                continue
            text, trace = CLAUDE.format.put(text, at, command)
            element, updated = _listed(CLAUDE.format.read(text), event)[found[0]], True
        besides.append({"path": [_NAME, event], "element": element, "trace": trace})
    entry: Mapping[str, Any] = CLAUDE.format.read(text)[_NAME]
    if text == before:
        return Change(CLAUDE, scope, Action.NOTHING, _NAME, path, file, file.data or b"", entry)
    disk.check_replaceable(file)
    action = Action.UPDATE if updated else Action.ADD
    return Change(CLAUDE, scope, action, _NAME, path, file, file.encoded(text), entry, besides=besides)


def _listed(said: Mapping[str, Any], event: str) -> list[Any]:
    """Return what is there for an event. Raises Unfit for what is none of the host's."""
    hooks = said.get(_NAME, {})
    found = hooks.get(event, []) if isinstance(hooks, dict) else None
    if not isinstance(found, list):
        raise Unfit(f"What stands at {_NAME}.{event} is no list.", "Mend it; its host cannot read it either.")
    return found


def _place(present: Sequence[Any], event: str) -> tuple[int, int] | None:
    """Return where our hook of that event is: which element, which of its hooks."""
    for number, element in enumerate(present):
        inner = element.get("hooks") if isinstance(element, dict) else None
        for place, hook in enumerate(inner if isinstance(inner, list) else ()):
            said = hook.get("command") if isinstance(hook, dict) else None
            if isinstance(said, str) and _OURS.search(said) and said.rstrip().endswith(f" hook {event}"):
                return number, place
    return None


def _element(server: Server, event: str) -> dict[str, Any]:
    *program, _ = server.command
    words = ["env", *(f"{key}={value}" for key, value in server.env.items())] if server.env else []
    command = shlex.join([*words, *program, "hook", event])
    return {"hooks": [{"type": "command", "command": command, "timeout": _SECONDS}]}
