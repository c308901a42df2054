"""The Chat Completions API as OpenCode speaks it to a compatible provider: requests read, answers written.

Knows nothing of scenarios, nor how bytes reach the host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.hosts.conversation import Conversation, Exchange, Move, Say

_PREFIX = "mailbox_"

Json = dict[str, Any]


def serves(path: str) -> bool:
    return path == "/v1/chat/completions"


def key_in(headers: dict[str, str]) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ")


def read(request: Json) -> Conversation:
    results = {each["tool_call_id"]: _text(each["content"]) for each in request["messages"] if each["role"] == "tool"}
    return Conversation(
        tuple(
            Exchange(each["function"]["name"].removeprefix(_PREFIX), results.get(each["id"], ""))
            for each in _calls(request)
            if each["function"]["name"].startswith(_PREFIX)
        ),
        _prompt(request),
    )


def offered(request: Json) -> frozenset[str]:
    """Our tools that the model has in this request."""
    names = (tool["function"]["name"] for tool in request.get("tools", []))
    return frozenset(name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))


def possible(request: Json, move: Move) -> Move:
    """Make the move, unless its tool is not there: a request for a title has none."""
    if isinstance(move, Say) or move.tool in offered(request):
        return move
    return Say(f"The host has no tool {move.tool}.")


def answer(request: Json, move: Move) -> list[Json]:
    """Write the model's next message as the chunks of one stream."""
    if isinstance(move, Say):
        delta: Json = {"role": "assistant", "content": move.text}
    else:
        function = {"name": _PREFIX + move.tool, "arguments": json.dumps(move.arguments)}
        called = {"index": 0, "id": f"call_{len(request['messages']):03}", "type": "function", "function": function}
        delta = {"role": "assistant", "tool_calls": [called]}
    stop = "stop" if isinstance(move, Say) else "tool_calls"
    head = {"id": "chat_1", "object": "chat.completion.chunk", "created": 1, "model": request["model"]}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return [
        head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        head | {"choices": [{"index": 0, "delta": {}, "finish_reason": stop}], "usage": usage},
        {},
    ]


def spell(event: Json) -> str:
    """Spell a chunk; an empty one is the end."""
    return f"data: {json.dumps(event)}\n\n" if event else "data: [DONE]\n\n"


def _prompt(request: Json) -> str:
    last = request["messages"][-1] if request["messages"] else {}
    return _text(last["content"]) if last.get("role") == "user" else ""


def _calls(request: Json) -> Iterator[Json]:
    for each in request["messages"]:
        if each["role"] == "assistant":
            yield from each.get("tool_calls") or ()


def _text(content: str | list[Json]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)
