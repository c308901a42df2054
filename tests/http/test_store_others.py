"""The store API among principals, and among edges of one: whatever one names of another's is as if made up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import pytest

from mcp_mailbox.fronts.hub import wire
from tests.http.caller import Answer, Json
from tests.http.conftest import Post
from tests.http.store import Store, revoked_on_the_way

OCTETS = "application/octet-stream"
COPY = "a1" * 16


@pytest.fixture
def alice(post: Post) -> Iterator[Store]:
    store = Store(post.caller(post.issue(f"alice {post.space}")["token"]))
    store.call("create_mailbox", name="alice")
    yield store
    assert "Traceback" not in post.home.log()


@pytest.fixture
def mallory(post: Post) -> Store:
    """Somebody else, who knows the names of alice's edge, reader and files."""
    store = Store(post.caller(post.issue(f"mallory {post.space}")["token"]))
    store.call("create_mailbox", name="mallory")
    return store


@pytest.fixture
def twin(alice: Store) -> Store:
    """Another machine of alice's, whose reader has the same name."""
    store = Store(alice.caller, "another-000000000")
    store.call("create_mailbox", name="twin")
    return store


def hand_in(store: Store, content: bytes, copy: str = COPY, offset: int = 0) -> Answer:
    return store.post("files", content, content_type=OCTETS, mailbox_file=copy, mailbox_offset=str(offset))


def with_file(store: Store, to: str, copy: str = COPY) -> Answer:
    given = {"to": to, "body": "x"}
    return store.post(
        "verbs/send", {"who": store.who(), "given": given, "files": [{"name": "note.txt", "copied": copy}]}
    )


def attached(store: Store, id_: str, name: str = "note.txt") -> Answer:
    return store.post("attachment", {"who": store.who(), "given": {"id": id_, "name": name}})


# -- files


@pytest.mark.parametrize("whose", ["another principal's", "another machine's"])
def test_a_file_that_another_handed_in_is_as_one_that_nobody_did(
    alice: Store, mallory: Store, twin: Store, whose: str
) -> None:
    other = mallory if whose == "another principal's" else twin
    own = other.call("own")["address"]
    assert hand_in(alice, b"secret").status == 204
    theirs, nobodys = with_file(other, own), with_file(other, own, "b2" * 16)
    assert theirs.status == nobodys.status >= 400
    assert theirs.body == nobodys.body
    assert hand_in(other, b" and more", offset=6).body == hand_in(other, b"x", "b2" * 16, 6).body
    assert hand_in(other, b"other").status == 204
    sent = with_file(alice, "alice")
    assert attached(alice, sent.json["id"]).body == b"secret"
    assert with_file(other, own).status == 200, "each has its own by that name"


def test_what_is_attached_to_anothers_message_is_as_if_it_were_not_there(alice: Store, mallory: Store) -> None:
    hand_in(alice, b"secret")
    sent = with_file(alice, "alice").json["id"]
    theirs, nobodys = attached(mallory, sent), attached(mallory, "z" * len(sent))
    assert theirs.status == nobodys.status == 404
    assert theirs.body.replace(sent.encode(), b"z" * len(sent)) == nobodys.body
    mine = mallory.call("send", to="mallory", body="x")["id"]
    assert attached(mallory, mine).status == 404
    for name in ("", "..", "../note.txt", "/etc/passwd", "note.txt\0", "*", "%", "x" * 5000):
        assert attached(alice, sent, name).status == 404
        assert attached(mallory, sent, name).status == 404


@pytest.mark.parametrize(
    "copy", ["", "..", "../" * 10 + "etc/passwd", "A1" * 16, "a1" * 15, "a1" * 17, "a1" * 15 + "g1", "a1" * 15 + "/."]
)
def test_a_file_has_a_name_of_its_form_whichever_way_it_is_named(alice: Store, copy: str) -> None:
    assert hand_in(alice, b"x", copy).status == 400
    assert with_file(alice, "alice", copy).status == 400


