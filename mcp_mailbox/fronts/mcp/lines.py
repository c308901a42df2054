"""Lines from a host, read strictly (RFC 8259, JSON-RPC 2.0), and what can be said of one that cannot be read.

The SDK drops what it cannot parse and takes NaN for a number. What is read here means nothing yet (`wire.py`).
"""

from __future__ import annotations

import json
import re
from typing import Any

import mcp_types as types
from mcp_types.jsonrpc import jsonrpc_message_adapter
from pydantic import ValidationError

_TOO_DEEP = "The JSON is nested too deeply."

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[{}\[\]:]')
_ID = re.compile(rb'\s*(-?\d{1,18}|"[^"\\]{0,200}")\s*[,}]')
_LAST_ID = re.compile(rb'"id"\s*:(\s*(?:-?\d{1,18}|"[^"\\]{0,200}")\s*})\s*$')
_HEAD = 1024


class Unreadable(Exception):  # noqa: N818 - the host's mistake, answered
    """A line that is no JSON-RPC message. `silent` when it asks for no answer."""

    def __init__(self, code: int, problem: str, raw: object = None) -> None:
        super().__init__(problem)
        self.code = code
        self.problem = problem
        message = raw if isinstance(raw, dict) else {}
        found = message.get("id")
        self.id: types.RequestId | None = (
            found if isinstance(found, str | int) and not isinstance(found, bool) else None
        )
        self.tool_call = message.get("method") == "tools/call"
        self.silent = "method" in message and "id" not in message


def parse(line: bytes) -> types.JSONRPCMessage:
    """Read one line. Raises Unreadable."""
    if b"NaN" in line or b"Infinity" in line:
        _loads(line)  # in a text they are letters; as numbers no JSON
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError as error:
        if "recursion limit" in error.errors()[0]["msg"]:
            raise Unreadable(types.PARSE_ERROR, _TOO_DEEP, {"id": dig_id(line)}) from None
        raw = _loads(line)
        if isinstance(raw, list):
            raise Unreadable(types.INVALID_REQUEST, "Batches are not part of MCP since 2025-06-18.") from None
        surrogate = any("\ud800" <= character <= "\udfff" for character in json.dumps(raw, ensure_ascii=False))
        problem = "A text holds a lone surrogate or is no UTF-8." if surrogate else "Not a JSON-RPC 2.0 message."
        raise Unreadable(types.INVALID_REQUEST, problem, raw) from None
    if isinstance(message, types.JSONRPCNotification) and b'"id"' in line and "id" in (raw := _loads(line)):
        # The SDK takes it for a notification and would not answer (JSON-RPC 2.0 section 4; MCP forbids null).
        raise Unreadable(types.INVALID_REQUEST, "An id is a string or an integer.", raw)
    return message


def _loads(line: bytes) -> Any:
    def refuse(name: str) -> object:
        raise _NotANumber(name)

    text = line.decode(errors="surrogateescape")  # what is no UTF-8 becomes lone surrogates, which are refused as such
    try:
        return json.loads(text, parse_constant=refuse)
    except _NotANumber as constant:
        raise Unreadable(types.PARSE_ERROR, f"{constant} is not JSON.", json.loads(text)) from None
    except RecursionError:
        raise Unreadable(types.PARSE_ERROR, _TOO_DEEP, {"id": dig_id(line)}) from None
    except json.JSONDecodeError as error:
        raise Unreadable(types.PARSE_ERROR, f"Not JSON: {error}.", {"id": dig_id(line)}) from None
    except ValueError:  # Python's own limit, in words about Python
        raise Unreadable(types.PARSE_ERROR, "A number has too many digits.", {"id": dig_id(line)}) from None


class _NotANumber(Exception):  # noqa: N818
    """NaN, Infinity or -Infinity."""


def dig_id(line: bytes) -> types.RequestId | None:
    """Return the id of a request that cannot be read whole, if it stands at the line's beginning or end.

    Only that of the outermost object: an "id" among the arguments may be the number of another request.
    """
    depth = 0
    name = b""
    head = line[:_HEAD]
    for token in _TOKEN.finditer(head):
        match token[0][:1]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
            case b":" if depth == 1 and name == b'"id"':
                return _read_id(_ID.match(head, token.end()))
        name = token[0]
    return _read_id(_LAST_ID.search(line, max(0, len(line) - _HEAD)))


def _read_id(found: re.Match[bytes] | None) -> types.RequestId | None:
    if found is None:
        return None
    text = found[1].rstrip(b" }")
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, str | int) else None
