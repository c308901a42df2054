"""How a refusal is told: in a sentence to a person, as the tools' JSON to a program.

The post office's hints are written for agents and name tools; a person has commands.
"""

from __future__ import annotations

import re
import sys

from mcp_mailbox import rendezvous
from mcp_mailbox.fronts.cli import exits, shown

COMMAND_OF = {
    'list_inbox(show="dead")': "`mcp-mailbox dead`",
    "list_inbox or wait_for_message": "`mcp-mailbox inbox` or `mcp-mailbox wait`",
    "list_inbox": "`mcp-mailbox inbox`",
    "wait_for_message": "`mcp-mailbox wait`",
    "find_mailboxes": "`mcp-mailbox agents`",
    "Call create_mailbox first.": "Say whose you are: --mailbox NAME, or MCP_MAILBOX_ADDRESS.",
    "Its owner makes it with create_mailbox.": "Its owner has to make it first.",
    "create_mailbox makes it.": "MCP_MAILBOX_ADDRESS makes its own; --mailbox chooses one that is there.",
    "create_mailbox": "MCP_MAILBOX_ADDRESS",
    "subscribe()": "`mcp-mailbox channels`",
    "or attach a file": "or write a file and --attach it",
    "settle": "`mcp-mailbox ack`",
    "take_over=true": "--take-over",
    'space="*"': "--space '*'",
}
"""What a tool that a hint names is called here, the longer before those that are part of them."""
_JOINS = re.compile(r"subscribe\(channel=('[^']*')\)")


def for_people(hint: str) -> str:
    """Return the hint in a person's words."""
    hint = _JOINS.sub(r"`mcp-mailbox channels join \1`", hint)
    for tool, command in COMMAND_OF.items():
        hint = re.sub(rf"(?<!\w){re.escape(tool)}(?!\w)", command.replace("\\", r"\\"), hint)
    return hint


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
