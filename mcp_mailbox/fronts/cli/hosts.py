"""What hosts start, as far as it is looked at here; a host and its files are `setup`'s to know. Nothing is written.

Only what is sure is told: a file that cannot be read says so, one that knows nothing of us says nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mcp_mailbox import machine
from mcp_mailbox.setup import formats
from mcp_mailbox.setup.hooks import HOOKED, commands
from mcp_mailbox.setup.host import PLUGIN, Host, Launch, Plugin, Scope, Surroundings, launch
from mcp_mailbox.setup.hosts import HOSTS
from mcp_mailbox.setup.plan import NAME
from mcp_mailbox.setup.trouble import Unfit

_OURS = ("mcp-mailbox", "mcp_mailbox")


class Place(NamedTuple):
    """Where a host may have us registered."""

    host: Host
    scope: Scope

    @property
    def name(self) -> str:
        """What it is called here."""
        return self.host.title if self.scope is Scope.USER else "this project"


class Registration(NamedTuple):
    """What a host starts; `fix` says what to do when it cannot be right."""

    details: str
    fix: str = ""
    unrung: str = ""
    """Why it is not rung when mail comes; empty when it can be, as far as its registration tells."""
    ring: str = ""
    """What to do that it is; empty when somebody wants it so."""


PLACES = tuple(Place(host, scope) for scope in Scope for host in HOSTS.values())
_UNRUNG = {
    "claude": ("", ""),
    "codex": ("", ""),
    "opencode": (
        "it has a server that could be asked only when it is started with a port",
        "Start it as `opencode --port 0`; which port that is its relay finds.",
    ),
}
"""What may keep a host that has a bell (`doorbells/`) from being rung that no registration tells, and what to do."""
_NO_BELL = "it has no bell; a wait of its agent ends when mail comes"


def registered() -> Iterator[tuple[Place, Registration]]:
    """Yield how hosts have us registered; nothing of those that are not here, or do not know us."""
    where = _where()
    # In the home directory both scopes are one file.
    seen: set[Path] = set()
    for place in PLACES:
        plugin = place.host.plugin(where)
        if plugin is not None and place.scope is Scope.USER:
            for each in _by_plugin(place.host, plugin, where):
                yield place, each
        for file in place.host.files(where, place.scope):
            if file not in seen:
                seen.add(file)
                for each in _in_file(place.host, file, plugin):
                    yield place, each


def _where() -> Surroundings:
    return Surroundings.of(os.environ, Path.cwd(), mac=sys.platform == "darwin")


def _in_file(host: Host, file: Path, plugin: Plugin | None) -> Iterator[Registration]:
    try:
        said = host.format.read(file.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield Registration(f"{file}: {error.strerror}", f"Make it readable: `chmod u+r {file}`.")
        return
    except (Unfit, ValueError) as error:
        why = error.problem if isinstance(error, Unfit) else error
        yield Registration(f"{file} cannot be read: {why}", "Mend it; its host cannot read it either.")
        return
    servers = formats.at(said, host.servers)
    for name, entry in servers.items() if isinstance(servers, dict) else ():
        starts = launch(entry)
        if found := _ours(name, starts):
            if plugin is not None and plugin.doubles(name, starts.command):
                found = found._replace(fix=_twice(plugin, f"`mcp-mailbox setup --undo --host {host.name}`"))
            unrung, ring = _UNRUNG.get(host.name, (_NO_BELL, ""))
            # Of one that has no bell, no other registration would be rung either.
            if host.name not in _UNRUNG or not found.unrung:
                found = found._replace(unrung=unrung, ring=ring)
            yield found._replace(details=f"{found.details} ({file})")


def _by_plugin(host: Host, plugin: Plugin, where: Surroundings) -> Iterator[Registration]:
    """Yield what our plugin starts, and hooks that are there beside its own."""
    missing = shutil.which(plugin.program) is None
    line = f"plugin {PLUGIN}: {plugin.program} stdio ({plugin.file})"
    yield Registration(line, f"{plugin.program} is not there. {plugin.mend}" if missing else "")
    hooked = HOOKED.get(host.name)
    if hooked is not None:
        for file in hooked.files(where, Scope.USER):
            if _of_hooks(hooked, file):
                yield Registration(f"hooks ({file})", _twice(plugin, f"`mcp-mailbox setup --undo --host {host.name}`"))


def _twice(plugin: Plugin, undoing: str) -> str:
    return f"The plugin has it, too, so it is there twice: run {undoing}, or `{plugin.removal}`."


def hooks() -> Iterator[Registration]:
    """Yield what our hooks run, of you and of this project; with a `fix` where that program is gone."""
    where = _where()
    places = {file: host for host in HOOKED.values() for scope in Scope for file in host.files(where, scope)}
    for file, host in places.items():
        gone = set()
        told = _of_hooks(host, file)
        for words in told:
            program = next((word for word in words if word not in {"exec", "env"} and "=" not in word), "")
            if shutil.which(program) is None:
                gone.add(program)
        for program in sorted(gone):
            fix = "Run `mcp-mailbox setup --hooks`, or take them out of the file: the host tells of it at each turn."
            yield Registration(f"{host.title} run {program}, which is not there ({file})", fix)
        if told and not gone:
            yield Registration(f"{host.title} are set up ({file})")


def _of_hooks(host: Host, file: Path) -> Sequence[Sequence[str]]:
    """Return what our hooks in a file run; nothing of one that cannot be read: its host says so itself."""
    try:
        return list(commands(host, file.read_text(encoding="utf-8-sig")))
    except (OSError, Unfit, ValueError):
        return ()


def _ours(name: str, starts: Launch) -> Registration | None:
    if any(ours in word for word in starts.command for ours in _OURS):
        command, line = starts.command[0], " ".join(starts.command)
        if shutil.which(command) is None:
            return Registration(f"{name}: {line}", f"{command} is not there: `mcp-mailbox setup` registers this one.")
        return Registration(f"{name}: {line}", **_bell(starts.env))
    if starts.url is not None and name == NAME:
        fix = "Register it on stdio (`mcp-mailbox setup`), or have it wait."
        return Registration(f"{name}: {starts.url}", unrung="over HTTP nothing rings a host", ring=fix)
    return None


def _bell(env: Mapping[str, str]) -> dict[str, str]:
    """Return what a registration's environment says against its doorbell."""
    if machine.is_silent(env):
        return {"unrung": f"{machine.DOORBELL_VARIABLE}={env[machine.DOORBELL_VARIABLE]}"}
    home = env.get(machine.HOME_VARIABLE)
    if home is not None and Path(home).expanduser().resolve() != Path(machine.home()).resolve():
        fix = "Run `mcp-mailbox setup`, or look into that home."
        return {"unrung": f"its mail is in another home, {home}", "ring": fix}
    return {}
