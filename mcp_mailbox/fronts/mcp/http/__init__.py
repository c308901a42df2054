"""MCP over streamable HTTP, both eras: who may come in, what a request says, how its answer travels.

The SDK has a transport of its own; docs/http.md says what was measured of it and why this one exists.
"""
