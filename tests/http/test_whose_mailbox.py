"""Which mailbox a call acts for when it names none; an agent hears of it when that is another than it opened."""

from __future__ import annotations

import pytest

from tests.http.caller import Caller
from tests.http.conftest import Post


def sender(caller: Caller, post: Post, *, within: bool = False) -> str:
    """Return from which mailbox a message goes out that names none."""
    send = {"name": "send", "arguments": {"to": "carol", "body": "x"}}
    sent = (caller.within if within else caller.alone)("tools/call", **send).content
    found: str = post.caller().call("read", id=sent["id"], mailbox="carol")["from"]
    return found


@pytest.fixture(autouse=True)
def _carol(post: Post) -> None:
    post.caller().call("create_mailbox", name="carol")


def test_who_opens_another_mailbox_than_the_header_names_hears_which_one_counts(post: Post) -> None:
    caller = post.caller(mailbox_address="reg-a")
    made = caller.call("create_mailbox", name="reg-b")
    assert made["hint"] == (
        f"Pass mailbox='reg-b@{post.space}' in each call; without it you act for 'reg-a',"
        " as your host is set up (Mailbox-Address)."
    )
    assert sender(caller, post) == f"reg-a@{post.space}"


def test_who_opens_another_mailbox_than_the_token_names_hears_which_one_counts(post: Post) -> None:
    caller = post.caller(post.issue(mailbox="reg-a")["token"])
    made = caller.call("create_mailbox", name="reg-b")
    assert made["hint"].startswith(f"Pass mailbox='reg-b@{post.space}' in each call; without it you act for 'reg-a',")
    assert "(Token's mailbox)" in made["hint"]
    assert sender(caller, post) == f"reg-a@{post.space}"


@pytest.mark.parametrize("named", ["reg-a", "REG-A", "reg-a@{space}"])
def test_who_opens_the_mailbox_that_counts_anyway_hears_nothing_besides(post: Post, named: str) -> None:
    caller = post.caller(mailbox_address=named.format(space=post.space))
    assert "hint" not in caller.call("create_mailbox", name="reg-a")
    assert "hint" not in caller.call("create_mailbox")


def test_a_header_that_cannot_be_does_not_hide_which_mailbox_to_pass(post: Post) -> None:
    caller = post.caller(mailbox_address="../x")
    assert f"mailbox='reg-b@{post.space}'" in caller.call("create_mailbox", name="reg-b")["hint"]
    assert caller.refused("list_inbox")["error"] == "bad_name"


def test_in_a_session_what_was_opened_wins_over_the_header_and_the_argument_over_both(post: Post) -> None:
    caller = post.caller(mailbox_address="reg-a")
    caller.begin()
    assert sender(caller, post, within=True) == f"reg-a@{post.space}"
    opened = caller.within("tools/call", name="create_mailbox", arguments={"name": "reg-b"}).content
    assert "hint" not in opened
    assert sender(caller, post, within=True) == f"reg-b@{post.space}"
    send = {"name": "send", "arguments": {"to": "carol", "body": "x", "mailbox": "reg-a"}}
    sent = caller.within("tools/call", **send).content
    assert post.caller().call("read", id=sent["id"], mailbox="carol")["from"] == f"reg-a@{post.space}"
