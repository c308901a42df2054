"""Who may come in: names, origins, tokens, scopes."""

from __future__ import annotations

import time

import pytest

from mcp_mailbox.clocks import SystemClock
from tests.http.caller import Caller
from tests.http.conftest import Post


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.:1", "127.0.0.1", "", "a@b", "[::1"]
)
def test_a_host_that_is_not_ours_is_misdirected(post: Post, host: str) -> None:
    answer = post.caller().ask(body={}, host=host)
    assert answer.status == 421
    assert "--allow-host" in answer.json["error"]


def test_an_old_client_that_names_no_host_is_misdirected(post: Post) -> None:
    with post.caller().line() as line:
        line.write(b"POST /mcp HTTP/1.0\r\ncontent-length: 0\r\n\r\n")
        assert line.head()[0] == 421


def test_the_log_names_the_host_or_origin_that_was_refused(post: Post) -> None:
    post.caller().ask(body={}, host="\u202eevil.example")
    post.caller().ask(body={}, origin="https://evil.example/" + "x" * 1000 + "END")
    log = post.home.log()
    assert "Host '\\u202eevil.example'" in log
    assert "Origin 'https://evil.example/xxx" in log
    assert "END" not in log


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_names_of_this_machine_are_ours_at_our_port(post: Post, name: str) -> None:
    assert post.caller().ask(body={}, host=f"{name}:{post.home.port}").status == 400
    assert post.caller().ask(body={}, host=f"{name}:{post.home.port - 1}").status == 421


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1",
        "http://localhost:1",
        "http://127.0.0.1.evil.example",
        "http://[evil",
        "http://a:b",
    ],
)
def test_a_page_of_another_origin_may_not_call(post: Post, origin: str) -> None:
    answer = post.caller().alone("tools/list")
    assert answer.status == 200
    message = post.caller().message("tools/list")
    for method in ("POST", "GET", "DELETE", "OPTIONS"):
        refused = post.caller().ask(method, body=message, origin=origin)
        assert refused.status == 403
        assert "access-control-allow-origin" not in refused.headers


def test_a_page_of_our_own_may_call(post: Post) -> None:
    caller = post.caller(origin=f"http://localhost:{post.home.port}")
    assert caller.alone("tools/list").status == 200


def test_without_a_token_one_is_told_how_to_come_in(post: Post) -> None:
    for authorization in (None, "", "Bearer", "Bearer ", "Basic YTpi", "mbx_x"):
        answer = post.nobody().ask(body={}, authorization=authorization)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="mcp-mailbox"'
        assert "mcp-mailbox status" in answer.json["error"]


def test_a_token_that_is_not_good_is_refused_and_all_alike(post: Post) -> None:
    revoked, rotated = post.issue(), post.issue()
    post.command("token revoke", id=revoked["id"])
    post.command("token rotate", id=rotated["id"])
    expired = post.issue(lasts=1)
    while SystemClock().now() <= expired["expires_at"]:
        time.sleep(0.001)
    good = post.home.token
    near = good[:-1] + ("A" if good[-1] != "A" else "B")
    tokens = [
        revoked["token"],
        rotated["token"],
        expired["token"],
        near,
        good[:-1],
        good + "A",
        good.lower(),
        "mbx_",
        "ü",
    ]
    answers = [post.caller(token).alone("tools/list") for token in tokens]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1
    assert 'error="invalid_token"' in answers[0].headers["www-authenticate"]


def test_a_rotated_token_is_good_with_its_new_secret_and_the_same_settings(post: Post) -> None:
    first = post.issue("carol", mailbox=f"carol@{post.space}")
    second = post.command("token rotate", id=first["id"])
    assert {**first, "token": 0} == {**second, "token": 0}
    assert post.caller(second["token"]).call("list_inbox") == {"messages": [], "unread": 0}


@pytest.mark.parametrize(
    "path", ["/mcp?access_token={token}", "/mcp?token=x", "/mcp/{token}", "/{token}", "/mcp?a=1&ACCESS_TOKEN=x"]
)
def test_a_token_in_an_address_is_refused_even_beside_a_good_one(post: Post, path: str) -> None:
    for caller in (post.caller(), post.nobody()):
        answer = caller.ask("POST", path.format(token=post.home.token), body={})
        assert answer.status == 400
        assert "Authorization header" in answer.json["error"]
    assert post.home.token not in post.home.log()


def test_headers_that_may_stand_once_are_refused_twice(post: Post) -> None:
    caller = post.caller()
    for name in ("host", "authorization", "origin", "content-type", "mcp-session-id", "mailbox-address"):
        request = caller.request(body={}, **{name: "x"}).replace(b"\r\n", f"\r\n{name}: y\r\n".encode(), 1)
        with caller.line() as line:
            line.write(request)
            assert line.answer().status == 400


def test_what_is_not_there_is_not_found(post: Post) -> None:
    for path in ("/", "/mcp/", "/mcp/x", "/favicon.ico", "/.well-known/oauth-protected-resource", "//mcp", "/mcp%2f"):
        assert post.caller().ask("GET", path).status == 404


def test_health_needs_no_token(post: Post) -> None:
    for path in ("/healthz", "/readyz"):
        answer = Caller(post.home.port, None).ask("GET", path, host="probe.example")
        assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_who_may_not_read_hears_nothing_either(post: Post) -> None:
    post.caller().call("create_mailbox", name="alice")
    narrow = post.caller(post.issue(scopes=["send", "create"])["token"])
    uri = f"mailbox:alice@{post.space}"
    with narrow.line() as line:
        message = narrow.message("subscriptions/listen", notifications={"resourceSubscriptions": [uri]})
        line.write(narrow.request(body=message, **narrow.modern(message)))
        line.head()
        assert "resourceSubscriptions" not in line.event()["params"]["notifications"]
    narrow.begin()
    for method, params in (
        ("resources/subscribe", {"uri": uri}),
        ("resources/read", {"uri": uri}),
        ("resources/list", {}),
    ):
        error = narrow.within(method, **params).json["error"]
        assert (error["code"], error["data"]["error"]) == (-32602, "forbidden"), method
    reference = {"type": "ref/resource", "uri": "mailbox:{address}"}
    argument = {"name": "address", "value": ""}
    found = narrow.within("completion/complete", ref=reference, argument=argument).result["completion"]
    assert found["values"] == []


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("read", {"list_inbox", "wait_for_message", "read", "settle"}),
        ("send", {"send"}),
        ("create", {"create_mailbox"}),
    ],
)
def test_a_token_allows_what_its_scopes_say(post: Post, scope: str, allowed: set[str]) -> None:
    post.caller().call("create_mailbox", name="alice")
    sent = post.caller().call("send", to="alice", body="x", mailbox="alice")
    narrow = post.caller(post.issue(scopes=[scope], mailbox=f"alice@{post.space}")["token"])
    for tool, arguments in (
        ("list_inbox", {}),
        ("read", {"id": sent["id"]}),
        ("wait_for_message", {"timeout": 0}),
        ("settle", {"ids": [sent["id"]], "outcome": "ack"}),
        ("send", {"to": "alice", "body": "y"}),
        ("create_mailbox", {"name": "another"}),
    ):
        if tool in allowed:
            narrow.call(tool, **arguments)
        else:
            problem = narrow.refused(tool, **arguments)
            assert problem["error"] == "forbidden"
            assert problem["message"] == f"This token may not {_needs(tool)}."


def _needs(tool: str) -> str:
    return {"send": "send", "create_mailbox": "create"}.get(tool, "read")
