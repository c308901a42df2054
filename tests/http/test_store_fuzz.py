"""Whatever JSON comes to the store API, it is answered or refused, in JSON, and the hub has no error of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.fronts.verbs import VERBS
from tests.http import fuzz
from tests.http.caller import Answer, Caller, Line
from tests.http.conftest import Post

EXAMPLES = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
EDGE = "fuzz-00000000000"
_requests = count(1)


class Fuzzed:
    """One connection that is kept, for very many requests."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._line: Line | None = None
        self.good = {"reader": "relay", "request": "r", "space": caller.headers["mailbox-space"], "own": "alice"}

    def post(self, place: str, body: bytes) -> Answer:
        about = {"mailbox_edge": EDGE, "content_type": wire.NDJSON if place == "sends" else "application/json"}
        request = self.caller.request("POST", wire.PATH + place, body=body, **about)
        if self._line is not None:
            with suppress(OSError, AssertionError):  # it was idle for too long
                return self._ask(self._line, request)
        self.close()
        self._line = Line(self.caller.port)
        return self._ask(self._line, request)

    def _ask(self, line: Line, request: bytes) -> Answer:
        line.write(request)
        answer = line.answer()
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def renewed(self, said: Any) -> Any:
        """Make each request that is nothing special one of its own, else it would be the first one's."""
        if isinstance(said, dict):
            return {
                name: f"r{next(_requests)}" if (name, each) == ("request", "r") else self.renewed(each)
                for name, each in said.items()
            }
        return [self.renewed(each) for each in said] if isinstance(said, list) else said


@pytest.fixture(scope="module")
def fuzzed(home: Any) -> Iterator[Fuzzed]:
    post = Post(home)
    before = home.status()["pid"]
    fuzzed = Fuzzed(post.caller(post.issue("fuzz")["token"]))
    made = {"who": fuzzed.good, "given": {"name": "alice"}}
    assert fuzzed.post("verbs/create_mailbox", json.dumps(made).encode()).status == 200
    yield fuzzed
    fuzzed.close()
    assert home.status()["pid"] == before


@pytest.fixture(autouse=True)
def no_error_of_its_own(post: Post) -> Iterator[None]:
    before = len(post.home.log())
    yield
    said = post.home.log()[before:]
    assert "Traceback" not in said
    assert "internal error" not in said


def strict(text: bytes) -> Any:
    """Read what other parsers read as well."""

    def refuse(word: str) -> NoReturn:
        raise AssertionError(f"{word} is no JSON")

    text.decode()
    return json.loads(text, parse_constant=refuse)


def check(answer: Answer, body: bytes) -> None:
    assert answer.status in {200, 204} or 400 <= answer.status < 500, (answer, body)
    if answer.status >= 400:
        refusal = strict(answer.body)
        assert isinstance(refusal["error"], str), (answer, body)
        assert len(answer.body) < 5000, "what was sent is not spelled out"


@pytest.mark.parametrize("verb", [*VERBS])
def test_whatever_a_verb_is_given_is_answered_or_refused(fuzzed: Fuzzed, verb: str) -> None:
    @EXAMPLES
    @given(body=fuzz.asked(verb, fuzzed.good))
    def ask(body: object) -> None:
        text = fuzz.spelled(fuzzed.renewed(body))
        answer = fuzzed.post(f"verbs/{verb}", text)
        check(answer, text)
        strict(answer.body)

    ask()


@EXAMPLES
@given(data=st.data())
def test_whatever_a_batch_has_is_answered_line_by_line_or_refused(fuzzed: Fuzzed, data: st.DataObject) -> None:
    lines = fuzzed.renewed(data.draw(st.lists(fuzz.sent(fuzzed.good), max_size=4)))
    text = b"\n".join(map(fuzz.spelled, lines))
    answer = fuzzed.post("sends", text)
    check(answer, text)
    if answer.status == 200:
        said = [strict(line) for line in answer.body.splitlines()]
        assert [each["number"] for each in said] == [line["number"] for line in lines]


@EXAMPLES
@given(data=st.data())
def test_whatever_is_noted_is_taken_or_refused(fuzzed: Fuzzed, data: st.DataObject) -> None:
    text = fuzz.spelled(data.draw(fuzz.notes(fuzzed.good) | fuzz.JSON))
    check(fuzzed.post("notes", text), text)


@EXAMPLES
@given(data=st.data())
def test_whatever_attachment_is_wanted_is_given_or_refused(fuzzed: Fuzzed, data: st.DataObject) -> None:
    text = fuzz.spelled(data.draw(fuzz.asked("read", fuzzed.good)))
    answer = fuzzed.post("attachment", text)
    check(answer, text)


@EXAMPLES
@given(data=st.data())
def test_whatever_opens_a_stream_opens_it_or_is_refused(fuzzed: Fuzzed, data: st.DataObject) -> None:
    text = fuzz.spelled(data.draw(fuzz.like(wire.Opening) | fuzz.JSON))
    with fuzzed.caller.line() as line:
        line.write(fuzzed.caller.request("POST", f"{wire.PATH}stream", body=text, mailbox_edge=EDGE))
        status, headers = line.head()
        assert status == 200 or 400 <= status < 500, text
        if status == 200:
            assert b"event: hello" in next(line.chunks())
        else:
            strict(line._file.read(int(headers["content-length"])))


@EXAMPLES
@given(text=st.binary(max_size=200), place=st.sampled_from(["verbs/send", "sends", "notes", "stream", "attachment"]))
def test_whatever_bytes_come_are_refused_or_say_nothing(fuzzed: Fuzzed, text: bytes, place: str) -> None:
    answer = fuzzed.post(place, text)
    assert 400 <= answer.status < 500 or (place == "sends" and not text.strip())
    if answer.status >= 400:
        assert isinstance(strict(answer.body)["error"], str)
