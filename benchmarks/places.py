"""Where it is measured: an environment built from nothing, a home that is thrown away, processes that are ended."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Place:
    """An installation and a home."""

    python: Path
    launcher: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of every process, as lean as a host's."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        wide = dict.fromkeys(
            ("MCP_MAILBOX_THREAD_BUDGET", "MCP_MAILBOX_PAIR_BUDGET"), "1000000"
        )  # counted all the same
        return kept | wide | {"HOME": str(self.home), "MCP_MAILBOX_HOME": str(self.home / "mail")}

    def stop(self) -> None:
        """End the post office, and wait until it has gone."""
        command = [str(self.launcher), "stop"]
        subprocess.run(command, env=self.environment, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def installed(environment: Path | None) -> Iterator[Path]:
    """Install this checkout as a user would; yield the environment's directory. A given one is used as it is."""
    if environment is not None:
        yield environment.absolute()
        return
    with TemporaryDirectory(prefix="mcp-mailbox-benchmarks-") as made:
        venv.create(made, with_pip=True)
        subprocess.run([str(Path(made, "bin", "pip")), "install", "-q", str(REPOSITORY)], check=True)
        yield Path(made)


@contextmanager
def place(environment: Path) -> Iterator[Place]:
    """Yield a place with a home of its own; no post office runs there afterwards."""
    with TemporaryDirectory(prefix="mcp-mailbox-home-") as home:
        made = Place(environment / "bin" / "python", environment / "bin" / "mcp-mailbox", Path(home))
        try:
            yield made
        finally:
            made.stop()


def note(text: str) -> None:
    """Tell whoever waits what is going on."""
    print(text, file=sys.stderr, flush=True)
