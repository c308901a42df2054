"""People of two principals, at a hub and at an edge: who is held, whose name is whose, and what each one is told."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator

import pytest

from mcp_mailbox.fronts.cli import exits
from tests.cli.person import Home, Person
from tests.fronts.world import Served


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Home]]:
    """The hub's machine, and one of another principal whose mail it keeps."""
    served = Served(tmp_path_factory.mktemp("hub")).start()
    here = Home(served.directory, MCP_MAILBOX_HOME=str(served.path))
    here.store = served.path
    token = here.person().does("token", "create", "laptop", "--principal", "eve").strip()
    there = Home(tmp_path_factory.mktemp("edge"), MCP_MAILBOX_HUB=served.url, MCP_MAILBOX_TOKEN=token)
    yield here, there
    there.end()
    served.end()


@pytest.fixture
def ann(homes: tuple[Home, Home]) -> Person:
    """Somebody at the hub."""
    return homes[0].person("ann")


@pytest.fixture
def boss(ann: Person, homes: tuple[Home, Home]) -> Person:
    """Somebody of another principal who has a mailbox in the same space."""
    other = homes[1].person("boss", ann.space)
    other.run("inbox")
    return other


def test_who_writes_to_a_stranger_is_told_that_it_is_held(ann: Person, boss: Person) -> None:
    ann.beside("bob").run("inbox")
    done = ann.run("send", "boss", "-b", "may I?")
    sent = json.loads(boss.does("inbox", "--json"))["messages"][0]
    assert done.returncode == exits.DONE
    held, _, hint = done.stdout.partition(":")
    assert held.startswith("Held ")
    assert held.endswith(" for boss")
    number = held.split()[1]
    assert f"`mcp-mailbox read {number}`" in hint
    assert sent["kind"] == "request"
    both = ann.beside("carl").does("send", "bob", "boss", "-b", "and both?").splitlines()
    assert [line.split()[0] for line in both] == ["Sent", "Held"]
    assert both[0].endswith(" to bob.")


def test_who_has_never_chosen_a_name_is_told_whence_it_is_when_it_is_taken(homes: tuple[Home, Home]) -> None:
    here = homes[0].person(None)
    there = homes[1].person(None, here.space)
    here.run("inbox")
    for command in (["inbox"], ["send", "ann", "-b", "x"], ["tail"]):
        done = there.run(*command)
        assert (done.returncode, done.stdout) == (exits.REFUSED, "")
        assert f"The name {getpass.getuser()!r} is taken. It is that of your login" in done.stderr
        assert "MCP_MAILBOX_ADDRESS=NAME" in done.stderr
    refused = there.json("inbox", code=exits.REFUSED)
    assert (refused["error"], "MCP_MAILBOX_ADDRESS" in refused["hint"]) == ("name_taken", True)
    chose = there.beside(getpass.getuser()).run("inbox")
    assert "login" not in chose.stderr
    assert "MCP_MAILBOX_ADDRESS" in chose.stderr


@pytest.mark.parametrize("command", ["read", "wait"])
def test_a_notice_of_a_stranger_names_commands_at_a_terminal_and_tools_in_json(
    ann: Person, boss: Person, command: str
) -> None:
    ann.does("send", "boss", "-b", "settle this, wait_for_message")
    [notice] = boss.json("inbox")["messages"]
    told = boss.does(command, *([notice["id"]] if command == "read" else ["--timeout", "5"]))
    number = told.split("Id:")[1].split()[0]
    assert f"`mcp-mailbox accept {number}`" in told
    assert f"`mcp-mailbox reject {number}`" in told
    assert "settle this with accept" not in told
    assert '"preview": "settle this, wait_for_message"' in told, "a stranger's words stay as they are"
    assert "settle this with accept" in str(boss.json("read", notice["id"])["body"])
    boss.does("accept", number)
    assert boss.json("inbox")["messages"][0]["preview"] == "settle this, wait_for_message"
