"""`POST /join`: what strangers are let do, and what they learn."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from itertools import count

import pytest

from mcp_mailbox import invitation
from mcp_mailbox.fronts.join.room import BODY_BYTES, REFUSED_AFTER
from mcp_mailbox.fronts.join.throttle import EACH, TERM, TOGETHER, Throttle
from tests.http.caller import Answer, Caller, Json
from tests.http.conftest import Post
from tests.http.store import Store

_hosts = count(1)
TOKEN = "mbx_" + "t" * 43


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Stranger:
    """Somebody at an address of its own, of which a machine has many."""

    def __init__(self, post: Post) -> None:
        number = next(_hosts)
        self.address = f"127.1.{number // 250}.{number % 250 + 1}"
        self._port = post.home.port

    def post(self, body: object, method: str = "POST", **headers: str) -> Answer:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        about = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60, source_address=(self.address, 0))
        try:
            connection.request(method, "/join", sent, about)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def join(self, code: str, token: str = TOKEN) -> Answer:
        return self.post({"code": code, "token_sha256": sha256(token)})


@pytest.fixture
def stranger(post: Post) -> Callable[[], Stranger]:
    return lambda: Stranger(post)


def invite(post: Post, principal: str = "anna", **arguments: object) -> Json:
    return post.command("invite", principal=principal, **arguments)


def token(post: Post) -> str:
    return f"mbx_{post.space}".ljust(47, "x")


def test_a_code_is_good_for_a_token_that_the_hub_never_sees(post: Post, stranger: Callable[[], Stranger]) -> None:
    made = invite(post, space=post.space, mailbox="laptop", scopes=["read", "send", "create"])
    answer = stranger().join(made["code"].lower(), token(post))
    assert answer.status == 200
    assert token(post) not in answer.body.decode()
    joined = answer.json
    assert joined["principal"] == "anna"
    assert (joined["space"], joined["mailbox"], joined["scopes"]) == (post.space, "laptop", ["create", "read", "send"])
    assert joined["hub"] == f"127.0.0.1:{post.home.port}"
    assert joined["expires_at"].endswith("Z")
    anna = Caller(post.home.port, token(post), post.space)
    assert anna.call("create_mailbox")["address"] == f"laptop@{post.space}"
    [listed] = [each for each in post.command("invite list")["invitations"] if each["id"] == made["id"]]
    assert listed["token"] == joined["id"]
    assert "code" not in listed


def test_the_same_again_is_answered_the_same_and_another_token_is_not(
    post: Post, stranger: Callable[[], Stranger]
) -> None:
    code = invite(post)["code"]
    first, again = stranger().join(code, token(post)), stranger().join(code, token(post))
    assert first.json == again.json
    replayed = stranger().join(code, token(post) + "y")
    assert (replayed.status, replayed.json["error"]) == (403, "not_invited")
    post.command("token revoke", id=first.json["id"])
    assert stranger().join(code, token(post)).status == 403


def test_of_fifty_who_race_for_one_code_one_gets_in(post: Post, stranger: Callable[[], Stranger]) -> None:
    code = invite(post, f"racer {post.space}")["code"]
    racers = [stranger() for _ in range(50)]
    with ThreadPoolExecutor(50) as pool:
        answers = [*pool.map(lambda n: racers[n].join(code, f"{token(post)}{n}"), range(50))]
    assert sorted(each.status for each in answers) == [200] + [403] * 49
    assert len({each.body for each in answers if each.status == 403}) == 1
    tokens = [each for each in post.command("token list")["tokens"] if each["principal"] == f"racer {post.space}"]
    [winner] = [each for each in answers if each.status == 200]
    assert [each["id"] for each in tokens] == [winner.json["id"]]


def test_fifty_tries_at_once_of_one_machine_are_one_token(post: Post, stranger: Callable[[], Stranger]) -> None:
    code = invite(post, f"retry {post.space}")["code"]
    tries = [stranger() for _ in range(50)]
    with ThreadPoolExecutor(50) as pool:
        answers = [*pool.map(lambda one: one.join(code, token(post)), tries)]
    assert {each.status for each in answers} == {200}
    assert len({each.body for each in answers}) == 1
    tokens = [each for each in post.command("token list")["tokens"] if each["principal"] == f"retry {post.space}"]
    assert len(tokens) == 1


def test_what_an_invitation_gives_is_a_machine_of_its_principal_and_ends_with_its_token(
    post: Post, stranger: Callable[[], Stranger]
) -> None:
    made = invite(post, f"edge {post.space}", space=post.space, scopes=["read", "create"])
    joined = stranger().join(made["code"], token(post)).json
    edge = Store(Caller(post.home.port, token(post), post.space))
    edge.call("create_mailbox", name="laptop")
    assert edge.verb("send", to="laptop", body="x").status == 403
    with edge.stream() as events:
        post.command("token revoke", id=joined["id"])
        assert events.line.ended()
    assert edge.verb("own").status == 401
    for again in (token(post), f"{token(post)}y"):
        assert stranger().join(made["code"], again).status == 403
        assert Store(Caller(post.home.port, again, post.space)).verb("own").status == 401


def test_every_code_that_is_no_good_is_answered_alike_and_as_slowly(
    post: Post, stranger: Callable[[], Stranger]
) -> None:
    used, revoked, expired = (invite(post, good_for=1 if n == 2 else 1000_000) for n in range(3))
    stranger().join(used["code"], token(post))
    post.command("invite revoke", id=revoked["id"])
    codes = [used["code"], revoked["code"], expired["code"], invitation.new_code(), "mistyped", "", "\0", "é" * 28]
    seen = set()
    for code in codes:
        begun = time.monotonic()
        answer = stranger().join(code, f"{token(post)}z")
        assert time.monotonic() - begun >= REFUSED_AFTER
        headers = {name: value for name, value in answer.headers.items() if name != "date"}
        seen.add((answer.status, answer.body, tuple(headers.items())))
    assert len(seen) == 1


def test_who_guesses_is_told_to_wait_and_others_are_not(post: Post, stranger: Callable[[], Stranger]) -> None:
    guesser, code = stranger(), invite(post)["code"]
    with ThreadPoolExecutor(2 * EACH) as pool:
        answers = [*pool.map(lambda _: guesser.join(invitation.new_code()), range(2 * EACH))]
    assert sorted(each.status for each in answers) == [403] * EACH + [429] * EACH
    refused = guesser.join(code)
    assert refused.json["error"] == "too_many_tries"
    assert 0 < int(refused.headers["retry-after"]) <= TERM
    assert stranger().join(code, token(post)).status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"code": 1, "token_sha256": "x"}', 400),
        (b'{"code": "x", "code": "x", "token_sha256": "x"}', 400),
        (b'{"code": "x", "token_sha256": "x"}', 400),
        (json.dumps({"code": "x", "token_sha256": "0" * 64, "principal": "local"}).encode(), 400),
        (b"[" * 4000, 400),
        (b'"\xff"', 400),
        (b" " * (BODY_BYTES + 1), 413),
    ],
)
def test_what_means_nothing_is_refused_before_anybody_is_asked(
    stranger: Callable[[], Stranger], body: bytes, status: int
) -> None:
    assert stranger().post(body).status == status


def test_who_may_come_is_the_gates_to_say_as_everywhere(post: Post, stranger: Callable[[], Stranger]) -> None:
    body = {"code": invite(post)["code"], "token_sha256": sha256(token(post))}
    one = stranger()
    assert one.post(body, host="evil.example.org").status == 421
    assert one.post(body, origin="https://evil.example.org").status == 403
    assert one.post(body, content_type="text/plain").status == 415
    assert one.post(body, method="GET").headers["allow"] == "POST"
    assert one.post(body, authorization="Bearer mbx_whatever").status == 200, "a token means nothing here"


def test_a_body_that_does_not_come_whole_is_no_try_that_is_given_back(
    post: Post, stranger: Callable[[], Stranger]
) -> None:
    one = stranger()
    for _ in range(EACH):
        with socket.create_connection(("127.0.0.1", post.home.port), 60, (one.address, 0)) as line:
            head = f"POST /join HTTP/1.1\r\nhost: 127.0.0.1:{post.home.port}\r\n"
            line.sendall(f"{head}content-type: application/json\r\ncontent-length: 10\r\n\r\n{{}}".encode())
            line.shutdown(socket.SHUT_WR)
            line.recv(1000)
    assert one.join(invite(post)["code"]).status == 429


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_budgets_come_back_evenly_and_are_together_no_more_than_that() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert [throttle.take("10.0.0.1") for _ in range(EACH)] == [0] * EACH
    assert throttle.take("10.0.0.1") == pytest.approx(TERM / EACH)
    clock.now += TERM / EACH
    assert throttle.take("10.0.0.1") == 0
    taken = EACH + 1
    while taken < TOGETHER + TOGETHER // EACH:
        if throttle.take(f"10.1.{taken // 250}.{taken % 250}"):
            break
        taken += 1
    assert taken - EACH - 1 <= TOGETHER
    clock.now += TERM
    throttle.take("10.2.0.1")
    throttle.give_back("10.2.0.1")
    assert [throttle.take("10.2.0.1") for _ in range(EACH + 1)][-2:] == [0, pytest.approx(TERM / EACH)]


def test_all_of_an_ipv6_network_counts_as_one_and_a_mapped_address_as_itself() -> None:
    throttle = Throttle(Clock())
    for number in range(EACH):
        assert throttle.take(f"2001:db8::{number:x}") == 0
    assert throttle.take("2001:db8::ffff:1") > 0
    assert throttle.take("2001:db8:0:1::1") == 0
    for _ in range(EACH):
        throttle.take("10.0.0.1")
    assert throttle.take("::ffff:10.0.0.1") > 0
    assert throttle.take("no address") == 0
