"""The OpenAI Responses API as Codex speaks it: requests read, answers written as server-sent events.

Knows nothing of scenarios, nor how bytes reach the host.
"""

from __future__ import annotations

import json
from typing import Any

from tests.hosts.conversation import Conversation, Exchange, Move, Say

PATH = "/v1/responses"
_NAMESPACE = "mcp__mailbox"

Json = dict[str, Any]


def serves(path: str) -> bool:
    return path == PATH


def spell(event: Json) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def key_in(headers: dict[str, str]) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ")


def read(request: Json) -> Conversation:
    results = {
        item["call_id"]: _text(item["output"]) for item in request["input"] if item["type"] == "function_call_output"
    }
    return Conversation(
        tuple(
            Exchange(item["name"], results.get(item["call_id"], ""))
            for item in request["input"]
            if item["type"] == "function_call" and item.get("namespace") == _NAMESPACE
        ),
        _prompt(request),
    )


def _prompt(request: Json) -> str:
    last = request["input"][-1] if request["input"] else {}
    if last.get("type") != "message" or last.get("role") != "user":
        return ""
    return "\n".join(part.get("text", "") for part in last["content"])


def offered(request: Json) -> frozenset[str]:
    """Our tools that the model has in this request; Codex groups them in a namespace."""
    return frozenset(
        tool["name"]
        for group in request.get("tools", [])
        if group["type"] == "namespace" and group["name"] == _NAMESPACE
        for tool in group["tools"]
    )


def possible(request: Json, move: Move) -> Move:  # noqa: ARG001 the other dialect needs the request
    """Make the move as it is: Codex shows all tools from the start."""
    return move


def answer(request: Json, move: Move) -> list[Json]:
    """Write the model's next output as the events of one stream."""
    number = f"{len(request['input']):03}"
    if isinstance(move, Say):
        content = [{"type": "output_text", "text": move.text, "annotations": []}]
        item: Json = {"type": "message", "id": f"msg_{number}", "role": "assistant", "content": content}
    else:
        item = {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": f"call_{number}",
            "namespace": _NAMESPACE,
            "name": move.tool,
            "arguments": json.dumps(move.arguments),
        }
    response = {"id": f"resp_{number}", "object": "response", "status": "in_progress", "output": []}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    return [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {
            "type": "response.completed",
            "response": response | {"status": "completed", "output": [item], "usage": usage},
        },
    ]


def _text(output: str | list[Json]) -> str:
    if isinstance(output, str):
        return output
    return "\n".join(part.get("text", "") for part in output)
