"""How a command asks the post office (`fronts/control.py`): an object there, one back, how far it is meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mcp_mailbox import frames, rendezvous

Json = dict[str, Any]


def ask(do: str, told: Callable[[bytes], None] = lambda _: None, seconds: float = 30.0, /, **arguments: object) -> Json:
    """Put a command to the post office, which is started when there is none.

    What takes long is `told` how far it is, and `seconds` is the longest silence. Raises rendezvous.Refused.
    """
    asked = json.dumps({"do": do, **arguments}).encode().hex()
    answer = rendezvous.ask(rendezvous.home(), frames.COMMAND, asked, seconds, start=True, told=told)
    found: Json = json.loads(answer or b"{}")
    if "error" in found:
        raise rendezvous.Refused(found["error"], f"{found['message']} {found['hint']}".strip())
    return found
