"""Invitations: redeemed once, for a token that its bearer has made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_mailbox.credentials import Credential, Scope
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.invitation import OPEN_LIMIT, REMEMBERED, REPEAT_TERM, TERM, Invitation
from tests.contract.post import Post
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio
CODE, TOKEN, OTHER = b"c" * 32, b"t" * 32, b"o" * 32
LASTS = 90 * TERM


async def invited(post: Post, id_: str = "i-1", code: bytes = CODE, *, good_for: int = TERM) -> Invitation:
    now = post.clock.now()
    scopes = frozenset({Scope.READ, Scope.SEND})
    made = Invitation(id_, "laptop", "anna", now, now + good_for, LASTS, scopes, "anna", "team")
    await post.store.invite(made, code)
    return made


@promise("invite-once", "invite-kept", "durable")
async def test_a_code_is_redeemed_once_for_what_was_promised(post: Post) -> None:
    made = await invited(post)
    assert await post.store.invitations() == [made]
    post.clock.step(5)
    now = post.clock.now()
    found = await post.store.redeem(CODE, TOKEN, "t-1")
    assert found == Credential("t-1", "laptop", "anna", now, made.scopes, "anna", "team", now + LASTS, confined=True)
    assert await post.store.redeem(CODE, OTHER, "t-2") is None
    await post.engine.crash()
    assert await post.store.redeem(CODE, OTHER, "t-2") is None
    assert await post.store.credential(TOKEN) == found
    assert await post.store.credential(OTHER) is None
    assert await post.store.invitations() == [replace(made, redeemed_at=now, token="t-1")]
    assert await post.store.redeem(b"nobody's".ljust(32), OTHER, "t-2") is None


@promise("invite-once")
async def test_of_fifty_who_come_at_once_one_gets_it(post: Post) -> None:
    await invited(post)
    found: list[Credential] = []

    async def come(number: int) -> None:
        one = await post.store.redeem(CODE, bytes([number]) * 32, f"t-{number}")
        if one is not None:
            found.append(one)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(come, number)
    assert await post.store.credentials() == found
    assert len(found) == 1


@promise("invite-once")
async def test_a_token_that_is_somebodys_already_is_not_given_again(post: Post) -> None:
    await invited(post)
    await invited(post, "i-2", b"2" * 32)
    await post.store.redeem(CODE, TOKEN, "t-1")
    assert await post.store.redeem(b"2" * 32, TOKEN, "t-2") is None
    assert await post.store.redeem(b"2" * 32, OTHER, "t-2") is not None, "the code was not burnt"


@promise("invite-repeats")
async def test_who_lost_the_answer_is_given_it_again_for_a_while(post: Post) -> None:
    await invited(post, good_for=1000)
    post.clock.step(999)
    found = await post.store.redeem(CODE, TOKEN, "t-1")
    post.clock.step(REPEAT_TERM - 1000)
    await post.engine.crash()
    assert await post.store.redeem(CODE, TOKEN, "t-2") == found
    assert await post.store.credentials() == [found]
    await post.store.revoke("t-1")
    assert await post.store.redeem(CODE, TOKEN, "t-2") is None, "nothing is given that is not good any more"
    await invited(post, "i-2", b"2" * 32, good_for=1000)
    await post.store.redeem(b"2" * 32, OTHER, "t-2")
    post.clock.step(REPEAT_TERM)
    assert await post.store.redeem(b"2" * 32, OTHER, "t-2") is None


@promise("invite-ends")
async def test_a_code_that_was_revoked_or_has_expired_gets_nothing(post: Post) -> None:
    made = await invited(post)
    await invited(post, "i-2", b"2" * 32, good_for=10)
    ended = await post.store.uninvite("i-1")
    assert ended == replace(made, revoked_at=post.clock.now())
    post.clock.step(10)
    assert await post.store.uninvite("i-1") == ended, "once"
    assert await post.store.uninvite("i-nobody's") is None
    await post.engine.crash()
    for code in (CODE, b"2" * 32):
        assert await post.store.redeem(code, TOKEN, "t-1") is None
    assert await post.store.credentials() == []


@promise("invite-ends")
async def test_what_was_redeemed_is_not_revoked_any_more(post: Post) -> None:
    await invited(post)
    await post.store.redeem(CODE, TOKEN, "t-1")
    ended = await post.store.uninvite("i-1")
    assert ended is not None
    assert (ended.revoked_at, ended.token) == (None, "t-1")


@promise("invite-kept")
async def test_a_code_that_was_redeemed_since_a_backup_stays_so(post: Post, tmp_path: Path) -> None:
    await invited(post)
    await post.store.backup(tmp_path / "backup", lambda _done, _all: None)
    found = await post.store.redeem(CODE, TOKEN, "t-1")
    await post.engine.close()
    await post.engine.restore(tmp_path / "backup")
    assert await post.store.redeem(CODE, OTHER, "t-2") is None
    assert await post.store.redeem(CODE, TOKEN, "t-2") == found


@promise("invite-bounded")
async def test_what_ended_long_ago_goes(post: Post) -> None:
    await invited(post)
    post.clock.step(TERM + REMEMBERED)
    second = await invited(post, "i-2", b"2" * 32)
    assert len(await post.store.invitations()) == 2, "to the moment"
    post.clock.step(1)
    third = await invited(post, "i-3", b"3" * 32)
    assert await post.store.invitations() == [second, third]


@promise("invite-bounded")
async def test_so_many_are_open_and_no_more(post: Post) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(OPEN_LIMIT):
            tasks.start_soon(invited, post, f"i-{number}", number.to_bytes(32, "big"))
    with pytest.raises(Refusal) as refusal:
        await invited(post)
    assert refusal.value.code is Code.BAD_ARGUMENT
    await post.store.uninvite("i-7")
    await invited(post, "i-one more")
