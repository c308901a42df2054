"""The description of the store API: what it says of requests and answers is what the hub does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mcp_mailbox.fronts.hub import wire
from mcp_mailbox.fronts.verbs import VERBS
from tests.http.conftest import Post
from tests.http.store import Store

Json = dict[str, Any]
OTHERS = ("sends", "notes", "stream", "attachment", "files")


@pytest.fixture
def alice(post: Post) -> Store:
    """Somebody with a mailbox."""
    store = Store(post.caller(post.issue("alice")["token"]))
    store.call("create_mailbox", name="alice")
    return store


@pytest.fixture
def document(alice: Store) -> Json:
    answer = alice.caller.ask("GET", f"{wire.PATH}openapi.json", mailbox_edge=alice.edge)
    assert answer.status == 200
    return answer.json


def taken(document: Json, place: str) -> Draft202012Validator:
    """Return what judges a body by what is said of that place."""
    [kind] = document["paths"][wire.PATH + place]["post"]["requestBody"]["content"].values()
    return Draft202012Validator({**kind["schema"], "components": document["components"]})


def test_each_place_is_described_and_each_that_is_described_is_there(document: Json, alice: Store) -> None:
    places = {path.removeprefix(wire.PATH) for path in document["paths"]}
    assert places == {*OTHERS, *(f"verbs/{name}" for name in VERBS)}
    for place in places:
        assert alice.post(place, b"").status not in {404, 405}, place


def test_what_is_asked_fits_what_is_said_of_it(document: Json, alice: Store) -> None:
    for name, given in (
        ("send", {"to": "alice", "body": "x", "priority": "urgent"}),
        ("list_inbox", {}),
        ("wait_for_message", {"timeout": 0}),
        ("find_mailboxes", {}),
        ("read", {"id": alice.call("send", to="alice", body="x")["id"]}),
    ):
        asked = {"who": alice.who(), "given": given}
        taken(document, f"verbs/{name}").validate(asked)
        assert alice.post(f"verbs/{name}", asked).status == 200, name
    sent = {"number": 1, "who": alice.who(), "given": {"to": "alice", "body": "x"}}
    taken(document, "sends").validate(sent)
    assert "id" in alice.sends(sent)[0]["answer"]
    note = {"notes": [alice.note("here")], "life": "0a", "first": 1}
    taken(document, "notes").validate(note)
    assert alice.post("notes", note).status == 204


@pytest.mark.parametrize(
    ("place", "body"),
    [
        ("verbs/send", {"who": {"reader": "a", "request": "b"}}),
        ("verbs/send", {"who": {"reader": "a", "request": "b"}, "given": {"to": "alice"}}),
        ("verbs/read", {"who": {"reader": "a", "request": "b"}}),
        ("verbs/list_inbox", {"who": {"reader": "a", "request": "b"}, "raw": 0}),
        ("verbs/list_inbox", {"who": {"reader": "a", "request": "b"}, "room": 1}),
        ("verbs/list_inbox", {"given": {}}),
        ("notes", {"notes": [{"note": "nothing"}]}),
        ("notes", {"notes": [], "first": False}),
        ("stream", {"listens": ["a"], "life": "no"}),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(document: Json, alice: Store, place: str, body: Json) -> None:
    assert not taken(document, place).is_valid(body)
    assert alice.post(place, body).status == 400


def test_every_name_that_is_referred_to_is_described(document: Json) -> None:
    said = json.dumps(document)
    for name in {part.partition('"')[0] for part in said.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]
    Draft202012Validator.check_schema({"$defs": document["components"]["schemas"]})


def test_limits_of_numbers_are_in_the_words_of_json_schema(document: Json) -> None:
    found: list[Json] = []
    waiting: list[Any] = [document["components"], document["paths"]]
    while waiting:
        each = waiting.pop()
        waiting += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        if isinstance(each, dict) and each.get("type") == "integer":
            found.append(each)
    assert found
    assert [each for each in found if each.keys() & {"ge", "gt", "le", "lt"}] == []
