"""What all suites share: asyncio as anyio's backend, a deadline for every test, a clock that tests step."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)  # how long an example takes is the machine's business
settings.load_profile("no-deadline")

ROOT = Path(__file__).parent.parent
"""The checkout: where a process that a test starts finds `tests` and the package."""
DEADLINE = 60
"""Seconds after which a test that waits for what never comes has failed."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_configure(config: pytest.Config) -> None:
    # A shell that starts us in the background has it ignored, which programs that we start would take over: Ctrl-C
    # would mean nothing to them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "soak: takes long, and is played by .ci/run in a step of its own")
    config.addinivalue_line("markers", "promise(*ids): the promises of the contract that a test is the test of")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count the stories of models among what takes long: their machine tells hundreds of them."""
    for item in items:
        if item.path.name.endswith("_model.py"):
            item.add_marker("soak")
