"""What hosts start, as far as it is looked at here; a host and its files are `setup`'s to know. Nothing is written.

Only what is sure is told: a file that cannot be read says so, one that knows nothing of us says nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mcp_mailbox import rendezvous
from mcp_mailbox.setup import formats
from mcp_mailbox.setup.host import Host, Launch, Scope, Surroundings, launch
from mcp_mailbox.setup.hosts import claude_code, codex, opencode
from mcp_mailbox.setup.plan import NAME
from mcp_mailbox.setup.trouble import Unfit

_OURS = ("mcp-mailbox", "mcp_mailbox")
_DOORBELL = f"{rendezvous.ENV_PREFIX}DOORBELL"


class Place(NamedTuple):
    """Where a host may have us registered, and what that is called here."""

    name: str
    host: Host
    scope: Scope
    unrung: str = ""
    """What may keep it from being rung that no registration tells."""
    ring: str = ""
    """What to do about that."""


class Registration(NamedTuple):
    """What a host starts; `fix` says what to do when it cannot be right."""

    details: str
    fix: str = ""
    unrung: str = ""
    """Why it is not rung when mail comes; empty when it can be, as far as its registration tells."""
    ring: str = ""
    """What to do that it is; empty when somebody wants it so."""


HOSTS = (
    Place("Claude Code", claude_code.HOST, Scope.USER),
    Place("Codex", codex.HOST, Scope.USER),
    Place("this project", claude_code.HOST, Scope.PROJECT),
    Place(
        "OpenCode",
        opencode.HOST,
        Scope.USER,
        "it has a server that could be asked only when it is started with a port",
        "Start it as `opencode --port 0`; which port that is its relay finds.",
    ),
)


def registrations(place: Place) -> Iterator[Registration]:
    """Yield how the host has us registered; nothing when it is not here, or does not know us."""
    for file in place.host.files(Surroundings(Path.home(), Path(), os.environ), place.scope):
        yield from _in_file(place, file)


def _in_file(place: Place, file: Path) -> Iterator[Registration]:
    try:
        said = place.host.format.read(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield Registration(f"{file}: {error.strerror}", f"Make it readable: `chmod u+r {file}`.")
        return
    except (Unfit, ValueError) as error:
        yield Registration(f"{file} cannot be read: {error}", "Mend it; its host cannot read it either.")
        return
    servers = formats.at(said, place.host.servers)
    for name, entry in servers.items() if isinstance(servers, dict) else ():
        if found := _ours(name, launch(entry)):
            if not found.unrung:
                found = found._replace(unrung=place.unrung, ring=place.ring)
            yield found._replace(details=f"{found.details} ({file})")


def _ours(name: str, starts: Launch) -> Registration | None:
    if any(ours in word for word in starts.command for ours in _OURS):
        command, line = starts.command[0], " ".join(starts.command)
        if shutil.which(command) is None:
            return Registration(f"{name}: {line}", f"{command} is not there: register it anew (`mcp-mailbox status`).")
        return Registration(f"{name}: {line}", **_bell(starts.env))
    if starts.url is not None and name == NAME:
        fix = "Register it on stdio (`mcp-mailbox setup`), or have it wait."
        return Registration(f"{name}: {starts.url}", unrung="over HTTP nothing rings a host", ring=fix)
    return None


def _bell(env: Mapping[str, str]) -> dict[str, str]:
    """Return what a registration's environment says against its doorbell."""
    if env.get(_DOORBELL, "").lower() == "off":
        return {"unrung": f"{_DOORBELL}=off"}
    home = env.get(rendezvous.HOME_VARIABLE)
    if home is not None and Path(home).expanduser().resolve() != Path(rendezvous.home()).resolve():
        fix = "Run `mcp-mailbox setup`, or look into that home."
        return {"unrung": f"its mail is in another home, {home}", "ring": fix}
    return {}
