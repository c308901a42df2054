"""Who types: whose mailbox a command is about, and what all commands of mail can be told.

A person's mailbox is what MCP_MAILBOX_ADDRESS says, else the one that is named like the user who has logged in. As with
a host, it is opened when it is not there, so that the first `send` works and others can answer. `--mailbox` chooses
another one of one's own and opens none: it may be mistyped.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from mcp_mailbox import machine, rendezvous

ADDRESS = f"{machine.ENV_PREFIX}ADDRESS"
SPACE_HELP = (
    f"the space of bare names (default: {machine.SPACE_VARIABLE}, else that to which this machine was invited, else"
    f" {machine.DEFAULT_SPACE})"
)
EVERY_SPACE = "*"
"""All spaces in which one has a mailbox (`directory`)."""


def options(parser: argparse.ArgumentParser, *, mailbox: bool = True) -> None:
    """Add what commands of mail share."""
    if mailbox:
        about = f"another mailbox of yours (default: {ADDRESS}, else the one named like your login)"
        parser.add_argument("--mailbox", metavar="ADDRESS", help=about)
    parser.add_argument("--space", help=SPACE_HELP)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON, refusals too")


def space(chosen: argparse.Namespace) -> str:
    """Return the space of bare names, which is never all of them."""
    said = None if chosen.space == EVERY_SPACE else chosen.space
    return said or machine.space(machine.home())


def who(chosen: argparse.Namespace, *, looks: bool = False) -> dict[str, Any]:
    """Return what the post office is told of who asks; who only `looks` opens no mailbox.

    Raises rendezvous.Refused when the user has no name.
    """
    about: dict[str, Any] = {"request": os.urandom(12).hex(), "space": space(chosen)}
    other = getattr(chosen, "mailbox", None)
    if other is not None:
        return about | {"mailbox": other}
    return about | {"mailbox" if looks else "own": own()}


def own() -> str:
    """Return the address of the person's own mailbox. Raises rendezvous.Refused when the user has no name."""
    address = os.environ.get(ADDRESS)
    if address:
        return address
    import pwd  # noqa: PLC0415 - where nobody says who it is

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        hint = f"This user has no name. Say whose mailbox it is: --mailbox ADDRESS, or {ADDRESS}."
        raise rendezvous.Refused("no_mailbox", hint) from None


def is_own(address: str, chosen: argparse.Namespace) -> bool:
    """Whether it is the address of the person's own mailbox. Raises rendezvous.Refused as `own`."""
    mine = own()
    return address.casefold() == (mine if "@" in mine else f"{mine}@{space(chosen)}").casefold()


def another_name() -> str:
    """Return what to do when the person's own mailbox cannot have its name; a login is a name that nobody chose."""
    if os.environ.get(ADDRESS):
        return f"Choose another: {ADDRESS}=NAME."
    return f"It is that of your login; choose another: {ADDRESS}=NAME."


def near(address: str, chosen: argparse.Namespace) -> str:
    """Return the address as one writes it from where one is: without the space when that is one's own."""
    name, _, where = address.rpartition("@")
    return name if where == space(chosen) else address
