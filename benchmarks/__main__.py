"""The command: `python -m benchmarks [--only NAME] [--json] [--environment DIR]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import calls, channel, hub, idle, limits, listing, places, ratios, retention, search, start, web

INSTALLED: dict[str, Callable[[places.Place], Iterator[ratios.Row]]] = {
    "start": start.rows,
    "calls": calls.rows,
    "web": web.rows,
}
"""What needs an installation."""
ASKED_FOR: dict[str, Callable[[places.Place], Iterator[ratios.Row]]] = {
    "idle": idle.rows,
    "crowd": idle.crowd,
    "webcrowd": idle.web,
    "hub": hub.rows,
}
"""What needs an installation and minutes: measured only when `--only` names it."""
IN_PROCESS: dict[str, Callable[[], Iterator[ratios.Row]]] = {
    "listing": listing.rows,
    "search": search.rows,
    "retention": retention.rows,
    "channel": channel.rows,
    "limits": limits.measure,
}


def main() -> int:
    """Print the table; 1 when something is above its bar."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios, measured in one run.")
    parser.add_argument(
        "--only", action="append", choices=[*INSTALLED, *ASKED_FOR, *IN_PROCESS], help="measure this alone"
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, absolute values included")
    parser.add_argument("--environment", type=Path, help="a virtual environment in which mcp-mailbox is installed")
    given = parser.parse_args()
    rows = []
    if not given.json:
        print(ratios.HEAD)
    for row in _measure(given.only or [*INSTALLED, *IN_PROCESS], given.environment):
        rows.append(row)
        if not given.json:
            print(row.show(), flush=True)
    if given.json:
        print(json.dumps([row.as_json() for row in rows], indent=2))
    return int(any(row.verdict == "ABOVE" for row in rows))


def _measure(wanted: list[str], environment: Path | None) -> Iterator[ratios.Row]:
    installed = INSTALLED | ASKED_FOR
    if installed.keys() & wanted:
        if environment is None:
            places.note("building an environment ...")
        with places.installed(environment) as made:
            for name in [name for name in installed if name in wanted]:
                places.note(f"measuring {name} ...")
                with places.place(made) as place:
                    yield from installed[name](place)
    for name in [name for name in IN_PROCESS if name in wanted]:
        places.note(f"measuring {name} ...")
        yield from IN_PROCESS[name]()


if __name__ == "__main__":
    sys.exit(main())
