"""What reaches the server before there is a request: heads, targets, upgrades, trailers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress

import pytest

from mcp_mailbox.fronts.http.connection import HEAD_BYTES
from tests.fronts.world import Served
from tests.http.caller import Caller, Line
from tests.http.conftest import Post
from tests.relay.world import ended


@pytest.fixture
def caller(post: Post) -> Caller:
    return post.caller(mailbox_address="alice")


def listing(caller: Caller, target: str = "/mcp", **headers: str | None) -> bytes:
    """Spell a request that is answered with 200."""
    message = caller.message("tools/call", name="list_inbox", arguments={})
    return caller.request("POST", target, body=message, **caller.modern(message), **headers)


def status(caller: Caller, *blocks: bytes) -> int:
    with caller.line() as line:
        for block in blocks:
            line.write(block)
        return line.answer().status


def test_a_head_that_is_too_long_is_refused_before_anybody_asks_who_it_is(post: Post) -> None:
    head = listing(post.nobody()).partition(b"\r\n\r\n")[0]
    for more in (b"\r\nx: " + b"x" * HEAD_BYTES, b"\r\nx: y" * (HEAD_BYTES // 6)):
        with post.nobody().line() as line:
            line.write(head + more + b"\r\n\r\n")
            assert line.head()[0] == 431
            assert line.closed()


def test_a_head_without_an_end_is_not_kept(post: Post) -> None:
    with post.nobody().line() as line:
        line.write(b"POST /mcp HTTP/1.1\r\nx: ")
        line.write(b"x" * (HEAD_BYTES + 1))
        assert line.head()[0] == 431
        assert line.closed()


def test_a_second_request_in_the_same_packet_has_limits_too(caller: Caller) -> None:
    with caller.line() as line:
        line.write(listing(caller) + b"POST /mcp HTTP/1.1\r\nx: ")
        assert line.answer().status == 200
        assert _is_cut_off(line, b"x" * HEAD_BYTES, 3)


def test_a_head_may_come_byte_by_byte(caller: Caller) -> None:
    request = listing(caller)
    end = request.index(b"\r\n\r\n") + 4
    assert status(caller, *(request[at : at + 1] for at in range(end)), request[end:]) == 200


def test_requests_on_one_connection_are_answered_in_their_order(caller: Caller) -> None:
    messages = [caller.message("tools/call", name="list_inbox", arguments={"limit": n}) for n in (1, 2, 3)]
    requests = [caller.request(body=message, **caller.modern(message)) for message in messages]
    with caller.line() as line:
        line.write(b"".join(requests))
        assert [line.answer().json["id"] for _ in requests] == [message["id"] for message in messages]
        line.write(requests[0])
        assert line.answer().status == 200


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.2"])
def test_an_offer_to_upgrade_is_passed_over_and_the_body_is_read(caller: Caller, upgrade: str) -> None:
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": upgrade, "http2_settings": "AAMAAABkAAQAAP__"}
    assert status(caller, listing(caller, **offer)) == 200


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("http://127.0.0.1:{port}/mcp", "127.0.0.1:{port}", 200),
        ("http://127.0.0.1:{port}/mcp", "evil.example", 200),
        ("http://[::1]:{port}/mcp", "evil.example", 200),
        ("http://evil.example/mcp", "127.0.0.1:{port}", 421),
        ("http://127.0.0.1:1/mcp", "127.0.0.1:{port}", 421),
        ("http://evil.example", "127.0.0.1:{port}", 400),
        ("evil.example:80", "127.0.0.1:{port}", 400),
        ("//evil.example/mcp", "127.0.0.1:{port}", 404),
    ],
)
def test_the_host_is_the_targets_where_the_target_has_one(
    caller: Caller, target: str, host: str, expected: int
) -> None:
    request = listing(caller, target.format(port=caller.port), host=host.format(port=caller.port))
    assert status(caller, request) == expected


def test_a_trailer_is_no_header(caller: Caller) -> None:
    """Else `Mailbox-Address` would stand twice, and a proxy's rules for headers would not hold."""
    message = caller.message("tools/call", name="list_inbox", arguments={})
    body = json.dumps(message).encode()
    head = caller.request(body=b"", **caller.modern(message), content_length=None, transfer_encoding="chunked")
    for trailer in (b"mailbox-address: bob\r\n", b"host: evil\r\n", b"authorization: Bearer x\r\n"):
        assert status(caller, head + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailer)) == 200


