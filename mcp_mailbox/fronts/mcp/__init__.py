"""The MCP front: tools, resources, prompts and push, in both protocol eras (2025-11-25 and 2026-07-28).

It parses, calls one verb, renders. No rule of the domain lives here.
"""
