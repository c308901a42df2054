"""What models get wrong, and what they are told: a table of plausible mistakes.

What can only mean one thing does it: the same answer, and the same state afterwards, as the call in the right words.
Anything else is told in a sentence or two, here in full, and changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import anyio
import pytest

from mcp_mailbox.fronts.mcp.tools import TOOLS
from mcp_mailbox.fronts.render import NOTHING_YET
from tests.fronts.conftest import HTTP, STDIO
from tests.fronts.world import Agent, Json, Town, both_eras

pytestmark = both_eras[1:]  # not all of them are async


@dataclass(frozen=True)
class Row:
    """What a model calls. In texts, `{held}` is what alice has leased; see `_scene` for the others."""

    tool: str
    given: Json


@dataclass(frozen=True)
class Does(Row):
    """It is taken for the call with these arguments."""

    meant: Json


@dataclass(frozen=True)
class Tells(Row):
    """It answers this."""

    answer: Json


def tells(tool: str, given: Json, message: str, hint: str, error: str = "bad_argument") -> Tells:
    return Tells(tool, given, {"error": error, "message": message, "hint": hint})


BOB = {"to": "bob", "body": "x"}
SPANS = 'Give seconds, such as 90, or "15m", "2h", "1d".'
COPY = "It is mistyped, or gone: settled mail is removed after a while. Copy an id from list_inbox or wait_for_message."
OUTCOMES = "ack, release, reject, extend, retry, purge, accept"
SENDER = "Who sends is your mailbox; `mailbox` selects another of yours."
AWAIT = "To wait for an answer give `thread`; what you are done with, `ack`."
SETTLED = "Done is ack, back for anyone is release, never again is reject; a request is let in with accept."
SHOWN = "Give one of them. Without it you see what waits; what you sent is found with `from`, your own address."
LOOK_IN = 'Give `from` "#name" for what is in a channel.'
SINCE = 'Give "all", a time such as 2026-11-22T18:30:00Z, or the id of a message in the channel.'
KEEP = "Give how many messages it keeps, 1 to 1,000,000."
JOIN = {"channel": "#build"}
DESCRIBE = "`reason` is told to the sender; to answer, use send(reply_to)."

MISTAKES: dict[str, Row] = {
    # -- whom
    "several recipients as JSON text": Does(
        "send", {"to": '["bob", "carol"]', "body": "x"}, {"to": ["bob", "carol"], "body": "x"}
    ),
    "several recipients with commas": Does(
        "send", {"to": "bob, carol,", "body": "x"}, {"to": ["bob", "carol"], "body": "x"}
    ),
    "an address as mail programs write it": Does("send", {"to": "Bob <bob@{space}>", "body": "x"}, BOB),
    "an address as people mention it": Does("send", {"to": "@bob", "body": "x"}, BOB),
    "an address in quotes": Does("send", {"to": "`bob`", "body": "x"}, BOB),
    "an inbox's URI": Does("send", {"to": "mailbox:bob@{space}", "body": "x"}, BOB),
    "another case": Does("send", {"to": "BOB", "body": "x"}, BOB),
    "oneself": Does("send", {"to": "alice@{space}", "body": "x"}, {"to": "alice", "body": "x"}),
    "somebody twice": Does("send", {"to": ["bob", "Bob"], "cc": "bob", "body": "x"}, BOB),
    "an object for an address": tells(
        "send",
        {"to": {"name": "bob"}, "body": "x"},
        "`to`: give a text or a list of texts.",
        'Such as "bob", or ["bob", "carol"].',
    ),
    "a typing error in an address": tells(
        "send", {"to": "bobb", "body": "x"}, "No mailbox 'bobb'.", "Did you mean 'bob'?", "unknown_mailbox"
    ),
    "a space that is none": tells(
        "send",
        {"to": "bob@nowhere", "body": "x"},
        "No mailbox 'bob@nowhere'.",
        "Did you mean 'bob'?",
        "unknown_mailbox",
    ),
    "somebody who is not there": tells(
        "send",
        {"to": "reviewer", "body": "x"},
        "No mailbox 'reviewer'.",
        "Its owner makes it; find_mailboxes shows who is there.",
        "unknown_mailbox",
    ),
    "one of several is not there": Tells(
        "send",
        {"to": ["bob", "karol"], "body": "x"},
        {
            "id": "ID",
            "thread": "ID",
            "to": [
                {"address": "bob@{space}", "state": "stored"},
                {
                    "address": "karol@{space}",
                    "error": "unknown_mailbox",
                    "message": "No mailbox 'karol'.",
                    "hint": "Did you mean 'carol'?",
                },
            ],
        },
    ),
    "two names in one": tells(
        "send",
        {"to": "bob and carol", "body": "x"},
        "The name 'bob and carol' contains u+0020 space.",
        "A name has letters and digits of any script, with . _ - between them, such as 'bob-and-carol'.",
        "bad_name",
    ),
    "nobody": tells(
        "send", {"body": "x"}, "`to` is required.", "Name whom you write to; to answer, `from` of the message."
    ),
    # -- other words for a parameter
    "recipient, message": Does("send", {"recipient": "bob", "message": "x"}, BOB),
    "recipients, content": Does("send", {"recipients": ["bob"], "content": "x"}, BOB),
    "text, title": Does("send", {"to": "bob", "text": "x", "title": "y"}, BOB | {"subject": "y"}),
    "camel case": Does("send", BOB | {"replyTo": "{held}"}, BOB | {"reply_to": "{held}"}),
    "two bodies": tells(
        "send", BOB | {"message": "y"}, "send has no parameter `message`.", "`body` is given already: give one of them."
    ),
    "a sender": tells("send", BOB | {"from": "carol"}, "send has no parameter `from`.", SENDER),
    "a flag for the priority": tells(
        "send", BOB | {"urgent": True}, "send has no parameter `urgent`.", 'Give `priority` "urgent".'
    ),
    "a misspelt parameter": tells(
        "send", BOB | {"prority": "low"}, "send has no parameter `prority`.", "Did you mean `priority`?"
    ),
    "the message to read by its longer name": Does("read", {"message_id": "{sent}"}, {"id": "{sent}"}),
    "one id to settle": Does("settle", {"id": "{held}", "outcome": "ack"}, {"ids": ["{held}"], "outcome": "ack"}),
    "paths to reserve": Does("reserve", {"paths": ["src/"]}, {"names": ["src/"]}),
    "milliseconds by name": tells(
        "wait_for_message",
        {"timeout_ms": 500},
        "wait_for_message has no parameter `timeout_ms`.",
        "Did you mean `timeout`?",
    ),
    "an answer waited for by its message": tells(
        "wait_for_message", {"reply_to": "{sent}"}, "wait_for_message has no parameter `reply_to`.", AWAIT
    ),
    # -- what is said
    "an object as body": Does("send", {"to": "bob", "body": {"a": [1, None]}}, {"to": "bob", "body": {"a": [1, None]}}),
    "a number as body": Does("send", {"to": "bob", "body": 7}, {"to": "bob", "body": 7}),
    "an empty body": Does(
        "send", {"to": "bob", "body": "", "subject": "ping"}, {"to": "bob", "body": "", "subject": "ping"}
    ),
    "null as body": tells(
        "send", {"to": "bob", "body": None}, "`body` is required.", "Say what you have to say in `body`."
    ),
    "a subject with a line break at its end": Does("send", BOB | {"subject": "y\n"}, BOB | {"subject": "y"}),
    "a subject of two lines": tells(
        "send", BOB | {"subject": "y\nz"}, "`subject` has a line break or a NUL.", "Write it in one line."
    ),
    # -- priorities, times, numbers, yes and no
    "a priority in capitals": Does("send", BOB | {"priority": "URGENT"}, BOB | {"priority": "urgent"}),
    "the top of another scale": Does("send", BOB | {"priority": "high"}, BOB | {"priority": "urgent"}),
    "the middle of another scale": Does("send", BOB | {"priority": "medium"}, BOB),
    "a number as priority": tells(
        "send",
        BOB | {"priority": 1},
        "`priority`: 1 is none of urgent, normal, low.",
        "Give one of them, or leave it out.",
    ),
    "an hour in words": Does("send", BOB | {"ttl": "1h"}, BOB | {"ttl": 3600}),
    "an hour and a half": Does("reserve", {"names": "a", "ttl": "1h 30min"}, {"names": "a", "ttl": 5400}),
    "seconds as text": Does("send", BOB | {"delay": "3600"}, BOB | {"delay": 3600}),
    "a time to live of -1": tells(
        "send", BOB | {"ttl": -1}, "`ttl`: -1 is negative.", f"{SPANS[:-1]}; leave it out for the default."
    ),
    "a moment as time to live": tells(
        "send", BOB | {"ttl": "2026-12-01T00:00:00Z"}, "`ttl`: '2026-12-01T00:00:00Z' is no span of time.", SPANS
    ),
    "true as time to live": tells("send", BOB | {"ttl": True}, "`ttl`: true is no span of time.", SPANS),
    "yes in words": Does("send", BOB | {"receipt": "true"}, BOB | {"receipt": True}),
    "neither yes nor no": tells(
        "send", BOB | {"receipt": "maybe"}, "`receipt`: 'maybe' will not do.", "Give true or false."
    ),
    "more than a page": Does("list_inbox", {"limit": 1000}, {"limit": 100}),
    "a limit as text": Does("list_inbox", {"limit": "1"}, {"limit": 1}),
    "no limit": tells("list_inbox", {"limit": 0}, "`limit`: 0 will not do.", "Give a whole number from 1 to 100."),
    "all as limit": tells(
        "list_inbox", {"limit": "all"}, "`limit`: 'all' will not do.", "Give a whole number from 1 to 100."
    ),
    "seconds since 1970": Does("list_inbox", {"since": 1700000000}, {"since": "2023-11-14T22:13:20Z"}),
    "milliseconds since 1970": Does("list_inbox", {"since": "4102444800000"}, {"since": "2100-01-01"}),
    "yesterday": tells(
        "list_inbox",
        {"since": "yesterday"},
        "`since`: 'yesterday' is no time.",
        "Give a time such as 2026-11-22T18:30:00Z.",
    ),
    # -- waiting
    "a wait without patience": Does("wait_for_message", {"timeout": "0"}, {"timeout": 0}),
    "mail of somebody who is not there": Tells(
        "wait_for_message",
        {"from": "bobb", "timeout": 0},
        {"messages": [], "timed_out": True, "hint": f"{NOTHING_YET} Did you mean 'bob'?"},
    ),
    "a search for somebody's mail who is not there": Tells(
        "list_inbox", {"from": "bobb"}, {"messages": [], "hint": "Did you mean 'bob'?"}
    ),
    "a subject for a thread": tells(
        "wait_for_message",
        {"thread": "Deploy plan", "timeout": 0},
        "No message 'Deploy plan' in this mailbox.",
        "An id is one word, copied from list_inbox or wait_for_message; list_inbox(query=…) looks for words.",
        "unknown_message",
    ),
    "an ack that is no list": Does(
        "wait_for_message", {"ack": "{held}", "timeout": 0}, {"ack": ["{held}"], "timeout": 0}
    ),
    "acks as JSON text": Does(
        "wait_for_message", {"ack": '["{held}"]', "timeout": 0}, {"ack": ["{held}"], "timeout": 0}
    ),
    # -- which message
    "an id in quotes": Does("read", {"id": '"{mine}"'}, {"id": "{mine}"}),
    "an id with its label": Does(
        "settle", {"ids": "id: {held}", "outcome": "ack"}, {"ids": ["{held}"], "outcome": "ack"}
    ),
    "a message's URI": Does("read", {"id": "mailbox:alice@{space}/{mine}"}, {"id": "{mine}"}),
    "a list of one id": Does("read", {"id": ["{mine}"]}, {"id": "{mine}"}),
    "several ids to read": tells(
        "read", {"ids": ["{mine}", "{sent}"]}, "`id`: it has 2 ids.", "Give one in each call."
    ),
    "an id cut short": tells("read", {"id": "{cut}"}, "No message '{cut}' in this mailbox.", COPY, "unknown_message"),
    "an id of another mailbox": tells(
        "read", {"id": "{theirs}"}, "No message '{theirs}' in this mailbox.", COPY, "unknown_message"
    ),
    "no id": tells("read", {}, "`id` is required.", "Copy an id from list_inbox or wait_for_message."),
    "an offset beyond the end": tells(
        "read",
        {"id": "{mine}", "offset": 500},
        "The body has 5 characters; it does not reach offset 500.",
        "Use `more` of the page before.",
    ),
    "a reply to what one sent oneself": Does("send", BOB | {"reply_to": "{sent}"}, BOB | {"reply_to": "{sent}"}),
    "an address for a reply": tells(
        "send", BOB | {"reply_to": "bob"}, "No message 'bob' in this mailbox.", COPY, "unknown_message"
    ),
    "a cursor of another list": tells(
        "list_inbox",
        {"cursor": "{next}"},
        "'{next}' is not a cursor of this list.",
        "Copy `next` from the page before, or leave it out.",
    ),
    # -- settling
    "done": Does("settle", {"ids": ["{held}"], "outcome": "done"}, {"ids": ["{held}"], "outcome": "ack"}),
    "ACKNOWLEDGED": Does(
        "settle", {"ids": ["{held}"], "outcome": "ACKNOWLEDGED"}, {"ids": ["{held}"], "outcome": "ack"}
    ),
    "an ack without a lease": Does(
        "settle", {"ids": "{mine}", "outcome": "ack"}, {"ids": ["{mine}"], "outcome": "ack"}
    ),
    "nack": tells(
        "settle", {"ids": ["{held}"], "outcome": "nack"}, f"`outcome`: 'nack' is none of {OUTCOMES}.", SETTLED
    ),
    "no outcome": tells("settle", {"ids": ["{held}"]}, "`outcome` is required.", SETTLED),
    "what one has sent": Tells(
        "settle",
        {"ids": ["{sent}"], "outcome": "ack"},
        {
            "settled": [],
            "failed": [
                {
                    "id": "{sent}",
                    "error": "unknown_message",
                    "message": "No message '{sent}' in this mailbox.",
                    "hint": "You sent it: its recipient settles it, and read shows how far it has come.",
                }
            ],
        },
    ),
    "an older lease": Tells(
        "settle",
        {"ids": ["{stale}"], "outcome": "ack"},
        {
            "settled": [],
            "failed": [
                {
                    "id": "{stale}",
                    "error": "stale_lease",
                    "message": "The lease of {stale} ran out and the message was handed out again.",
                    "hint": "You have it again: use the id under which it came last.",
                }
            ],
        },
    ),
    # -- mailboxes
    "a name with a space in it": tells(
        "create_mailbox",
        {"name": "code reviewer"},
        "The name 'code reviewer' contains u+0020 space.",
        "A name has letters and digits of any script, with . _ - between them, such as 'code-reviewer'.",
        "bad_name",
    ),
    "a name as people mention it": tells(
        "create_mailbox",
        {"name": "@dora"},
        "'@dora' has no name before the @.",
        "An address is name or name@space.",
        "bad_name",
    ),
    "skills in one text": Does(
        "create_mailbox", {"name": "alice", "skills": "sql, python"}, {"name": "alice", "skills": ["sql", "python"]}
    ),
    "a description": Does("create_mailbox", {"name": "alice", "description": "d"}, {"name": "alice", "about": "d"}),
    "somebody who cannot be written to": tells(
        "create_mailbox",
        {"name": "alice", "contact": "private"},
        "`contact`: 'private' is none of open, space, ask, closed.",
        "Give one of them, or leave it out.",
    ),
    "a mailbox that one does not have": tells(
        "list_inbox", {"mailbox": "alic"}, "You have no mailbox 'alic'.", "Did you mean 'alice'?", "unknown_mailbox"
    ),
    "words to look for in a list": Does("find_mailboxes", {"query": ["runs", "db"]}, {"query": "runs db"}),
    "everybody": Does("find_mailboxes", {"query": "*"}, {}),
    # -- reserving
    "files with commas": Does("reserve", {"names": "src/a.py, src/b.py"}, {"names": ["src/a.py", "src/b.py"]}),
    "a path of this directory": Does("reserve", {"names": "./src/a.py"}, {"names": ["src/a.py"]}),
    "a path with backslashes": Does("reserve", {"names": "src\\a.py"}, {"names": ["src/a.py"]}),
    "two stars in a name": Does("reserve", {"names": "src/**.py"}, {"names": ["src/*.py"]}),
    "an absolute path": tells(
        "reserve",
        {"names": "/home/me/src"},
        "'/home/me/src' is an absolute path.",
        "Paths begin at the project's root.",
        "bad_name",
    ),
    "a path of Windows": tells(
        "reserve",
        {"names": "C:\\src"},
        "'C:/src' is an absolute path.",
        "Paths begin at the project's root.",
        "bad_name",
    ),
    "a path that leads out": tells(
        "reserve", {"names": "../other"}, "'../other' leads out of the project.", "Leave out `..`.", "bad_name"
    ),
    "alternatives in braces": tells(
        "reserve",
        {"names": "src/{{a,b}}.py"},
        "'src/{{a,b}}.py' has alternatives in braces.",
        "Give one name for each.",
        "bad_name",
    ),
    "a flag for the mode": tells(
        "reserve",
        {"names": "a", "exclusive": True},
        "reserve has no parameter `exclusive`.",
        'Give `mode`, "exclusive" or "shared".',
    ),
    # -- channels
    "a channel without its mark": Does("subscribe", {"channel": "build"}, JOIN),
    "channels, of which there is one": Does("subscribe", {"channels": ["#build"]}, JOIN),
    "a topic to subscribe to": Does("subscribe", {"topic": "#build"}, JOIN),
    "from the beginning": Does("subscribe", JOIN | {"since": "beginning"}, JOIN | {"since": "all"}),
    "from 0": Does("subscribe", JOIN | {"since": 0}, JOIN | {"since": "all"}),
    "how many to keep as text": Does("subscribe", {"channel": "#new", "keep": "5"}, {"channel": "#new", "keep": 5}),
    "a channel to send to": Does("send", {"channel": "#build", "body": "x"}, {"to": "#build", "body": "x"}),
    "several channels": tells(
        "subscribe", {"channel": "#build, #ops"}, "`channel`: it has 2 names.", "Give one in each call."
    ),
    "a verb for the channel": tells(
        "subscribe",
        JOIN | {"action": "leave"},
        "subscribe has no parameter `action`.",
        "To join give `channel` alone; to leave, `leave` true.",
    ),
    "a flag for the replay": tells(
        "subscribe", JOIN | {"replay": True}, "subscribe has no parameter `replay`.", 'Give `since`, such as "all".'
    ),
    "something to publish": tells(
        "subscribe",
        JOIN | {"message": "hello"},
        "subscribe has no parameter `message`.",
        'To publish use send(to="#name").',
    ),
    "others to join": tells(
        "subscribe", JOIN | {"members": ["bob"]}, "subscribe has no parameter `members`.", "Each joins by itself."
    ),
    "what a channel is for": tells(
        "subscribe", JOIN | {"about": "CI"}, "subscribe has no parameter `about`.", "A channel has a name only."
    ),
    "to leave nothing": tells(
        "subscribe",
        {"leave": True},
        "`channel` is missing: without it channels are listed.",
        'Give `channel`, such as "#build".',
    ),
    "to leave and keep": tells(
        "subscribe",
        JOIN | {"leave": True, "keep": 5},
        "`leave` goes with `channel` alone.",
        "Leave `since` and `keep` out.",
    ),
    "an hour ago": tells("subscribe", JOIN | {"since": "1h"}, "`since`: '1h' is neither a time nor an id.", SINCE),
    "true for the beginning": tells(
        "subscribe", JOIN | {"since": True}, "`since`: true is neither a time nor an id.", SINCE
    ),
    "a channel since yesterday": tells(
        "subscribe",
        JOIN | {"since": "yesterday"},
        "#build has no message 'yesterday'.",
        "Give \"all\", a time such as 2026-11-22T18:30:00Z, or an id from list_inbox(from='#build').",
        "unknown_message",
    ),
    "a channel since a message of the inbox": tells(
        "subscribe",
        JOIN | {"since": "{mine}"},
        "#build has no message '{mine}'.",
        "Give \"all\", a time such as 2026-11-22T18:30:00Z, or an id from list_inbox(from='#build').",
        "unknown_message",
    ),
    "true for how many": tells("subscribe", JOIN | {"keep": True}, "`keep`: true will not do.", KEEP),
    "days to keep": tells("subscribe", JOIN | {"keep": "30d"}, "`keep`: '30d' will not do.", KEEP),
    "nothing to keep": tells("subscribe", JOIN | {"keep": 0}, "`keep`: 0 will not do.", KEEP),
    "a mailbox named as a channel": tells(
        "create_mailbox",
        {"name": "#ops"},
        "'#ops' would be a channel.",
        "subscribe joins a channel, or makes it; choose a name without #.",
        "bad_name",
    ),
    "channels of a new mailbox": tells(
        "create_mailbox",
        {"name": "alice", "channels": ["#build"]},
        "create_mailbox has no parameter `channels`.",
        "subscribe joins a channel, one in each call.",
    ),
    "a channel in the directory": tells(
        "find_mailboxes",
        {"channel": "#build"},
        "find_mailboxes has no parameter `channel`.",
        "subscribe() lists channels.",
    ),
    "what is in a channel": tells(
        "list_inbox", {"channel": "#build"}, "list_inbox has no parameter `channel`.", LOOK_IN
    ),
    "what comes in a channel": tells(
        "wait_for_message", {"channel": "#build"}, "wait_for_message has no parameter `channel`.", LOOK_IN
    ),
    "what is in a channel without its mark": Tells(
        "list_inbox", {"from": "build"}, {"messages": [], "hint": "Did you mean '#build'?"}
    ),
    "what comes in a channel without its mark": Tells(
        "wait_for_message",
        {"from": "build", "timeout": 0},
        {"messages": [], "timed_out": True, "hint": f"{NOTHING_YET} Did you mean '#build'?"},
    ),
    # -- which list
    "dead letters in two words": Does("list_inbox", {"show": "dead letters"}, {"show": "dead"}),
    "one request": Does("list_inbox", {"show": "Request"}, {"show": "requests"}),
    "what was sent as a list": tells(
        "list_inbox", {"show": "sent"}, "`show`: 'sent' is none of inbox, dead, overdue, requests.", SHOWN
    ),
    "a flag for dead letters": tells(
        "list_inbox", {"dead": True}, "list_inbox has no parameter `dead`.", 'Give `show` "dead".'
    ),
    "a flag for what is unread": tells(
        "list_inbox", {"unread": True}, "list_inbox has no parameter `unread`.", "What waits is listed without it."
    ),
    "words among the dead": tells(
        "list_inbox",
        {"show": "dead", "query": "x"},
        "`show` is of the inbox, and `query`, `from` and `thread` look at all mail.",
        "Leave one out.",
    ),
    "mail until then": tells(
        "list_inbox",
        {"until": "2026-11-25"},
        "list_inbox has no parameter `until`.",
        "There is `since` alone; `cursor` goes on, to what is older in a search.",
    ),
    # -- files
    "files that are none": tells(
        "send",
        BOB | {"attachments": [{"name": "a.txt", "content": "x"}]},
        "`attach`: give a text or a list of texts.",
        'Paths of files, such as ["docs/plan.md"]; what is no file goes into `body`.',
    ),
    "a file of a message that has none": tells(
        "read",
        {"id": "{mine}", "file": ["plan.md"]},
        "No attachment 'plan.md' in this message.",
        "It has none.",
        "unknown_attachment",
    ),
    # -- letting in
    "approve what is no request": Tells(
        "settle",
        {"ids": ["{mine}"], "outcome": "approve"},
        {
            "settled": [],
            "failed": [
                {
                    "id": "{mine}",
                    "error": "no_request",
                    "message": "{mine} is no request.",
                    "hint": 'See list_inbox(show="requests"); mail is acked.',
                }
            ],
        },
    ),
    "deny": tells(
        "settle", {"ids": ["{held}"], "outcome": "deny"}, f"`outcome`: 'deny' is none of {OUTCOMES}.", SETTLED
    ),
    "to ask first": Does(
        "create_mailbox", {"name": "alice", "contact": "ask first"}, {"name": "alice", "contact": "ask"}
    ),
    "a status for the outcome": Does(
        "settle", {"id": "{held}", "status": "done"}, {"ids": ["{held}"], "outcome": "ack"}
    ),
    "a word with the ack": tells(
        "settle",
        {"ids": ["{held}"], "outcome": "ack", "message": "thanks"},
        "settle has no parameter `message`.",
        DESCRIBE,
    ),
}

_spaces = count(1)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_UNSETTLED = ("stored", "rung", "surfaced")
"""How far waiting mail has come is on disk soon, not at once."""
_IDS = ("id", "thread", "reply_to", "next")


class Scene:
    """Alice, for whom a model makes the mistake, and what stands around her."""

    def __init__(self, alice: Agent, bob: Agent, words: dict[str, str]) -> None:
        self.alice = alice
        self.bob = bob
        self.words = words
        self._seen: dict[str, str] = {text: name for name, text in words.items()}
        self._first = {text.partition(".")[0] for text in words.values()}
        """What was there from the beginning."""

    def fill(self, value: Any) -> Any:
        """Put this scene's ids in the place of words."""
        match value:
            case dict():
                return {name: self.fill(each) for name, each in value.items()}
            case list():
                return [self.fill(each) for each in value]
            case str() if "{" in value:
                return value.format(**self.words)
        return value

    async def call(self, row: Row, given: Json) -> Json:
        """Return what the model sees, be it refused or not."""
        return (await self.alice.result(row.tool, **self.fill(given))).structured_content or {}

    async def state(self, latest: int = 20) -> list[Any]:
        """Return all that a mistake could have changed; of what bob has got ever, only the `latest`."""
        return [
            await self.alice.call("list_inbox", limit=100),
            *[await self.bob.call("list_inbox", mailbox=name) for name in ("bob", "carol")],
            await self.bob.call("list_inbox", query="x", mailbox="bob", limit=latest),
            (await self.alice.call("read", id=self.words["held"]))["state"],
            await self.alice.call("reserve"),
            *(await self.alice.call("find_mailboxes"))["mailboxes"],
            await self.alice.call("subscribe"),
        ]

    async def done(self, row: Does, given: Json) -> list[Any]:
        """Return what the model sees and what is there then, and take it back."""
        known = dict(self._seen)
        answer = await self.call(row, given)
        there = await self.state(latest=1)
        seen = [self.plain(answer), self.plain(there)]
        self._seen = known
        if row.tool == "reserve":
            await self.alice.call("reserve", release=True)
        if _posts(row):
            for agent, name in ((self.alice, "alice"), (self.bob, "bob"), (self.bob, "carol")):
                listed = (await agent.call("list_inbox", limit=100, mailbox=name))["messages"]
                new = [each["id"] for each in listed if each["id"] not in self._first]
                if new:
                    assert (await agent.call("settle", ids=new, outcome="ack", mailbox=name))["settled"] == new
        return seen

    def plain(self, value: Any, key: str = "") -> Any:
        """Return it without what differs from scene to scene: ids, times, the name of the space."""
        match value:
            case dict():
                return {name: self.plain(each, name) for name, each in value.items()}
            case list():
                return [self.plain(each, key) for each in value]
            case str() if key in _IDS and value not in self._seen:
                self._seen[value] = f"#{len(self._seen)}"
        if value in _UNSETTLED:
            return "unsettled"
        if isinstance(value, str):
            return self._seen.get(value, _TIME.sub("TIME", value.replace(self.words["space"], "SPACE")))
        return value


