"""What cannot be: a clear refusal that the model can act on, nothing stored, and the next call works."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from tests.fronts.world import Era, Home, Json, Raw, Town, both_eras

pytestmark = both_eras

NAMES = {
    "empty": ("", "bad_name"),
    "of 10 KB": ("x" * 10_240, "bad_name"),
    "a path": ("../../etc", "bad_name"),
    "an absolute path": ("/etc/passwd", "bad_name"),
    "two dots": ("..", "bad_name"),
    "a NUL": ("a\0b", "bad_name"),
    "a line break": ("a\nb", "bad_name"),
    "a right-to-left override": ("a\u202eb", "bad_name"),
    "a zero-width joiner": ("a\u200db", "bad_name"),
    "an emoji": ("🙂", "bad_name"),
    "a space": ("a b", "bad_name"),
    "two at signs": ("a@b@c", "bad_name"),
    "an empty space": ("a@", "bad_name"),
    "not in normal form": ("e\u0301", "bad_name"),
    "full width": ("\uff41lice", "bad_name"),
    "a homoglyph": ("\u0430lice", "name_confusable"),  # the first letter is Cyrillic
    "a number": (7, "bad_argument"),
    "a list": (["a"], "bad_argument"),
}


class Alice:
    """A host by hand for all rows of a table, with one message in its mailbox: after each row it is still alone."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        raw.greet()
        raw.call("create_mailbox", name="alice")
        self.sent: str = raw.call("send", to="alice", body="present")["id"]

    def refused(self, tool: str, arguments: Json) -> str:
        """Return the code of the refusal."""
        self.raw.write(self.raw.tool(tool, **arguments))
        result = self.raw.answer()
        assert result["isError"], result
        problem: Json = result["structuredContent"]
        assert json.loads(result["content"][0]["text"]) == problem
        assert problem["message"]
        assert problem["hint"], "a refusal says what to do"
        assert len(json.dumps(problem)) < 1000
        [message] = self.raw.call("list_inbox")["messages"]
        assert (message["id"], message.get("state")) == (self.sent, None)
        self.raw.write(self.raw.line("resources/list"))
        assert len(self.raw.answer()["resources"]) == 1
        code: str = problem["error"]
        return code


@pytest.fixture(scope="module")
def alice(shared_home: Home) -> Iterator[Alice]:
    town = Town(shared_home, "refused")
    yield Alice(Raw(town.host()))
    town.end()


