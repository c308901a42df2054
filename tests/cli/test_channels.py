"""`mcp-mailbox channels`, and mail to one, as a person types it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from mcp_mailbox import frames, rendezvous
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
    assert "made and joined, 1 member." in ann.run("channels", "join", "#build").stderr
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


def test_what_a_channel_kept_no_more_is_told_once_where_one_lists_or_waits(ann: Person) -> None:
    for number, look in enumerate((["inbox"], ["wait", "--timeout", "0"])):
        bob = ann.beside(f"bob{number}")
        who = {"request": f"keep {number}", "own": bob.name, "space": bob.space}
        asked = {"do": "subscribe", "who": who, "given": {"channel": f"#brief{number}", "keep": 1}}
        answer = rendezvous.ask(str(ann.home.store), frames.COMMAND, json.dumps(asked).encode().hex(), start=True)
        assert "error" not in json.loads(answer or b"{}")
        for _ in range(3):
            ann.does("send", f"#brief{number}", "-b", "news")
        assert f"2 messages were gone from #brief{number}" in bob.run(*look).stderr
        assert "gone from" not in bob.run(*look).stderr


def test_who_looks_for_mail_of_somebody_who_is_not_there_is_asked_who_is_meant(ann: Person) -> None:
    for look in (["wait", "--timeout", "0", "--from", "anm"], ["search", "--from", "anm"]):
        done = ann.run(*look)
        assert (done.returncode, "Did you mean 'ann'?" in done.stderr) == (exits.NOTHING, True)
    assert "Did you mean" in ann.json("wait", "--timeout", "0", "--from", "anm", code=exits.NOTHING)["hint"]


def test_what_a_channel_keeps_is_exported(ann: Person) -> None:
    ann.does("channels", "join", "#minutes")
    for body in ("first", "second"):
        ann.does("send", "#minutes", "-b", body)
    lines = ann.does("export", "--channel", "#minutes").splitlines()
    assert [json.loads(line)["body"] for line in lines] == ["first", "second"]
    assert "# Mail of `#minutes@" in ann.does("export", "--channel", "#minutes", "--format", "markdown")
    assert ann.run("export", "--channel", "#nothing").returncode == exits.REFUSED
    for line in (["export"], ["export", "ann", "--channel", "#minutes"]):
        assert ann.run(*line).returncode == exits.MISUNDERSTOOD
