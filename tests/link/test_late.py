"""What becomes of mail that an outbox brings late: refused, with files, given up."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from mcp_mailbox.budgets import HOUR
from mcp_mailbox.engines.outbox import KEPT_MS
from tests.fronts.world import Agent, Json, Town, both_eras, until
from tests.link.conftest import Machine

pytestmark = both_eras

Machines = Callable[..., Machine]
CONTENT = b"\0" + bytes(range(256)) * 8_000  # more than a piece


def copies(here: Machine) -> list[Path]:
    return list((here.home.path / "edge.db.files").iterdir())


def ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


@contextmanager
def altered(here: Machine) -> Iterator[sqlite3.Connection]:
    """Kill the machine's post office; what it keeps for the hub may be altered in the block."""
    here.home.kill_office()
    with closing(sqlite3.connect(here.home.path / "edge.db")) as outbox, outbox:
        yield outbox


async def several(agent: Agent, most: int) -> list[Json]:
    """Return what comes, until it is so much."""
    came: list[Json] = []
    while len(came) < most:
        came += await agent.wait()
    return came


async def reports(agent: Agent) -> list[str]:
    """Return what the postmaster says."""
    found: list[Json] = await agent.wait(30)
    assert {each["from"].partition("@")[0] for each in found} == {"postmaster"}
    return [each["body"] for each in found]


