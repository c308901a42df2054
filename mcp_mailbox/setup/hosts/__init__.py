"""The hosts that can be set up, a module each. Another one is a module here, and its line below."""

from __future__ import annotations

from mcp_mailbox.setup.host import Host
from mcp_mailbox.setup.hosts import claude_code, claude_desktop, codex, cursor, gemini, opencode, vscode

HOSTS: dict[str, Host] = {
    each.HOST.name: each.HOST for each in (claude_code, codex, gemini, opencode, cursor, vscode, claude_desktop)
}
"""By the name that `--host` takes, in the order in which they are told."""
