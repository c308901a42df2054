"""The post office removes what has had its time, by itself."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from mcp_mailbox.config import office_settings
from mcp_mailbox.delivery import Outcome, Settlement
from mcp_mailbox.engines.sqlite import SqliteStore, open_store
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.postoffice import DAY, KEEP_TERM, Call, Caller, PostOffice
from tests.clocks import SteppedClock
from tests.conftest import DEADLINE

pytestmark = pytest.mark.anyio
CALLER = Caller("bob", "someone", "default")


def call(request: str) -> Call:
    return Call(CALLER, request, None)


async def acked(office: PostOffice, body: str) -> str:
    sent = await office.send(call(f"send {body}"), Draft(("bob",), body))
    await office.settle(call(f"ack {body}"), [sent.id], Settlement(Outcome.ACK))
    return sent.id


async def gone(office: PostOffice, id_: str) -> bool:
    try:
        await office.read(call("read"), id_)
    except Refusal as refusal:
        return refusal.code is Code.UNKNOWN_MESSAGE
    return False


async def opened(store: SqliteStore, keep: int) -> PostOffice:
    office = PostOffice(store, keep=keep)
    await office.mailboxes.open(call("open"), "bob", Profile())
    return office


async def test_mail_that_is_as_old_as_is_set_goes_within_the_hour_and_younger_stays(tmp_path: Path) -> None:
    clock = SteppedClock()
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "store.db", clock) as store:
            office = await opened(store, DAY)
            async with office.business():
                old = await acked(office, "old")
                clock.step(DAY // 2)
                young = await acked(office, "young")
                waits = await office.send(call("waits"), Draft(("bob",), "waits"))
                clock.step(DAY // 2)
                while not await gone(office, old):
                    clock.step(1000)
                assert not await gone(office, young)
                clock.step(DAY)
                while not await gone(office, young):
                    clock.step(1000)
                assert not await gone(office, waits.id)


async def test_mail_that_is_kept_for_ever_is_kept(tmp_path: Path) -> None:
    clock = SteppedClock()
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "store.db", clock) as store:
            office = await opened(store, 0)
            async with office.business():
                old = await acked(office, "old")
                clock.step(100 * KEEP_TERM)
                await office.retention.run()  # returns: there is nothing that it would ever do
                assert not await gone(office, old)


@pytest.mark.parametrize(("text", "days"), [("", 365), ("0", 0), ("1", 1), ("36500", 36_500)])
def test_how_long_mail_is_kept_is_set_in_days(text: str, days: int) -> None:
    assert office_settings({"MCP_MAILBOX_KEEP_DAYS": text}).keep == days * DAY


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "36501", "9" * 5000, "\u0661", "1 day"])
def test_what_is_no_number_of_days_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        office_settings({"MCP_MAILBOX_KEEP_DAYS": text})
    assert refusal.value.code is Code.BAD_ARGUMENT
    assert "0 to keep mail for ever" in refusal.value.hint
