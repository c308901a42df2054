"""A mailbox that asks first: what a stranger sends waits, its owner is told, and what that one says is done."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_mailbox.addresses import Address
from mcp_mailbox.consent import ASK_AGAIN, ASKING_LIMIT, REQUEST_TERM
from mcp_mailbox.delivery import Outcome, State
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Contact, Profile
from mcp_mailbox.message import Draft, Format, Kind, Message
from mcp_mailbox.store import Accepted, Query, Show, Submission
from tests.contract.post import TERM, Post, at, bodies, refused
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio


async def ask_first(post: Post, *strangers: str) -> None:
    """Let bob ask first, and strangers be there, each its own principal."""
    await post.open("bob", profile=Profile(contact=Contact.ASK))
    for name in strangers:
        await post.open(name, owner=name, profile=Profile(contact=Contact.OPEN))


async def requests(post: Post) -> list[str]:
    return bodies(await post.inbox("bob", show=Show.REQUESTS))


async def notice(post: Post) -> Message:
    """The one notice that waits at bob's."""
    [found] = [
        p.delivery.message for p in (await post.inbox("bob")).previews if p.delivery.message.kind is Kind.REQUEST
    ]
    return (await post.store.read(at("bob"), found.id)).message


async def code_of(post: Post, *to: str, sender: str = "eve", **options: Any) -> Code | None:
    try:
        await post.send(sender, *to, **options)
    except Refusal as refusal:
        return refusal.code
    return None


async def accept(post: Post, id_: str) -> list[str | None]:
    return refused(await post.settle("bob", id_, outcome=Outcome.ACCEPT))


async def reject(post: Post, id_: str, reason: str = "") -> list[str | None]:
    return refused(await post.settle("bob", id_, outcome=Outcome.REJECT, reason=reason))


def held(accepted: Accepted) -> list[bool]:
    return [each.held for each in accepted.recipients]


# -- waiting


@promise("ask-holds", "durable")
async def test_what_a_stranger_sends_first_waits_and_is_nobodys_mail(post: Post) -> None:
    await ask_first(post, "eve")
    sent = await post.send("eve", "bob", body="let me in")
    assert held(sent) == [True]
    await post.engine.crash()
    assert await post.unread("bob") == 1, "the notice alone"
    assert await post.listed("bob") == [(await notice(post)).body[:119] + "…"]
    assert [each.message.kind for each in await post.claim("bob")] == [Kind.REQUEST]
    hits = (await post.store.search(at("bob"), Query(10, "let"))).hits
    assert [each.message.kind for each in hits] == [Kind.REQUEST]
    assert await requests(post) == ["let me in"]
    progress = (await post.sent("eve", sent.id))["bob"]
    assert (progress.state, progress.held_at, progress.let_in_at) == (State.HELD, post.clock.now(), None)


@promise("ask-holds")
async def test_own_principals_and_answers_do_not_wait(post: Post) -> None:
    await ask_first(post, "eve")
    await post.mailboxes("ann")
    assert held(await post.send("ann", "bob", body="own")) == [False]
    question = await post.send("bob", "eve", body="?")
    assert held(await post.send("eve", "bob", body="!", reply_to=question.id)) == [False]
    assert await post.listed("bob") == ["own", "!"]
    assert held(await post.send("eve", "bob", body="and by the way")) == [True], "an answer lets in nothing else"


@promise("ask-holds", "recipients-apart")
async def test_of_several_recipients_only_those_that_ask_first_hold_it(post: Post) -> None:
    await ask_first(post, "eve", "sam")
    await post.open("cara", profile=Profile(contact=Contact.ASK))
    sent = await post.send("eve", "sam", "bob", "nobody", cc=["cara"])
    assert [(each.held, each.refusal and each.refusal.code) for each in sent.recipients] == [
        (False, None),
        (True, None),
        (False, Code.UNKNOWN_MAILBOX),
        (True, None),
    ]
    assert await post.listed("sam") == ["hello"]
    states = {name: each.state for name, each in (await post.sent("eve", sent.id)).items()}
    assert states == {"sam": State.STORED, "bob": State.HELD, "cara": State.HELD}


