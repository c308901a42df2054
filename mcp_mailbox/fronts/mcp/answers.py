"""A tool's answer as the protocol wraps it: structured content, and the same as JSON text for hosts that show that.

Hosts show a model the structured content alone (docs/hosts.md), so it is the lean view itself (`fronts/render.py`).
"""

from __future__ import annotations

import mcp_types as types

from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts.render import Json, dump, problem


def result(content: Json, *, error: bool = False) -> types.CallToolResult:
    """Wrap a tool's answer."""
    return types.CallToolResult(
        content=[types.TextContent(text=dump(content))], structured_content=content, is_error=error
    )


def refused(refusal: Refusal) -> types.CallToolResult:
    """Render a refusal so that the model can act on it."""
    return result(problem(refusal), error=True)
