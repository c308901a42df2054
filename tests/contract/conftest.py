"""The store under test, once for each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tests.clocks import SteppedClock
from tests.conftest import DEADLINE
from tests.contract.engines import ENGINES
from tests.contract.post import Post


@pytest.fixture(params=ENGINES)
async def post(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Post]:
    clock = SteppedClock()
    engine = ENGINES[request.param](tmp_path / "store", clock)
    with anyio.fail_after(DEADLINE):
        await engine.open()
        yield Post(engine, clock)
        await engine.close()