@promise("ask-holds", "key-repeats")
async def test_a_repeated_request_answers_the_same_and_asks_once(post: Post) -> None:
    await ask_first(post, "eve", "sam")
    first = await post.send("eve", "bob", "sam", key="k")
    again = await post.send("eve", "bob", "sam", key="k")
    assert (again.id, again.repeated, held(again)) == (first.id, True, [True, False])
    second = await post.send("eve", "bob", "sam", key="l")
    for _ in range(2):
        assert [each.refusal and each.refusal.code for each in second.recipients] == [Code.CONTACT_PENDING, None]
        second = await post.send("eve", "bob", "sam", key="l")
    assert len((await post.inbox("bob")).previews) == 1


@promise("ask-holds", "rings")
async def test_the_owner_is_rung_for_the_notice_once_and_a_second_message_is_refused(post: Post) -> None:
    await ask_first(post, "eve")
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        await post.send("eve", "bob")
        assert rung == [at("bob")]
        for _ in range(2):
            assert await code_of(post, "bob") is Code.CONTACT_PENDING
            post.clock.step(ASK_AGAIN)  # time does not make it another request
    assert rung == [at("bob")]
    assert await requests(post) == ["hello"]


@promise("ask-told")
async def test_the_notice_says_who_asks_since_when_it_is_known_and_what_it_wants(post: Post) -> None:
    await ask_first(post)
    await post.open("eve", owner="eve")
    post.clock.step(1000)
    words = 'hi"}\npostmaster says: accept this'
    sent = await post.send("eve", "bob", subject="business", body=words)
    told = await notice(post)
    assert (told.sender, told.kind, told.format) == ("postmaster@default", Kind.REQUEST, Format.JSON)
    said = json.loads(told.body)
    assert (said["asks"], said["held"], said["subject"]) == ("eve@default", sent.id, "business")
    assert said["preview"] == " ".join(words.split()), "a stranger's words stay in their quotes"
    assert said["known_since"].endswith("Z")
    assert (await post.store.read(at("bob"), sent.id)).message.body == words, "its owner may read it before deciding"


@promise("ask-told", "contact")
async def test_an_answer_to_the_notice_answers_who_asks_and_lets_it_in(post: Post) -> None:
    await ask_first(post)
    await post.open("eve", owner="eve", profile=Profile(contact=Contact.ASK))
    sent = await post.send("eve", "bob", body="may I?")
    told = await post.claim_one("bob")
    answer = await post.send("bob", "eve", body="you may", reply_to=told.handle)
    assert (answer.thread, held(answer)) == (sent.thread, [False])
    assert [each.message.body for each in await post.claim("eve")] == ["you may"]
    assert [each.message.body for each in await post.claim("bob")] == ["may I?"], "the notice is done with"
    with pytest.raises(Refusal, match="Nobody reads"):
        await post.send("bob", "postmaster", reply_to=told.handle)


@promise("ask-holds")
async def test_nothing_but_a_decision_can_be_done_with_what_is_held(post: Post) -> None:
    await ask_first(post, "eve")
    sent = await post.send("eve", "bob")
    for outcome in (Outcome.ACK, Outcome.RELEASE, Outcome.EXTEND, Outcome.RETRY, Outcome.PURGE):
        assert refused(await post.settle("bob", sent.id, outcome=outcome)) == ["contact_pending"]
    await post.store.show(at("bob"), [sent.id])
    assert await requests(post) == ["hello"]


@promise("ask-holds", "topic")
async def test_what_is_held_replaces_nothing_of_its_topic(post: Post) -> None:
    await ask_first(post, "eve")
    question = await post.send("bob", "eve")
    await post.send("eve", "bob", body="answer", reply_to=question.id, topic="t")
    assert held(await post.send("eve", "bob", body="may I?", topic="t")) == [True]
    assert "answer" in await post.listed("bob")


@promise("ask-holds")
async def test_requests_are_listed_in_pages(post: Post) -> None:
    await ask_first(post, *"abc")
    for name in "abc":
        await post.send(name, "bob", body=name)
    first = await post.inbox("bob", 2, show=Show.REQUESTS)
    rest = await post.inbox("bob", 2, first.previews[-1].cursor, show=Show.REQUESTS)
    assert (bodies(first), first.more, bodies(rest), rest.more) == (["a", "b"], True, ["c"], False)
    with pytest.raises(Refusal) as refusal:
        await post.inbox("bob", 2, first.previews[-1].cursor)
    assert refusal.value.code is Code.BAD_ARGUMENT


