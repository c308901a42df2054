"""Web pages: what a browser has to hear before it lets a page of an allowed origin call and read (CORS)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fronts.world import Served
from tests.http.caller import Answer, Caller

PAGE = "https://page.example"
EVIL = "https://evil.example"


@pytest.fixture(scope="module")
def open_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("h"), "--allow-origin", PAGE)
    yield served.start()
    served.end()


@pytest.fixture
def page(open_home: Served) -> Caller:
    return Caller(open_home.port, open_home.token, mailbox_address="page", origin=PAGE)


def words(answer: Answer, name: str) -> set[str]:
    return {word.strip().lower() for word in answer.headers[name].split(",")}


def told(answer: Answer) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


def preflight(caller: Caller, method: str = "POST", **headers: str | None) -> Answer:
    """Ask as browsers do before a call: without the token and without our headers."""
    about = {"access_control_request_method": method, "access_control_request_headers": "authorization"}
    return caller.ask("OPTIONS", **{"authorization": None, "mailbox_address": None, **about, **headers})


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_preflight_of_an_allowed_origin_says_what_its_pages_may_send(page: Caller, method: str) -> None:
    answer = preflight(page, method)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert words(answer, "access-control-allow-methods") == {"get", "post", "delete"}
    assert words(answer, "access-control-allow-headers") == {
        "accept", "authorization", "content-type", "last-event-id", "mailbox-address", "mailbox-space",
        "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id",
    }  # fmt: skip
    assert int(answer.headers["access-control-max-age"]) > 0
    assert "origin" in words(answer, "vary")
    assert "access-control-allow-credentials" not in answer.headers


def test_pages_of_an_allowed_origin_may_read_every_answer(page: Caller) -> None:
    page.call("create_mailbox")
    begun = page.begin()
    answers = [
        begun,
        page.within("tools/list"),
        page.alone("tools/list"),
        page.tool("wait_for_message", timeout=1),  # a stream
        page.ask(body={}, authorization=None),
        page.ask("PUT"),
        page.ask("OPTIONS"),  # without Access-Control-Request-Method it is no preflight
        page.ask("GET", "/nowhere"),
        page.ask("GET", "/healthz"),
        page.ask(body=b"{"),
    ]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 401, 405, 405, 404, 200, 400]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert words(answer, "access-control-expose-headers") == {"mcp-session-id", "www-authenticate", "retry-after"}
        assert "origin" in words(answer, "vary")
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", [EVIL, "null", f"{PAGE}.evil.example", f"{PAGE}:444", "http://page.example"])
def test_pages_of_other_origins_hear_nothing(page: Caller, origin: str) -> None:
    for answer in (
        preflight(page, origin=origin),
        page.ask(body=page.message("tools/list"), origin=origin),
        page.ask("GET", origin=origin),
        page.ask("GET", "/healthz", origin=origin),
    ):
        assert answer.status in {403, 200}
        assert told(answer) == set()


def test_two_origins_are_none(page: Caller) -> None:
    request = page.request("OPTIONS", access_control_request_method="POST")
    with page.line() as line:
        line.write(request.replace(b"\r\n", f"\r\norigin: {EVIL}\r\n".encode(), 1))
        answer = line.answer()
    assert (answer.status, told(answer)) == (400, set())


def test_who_is_no_page_is_not_bothered(open_home: Served) -> None:
    plain = Caller(open_home.port, open_home.token)
    assert told(plain.alone("tools/list")) == set()
    assert plain.ask("OPTIONS", access_control_request_method="POST").status == 405