@asynccontextmanager
async def scene(town: Town) -> AsyncIterator[Scene]:
    """Set it in a space of its own: what the words in the table stand for."""
    place = Town(town.home, f"mistake{next(_spaces)}")
    async with place.pair() as (alice, bob):
        await bob.call("create_mailbox", name="carol", about="runs the db")
        await bob.call("create_mailbox", name="bob")
        await bob.call("subscribe", channel="#build")
        published = await bob.send("#build", "It is green.")
        sent = await alice.send("bob", "Is it done?")
        theirs = await bob.send("carol", "not for alice")
        await bob.send("alice", "Look at it.", subject="Deploy plan")
        first = await alice.wait_one()
        await alice.call("settle", ids=[first["id"]], outcome="release")
        held = await alice.wait_one()
        mine = await bob.send("alice", "hello")
        page = await alice.call("find_mailboxes", limit=1)
        words = {
            "space": place.space,
            "sent": sent["id"],
            "theirs": theirs["id"],
            "stale": first["id"],
            "held": held["id"],
            "mine": mine["id"],
            "cut": mine["id"][:-1],
            "next": page["next"],
            "published": published["id"],
        }
        yield Scene(alice, bob, words)
    place.end()


def _rows(kind: type[Row]) -> list[Any]:
    return [pytest.param(what, row, id=what) for what, row in MISTAKES.items() if isinstance(row, kind)]


