"""The hooks of Claude Code and Codex that say that there is mail: an element in each of three lists of a file of JSON.

Knows those files, and what runs there; how they are edited, recorded and undone is as with servers. Hooks of others
stay. Claude Code's are in its `settings.json`, Codex's in a `hooks.json` of the same shape (seen with 0.169.0; in
config.toml, where they may be as well, each list would be an array of tables between what its user wrote).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_mailbox.hook import EVENTS, REWAKE, REWAKES
from mcp_mailbox.setup import disk
from mcp_mailbox.setup.formats import Json
from mcp_mailbox.setup.host import Host, Scope, Server, Surroundings
from mcp_mailbox.setup.hosts import claude_code, codex
from mcp_mailbox.setup.jsonc import Dialect
from mcp_mailbox.setup.plan import Action, Change, twice
from mcp_mailbox.setup.trouble import Unfit

_NAME = "hooks"
_SECONDS = 10
"""The host ends it then; it gives up by itself after 2."""
_WAIT_SECONDS = 7 * 24 * 3600
"""For one that waits: by default Claude Code ends those in the background after ten minutes."""
_OURS = re.compile(r"(mcp-mailbox|mcp_mailbox)['\"]? hook [A-Za-z]+(?: --rewake)?\s*$")


def _claude(where: Surroundings, scope: Scope) -> Sequence[Path]:
    if scope is Scope.PROJECT:
        return [where.project / ".claude/settings.json"]
    return [where.directory("CLAUDE_CONFIG_DIR", ".claude") / "settings.json"]


def _codex(where: Surroundings, scope: Scope) -> Sequence[Path]:
    home = where.directory("CODEX_HOME", ".codex")
    return [(home if scope is Scope.USER else where.project / ".codex") / "hooks.json"]


CLAUDE = Host(
    name="claude-hooks",
    title="Claude Code's hooks",
    format=Json(Dialect.JSON),
    servers=(),
    files=_claude,
    is_here=lambda where: where.has_program("claude"),
    plugin=claude_code.HOST.plugin,
    write=lambda _: None,
    documented="https://code.claude.com/docs/en/hooks",
    afterwards="sessions that are open have them after a restart",
)
CODEX = Host(
    name="codex-hooks",
    title="Codex's hooks",
    format=Json(Dialect.JSON),
    servers=(),
    files=_codex,
    is_here=lambda where: where.has_program("codex"),
    plugin=codex.HOST.plugin,
    write=lambda _: None,
    documented="https://developers.openai.com/codex/hooks",
    afterwards="they do nothing until you have trusted them: Codex asks at its next start in a terminal, or type /hooks"
    " there; `codex exec` leaves them out until then, and says nothing",
)
HOOKED: Mapping[str, Host] = {"claude": CLAUDE, "codex": CODEX}
"""By the host whose hooks they are."""


@dataclass(frozen=True, slots=True)
class _Hook:
    """One of ours: in which list, and what is behind the event's name."""

    event: str
    more: str = ""


def plan_hooks(host: Host, scope: Scope, server: Server, where: Surroundings, *, rewake: bool = False) -> Change:
    """Find out what is to be done so that the hooks of this installation are there, once each.

    With `rewake` also those that wait for mail; only Claude Code has such.
    """
    path = host.files(where, scope)[0]
    hooks = [_Hook(event) for event in EVENTS]
    if rewake and host is CLAUDE:
        hooks += [_Hook(event, f" {REWAKE}") for event in REWAKES]
    try:
        if scope is Scope.USER and (plugin := host.plugin(where)):
            raise twice(plugin)
        return _change(host, scope, server, path, hooks)
    except Unfit as unfit:
        lists: dict[str, list[Any]] = {}
        for each in hooks:
            lists.setdefault(each.event, []).append(_element(server, each))
        return Change(
            host, scope, Action.REFUSE, _NAME, path, refused=unfit, snippet=host.format.shown((_NAME,), lists)
        )


def commands(host: Host, text: str) -> Iterator[Sequence[str]]:
    """Yield the words of each command of ours in a file of hooks. Raises Unfit, and ValueError for no words."""
    said = host.format.read(text)
    for event in EVENTS:
        for element in _listed(said, event):
            for hook in _inner(element):
                if _is_ours(hook):
                    yield shlex.split(hook["command"])


def _change(host: Host, scope: Scope, server: Server, path: Path, hooks: Sequence[_Hook]) -> Change:
    file = disk.read(path)
    before = "" if file.data is None else file.text
    text, besides, updated = before, [], False
    for each in hooks:
        element = _element(server, each)
        present = _listed(host.format.read(text), each.event)
        found = _place(present, each)
        if found is None:
            text, trace = host.format.append(text, (_NAME, each.event), element)
        else:
            at = (_NAME, each.event, str(found[0]), "hooks", str(found[1]), "command")
            command = element["hooks"][0]["command"]
            if present[found[0]]["hooks"][found[1]]["command"] == command:
                continue
            text, trace = host.format.put(text, at, command)
            element, updated = _listed(host.format.read(text), each.event)[found[0]], True
        besides.append({"path": [_NAME, each.event], "element": element, "trace": trace})
    entry: Mapping[str, Any] = host.format.read(text)[_NAME]
    if text == before:
        return Change(host, scope, Action.NOTHING, _NAME, path, file, file.data or b"", entry)
    disk.check_replaceable(file)
    action = Action.UPDATE if updated else Action.ADD
    return Change(host, scope, action, _NAME, path, file, file.encoded(text), entry, besides=besides)


def _listed(said: Mapping[str, Any], event: str) -> list[Any]:
    """Return what is there for an event. Raises Unfit for what is none of the host's."""
    hooks = said.get(_NAME, {})
    found = hooks.get(event, []) if isinstance(hooks, dict) else None
    if not isinstance(found, list):
        raise Unfit(f"What stands at {_NAME}.{event} is no list.", "Mend it; its host cannot read it either.")
    return found


def _inner(element: Any) -> list[Any]:
    """Return the hooks of an element."""
    inner = element.get("hooks") if isinstance(element, dict) else None
    return inner if isinstance(inner, list) else []


def _is_ours(hook: Any) -> bool:
    said = hook.get("command") if isinstance(hook, dict) else None
    return isinstance(said, str) and _OURS.search(said) is not None


def _place(present: Sequence[Any], wanted: _Hook) -> tuple[int, int] | None:
    """Return where our hook of that kind is: which element, which of its hooks."""
    for number, element in enumerate(present):
        for place, hook in enumerate(_inner(element)):
            if _is_ours(hook) and hook["command"].rstrip().endswith(f" hook {wanted.event}{wanted.more}"):
                return number, place
    return None


def _element(server: Server, each: _Hook) -> dict[str, Any]:
    *program, _ = server.command
    words = ["env", *(f"{key}={value}" for key, value in server.env.items())] if server.env else []
    command = shlex.join([*words, *program, "hook", each.event]) + each.more
    if each.more:
        command = f"exec {command}"  # or a shell waits as well
        hook = {"type": "command", "command": command, "asyncRewake": True, "timeout": _WAIT_SECONDS}
    else:
        hook = {"type": "command", "command": command, "timeout": _SECONDS}
    return {"hooks": [hook]}
