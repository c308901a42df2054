"""What all suites share: asyncio as anyio's backend, a deadline for every test, a clock that tests step."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
"""The checkout: where a process that a test starts finds `tests` and the package."""
DEADLINE = 60
"""Seconds after which a test that waits for what never comes has failed."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "promise(*ids): the promises of the contract that a test is the test of")
