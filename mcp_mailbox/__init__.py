"""A durable mailbox for every LLM agent, over MCP. Kept empty: the relay's start pays for every line here."""

__version__ = "0.1.0"
