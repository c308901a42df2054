"""What the post office tells somebody of a request of theirs that came to nothing."""

from __future__ import annotations

import pytest

from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.message import Kind
from mcp_mailbox.report import Undelivered, undelivered
from tests.contract.post import Post, at
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio
LOST = undelivered(Undelivered("outbox-7", ["bob", "eve"], "the plan", None, [("", "No mailbox 'bob'. Open it.")]))


@promise("report-once")
async def test_a_report_is_told_once_a_request_and_rings(post: Post) -> None:
    await post.open("ann")
    rung: list[str] = []
    with post.store.on_ring(lambda address: rung.append(address.name)):
        assert await post.store.report(at("ann"), LOST, post.origin("ann", "1"))
        assert not await post.store.report(at("ann"), LOST, post.origin("ann", "1"))
        assert rung == ["ann"]
        assert await post.store.report(at("ann"), LOST, post.origin("ann", "2"))
    found = [each.delivery.message for each in (await post.inbox("ann")).previews]
    assert [(each.kind, each.sender, each.subject) for each in found] == [
        (Kind.REPORT, f"postmaster@{at('ann').space}", "Not delivered: the plan")
    ] * 2
    whole = (await post.store.read(at("ann"), found[0].id)).message.body
    assert "outbox-7 to bob, eve, about 'the plan', was not sent.\nNo mailbox 'bob'. Open it." in whole
    with pytest.raises(Refusal) as refused:
        await post.store.report(at("nobody"), LOST, post.origin("ann", "3"))
    assert refused.value.code is Code.UNKNOWN_MAILBOX
