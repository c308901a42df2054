"""What there is to know of a host, and what it is to run. The hosts themselves are in `hosts/`.

Knows how entries of servers are told apart and brought up to date; no host by name, and no file but by its path.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mcp_mailbox.setup import disk, formats
from mcp_mailbox.setup.trouble import Unfit

TOKEN = "MCP_MAILBOX_TOKEN"  # noqa: S105 - a variable's name
"""The variable that holds the token for a server over HTTP. No token is ever written, only this name."""
TOOL_SECONDS = 600
"""How long hosts may wait for a tool, where they have such a limit: longer than any wait of ours for them."""

Entry = Mapping[str, Any]

_PROGRAM = "mcp-mailbox"
_PACKAGE = re.compile(rf"{_PROGRAM}(?=$|[=@<>~!\[])")
_RUNNERS = frozenset({"uvx", "uv", "pipx"})
_ENVIRONMENTS = ("env", "environment")
_URLS = ("url", "httpUrl", "serverUrl")
_STDIO_ONLY = frozenset({"command", "args", "cwd", "env_vars", *_ENVIRONMENTS})
_HTTP_ONLY = frozenset({*_URLS, "headers", "http_headers", "env_http_headers", "bearer_token_env_var", "oauth"})


class Scope(StrEnum):
    """For whom a server is registered."""

    USER = "user"
    PROJECT = "project"


@dataclass(frozen=True, slots=True)
class Server:
    """What a host is to start, or to call."""

    command: tuple[str, ...] = ()
    """The program and its arguments; empty for a server over HTTP."""
    env: Mapping[str, str] = field(default_factory=dict)
    """What the program must find in its environment."""
    url: str | None = None
    """Where the server over HTTP is."""
    auth: bool = True
    """Whether it wants a token."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where hosts keep their files: of this user, in this project."""

    home: Path
    project: Path
    env: Mapping[str, str]
    mac: bool = False

    @classmethod
    def of(cls, environ: Mapping[str, str], directory: Path, *, mac: bool) -> Surroundings:
        """Find them from a directory: the project is the repository around it, else the directory itself."""
        home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
        around = (each for each in (directory, *directory.parents) if (each / ".git").exists())
        return cls(home, next(around, directory), environ, mac)

    def directory(self, variable: str, *default: str) -> Path:
        """Return the directory that a variable names, by default one below the home directory."""
        return Path(self.env[variable]) if self.env.get(variable) else self.home.joinpath(*default)

    def applications(self) -> Path:
        """Return where programs with windows keep their settings."""
        return self.home / "Library/Application Support" if self.mac else self.directory("XDG_CONFIG_HOME", ".config")

    def base(self, scope: Scope) -> Path:
        """Return where the files of a scope begin, for hosts that use the same names in both."""
        return self.home if scope is Scope.USER else self.project

    def has_program(self, name: str) -> bool:
        """Whether one can start a program of this name."""
        return shutil.which(name, path=self.env.get("PATH", "")) is not None


@dataclass(frozen=True, slots=True)
class Written:
    """A server as a host writes it."""

    needed: Entry
    """What makes it this server. It replaces what is there."""
    advised: Entry = field(default_factory=dict)
    """What makes it work well. What somebody has set otherwise stays."""
    beside: tuple[tuple[str, ...], Mapping[str, Any]] | None = None
    """What has to stand in a list elsewhere in the file as well: the list, and the element."""


