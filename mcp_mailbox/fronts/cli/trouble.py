"""How a refusal is told: in a sentence to a person, as the tools' JSON to a program.

The post office's hints are written for agents and name tools; a person has commands.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from mcp_mailbox import rendezvous
from mcp_mailbox.fronts.cli import exits, shown

COMMAND_OF = {
    'list_inbox(show="dead")': "`mcp-mailbox dead`",
    'list_inbox(show="requests")': "`mcp-mailbox inbox --show requests`",
    "list_inbox(query=…)": "`mcp-mailbox search`",
    "list_inbox or wait_for_message": "`mcp-mailbox inbox` or `mcp-mailbox wait`",
    "list_inbox": "`mcp-mailbox inbox`",
    "wait_for_message(ack=[…])": "`mcp-mailbox ack ID…`",
    "wait_for_message": "`mcp-mailbox wait`",
    "find_mailboxes": "`mcp-mailbox agents`",
    "Call create_mailbox first.": "Say whose you are: --mailbox NAME, or MCP_MAILBOX_ADDRESS.",
    "Ask its owner to create_mailbox first.": "Its owner has to make it first.",
    "create_mailbox makes it.": "MCP_MAILBOX_ADDRESS makes its own; --mailbox chooses one that is there.",
    "create_mailbox(kind='pool')": "a pool, which agents can make,",
    "create_mailbox": "MCP_MAILBOX_ADDRESS",
    "subscribe(channel=…, leave=true)": "`mcp-mailbox channels leave`",
    "subscribe()": "`mcp-mailbox channels`",
    "or attach a file": "or write a file and --attach it",
    "settle": "`mcp-mailbox ack`",
    "take_over=true": "--take-over",
    'space="*"': "--space '*'",
}
"""What a tool that a hint names is called here, the longer before those that are part of them."""
_WITH_VALUES = (
    (re.compile(r"subscribe\(channel=('[^']*')\)"), r"`mcp-mailbox channels join \1`"),
    (re.compile(r"list_inbox\(from=('[^']*')\)"), r"`mcp-mailbox search --from \1`"),
    (re.compile(r"(?<!\w)settle (\S+) with reject"), r"`mcp-mailbox reject \1`"),
)
_NO_ENGLISH = re.compile(r"[_(=]")
"""What a name of `COMMAND_OF` has that means nothing else, whoever wrote it."""
_REASON = " The reason given: "
"""Begins somebody's words in a report (`report.notice`)."""


def for_people(hint: str) -> str:
    """Return the hint in a person's words."""
    for tool, command in _WITH_VALUES:
        hint = tool.sub(command, hint)
    return _put(hint, COMMAND_OF)


def _put(text: str, commands: Mapping[str, str]) -> str:
    """Return the text with commands for tools. What was put there is not looked at again."""
    names = "|".join(map(re.escape, commands))
    return re.sub(rf"(?<!\w)(?:{names})(?!\w)", lambda found: commands[found[0]], text)


def body_for_people(answer: Mapping[str, Any]) -> object:
    """Return a message's body, and what the post office itself has written for agents in a person's words.

    What it tells of others' words stays as it is.
    """
    body = answer["body"]
    if answer.get("kind") == "report" and isinstance(body, str):
        own, begins, theirs = body.partition(_REASON)
        return (
            _put(own, {tool: said for tool, said in COMMAND_OF.items() if _NO_ENGLISH.search(tool)}) + begins + theirs
        )
    said = request(answer)
    if said is None:
        return body
    decide = (
        f"`mcp-mailbox accept {answer['id']}`: it is delivered, and the sender may write to you;"
        f" `mcp-mailbox reject {answer['id']}`: it may not. The same later changes your mind."
        f" `mcp-mailbox reply {answer['id']}` answers the sender, which accepts as well."
    )
    return {**said, "decide": decide}


def request(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the postmaster says of a stranger who asks (`report.request`); None where the message is no such."""
    if answer.get("kind") != "request" or "more" in answer:
        return None
    body = answer["body"]
    try:
        said = json.loads(body) if isinstance(body, str) else body
    except ValueError:
        return None
    return said if isinstance(said, dict) and isinstance(said.get("asks"), str) else None


def tell(refused: rendezvous.Refused, *, as_json: bool) -> int:
    """Say why it was not done; return the exit code."""
    if as_json:
        answer = getattr(refused, "answer", None) or {"error": refused.code, "message": refused.hint}
        print(shown.json_line(answer))  # noqa: T201 - a command line prints
    else:
        print(f"mcp-mailbox: {shown.line(for_people(refused.hint))}", file=sys.stderr)  # noqa: T201
    return exits.of(refused.code)


def as_text(answer: dict[str, object]) -> str:
    """Return what an answer that is a refusal, or one part of it, says."""
    return f"{answer['message']} {for_people(str(answer.get('hint', '')))}".strip()
