"""What would be done to a host's file. Looks, and changes nothing.

An entry of ours is brought up to date, under whatever name it is; one of somebody else's is never touched.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mcp_mailbox.setup import disk, formats
from mcp_mailbox.setup.host import PLUGIN, Host, Plugin, Scope, Server, Surroundings, Written, is_ours, revised
from mcp_mailbox.setup.trouble import Unfit

NAME = "mailbox"
"""What the server is called in hosts, unless somebody wants another name."""

_HIDDEN = "…"
_OUR_NAMES = re.compile(r"MCP_MAILBOX_|\$\{input:mailbox-token\}")
_SECRET = re.compile(
    r"""(?ix) ( ["']? [\w.-]* (?:token|secret|passw|api_?-?key|authorization|credential)[\w.-]* ["']? \s*[:=]\s* )
    (?: "(?:\\.|[^"\\])*" | '[^']*' | [^\s,}\]]+ )"""
)


class Action(StrEnum):
    """What is to be done."""

    ADD = "add"
    UPDATE = "update"
    NOTHING = "nothing"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done to one host's file."""

    host: Host
    scope: Scope
    action: Action
    name: str = NAME
    path: Path | None = None
    """The file as one would call it; None when the host has none in this scope."""
    file: disk.File | None = None
    """What was found there."""
    after: bytes = b""
    """What is to be there."""
    entry: Mapping[str, Any] = field(default_factory=dict)
    """What is to stand under the name."""
    previous: dict[str, Any] | None = None
    """What of ours stands there."""
    trace: formats.Trace = field(default_factory=dict)
    beside: dict[str, Any] | None = None
    besides: list[dict[str, Any]] = field(default_factory=list)
    """What is put into lists, where nothing else is: `path`, `element`, `trace` of each."""
    refused: Unfit | None = None
    snippet: str = ""
    """What to type in by hand, when it is refused."""

    @property
    def at(self) -> tuple[str, ...]:
        """Where in the file the entry is."""
        return (*self.host.servers, self.name)

    def diff(self) -> str:
        """Return a unified diff. What looks like a secret in the lines around the change is not shown."""
        before = (self.file.data if self.file else None) or b""
        old, new = (each.decode(errors="replace").splitlines(keepends=True) for each in (before, self.after))
        name = str(self.path)
        lines = difflib.unified_diff(old, new, name if before else "/dev/null", name)
        return "".join(_masked(line) for line in lines)


def _masked(line: str) -> str:
    text = line.rstrip("\r\n")
    if text.startswith((" ", "-", "+")) and not text.startswith(("---", "+++")):
        # Values that are ours are names of variables; of others' nobody can tell.
        text = _SECRET.sub(lambda found: found[0] if _OUR_NAMES.search(found[0]) else f'{found[1]}"{_HIDDEN}"', text)
    return text + ("\n" if line.endswith("\n") else "\n\\ No newline at end of file\n")


def plan(host: Host, scope: Scope, server: Server, where: Surroundings, name: str | None = None) -> Change:
    """Find out what is to be done so that the host has the server; of a name that is given, under that one alone."""
    path = file_of(host, scope, server, where)
    written = host.write(server)
    wanted = name or NAME
    if path is None:
        refused = Unfit(f"{host.title} has no servers of a project.", "Use --scope user.")
        return Change(host, scope, Action.REFUSE, wanted, refused=refused)
    if written is None:
        refused = Unfit(f"{host.title} takes no servers over HTTP from its file.", "Add it in its settings.")
        return Change(host, scope, Action.REFUSE, wanted, path, refused=refused)
    try:
        _check_alone(host, scope, server, where, wanted)
        return _change(host, scope, server, path, written, name)
    except Unfit as unfit:
        snippet = host.format.shown((*host.servers, wanted), revised(None, written))
        return Change(host, scope, Action.REFUSE, wanted, path, refused=unfit, snippet=snippet)


def _check_alone(host: Host, scope: Scope, server: Server, where: Surroundings, name: str) -> None:
    """Raise Unfit when its user has the server by a plugin, and would have it twice."""
    plugin = host.plugin(where) if scope is Scope.USER else None
    if plugin is not None and plugin.doubles(name, server.command):
        raise twice(plugin)


def twice(plugin: Plugin) -> Unfit:
    """Return why there is no entry beside a plugin."""
    return Unfit(f"It has this server by the plugin {PLUGIN}.", f"To have it from here, run `{plugin.removal}` first.")


def file_of(host: Host, scope: Scope, server: Server, where: Surroundings) -> Path | None:
    """Return the file to edit: one that has an entry of ours, else the first that is there, else the one to make."""
    files = host.files(where, scope)
    there = [each for each in files if each.exists()]
    for each in there if len(there) > 1 else ():
        with contextlib.suppress(Unfit):
            entries = formats.at(host.format.read(disk.read(each).text), host.servers)
            if isinstance(entries, dict) and any(is_ours(entry, server) for entry in entries.values()):
                return each
    return next(iter([*there, *files]), None)


def _change(host: Host, scope: Scope, server: Server, path: Path, written: Written, name: str | None) -> Change:
    file = disk.read(path)
    text = host.fresh if file.data is None else file.text
    said = host.format.read(text)
    present = formats.at(said, host.servers)
    if isinstance(present, list):  # an edit would take the name for a place in it
        raise Unfit(f"What stands at {'.'.join(host.servers)} is no object.", "Mend it, and run this again.")
    entries = present if isinstance(present, dict) else {}
    wanted = _named(entries, server, name)
    found = entries.get(wanted)
    if wanted in entries and not is_ours(found, server):
        raise Unfit(f"Another server is called {wanted!r} there.", "Choose a name with --name, such as post.")
    entry = revised(found, written)
    edited, trace = host.format.put(text, (*host.servers, wanted), entry)
    beside: dict[str, Any] | None = None
    if written.beside and not formats.has(said, *written.beside):
        edited, extra = host.format.append(edited, *written.beside)
        beside = {"path": list(written.beside[0]), "element": dict(written.beside[1]), "trace": extra}
    if file.data is not None and edited == text:
        return Change(host, scope, Action.NOTHING, wanted, path, file, file.data, entry)
    disk.check_replaceable(file)
    action = Action.ADD if found is None else Action.UPDATE
    after = file.encoded(edited)
    return Change(host, scope, action, wanted, path, file, after, entry, found, trace, beside)


def _named(entries: Mapping[str, Any], server: Server, name: str | None) -> str:
    """Return under which name the server is, or is to be."""
    if name or is_ours(entries.get(NAME), server):
        return name or NAME
    ours = [each for each, entry in entries.items() if is_ours(entry, server)]
    return ours[0] if ours else NAME