def _leaves(row: Does) -> bool:
    """Whether what it does can be taken back, so that the scene may be used again."""
    return TOOLS[row.tool].read_only or row.tool == "reserve" or _posts(row)


def _posts(row: Does) -> bool:
    return row.tool == "send" and not row.meant.keys() & {"reply_to", "receipt"}


@dataclass(frozen=True)
class Told:
    """What came of a call that should have changed nothing."""

    answer: Json
    wanted: Json
    before: list[Any]
    after: list[Any]


def _town(request: pytest.FixtureRequest) -> Town:
    home = request.getfixturevalue("served_home" if request.param == HTTP else "shared_home")
    return Town(home, "mistakes")


@pytest.fixture(scope="module", params=[STDIO, HTTP])
def told(request: pytest.FixtureRequest) -> dict[str, Told]:
    """Make all mistakes that change nothing one after another in one scene: each is held to what it found."""

    async def make() -> dict[str, Told]:
        found: dict[str, Told] = {}
        rows = {what: row for what, row in MISTAKES.items() if isinstance(row, Tells) and row.answer.get("id") != "ID"}
        async with scene(_town(request)) as here:
            before = here.plain(await here.state())
            for what, row in rows.items():
                answer = await here.call(row, row.given)
                after = here.plain(await here.state())
                found[what] = Told(answer, here.fill(row.answer), before, after)
                before = after
        return found

    return anyio.run(make)


