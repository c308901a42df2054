"""The default engine: one SQLite file, owned by one process; log and view are one."""

from mcp_mailbox.engines.sqlite.engine import SqliteStore, open_store

__all__ = ["SqliteStore", "open_store"]