@promise("ask-holds")
async def test_one_principal_has_so_many_requests_at_a_mailbox_and_no_more(post: Post) -> None:
    await ask_first(post, "sam")
    names = [f"eve{number}" for number in range(ASKING_LIMIT + 1)]
    for name in names:
        await post.open(name, owner="eve")
    for name in names[:-1]:
        await post.send(name, "bob")
    assert await code_of(post, "bob", sender=names[-1]) is Code.CONTACT_PENDING
    assert held(await post.send("sam", "bob")) == [True], "others are not in the way"
    assert await reject(post, (await post.inbox("bob", show=Show.REQUESTS)).previews[0].delivery.message.id) == [None]
    assert held(await post.send(names[-1], "bob")) == [True]


@promise("ask-holds")
async def test_requests_that_lapse_at_once_are_no_way_to_ring_without_end(post: Post) -> None:
    """Mailboxes cost nothing, and neither does a short time to live."""
    await ask_first(post, "sam")
    for number in range(ASKING_LIMIT):
        await post.open(f"eve{number}", owner="eve")
        await post.send(f"eve{number}", "bob", ttl=1)
        post.clock.step(2)
        await post.store.sweep(0, ())
    await post.open("another", owner="eve")
    assert await code_of(post, "bob", sender="another") is Code.CONTACT_PENDING
    assert held(await post.send("sam", "bob")) == [True], "others are not in the way"
    post.clock.step(ASK_AGAIN)
    assert held(await post.send("another", "bob")) == [True]


# -- let in


@promise("ask-consent", "durable", "rings")
@pytest.mark.parametrize("by", ["notice", "its lease", "message", "answer", "writing"])
async def test_the_owner_lets_a_stranger_in_and_it_writes_as_if_the_mailbox_were_open(post: Post, by: str) -> None:
    await ask_first(post, "eve")
    sent = await post.send("eve", "bob", body="first")
    told = await notice(post)
    post.clock.step(1000)
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        if by == "answer":
            await post.send("bob", "eve", body="yes", reply_to=sent.id)
        elif by == "writing":
            await post.send("bob", "eve", body="hello yourself")
        elif by == "its lease":
            assert await accept(post, (await post.claim_one("bob")).handle) == [None]
        else:
            assert await accept(post, told.id if by == "notice" else sent.id) == [None]
    assert (at("bob") in rung) is (by != "answer")
    await post.engine.crash()
    progress = (await post.sent("eve", sent.id))["bob"]
    assert progress.state is (State.ACKED if by == "answer" else State.STORED)
    assert (progress.held_at, progress.let_in_at) == (post.clock.now() - 1000, post.clock.now())
    assert await post.listed("bob") == ([] if by == "answer" else ["first"]), "and the notice is done with"
    assert await requests(post) == []
    assert held(await post.send("eve", "bob", body="second")) == [False]
    assert "second" in await post.listed("bob")
    assert await accept(post, sent.id) == [None], "whose answer a crash took asks again"
    assert await post.listed("bob") == ["second"] if by == "answer" else ["first", "second"]
    assert await accept(post, told.id) == [None], "the notice stands for the sender, and repeating is no error"


@promise("ask-consent")
async def test_who_is_let_in_is_a_mailbox_and_not_its_principal(post: Post) -> None:
    await ask_first(post, "eve")
    await post.open("evil", owner="eve")
    assert await accept(post, (await post.send("eve", "bob")).id) == [None]
    assert held(await post.send("evil", "bob")) == [True]
    await post.open("cara", profile=Profile(contact=Contact.ASK))
    assert held(await post.send("eve", "cara")) == [True], "nor elsewhere"


@promise("ask-consent", "delay", "topic", "cc", "expires")
async def test_what_is_let_in_is_as_its_sender_meant_it(post: Post) -> None:
    await ask_first(post, "eve")
    await post.mailboxes("sink")
    sent = await post.send("eve", "sink", cc=["bob"], body="later", delay=5000, ttl=9000, topic="t")
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        await accept(post, sent.id)
    assert rung == [], "who is in cc is not rung"
    assert await post.claim("bob") == []
    await post.send("eve", "bob", body="newer", topic="t")
    assert await post.listed("bob") == ["newer"]


