"""A host's limit is learnt from when it gives up; waits are answered before it from then on."""

from __future__ import annotations

import math
from pathlib import Path

import anyio
import pytest
from mcp.shared.exceptions import MCPError

from mcp_mailbox.fronts.mcp import patience
from mcp_mailbox.fronts.mcp.patience import Patience, Patiences
from tests.fronts.inside import Line, inside
from tests.fronts.world import LEGACY, MODERN, Agent, Served, Town, both_eras

Json = dict[str, object]

TIMED_OUT = "McpError: MCP error -32001: Request timed out"
SOMEHOW = "MCP request cancelled by caller"
"""What Codex says in either case."""
LIMIT = 0.4
"""Seconds after which the hosts of these tests give up."""

pytestmark = [*both_eras]


# -- what is learnt from which moments (seconds)


@pytest.mark.parametrize(
    "reason",
    [
        TIMED_OUT,
        "SdkError: Request timed out",
        "request timeout",
        "timed out after 10.0s",
        "TimeoutError: The operation was aborted due to timeout",
    ],
)
def test_a_host_that_says_that_a_call_timed_out_is_believed_at_once(reason: str) -> None:
    host = Patience()
    host.gave_up(100, 110, reason)
    assert host.longest == 9


@pytest.mark.parametrize(
    "reason", [None, SOMEHOW, "AbortError: The operation was aborted.", "", 7, {"timed out": "timed out"}]
)
def test_a_host_that_does_not_say_so_is_believed_when_it_gives_up_twice_after_the_same_time(reason: object) -> None:
    host = Patience()
    host.gave_up(100, 110, reason)
    assert host.longest == math.inf
    host.gave_up(111, 121, reason)
    assert host.longest == 9


@pytest.mark.parametrize(
    ("limit", "longest"), [(600, 540), (60, 54), (10, 9), (5, 4), (2, 1), (1.5, 0.75), (1.03, 0.51)]
)
def test_a_wait_ends_a_tenth_or_a_second_before_the_limit_and_at_half_of_a_short_one(
    limit: float, longest: float
) -> None:
    host = Patience()
    host.gave_up(0, limit, TIMED_OUT)
    assert host.longest == longest


@pytest.mark.parametrize(("first", "second"), [(10, 10.25), (10.25, 10), (100, 102.5), (3, 40)])
def test_a_person_who_interrupts_now_and_then_shortens_nothing(first: float, second: float) -> None:
    host = Patience()
    host.gave_up(0, first, SOMEHOW)
    host.gave_up(200, 200 + second, SOMEHOW)
    assert host.longest == math.inf


def test_an_interrupt_of_several_waits_at_once_is_one() -> None:
    host = Patience()
    for _ in range(5):
        host.gave_up(0, 10, SOMEHOW)
    assert host.longest == math.inf


def test_a_limit_is_learnt_from_waits_that_overlap() -> None:
    host = Patience()
    host.gave_up(0, 10, SOMEHOW)
    host.gave_up(5, 15, SOMEHOW)
    assert host.longest == math.inf, "the second was under way when the first was given up"
    host.gave_up(10.1, 20.1, SOMEHOW)
    assert host.longest == 9


def test_what_comes_between_two_limits_that_are_the_same_is_another_time() -> None:
    host = Patience()
    for began, after in ((0, 10), (20, 3), (30, 10)):
        host.gave_up(began, began + after, SOMEHOW)
    assert host.longest == math.inf
    host.gave_up(50, 60, SOMEHOW)
    assert host.longest == 9


def test_a_host_that_has_waited_longer_has_no_such_limit_unless_it_says_so() -> None:
    host = Patience()
    host.waited_for(50)
    host.gave_up(100, 110, SOMEHOW)
    host.gave_up(200, 210, SOMEHOW)
    assert host.longest == math.inf
    host.gave_up(300, 310, TIMED_OUT)
    assert host.longest == 9


def test_an_answer_that_comes_a_moment_too_late_does_not_hide_the_limit() -> None:
    host = Patience()
    host.waited_for(10.1)
    host.gave_up(100, 110, SOMEHOW)
    host.gave_up(200, 210, SOMEHOW)
    assert host.longest == 9


