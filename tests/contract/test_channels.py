"""Channels: joined, left, published to once, delivered to who was a member then."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mcp_mailbox.addresses import Address, parse_channel
from mcp_mailbox.channel import SUBSCRIPTION_LIMIT, Keep, Skipped
from mcp_mailbox.delivery import Outcome, State
from mcp_mailbox.engines.sqlite import fanout
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.mailbox import Contact, Kind, Profile
from mcp_mailbox.message import Priority
from mcp_mailbox.report import POSTMASTER
from mcp_mailbox.store import Lease, Listing, Origin, Portion, Published, Query, Show, Subscribed, Wanted
from tests.contract.post import ROOMY, SPACE, TERM, Post, at, bodies, refused
from tests.contract.promises import promise

pytestmark = pytest.mark.anyio
BUILD = "#build"


async def join(
    post: Post, mailbox: str, channel: str = BUILD, since: int | str | None = None, *, keep: Keep | None = None
) -> Subscribed:
    wanted = parse_channel(channel, SPACE)
    return await post.store.subscribe(at(mailbox), wanted, since, keep or Keep(), post.origin(mailbox))


async def leave(post: Post, mailbox: str, channel: str = BUILD) -> bool:
    return await post.store.unsubscribe(at(mailbox), at(channel), post.origin(mailbox))


async def say(post: Post, sender: str, *words: str, to: str = BUILD) -> list[str]:
    return [(await post.send(sender, to, body=each)).id for each in words]


async def members(post: Post, *names: str, channel: str = BUILD) -> None:
    await post.mailboxes(*names)
    for name in names:
        await join(post, name, channel)


async def claimed(post: Post, mailbox: str) -> list[str]:
    return bodies(await post.claim(mailbox))


async def history(post: Post, mailbox: str, words: str = "", channel: str = BUILD, **asked: object) -> list[str]:
    found = await post.store.search(at(mailbox), Query(100, words, at(channel), **asked))  # type: ignore[arg-type]
    return [hit.message.body for hit in found.hits]


async def codes(*verbs: object) -> list[Code]:
    found = []
    for verb in verbs:
        with pytest.raises(Refusal) as refusal:
            await verb  # type: ignore[misc]
        found.append(refusal.value.code)
    return found


# -- who gets it


@promise("channel-members", "channel-once")
async def test_every_member_gets_what_is_published_once_and_its_publisher_does_not(post: Post) -> None:
    await members(post, "ann", "bob", "cid")
    await post.mailboxes("dot")
    sent = await post.send("ann", BUILD, body="green")
    assert [(each.address, each.refusal, each.members) for each in sent.recipients] == [("#build@default", None, 2)]
    for name in ("bob", "cid"):
        assert await post.unread(name) == 1
        [delivery] = await post.claim(name)
        assert delivery.message.body == "green"
        assert delivery.message.to == ("#build@default",)
        assert delivery.channel == "#build@default"
        assert await post.claim(name) == []
    for name in ("ann", "dot"):
        assert await claimed(post, name) == await post.listed(name) == []


@promise("channel-once")
async def test_ones_own_words_do_not_come_back_however_much_others_said_before(post: Post) -> None:
    await members(post, "ann", "bob")
    await say(post, "bob", "1")
    await say(post, "ann", "2")
    await say(post, "bob", "3")
    assert await post.unread("ann") == 2
    assert await claimed(post, "ann") == ["1", "3"]


@promise("channel-members")
async def test_members_get_it_in_the_order_of_all_their_mail(post: Post) -> None:
    await members(post, "ann", "bob")
    await post.send("ann", "bob", body="2", priority=Priority.NORMAL)
    await say(post, "ann", "3")
    await post.send("ann", "bob", body="4")
    await post.send("ann", BUILD, body="1", priority=Priority.URGENT)
    await post.send("ann", BUILD, body="5", priority=Priority.LOW)
    assert await post.listed("bob") == ["1", "2", "3", "4", "5"]
    assert await claimed(post, "bob") == ["1", "2", "3", "4", "5"]


@promise("channel-members")
async def test_urgent_mail_is_handed_out_first_however_much_was_published_before(post: Post) -> None:
    await members(post, "ann", "bob")
    many = fanout.SLICE * 2 + 5
    await say(post, "ann", *map(str, range(many)))
    await post.send("ann", BUILD, body="urgent", priority=Priority.URGENT)
    assert bodies(await post.claim("bob", most=3)) == ["urgent", "0", "1"]
    assert await post.unread("bob") == many - 2


@promise("channel-intervals")
async def test_what_is_published_before_one_joins_or_after_one_has_left_does_not_come(post: Post) -> None:
    await members(post, "ann")
    await post.mailboxes("bob")
    await say(post, "ann", "before")
    await join(post, "bob")
    await say(post, "ann", "while")
    assert await leave(post, "bob")
    assert not await leave(post, "bob")
    await say(post, "ann", "after")
    assert await claimed(post, "bob") == ["while"]
    await join(post, "bob")
    await say(post, "ann", "again")
    assert await claimed(post, "bob") == ["again"]
    assert await post.store.subscriptions(at("bob")) == [at("#all"), at(BUILD)]


@promise("channel-intervals")
async def test_who_joins_again_and_again_gets_what_came_meanwhile_and_nothing_else(post: Post) -> None:
    await members(post, "ann")
    await post.mailboxes("bob")
    for number in range(4):
        await join(post, "bob")
        await say(post, "ann", f"in {number}")
        await leave(post, "bob")
        await say(post, "ann", f"out {number}")
    assert await claimed(post, "bob") == ["in 0", "in 1", "in 2", "in 3"]


@promise("channel-all")
async def test_a_new_mailbox_is_a_member_of_its_spaces_all_and_may_leave(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await say(post, "ann", "1", to="#all")
    await post.mailboxes("cid")
    await post.store.open(Address("eve", "elsewhere"), "someone", Profile(), post.origin("eve"))
    await leave(post, "bob", "#all")
    sent = await post.send("ann", "#all", body="2")
    assert sent.recipients[0].members == 1
    assert [await claimed(post, name) for name in ("ann", "bob", "cid")] == [[], ["1"], ["2"]]
    assert (await post.store.inbox(Address("eve", "elsewhere"), Listing(10))).previews == ()
    await join(post, "bob", "#all")
    await say(post, "ann", "3", to="#all")
    assert await claimed(post, "bob") == ["3"]


@promise("channel-all-closed")
async def test_who_is_closed_hears_all_only_after_joining(post: Post) -> None:
    await post.open("eve", owner="eve")
    await post.open("shut", profile=Profile(contact=Contact.CLOSED))
    await post.open("shuts", profile=Profile(contact=Contact.SPACE))
    assert (await post.send("eve", "#all", body="1")).recipients[0].members == 1
    await post.open("shuts", profile=Profile(contact=Contact.CLOSED))
    assert (await post.send("eve", "#all", body="2")).recipients[0].members == 0
    assert [await claimed(post, name) for name in ("shut", "shuts")] == [[], ["1"]]
    await join(post, "shut", "#all")
    await post.open("shut", profile=Profile(about="still a member: nothing was said of whom it takes mail from"))
    await say(post, "eve", "3", to="#all")
    assert await claimed(post, "shut") == ["3"]


async def heard(post: Post, *said: str) -> None:
    """See to it that bob is handed that, as was counted before it was looked at, and that bob acks it."""
    box = await post.store.mailbox(at("bob"))
    assert box is not None
    assert box.unread == len(said)
    found = await post.claim("bob")
    assert bodies(found) == [*said]
    if found:
        await post.settle("bob", *[each.handle for each in found])


async def one_who_asks_first(post: Post) -> None:
    """Bob asks first; ann is his principal's, eve and sam are strangers."""
    for name in ("bob", "ann"):
        await post.open(name)
    for name in ("eve", "sam"):
        await post.open(name, owner=name, profile=Profile(contact=Contact.OPEN))


