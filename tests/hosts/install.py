"""Brings the hosts from npm into a directory of this command's own, never globally.

All but Gemini CLI ship native programs, one package a platform; those are started directly, so the Node that a host's
launcher asks for (Claude Code's: 22) is needed by nobody, and no install script runs.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests import npm
from tests.hosts import environment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_PACKAGES = {
    "claude": "@anthropic-ai/claude-code",
    "codex": "@openai/codex",
    "gemini": "@google/gemini-cli",
    "opencode": "opencode-ai",
}
_TRIED = {"claude": "2.1.332", "codex": "0.169.0", "gemini": "0.61.0", "opencode": "1.18.33"}
"""What is fetched unless the newest is asked for: a release of a host's turns no check of ours red."""
_VERSION_SECONDS = 60


@dataclass(frozen=True)
class Program:
    path: Path
    version: str

    @property
    def command(self) -> list[str]:
        """What starts it: of a script, Node first."""
        return [npm.node(), str(self.path)] if self.path.suffix == ".js" else [str(self.path)]


ALL = tuple(_PACKAGES)
AGENTS = ("claude", "codex")
"""Those that play in every scenario; the others are set up and listed alone."""


def default_prefix() -> Path:
    return Path(tempfile.gettempdir()) / f"mailbox-hosts-npm-{os.getuid()}"


def installed(prefix: Path, names: Collection[str], *, update: bool) -> dict[str, Program]:
    """Find these hosts under the prefix; fetch them when one is missing, or when asked for the newest."""
    if update or any(_find(prefix, name) is None for name in names):
        # A bare name would bring an old release where this machine's Node is older than the launcher wants.
        npm.install(prefix, *(f"{_PACKAGES[name]}@{'latest' if update else _TRIED[name]}" for name in names))
    programs = {}
    for name in names:
        package, path = _PACKAGES[name], _find(prefix, name)
        if path is None:
            raise npm.InstallError(
                f"{package} under {prefix} has no program for this platform; delete it and run again"
            )
        found = Program(path, "")
        programs[name] = replace(found, version=_version(found, prefix / "home"))
    return programs


def _find(prefix: Path, name: str) -> Path | None:
    return next((path for path in _candidates(prefix, name) if os.access(path, os.X_OK)), None)


def _candidates(prefix: Path, name: str) -> Iterator[Path]:
    """npm installs only the packages of this platform, so the first program found is the right one."""
    modules = prefix / "node_modules"
    yield from sorted(modules.glob(f"{_PACKAGES[name]}-*/{name}"))
    yield from sorted(modules.glob(f"{_PACKAGES[name]}-*/vendor/*/bin/{name}"))
    yield from sorted(modules.glob(f"{_PACKAGES[name].removesuffix('-ai')}-*/bin/{name}"))
    yield from sorted(modules.glob(f"{_PACKAGES[name]}/bundle/{name}.js"))


def _version(program: Program, home: Path) -> str:
    done = subprocess.run(
        [*program.command, "--version"],
        env=environment.bare(home),
        capture_output=True,
        text=True,
        timeout=_VERSION_SECONDS,
        check=True,
    )
    return done.stdout.strip()
