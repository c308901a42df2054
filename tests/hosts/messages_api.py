"""The Anthropic Messages API as Claude Code speaks it: requests read, answers written as server-sent events.

Knows nothing of scenarios, nor how bytes reach the host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.hosts.conversation import Call, Conversation, Exchange, Move, Say

PATH = "/v1/messages"
_PREFIX = "mcp__mailbox__"
_PLUGIN_PREFIX = "mcp__plugin_mailbox_mailbox__"
"""What our tools begin with when a plugin has brought the server."""
_TOOL_SEARCH = "ToolSearch"

Json = dict[str, Any]


def serves(path: str) -> bool:
    return path == PATH


def spell(event: Json) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def key_in(headers: dict[str, str]) -> str:
    return headers.get("x-api-key", "")


def read(request: Json) -> Conversation:
    results = {
        block["tool_use_id"]: _text(block.get("content", ""))
        for block in _blocks(request)
        if block["type"] == "tool_result"
    }
    return Conversation(
        tuple(
            Exchange(_own(block["name"]), results.get(block["id"], ""))
            for block in _blocks(request)
            if block["type"] == "tool_use" and block["name"].startswith((_PREFIX, _PLUGIN_PREFIX))
        ),
        _prompt(request),
    )


def offered(request: Json) -> frozenset[str]:
    """Our tools whose schema the model has in this request, without searching for them."""
    return frozenset(_own(tool["name"]) for tool in request.get("tools", []) if _is_open(tool))


def possible(request: Json, move: Move) -> Move:
    """Make the move, or look its tool up first: the host hides most tools behind its tool search.

    A model cannot call what it was not shown, so neither does the script.
    """
    if isinstance(move, Say) or move.tool in offered(request) or _prefix(request) + move.tool in _found(request):
        return move
    query = {"query": f"select:{_prefix(request)}{move.tool}", "max_results": 1}
    if any(block["type"] == "tool_use" and block["input"] == query for block in _blocks(request)):
        return Say(f"The host has no tool {move.tool}.")  # it was searched for already: is our server running?
    return Call(_TOOL_SEARCH, query)


def answer(request: Json, move: Move) -> list[Json]:
    """Write the model's next message as the events of one stream."""
    if isinstance(move, Say):
        block: Json = {"type": "text", "text": ""}
        delta: Json = {"type": "text_delta", "text": move.text}
    else:
        name = move.tool if move.tool == _TOOL_SEARCH else _prefix(request) + move.tool
        block = {"type": "tool_use", "id": f"toolu_{len(request['messages']):03}", "name": name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(move.arguments)}
    stop = "end_turn" if isinstance(move, Say) else "tool_use"
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {
        "id": f"msg_{len(request['messages']):03}",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]


def _own(name: str) -> str:
    return name.removeprefix(_PREFIX).removeprefix(_PLUGIN_PREFIX)


def _prefix(request: Json) -> str:
    names = (str(tool.get("name", "")) for tool in request.get("tools", []))
    return _PLUGIN_PREFIX if any(name.startswith(_PLUGIN_PREFIX) for name in names) else _PREFIX


def _is_open(tool: Json) -> bool:
    return str(tool.get("name", "")).startswith((_PREFIX, _PLUGIN_PREFIX)) and not tool.get("defer_loading")


def _found(request: Json) -> set[str]:
    """Tools that earlier searches brought to the model."""
    return {
        part["tool_name"]
        for block in _blocks(request)
        if block["type"] == "tool_result" and isinstance(block.get("content"), list)
        for part in block["content"]
        if part.get("type") == "tool_reference"
    }


def _prompt(request: Json) -> str:
    last = next((message for message in reversed(request["messages"]) if message["role"] == "user"), None)
    content = last["content"] if last else ""
    if isinstance(content, list) and any(block["type"] == "tool_result" for block in content):
        return ""
    return _text(content)


def _blocks(request: Json) -> Iterator[Json]:
    for message in request["messages"]:
        if isinstance(message["content"], list):
            yield from message["content"]


def _text(content: str | list[Json]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)
