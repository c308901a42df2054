"""What model tests share: a store of its own for each story, and how many stories are told.

A model test is a `StoreMachine` with rules, and `tell_stories` of it. MCP_MAILBOX_EXAMPLES sets how many stories.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from mcp_mailbox.errors import Code, Refusal
from tests.clocks import SteppedClock
from tests.contract.engines import ENGINES
from tests.contract.post import Post

T = TypeVar("T")
EXAMPLES = int(os.environ.get("MCP_MAILBOX_EXAMPLES", "30"))
STEPS = 30


@asynccontextmanager
async def fresh_post(engine: str) -> AsyncIterator[tuple[Path, Post]]:
    """Open a store of that engine in a directory that goes with it."""
    clock = SteppedClock()
    with tempfile.TemporaryDirectory(prefix="mailbox-model-") as name:
        directory = Path(name)
        post = Post(ENGINES[engine](directory / "store", clock), clock)
        await post.engine.open()
        yield directory, post
        await post.engine.close()


class StoreMachine(RuleBasedStateMachine):
    """A story: `post` is its store, `directory` where else it may write. Rules are the subclass's."""

    engine_name = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.directory, self.post = self.run(self._stack.enter_async_context(fresh_post(self.engine_name)))
        self.clock = self.post.clock

    def teardown(self) -> None:
        assert self.run(self.post.store.check()) == "ok"
        self.run(self._stack.aclose())
        self.runner.close()

    def run(self, verb: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(verb)

    def attempt(self, verb: Coroutine[Any, Any, T]) -> T | Code:
        try:
            return self.run(verb)
        except Refusal as refusal:
            return refusal.code

    @property
    def now(self) -> int:
        return self.post.store.clock.now()


def tell_stories(machine: type[StoreMachine], engine: str, *, steps: int = STEPS) -> None:
    """Run the machine against that engine, until a story fails or enough have been told."""
    run_state_machine_as_test(
        type(machine.__name__, (machine,), {"engine_name": engine}),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
