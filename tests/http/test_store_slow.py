"""Who is slow at the store API, or says one thing and does another: cut off in time, nothing done, others served on."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from mcp_mailbox.fronts.hub import wire
from tests.fronts.world import Served
from tests.http.caller import Line
from tests.http.conftest import Post
from tests.http.store import EDGE, Store

HASTY = """
from mcp_mailbox.fronts.http import body, connection
connection.HEAD_SECONDS = body.BODY_SECONDS = 1.0
from mcp_mailbox.__main__ import main
raise SystemExit(main())
"""
"""A server that waits a second for a head, and for a body."""
KINDS = {
    "verbs/send": "application/json",
    "sends": wire.NDJSON,
    "notes": "application/json",
    "stream": "application/json",
    "attachment": "application/json",
    "files": "application/octet-stream",
}
"""All places, and what each takes."""


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("h"), program=HASTY)
    yield served.start()
    served.end()


@pytest.fixture
def alice(hasty: Served) -> Iterator[Store]:
    """Somebody with a mailbox, who is served all the while, and to whom nothing was sent in the end."""
    post = Post(hasty)
    store = Store(post.caller(post.issue("alice")["token"]))
    store.call("create_mailbox", name=f"alice.{post.space}")
    began = time.monotonic()
    yield store
    assert time.monotonic() - began < 8, "whoever is slow has a second"
    assert store.call("list_inbox")["unread"] == 0
    assert "Traceback" not in hasty.log()


def spelled(store: Store, place: str, length: int | None = None, **headers: str | None) -> tuple[bytes, bytes]:
    """Spell the head and the body of a request to that place that would be done."""
    own = store.call("own")["address"]
    given = {"to": own, "body": "smuggled"}
    body = {
        "verbs/send": json.dumps({"who": store.who(), "given": given}),
        "sends": json.dumps({"number": 1, "who": store.who(), "given": given}),
        "notes": json.dumps({"notes": []}),
        "stream": json.dumps({"listens": [own]}),
        "attachment": json.dumps({"who": store.who(), "given": {"id": "x", "name": "x"}}),
        "files": "x" * 100,
    }[place].encode()
    usual: dict[str, str | None] = {
        "mailbox_edge": EDGE,
        "mailbox_file": "0" * 32,
        "mailbox_offset": "0",
        "content_type": KINDS[place],
        "content_length": str(len(body) if length is None else length),
    }
    return store.caller.request("POST", wire.PATH + place, body=b"", **(usual | headers)), body


def until_closed(alice: Store, lines: list[Line], piece: bytes) -> None:
    """Have each line go on with a byte or so for as long as it may, while somebody else is served."""
    open_ = dict.fromkeys(lines)
    while open_:
        assert alice.verb("list_inbox").status == 200
        for line in list(open_):
            try:
                line.write(piece)
                line.socket.setblocking(False)
                if line.socket.recv(10_000) == b"":
                    del open_[line]
            except BlockingIOError:
                line.socket.setblocking(True)
            except OSError:
                del open_[line]


def test_a_head_that_does_not_come_is_waited_for_no_longer_than_its_time(alice: Store) -> None:
    with ExitStack() as stack:
        lines = [stack.enter_context(alice.caller.line()) for _ in range(2 * len(KINDS))]
        for line, place in zip(lines, 2 * [*KINDS], strict=True):
            line.write(spelled(alice, place)[0][:-10])
        still, trickling = lines[: len(KINDS)], lines[len(KINDS) :]
        until_closed(alice, trickling, b"x")
        assert all(line.closed() for line in still)


def test_a_body_that_does_not_come_is_waited_for_no_longer_than_its_time(alice: Store) -> None:
    with ExitStack() as stack:
        lines = [stack.enter_context(alice.caller.line()) for _ in KINDS]
        for line, place in zip(lines, KINDS, strict=True):
            head, body = spelled(alice, place)
            line.write(head + body[:-1])
        assert alice.verb("list_inbox").status == 200
        for line in lines:
            answer = line.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert line.closed()


def test_a_body_without_end_is_cut_off_however_slowly_it_comes(alice: Store) -> None:
    with ExitStack() as stack:
        lines = [stack.enter_context(alice.caller.line()) for _ in KINDS]
        for line, place in zip(lines, KINDS, strict=True):
            line.write(spelled(alice, place, content_length=None, transfer_encoding="chunked")[0])
        until_closed(alice, lines, b"1\r\n \r\n")


def test_a_body_without_end_is_cut_off_however_fast_it_comes(alice: Store) -> None:
    block = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for place in KINDS:
        with alice.caller.line() as line:
            line.write(spelled(alice, place, content_length=None, transfer_encoding="chunked")[0])
            status = 413  # or it closes while we write, and what it said is lost with the connection
            with suppress(OSError, AssertionError):
                for _ in range(40):
                    line.write(block)
                status = line.head()[0]
            assert status == 413


def test_who_closes_half_of_the_connection_or_goes_has_asked_nothing(alice: Store) -> None:
    for place in KINDS:
        head, body = spelled(alice, place)
        for cut in (head[:-2], head, head + body[:-1]):
            with alice.caller.line() as line:
                line.write(cut)
                line.socket.shutdown(socket.SHUT_WR)
                assert line.closed()
            with alice.caller.line() as line:
                line.write(cut)
                line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # ends with a reset


def test_connections_that_say_nothing_keep_nobody_out(alice: Store) -> None:
    with ExitStack() as stack:
        lines = [stack.enter_context(alice.caller.line()) for _ in range(300)]
        assert alice.verb("list_inbox").status == 200
        assert all(line.closed() for line in lines)


# -- what two parsers could read differently


@pytest.mark.parametrize("place", KINDS)
@pytest.mark.parametrize(
    "extra",
    [
        b"transfer-encoding: chunked",
        b"transfer-encoding: chunked, identity",
        b"transfer-encoding: \x0bchunked",
        b"transfer-encoding : chunked",
        b"content-length: 0",
        b"content-length: +5",
        b"content-length: 0x5",
        b"content-length: 5, 5",
        b"\x00: x",
        b"x: a\r\n\tb",
        b"x: a\rb: c",
        b"no colon",
    ],
    ids=str,
)
def test_no_second_request_is_read_out_of_a_first_one(alice: Store, place: str, extra: bytes) -> None:
    head, body = spelled(alice, place)
    hidden = b"".join(spelled(alice, "verbs/send"))
    for inner in (body, b"0\r\n\r\n" + hidden, hidden):
        with alice.caller.line() as line:
            line.write(head[:-2] + extra + b"\r\n\r\n" + inner)
            assert line.answer().status == 400
            assert line.closed()


@pytest.mark.parametrize("twice", ["authorization", "host", "content-type", "mailbox-edge", "mailbox-file"])
def test_what_may_stand_once_is_refused_twice_even_when_it_is_the_same(alice: Store, twice: str) -> None:
    head, body = spelled(alice, "files")
    [line_] = [each for each in head.split(b"\r\n") if each.lower().startswith(twice.encode() + b":")]
    with alice.caller.line() as line:
        line.write(head[:-2] + line_ + b"\r\n\r\n" + body)
        assert line.answer().status == 400


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x-gzip", "identity, gzip", "gzip, identity", "*"])
def test_nothing_that_is_packed_is_unpacked(alice: Store, coding: str) -> None:
    for place, kind in KINDS.items():
        answer = alice.post(
            place, b"x", content_encoding=coding, content_type=kind, mailbox_file="0" * 32, mailbox_offset="0"
        )
        assert answer.status == 415


PATHS = [
    "//store/v1/notes",
    "/store//v1/notes",
    "/store/v1//notes",
    "/./store/v1/notes",
    "/store/v1/./notes",
    "/store/v1/x/../notes",
    "/mcp/../store/v1/notes",
    "/healthz/../store/v1/notes",
    "/store/v1/%2e%2e/v1/notes",
    "/store/v1/verbs/%2e%2e/notes",
    "/store/v1/notes%00",
    "/store/v1/notes%20",
    "/store/v1/notes%2f",
    "/store/v1/notes.",
    "/store/v1/notes;x=1",
    "/store/v1/notes\\",
    "/store\\v1\\notes",
    "/STORE/v1/notes",
    "/store/V1/notes",
    "/store/v1/Notes",
    "/store/v2/notes",
    "/store/v1",
    "/store/v1/verbs//own",
    "/store/v1/verbs/own.",
    "/store/v1/verbs/__class__",
    "/store/v1/verbs/own%0a",
    "/store/v1/%252e%252e/notes",
    "store/v1/notes",
    "*",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_only_like_one_of_ours_is_none(alice: Store, path: str) -> None:
    request = alice.caller.request("POST", path, body={"notes": []}, mailbox_edge=EDGE)
    with alice.caller.line() as line:
        line.write(request)
        assert line.answer().status in {400, 404, 421}


@pytest.mark.parametrize("path", ["/store/v1/notes", "/%73tore/v1/notes", "/store/v1/%6Eotes", "/store%2fv1/notes"])
def test_however_a_path_is_spelled_the_gate_is_before_it(alice: Store, hasty: Served, path: str) -> None:
    nobody = Store(Post(hasty).nobody()).caller
    assert nobody.ask("POST", path, body={"notes": []}, mailbox_edge=EDGE).status == 401
    assert alice.caller.ask("POST", path, body={"notes": []}, mailbox_edge=EDGE, host="evil.example").status == 421
    assert alice.caller.ask("POST", path, body={"notes": []}, mailbox_edge=EDGE, origin="null").status == 403
    absolute = f"http://evil.example{path}"
    assert alice.caller.ask("POST", absolute, body={"notes": []}, mailbox_edge=EDGE).status == 421