def test_the_shortest_limit_counts() -> None:
    host = Patience()
    for after in (60, 10, 30):
        host.gave_up(0, after, TIMED_OUT)
    assert host.longest == 9


def test_nothing_is_learnt_from_a_wait_that_seems_to_have_been_given_up_at_once() -> None:
    host = Patience()
    for began in (0, 10, 20):
        host.gave_up(began, began + 0.9, TIMED_OUT)
    assert host.longest == math.inf


def test_a_host_that_cleans_up_behind_each_answer_does_not_teach_when_we_answer() -> None:
    host = Patience()
    for began in (0, 100, 200):
        host.gave_up(began, began + 55, "AbortError: The operation was aborted.", late=True)
    assert host.longest == math.inf
    host.gave_up(300, 355, TIMED_OUT, late=True)
    assert host.longest == 49.5


def test_a_host_whose_requests_stand_alone_is_known_by_what_they_say() -> None:
    hosts = Patiences()
    hosts.of("token", "space", "alice", "claude-code 2").gave_up(0, 10, TIMED_OUT)
    assert hosts.of("token", "space", "alice", "claude-code 2").longest == 9
    for other in (
        ("another", "space", "alice", "claude-code 2"),
        ("token", "space", "bob", "claude-code 2"),
        ("token", "space", None, "claude-code 2"),
        ("token", "space", "alice", "claude-code 3"),
    ):
        assert hosts.of(*other).longest == math.inf


def test_what_is_known_of_a_host_without_a_connection_is_forgotten_after_some_hours() -> None:
    now = 0.0
    hosts = Patiences(lambda: now)
    hosts.of("alice").gave_up(0, 10, TIMED_OUT)
    now += 3 * 3600
    assert hosts.of("alice").longest == 9
    now += 3600
    assert hosts.of("alice").longest == math.inf, "however often it was asked for"


def test_of_many_hosts_those_that_came_last_are_known() -> None:
    hosts = Patiences()
    for number in range(1_001):
        hosts.of("0").gave_up(0, 10, TIMED_OUT)
        hosts.of(f"{number}").gave_up(0, 10, TIMED_OUT)
    assert (hosts.of("1").longest, hosts.of("0").longest) == (math.inf, 9)