@pytest.mark.parametrize("what", NAMES)
def test_a_name_that_cannot_be_is_refused(alice: Alice, what: str) -> None:
    name, code = NAMES[what]
    assert alice.refused("create_mailbox", {"name": name}) == code
    if code == "bad_name":
        assert alice.refused("send", {"to": name, "body": "x"}) == code
        assert alice.refused("send", {"to": ["alice", name], "body": "x"}) == code
        assert alice.refused("list_inbox", {"mailbox": name}) == code


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "an unknown recipient": ("send", {"to": "someone-else", "body": "x"}, "unknown_mailbox"),
    "no recipient": ("send", {"to": [], "body": "x"}, "bad_argument"),
    "an empty recipient": ("send", {"to": "", "body": "x"}, "bad_name"),
    "101 recipients": ("send", {"to": [f"a{n}" for n in range(101)], "body": "x"}, "bad_argument"),
    "a number as recipient": ("send", {"to": 7, "body": "x"}, "bad_argument"),
    "nested recipients": ("send", {"to": [["alice"]], "body": "x"}, "bad_argument"),
    "an object as recipient": ("send", {"to": {"name": "alice"}, "body": "x"}, "bad_argument"),
    "no body": ("send", {"to": "alice"}, "bad_argument"),
    "one byte too many in JSON": ("send", {"to": "alice", "body": {"text": "x" * 262_134}}, "body_too_large"),
    "the largest time to live": ("send", {"to": "alice", "body": "x", "ttl": 1e308}, "bad_argument"),
    "no time to live": ("send", {"to": "alice", "body": "x", "ttl": 0}, "bad_argument"),
    "a time to live of 2,000 years": ("send", {"to": "alice", "body": "x", "ttl": 6.3e10}, "bad_argument"),
    "a time to live that ends first": ("send", {"to": "alice", "body": "x", "ttl": 5, "delay": 5}, "bad_argument"),
    "a delay into the past": ("send", {"to": "alice", "body": "x", "delay": -1}, "bad_argument"),
    "an empty topic": ("send", {"to": "alice", "body": "x", "topic": ""}, "bad_argument"),
    "101 recipients, half of them in cc": (
        "send",
        {"to": [f"a{n}" for n in range(50)], "cc": [f"b{n}" for n in range(51)], "body": "x"},
        "bad_argument",
    ),
    "a reason for an ack": ("settle", {"ids": ["{id}"], "outcome": "ack", "reason": "x"}, "bad_argument"),
    "a delayed ack": ("settle", {"ids": ["{id}"], "outcome": "ack", "delay": 5}, "bad_argument"),
    "a release for a year": ("settle", {"ids": ["{id}"], "outcome": "release", "delay": 31_536_000}, "bad_argument"),
    "no attempts": ("create_mailbox", {"attempts": 0}, "bad_argument"),
    "a view that there is not": ("list_inbox", {"show": "spam"}, "bad_argument"),
    "the postmaster's name": ("create_mailbox", {"name": "Postmaster"}, "name_taken"),
    "one byte too many": ("send", {"to": "alice", "body": "x" * 262_145}, "body_too_large"),
    "one byte too many in two-byte letters": ("send", {"to": "alice", "body": "é" * 131_072 + "x"}, "body_too_large"),
    "an unknown priority": ("send", {"to": "alice", "body": "x", "priority": "asap"}, "bad_argument"),
    "a subject of two lines": ("send", {"to": "alice", "body": "x", "subject": "a\nb"}, "bad_argument"),
    "a subject of 201 characters": ("send", {"to": "alice", "body": "x", "subject": "a" * 201}, "bad_argument"),
    "an empty key": ("send", {"to": "alice", "body": "x", "key": ""}, "bad_argument"),
    "a reply to nothing": ("send", {"to": "alice", "body": "x", "reply_to": "zzzz"}, "unknown_message"),
    "a reply to an empty id": ("send", {"to": "alice", "body": "x", "reply_to": ""}, "unknown_message"),
    "from another's mailbox": ("send", {"to": "alice", "body": "x", "mailbox": "zzzz"}, "unknown_mailbox"),
    "a negative time-out": ("wait_for_message", {"timeout": -1}, "bad_argument"),
    "a time-out in words": ("wait_for_message", {"timeout": "a minute"}, "bad_argument"),
    "NaN as text": ("wait_for_message", {"timeout": "NaN"}, "bad_argument"),
    "Infinity as text": ("wait_for_message", {"timeout": "Infinity"}, "bad_argument"),
    "a list as time-out": ("wait_for_message", {"timeout": [1]}, "bad_argument"),
    "a wait in an unknown thread": ("wait_for_message", {"thread": "zzzz", "timeout": 0}, "unknown_message"),
    "a wait for a sender that cannot be": ("wait_for_message", {"from": "..", "timeout": 0}, "bad_name"),
    "limit 0": ("list_inbox", {"limit": 0}, "bad_argument"),
    "limit 1.5": ("list_inbox", {"limit": 1.5}, "bad_argument"),
    "a made-up cursor": ("list_inbox", {"cursor": "next"}, "bad_argument"),
    "an id as cursor": ("list_inbox", {"cursor": "{id}"}, "bad_argument"),
    "since yesterday": ("list_inbox", {"since": "yesterday"}, "bad_argument"),
    "since a number that is no time": ("list_inbox", {"since": 17}, "bad_argument"),
    "a made-up id": ("read", {"id": "1"}, "unknown_message"),
    "an empty id": ("read", {"id": ""}, "unknown_message"),
    "an id of 10 KB": ("read", {"id": "x" * 10_240}, "unknown_message"),
    "an id as number": ("read", {"id": 7}, "bad_argument"),
    "an id with a letter changed": ("read", {"id": "{id}0"}, "unknown_message"),
    "an id with a path": ("read", {"id": "../{id}"}, "unknown_message"),
    "an id with a NUL": ("read", {"id": "{id}\0"}, "unknown_message"),
    "an id in digits of another script": ("read", {"id": "{id}.\u0661"}, "unknown_message"),
    "an offset beyond the end": ("read", {"id": "{id}", "offset": 8}, "bad_argument"),
    "a negative offset": ("read", {"id": "{id}", "offset": -1}, "bad_argument"),
    "no id": ("read", {}, "bad_argument"),
    "no ids": ("settle", {"ids": [], "outcome": "ack"}, "bad_argument"),
    "101 ids": ("settle", {"ids": ["{id}"] * 101, "outcome": "ack"}, "bad_argument"),
    "an unknown outcome": ("settle", {"ids": ["{id}"], "outcome": "fail"}, "bad_argument"),
    "an about of 501 characters": ("create_mailbox", {"about": "x" * 501}, "bad_argument"),
    "an empty skill": ("create_mailbox", {"skills": [""]}, "bad_argument"),
    "an about with an escape": ("create_mailbox", {"about": "\x1b[2J"}, "bad_argument"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_argument_that_cannot_be_is_refused(alice: Alice, what: str) -> None:
    tool, arguments, code = REFUSED[what]

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(each) for each in value]
        return value.replace("{id}", alice.sent) if isinstance(value, str) else value

    assert alice.refused(tool, {name: fill(value) for name, value in arguments.items()}) == code


