"""Mailboxes belong to principals: for anybody else they, their mail, ids, leases and cursors do not exist."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mcp_mailbox.fronts import fence
from tests.http.caller import Caller, Json
from tests.http.conftest import Post


class Scene:
    """Alice has mail from bob; eve has a mailbox of her own, and knows every word of theirs. All take mail of all."""

    def __init__(self, post: Post) -> None:
        self.alice, self.bob = post.caller(mailbox_address="alice"), post.caller(mailbox_address="bob")
        eve = post.issue("eve")["token"]
        self.eve = post.caller(eve, mailbox_address="eve")
        for caller in (self.alice, self.bob, self.eve):
            caller.call("create_mailbox", contact="open")
        for number in range(3):
            self.sent = self.bob.call("send", to="alice", body=f"secret {number}")
        self.leased: str = self.alice.call("wait_for_message")["messages"][0]["id"]
        self.cursor: str = self.alice.call("list_inbox", limit=1)["next"]
        self.space = post.space


@pytest.fixture
def scene(post: Post) -> Scene:
    return Scene(post)


def blank(answer: Json, *names: str) -> str:
    """What an answer says, but for the names that were asked for."""
    text = repr(answer)
    for name in names:
        text = text.replace(name, "…")
    return text


@pytest.mark.parametrize(
    "ask",
    [
        lambda eve, name: eve.refused("list_inbox", mailbox=name),
        lambda eve, name: eve.refused("list_inbox", mailbox=name, query="secret"),
        lambda eve, name: eve.refused("wait_for_message", mailbox=name, timeout=0),
        lambda eve, name: eve.refused("read", mailbox=name, id="x"),
        lambda eve, name: eve.refused("settle", mailbox=name, ids=["x"], outcome="ack"),
        lambda eve, name: eve.refused("send", mailbox=name, to="eve", body="spoofed"),
        lambda eve, name: eve.alone("resources/read", uri=f"mailbox:{name}").json["error"],
    ],
    ids=["list", "search", "wait", "read", "settle", "send as", "resource"],
)
def test_a_mailbox_of_somebody_else_answers_as_one_that_is_not_there(
    scene: Scene, ask: Callable[[Caller, str], Json]
) -> None:
    theirs, nobodys = ask(scene.eve, "alice"), ask(scene.eve, "zelda")
    assert blank(theirs, "alice") == blank(nobodys, "zelda")
    assert "alice" not in blank(ask(scene.eve, "alise"), "alise"), "a hint names what is not hers"


@pytest.mark.parametrize(
    "ask",
    [
        lambda eve, name: eve.call("wait_for_message", from_=name, timeout=0),
        lambda eve, name: eve.call("list_inbox", from_=name),
    ],
    ids=["wait", "search"],
)
def test_who_asks_for_mail_of_somebody_does_not_learn_whether_there_is_such_a_mailbox(
    scene: Scene, ask: Callable[[Caller, str], Json]
) -> None:
    scene.eve.call("create_mailbox", name="alicia")
    theirs, nobodys = ask(scene.eve, "alice"), ask(scene.eve, "alika")
    assert theirs["hint"].endswith("Did you mean 'alicia'?"), "her own is the only one that is told"
    assert blank(theirs) == blank(nobodys)
    assert "alice" not in blank(ask(scene.eve, "alise"), "alise")
    assert "mean" not in blank(ask(scene.eve, "alicia"))


def test_nothing_of_somebody_else_is_listed_or_completed(scene: Scene) -> None:
    assert [each["name"] for each in scene.eve.alone("resources/list").result["resources"]] == [f"eve@{scene.space}"]
    reference = {"type": "ref/resource", "uri": "mailbox:{address}"}
    argument = {"name": "address", "value": ""}
    found = scene.eve.alone("completion/complete", ref=reference, argument=argument).result["completion"]["values"]
    assert found == [f"eve@{scene.space}"]


def test_a_stream_for_somebody_elses_mailbox_honours_nothing_of_it(scene: Scene) -> None:
    message = scene.eve.message("subscriptions/listen", notifications={"resourceSubscriptions": ["mailbox:alice"]})
    with scene.eve.line() as line:
        line.write(scene.eve.request(body=message, **scene.eve.modern(message)))
        line.head()
        assert "resourceSubscriptions" not in line.event()["params"]["notifications"]
    scene.eve.begin()
    assert scene.eve.within("resources/subscribe", uri="mailbox:alice").json["error"]["code"] == -32002


def test_ids_and_leases_of_somebody_else_are_as_if_made_up(scene: Scene) -> None:
    eve = scene.eve
    asks: list[Callable[[str], Json]] = [
        lambda id_: eve.refused("read", id=id_),
        lambda id_: eve.call("settle", ids=[id_], outcome="ack"),
        lambda id_: eve.refused("send", to="eve", body="x", reply_to=id_),
    ]
    for theirs in (scene.sent["id"], scene.leased, scene.sent["thread"]):
        for ask in asks:
            assert blank(ask(theirs), theirs) == blank(ask("zzzzz"), "zzzzz")
    [message] = [each for each in scene.alice.call("list_inbox")["messages"] if each["id"] == scene.sent["id"]]
    assert message["state"] == "leased", "eve could not end her lease"


def test_a_thread_or_a_cursor_of_somebody_else_shows_nothing(scene: Scene) -> None:
    theirs, made_up = (scene.eve.refused("list_inbox", cursor=each) for each in (scene.cursor, "c1.zzzzz"))
    assert blank(theirs, scene.cursor) == blank(made_up, "c1.zzzzz")
    for known in ("alice", "nobody"):  # whether there is such a mailbox must not show either
        answer = scene.eve.tool("wait_for_message", thread="zzzzz", from_=known, timeout=0)
        assert answer.content.get("error") == "unknown_message"
    for thread in (scene.sent["thread"], "zzzzz"):
        answer = scene.eve.tool("wait_for_message", thread=thread, timeout=0)
        assert "secret" not in str(answer.body)
        assert answer.content.get("error") == "unknown_message"


def test_a_search_finds_nothing_of_somebody_else_and_does_not_tell_that_there_is_something(scene: Scene) -> None:
    scene.bob.call("send", to="eve", body="a secret for eve")
    assert len(scene.alice.call("list_inbox", query="secret")["messages"]) == 3
    assert len(scene.bob.call("list_inbox", query="secret")["messages"]) == 4
    for asked in ({"query": "secret"}, {"query": "secret", "from": "bob"}, {"from": "bob"}):
        found = scene.eve.call("list_inbox", **asked)["messages"]
        assert [fence.bare(each["preview"]) for each in found] == ["a secret for eve"]
    for address in ("alice", "nobody"):  # whether there is such a mailbox must not show either
        assert scene.eve.call("list_inbox", **{"query": "secret", "from": address}) == {"messages": []}
    theirs, made_up = (scene.eve.refused("list_inbox", thread=each) for each in (scene.sent["thread"], "zzzzz"))
    assert blank(theirs, scene.sent["thread"]) == blank(made_up, "zzzzz")
    cursor = scene.alice.call("list_inbox", query="secret", limit=1)["next"]
    theirs, made_up = (scene.eve.refused("list_inbox", query="secret", cursor=each) for each in (cursor, "c1.zzzzz"))
    assert blank(theirs, cursor) == blank(made_up, "c1.zzzzz")


def test_who_may_only_send_does_not_search(post: Post) -> None:
    post.caller(mailbox_address="olga").call("create_mailbox")
    sender = post.stranger("local", mailbox="olga", scopes=["send"], space=post.space)
    assert sender.refused("list_inbox", query="word")["error"] == "forbidden"


def test_a_sender_is_who_has_the_token_whatever_else_is_said(scene: Scene, post: Post) -> None:
    for name, value in (("from", "alice"), ("sender", "alice"), ("mailbox", "alice")):
        scene.eve.refused("send", to="bob", body="spoofed", **{name: value})
    message = scene.eve.message("tools/call", name="send", arguments={"to": "bob", "body": "hello", "key": "k"})
    message["params"]["_meta"] |= {
        "from": "alice",
        "mcp-mailbox/sender": "alice",
        "io.modelcontextprotocol/sender": "alice",
    }
    headers = scene.eve.modern(message) | {"from": "alice", "x_forwarded_user": "alice", "x_mailbox_principal": "local"}
    assert not scene.eve.ask(body=message, **headers).result.get("isError")
    [got] = [each for each in scene.bob.call("list_inbox")["messages"] if fence.bare(each["preview"]) == "hello"]
    assert got["from"] == f"eve@{post.space}"
    as_alice = scene.eve.message("tools/call", name="send", arguments={"to": "bob", "body": "spoofed"})
    answer = scene.eve.ask(body=as_alice, **scene.eve.modern(as_alice), mailbox_address="alice")
    assert answer.content["error"] == "name_taken"
    assert "spoofed" not in str(scene.bob.call("list_inbox"))


@pytest.mark.parametrize(
    ("contact", "same_space", "elsewhere"), [("open", True, True), ("space", True, False), ("closed", False, False)]
)
def test_who_may_write_is_the_mailboxs_to_say(post: Post, contact: str, *, same_space: bool, elsewhere: bool) -> None:
    owner = post.caller(mailbox_address="olga")
    owner.call("create_mailbox", contact=contact)
    token = post.issue("eve")["token"]
    for space, allowed in ((post.space, same_space), (f"{post.space}-else", elsewhere)):
        eve = post.caller(token, mailbox_address=f"eve@{space}")
        sent = eve.tool("send", to=f"olga@{post.space}", body="hello").content
        missing = eve.tool("send", to=f"nobody@{post.space}", body="hello").content
        assert ("error" not in sent) == allowed
        if not allowed:
            assert blank(sent, "olga") == blank(missing, "nobody")
    friend = post.caller(mailbox_address="friend")
    assert friend.call("send", to="olga", body="x")["to"][0]["state"] == "stored"


def test_a_new_mailbox_asks_first_and_says_so_to_others_alone(post: Post) -> None:
    olga, friend, eve = post.caller(mailbox_address="olga"), post.caller(mailbox_address="friend"), post.stranger("eve")
    olga.call("create_mailbox")
    eve.call("create_mailbox", name="eve")
    assert eve.call("send", mailbox="eve", to="olga", body="hello")["to"][0]["state"] == "held"
    eve.call("send", mailbox="eve", to="#all", body="hello, all")
    assert friend.call("send", to="olga", body="from a friend")["to"][0]["state"] == "stored"
    assert [each["from"] for each in olga.call("wait_for_message")["messages"]] == [
        f"postmaster@{post.space}",
        f"friend@{post.space}",
    ]
    assert (found(eve)["olga"]["contact"], found(friend)["olga"].get("contact")) == ("ask", None)


def test_an_answer_reaches_a_mailbox_that_is_closed_to_others(post: Post) -> None:
    owner, eve = post.caller(mailbox_address="olga"), post.caller(post.issue("eve")["token"], mailbox_address="eve")
    owner.call("create_mailbox", contact="closed")
    eve.call("create_mailbox", contact="open")
    owner.call("send", to="eve", body="question")
    [question] = eve.call("wait_for_message")["messages"]
    assert eve.call("send", to="olga", body="answer", reply_to=question["id"])["to"][0]["state"] == "stored"
    assert eve.refused("send", to="olga", body="more")["error"] == "unknown_mailbox"


def test_of_a_name_that_looks_like_anothers_no_more_is_told(post: Post) -> None:
    post.caller(mailbox_address="paypal").call("create_mailbox")
    eve = post.caller(post.issue("eve")["token"])
    assert "paypal" not in eve.refused("create_mailbox", name="paypa1")["message"]
    assert eve.refused("create_mailbox", name="paypal")["error"] == "name_taken"


def test_of_what_somebody_else_holds_only_that_it_is_held_is_told(post: Post) -> None:
    owner, friend = post.caller(mailbox_address="olga"), post.caller(mailbox_address="friend")
    eve = post.caller(post.issue("eve")["token"], mailbox_address="eve")
    for caller in (owner, friend, eve):
        caller.call("create_mailbox")
    owner.call("reserve", names=["src/", "secret-plan"], note="olga's reason")
    refused = eve.refused("reserve", names="src/a.py")
    listed = eve.call("reserve")
    assert refused["error"] == "reserved"
    assert refused["message"].startswith("'src/a.py' is held by somebody else (exclusive) until "), "no words of theirs"
    assert refused["conflicts"][0]["by"] == listed["others"][0]["by"] == "somebody else"
    assert fence.bare(refused["conflicts"][0]["held"]) == "src/"
    assert [fence.bare(each) for each in listed["others"][0]["names"]] == ["secret-plan", "src/"]
    for answer in (refused, listed):
        assert "olga" not in str(answer), "neither whose it is nor what for"
    assert "send to" not in refused["hint"]
    assert friend.call("reserve")["others"][0]["by"] == f"olga@{post.space}"
    assert friend.refused("reserve", names="src/a.py")["conflicts"][0]["note"] == "olga's reason"


def test_what_somebody_else_holds_cannot_be_released_or_taken_over(post: Post) -> None:
    owner = post.caller(mailbox_address="olga")
    eve = post.caller(post.issue("eve")["token"], mailbox_address="eve")
    for caller in (owner, eve):
        caller.call("create_mailbox")
    owner.call("reserve", names="src/")
    assert eve.call("reserve", names="src/", release=True) == {"released": [], "not_held": ["src/"]}
    for tool_arguments in ({"names": "src/", "release": True}, {"release": True}, {"names": "x"}, {}):
        theirs = eve.refused("reserve", mailbox="olga", **tool_arguments)
        nobodys = eve.refused("reserve", mailbox="zelda", **tool_arguments)
        assert blank(theirs, "olga") == blank(nobodys, "zelda")
    assert owner.call("reserve")["yours"][0]["names"] == ["src/"]


def test_a_token_that_may_only_read_looks_and_reserves_nothing(post: Post) -> None:
    post.caller(mailbox_address="olga").call("create_mailbox")
    reader = post.stranger("local", mailbox="olga", scopes=["read"], space=post.space)
    assert reader.call("reserve") == {"yours": [], "others": []}
    for tool_arguments in ({"names": "src/"}, {"names": "src/", "release": True}, {"release": True}):
        assert reader.refused("reserve", **tool_arguments)["error"] == "forbidden"
    sender = post.stranger("local", mailbox="olga", scopes=["send"], space=post.space)
    assert sender.refused("reserve")["error"] == "forbidden"
    assert sender.call("reserve", names="src/")["reserved"]


def found(caller: Caller, **arguments: object) -> dict[str, Json]:
    """Return who is found, by name in the space or by address elsewhere."""
    pages = [caller.call("find_mailboxes", **arguments)]
    while "next" in pages[-1]:
        pages.append(caller.call("find_mailboxes", cursor=pages[-1]["next"], **arguments))
    every = [each for page in pages for each in page["mailboxes"]]
    return {each["address"].removesuffix(f"@{caller.headers['mailbox-space']}"): each for each in every}


def test_of_others_mailboxes_only_those_are_found_that_take_ones_mail(post: Post) -> None:
    for contact in ("open", "space", "closed"):
        owner = post.caller(mailbox_address=f"olga-{contact}")
        owner.call("create_mailbox", contact=contact, about="plans", skills=["secret-plan"])
    outsider, member = post.stranger("out"), post.stranger("eve")
    member.call("create_mailbox", name="eve")
    everything: list[Json] = [{}, {"query": "olga"}, {"query": "plan"}, {"skill": "secret-plan"}]
    for asked in everything:
        assert set(found(outsider, **asked)) - {"eve"} == {"olga-open"}
        assert set(found(member, **asked)) - {"eve"} == {"olga-open", "olga-space"}
        assert set(found(owner, **asked)) - {"eve"} == {"olga-open", "olga-space", "olga-closed"}


def test_who_may_not_be_found_answers_as_one_who_is_not_there(post: Post) -> None:
    post.caller(mailbox_address="olga").call("create_mailbox", contact="closed", about="plans", status="busy")
    eve = post.stranger("eve")
    eve.call("create_mailbox", name="eve")
    for asked in ({"query": "olga"}, {"query": "plans"}, {"query": "olga", "limit": 1}):
        nobodys = {**asked, "query": "zelda"}
        theirs, missing = eve.call("find_mailboxes", **asked), eve.call("find_mailboxes", **nobodys)
        assert blank(theirs, "olga") == blank(missing, "zelda")
    hidden, nowhere = eve.call("find_mailboxes", query="olga", space=post.space), eve.call("find_mailboxes", space="no")
    assert hidden == nowhere


def test_of_somebody_elses_mailbox_nothing_but_what_it_says_and_its_presence_is_told(post: Post) -> None:
    olga, friend = post.caller(mailbox_address="olga"), post.caller(mailbox_address="friend")
    olga.call("create_mailbox", about="plans", skills=["go"], status="until 15:00", away=True, contact="open")
    olga.call("send", to="olga", body="secret")
    eve = post.stranger("eve")
    eve.call("create_mailbox", name="eve")
    expected = {
        "address": f"olga@{post.space}",
        "about": "plans",
        "skills": ["go"],
        "presence": "away",
        "status": "until 15:00",
    }
    theirs = fence.stripped(eve.call("find_mailboxes"))
    assert [each for each in theirs["mailboxes"] if each["address"] == expected["address"]] == [
        {**expected, "untrusted": True}
    ]
    friends = found(friend)["olga"]
    assert friends.pop("last_seen").endswith("Z")
    assert friends == {**expected, "unread": 1}


def test_another_principals_spaces_are_not_gone_through(post: Post) -> None:
    elsewhere = f"{post.space}-else"
    post.caller(mailbox_address=f"olga@{elsewhere}").call("create_mailbox", contact="open")
    post.caller(mailbox_address="olga").call("create_mailbox")
    eve = post.stranger(f"eve of {post.space}")
    eve.call("create_mailbox", name="eve")
    assert set(found(eve, space="*")) == {"eve", "olga"}
    assert set(found(eve, space=elsewhere)) == {f"olga@{elsewhere}"}, "it is open, so she may write to it"


def test_a_cursor_of_another_principals_directory_is_as_if_made_up(post: Post) -> None:
    for name in ("ann", "bob"):
        post.caller(mailbox_address=name).call("create_mailbox")
    cursor = post.caller().call("find_mailboxes", limit=1)["next"]
    eve = post.stranger("eve")
    theirs, made_up = (eve.refused("find_mailboxes", cursor=each) for each in (cursor, "c0.zzzzz"))
    assert blank(theirs, cursor) == blank(made_up, "c0.zzzzz")


def test_a_token_that_may_not_read_finds_nobody(post: Post) -> None:
    sender = post.stranger("local", scopes=["send"], space=post.space)
    assert sender.refused("find_mailboxes")["error"] == "forbidden"
    reader = post.stranger("local", scopes=["read"], space=post.space)
    assert reader.call("find_mailboxes")["mailboxes"] == []