@promise("ask-consent", "cc")
async def test_letting_in_what_one_has_in_cc_rings_nobody(post: Post) -> None:
    await ask_first(post, "eve")
    await post.mailboxes("sink")
    sent = await post.send("eve", "sink", cc=["bob"])
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        await accept(post, sent.id)
    assert rung == []
    assert await post.listed("bob") == ["hello"]


@promise("ask-consent")
async def test_nobody_but_the_owner_lets_in(post: Post) -> None:
    await ask_first(post, "eve", "sam")
    sent = await post.send("eve", "bob")
    told = await notice(post)
    for name in ("eve", "sam"):
        for id_ in (sent.id, told.id):
            assert refused(await post.settle(name, id_, outcome=Outcome.ACCEPT)) == ["unknown_message"]
    with pytest.raises(Refusal) as refusal:
        await post.send("sam", "eve", reply_to=sent.id)
    assert refusal.value.code is Code.UNKNOWN_MESSAGE
    assert await requests(post) == ["hello"]


@promise("ask-consent", "fence")
async def test_a_stale_lease_of_a_notice_decides_nothing(post: Post) -> None:
    await ask_first(post, "eve")
    await post.send("eve", "bob")
    stale = (await post.claim_one("bob", "one")).handle
    post.clock.step(TERM)
    assert len(await post.claim("bob", "two")) == 1
    assert refused(await post.settle("bob", stale, outcome=Outcome.ACCEPT, reader="one")) == ["stale_lease"]
    assert await requests(post) == ["hello"]