async def test_an_unknown_recipient_is_told_who_may_be_meant(town: Town) -> None:
    async with town.pair(first="alice", second="bartholomew") as (alice, _):
        problem = await alice.refused("send", to="bartolomew", body="x")
        assert problem == {
            "error": "unknown_mailbox",
            "message": "No mailbox 'bartolomew'.",
            "hint": "Did you mean 'bartholomew'?",
        }


async def test_of_many_unknown_recipients_the_first_are_told_who_may_be_meant(town: Town) -> None:
    """To look for what is like a name takes long, and one send has a hundred."""
    async with town.pair(first="alice", second="bartholomew") as (alice, _):
        wrong = [f"bartholomew{number}" for number in range(10)]
        sent = await alice.send(["bartholomew", *wrong, *(f"#al{number}" for number in range(10))])
        told = [each["hint"] for each in sent["to"] if each.get("hint", "").startswith("Did you mean")]
        assert told == ["Did you mean 'bartholomew'?"] * 5
        assert all(each.get("hint") for each in sent["to"][1:])


async def test_a_mailbox_that_one_does_not_have_is_told_as_ones_own(town: Town) -> None:
    async with town.agent("bartholomew") as agent:
        assert await agent.refused("list_inbox", mailbox="bartolomew") == {
            "error": "unknown_mailbox",
            "message": "You have no mailbox 'bartolomew'.",
            "hint": "Did you mean 'bartholomew'?",
        }
        assert await agent.refused("send", to="bartholomew", body="x", mailbox="zzzz") == {
            "error": "unknown_mailbox",
            "message": "You have no mailbox 'zzzz'.",
            "hint": "create_mailbox makes it.",
        }
        assert (await agent.refused("send", to="zzzz", body="x"))["message"] == "No mailbox 'zzzz'."


@pytest.mark.parametrize(
    ("tool", "given", "said"),
    [
        ("send", {"to": 7, "body": "x"}, "`to`: give a text or a list of texts."),
        ("send", {"to": {"name": "alice"}, "body": "x"}, "`to`: give a text or a list of texts."),
        ("send", {"to": ["alice", 7], "body": "x"}, "`to`: give a text or a list of texts."),
        ("settle", {"ids": 7, "outcome": "ack"}, "`ids`: give a text or a list of texts."),
        ("create_mailbox", {"skills": [7]}, "`skills`: give a text or a list of texts."),
    ],
)
async def test_several_are_asked_for_in_words_that_a_model_can_follow(
    town: Town, tool: str, given: Json, said: str
) -> None:
    async with town.agent("alice") as alice:
        assert (await alice.refused(tool, **given))["message"] == said


