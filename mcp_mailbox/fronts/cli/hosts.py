"""Where hosts keep what they start, as far as it is looked at here; a host is a row of `HOSTS`. Nothing is written.

Only what is sure is told: a file that cannot be read says so, one that knows nothing of us says nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mcp_mailbox import rendezvous

_OURS = "mcp-mailbox"
_DOORBELL = f"{rendezvous.ENV_PREFIX}DOORBELL"


class Host(NamedTuple):
    """A host: where its file is, and how the servers in it are read, by name."""

    name: str
    file: Callable[[], Path]
    servers: Callable[[str], Mapping[str, Any]]


class Registration(NamedTuple):
    """What a host starts; `fix` says what to do when it cannot be right."""

    details: str
    fix: str = ""
    unrung: str = ""
    """Why it is not rung when mail comes; empty when it can be, as far as its registration tells."""
    ring: str = ""
    """What to do that it is; empty when somebody wants it so."""


def _claude_file() -> Path:
    chosen = os.environ.get("CLAUDE_CONFIG_DIR")
    return Path(chosen, ".claude.json") if chosen else Path.home() / ".claude.json"


def _codex_file() -> Path:
    chosen = os.environ.get("CODEX_HOME")
    return Path(chosen or Path.home() / ".codex") / "config.toml"


def _claude_servers(text: str) -> Mapping[str, Any]:
    return _table(json.loads(text), "mcpServers")


def _codex_servers(text: str) -> Mapping[str, Any]:
    import tomllib  # noqa: PLC0415 - of a host that is here alone

    return _table(tomllib.loads(text), "mcp_servers")


def _table(found: Any, name: str) -> Mapping[str, Any]:
    servers = found.get(name) if isinstance(found, dict) else None
    return servers if isinstance(servers, dict) else {}


HOSTS = (
    Host("Claude Code", _claude_file, _claude_servers),
    Host("Codex", _codex_file, _codex_servers),
    Host("this project", lambda: Path(".mcp.json"), _claude_servers),
)


def registrations(host: Host) -> Iterator[Registration]:
    """Yield how the host has us registered; nothing when it is not here, or does not know us."""
    file = host.file()
    try:
        servers = host.servers(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield Registration(f"{file}: {error.strerror}", f"Make it readable: `chmod u+r {file}`.")
        return
    except ValueError as error:
        yield Registration(f"{file} cannot be read: {error}", "Mend it; its host cannot read it either.")
        return
    for name, server in servers.items():
        if isinstance(server, dict) and (found := _ours(name, server)):
            yield found._replace(details=f"{found.details} ({file})")


def _ours(name: str, server: Mapping[str, Any]) -> Registration | None:
    command, url = server.get("command"), server.get("url")
    words = [str(command), *map(str, server.get("args") or ())]
    if isinstance(command, str) and any(_OURS in word or "mcp_mailbox" in word for word in words):
        line = " ".join(words)
        if shutil.which(command) is None:
            return Registration(f"{name}: {line}", f"{command} is not there: register it anew (`mcp-mailbox status`).")
        return Registration(f"{name}: {line}", **_bell(server.get("env")))
    if isinstance(url, str) and name == "mailbox":
        fix = "Register it on stdio (`mcp-mailbox setup`), or have it wait."
        return Registration(f"{name}: {url}", unrung="over HTTP nothing rings a host", ring=fix)
    return None


def _bell(env: Any) -> dict[str, str]:
    """Return what a registration's environment says against its doorbell."""
    said = env if isinstance(env, dict) else {}
    if str(said.get(_DOORBELL, "")).lower() == "off":
        return {"unrung": f"{_DOORBELL}=off"}
    home = said.get(rendezvous.HOME_VARIABLE)
    if home is not None and Path(str(home)).expanduser().resolve() != Path(rendezvous.home()).resolve():
        fix = "Run `mcp-mailbox setup`, or look into that home."
        return {"unrung": f"its mail is in another home, {home}", "ring": fix}
    return {}