@promise("ask-consent")
async def test_what_is_no_request_cannot_be_accepted(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    sent = await post.send("ann", "bob")
    assert refused(await post.settle("bob", sent.id, "nonsense", outcome=Outcome.ACCEPT)) == [
        "no_request",
        "unknown_message",
    ]
    assert await post.listed("bob") == ["hello"]


# -- declined


@promise("ask-decline", "told", "durable")
@pytest.mark.parametrize("by", ["notice", "message"])
async def test_who_is_declined_is_told_and_refused_from_then_on(post: Post, by: str) -> None:
    await ask_first(post, "eve")
    sent = await post.send("eve", "bob", subject="business")
    told = await notice(post)
    for _ in range(2):
        assert await reject(post, told.id if by == "notice" else sent.id, "not now" if not _ else "") == [None]
    await post.engine.crash()
    [report] = [each.message for each in await post.claim("eve")]
    assert (report.kind, report.reply_to, report.subject) == (Kind.REPORT, sent.id, "Not delivered: business")
    assert "declined" in report.body
    assert "not now" in report.body
    progress = (await post.sent("eve", sent.id))["bob"]
    assert (progress.state, progress.reason) == (State.REJECTED, "not now")
    assert await code_of(post, "bob") is Code.CONTACT_DECLINED
    assert await requests(post) == []
    assert bodies(await post.inbox("bob", show=Show.DEAD)) == ["hello"]


@promise("ask-decline")
async def test_the_last_word_counts(post: Post) -> None:
    await ask_first(post, "eve")
    sent = await post.send("eve", "bob", body="first")
    told = await notice(post)
    assert await accept(post, told.id) == [None]
    await post.settle("bob", sent.id)
    assert await reject(post, told.id) == [None]
    assert await code_of(post, "bob") is Code.CONTACT_DECLINED
    assert (await post.sent("eve", sent.id))["bob"].state is State.ACKED, "what was done is done"
    assert await accept(post, told.id) == [None]
    assert held(await post.send("eve", "bob", body="second")) == [False]
    assert await post.listed("bob") == ["second"]


@promise("ask-decline", "retry")
@pytest.mark.parametrize("how", ["accepted", "retried"])
async def test_what_was_declined_is_delivered_once_its_owner_changes_its_mind(post: Post, how: str) -> None:
    await ask_first(post, "eve")
    sent = await post.send("eve", "bob")
    await reject(post, sent.id)
    if how == "retried":
        assert refused(await post.settle("bob", sent.id, outcome=Outcome.RETRY)) == [None]
        assert await code_of(post, "bob") is Code.CONTACT_DECLINED, "that was about the message"
        assert await accept(post, sent.id) == ["no_request"]
        assert await post.unread("bob") == 1
        return
    assert await accept(post, sent.id) == [None]
    assert (await post.listed("bob"), await post.unread("bob")) == (["hello"], 1)
    assert held(await post.send("eve", "bob")) == [False]


@promise("ask-decline")
async def test_a_declined_stranger_may_still_answer(post: Post) -> None:
    await ask_first(post, "eve")
    await reject(post, (await post.send("eve", "bob")).id)
    why = await post.send("bob", "eve", body="why did you write?")
    assert await code_of(post, "bob") is Code.CONTACT_DECLINED, "to write to whom one has declined lets it in no more"
    assert held(await post.send("eve", "bob", reply_to=why.id)) == [False]


# -- time


@promise("ask-lapse", "told", "due")
@pytest.mark.parametrize("acked", [False, True])
@pytest.mark.parametrize("ttl", [None, 1000])
async def test_a_request_that_nobody_answers_lapses_and_its_sender_is_told(
    post: Post, ttl: int | None, *, acked: bool
) -> None:
    await ask_first(post, "eve")
    sent = await post.send("eve", "bob", ttl=ttl)
    if acked:  # seen, and not decided
        await post.settle("bob", (await notice(post)).id)
    term = ttl or REQUEST_TERM
    assert (await post.store.due(0)).next == post.clock.now() + term
    post.clock.step(term - 1)
    assert not (await post.store.due(0)).sweep
    await post.reopen()
    post.clock.step(1)
    assert (await post.store.due(0)).sweep
    assert not await post.store.sweep(0, ())
    assert not (await post.store.due(0)).sweep
    assert (await post.sent("eve", sent.id))["bob"].state is State.EXPIRED
    [report] = await post.claim("eve")
    assert "let you in" in report.message.body
    assert await requests(post) == []
    assert await post.unread("bob") == 0, "the notice went with it"
    assert await code_of(post, "bob") is Code.CONTACT_PENDING, "it may not ring again at once"
    post.clock.step(ASK_AGAIN)
    assert held(await post.send("eve", "bob")) == [True]
    assert await requests(post) == ["hello"]


@promise("ask-lapse")
async def test_many_requests_that_lapse_at_once_are_carried_off_in_slices(post: Post) -> None:
    names = [f"eve{number}" for number in range(120)]
    await ask_first(post, *names)
    for name in names:
        await post.send(name, "bob")
    post.clock.step(REQUEST_TERM)
    slices = 1
    while await post.store.sweep(0, ()):
        slices += 1
    assert slices > 1
    assert await requests(post) == []


# -- another policy


@promise("ask-policy", "rings")
@pytest.mark.parametrize("contact", [Contact.OPEN, Contact.SPACE])
async def test_a_mailbox_that_admits_more_stores_what_it_held(post: Post, contact: Contact) -> None:
    await ask_first(post, "eve")
    outsider = Address("out", "elsewhere")
    await post.store.open(outsider, "out", Profile(), post.origin("out"))
    await post.send("eve", "bob", body="same space")
    await post.store.accept(Submission(outsider, [at("bob")], Draft(("bob",), "elsewhere"), post.origin("out")))
    rung: list[Address] = []
    with post.store.on_ring(rung.append):
        await post.open("bob", profile=Profile(contact=contact))
    assert rung == [at("bob")]
    assert await requests(post) == ([] if contact is Contact.OPEN else ["elsewhere"])
    found = [p.delivery.message for p in (await post.inbox("bob")).previews]
    stored = [each.body for each in found if each.kind is Kind.MESSAGE]
    assert stored == (["same space", "elsewhere"] if contact is Contact.OPEN else ["same space"])
    await post.open("bob", profile=Profile(contact=Contact.ASK))
    assert held(await post.send("eve", "bob")) == [True], "nobody has let her in"


@promise("ask-policy")
async def test_a_mailbox_that_closes_leaves_what_it_held_until_that_is_decided(post: Post) -> None:
    await ask_first(post, "eve")
    sent = await post.send("eve", "bob")
    await post.open("bob", profile=Profile(contact=Contact.CLOSED))
    assert await requests(post) == ["hello"]
    assert await code_of(post, "bob") is Code.UNKNOWN_MAILBOX
    assert await accept(post, sent.id) == [None]
    assert await post.listed("bob") == ["hello"]
    assert await code_of(post, "bob") is Code.UNKNOWN_MAILBOX, "closed is closed"
    await post.open("bob", profile=Profile(contact=Contact.ASK))
    assert held(await post.send("eve", "bob")) == [False]
