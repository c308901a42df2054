"""`mcp-mailbox channels`, and mail to one, as a person types it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mcp_mailbox.fronts.cli import exits
from tests.cli.person import Home, Person


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    one = Home(tmp_path_factory.mktemp("home"))
    one.directory.mkdir(exist_ok=True)
    yield one
    one.end()


@pytest.fixture
def ann(home: Home) -> Person:
    return home.person()


def test_a_channel_is_made_joined_written_to_listed_and_left(ann: Person) -> None:
    bob = ann.beside("bob")
    assert "made and joined, 1 members" in ann.run("channels", "join", "#build").stderr
    assert bob.json("channels", "join", "#build")["members"] == 2
    bob.does("send", "#build", "-b", "It is green.")
    [mail] = ann.json("inbox")["messages"]
    assert mail["preview"] == "It is green."
    listed = {each["channel"].partition("@")[0]: each for each in ann.json("channels")["channels"]}
    assert listed["#build"]["yours"]
    assert "#build" in ann.does("channels")
    ann.does("channels", "leave", "#build")
    assert ann.run("channels", "leave", "#build").returncode == exits.NOTHING
    bob.does("send", "#build", "-b", "It is red.")
    assert len(ann.json("inbox")["messages"]) == 1


def test_who_joins_later_can_hear_what_was_said_before(ann: Person) -> None:
    ann.does("channels", "join", "#news")
    ann.does("send", "#news", "-b", "old")
    bob = ann.beside("bob")
    assert bob.json("channels", "join", "#news", "--since", "all")["waiting"] == 1
    assert [each["preview"] for each in bob.json("inbox")["messages"]] == ["old"]


def test_one_can_wait_for_a_channel_alone(ann: Person) -> None:
    ann.does("channels", "join", "#wanted")
    bob = ann.beside("bob")
    bob.does("send", "ann", "-b", "direct")
    bob.does("send", "#wanted", "-b", "published")
    [mail] = ann.json("wait", "--timeout", "0", "--from", "#wanted")["messages"]
    assert mail["body"] == "published"


@pytest.mark.parametrize("arguments", [("join",), ("list", "#x"), ("leave", "#x", "--since", "2h"), ("make", "#x")])
def test_what_means_nothing_is_said(ann: Person, arguments: tuple[str, ...]) -> None:
    assert ann.run("channels", *arguments).returncode == exits.MISUNDERSTOOD


def test_a_channel_that_is_not_there_is_refused_with_what_helps(ann: Person) -> None:
    done = ann.run("channels", "leave", "#nothing")
    assert done.returncode == exits.REFUSED
    assert "`mcp-mailbox channels join '#nothing'` makes it." in done.stderr
