"""Invitations against a plain model: whoever comes, whenever, however often, and whatever is revoked meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from mcp_mailbox.invitation import REPEAT_TERM, Invitation
from tests.contract.engines import ENGINES
from tests.contract.machine import StoreMachine, tell_stories
from tests.contract.promises import promise

CODES = st.integers(0, 2)
TOKENS = st.integers(0, 3)
TERM, LASTS = 1000, 5000
WAITS = st.sampled_from([1, TERM - 1, TERM, LASTS, REPEAT_TERM])


@dataclass
class Known:
    """What the model knows of an invitation; of tokens only whose they are and until when."""

    expires: int
    revoked: bool = False
    redeemed: int | None = None
    token: int | None = None
    granted: str | None = None

    def open(self, now: int) -> bool:
        return self.redeemed is None and not self.revoked and now < self.expires


class InvitationMachine(StoreMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, Known] = {}
        self.taken: dict[int, tuple[str, int]] = {}
        self.ended: set[str] = set()
        self.count = 0

    @rule(code=CODES)
    def invite(self, code: int) -> None:
        if code in self.known:
            return
        now = self.now
        made = Invitation(f"i-{code}", "name", "anna", now, now + TERM, LASTS, space="team")
        self.run(self.post.store.invite(made, bytes([code]) * 32))
        self.known[code] = Known(now + TERM)

    @rule(code=CODES, token=TOKENS)
    def redeem(self, code: int, token: int) -> None:
        self.count += 1
        now, id_ = self.now, f"t-{self.count}"
        found = self.run(self.post.store.redeem(bytes([code]) * 32, bytes([100 + token]) * 32, id_))
        one = self.known.get(code)
        expected: str | None = None
        if one is not None and one.redeemed is not None and one.token == token:
            fresh = now < max(one.expires, one.redeemed + REPEAT_TERM)
            good = one.granted not in self.ended and now < one.redeemed + LASTS
            expected = one.granted if fresh and good else None
        elif one is not None and one.open(now) and token not in self.taken:
            expected = id_
            one.redeemed, one.token, one.granted = now, token, id_
            self.taken[token] = (id_, now + LASTS)
        assert (found.id if found is not None else None) == expected
        if found is not None:
            assert (found.principal, found.within, found.expires_at) == ("anna", "team", self.taken[token][1])

    @rule(code=CODES)
    def uninvite(self, code: int) -> None:
        ended = self.run(self.post.store.uninvite(f"i-{code}"))
        one = self.known.get(code)
        if one is not None and one.redeemed is None:
            one.revoked = True
        assert (ended is None) == (one is None)
        if ended is not None and one is not None:
            assert ((ended.revoked_at is not None), ended.token) == (one.revoked, one.granted)

    @rule(token=TOKENS)
    def revoke_the_token(self, token: int) -> None:
        if token in self.taken:
            self.run(self.post.store.revoke(self.taken[token][0]))
            self.ended.add(self.taken[token][0])

    @rule(ms=WAITS)
    def wait(self, ms: int) -> None:
        self.post.clock.step(ms)

    @rule()
    def reopen(self) -> None:
        self.run(self.post.reopen())

    @invariant()
    def every_token_is_of_one_invitation(self) -> None:
        tokens = self.run(self.post.store.credentials())
        assert {each.id for each in tokens} == {id_ for id_, _ in self.taken.values()}
        listed = self.run(self.post.store.invitations())
        assert {each.token for each in listed if each.token} == {each.id for each in tokens}


@promise("invite-once", "invite-repeats", "invite-ends", "invite-kept")
@pytest.mark.parametrize("engine", ENGINES)
def test_invitations_do_what_the_model_says(engine: str) -> None:
    tell_stories(InvitationMachine, engine, steps=12)
