"""`mcp-mailbox leave`: what of this machine's mail has not reached the hub that it is about to leave.

It is read from the disk. A post office that does not start, or does not answer, would say nothing, and whoever takes
that for "nothing waits" leaves mail behind.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mcp_mailbox import config
from mcp_mailbox.engines import outbox


def waiting(home: str, kept: Mapping[str, object]) -> int:
    """Return how many entries wait for the hub that was joined; `kept` is what joining has left.

    Raises Refusal for an outbox, or settings, that cannot be read.
    """
    joined, here = config.hub_settings({}, kept), config.hub_settings(os.environ, kept)
    files = {joined.outbox} if joined is not None else set()
    # Variables may bring a token of their own for the same hub: that outbox leads nowhere either, once it is left.
    if joined is not None and here is not None and here.url == joined.url:
        files.add(here.outbox)
    return sum(outbox.waiting(Path(home) / each) for each in files)