async def test_before_there_is_a_mailbox_the_refusal_says_how_to_get_one(town: Town, era: Era) -> None:
    async with town.agent(era=era) as agent:
        for tool, arguments in (
            ("send", {"to": "bob", "body": "x"}),
            ("wait_for_message", {}),
            ("list_inbox", {}),
            ("read", {"id": "x"}),
            ("settle", {"ids": ["x"], "outcome": "ack"}),
        ):
            problem = await agent.refused(tool, **arguments)
            assert problem["error"] == "no_mailbox"
            assert problem["hint"] == (
                "Call create_mailbox first."
                if agent.remembers
                else "Calls stand alone here: pass `mailbox` in each; create_mailbox makes one."
            )


@pytest.mark.parametrize("setting", [{"MCP_MAILBOX_SPACE": "a b"}, {"MCP_MAILBOX_ADDRESS": "../x"}])
async def test_a_wrong_configuration_is_told_to_the_model(town: Town, setting: dict[str, str]) -> None:
    [name] = setting
    async with town.agent(env=setting) if name != "MCP_MAILBOX_SPACE" else Town(town.home, "a b").agent() as agent:
        problem = await agent.refused("create_mailbox")
        assert problem["error"] == "bad_name"
        header = {"MCP_MAILBOX_SPACE": "Mailbox-Space", "MCP_MAILBOX_ADDRESS": "Mailbox-Address"}[name]
        assert problem["message"].startswith((f"{name}: ", f"{header}: "))


async def test_huge_time_outs_are_capped_and_small_ones_kept(town: Town) -> None:
    async with town.agent("alice") as alice:
        await alice.send("alice", "x")
        assert len(await alice.wait(1e308)) == 1
        assert await alice.wait(1e-300) == []


async def test_the_largest_body_arrives(town: Town, era: Era) -> None:
    async with town.agent("alice", era) as alice:
        for body in ("x" * 262_144, "é" * 131_072):
            sent = await alice.send("alice", body)
            assert (await alice.resource(f"{alice.uri}/{sent['id']}"))["body"] == body


async def test_an_id_of_another_store_is_unknown(town: Town, new_town: Callable[..., Town]) -> None:
    async with town.agent("alice") as alice, new_town().agent("alice") as elsewhere:
        here, there = await alice.send("alice"), await elsewhere.send("alice")
        for agent, id_ in ((alice, there["id"]), (elsewhere, here["id"])):
            assert (await agent.refused("read", id=id_))["error"] == "unknown_message"


async def test_anothers_message_is_as_unknown_as_one_that_is_not(town: Town) -> None:
    async with town.agents(("alice", "2025-11-25"), ("bob", "2025-11-25"), ("eve", "2025-11-25")) as (alice, _, eve):
        sent = await alice.send("bob", "secret")
        problem = await eve.refused("read", id=sent["id"])
        unknown = await eve.refused("read", id="00000")
        assert problem["error"] == unknown["error"] == "unknown_message"
        assert problem["message"].replace(sent["id"], "00000") == unknown["message"]


async def test_an_unknown_tool_is_told_which_there_are(town: Town, era: Era) -> None:
    async with town.agent(era=era) as agent:
        with pytest.raises(MCPError, match=r"No tool 'fetch_mail'\. There are create_mailbox, send, ") as caught:
            await agent.client.call_tool("fetch_mail", {})
        assert caught.value.error.code == -32602


# -- lines that are no messages


async def test_a_lone_surrogate_is_told_to_the_model_and_stores_nothing(town: Town) -> None:
    async with town.agent("alice") as alice:
        raw = Raw(town.host())
        raw.greet()
        raw.call("create_mailbox", name="alice")
        line = raw.tool("send", to="alice", body="BAD")
        for bad in (b"\\ud800", b"\\udc00\\ud800", b"\xed\xa0\x80", b"\xff", b"\xc3"):
            raw.write(line.replace(b"BAD", bad))
            result = raw.answer()
            assert result["isError"]
            assert result["structuredContent"]["error"] == "bad_argument"
            assert "surrogate" in result["structuredContent"]["message"]
            assert result["structuredContent"]["hint"]
        assert await alice.bodies() == []
        raw.call("send", to="alice", body="\ud83d\ude42")  # a pair is a character
        assert await alice.bodies() == ["🙂"]