@pytest.fixture(scope="module", params=[STDIO, HTTP])
def done(request: pytest.FixtureRequest) -> dict[str, list[Any]]:
    """Do in one scene, in the model's words and in the right ones, what can be taken back again after each."""

    async def make() -> dict[str, list[Any]]:
        async with scene(_town(request)) as here:
            await here.done(Does("send", BOB, BOB), BOB)  # when each was last seen is noted with a later commit
            return {
                what: [await here.done(row, given) for given in (row.given, row.meant)]
                for what, row in MISTAKES.items()
                if isinstance(row, Does) and _leaves(row)
            }

    return anyio.run(make)


@pytest.mark.anyio
@pytest.mark.parametrize(("what", "row"), [each for each in _rows(Does) if not _leaves(each.values[1])])
async def test_what_can_only_mean_one_thing_does_it(town: Town, what: str, row: Does) -> None:
    del what
    seen = []
    for given in (row.given, row.meant):
        async with scene(town) as here:
            answer = await here.call(row, given)
            assert "error" not in answer, answer
            seen.append((here.plain(answer), here.plain(await here.state())))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("what", [each.id for each in _rows(Does) if _leaves(each.values[1])])
def test_what_can_only_mean_one_thing_and_can_be_taken_back_does_it(done: dict[str, list[Any]], what: str) -> None:
    given, meant = done[what]
    assert "error" not in given[0], given
    assert given == meant


@pytest.mark.parametrize("what", [each.id for each in _rows(Tells) if each.values[1].answer.get("id") != "ID"])
def test_what_may_mean_something_else_is_told_and_changes_nothing(told: dict[str, Told], what: str) -> None:
    here = told[what]
    assert here.answer == here.wanted
    assert here.after == here.before
    said = f"{here.answer.get('message', '')} {here.answer.get('hint', '')}"
    assert len(re.findall(r"[.?](?:\s|$)", said)) <= 3


@pytest.mark.anyio
async def test_one_of_several_who_is_not_there_keeps_no_mail_from_the_others(town: Town) -> None:
    row = MISTAKES["one of several is not there"]
    assert isinstance(row, Tells)
    async with scene(town) as here:
        answer = await here.call(row, row.given)
        assert answer | {"id": "ID", "thread": "ID"} == here.fill(row.answer)
