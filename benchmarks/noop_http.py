"""What cannot be avoided over HTTP: a plain server of the SDK whose one tool does nothing. `noop_http.py PORT`."""

from __future__ import annotations

import sys

import mcp_types as types
import uvicorn
from mcp.server.lowlevel import Server


async def _list_tools(context: object, params: object) -> types.ListToolsResult:
    del context, params
    return types.ListToolsResult(tools=[types.Tool(name="noop", input_schema={"type": "object"})])


async def _call_tool(context: object, params: object) -> types.CallToolResult:
    del context, params
    return types.CallToolResult(content=[types.TextContent(text="done")])


if __name__ == "__main__":
    app = Server("noop", on_list_tools=_list_tools, on_call_tool=_call_tool).streamable_http_app()
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
