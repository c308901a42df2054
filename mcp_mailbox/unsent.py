"""What of this machine's mail has not reached a hub, read from the disk: for commands that may not ask a post office.

One that does not run, does not start, or does not answer would say nothing, and whoever takes that for "nothing waits"
leaves mail behind.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcp_mailbox import config
from mcp_mailbox.engines import outbox
from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts import render

Json = dict[str, Any]


def waiting(home: str, kept: Mapping[str, object]) -> int:
    """Return how many entries wait for the hub that was joined; `kept` is what joining has left.

    Raises Refusal for an outbox, or settings, that cannot be read.
    """
    joined, here = config.hub_settings({}, kept), config.hub_settings(os.environ, kept)
    files = {joined.outbox} if joined is not None else set()
    # Variables may bring a token of their own for the same hub: that outbox leads nowhere either, once it is left.
    if joined is not None and here is not None and here.url == joined.url:
        files.add(here.outbox)
    return sum(outbox.waiting(Path(home) / each)[0] for each in files)


def standing(home: str, kept: Mapping[str, object] | None) -> Json:
    """Return `outbox`, how much waits for the hub of today, and since when the `oldest` does; `left`: for other hubs.

    What is nothing is left out. What cannot be read counts as nothing, and stands in `unreadable`.
    """
    said: Json = {}
    try:
        today = config.hub_settings(os.environ, kept)
    except Refusal:
        today = None
    for file in sorted(Path(home).glob("edge*.db")):
        try:
            count, oldest = outbox.waiting(file)
        except Refusal:
            said["unreadable"] = str(file)
            continue
        if oldest is None:
            continue
        if today is not None and file.name == today.outbox:
            said |= {"outbox": count, "oldest": render.moment(oldest)}
        else:
            said["left"] = said.get("left", 0) + count
    return said