def test_trailers_without_end_are_cut_off(caller: Caller) -> None:
    message = caller.message("tools/list")
    head = caller.request(body=b"", **caller.modern(message), content_length=None, transfer_encoding="chunked")
    with caller.line() as line:
        line.write(head + b"2\r\n{}\r\n0\r\nx: ")
        assert _is_cut_off(line, b"x" * 1_000_000, 12)


def _is_cut_off(line: Line, block: bytes, times: int) -> bool:
    """Whether the connection ends, with a refusal or without a word."""
    try:
        for _ in range(times):
            line.write(block)
        return line.closed() or (line.head()[0] == 431 and line.closed())
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "extra",
    [
        b"transfer-encoding: chunked",
        b"content-length: 3",
        b"transfer-encoding: gzip, chunked",
        b"x: a\x00b",
        b"x: a\r\n b",
        b"x : a",
    ],
    ids=str,
)
def test_what_two_parsers_could_read_differently_is_refused(caller: Caller, extra: bytes) -> None:
    head, end, body = listing(caller).partition(b"\r\n\r\n")
    with caller.line() as line:
        line.write(head + b"\r\n" + extra + end + body)
        assert line.answer().status == 400
        assert line.closed()


# -- a request behind one that is not answered yet


def waiting(caller: Caller) -> bytes:
    """Spell a request that is not answered for a while."""
    message = caller.message("tools/call", name="wait_for_message", arguments={"timeout": 50})
    return caller.request(body=message, **caller.modern(message))


@pytest.mark.parametrize("behind", ["at once", "later", "in part"])
def test_a_client_that_goes_with_a_second_request_behind_the_first_takes_nothing(
    post: Post, caller: Caller, behind: str
) -> None:
    before = post.home.status()["pid"]
    caller.call("create_mailbox")
    with caller.line() as line:
        if behind == "at once":
            line.write(waiting(caller) + listing(caller))
        else:
            line.write(waiting(caller))
            assert line.head()[0] == 200
            line.write(listing(caller)[: None if behind == "later" else -20])
    assert caller.call("send", to="alice", body="x")["to"][0]["state"] == "stored"
    [message] = caller.call("wait_for_message", timeout=20)["messages"]
    assert message["id"].endswith((".1", ".2")), "it may have been leased to who had gone, for a moment"
    assert post.home.status()["pid"] == before
    assert "Traceback" not in post.home.log()


def test_what_comes_behind_an_unanswered_request_has_a_limit(caller: Caller) -> None:
    caller.call("create_mailbox")
    with caller.line() as line:
        line.write(waiting(caller))
        assert line.head()[0] == 200
        assert _is_dropped(line, listing(caller), 1000)


def _is_dropped(line: Line, block: bytes, times: int) -> bool:
    try:
        for _ in range(times):
            line.write(block)
        while line.socket.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def test_a_server_that_is_told_to_end_does_not_wait_for_who_does_not_read(new_home: Callable[..., Served]) -> None:
    home = new_home().start()
    stranger = Caller(home.port, None)
    request = stranger.request(body={}, authorization="Bearer x" + "y" * 2000)
    with stranger.line() as line:
        line.socket.settimeout(0.5)
        with suppress(OSError):
            for _ in range(100):  # each is refused, and nobody reads it
                line.write(request * 20)
        descriptor = os.pidfd_open(home.status()["pid"])
        home.signal_office(signal.SIGTERM)
        ended(descriptor)