@pytest.mark.parametrize("offset", ["", "-1", "+1", "1.0", "1e3", "0x1", "²", "1" * 13, " ", "0, 0"])
def test_a_piece_has_its_place(alice: Store, offset: str) -> None:
    assert alice.post("files", b"x", content_type=OCTETS, mailbox_file=COPY, mailbox_offset=offset).status == 400


def test_pieces_leave_no_gap_and_no_second_copy(alice: Store) -> None:
    assert hand_in(alice, b"one").status == 204
    for offset in (1, 2, 4, 10**12 - 1):
        assert hand_in(alice, b"x", offset=offset).status in {400, 413}
    assert hand_in(alice, b"two", offset=3).status == 204
    assert hand_in(alice, b"two", offset=3).status == 400
    assert attached(alice, with_file(alice, "alice").json["id"]).body == b"onetwo"
    assert with_file(alice, "alice").status >= 400, "it was handed in for one message"


def test_a_piece_of_a_token_that_was_revoked_while_it_came_is_not_kept(post: Post, alice: Store) -> None:
    issued = post.issue(f"alice {post.space}")
    late = Store(post.caller(issued["token"]))
    about = {"content_type": OCTETS, "mailbox_edge": late.edge, "mailbox_file": COPY, "mailbox_offset": "0"}
    request = late.caller.request("POST", f"{wire.PATH}files", body=b"late", **about)
    assert revoked_on_the_way(late, request, alice, lambda: post.command("token revoke", id=issued["id"])) == 401
    assert with_file(alice, "alice").status >= 400


# -- names


def test_one_request_of_two_machines_is_two(alice: Store, twin: Store) -> None:
    who = alice.who()
    first = alice.call("send", who, to="alice", body="one")
    second = twin.call("send", who, to="alice", body="two")
    assert first["id"] != second["id"]
    assert alice.call("send", who, to="alice", body="one")["id"] == first["id"]
    assert alice.call("list_inbox")["unread"] == 2


HANDLES: dict[str, Callable[[str], tuple[str, Json]]] = {
    "read": lambda id_: ("read", {"id": id_}),
    "read an attachment": lambda id_: ("read", {"id": id_, "attachment": "note.txt"}),
    "entire": lambda id_: ("entire", {"id": id_}),
    "ack": lambda id_: ("settle", {"ids": [id_], "outcome": "ack"}),
    "purge": lambda id_: ("settle", {"ids": [id_], "outcome": "purge"}),
    "accept": lambda id_: ("settle", {"ids": [id_], "outcome": "accept"}),
    "ack in a wait": lambda id_: ("wait_for_message", {"timeout": 0, "ack": [id_]}),
    "answer": lambda id_: ("send", {"to": "mallory", "body": "x", "reply_to": id_}),
    "a thread's mail": lambda id_: ("list_inbox", {"thread": id_}),
    "wait for a thread": lambda id_: ("wait_for_message", {"timeout": 0, "thread": id_}),
    "the beginning of a channel": lambda id_: ("subscribe", {"channel": "#room", "since": id_}),
}


@pytest.mark.parametrize("asked", HANDLES.values(), ids=HANDLES.keys())
def test_an_id_of_anothers_message_is_answered_as_one_that_there_is_not(
    alice: Store, mallory: Store, asked: Callable[[str], tuple[str, Json]]
) -> None:
    mallory.call("subscribe", channel="#room")
    alice.call("send", to="alice", body="secret")
    [taken] = alice.call("wait_for_message", timeout=0)["messages"]
    for handle in (taken["id"], taken["id"].partition(".")[0]):
        made_up = "".join("." if each == "." else "1" if each.isdigit() else "z" for each in handle)
        said = []
        for id_ in (handle, made_up):
            verb, given = asked(id_)
            answer = mallory.verb(verb, **given)
            said.append((answer.status, answer.body.replace(id_.encode(), b"ID")))
        assert said[0] == said[1]
        assert b"secret" not in said[0][1]
    assert alice.call("settle", ids=[taken["id"]], outcome="ack")["settled"] == [taken["id"]]


