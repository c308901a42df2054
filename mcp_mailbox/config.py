"""What the environment says: the settings of a host, and of the post office (see also `rendezvous`).

MCP_MAILBOX_HOME      where everything is kept; default ~/.mcp-mailbox
MCP_MAILBOX_SPACE     the space of bare names; default "default"
MCP_MAILBOX_ADDRESS   the mailbox of this host, opened before the first call
MCP_MAILBOX_LEASE     seconds that a reader has for a message; default 600
MCP_MAILBOX_IDLE      seconds without hosts after which the post office leaves; default 600
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mcp_mailbox import addresses
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.postoffice import LEASE_TERM

SPACE = "MCP_MAILBOX_SPACE"
ADDRESS = "MCP_MAILBOX_ADDRESS"
LEASE = "MCP_MAILBOX_LEASE"
DEFAULT_SPACE = "default"
_LONGEST_LEASE = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What one host's registration says of itself."""

    space: str
    address: str | None


def host_settings(env: Mapping[str, str]) -> HostSettings:
    """Read a host's settings. Raises Refusal(BAD_NAME) for a space that cannot be."""
    space = env.get(SPACE) or DEFAULT_SPACE
    return HostSettings(addresses.check_name(space, "space"), env.get(ADDRESS) or None)


def lease_term(env: Mapping[str, str]) -> int:
    """Return the lease's term in ms. Raises Refusal(BAD_ARGUMENT) for what is no number of seconds."""
    text = env.get(LEASE)
    if not text:
        return LEASE_TERM
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= _LONGEST_LEASE:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"{LEASE} is {text[:20]!a}.",
            f"Set it to seconds between 0 and {_LONGEST_LEASE:.0f}, or leave it out.",
        )
    return int(seconds * 1000)
