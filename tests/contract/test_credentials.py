"""Credentials: kept by the digest of their tokens, ended once and for good. And who may write to whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.credentials import Credential, Scope
from mcp_mailbox.directory import EVERY_SPACE, Search
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.message import Draft
from mcp_mailbox.store import Accepted, Listing, Submission
from tests.contract.post import SPACE, Post, at
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


def credential(name: str, created_at: int = 1) -> Credential:
    return Credential(
        f"t-{name}", name, "someone", created_at, frozenset({Scope.SEND, Scope.READ}), f"{name}@{SPACE}", SPACE, 1000
    )


@promise("token-kept", "durable")
async def test_a_credential_is_found_by_its_digest_after_a_crash(post: Post) -> None:
    full = replace(credential("full"), confined=True)
    bare = Credential("t-bare", "bare", "ünï", 2)
    await post.store.grant(full, b"1" * 32)
    await post.store.grant(bare, b"2" * 32)
    await post.engine.crash()
    assert await post.store.credential(b"1" * 32) == full
    assert await post.store.credential(b"2" * 32) == bare
    assert await post.store.credential(b"3" * 32) is None
    assert await post.store.credentials() == [full, bare]


@promise("token-revoked")
async def test_what_is_revoked_stays_so_and_when_it_was(post: Post) -> None:
    await post.store.grant(credential("one"), b"1" * 32)
    revoked = await post.store.revoke("t-one")
    assert revoked is not None
    assert revoked.revoked_at == post.clock.now()
    post.clock.step(5)
    assert await post.store.revoke("t-one") == revoked
    await post.engine.crash()
    assert await post.store.credential(b"1" * 32) == revoked
    assert await post.store.revoke("t-nobody's") is None


@promise("token-rotated")
async def test_a_new_digest_takes_the_place_of_the_old_one(post: Post) -> None:
    one = credential("one")
    await post.store.grant(one, b"1" * 32)
    assert await post.store.regrant("t-one", b"2" * 32) == one
    await post.engine.crash()
    assert await post.store.credential(b"1" * 32) is None
    assert await post.store.credential(b"2" * 32) == one
    await post.store.revoke("t-one")
    for id_ in ("t-one", "t-nobody's"):
        assert await post.store.regrant(id_, b"3" * 32) is None


# -- who may write to whom

ELSEWHERE = "elsewhere"


async def write(post: Post, owner: str, space: str, to: str, reply_to: str | None = None) -> Accepted:
    sender = Address(f"{owner}s", space)
    await post.store.open(sender, owner, Profile(), post.origin(owner))
    draft = Draft((to,), "hello", reply_to=reply_to)
    return await post.store.accept(Submission(sender, [at(to)], draft, post.origin(owner)))


@promise("contact")
@pytest.mark.parametrize("owner", ["someone", "eve"])
@pytest.mark.parametrize("space", [SPACE, ELSEWHERE])
@pytest.mark.parametrize("contact", [contact for contact in Contact if contact is not Contact.ASK])
async def test_a_mailbox_says_who_may_write_to_it(post: Post, contact: Contact, space: str, owner: str) -> None:
    await post.open("bob", profile=Profile(contact=contact))
    let_in = owner == "someone" or contact is Contact.OPEN or (contact is Contact.SPACE and space == SPACE)
    if let_in:
        assert (await write(post, owner, space, "bob")).recipients[0].refusal is None
        assert await post.listed("bob") == ["hello"]
        return
    answers = []
    for to in ("bob", "zelda"):
        with pytest.raises(Refusal) as refusal:
            await write(post, owner, space, to)
        assert refusal.value.code is Code.UNKNOWN_MAILBOX
        answers.append(str(refusal.value).replace(to, "…"))
    assert answers[0] == answers[1], "one that does not let in is as if it did not exist"
    assert await post.listed("bob") == []


@promise("contact")
async def test_an_answer_is_always_let_in_and_nothing_else_with_it(post: Post) -> None:
    await post.open("bob", profile=Profile(contact=Contact.CLOSED))
    await post.open("carol", profile=Profile(contact=Contact.CLOSED))
    await post.store.open(at("eves"), "eve", Profile(), post.origin("eve"))
    question = await post.send("bob", "eves", body="?")
    await post.send("eves", "bob", body="!", reply_to=question.id, reader="eve")
    assert await post.listed("bob") == ["!"]
    for to, reply_to in (("carol", question.id), ("bob", None)):
        with pytest.raises(Refusal) as refusal:
            await post.send("eves", to, reply_to=reply_to, reader="eve")
        assert refusal.value.code is Code.UNKNOWN_MAILBOX


@promise("contact")
async def test_a_change_of_who_may_write_counts_from_the_next_message_on(post: Post) -> None:
    await post.open("bob")
    await write(post, "eve", SPACE, "bob")
    await post.open("bob", profile=Profile(contact=Contact.CLOSED))
    with pytest.raises(Refusal):
        await write(post, "eve", SPACE, "bob")
    await post.engine.crash()
    with pytest.raises(Refusal):
        await write(post, "eve", SPACE, "bob")
    assert (await post.open("bob")).mailbox.contact is Contact.CLOSED


@promise("theirs-unseen")
async def test_a_thread_that_one_has_no_part_in_is_not_there(post: Post) -> None:
    await post.mailboxes("ann", "bob", "eve")
    sent = await post.send("ann", "bob")
    for mailbox in ("ann", "bob"):
        await post.claim(mailbox, thread=sent.id)
    with pytest.raises(Refusal) as refusal:
        await post.claim("eve", thread=sent.id)
    assert refusal.value.code is Code.UNKNOWN_MESSAGE


@promise("theirs-unseen")
async def test_a_name_that_looks_like_somebody_elses_does_not_show_it(post: Post) -> None:
    await post.open("paypal")
    for owner, shown in (("someone", True), ("eve", False)):
        with pytest.raises(Refusal) as refusal:
            await post.open("paypa1", owner=owner)
        assert refusal.value.code is Code.NAME_CONFUSABLE
        assert ("'paypal'" in refusal.value.problem) == shown


@promise("unbound")
@pytest.mark.parametrize("name", ["bob", ""])
async def test_who_does_not_want_to_be_bound_is_not(post: Post, name: str) -> None:
    opened = await post.store.open(at(name), "someone", Profile(), post.origin("shared"), bind=False)
    assert opened.created
    await post.store.open(opened.mailbox.address, "someone", Profile(), post.origin("shared"), bind=False)
    assert await post.store.bound("shared") is None


# -- where one space is all that there is


@promise("token-within")
async def test_within_a_space_recipients_of_another_are_as_nobody(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    hidden, nobody = Address("hidden", ELSEWHERE), Address("zelda", ELSEWHERE)
    await post.store.open(hidden, "someone", Profile(), post.origin("hidden"))
    draft = Draft(("…",), "hello", key="k")
    for cc in ([], [hidden]):
        for each in (hidden, nobody, Address("#all", ELSEWHERE)):
            with pytest.raises(Refusal) as refusal:
                await post.store.accept(Submission(at("ann"), [each], draft, post.origin("ann"), cc, within=SPACE))
            code = Code.UNKNOWN_CHANNEL if each.is_channel else Code.UNKNOWN_MAILBOX
            assert (refusal.value.code, refusal.value.problem.partition(" '")[2]) == (code, f"{each}'.")
    mixed = await post.store.accept(
        Submission(at("ann"), [at("bob"), hidden], draft, post.origin("ann"), (), within=SPACE)
    )
    assert [each.refusal and each.refusal.code for each in mixed.recipients] == [None, Code.UNKNOWN_MAILBOX]
    assert (await post.store.inbox(hidden, Listing(10))).previews == ()
    free = Draft(("…",), "who sees all of them")
    answered = await post.store.accept(Submission(at("bob"), [hidden], free, post.origin("bob")))
    assert answered.recipients[0].refusal is None


@promise("token-within")
async def test_within_a_space_what_channels_of_another_have_is_not_there(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    there = Address("hidden", ELSEWHERE)
    await post.store.open(there, "someone", Profile(), post.origin("hidden"))
    elsewhere = await post.store.accept(
        Submission(there, [Address("#all", ELSEWHERE)], Draft(("…",), "x"), post.origin("hidden"))
    )
    ours, direct = await post.send("bob", "#all"), await post.send("bob", "ann")
    both = await post.store.accept(
        Submission(there, [at("ann"), Address("#all", ELSEWHERE)], Draft(("…",), "x"), post.origin("h"))
    )
    await post.store.read(at("ann"), elsewhere.id)
    for mailbox, id_ in (("ann", ours.id), ("ann", direct.id), ("bob", direct.id), ("ann", both.id)):
        await post.store.check_within(at(mailbox), id_, SPACE)
    for mailbox, id_ in (("ann", elsewhere.id), ("bob", both.id), ("ann", "zzzzz")):
        with pytest.raises(Refusal) as refusal:
            await post.store.check_within(at(mailbox), id_, SPACE)
        assert refusal.value.code is Code.UNKNOWN_MESSAGE


@promise("token-within")
async def test_within_a_space_nothing_of_another_is_found_or_resembled(post: Post) -> None:
    await post.mailboxes("ann")
    await post.store.open(Address("hidden", ELSEWHERE), "someone", Profile(), post.origin("hidden"))
    for space, names in ((EVERY_SPACE, ["ann"]), (SPACE, ["ann"]), (ELSEWHERE, []), ("nowhere", [])):
        found = await post.store.find_mailboxes("someone", Search(space), 10, None, SPACE)
        assert [each.address.name for each in found.entries] == names
    assert await post.store.similar(at("hidden"), "someone") == Address("hidden", ELSEWHERE)
    assert await post.store.similar(at("hidden"), "someone", SPACE) is None
    assert await post.store.similar(Address("hiden", ELSEWHERE), "someone", SPACE) is None
    assert await post.store.similar(at("anm"), "someone", SPACE) == at("ann")


@promise("token-within")
def test_a_token_is_confined_to_a_space_or_not_at_all() -> None:
    with pytest.raises(Refusal, match="confined to no space"):
        Credential("t", "name", "someone", 1, confined=True)
    for confined, within in ((True, "team"), (False, None)):
        assert Credential("t", "n", "p", 1, space="team", confined=confined).within == within
