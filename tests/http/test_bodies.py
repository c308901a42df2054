"""What a request may look like: each mistake gets its status, nothing leaks, and the server lives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_mailbox.fronts.http import body as limits
from tests.http.caller import LEGACY, MODERN, Caller
from tests.http.conftest import Post


@pytest.fixture(autouse=True)
def caller(post: Post) -> Any:
    """Whatever a test does, the server serves on, as the same process."""
    before = post.home.status()["pid"]
    caller = post.caller()
    yield caller
    assert caller.alone("tools/list").status == 200
    assert post.home.status()["pid"] == before
    assert "Traceback" not in post.home.log()


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_another_content_type_is_unsupported(caller: Caller, kind: str | None) -> None:
    assert caller.ask(body=b"{}", content_type=kind).status == 415


def test_a_charset_does_not_matter(caller: Caller) -> None:
    message = caller.message("tools/list")
    headers = caller.modern(message) | {"content_type": "Application/JSON; charset=utf-8"}
    assert caller.ask(body=message, **headers).status == 200


@pytest.mark.parametrize("accept", [None, "application/json", "text/event-stream", "text/html"])
def test_a_client_must_take_both_kinds_of_answer(caller: Caller, accept: str | None) -> None:
    assert caller.ask(body=b"{}", accept=accept).status == 406


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", -32700),
        (b"nonsense", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', -32700),
        (b"[" * 100_000 + b"]" * 100_000, -32700),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1,"a":2}}', -32700),
        (b'\xff\xfe{"jsonrpc":"2.0"}', -32700),
        (b"[]", -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b"1", -32600),
        (b'"x"', -32600),
        (b"null", -32600),
        (b"{}", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\\ud800"}}', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("version", [None, LEGACY, MODERN])
def test_what_is_no_message_is_a_bad_request(caller: Caller, sent: bytes, code: int, version: str | None) -> None:
    answer = caller.ask(body=sent, mcp_protocol_version=version)
    assert answer.status == 400
    assert (answer.json["jsonrpc"], answer.json["error"]["code"]) == ("2.0", code)
    assert len(answer.body) < 400


@pytest.mark.parametrize("version", ["1999-01-01", "2026-07-29", "latest", "2025-11-26", "\t"])
def test_an_unknown_version_is_refused_with_those_that_are_known(caller: Caller, version: str) -> None:
    message = caller.message("tools/list")
    message["params"]["_meta"] = {**message["params"]["_meta"], "io.modelcontextprotocol/protocolVersion": version}
    answer = caller.ask(body=message, mcp_protocol_version=version, mcp_method="tools/list")
    assert answer.status == 400
    if version.strip():
        assert answer.json["error"]["code"] == -32022
        assert answer.json["error"]["data"]["supported"] == [MODERN]


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp_protocol_version": None},
        {"mcp_method": "tools/call"},
        {"mcp_method": None},
        {"mcp_method": "TOOLS/LIST"},
        {"mcp_protocol_version": "2025-11-26"},
    ],
)
def test_headers_that_say_otherwise_than_the_body_are_refused(caller: Caller, headers: dict[str, str | None]) -> None:
    message = caller.message("tools/list")
    answer = caller.ask(body=message, **(caller.modern(message) | headers))
    assert answer.status == 400
    assert answer.json["error"]["code"] == -32020


@pytest.mark.parametrize("name", ["send", None, "list_inbo", "=?base64?xx?="])
def test_a_tool_is_named_alike_in_header_and_body(caller: Caller, name: str | None) -> None:
    message = caller.message("tools/call", name="list_inbox", arguments={})
    assert caller.ask(body=message, **(caller.modern(message) | {"mcp_name": name})).status == 400
    spaced = caller.modern(message) | {"mcp_name": "  list_inbox \t"}
    assert caller.ask(body=message, **spaced).status == 200


def test_methods_that_are_not_there_are_not_found_in_the_words_of_each_era(caller: Caller) -> None:
    answer = caller.alone("no/such")
    assert (answer.status, answer.json["error"]["code"]) == (404, -32601)
    caller.begin()
    answer = caller.within("no/such")
    assert (answer.status, answer.json["error"]["code"]) == (200, -32601)


def test_other_http_methods_are_not_allowed(caller: Caller) -> None:
    for method in ("PUT", "PATCH", "HEAD", "OPTIONS"):
        with caller.line() as line:
            line.write(caller.request(method))
            status, headers = line.head()
            assert (status, headers["allow"]) == (405, "GET, POST, DELETE")
    for method in ("GET", "DELETE"):
        answer = caller.ask(method, mcp_protocol_version=MODERN)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_too_long_a_body_is_refused_before_it_has_come(caller: Caller) -> None:
    with caller.line() as line:
        line.write(caller.request(body=b"{}", content_length=str(limits.BODY_BYTES + 1)))
        assert line.answer().status == 413
        assert line.closed()


def test_too_long_a_body_is_refused_although_it_says_no_length(caller: Caller) -> None:
    with caller.line() as line:
        line.write(caller.request(content_length=None, transfer_encoding="chunked"))
        block = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        status = 0
        try:
            for _ in range(2 + limits.BODY_BYTES // 0x10000):
                line.write(block)
            status = line.answer().status
        except ConnectionError:
            status = 413  # it answers and closes while we write, and what it said is lost with the connection
        assert status == 413


def test_a_body_with_very_many_names_holds_nobody_up(caller: Caller) -> None:
    names = ",".join(f'"{number}":1' for number in range(150_000))
    body = f'{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{{names},"149999":2}}}}'.encode()
    assert len(body) < limits.BODY_BYTES
    assert caller.ask(body=body).status == 400


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("settle", {"ids": [1] * 300_000, "outcome": "ack"}),
        ("send", {"to": [[]] * 300_000, "body": "x"}),
        ("list_inbox", {f"x{number}": 1 for number in range(100_000)}),
    ],
    ids=["ids", "recipients", "parameters"],
)
def test_very_many_mistakes_are_not_spelled_out(caller: Caller, tool: str, arguments: dict[str, Any]) -> None:
    assert len(str(caller.refused(tool, **arguments))) < 1000


@pytest.mark.parametrize("encoding", ["gzip", "br", "x"])
def test_a_body_that_is_encoded_is_unsupported(caller: Caller, encoding: str) -> None:
    message = caller.message("tools/list")
    assert caller.ask(body=message, **caller.modern(message), content_encoding=encoding).status == 415
    assert caller.ask(body=message, **caller.modern(message), content_encoding="identity").status == 200


def test_a_client_that_says_too_much_of_itself_begins_no_session(caller: Caller, post: Post) -> None:
    capabilities: dict[str, Any] = {"experimental": {f"{number}": {} for number in range(10_000)}}
    params = {"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": {"name": "raw", "version": "1"}}
    before = post.home.status()["http"]["sessions"]
    assert caller.ask(body={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).status == 413
    assert post.home.status()["http"]["sessions"] == before


def test_a_truncated_body_is_not_acted_upon(caller: Caller) -> None:
    caller.call("create_mailbox", name="alice")
    message = caller.message("tools/call", name="send", arguments={"to": "alice", "body": "x", "mailbox": "alice"})
    request = caller.request(body=message, **caller.modern(message))
    for cut in (1, len(json.dumps(message)) // 2):
        with caller.line() as line:
            line.write(request[:-cut])
    assert caller.call("list_inbox", mailbox="alice")["unread"] == 0


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /mcp HTTP/9.9\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST /mcp HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=lambda data: str(data[:30]),
)
def test_what_is_no_http_is_refused(caller: Caller, data: bytes) -> None:
    with caller.line() as line:
        try:
            line.write(data)
            status = line.head()[0]
        except (OSError, AssertionError):
            return  # closed without a word
        assert 400 <= status < 500