async def test_what_the_hub_refuses_late_is_told_to_its_sender_once_and_nothing_waits_behind_it(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        here.link.cut()
        lost = await alice.send("bobb", "x", subject="the plan")
        half = await alice.send(["bob", "carol"], "y")
        await alice.send("bob", "last")
        here.link.mend()
        came = await several(bob, 2)
        assert [each["body"] for each in came] == ["y", "last"]
        told: list[str] = []
        while len(told) < 2:
            told += await reports(alice)
        assert f"Your message {lost['id']} to bobb, about 'the plan', which your machine took in at" in told[0]
        assert "was not sent.\nNo mailbox 'bobb'. Did you mean 'bob'?" in told[0]
        assert f"Your message {half['id']} to bob, carol," in told[1]
        assert "but not to all.\ncarol" in told[1]
        # The hub's answer was lost on its way: it is handed in again, and told no second time.
        with altered(here) as outbox:
            outbox.execute("UPDATE outbox SET answer = NULL, answered_at = NULL")
        assert await alice.wait(timeout=0.5) == []
        await until(lambda: here.waits() == 0, "an empty outbox")
        assert await alice.wait(timeout=0.1) == []
        assert await bob.wait(timeout=0) == []


async def test_what_was_tried_longer_ago_than_the_hub_knows_requests_is_given_up_and_told(
    machine: Machines, there: Town
) -> None:
    """What was not tried before goes out, however long ago: a machine that had the wrong time may have taken it in."""
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        here.link.cut()
        await alice.send("bob", "tried", subject="old")
        await alice.send("bob", "old")
        await alice.send("bob", "new")
        with altered(here) as outbox:
            outbox.execute("UPDATE outbox SET asked_at = asked_at - ? WHERE number < 3", (KEPT_MS + 1000,))
            outbox.execute("UPDATE outbox SET tried = asked_at WHERE number = 1")
        here.link.mend()
        assert await alice.call("create_mailbox")
        assert [each["body"] for each in await bob.wait()] == ["old", "new"]
        [told] = await reports(alice)
        assert "about 'old'" in told
        assert "for more than 30 days, and it is given up" in told


async def test_files_travel_with_mail_that_waited_whoever_is_killed_meanwhile(
    machine: Machines, there: Town, tmp_path: Path
) -> None:
    here = machine()
    (tmp_path / "a.bin").write_bytes(CONTENT)
    (tmp_path / "empty.txt").touch()
    given = {"MCP_MAILBOX_ATTACH": str(tmp_path)}
    async with there.agent("bob") as bob, here.agent("alice", env=given) as alice:
        sent = await alice.send("bob", "now", attach=[str(tmp_path / "a.bin")])
        shown = await alice.call("read", id=sent["id"], attachment="a.bin")
        assert Path(shown["path"]).read_bytes() == CONTENT  # noqa: ASYNC240
        assert copies(here) == []
        here.link.cut()
        assert (await alice.refused("send", to="bob", body="x", attach=["/etc/hostname"]))["error"] == "no_file"
        assert copies(here) == []
        waits = await alice.send("bob", "later", attach=[str(tmp_path / "a.bin"), str(tmp_path / "empty.txt")])
        assert [each["name"] for each in (await alice.call("read", id=waits["id"]))["attachments"]] == [
            "a.bin",
            "empty.txt",
        ]
        assert (await alice.refused("read", id=sent["id"], attachment="a.bin"))["error"] == "hub_away"
        (tmp_path / "a.bin").unlink()
        (here.home.path / "edge.db.files" / ("0" * 32)).write_bytes(b"what a crash left")
        here.home.kill_office()
        here.link.mend()
        assert await alice.call("create_mailbox")
        came = await several(bob, 2)
        now, later = came
        assert (now["body"], later["body"]) == ("now", "later")
        assert [(each["name"], each["size"]) for each in later["attachments"]] == [
            ("a.bin", len(CONTENT)),
            ("empty.txt", 0),
        ]
        shown = await bob.call("read", id=later["id"], attachment="a.bin")
        assert Path(shown["path"]).read_bytes() == CONTENT  # noqa: ASYNC240
        await until(lambda: copies(here) == [], "no copies left")


async def test_what_waited_says_when_it_was_written_and_its_terms_count_from_then(
    machine: Machines, there: Town
) -> None:
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        here.link.cut()
        await alice.send("bob", "deploy now", subject="stale", ttl=1800)
        await alice.send("bob", "in half an hour", delay=1800, ttl=7200)
        await alice.send("bob", "in two hours", delay=7200)
        with altered(here) as outbox:
            outbox.execute("UPDATE outbox SET asked_at = asked_at - ?", (HOUR,))
        here.link.mend()
        assert await alice.call("create_mailbox")
        await alice.send("bob", "now")
        came = {each["body"]: each for each in await several(bob, 2)}
        assert set(came) == {"in half an hour", "now"}
        late = came["in half an hour"]
        assert HOUR <= ms(late["sent_at"]) - ms(late["written_at"]) < 2 * HOUR
        assert ms(late["expires_at"]) - ms(late["written_at"]) == 2 * HOUR
        assert "written_at" not in came["now"]
        [preview] = [each for each in (await bob.call("list_inbox"))["messages"] if each["preview"] == "in two hours"]
        assert ms(preview["deliver_at"]) - ms(preview["written_at"]) == 2 * HOUR
        [told] = await reports(alice)
        assert "expired at" in told
        assert "before it arrived" in told


async def test_how_long_it_waited_is_told_by_the_clock_that_saw_it_and_nonsense_is_not_believed(
    machine: Machines, there: Town
) -> None:
    """A machine that had the year 1970 and has the right time by now does not have its mail expire."""
    here = machine()
    async with there.agent("bob") as bob, here.agent("alice") as alice:
        here.link.cut()
        await alice.send("bob", "of 1970", ttl=600)
        await alice.send("bob", "of tomorrow", ttl=600)
        with altered(here) as outbox:
            outbox.execute("UPDATE outbox SET asked_at = 0 WHERE number = 1")
            outbox.execute("UPDATE outbox SET asked_at = asked_at + ? WHERE number = 2", (24 * HOUR,))
        here.link.mend()
        assert await alice.call("create_mailbox")
        came = await several(bob, 2)
        assert [each["body"] for each in came] == ["of 1970", "of tomorrow"]
        assert all("written_at" not in each for each in came)


async def test_what_was_refused_and_can_be_told_to_nobody_is_told_by_the_machine(machine: Machines) -> None:
    """Its sender's mailbox is not there any more: the hub was restored from before it was made."""
    here = machine()
    async with here.agent("alice") as alice:
        here.link.cut()
        await alice.send("bob", "x", subject="the plan")
    with altered(here) as outbox:
        outbox.execute(
            "UPDATE outbox SET who = json_set(who, '$.own', 'nobody@default', '$.mailbox', 'nobody@default')"
        )
    here.link.mend()
    async with here.agent("carol") as carol:
        await until(lambda: bool(here.home.status()["hub"].get("untold")), "what was refused")
        [told] = here.home.status()["hub"]["untold"]
        assert (told["id"], told["subject"]) == ("outbox-1", "the plan")
        assert "nobody" in told["why"]
        here.home.kill_office()
        await carol.call("create_mailbox")
        assert here.home.status()["hub"]["untold"] == [told]
