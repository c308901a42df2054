"""What this machine says before anything is asked: the environment's variables, the home directory, the hub it joined.

Rules their names. Refuses to know who runs there (`rendezvous.py`) and what any setting is worth (`config.py`). The
relay imports this before the host sees its first answer: `rendezvous.py` says what that forbids.
"""

# ruff: noqa: PTH100, PTH110, PTH111, PTH118
# (pathlib would cost 8 ms)
from __future__ import annotations

import os

from . import files

TYPE_CHECKING = False  # type checkers take it for true; `typing` itself would cost 4 ms
if TYPE_CHECKING:
    from collections.abc import Mapping

ENV_PREFIX = "MCP_MAILBOX_"
HOME_VARIABLE = "MCP_MAILBOX_HOME"
SPACE_VARIABLE = "MCP_MAILBOX_SPACE"
DEFAULT_SPACE = "default"  # as in `addresses`, which costs more than all the rest
TRANSPORT_VARIABLE = "MCP_MAILBOX_TRANSPORT"
IDLE_VARIABLE = "MCP_MAILBOX_IDLE"
DOORBELL_VARIABLE = "MCP_MAILBOX_DOORBELL"  # `off`: this host is not rung
FILE_MIB_VARIABLE = "MCP_MAILBOX_ATTACH_FILE_MIB"
TOTAL_MIB_VARIABLE = "MCP_MAILBOX_ATTACH_TOTAL_MIB"
HUB_VARIABLE = "MCP_MAILBOX_HUB"
SIGN_VARIABLE = "MCP_MAILBOX_SIGN"
HUB_TOKEN_VARIABLE = "MCP_MAILBOX_TOKEN"  # noqa: S105 - its name
INSECURE_VARIABLE = "MCP_MAILBOX_HUB_INSECURE"  # lets the hub be reached without TLS beyond this machine
PROXY_VARIABLE = "MCP_MAILBOX_HUB_PROXY"  # by which the hub is reached
HUB_FILE = "hub.json"  # in the home directory: the hub that this machine has joined, and the token for it
# Settings of the office itself: all hosts share one office, so they must agree on these.
OFFICE_SETTINGS = (
    "MCP_MAILBOX_LEASE",
    "MCP_MAILBOX_KEEP_DAYS",
    IDLE_VARIABLE,
    TRANSPORT_VARIABLE,
    "MCP_MAILBOX_THREAD_BUDGET",
    "MCP_MAILBOX_PAIR_BUDGET",
    "MCP_MAILBOX_HOPS",
    "MCP_MAILBOX_AUDIT",
    FILE_MIB_VARIABLE,
    TOTAL_MIB_VARIABLE,
    HUB_VARIABLE,
    SIGN_VARIABLE,
)


def home(environ: Mapping[str, str] = os.environ) -> str:
    """Name the store's directory. Never from XDG variables: the SDK's stdio client hands on HOME, not those."""
    chosen = environ.get(HOME_VARIABLE)
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    base = environ.get("HOME")
    if not base:
        import pwd  # noqa: PLC0415 - only when HOME is unset

        base = pwd.getpwuid(os.getuid()).pw_dir
    return os.path.join(os.path.abspath(base), ".mcp-mailbox")


def is_off(variable: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a variable switches off what is on without it."""
    return environ.get(variable, "").lower() in ("off", "no", "false", "0")


def is_silent(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this host is not to be rung."""
    return is_off(DOORBELL_VARIABLE, environ)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address, in brackets or not, is this machine's own, so that nobody is on the way."""
    import ipaddress  # noqa: PLC0415 - no relay asks

    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def space(home_path: str) -> str:
    """Return the space of bare names for who says none: MCP_MAILBOX_SPACE, else that of this machine's invitation."""
    said = os.environ.get(SPACE_VARIABLE)
    if said:
        return said
    found = (joined(home_path) or {}).get("space")
    return found if isinstance(found, str) and found else DEFAULT_SPACE


def joined(home_path: str) -> dict[str, object] | None:
    """Return what joining a hub has left, with its `url`; None where none was joined, or variables name another one.

    What cannot be read is none: the post office says that.
    """
    kept = files.read(os.path.join(home_path, HUB_FILE))
    if not kept:
        return None
    import json  # noqa: PLC0415 - for machines of a hub alone

    try:
        found = json.loads(kept)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("url") and is_meant(found, os.environ) else None


def has_hub(home_path: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a hub keeps this machine's mail, by a variable or by what joining has left, legible or not."""
    return bool(environ.get(HUB_VARIABLE)) or os.path.exists(os.path.join(home_path, HUB_FILE))


def is_meant(kept: Mapping[str, object], env: Mapping[str, str]) -> bool:
    """Whether what joining a hub has left counts: variables name no other hub, and bring no token for this one.

    MCP_MAILBOX_TOKEN alone is what hosts of this machine show to a server over HTTP: it is for no hub.
    """
    named = env.get(HUB_VARIABLE, "").rstrip("/")
    return not named or (named == str(kept.get("url")).rstrip("/") and not env.get(HUB_TOKEN_VARIABLE))
