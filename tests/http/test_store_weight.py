"""Small requests to the store API with large effects: what one costs is bounded, and nobody pays for another's."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_mailbox.fronts import meaning
from mcp_mailbox.fronts.http import body as limits
from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.postoffice.handed import LEFT
from tests.fronts.world import Served
from tests.http.caller import Answer, Caller, Json, Line
from tests.http.conftest import Post
from tests.http.store import EDGE, Store
from tests.relay.world import DEADLINE

OCTETS = "application/octet-stream"


@pytest.fixture
def alice(post: Post) -> Iterator[Store]:
    store = Store(post.caller(post.issue(f"alice {post.space}")["token"]))
    store.call("create_mailbox", name="alice")
    yield store
    assert store.verb("list_inbox").status == 200
    assert "Traceback" not in post.home.log()


def cpu(home: Served) -> float:
    """Return the seconds that the hub has computed for."""
    fields = Path(f"/proc/{home.status()['pid']}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


# -- streams


def test_a_stream_that_is_opened_again_and_again_costs_no_more_than_one(post: Post, alice: Store) -> None:
    """What a stream is opened with is looked up for as long as it is the newest."""
    space = alice.caller.headers["mailbox-space"]
    names = [*(f"nobody{number}@{space}" for number in range(1500)), f"alice@{space}"]
    request = alice.caller.request("POST", f"{wire.PATH}stream", body={"listens": names}, mailbox_edge=EDGE)
    began = cpu(post.home)
    with alice.stream(*names) as events:
        events.next("ring")  # of the last one
    one = cpu(post.home) - began
    lines = []
    for _ in range(12):
        lines.append(Line(post.home.port))
        lines[-1].write(request)
        assert lines[-1].head()[0] == 200
    for line in lines[:-1]:
        assert not line.ended()  # which hello was told, and nothing behind it
        line.close()
    while b"event: ring" not in next(lines[-1].chunks()):
        pass
    lines[-1].close()
    assert cpu(post.home) - began - one < 5 * one + 0.2


def test_names_that_nobody_has_cost_little_more_than_those_that_one_has(post: Post, alice: Store) -> None:
    """Nobody reads which names may have been meant: to find these takes longer, the more mailboxes there are."""
    space = alice.caller.headers["mailbox-space"]
    own = [f"box{number}@{space}" for number in range(100)]
    for name in own:
        alice.call("create_mailbox", alice.who(binds=False), name=name)

    def cost(names: list[str]) -> float:
        began = cpu(post.home)
        with alice.stream(*names, f"alice@{space}") as events:
            while events.next("ring")[1]["mailbox"] != f"alice@{space}":
                pass
        notes = [alice.note("listen", mailbox=name) for name in names[: wire.NOTES_MOST]]
        assert alice.notes(*notes).status == 204
        return cpu(post.home) - began

    known = cost(own * 30)
    assert cost([f"nobody{number}@{space}" for number in range(3000)]) < 15 * known + 0.3


def test_one_edge_has_one_stream_however_many_are_opened(post: Post, alice: Store) -> None:
    before = post.home.status()["http"]["requests"]
    lines = [Line(post.home.port) for _ in range(50)]
    for line in lines:
        line.write(alice.caller.request("POST", f"{wire.PATH}stream", body={}, mailbox_edge=EDGE))
        assert line.head()[0] == 200
    for line in lines[:-1]:
        assert [chunk for chunk in line.chunks() if b"event: ring" in chunk or b"event: bell" in chunk] == []
    assert post.home.status()["http"]["requests"] <= before + 1
    for line in lines:
        line.close()


# -- batches


def test_a_line_that_stands_in_a_batch_five_hundred_times_is_one_message(alice: Store) -> None:
    line = {"number": 1, "who": alice.who(), "given": {"to": "alice", "body": "once"}}
    request = b"\n".join([json.dumps(line).encode()] * wire.SENDS_MOST)
    answer = alice.post("sends", request)
    said = [json.loads(each) for each in answer.body.splitlines()]
    assert len({each["answer"]["id"] for each in said}) == 1
    assert len(said) == wire.SENDS_MOST
    assert len(answer.body) < 2 * len(request)
    assert alice.call("list_inbox")["unread"] == 1


def test_a_line_that_is_refused_five_hundred_times_is_reported_once(alice: Store) -> None:
    line = {"number": 1, "who": alice.who(), "given": {"to": "nobodyhere", "body": "x" * 3000}}
    answer = alice.post("sends", b"\n".join([json.dumps(line).encode()] * wire.SENDS_MOST))
    assert {json.loads(each)["error"] for each in answer.body.splitlines()} == {"unknown_mailbox"}
    assert alice.call("list_inbox")["unread"] == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"at": wire.LATEST + 1},
        {"at": 2**63},
        {"at": 10**40},
        {"at": -1},
        {"given": {"to": ["nobodyhere"] * 1000, "subject": "s" * 100_000, "body": 1}},
        {"given": {"to": "nobodyhere", "subject": "half \ud800", "body": "x"}},
        {"given": {"to": ["\ud800", {"\udfff": "\udfff"}], "subject": ["\ud800"]}},
        {"given": {"to": {"x": 1}, "subject": {"y": []}}},
        {"number": 10**4000},
        {"refused": {"error": "x" * 40, "message": "\n" * 2000}},
    ],
    ids=lambda odd: str(odd)[:50],
)
def test_of_a_line_that_cannot_be_no_more_is_told_than_fits(alice: Store, odd: Json) -> None:
    line = {"number": 1, "who": alice.who(), "given": {"to": "nobodyhere", "body": "x"}, **odd}
    answer = alice.post("sends", json.dumps(line).encode())
    assert answer.status in {200, 400}
    assert len(answer.body) < 8000
    if answer.status == 200:
        assert "error" in answer.json
        [report] = alice.call("list_inbox")["messages"]
        assert len(str(alice.call("read", id=report["id"]))) < 20_000


# -- JSON


@pytest.mark.parametrize("opens", ["[", '{"a":'])
def test_a_body_is_nested_no_deeper_than_all_who_get_it_can_read(alice: Store, opens: str) -> None:
    def send(depth: int, place: str = "verbs/send") -> Answer:
        deep = f"{opens * depth}1{(']' if opens == '[' else '}') * depth}"
        text = f'{{"number":1,"who":{json.dumps(alice.who())},"given":{{"to":"alice","body":{deep}}}}}'
        return alice.post(place, text.encode())

    assert send(meaning.DEEPEST).status == 200
    for depth in (*range(meaning.DEEPEST + 1, 960, 37), *range(960, 1000), 100_000):  # Python's parser ends in between
        assert send(depth).status == 400
        line = send(depth, "sends")
        assert line.status == 400 or "error" in line.json
    [taken] = [each for each in alice.call("wait_for_message", timeout=0)["messages"] if "kind" not in each]
    assert str(taken["body"]).count("]" if opens == "[" else "}") == meaning.DEEPEST


@pytest.mark.parametrize("place", ["verbs/own", "sends", "notes", "stream", "attachment"])
def test_nothing_else_is_nested_as_deeply_as_a_parser_bears(alice: Store, place: str) -> None:
    for depth in range(940, 1000):
        deep = "[" * depth + "]" * depth
        given = f'{{"to":{deep},"subject":{deep},"id":{deep}}}'
        text = f'{{"number":1,"who":{json.dumps(alice.who())},"given":{given},"notes":{deep},"listens":{deep}}}'
        assert alice.post(place, text.encode()).status == 400


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "9" * 5000])
def test_a_body_has_no_number_that_its_readers_could_not_read(alice: Store, number: str) -> None:
    for text in ('{"who":%s,"given":{"to":"alice","body":{"x":[%s]}}}', '{"who":%s,"given":{"to":"alice","body":%s}}'):
        answer = alice.post("verbs/send", (text % (json.dumps(alice.who()), number)).encode())
        assert answer.status == 400
    assert alice.call("list_inbox")["unread"] == 0


@pytest.mark.parametrize("half", [b"\\ud800", b"\\udfff", b"\\ud83d x", b"\xed\xa0\x80"])
def test_half_of_a_letter_is_refused_wherever_it_stands(alice: Store, half: bytes) -> None:
    who = json.dumps(alice.who()).encode()
    for place, text in (
        ("verbs/mailboxes", b'{"who":%b,"given":{"after":"%b"}}'),
        ("verbs/create_mailbox", b'{"who":%b,"given":{"about":"%b"}}'),
        ("verbs/own", b'{"who":%b,"given":{},"more":"%b"}'),
        ("notes", b'{"notes":[{"note":"sits","who":%b,"host":"%b"}]}'),
        ("attachment", b'{"who":%b,"given":{"id":"x","name":"%b"}}'),
        ("stream", b'{"who":%b,"listens":["%b"]}'),
    ):
        answer = alice.post(place, text % (who, half))
        assert (answer.status, "surrogate" in answer.json.get("message", "surrogate")) == (400, True), place
    assert alice.post("verbs/mailboxes", b'{"who":%b,"given":{"after":"\\ud83d\\ude00"}}' % who).status == 200


WIDE = {
    "empty objects": b"[" + b"{}," * 300_000 + b"1]",
    "empty lists": b"[" + b"[]," * 300_000 + b"1]",
    "numbers": b"[" + b"1," * 450_000 + b"1]",
    "fractions": b"[" + b"1.5," * 200_000 + b"1]",
    "names": b"{" + b",".join(b'"%d":1' % number for number in range(150_000)) + b"}",
    "escapes": b'"' + b"\\u00e9" * 150_000 + b'"',
    "long numbers": b"[" + (b"9" * 4300 + b",") * 400 + b"1]",
}


@pytest.mark.parametrize("wide", WIDE.values(), ids=WIDE.keys())
def test_the_widest_body_is_read_and_refused_in_a_moment(post: Post, alice: Store, wide: bytes) -> None:
    text = b'{"number":1,"who":%b,"given":{"to":%b,"body":%b,"x":%b}}'
    who = json.dumps(alice.who()).encode()
    began = cpu(post.home)
    for place, *given in (("sends", wide, b'"x"', b"1"), ("verbs/send", b'"alice"', wide, b"1")):
        said = text % (who, *given)
        assert len(said) < limits.BODY_BYTES
        answer = alice.post(place, said)
        assert answer.status in {200, 400, 413}
        assert len(answer.body) < 2000
    assert cpu(post.home) - began < 4


def test_many_small_answers_are_not_one_large_one(alice: Store) -> None:
    for number in range(12):
        alice.call("send", to="alice", body=f"{number}" * 100_000)
    for verb, given in (
        ("list_inbox", {"limit": 100}),
        ("list_inbox", {"limit": 100, "query": "0"}),
        ("wait_for_message", {"timeout": 0}),
        ("arrivals", {"place": alice.call("arrivals")["place"]}),
    ):
        said = {"who": alice.who(), "given": given, "room": 1 << 20}
        assert len(alice.post(f"verbs/{verb}", said).body) < 1 << 20, verb


# -- what is kept of edges


def test_a_principal_hands_in_so_many_files_and_each_costs_as_much_as_the_first(post: Post) -> None:
    caller = post.caller(post.issue(f"files {post.space}")["token"])
    store = Store(caller, "files-00000000000")
    took: list[float] = []
    with caller.line() as line:
        for number in range(600):
            if number in {0, 100, 500, 600 - 1}:
                took.append(cpu(post.home))
            about = {"content_type": OCTETS, "mailbox_edge": store.edge, "mailbox_offset": "0"}
            line.write(caller.request("POST", f"{wire.PATH}files", body=b"", mailbox_file=f"{number:032x}", **about))
            assert line.answer().status == 204
    first, last = took[1] - took[0], took[3] - took[2]
    assert last < 2 * first + 0.05


NARROW = """
from mcp_mailbox.fronts.hub import edges, wire
wire.STAGED_MOST, wire.STAGED_BYTES_EACH = 20, 5000
edges.READERS_MOST = edges.LISTENS_MOST = 20
from mcp_mailbox.__main__ import main
raise SystemExit(main())
"""
"""A hub where a principal may hand in 20 files, or 5,000 bytes, and have 20 readers."""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    served = Served(tmp_path_factory.mktemp("h"), program=NARROW)
    yield Post(served.start())
    served.end()


def test_all_machines_of_a_principal_have_so_many_readers_together(narrow: Post) -> None:
    crowd = narrow.caller(narrow.issue("crowd")["token"])
    machines = [Store(crowd, f"machine-{number:012}") for number in range(3)]

    def come(store: Store, count: int) -> int:
        readers = [{"note": "here", "who": {"reader": f"r{number}", "request": "x"}} for number in range(count)]
        return store.notes(*readers).status

    assert [come(store, 10) for store in machines] == [204, 204, 503]
    assert come(machines[0], 10) == 204, "those who are there are served"
    assert machines[2].verb("mailboxes").status == 503
    machines[0].notes({"note": "present", "readers": []})
    assert come(machines[2], 10) == 204
    other = Store(narrow.caller(narrow.issue("another")["token"]))
    assert come(other, 1) == 204


def test_a_machine_that_listens_for_too_many_mailboxes_hears_of_the_first_ones(narrow: Post) -> None:
    store = Store(narrow.caller(narrow.issue("listener")["token"]), reader="one")
    names = [f"listener{number}" for number in range(25)]
    for name in names:
        store.call("create_mailbox", name=name)
    places = [f"{name}@{narrow.space}" for name in names]
    with store.stream(*places) as events:
        assert sorted(events.next("ring")[1]["mailbox"] for _ in range(20)) == sorted(places[:20])
        store.call("send", to=names[3], body="x", mailbox=names[0])
        assert events.next("ring")[1]["mailbox"] == places[3]
    assert "Traceback" not in narrow.home.log()


@pytest.mark.parametrize("way", ["alone", "batch", "unread"])
def test_what_was_handed_in_for_a_send_that_is_refused_is_let_go_of(narrow: Post, way: str) -> None:
    store = Store(narrow.caller(narrow.issue(f"refused {way}")["token"]))
    store.call("create_mailbox", name=f"refused-{way}")
    tray = narrow.home.path / "handed"
    before = len(list(tray.iterdir())) if tray.exists() else 0
    for number in range(3):
        about = {"content_type": OCTETS, "mailbox_file": f"{number:032x}", "mailbox_offset": "0"}
        assert store.post("files", b"x" * 4000, **about).status == 204, "a principal may have 5,000 bytes here"
        said = {
            "who": store.who(),
            "given": {"to": "nobody-here", "body": "x"} | ({"priority": "now"} if way == "unread" else {}),
            "files": [{"name": "x", "copied": f"{number:032x}"}],
        }
        if way == "batch":
            [answer] = store.sends({"number": number, **said})
            assert answer["error"] == "unknown_mailbox"
        else:
            assert store.post("verbs/send", said).status in {400, 404}
    assert len(list(tray.iterdir())) == before


def test_what_was_handed_in_to_a_hub_that_was_killed_goes_away(tmp_path: Path) -> None:
    hub = Served(tmp_path).start()
    try:
        store = Store(Caller(hub.port, hub.token))
        about = {"content_type": OCTETS, "mailbox_file": "a1" * 16, "mailbox_offset": "0"}
        assert store.post("files", b"left behind", **about).status == 204
        [left] = (hub.path / "handed").iterdir()
        hub.kill_office()
        assert hub.process is not None
        hub.process.wait()
        os.utime(left, (time.time() - LEFT - 1,) * 2)
        hub.start()
        deadline = time.monotonic() + DEADLINE
        while left.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        hub.end()


def test_what_is_handed_in_and_not_sent_is_counted_for_all_machines_of_a_principal(narrow: Post) -> None:
    post = narrow

    def hand_in(store: Store, number: int, content: bytes = b"") -> int:
        about = {"content_type": OCTETS, "mailbox_file": f"{number:032x}", "mailbox_offset": "0"}
        return store.post("files", content, **about).status

    caller = post.caller(post.issue("many")["token"])
    machines = [Store(caller, f"machine-{number:012}") for number in range(5)]
    assert [hand_in(store, number) for number in range(4) for store in machines] == [204] * 20
    assert [hand_in(store, 99) for store in machines] == [503] * 5
    assert hand_in(machines[0], 0, b"again") == 204, "it has been counted"
    machines[0].call("create_mailbox", name="many")
    given = {"to": "many", "body": "x"}
    files = [{"name": "x", "copied": f"{0:032x}"}]
    assert machines[0].post("verbs/send", {"who": machines[0].who(), "given": given, "files": files}).status == 200
    assert hand_in(machines[4], 99) == 204, "there is room again"
    large = post.caller(post.issue("large")["token"])
    assert [hand_in(Store(large, f"machine-{number:012}"), 0, b"x" * 3000) for number in range(2)] == [204, 503]
    other = Store(post.caller(post.issue("other")["token"]))
    assert hand_in(other, 0, b"x") == 204
