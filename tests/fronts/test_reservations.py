"""Reserving, as agents do it: over stdio and HTTP, in both eras."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from typing import Any

import pytest

from mcp_mailbox.fronts.render import PAGE_LIMIT, size
from tests.fronts.world import Agent, Era, Town, both_eras

pytestmark = both_eras


def seconds_until(moment: str) -> float:
    return (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()


def listed(groups: list[dict[str, Any]]) -> list[str]:
    return [name for group in groups for name in group["names"]]


async def test_who_wants_what_another_holds_is_told_who_and_until_when_and_has_it_once_it_is_released(
    town: Town, era: Era
) -> None:
    async with town.pair(era) as (alice, bob):
        answer = await alice.call("reserve", names=["src/api/", "./release-lock"], ttl=600, note="moving files")
        [group] = answer.pop("reserved")
        assert answer == {}
        until = group.pop("until")
        assert 590 < seconds_until(until) <= 601
        assert group == {"names": ["src/api/", "release-lock"], "mode": "exclusive", "note": "moving files"}

        problem = await bob.refused("reserve", names=["README.md", "src/api/v1.py"])
        assert problem["error"] == "reserved"
        assert problem["message"] == (
            f"'src/api/v1.py' is held by {alice.address} (exclusive, as 'src/api/') until {until}, 10 min from now."
        )
        assert problem["hint"] == (
            f"Nothing was reserved. Wait until {until}, reserve other names, or send to {alice.address}."
        )
        [conflict] = problem["conflicts"]
        assert -10 < seconds_until(conflict.pop("since")) <= 0
        assert conflict == {
            "name": "src/api/v1.py",
            "held": "src/api/",
            "by": alice.address,
            "mode": "exclusive",
            "until": until,
            "note": "moving files",
        }
        assert (await bob.call("reserve"))["yours"] == []

        assert await alice.call("reserve", names="src/api", release=True) == {"released": ["src/api/"]}
        await bob.call("reserve", names=["README.md", "src/api/v1.py"])
        both = await alice.call("reserve")
        assert listed(both["yours"]) == ["release-lock"]
        assert [(group["by"], sorted(group["names"])) for group in both["others"]] == [
            (bob.address, ["README.md", "src/api/v1.py"])
        ]


async def test_what_all_share_nobody_has_alone(town: Town, era: Era) -> None:
    async with town.pair(era) as (alice, bob):
        for agent in (alice, bob):
            await agent.call("reserve", names="docs", mode="shared")
        assert (await alice.refused("reserve", names="docs/a.md"))["conflicts"][0]["mode"] == "shared"
        assert await bob.call("reserve", release=True) == {"released": ["docs"]}
        await alice.call("reserve", names="docs/a.md")


async def test_releasing_what_one_does_not_hold_is_no_error(town: Town) -> None:
    async with town.agent("alice") as alice:
        await alice.call("reserve", names=["a.py", "b.py"])
        answer = await alice.call("reserve", names=["b.py", "c.py"], release=True)
        assert answer == {"released": ["b.py"], "not_held": ["c.py"]}
        assert await alice.call("reserve", release=True) == {"released": ["a.py"]}
        assert await alice.call("reserve") == {"yours": [], "others": []}


async def test_what_was_meant_is_read(town: Town) -> None:
    async with town.agent("alice") as alice:
        given: dict[str, Any] = {"names": '["a.py", "b.py"]', "ttl": "60", "mode": None, "note": None, "release": "no"}
        [group] = (await alice.call("reserve", **given))["reserved"]
        assert group["names"] == ["a.py", "b.py"]
        assert seconds_until(group["until"]) <= 61
        [group] = (await alice.call("reserve", names="[id].tsx"))["reserved"]
        assert group["names"] == ["[id].tsx"]
        assert listed((await alice.call("reserve", names=[]))["yours"]) == ["a.py", "b.py", "[id].tsx"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"names": ""}, "bad_name"),
        ({"names": ["a", ".."]}, "bad_name"),
        ({"names": "/etc/passwd"}, "bad_name"),
        ({"names": "a\0b"}, "bad_name"),
        ({"names": "x" * 10_000}, "bad_name"),
        ({"names": "*a" * 40}, "bad_name"),
        ({"names": 7}, "bad_argument"),
        ({"names": [7]}, "bad_argument"),
        ({"names": [str(number) for number in range(21)]}, "bad_argument"),
        ({"names": "a", "ttl": 0}, "bad_argument"),
        ({"names": "a", "ttl": -1}, "bad_argument"),
        ({"names": "a", "ttl": 86_401}, "bad_argument"),
        ({"names": "a", "ttl": 1e300}, "bad_argument"),
        ({"names": "a", "ttl": "soon"}, "bad_argument"),
        ({"names": "a", "mode": "mine"}, "bad_argument"),
        ({"names": "a", "note": "x" * 201}, "bad_argument"),
        ({"names": "a", "note": "a\nb"}, "bad_argument"),
        ({"names": "a", "mailbox": "nobody-at-all"}, "unknown_mailbox"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_hint_and_nothing_is_held(
    town: Town, arguments: dict[str, Any], code: str
) -> None:
    async with town.agent("alice") as alice:
        problem = await alice.refused("reserve", **arguments)
        assert problem["error"] == code
        assert len(json.dumps(problem)) < 1000
        assert await alice.call("reserve") == {"yours": [], "others": []}


async def test_before_there_is_a_mailbox_nothing_can_be_reserved(town: Town) -> None:
    async with town.agent() as nobody:
        for arguments in ({"names": "a"}, {}, {"release": True}):
            assert (await nobody.refused("reserve", **arguments))["error"] == "no_mailbox"


async def fill(agent: Agent, count: int, length: int) -> None:
    """Reserve names that are long and differ, so that none is listed with another."""
    for number in range(count):
        await agent.call("reserve", names=f"{number:03}" + "ü" * (length - 3), note=f"{number}" + "ü" * 100)


async def test_a_listing_and_a_conflict_fit_on_a_page_and_say_what_is_left_out(town: Town) -> None:
    async with town.pair() as (alice, bob):
        await fill(alice, 15, 190)
        await fill(bob, 3, 150)
        for agent, mine, theirs in ((alice, 15, 3), (bob, 3, 15)):
            page = await agent.call("reserve")
            yours, others = listed(page["yours"]), listed(page["others"])
            assert yours
            assert len(yours) == mine or not others
            assert len(yours) + len(others) + page["more"] == mine + theirs
            assert size(page) <= PAGE_LIMIT
        problem = await bob.refused("reserve", names="**")
        assert len(problem["conflicts"]) + problem["more"] == 15
        assert size(problem) <= PAGE_LIMIT
        assert problem["message"].endswith("14 more in the way.")


async def test_the_names_of_one_call_are_listed_as_one(town: Town) -> None:
    async with town.pair() as (alice, bob):
        names = [f"src/module_{number}/some_file.py" for number in range(20)]
        await alice.call("reserve", names=names)
        page = await bob.call("reserve")
        assert [group["names"] for group in page["others"]] == [sorted(names)]
        assert "more" not in page


@pytest.mark.stdio("kills the post office")
async def test_a_reservation_outlives_its_agent_and_the_post_office(new_town: Any) -> None:
    town = new_town()
    async with town.agent("alice") as alice:
        await alice.call("reserve", names="src/", ttl=3600)
    async with town.agent("bob") as bob:
        assert (await bob.refused("reserve", names="src/a.py"))["error"] == "reserved"
        town.home.signal_office(signal.SIGKILL)
        assert (await bob.refused("reserve", names="src/a.py"))["error"] == "reserved"
