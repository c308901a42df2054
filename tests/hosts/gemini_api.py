"""The Gemini API as Gemini CLI speaks it: requests read, answers written as server-sent events.

Knows nothing of scenarios, nor how bytes reach the host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.hosts.conversation import Conversation, Exchange, Move, Say

_PREFIX = "mcp_mailbox_"

Json = dict[str, Any]


def serves(path: str) -> bool:
    return path.endswith(":streamGenerateContent")


def key_in(headers: dict[str, str]) -> str:
    return headers.get("x-goog-api-key", "")


def read(request: Json) -> Conversation:
    exchanges: list[Exchange] = []
    for part in _parts(request):
        if "functionCall" in part and part["functionCall"]["name"].startswith(_PREFIX):
            exchanges.append(Exchange(part["functionCall"]["name"].removeprefix(_PREFIX), ""))
        elif "functionResponse" in part and part["functionResponse"]["name"].startswith(_PREFIX):
            # One call at a time is all that a script makes, so a result belongs to the last call.
            exchanges[-1] = Exchange(exchanges[-1].tool, _text(part["functionResponse"].get("response")))
    return Conversation(tuple(exchanges), _prompt(request))


def offered(request: Json) -> frozenset[str]:
    """Our tools that the model has in this request."""
    declared = (each for tool in request.get("tools", []) for each in tool.get("functionDeclarations", []))
    return frozenset(each["name"].removeprefix(_PREFIX) for each in declared if each["name"].startswith(_PREFIX))


def possible(request: Json, move: Move) -> Move:
    """Make the move, unless its tool is not there."""
    if isinstance(move, Say) or move.tool in offered(request):
        return move
    return Say(f"The host has no tool {move.tool}.")


def answer(request: Json, move: Move) -> list[Json]:
    """Write the model's next message as one event."""
    part: Json = {"text": move.text} if isinstance(move, Say) else {}
    if not isinstance(move, Say):
        number = f"call_{len(request['contents']):03}"
        part = {"functionCall": {"id": number, "name": _PREFIX + move.tool, "args": move.arguments}}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
    return [{"candidates": [candidate], "usageMetadata": usage}]


def spell(event: Json) -> str:
    return f"data: {json.dumps(event)}\r\n\r\n"


def _prompt(request: Json) -> str:
    last = request["contents"][-1] if request["contents"] else {}
    return "\n".join(part["text"] for part in last.get("parts", []) if "text" in part)


def _parts(request: Json) -> Iterator[Json]:
    for each in request["contents"]:
        yield from each.get("parts", [])


def _text(response: Any) -> str:
    """Return what a tool said: it comes as it is, or as the value of a field."""
    if isinstance(response, dict):
        for field in ("output", "error"):
            if isinstance(response.get(field), str):
                return str(response[field])
    return json.dumps(response)