@promise("channel-all-known")
async def test_who_asks_first_hears_in_all_whom_it_takes_mail_from(post: Post) -> None:
    await one_who_asks_first(post)
    await say(post, "ann", "ours", to="#all")
    unheard = await post.send("eve", "#all", body="a stranger's")
    await heard(post, "ours")
    assert await post.listed("bob") == []
    assert await history(post, "bob", "stranger", channel="#all") == ["a stranger's"], "it may look on purpose"
    [counted] = (await post.store.read(at("eve"), unheard.id)).counted
    assert counted.states == {"stored": 1}, "ann asks first too, and sam is all who hears it"
    await post.send("bob", "sam", body="bob writes to sam, who may answer; that lets nobody into #all")
    question = await post.send("bob", "#all", body="who knows?")
    await post.send("eve", "#all", body="I do", reply_to=question.id)
    await post.send("eve", "#all", body="and another thing")
    await heard(post, "I do")
    await post.send("sam", "bob", body="may I?")
    [asked] = [each.delivery.message for each in (await post.inbox("bob")).previews]
    await post.settle("bob", asked.id, outcome=Outcome.ACCEPT)
    await heard(post, "may I?")
    await say(post, "sam", "a friend's", to="#all")
    await post.engine.crash()
    await heard(post, "a friend's")


