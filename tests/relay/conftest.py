"""One home per test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .world import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # A short name: a socket's path has 100 bytes, and the test's own name would use them up.
    one = World(tmp_path_factory.mktemp("w"))
    yield one
    one.end()
