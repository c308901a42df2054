"""One JSON-RPC message as a request's body: strictly (RFC 8259; what two parsers could read differently is refused)."""

from __future__ import annotations

import json

import mcp_types as types

from mcp_mailbox.fronts.http.body import Twice, refuse_twice
from mcp_mailbox.fronts.http.gate import Refused
from mcp_mailbox.fronts.mcp import lines
from mcp_mailbox.fronts.mcp.http.exchange import failure


def parse(body: bytes) -> types.JSONRPCMessage:
    """Read one JSON-RPC message. Raises Refused(400)."""
    try:
        message = lines.parse(body)
    except lines.Unreadable as unreadable:
        raise _bad(unreadable.code, unreadable.problem, unreadable.id) from None
    try:
        json.loads(body, object_pairs_hook=refuse_twice)
    except Twice as twice:
        problem = f"The name {twice.name[:40]!a} stands twice in one object."
        raise _bad(types.PARSE_ERROR, problem, getattr(message, "id", None)) from None
    return message


def _bad(code: int, problem: str, request_id: types.RequestId | None) -> Refused:
    return Refused(400, problem, body=failure(request_id, code, problem))