@promise("channel-all-known")
async def test_who_joins_all_on_purpose_hears_everybody_from_then_on(post: Post) -> None:
    await one_who_asks_first(post)
    await say(post, "eve", "before", to="#all")
    subscribed = await join(post, "bob", "#all")
    assert (subscribed.created, subscribed.channel.members) == (False, 4)
    await say(post, "eve", "after", to="#all")
    await heard(post, "after")
    await join(post, "bob", "#all", since=0)
    await heard(post, "before")


@promise("channel-all-known")
async def test_a_change_of_whom_it_takes_mail_from_counts_from_the_next_message_on(post: Post) -> None:
    await one_who_asks_first(post)
    for contact in (Contact.OPEN, Contact.ASK, Contact.SPACE, Contact.ASK):
        await say(post, "eve", f"before {contact}", to="#all")
        await post.open("bob", profile=Profile(contact=contact))
    await say(post, "eve", "last", to="#all")
    await heard(post, "before ask", "before ask")


@promise("contact-default")
async def test_a_new_mailbox_asks_first(post: Post) -> None:
    await one_who_asks_first(post)
    assert (await post.open("bob")).mailbox.contact is Contact.ASK
    assert not (await post.send("ann", "bob")).recipients[0].held
    assert (await post.send("eve", "bob")).recipients[0].held


@promise("channel-mixed")
async def test_channels_and_mailboxes_mix_and_nobody_gets_a_message_twice(post: Post) -> None:
    await members(post, "ann", "bob", "cid")
    await join(post, "bob", "#other")
    sent = await post.send("ann", "bob", BUILD, "#nothing", "nobody", cc=["#other"], body="once")
    assert [(each.address, each.refusal and each.refusal.code) for each in sent.recipients] == [
        ("bob@default", None),
        ("#build@default", None),
        ("#nothing@default", Code.UNKNOWN_CHANNEL),
        ("nobody@default", Code.UNKNOWN_MAILBOX),
        ("#other@default", None),
    ]
    assert await post.unread("bob") == 1
    for name in ("bob", "cid"):
        [delivery] = await post.claim(name)
        assert delivery.message.to == ("bob@default", "#build@default")
        assert delivery.message.cc == ("#other@default",)
        assert await post.claim(name) == []


@promise("channel-space")
async def test_a_channel_is_there_for_those_who_have_a_mailbox_in_its_space(post: Post) -> None:
    await members(post, "ann")
    far = Address("far", "elsewhere")
    await post.store.open(far, "stranger", Profile(), post.origin("far"))
    for channel in (at(BUILD), at("#nothing")):
        with pytest.raises(Refusal) as refusal:
            await post.store.search(far, Query(10, sender=channel))
        assert refusal.value.problem == f"No channel {str(channel)!r}."
        with pytest.raises(Refusal) as refusal:
            await post.store.subscribe(far, channel, None, Keep(), post.origin("far"))
        assert refusal.value.code is Code.UNKNOWN_CHANNEL
        assert await post.store.similar_channel(far, channel) is None
    assert (await post.store.channels(far, SPACE, 10)).channels == ()
    [said] = await say(post, "ann", "secret")
    with pytest.raises(Refusal) as refusal:
        await post.store.read(far, said)
    assert refusal.value.code is Code.UNKNOWN_MESSAGE
    near = Address("near", SPACE)
    await post.store.open(near, "stranger", Profile(contact=Contact.CLOSED), post.origin("near"))
    assert (await post.store.read(near, said)).message.body == "secret"
    await post.store.subscribe(far, at(BUILD), 0, Keep(), post.origin("far"))
    found = await post.store.claim(far, Wanted(), Lease(10, ROOMY, TERM), post.origin("far"), ())
    assert bodies(found) == ["secret"]


