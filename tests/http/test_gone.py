"""A reader that has gone is not here again by what it had asked before: its leases would be nobody's and stay away."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

import pytest

from tests.http.conftest import Post
from tests.http.store import Store

_edges = count()


@pytest.fixture
def alice(post: Post) -> Store:
    store = Store(post.caller(post.issue("alice")["token"]), f"machine-{next(_edges):012}")
    store.call("create_mailbox", name="alice")
    store.call("send", to="alice", body="work")
    return store


def is_refused(successor: Store) -> None:
    """Return once it is, since alice's reader is here: a hub that has just started does not know that yet."""
    deadline = time.monotonic() + 10
    while successor.verb("wait_for_message", timeout=0).json.get("error") != "read_elsewhere":
        assert time.monotonic() < deadline


def ask_late(alice: Store) -> None:
    alice.call("list_inbox")


def bring_what_an_outbox_had(alice: Store) -> None:
    alice.sends({"number": 1, "who": alice.who(), "given": {"to": "alice", "body": "x"}})


def bring_what_an_outbox_had_settled(alice: Store) -> None:
    alice.sends({"number": 1, "verb": "settle", "who": alice.who(), "given": {"ids": ["x.1"], "outcome": "ack"}})


def successor_of(alice: Store) -> Store:
    """Have the reader read, and another one come for the same mailbox."""
    alice.call("wait_for_message", timeout=0)
    successor = Store(alice.caller, alice.edge, "successor")
    successor.call("create_mailbox", name="alice")
    return successor


@pytest.mark.parametrize("late", [ask_late, bring_what_an_outbox_had, bring_what_an_outbox_had_settled])
def test_what_a_reader_had_asked_may_come_when_it_has_gone(alice: Store, late: Callable[[Store], None]) -> None:
    successor = successor_of(alice)
    is_refused(successor)
    alice.notes(alice.note("gone", put_back=False))
    late(alice)
    assert successor.verb("wait_for_message", timeout=0).status == 200


def test_what_an_outbox_had_does_not_say_that_its_reader_is_here(alice: Store) -> None:
    successor = successor_of(alice)
    is_refused(successor)
    alice.notes({"note": "present", "readers": [successor.reader]})
    bring_what_an_outbox_had(alice)
    assert successor.verb("wait_for_message", timeout=0).status == 200


def test_who_comes_back_is_here_again_by_its_own_word(alice: Store) -> None:
    successor = successor_of(alice)
    alice.notes(alice.note("gone", put_back=False), alice.note("here"))
    is_refused(successor)