PLUGIN = "mailbox@mcp-mailbox"
"""Our plugin and its marketplace (`plugins/`), as hosts name them."""
PLUGIN_PROGRAM = "mcp-mailbox"
"""What the plugin starts unless its user said otherwise."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """Ours, switched on in a host: it starts the server without any entry."""

    file: Path
    """Where that stands."""
    removal: str
    """The command that takes it out."""
    mend: str
    """What to do when its program is not there."""
    program: str = PLUGIN_PROGRAM
    """What it starts, by its path or by its name."""
    gives_way_to: str = ""
    """An entry of this name is started in its place."""

    def doubles(self, name: str, command: Sequence[str]) -> bool:
        """Whether the host would start the server twice that has an entry with this command, too."""
        return name != self.gives_way_to and tuple(command) != (self.program, "stdio")


def no_plugin(where: Surroundings) -> Plugin | None:
    """Say that a host has none of ours."""
    del where
    return None


@dataclass(frozen=True, slots=True)
class Host:
    """One host: a row of the table in `hosts/__init__.py`."""

    name: str
    title: str
    format: formats.Format
    servers: tuple[str, ...]
    """Where in the file its servers are."""
    files: Callable[[Surroundings, Scope], Sequence[Path]]
    """The files it may have its servers in, the one to be made first; none: there are no servers in that scope."""
    is_here: Callable[[Surroundings], bool]
    write: Callable[[Server], Written | None]
    """How it writes a server; None for one that it cannot have."""
    documented: str
    """Where its format is described."""
    fresh: str = ""
    """What a file that is not there begins with."""
    locked: bool = False
    """Whether it keeps others from writing by a directory `<file>.lock` (npm's proper-lockfile), which we do then."""
    afterwards: str = ""
    """What the user has to do yet."""
    plugin: Callable[[Surroundings], Plugin | None] = no_plugin
    """Our plugin, if it is on; None as well where nobody can tell."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What an entry, in whatever host's format, has a host do."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    url: str | None


def launch(entry: Any) -> Launch:
    """Read an entry."""
    if not isinstance(entry, Mapping):
        return Launch((), {}, None)
    command = entry.get("command", [])
    words = [command] if isinstance(command, str) else command if isinstance(command, list) else []
    arguments = entry.get("args", [])
    words = [*words, *(arguments if isinstance(arguments, list) else [])]
    env: Mapping[str, Any] = next((entry[key] for key in _ENVIRONMENTS if isinstance(entry.get(key), Mapping)), {})
    url = next((entry[key] for key in _URLS if isinstance(entry.get(key), str)), None)
    return Launch(tuple(map(str, words)), {key: str(value) for key, value in env.items()}, url)


def is_ours(entry: Any, server: Server) -> bool:
    """Whether an entry registers this program, be it another installation or over HTTP."""
    found = launch(entry)
    if found.url:
        return found.url == server.url or TOKEN in str(entry) or "mailbox-token" in str(entry)
    if not found.command:
        return False
    program, *arguments = found.command
    name = program.rsplit("/", 1)[-1]
    # Not any word: a directory of this name may be what somebody else's server is to look into.
    runs_package = name in _RUNNERS and any(map(_PACKAGE.match, arguments))
    return name == _PROGRAM or runs_package or (name.startswith("python") and arguments[:2] == ["-m", "mcp_mailbox"])


def revised(present: Any, written: Written) -> dict[str, Any]:
    """Return what an entry of ours should say: what somebody added to it stays."""
    if present is None:
        return {**written.needed, **written.advised}
    needed = dict(written.needed)
    old, new = launch(present), launch(needed)
    switched = bool(old.url) != bool(new.url)
    gone = {"type", *(_STDIO_ONLY if new.url else _HTTP_ONLY)} if switched else set(_URLS)
    kept = {key: value for key, value in present.items() if key in needed or key not in gone}
    for key, value in needed.items():
        if isinstance(value, Mapping) and isinstance(kept.get(key), Mapping):
            needed[key] = {**kept[key], **value}
    if new.command and kept.get("args") and "args" not in needed:
        del kept["args"]
    return {**kept, **needed, **{key: value for key, value in written.advised.items() if key not in kept}}


def stdio(server: Server) -> dict[str, Any]:
    """Return how most hosts write what they start."""
    program, *arguments = server.command
    return {"command": program, "args": arguments} | ({"env": dict(server.env)} if server.env else {})


def said(file: Path, form: formats.Format) -> Mapping[str, Any]:
    """Return what a file says; nothing for one that is not there or cannot be read."""
    try:
        return form.read(disk.read(file).text)
    except (Unfit, OSError):
        return {}


def bearer(server: Server, reference: str) -> dict[str, Any]:
    """Return the headers that most hosts send, with the token's variable as the host refers to it."""
    return {"headers": {"Authorization": f"Bearer {reference}"}} if server.auth else {}