# -- over a relay's connection


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hosts be as impatient as a test."""
    monkeypatch.setattr(patience, "LEAST", 0.05)


class Host:
    """One that gives up after `limit` seconds, and tells why."""

    def __init__(self, line: Line, reason: str | None, limit: float = LIMIT) -> None:
        self._line = line
        self._why = {"reason": reason} if reason is not None else {}
        self._limit = limit

    def cancel(self, request: int) -> None:
        self._line.write({"method": "notifications/cancelled", "params": {"requestId": request, **self._why}})

    async def waits(self, kind: bytes = b"m") -> Json:
        """Wait for mail as its model asks; return what its model is shown, or nothing when it gave up."""
        given = {"name": "wait_for_message", "arguments": {"timeout": 50}}
        asked = self._line.ask("tools/call", given, kind)
        with anyio.move_on_after(self._limit):
            return await self._line.content(asked)
        self.cancel(asked)
        return {}


async def opened(line: Line) -> None:
    await line.greet()
    await line.content(line.call("create_mailbox", name="alice"))


def is_early(answer: Json) -> bool:
    return str(answer.get("hint", "")).startswith("On this host a wait lasts 0.")


async def comes_early(host: Host) -> bool:
    """Tell whether it is answered in time, now or soon: on a busy machine two equal times are not always alike."""
    for _ in range(10):
        if is_early(await host.waits()):
            return True
    return False


@pytest.mark.usefixtures("hasty")
async def test_once_a_host_says_that_a_wait_timed_out_the_next_ends_before_it_would(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await opened(line)
        host = Host(line, TIMED_OUT)
        assert await host.waits() == {}
        assert await comes_early(host)


@pytest.mark.parametrize("reason", [SOMEHOW, None])
@pytest.mark.usefixtures("hasty")
async def test_after_a_host_has_given_up_twice_after_the_same_time_the_next_wait_ends_before_it_would(
    tmp_path: Path, reason: str | None
) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await opened(line)
        host = Host(line, reason)
        assert await host.waits() == {}
        assert await host.waits() == {}
        assert await comes_early(host)


@pytest.mark.usefixtures("hasty")
async def test_an_interrupt_of_two_waits_at_once_shortens_no_other(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await opened(line)
        both = [line.call("wait_for_message", timeout=50) for _ in range(2)]
        clock = line.call("wait_for_message", timeout=0.1)
        assert (await line.content(clock))["timed_out"]
        host = Host(line, None)
        for each in both:
            host.cancel(each)
        assert await host.waits() == {}, "it had to give up itself"


@pytest.mark.usefixtures("hasty")
async def test_nothing_is_learnt_from_a_wait_that_an_earlier_post_office_began(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line(epoch=2) as line:
        await opened(line)
        host = Host(line, TIMED_OUT)
        assert await host.waits(b"r") == {}
        assert await host.waits() == {}, "what was learnt from the first would have ended it"
        assert await comes_early(host)


@pytest.mark.usefixtures("hasty")
async def test_a_limit_is_learnt_from_a_call_whose_answer_met_the_host_that_had_just_given_up(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await opened(line)
        host = Host(line, TIMED_OUT)
        late = await crossed(line)
        host.cancel(late)
        answer = await host.waits()
        assert [each["body"] for each in answer["messages"]] == ["late"], "it was lost otherwise"  # type: ignore[attr-defined]
        assert await comes_early(host)


async def crossed(line: Line) -> int:
    """Ask for mail that comes after `LIMIT`; return the request, which has its answer."""
    asked = line.call("wait_for_message", timeout=50)
    clock = line.call("wait_for_message", timeout=LIMIT)
    assert (await line.content(clock))["timed_out"]
    sent = line.call("send", to="alice", body="late")
    await line.answered([asked, sent])
    return asked


@pytest.mark.usefixtures("hasty")
async def test_a_host_that_was_seen_to_wait_longer_is_not_hurried_by_who_interrupts_it(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await opened(line)
        assert (await line.content(line.call("wait_for_message", timeout=LIMIT)))["timed_out"]
        host = Host(line, SOMEHOW, limit=0.1)
        for _ in range(3):
            assert await host.waits() == {}, "a shorter wait would have been answered"


@pytest.mark.usefixtures("hasty")
async def test_a_call_that_is_no_wait_teaches_nothing(tmp_path: Path) -> None:
    async with inside(tmp_path) as office, office.line() as line:
        await opened(line)
        host = Host(line, TIMED_OUT)
        looked = line.call("list_inbox")
        await line.content(looked)
        clock = line.call("wait_for_message", timeout=0.1)
        assert (await line.content(clock))["timed_out"]
        host.cancel(looked)
        assert await host.waits() == {}


# -- with the SDK's client, on stdio and over HTTP


async def gives_up(agent: Agent, limit: float) -> None:
    with pytest.raises(MCPError, match="timed out"):
        await agent.client.call_tool("wait_for_message", {"timeout": 50}, read_timeout_seconds=limit)


async def test_a_client_that_gave_up_on_a_wait_is_answered_before_it_would_again(town: Town) -> None:
    async with town.agent("bob", LEGACY) as bob:
        await gives_up(bob, 1.5)
        hint = (await bob.call("wait_for_message", timeout=50))["hint"]
        assert hint.startswith("On this host a wait lasts 0."), "half of 1.5 s"


async def test_a_client_without_handshake_is_known_from_one_wait_to_the_next(town: Town) -> None:
    async with town.agent("bob", MODERN) as bob:
        await gives_up(bob, 1.5)
        if isinstance(town.home, Served):
            await gives_up(bob, 1.5)  # it says no reason, but closes the stream, as whoever is interrupted does
        hint = (await bob.call("wait_for_message", timeout=50))["hint"]
        assert hint.startswith("On this host a wait lasts 0."), "half of 1.5 s"
