"""Run the official suite: generic scenarios against `mcp-mailbox serve`, the others against our front with fixtures.

Ends with 0 when every scenario that applies passes, for both protocol versions.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from tests import npm
from tests.conformance.passthrough import passthrough
from tests.conftest import ROOT
from tests.fronts.world import Served

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
VERSIONS = ("2025-11-25", "2026-07-28")
_SECONDS = 300
_STAMPED = re.compile(r"-20\d\d-\d\d-\d\dT.*$")
"""The end of the name of a scenario's folder."""

NOT_OURS = {
    "tasks-": "the extension io.modelcontextprotocol/tasks is not offered: a wait is a call that streams, and mail"
    " outlives every call",
    "sep-2640-": "the skills extension is not offered",
}
"""Scenarios by the beginning of their names that do not apply, with the reason."""

NEEDS_FIXTURES = (
    "tools-call-",
    "elicitation-",
    "input-required-result-",
    "resources-read-",
    "resources-templates-read",
    "resources-subscribe",
    "resources-unsubscribe",
    "prompts-get-",
    "json-schema-2020-12",
    "http-custom-header-server-validation",
    "server-stateless",
)
"""Scenarios that call `test_*` tools, resources and prompts; all others are asked of the server as users run it."""


@dataclass(frozen=True)
class Verdict:
    """What one scenario came to."""

    version: str
    scenario: str
    server: str
    failed: tuple[str, ...]
    passed: int

    @property
    def reason(self) -> str | None:
        """Why it does not apply, if it does not."""
        return next((why for prefix, why in NOT_OURS.items() if self.scenario.startswith(prefix)), None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    default = Path(tempfile.gettempdir()) / "mailbox-conformance-npm"
    parser.add_argument("--prefix", type=Path, default=default, help=f"where the suite is installed ({default})")
    chosen = parser.parse_args()
    try:
        suite = _suite(chosen.prefix)
    except npm.InstallError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    verdicts = anyio.run(_run, suite)
    _report(verdicts)
    bad = [each for each in verdicts if each.failed and each.reason is None]
    return 1 if bad or not verdicts else 0


def _suite(prefix: Path) -> list[str]:
    """Return the command, installed when it is not there."""
    wheel = npm.wheel()
    if wheel is None:
        raise npm.InstallError("The suite needs Node.js 22: pip install -e '.[test,conformance]'")
    program = prefix / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    if not program.exists():
        npm.install(prefix, SUITE)
    return [str(wheel / "bin" / "node"), str(program)]


async def _run(suite: list[str]) -> list[Verdict]:
    verdicts = []
    async with _servers() as servers:
        for version in VERSIONS:
            found = {name: await _judge(suite, url, version, name) for name, url in servers.items()}
            for scenario in found["serve"]:
                server = "fixtures" if scenario.startswith(NEEDS_FIXTURES) else "serve"
                verdicts.append(found[server][scenario])
    return verdicts


@asynccontextmanager
async def _servers() -> AsyncIterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        home = Served(Path(folder)).start()
        command = [sys.executable, "-m", "tests.conformance.serve_fixtures", folder]
        try:
            async with await anyio.open_process(command, cwd=ROOT, env=home.environment(), stderr=None) as fixtures:
                assert fixtures.stdout
                url = (await fixtures.stdout.receive()).decode().strip()
                async with passthrough(home.port, home.token) as port:
                    yield {"serve": f"http://127.0.0.1:{port}/mcp", "fixtures": url}
                fixtures.terminate()
        finally:
            home.end()


async def _judge(suite: list[str], url: str, version: str, server: str) -> dict[str, Verdict]:
    with tempfile.TemporaryDirectory() as folder:
        command = [*suite, "server", "--url", url, "--requirements", version, "--output-dir", folder]
        environment = {"HOME": folder, "PATH": "/usr/bin:/bin"}
        with anyio.fail_after(_SECONDS):
            await anyio.run_process(command, env=environment, check=False)
        return {each.scenario: each for each in _read(Path(folder), version, server)}


def _read(folder: Path, version: str, server: str) -> Iterator[Verdict]:
    for file in sorted(folder.glob("server-*/checks.json")):
        checks: list[dict[str, Any]] = json.loads(file.read_text())
        failed = tuple(f"{each['id']}: {each.get('errorMessage', '')}" for each in checks if _is_bad(each))
        passed = sum(each["status"] == "SUCCESS" for each in checks)
        scenario = _STAMPED.sub("", file.parent.name.removeprefix("server-"))
        yield Verdict(version, scenario, server, failed, passed)


def _is_bad(check: dict[str, Any]) -> bool:
    return bool(check["status"] == "FAILURE")


def _report(verdicts: list[Verdict]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415

    console = Console(soft_wrap=True, highlight=False)
    for each in verdicts:
        if each.failed and each.reason is None:
            console.print(f"[red]FAIL[/red] {each.version} {each.scenario} ({each.server})")
            for why in each.failed:
                console.print(f"       {escape(why)}")
    for prefix, why in NOT_OURS.items():
        count = sum(each.scenario.startswith(prefix) and bool(each.failed) for each in verdicts)
        console.print(f"not applicable: {prefix}* ({count} scenarios): {why}")
    for version in VERSIONS:
        here = [each for each in verdicts if each.version == version and (each.reason is None or not each.failed)]
        good = [each for each in here if not each.failed]
        checks = sum(each.passed for each in here)
        console.print(f"{version}: {len(good)} of {len(here)} scenarios pass, {checks} checks")


if __name__ == "__main__":
    sys.exit(main())
