"""What cannot be avoided: a plain server of the SDK on stdio whose one tool does nothing. Run as a script."""

from __future__ import annotations

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


async def _main() -> None:
    server = Server("noop", on_list_tools=_list_tools, on_call_tool=_call_tool)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(_main)
