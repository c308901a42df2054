"""Sends of several agents of one machine: what comes while others are under way goes together, and each is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts.verbs import asking
from mcp_mailbox.postoffice import Call
from tests.conftest import DEADLINE
from tests.link.hostile import ME, Json, Pretender, edge, http, say

pytestmark = pytest.mark.anyio
BODIES = ["a", "b", "c", "d", "e", "f"]


class Hub(Pretender):
    """One that answers each send with its body for an id, and refuses what says so."""

    def __init__(self) -> None:
        super().__init__()
        self.holds: anyio.Event = anyio.Event()
        self.batches: list[list[str]] = []
        self.answer = self._answer

    def _answer(self, place: str, body: bytes) -> bytes | None:
        if place == "verbs/send":
            self.batches.append([json.loads(body)["given"]["body"]])
            return http(json.dumps({"id": self.batches[-1][0], "to": []}).encode())
        if place != "sends":
            return None
        lines = [json.loads(line) for line in body.splitlines()]
        self.batches.append([line["given"]["body"] for line in lines])
        assert all(line["heard"] for line in lines)
        answers: list[Json] = []
        for line in lines:
            text = line["given"]["body"]
            if text.endswith("full") and not self.batches.count([text]):
                problem = {"error": "store_full", "message": "The disk is full.", "hint": ""}
                answers.append({"number": line["number"], **problem})
                break
            refused = {"error": "unknown_mailbox", "message": "No mailbox.", "hint": ""}
            answers.append(
                {"number": line["number"], **(refused if text == "refused" else {"answer": {"id": text, "to": []}})}
            )
        return http(b"\n".join(json.dumps(each).encode() for each in answers), "application/x-ndjson")

    async def has(self, requests: int) -> None:
        """Return once so many requests with mail have come."""
        while sum(map(self.asked.count, ("verbs/send", "sends"))) < requests:
            await self.asks(1)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    found = Hub()
    async with found.running():
        yield found


async def sent(hub: Hub, directory: Path, *bodies: str) -> dict[str, object]:
    """Send all of these at once; return what each was answered."""
    said: dict[str, object] = {}
    with anyio.fail_after(DEADLINE):
        async with edge(hub, directory) as branch:
            await branch.line.until_up()

            async def send(body: str) -> None:
                try:
                    answer = await say(branch, "send", body, to="alice", body=body)
                    said[body] = answer.get("accepted", answer["id"])
                except Refusal as refusal:
                    said[body] = refusal.code

            async with anyio.create_task_group() as tasks:
                for number, each in enumerate(bodies[:2], 1):
                    tasks.start_soon(send, each)
                    await hub.has(number)
                for each in bodies[2:]:
                    tasks.start_soon(send, each)
                await anyio.wait_all_tasks_blocked()
                hub.holds.set()
    return said


async def test_what_comes_while_sends_are_under_way_goes_together_and_each_gets_its_own_answer(
    hub: Hub, tmp_path: Path
) -> None:
    assert await sent(hub, tmp_path, *BODIES) == {body: body for body in BODIES}
    assert sorted(map(len, hub.batches)) == [1, 1, 4]


async def test_who_is_refused_hears_it_and_nobody_else_does(hub: Hub, tmp_path: Path) -> None:
    said = await sent(hub, tmp_path, "a", "b", "c", "refused", "d")
    assert said == {"a": "a", "b": "b", "c": "c", "refused": Code.UNKNOWN_MAILBOX, "d": "d"}


async def test_what_a_hub_has_not_come_to_is_sent_again(hub: Hub, tmp_path: Path) -> None:
    said = await sent(hub, tmp_path, "a", "b", "c", "full", "d", "e")
    assert said == {"a": "a", "b": "b", "c": "c", "full": Code.STORE_FULL, "d": "d", "e": "e"}
    assert ["c", "full", "d", "e"] in hub.batches
    assert ["d", "e"] in hub.batches


async def test_what_a_batch_was_not_answered_goes_by_the_outbox(hub: Hub, tmp_path: Path) -> None:
    usual = hub.answer
    hub.answer = lambda place, body: http(b"", "application/x-ndjson") if place == "sends" else usual(place, body)
    said = await sent(hub, tmp_path, "a", "b", "c", "d")
    assert said == {"a": "a", "b": "b", "c": "outbox", "d": "outbox"}


async def test_what_nobody_waits_for_any_more_is_not_sent_if_it_has_not_been(hub: Hub, tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with edge(hub, tmp_path) as branch:
            await branch.line.until_up()
            async with anyio.create_task_group() as tasks:
                for number, body in enumerate(("a", "b"), 1):
                    tasks.start_soon(partial(say, branch, "send", body, to="alice", body=body))
                    await hub.has(number)
                with anyio.move_on_after(0.1):
                    await say(branch, "send", "c", to="alice", body="c")
                hub.holds.set()
            await say(branch, "send", "d", to="alice", body="d")
    assert sorted(hub.batches) == [["a"], ["b"], ["d"]]


async def test_what_no_hub_could_read_is_refused_here_and_keeps_nobody_elses(hub: Hub, tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        async with edge(hub, tmp_path) as branch:
            await branch.line.until_up()
            for mailbox, body, code in ((None, "x" * (2 << 20), Code.BODY_TOO_LARGE), ("x" * 400, "x", Code.BAD_NAME)):
                call = Call(ME, "wrong", mailbox)
                with pytest.raises(Refusal) as refused:
                    await branch.ask(asking("send", {"to": "alice", "body": body}, call))
                assert refused.value.code is code
            hub.holds.set()
            assert (await say(branch, "send", "a", to="alice", body="a"))["id"] == "a"
    assert hub.batches == [["a"]]
