"""How a command asks the post office (`fronts/control.py`): one JSON object there, one back."""

from __future__ import annotations

import json
from typing import Any

from mcp_mailbox import frames, rendezvous

Json = dict[str, Any]


def ask(do: str, **arguments: object) -> Json:
    """Put a command to the post office, which is started when there is none. Raises rendezvous.Refused."""
    asked = json.dumps({"do": do, **arguments}).encode().hex()
    answer = rendezvous.ask(rendezvous.home(), frames.COMMAND, asked, start=True)
    found: Json = json.loads(answer or b"{}")
    if "error" in found:
        raise rendezvous.Refused(found["error"], f"{found['message']} {found['hint']}".strip())
    return found
