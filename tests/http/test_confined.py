"""A token that is for one space: whatever is in another one, its own principal's too, does not exist for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fronts.world import Served
from tests.http.caller import Caller, Json
from tests.http.conftest import Post
from tests.http.test_principals import blank


class Scene:
    """Anna has mailboxes in two spaces. `inside` is her token for one of them; `free` sees both."""

    def __init__(self, post: Post) -> None:
        self.here, self.there = post.space, f"{post.space}-there"
        anna = f"anna of {post.space}"
        self.free = post.caller(post.issue(anna)["token"], mailbox_address="laptop")
        self.away = post.caller(post.issue(anna)["token"], mailbox_address=f"hidden@{self.there}")
        confined = post.issue(anna, space=post.space, confined=True, mailbox="laptop")["token"]
        self.inside = post.caller(confined)
        self.olga = post.caller(mailbox_address=f"olga@{self.there}")
        self.free.call("create_mailbox")
        for caller in (self.away, self.olga):
            caller.call("create_mailbox", contact="open")
        self.away.call("subscribe", channel=f"#plans@{self.there}")
        self.secret: str = self.away.call("send", to=f"#plans@{self.there}", body="secret")["id"]


@pytest.fixture(scope="module")
def scene(home: Served) -> Scene:
    return Scene(Post(home))


def alike(ask: Callable[[str], Json], hidden: str, nowhere: str) -> Json:
    """See to it that what is hidden answers as what is nowhere; return the answer."""
    answer, nobodys = ask(hidden), ask(nowhere)
    assert blank(answer, hidden, hidden.partition("@")[0]) == blank(nobodys, nowhere, nowhere.partition("@")[0])
    return answer


@pytest.mark.parametrize(
    "ask",
    [
        lambda caller, name: caller.refused("list_inbox", mailbox=name),
        lambda caller, name: caller.refused("list_inbox", mailbox=name, query="secret"),
        lambda caller, name: caller.refused("wait_for_message", mailbox=name, timeout=0),
        lambda caller, name: caller.refused("read", mailbox=name, id="x"),
        lambda caller, name: caller.refused("settle", mailbox=name, ids=["x"], outcome="ack"),
        lambda caller, name: caller.refused("send", mailbox=name, to="laptop", body="x"),
        lambda caller, name: caller.refused("reserve", mailbox=name, names="src/"),
        lambda caller, name: caller.refused("reserve", mailbox=name),
        lambda caller, name: caller.refused("subscribe", mailbox=name),
        lambda caller, name: caller.refused("create_mailbox", name=name),
        lambda caller, name: caller.alone("resources/read", uri=f"mailbox:{name}").json["error"],
    ],
    ids=["list", "search", "wait", "read", "settle", "send as", "reserve", "held", "channels", "create", "resource"],
)
def test_a_mailbox_elsewhere_answers_as_one_that_is_nowhere(scene: Scene, ask: Callable[[Caller, str], Json]) -> None:
    for name in ("hidden", "olga"):
        answer = alike(lambda asked: ask(scene.inside, asked), f"{name}@{scene.there}", f"zelda@{scene.there}")
        assert "mean" not in str(answer)


def test_mail_to_another_space_is_as_mail_to_nobody(scene: Scene) -> None:
    def send(to: str) -> Json:
        return scene.inside.refused("send", to=to, body="x")

    for name, nowhere in (("hidden", "zelda"), ("olga", "zelda"), ("#plans", "#zelda")):
        alike(send, f"{name}@{scene.there}", f"{nowhere}@{scene.there}")
    sent = scene.inside.call("send", to=["laptop", f"hidden@{scene.there}"], cc=f"olga@{scene.there}", body="x")
    assert [each.get("error") for each in sent["to"]] == [None, "unknown_mailbox", "unknown_mailbox"]
    assert scene.away.call("list_inbox")["messages"] == []
    assert scene.free.call("send", to=f"hidden@{scene.there}", body="x")["to"][0]["state"] == "stored"


def test_a_channel_elsewhere_answers_as_one_that_is_nowhere(scene: Scene) -> None:
    asks: list[Callable[[str], Json]] = [
        lambda name: scene.inside.refused("subscribe", channel=name),
        lambda name: scene.inside.refused("subscribe", channel=name, leave=True),
        lambda name: scene.inside.refused("list_inbox", from_=name),
    ]
    for ask in asks:
        assert alike(ask, f"#plans@{scene.there}", f"#nothing@{scene.there}")["error"] == "unknown_channel"
    for asked in (f"#plans@{scene.there}", f"plans@{scene.there}"):
        assert "mean" not in str(scene.inside.call("wait_for_message", from_=asked, timeout=0))


def test_what_is_in_a_channel_elsewhere_is_read_by_nobody_who_knows_its_id(scene: Scene) -> None:
    assert scene.free.call("read", id=scene.secret)["body"] == "secret", "who sees that space may"
    for ask in (
        lambda id_: scene.inside.refused("read", id=id_),
        lambda id_: scene.inside.refused("read", id=id_, attachment="plan.md"),
        lambda id_: scene.inside.refused("send", to="laptop", body="x", reply_to=id_),
        lambda id_: scene.inside.refused("list_inbox", thread=id_),
        lambda id_: scene.inside.refused("wait_for_message", thread=id_, timeout=0),
    ):
        answer = alike(ask, scene.secret, "zzzzz")
        assert answer["error"] == "unknown_message"


def test_a_hint_names_nothing_of_elsewhere(scene: Scene) -> None:
    for ask in (
        lambda name: scene.inside.refused("list_inbox", mailbox=name),
        lambda name: scene.inside.refused("send", to=name, body="x"),
        lambda name: scene.inside.call("wait_for_message", from_=name, timeout=0),
        lambda name: scene.inside.call("list_inbox", from_=name),
    ):
        alike(ask, "hidden", "zelda")
    assert "hidden" in str(scene.free.refused("send", to="hidden", body="x")["hint"]), "who sees it is told"


def test_the_directory_has_no_other_space(scene: Scene) -> None:
    def names(caller: Caller, **asked: object) -> set[str]:
        return {each["address"].partition("@")[0] for each in caller.call("find_mailboxes", **asked)["mailboxes"]}

    assert names(scene.free, space="*") >= {"laptop", "hidden"}
    assert names(scene.inside, space="*") == names(scene.inside) == {"laptop"}
    assert names(scene.inside, space=scene.there) == names(scene.inside, space="nowhere") == set()
    cursor = scene.free.call("find_mailboxes", space=scene.there, limit=1).get("next", "c1.zzzzz")
    theirs, made_up = (
        scene.inside.refused("find_mailboxes", space=space, cursor=each)
        for space, each in ((scene.there, "c1.zzzzz"), ("nowhere", "c1.zzzzz"))
    )
    assert blank(theirs) == blank(made_up), cursor


def test_no_header_leads_to_another_space(scene: Scene) -> None:
    scene.away.call("list_inbox")
    for headers in (
        {"mailbox_space": scene.there},
        {"mailbox_address": f"hidden@{scene.there}"},
        {"mailbox_space": scene.there, "mailbox_address": "hidden"},
    ):
        caller = Caller(scene.inside.port, scene.inside.token, scene.here, **headers)
        nobody = {name: value.replace("hidden", "zelda") for name, value in headers.items()}
        nowhere = Caller(scene.inside.port, scene.inside.token, scene.here, **nobody)
        for one in (caller, nowhere):
            assert one.tool("list_inbox", mailbox="hidden").content["error"] in {"unknown_mailbox", "forbidden"}
        theirs, nobodys = (one.tool("list_inbox").content for one in (caller, nowhere))
        assert blank(theirs, "hidden") == blank(nobodys, "zelda")
        assert "secret" not in str(theirs)


def test_nothing_of_elsewhere_is_listed_or_completed(scene: Scene) -> None:
    listed = scene.inside.alone("resources/list").result["resources"]
    assert [each["name"] for each in listed] == [f"laptop@{scene.here}"]
    reference = {"type": "ref/resource", "uri": "mailbox:{address}"}
    for value in (f"@{scene.there}", f"hid@{scene.there}", "hid"):
        argument = {"name": "address", "value": value}
        found = scene.inside.alone("completion/complete", ref=reference, argument=argument).result["completion"]
        assert found["values"] == []


def test_inside_its_space_it_does_what_every_token_does(scene: Scene) -> None:
    made = scene.inside.call("create_mailbox", name="second")
    assert made["address"] == f"second@{scene.here}"
    scene.inside.call("send", to=f"second@{scene.here}", body="hello")
    [got] = scene.inside.call("wait_for_message", mailbox="second")["messages"]
    assert got["from"] == f"laptop@{scene.here}"
    scene.inside.call("subscribe", channel="#ours")
    assert scene.inside.call("reserve", names="src/")["reserved"]
    answer = scene.away.call("send", to=f"laptop@{scene.here}", body="her own, from elsewhere")
    assert answer["to"][0]["state"] == "stored"
