"""What cannot be avoided: a plain server of the SDK whose one tool does nothing. `noop_server.py [PORT]`.

On stdio, or with a port over HTTP.
"""

from __future__ import annotations

import sys

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server


async def _list_tools(context: object, params: object) -> types.ListToolsResult:
    del context, params
    return types.ListToolsResult(tools=[types.Tool(name="noop", input_schema={"type": "object"})])


async def _call_tool(context: object, params: object) -> types.CallToolResult:
    del context, params
    return types.CallToolResult(content=[types.TextContent(text="done")])


_SERVER = Server("noop", on_list_tools=_list_tools, on_call_tool=_call_tool)


async def _on_stdio() -> None:
    async with stdio_server() as (read, write):
        await _SERVER.run(read, write, _SERVER.create_initialization_options())


def _over_http(port: int) -> None:
    import uvicorn  # noqa: PLC0415 - stdio needs none

    uvicorn.run(_SERVER.streamable_http_app(), port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _over_http(int(sys.argv[1]))
    else:
        anyio.run(_on_stdio)