@pytest.mark.parametrize("number", [b"null", b"1.5", b"true", b"[]"])
async def test_a_request_whose_id_is_none_is_refused_and_not_taken_for_a_notification(
    town: Town, number: bytes
) -> None:
    raw = Raw(town.host())
    raw.greet()
    raw.write(b'{"jsonrpc":"2.0","id":' + number + b',"method":"ping"}')
    refused = raw.message(None)
    assert (refused["id"], refused["error"]["code"]) == (None, -32600)
    raw.write(raw.line("resources/list"))
    assert "resources" in raw.answer()


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
async def test_what_is_no_number_in_json_is_told_to_the_model(town: Town, number: bytes) -> None:
    raw = Raw(town.host())
    raw.greet()
    raw.call("create_mailbox", name="alice")
    raw.write(raw.tool("wait_for_message", timeout=77).replace(b"77", number))
    result = raw.answer()
    assert result["isError"]
    assert result["structuredContent"]["message"] == f"{number.decode()} is not JSON."
    raw.write(raw.tool("wait_for_message", timeout=77).replace(b"77", b"1e999"))
    assert raw.answer()["structuredContent"]["error"] == "bad_argument"
    assert raw.call("send", to="alice", body="NaN and Infinity are words")["id"]


FIRST = b'{"jsonrpc":"2.0","id":77777,"method":"x","params":'
DEEP = b"[" * 100_000 + b"]" * 100_000
LINES = {
    "no JSON": (b"hello", -32700, None),
    "half a message": (b'{"jsonrpc":"2.0","id":77777,"method":"to', -32700, 77777),
    "a string": (b'"hello"', -32600, None),
    "a batch": (b'[{"jsonrpc":"2.0","id":77777,"method":"ping"}]', -32600, None),
    "an empty object": (b"{}", -32600, None),
    "another protocol": (b'{"id":77777,"method":"ping"}', -32600, 77777),
    "deep, the id first": (FIRST + b'{"a":' + DEEP + b"}}", -32700, 77777),
    "deep, the id last": (b'{"method":"x","params":{"a":' + DEEP + b'},"jsonrpc":"2.0","id":"a"}', -32700, "a"),
    "deep, the id of something else": (b'{"method":"x","params":{"id":5,"a":' + DEEP, -32700, None),
    "300 deep": (
        FIRST + b'{"a":' + DEEP[99_700:100_300] + b"}}",
        -32700,
        77777,
    ),
    "10 MB": (FIRST + b'{"a":"' + b"x" * 10_000_000 + b'"}}', -32600, 77777),
    "a number of 5000 digits": (
        FIRST + b"[" + b"9" * 5000 + b"]}",
        -32700,
        77777,
    ),
    "an unknown method": (b'{"jsonrpc":"2.0","id":77777,"method":"mail/send"}', -32601, 77777),
    "params that are a list": (b'{"jsonrpc":"2.0","id":77777,"method":"tools/list","params":[1]}', -32600, 77777),
}


@pytest.mark.parametrize("what", LINES)
def test_a_line_that_is_no_message_is_answered_and_the_next_one_works(alice: Alice, what: str) -> None:
    line, code, id_ = LINES[what]
    alice.raw.write(line)
    answer = alice.raw.message(id_)
    assert answer["error"]["code"] == code
    assert answer["error"]["message"]
    assert len(json.dumps(answer)) < 500
    assert alice.raw.call("list_inbox")["unread"] == 1


async def test_two_requests_under_one_id_are_not_confused(town: Town) -> None:
    raw = Raw(town.host())
    raw.greet()
    raw.call("create_mailbox", name="alice")
    wait = raw.tool("wait_for_message", timeout=50)
    raw.write(wait, wait)
    assert raw.message(raw.asked)["error"]["message"].endswith("is that of a request under way.")
    first = raw.asked
    raw.call("send", to="alice", body="x")
    assert raw.message(first)["result"]["structuredContent"]["messages"][0]["body"] == "x"


@pytest.mark.parametrize("id_", ['"²"', '"\u0663"', '"1_0"', '" 9"', '""', "-1", '"x\\ny"'])
def test_an_id_of_any_kind_comes_back_as_it_was(alice: Alice, id_: str) -> None:
    alice.raw.write(f'{{"jsonrpc":"2.0","id":{id_},"method":"ping"}}'.encode())
    assert alice.raw.message(json.loads(id_))["result"] == {}
