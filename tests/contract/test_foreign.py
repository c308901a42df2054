"""Two stores side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_mailbox.errors import Code, Refusal
from tests.clocks import SteppedClock
from tests.contract.engines import ENGINES
from tests.contract.post import Post, at, refused
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


@promise("ids-opaque")
@pytest.mark.parametrize("engine", ENGINES)
async def test_ids_and_cursors_of_another_store_are_refused(engine: str, tmp_path: Path) -> None:
    posts = []
    for name in ("here", "there"):
        clock = SteppedClock()
        place = ENGINES[engine](tmp_path / name, clock)
        await place.open()
        posts.append(Post(place, clock))
        await posts[-1].mailboxes("ann", "bob")
        await posts[-1].send_many("ann", "bob", "1", "2")
    here, there = posts
    foreign = await there.claim_one("bob")
    cursor = (await there.inbox("bob")).previews[0].cursor
    assert refused(await here.settle("bob", foreign.handle, foreign.message.id)) == ["unknown_message"] * 2
    with pytest.raises(Refusal) as refusal:
        await here.store.read(at("bob"), foreign.message.id)
    assert refusal.value.code is Code.UNKNOWN_MESSAGE
    with pytest.raises(Refusal) as refusal:
        await here.inbox("bob", cursor=cursor)
    assert refusal.value.code is Code.BAD_ARGUMENT
    assert await here.unread("bob") == 2
    for post in posts:
        await post.engine.close()
