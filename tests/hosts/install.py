"""Brings the hosts from npm into a directory of this command's own, never globally.

Both packages ship native programs, one package a platform; those are started directly, so the Node that a host's
launcher asks for (Claude Code's: 22) is needed by nobody, and no install script runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hosts import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGES = {"claude": "@anthropic-ai/claude-code", "codex": "@openai/codex"}
_AGENTS_VARIABLES = ("CLAUDE", "ANTHROPIC", "CODEX", "OPENAI", "MCP_")
_NPM_SECONDS = 600
_VERSION_SECONDS = 60


class InstallError(Exception):
    """The hosts cannot be had: says what to do."""


@dataclass(frozen=True)
class Program:
    path: Path
    version: str


def default_prefix() -> Path:
    return Path(tempfile.gettempdir()) / f"mailbox-hosts-npm-{os.getuid()}"


def installed(prefix: Path, *, update: bool) -> dict[str, Program]:
    """Find both hosts under the prefix; fetch them when one is missing, or when asked for the newest."""
    if update or any(_find(prefix, name) is None for name in _PACKAGES):
        _fetch(prefix)
    programs = {}
    for name, package in _PACKAGES.items():
        path = _find(prefix, name)
        if path is None:
            raise InstallError(f"{package} under {prefix} has no program for this platform; delete it and run again")
        programs[name] = Program(path, _version(path, prefix / "home"))
    return programs


def _fetch(prefix: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise InstallError("npm is not on the PATH; install Node.js with npm, any version since 18")
    prefix.mkdir(parents=True, exist_ok=True)
    flags = ["--ignore-scripts", "--include=optional", "--no-fund", "--no-audit", "--loglevel=error"]
    # A bare name would bring an old release where this machine's Node is older than the launcher wants.
    wanted = [f"{package}@latest" for package in _PACKAGES.values()]
    command = [npm, "install", "--prefix", str(prefix), "--cache", str(prefix / "npm-cache"), *flags, *wanted]
    # npm is no host: it keeps the shell's proxy and certificate settings, which a registry may need.
    shell = {key: value for key, value in os.environ.items() if not key.startswith(_AGENTS_VARIABLES)}
    done = subprocess.run(
        command,
        cwd=prefix,
        env=shell,
        capture_output=True,
        text=True,
        timeout=_NPM_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise InstallError(f"npm install failed ({done.returncode}):\n{done.stderr[-2000:]}")


def _find(prefix: Path, name: str) -> Path | None:
    return next((path for path in _candidates(prefix, name) if os.access(path, os.X_OK)), None)


def _candidates(prefix: Path, name: str) -> Iterator[Path]:
    """npm installs only the packages of this platform, so the first program found is the right one."""
    modules = prefix / "node_modules"
    yield from sorted(modules.glob(f"{_PACKAGES[name]}-*/{name}"))
    yield from sorted(modules.glob(f"{_PACKAGES[name]}-*/vendor/*/bin/{name}"))


def _version(program: Path, home: Path) -> str:
    done = subprocess.run(
        [program, "--version"],
        env=environment.bare(home),
        capture_output=True,
        text=True,
        timeout=_VERSION_SECONDS,
        check=True,
    )
    return done.stdout.strip()