@promise("channel-flood")
async def test_who_looks_while_others_publish_without_end_gets_an_answer(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    await members(post, "ann", "bob")
    await say(post, "bob", "before")
    asked = 0

    def as_if_somebody_always_had(*_: object) -> bool:
        nonlocal asked
        asked += 1
        assert asked < 10
        return True

    monkeypatch.setattr(fanout, "is_due", as_if_somebody_always_had)
    assert bodies(await post.inbox("ann")) == ["before"]
    assert await history(post, "ann", "before") == ["before"]


# -- names


@promise("channel-names")
async def test_a_channel_is_known_by_any_case_and_one_that_looks_like_it_is_refused(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    made = await join(post, "ann", "#Release-1")
    again = await join(post, "bob", "#release-1")
    assert (made.created, again.created) == (True, False)
    assert str(again.channel.address) == "#Release-1@default"
    assert again.channel.members == 2
    assert await codes(
        join(post, "ann", "#re1ease-1"), join(post, "ann", "#rele\u0430se-1"), join(post, "ann", "#a11")
    ) == [
        Code.NAME_CONFUSABLE,
        Code.NAME_CONFUSABLE,
        Code.NAME_CONFUSABLE,
    ]
    await join(post, "ann", "#plan")
    assert await codes(join(post, "ann", "#pIan")) == [Code.NAME_CONFUSABLE], "a capital I"
    await join(post, "ann", "#IDEAS")
    assert await codes(join(post, "ann", "#ldeas")) == [Code.NAME_CONFUSABLE], "whichever was first"
    await join(post, "ann", "#bob")  # a mailbox's name is nothing to a channel
    assert await post.store.similar_channel(at("ann"), at("#relase-1")) == at("#Release-1")


@promise("channel-names")
async def test_publishing_to_a_channel_that_nobody_has_made_is_refused_and_stores_nothing(post: Post) -> None:
    await post.mailboxes("ann")
    assert await codes(post.send("ann", "#nothing"), leave(post, "ann", "#nothing")) == [Code.UNKNOWN_CHANNEL] * 2
    assert (await post.store.mail_of(at("ann"), Portion(10, 1000))).mail == ()


@promise("channel-listed")
async def test_the_channels_of_a_space_are_listed_by_name_with_who_is_in_them(post: Post) -> None:
    await members(post, "ann", "bob", channel="#b")
    for channel in ("#c", "#A"):
        await join(post, "ann", channel)
    await say(post, "bob", "x", to="#c")
    at_x = post.store.clock.now()
    found, cursor = [], None
    while True:
        page = await post.store.channels(at("bob"), SPACE, 1, cursor)
        found += [(each.address.name, each.members, each.yours, each.last_at) for each, _ in page.channels]
        if (cursor := page.next) is None:
            break
    assert [each[:3] for each in found] == [("#A", 1, False), ("#all", 2, True), ("#b", 2, True), ("#c", 1, False)]
    assert found[0][3] is None
    assert found[3][3] is not None
    assert found[3][3] <= at_x


@promise("channel-bounded")
async def test_a_mailbox_is_a_member_of_so_many_channels_and_no_more(post: Post) -> None:
    await post.mailboxes("ann")
    for number in range(SUBSCRIPTION_LIMIT - 1):
        await join(post, "ann", f"#c{number:03}")
    assert await codes(join(post, "ann", "#more")) == [Code.BAD_ARGUMENT]
    await join(post, "ann", "#c001")
    await leave(post, "ann", "#all")
    await join(post, "ann", "#more")


@promise("channel-bounded")
async def test_one_principal_cannot_take_the_room_for_anothers_channels(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_mailbox.engines.sqlite.channels.CHANNEL_LIMIT", 3)
    await post.mailboxes("ann")
    await post.open("bob", owner="another")
    for name in "abc":
        await join(post, "ann", f"#{name}")
    assert await codes(join(post, "ann", "#d")) == [Code.BAD_ARGUMENT]
    assert (await join(post, "bob", "#d")).created
    assert not (await join(post, "ann", "#d")).created


@promise("channel-repeats")
async def test_a_repeated_request_to_join_or_leave_gets_the_same_answer_and_does_nothing_twice(post: Post) -> None:
    await post.mailboxes("ann", "bob")

    async def asked(request: str) -> Subscribed:
        return await post.store.subscribe(at("ann"), at(BUILD), None, Keep(), Origin("ann", request))

    assert (await asked("1")).created
    assert (await asked("1")).created
    assert await post.store.unsubscribe(at("ann"), at(BUILD), Origin("ann", "2"))
    assert (await asked("1")).created
    await post.send("bob", BUILD)
    assert await post.listed("ann") == []
    await asked("3")
    assert await post.store.unsubscribe(at("ann"), at(BUILD), Origin("ann", "2"))
    await post.send("bob", BUILD, body="here")
    assert await post.listed("ann") == ["here"]


# -- what becomes of it


@promise("channel-durable")
async def test_memberships_and_what_is_due_to_them_outlive_a_crash(post: Post) -> None:
    await members(post, "ann", "bob")
    await say(post, "ann", "1", "2")
    [one] = await post.claim("bob", most=1)
    await say(post, "ann", "3")
    await post.engine.crash()
    assert [each.message.body for each in await post.claim("bob", "other", present=["bob"])] == ["2", "3"]
    assert refused(await post.settle("bob", one.handle)) == [None]
    assert await post.listed("bob") == ["2", "3"]


@promise("channel-quiet")
async def test_nobody_is_told_what_became_of_mail_to_a_channel(post: Post) -> None:
    await members(post, "ann", "bob", "cid")
    sent = await post.send("ann", BUILD, receipt=True, body="x")
    [delivery] = await post.claim("bob")
    await post.settle("bob", delivery.handle, outcome=Outcome.REJECT, reason="no")
    [delivery] = await post.claim("cid")
    await post.settle("cid", delivery.handle)
    assert await post.listed("ann") == []
    assert await post.store.mailbox(at(POSTMASTER)) is None
    assert (await post.inbox("ann", show=Show.OVERDUE)).previews == ()
    [dead] = (await post.inbox("bob", show=Show.DEAD)).previews
    assert dead.delivery.channel == "#build@default"
    await post.settle("bob", sent.id, outcome=Outcome.RETRY)
    [delivery] = await post.claim("bob")
    assert delivery.channel == "#build@default"
    await post.settle("bob", delivery.handle, outcome=Outcome.REJECT)
    assert await post.listed("ann") == []


@promise("channel-states")
async def test_a_publisher_can_see_how_many_members_have_come_how_far(post: Post) -> None:
    await members(post, "ann", "bob", "cid", "dot", "eve")
    await leave(post, "eve")
    sent = await post.send("ann", BUILD)
    await post.mailboxes("late")
    await join(post, "late")
    await post.store.note_ring(at("dot"))
    [delivery] = await post.claim("bob")
    [counted] = (await post.store.read(at("ann"), sent.id)).counted
    assert (counted.channel, counted.states, counted.at_least) == (
        "#build@default",
        {"leased": 1, "rung": 1, "stored": 1},
        False,
    )
    await post.settle("bob", delivery.handle)
    await leave(post, "bob")
    [counted] = (await post.store.read(at("ann"), sent.id)).counted
    assert counted.states == {"acked": 1, "rung": 1, "stored": 1}
    assert (await post.store.read(at("bob"), sent.id)).counted == ()


@promise("channel-states")
async def test_a_member_that_has_not_looked_has_it_all_the_same(post: Post) -> None:
    await members(post, "ann", "bob")
    [id_] = await say(post, "ann", "x")
    assert (await post.read("bob", id_)).state is State.STORED
    assert refused(await post.settle("bob", id_)) == [None]
    [later] = await say(post, "ann", "y")
    assert refused(await post.settle("bob", later)) == [None]
    assert (await post.read("bob", later)).state is State.ACKED
    assert await post.listed("bob") == []


@promise("channel-replies")
async def test_a_reply_joins_the_thread_acks_ones_own_delivery_and_goes_where_it_says(post: Post) -> None:
    await members(post, "ann", "bob", "cid")
    first = await post.send("ann", BUILD, body="question")
    answer = await post.send("bob", "ann", body="answer", reply_to=first.id)  # before bob has looked
    assert answer.thread == first.id
    assert (await post.read("bob", first.id)).state is State.ACKED
    assert (await post.read("cid", first.id)).state is State.STORED
    assert await claimed(post, "ann") == ["answer"]
    [delivery] = await post.claim("cid")
    await post.send("cid", BUILD, body="to all", reply_to=delivery.handle)
    assert (await post.read("cid", first.id)).state is State.ACKED
    assert await claimed(post, "bob") == ["to all"]
    found = await post.store.search(at("bob"), Query(10, thread=first.id, oldest_first=True))
    assert [hit.message.body for hit in found.hits] == ["question", "answer", "to all"]


@promise("channel-replies")
async def test_who_only_read_it_in_the_channel_may_answer_it(post: Post) -> None:
    await members(post, "ann")
    await post.mailboxes("dot")
    first = await post.send("ann", BUILD)
    answer = await post.send("dot", BUILD, reply_to=first.id, body="I am new")
    assert answer.thread == first.id
    assert await claimed(post, "ann") == ["I am new"]
    assert await post.listed("dot") == []


@promise("channel-once")
async def test_a_repeated_publish_is_one_message(post: Post) -> None:
    await members(post, "ann", "bob")
    one = await post.send("ann", BUILD, key="k")
    two = await post.send("ann", BUILD, key="k")
    assert (two.id, two.repeated, two.recipients) == (one.id, True, one.recipients)
    assert await post.unread("bob") == 1
    with pytest.raises(Refusal):
        await post.send("ann", "build", key="k")


@promise("channel-options")
async def test_what_has_expired_is_not_delivered_and_what_is_put_off_comes_then(post: Post) -> None:
    await members(post, "ann", "bob", "cid")
    await post.send("ann", BUILD, body="brief", ttl=50)
    await post.send("ann", BUILD, body="later", delay=100)
    assert await post.listed("cid") == ["brief", "later"]
    assert await post.unread("bob") == 1
    post.clock.step(60)
    assert await post.unread("bob") == 0
    assert await claimed(post, "bob") == []
    assert (await post.store.due(post.store.clock.now())).next is not None
    before = post.store.clock.now()
    post.clock.step(100)
    assert await post.unread("bob") == 1
    assert at(BUILD) in (await post.store.due(before)).channels
    assert await claimed(post, "bob") == ["later"]


@promise("channel-options")
async def test_a_newer_message_of_a_topic_replaces_what_a_member_has_not_seen(post: Post) -> None:
    await members(post, "ann", "bob", "cid", "dot")
    await post.send("ann", BUILD, body="1", topic="t")
    assert await post.listed("bob") == ["1"]  # delivered, not seen: no listing was shown to anybody
    [held] = await post.claim("cid")
    await post.send("ann", BUILD, body="other", topic="u")
    await post.send("ann", "bob", body="direct", topic="t")
    await post.send("ann", BUILD, body="2", topic="t")
    assert await post.listed("bob") == ["other", "direct", "2"]
    assert await post.listed("dot") == ["other", "2"]
    assert held.message.body == "1"
    assert await post.listed("cid") == ["1", "other", "2"]
    assert await history(post, "dot") == ["2", "other", "1"]


@promise("channel-wanted")
async def test_a_reader_may_ask_for_one_channel_alone(post: Post) -> None:
    await members(post, "ann", "bob")
    await join(post, "bob", "#other")
    first = await post.send("ann", BUILD, body="1")
    await post.send("ann", "#other", body="2")
    await post.send("ann", "bob", body="3")
    assert bodies(await post.claim("bob", sender="#nothing")) == []
    assert bodies(await post.claim("bob", sender="#other", thread=first.id)) == []
    assert bodies(await post.claim("bob", sender=BUILD, most=5)) == ["1"]
    assert bodies(await post.claim("bob", sender="ann")) == ["2", "3"]


@promise("channel-rings")
async def test_what_is_published_is_told_with_who_published_it_and_quiet_copies_are_not(post: Post) -> None:
    await members(post, "ann", "bob")
    heard: list[Published] = []
    rung: list[Address] = []
    with post.store.on_publish(heard.append), post.store.on_ring(rung.append):
        await say(post, "ann", "1")
        await post.send("ann", "bob", cc=[BUILD])
        await post.send("ann", BUILD, delay=100)
        await post.send("ann", BUILD, key="k")
        await post.send("ann", BUILD, key="k")
    assert heard == [Published(at(BUILD), at("ann"))] * 2
    assert rung == [at("bob")]


@promise("channel-pool")
async def test_a_pool_that_is_a_member_shares_what_is_published(post: Post) -> None:
    await post.open("ann")
    await post.open("crew", profile=Profile(kind=Kind.POOL, share=1))
    await join(post, "crew")
    await say(post, "ann", "1", "2")
    found = [bodies(await post.claim("crew", reader, present=["one", "two"])) for reader in ("one", "two", "three")]
    assert found == [["1"], ["2"], []]


# -- reading back


@promise("channel-replay")
async def test_who_joins_may_have_what_was_published_before(post: Post) -> None:
    await members(post, "ann")
    ids = await say(post, "ann", "0", "1", "2", "3")
    post.clock.step(1000)
    late = post.store.clock.now()
    await say(post, "ann", "4")
    asked: dict[str, int | str | None] = {"all": 0, "id": ids[2], "time": late, "now": None}
    for name, since in asked.items():
        await post.mailboxes(name)
        subscribed = await join(post, name, since=since)
        assert subscribed.waiting == await post.unread(name)
    assert [await claimed(post, name) for name in asked] == [
        ["0", "1", "2", "3", "4"],
        ["2", "3", "4"],
        ["4"],
        [],
    ]
    await post.mailboxes("lost")
    assert (
        await codes(join(post, "lost", since="1abcd"), join(post, "lost", since=f"{ids[0]}x"))
        == [Code.UNKNOWN_MESSAGE] * 2
    )


@promise("channel-replay")
async def test_replay_never_delivers_what_was_delivered(post: Post) -> None:
    await members(post, "ann", "bob")
    await say(post, "ann", "1", "2")
    [one, _] = await post.claim("bob")
    await post.settle("bob", one.handle)
    await leave(post, "bob")
    await say(post, "ann", "3")
    await join(post, "bob")
    await say(post, "ann", "4")
    await join(post, "bob", since=0)
    assert await post.listed("bob") == ["2", "3", "4"]
    assert await claimed(post, "bob") == ["3", "4"]
    await leave(post, "bob")
    await join(post, "bob", since=0)
    assert await claimed(post, "bob") == []


@promise("channel-history")
async def test_a_channel_is_read_back_by_all_who_could_join_it_and_nothing_is_delivered_by_that(post: Post) -> None:
    await members(post, "ann", "bob")
    await post.mailboxes("dot")
    [one, *_] = await say(post, "ann", "red build", "green build")
    await post.send("ann", "bob", body="a build of ours")
    post.clock.step(1000)
    late = post.store.clock.now()
    await say(post, "bob", "blue build")
    assert await history(post, "dot") == ["blue build", "green build", "red build"]
    assert await history(post, "dot", "green") == ["green build"]
    assert await history(post, "dot", since=late) == ["blue build"]
    found = await post.store.search(at("dot"), Query(2, sender=at(BUILD)))
    assert [hit.message.to for hit in found.hits] == [("#build@default",)] * 2
    found = await post.store.search(at("dot"), Query(2, sender=at(BUILD), cursor=found.next))
    assert [hit.message.body for hit in found.hits] == ["red build"]
    reading = await post.store.read(at("dot"), one)
    assert (reading.message.body, reading.own) == ("red build", None)
    assert await post.listed("dot") == []
    assert (await post.store.search(at("dot"), Query(9, "build"))).hits == ()


@promise("channel-history")
async def test_members_find_what_was_published_to_them_among_all_their_mail(post: Post) -> None:
    await members(post, "ann", "bob")
    await say(post, "ann", "a needle")
    await post.send("ann", "bob", body="another needle")
    for _ in range(2):
        found = await post.store.search(at("bob"), Query(10, "needle"))
        assert [(hit.message.body, hit.own is not None) for hit in found.hits] == [
            ("another needle", True),
            ("a needle", True),
        ]
        await leave(post, "bob")
        await say(post, "ann", "a needle for others")


@promise("channel-archive")
async def test_all_mail_of_a_mailbox_has_what_channels_delivered(post: Post) -> None:
    await members(post, "ann", "bob")
    await say(post, "ann", "1")
    await post.send("ann", "bob", body="2")
    mail = (await post.store.mail_of(at("bob"), Portion(10, ROOMY))).mail
    assert [(each.message.body, each.message.to, each.sent) for each in mail] == [
        ("1", ("#build@default",), False),
        ("2", ("bob@default",), False),
    ]
    assert [each.sent for each in (await post.store.mail_of(at("ann"), Portion(10, ROOMY))).mail] == [True, True]


# -- what it keeps


async def kept_and_skipped(post: Post, mailbox: str) -> tuple[list[str], Sequence[Skipped]]:
    return await claimed(post, mailbox), list(await post.store.skipped(at(mailbox)))


@promise("channel-keeps", "channel-skipped")
@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (Keep(count=3), ["7", "8", "9"]),
        (Keep(bytes=3), ["7", "8", "9"]),
        (Keep(age=1000), ["8", "9"]),
        (Keep(count=5, bytes=1, age=10_000), ["9"]),
    ],
    ids=["number", "bytes", "age", "all"],
)
async def test_what_a_channel_keeps_no_more_is_skipped_and_said_once(post: Post, keep: Keep, left: list[str]) -> None:
    await post.mailboxes("ann", "bob", "cid")
    await join(post, "ann", keep=keep)
    await join(post, "bob")
    for number in range(10):
        await say(post, "ann", str(number))
        post.clock.step(450)
    assert await history(post, "cid") == left[::-1]
    assert await post.unread("bob") == len(left)
    found, skipped = await kept_and_skipped(post, "bob")
    assert found == left
    assert skipped == [Skipped(at(BUILD), 10 - len(left))]
    await post.engine.crash()
    assert await post.store.skipped(at("bob")) == skipped, "until somebody was told"
    await post.store.note_told(at("bob"), skipped)
    await say(post, "ann", "x")
    assert await kept_and_skipped(post, "bob") == (["x"], [])
    await join(post, "cid", since=0)
    assert await post.unread("cid") <= len(left) + 1
    assert (await kept_and_skipped(post, "cid"))[1] == []


@promise("channel-keeps")
async def test_what_was_delivered_stays_whatever_the_channel_keeps(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await join(post, "ann", keep=Keep(count=1))
    await join(post, "bob")
    ids = await say(post, "ann", "1")
    assert await post.listed("bob") == ["1"]
    await say(post, "ann", *map(str, range(2, 2 + 3 * fanout.TRIM_EVERY)))
    assert (await post.listed("bob"))[0] == "1"
    assert (await post.store.read(at("bob"), ids[0])).message.body == "1"
    assert await history(post, "ann") == [str(1 + 3 * fanout.TRIM_EVERY)]


@promise("channel-keeps")
async def test_only_who_made_a_channel_says_what_it_keeps(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await post.open("eve", "other")
    await join(post, "ann")
    assert (
        await codes(join(post, "eve", keep=Keep(count=1)), join(post, "ann", "#all", keep=Keep(count=1)))
        == [Code.FORBIDDEN] * 2
    )
    assert await post.store.subscriptions(at("eve")) == [at("#all")]
    found = await join(post, "bob", keep=Keep(count=1))  # of the same principal
    assert found.channel.keep.count == 1
    with pytest.raises(Refusal):
        Keep(count=0)


@promise("channel-skipped")
async def test_who_has_left_is_told_what_it_missed_while_it_was_a_member(post: Post) -> None:
    await post.mailboxes("ann", "bob")
    await join(post, "ann", keep=Keep(count=1))
    await join(post, "bob")
    await say(post, "ann", "1", "2")
    await leave(post, "bob")
    await say(post, "ann", *["x"] * 2 * fanout.TRIM_EVERY)
    assert await kept_and_skipped(post, "bob") == ([], [Skipped(at(BUILD), 2)])


@promise("channel-skipped")
async def test_ones_own_words_are_not_skipped_when_one_had_read_all_before(post: Post) -> None:
    await post.mailboxes("ann")
    await join(post, "ann", keep=Keep(count=1))
    await say(post, "ann", "1", "2", "3")
    assert await kept_and_skipped(post, "ann") == ([], [])