def test_a_place_in_anothers_arrivals_and_pages_shows_nothing_of_them(alice: Store, mallory: Store) -> None:
    place = alice.call("arrivals")["place"]
    for number in range(3):
        alice.call("send", to="alice", body=f"secret {number}")
    asked: list[tuple[str, Json]] = [("arrivals", {"place": place})]
    for wanted in ({}, {"query": "secret"}):
        cursor = alice.call("list_inbox", limit=1, **wanted)["next"]
        asked += [("list_inbox", {"cursor": cursor, **wanted})]
    for verb, given in asked:
        answer = mallory.verb(verb, **given)
        assert b"secret" not in answer.body.replace(b'"secret"', b"")
        assert b"alice" not in answer.body


@pytest.mark.parametrize("verb", ["remind", "news", "arrivals", "held"])
def test_what_hooks_ask_of_anothers_mailbox_is_answered_as_of_one_that_there_is_not(
    alice: Store, mallory: Store, verb: str
) -> None:
    alice.call("send", to="alice", body="secret", priority="urgent")
    alice.call("reserve", names=["src/secret.py"])
    given = {"event": "stop"} if verb == "remind" else {}
    said = []
    for name in ("alice", "nobodyhere"):
        answer = mallory.verb(verb, mallory.who(mailbox=name), **given)
        said.append((answer.status, answer.body.replace(name.encode(), b"NAME")))
    assert said[0][0] == said[1][0]
    if verb != "held":  # which says of names in its space that they are held, and of whom nothing
        assert said[0] == said[1]


def test_numbers_of_events_say_nothing_of_how_much_others_are_rung(alice: Store, mallory: Store) -> None:
    space = alice.caller.headers["mailbox-space"]

    def ring(store: Store, name: str, line: Json) -> int:
        store.call("send", to=name, body="x")
        return int(line["events"].next("ring")[0].partition(".")[2])

    with mallory.stream(f"mallory@{space}") as quiet, alice.stream(f"alice@{space}") as busy:
        quiet.next("ring")
        busy.next("ring")
        gaps = []
        for rings in (1, 50):
            first = ring(mallory, "mallory", {"events": quiet})
            for _ in range(rings):
                ring(alice, "alice", {"events": busy})
            gaps.append(ring(mallory, "mallory", {"events": quiet}) - first)
    assert not 45 <= gaps[1] - gaps[0] <= 55


# -- time


def median(asked: list[Callable[[], Answer]], rounds: int) -> list[float]:
    """Return how long each takes, asked in turn: what else the machine does is shared by all."""
    took: list[list[float]] = [[] for _ in asked]
    for _ in range(rounds):
        for ask, times in zip(asked, took, strict=True):
            began = time.perf_counter()
            ask()
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in took]


def alike(times: list[float]) -> bool:
    """Whether no more than noise is between them: a lookup more would be half as much again."""
    return max(times) < 1.4 * min(times) + 0.0003


def test_a_mailbox_of_another_takes_no_longer_than_one_that_is_not_there(alice: Store, mallory: Store) -> None:
    alice.call("send", to="alice", body="secret " * 1000)

    def ask(verb: str, name: str, given: Json) -> Callable[[], Answer]:
        return lambda: mallory.verb(verb, mallory.who(mailbox=name), **given)

    asked: list[tuple[str, Json]] = [("own", {}), ("list_inbox", {}), ("read", {"id": "z"})]
    for verb, given in asked:
        both = [ask(verb, name, given) for name in ("alice", "nobodyhere")]
        assert any(alike(median(both, 60)) for _ in range(3)), verb


def test_a_token_that_is_nearly_right_takes_no_longer_than_one_that_is_not(post: Post, alice: Store) -> None:
    good = alice.caller.token
    assert good is not None
    near, far = good[:-1] + ("A" if good[-1] != "A" else "B"), "mbx_" + "x" * (len(good) - 4)

    def ask(token: str) -> Callable[[], Answer]:
        store = Store(post.caller(token))
        return lambda: store.post("notes", {"notes": []})

    assert any(alike(median([ask(near), ask(far)], 60)) for _ in range(3))
