"""`mcp-mailbox habits`: what agents should know of mail, for a file that they read anyway.

The text is the skill of the plugins, and stands there: `plugins/mailbox/skills/mailbox/SKILL.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from mcp_mailbox.fronts.cli import exits

_HEAD = "---\n"
_SKILL = "plugins/mailbox/skills/mailbox/SKILL.md"


def add(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """Add the arguments of `habits`."""
    parser.description = (
        "Print what agents should know of mail, in some 300 tokens. The server's instructions say the least of it; this"
        " is for AGENTS.md, CLAUDE.md, or as a skill where no plugin brings it."
    )
    parser.add_argument("--skill", action="store_true", help="with the head that makes a SKILL.md of it")
    return _habits


def _habits(chosen: argparse.Namespace) -> int:
    whole = skill()
    print(whole if chosen.skill else whole.split(_HEAD, 2)[2], end="")  # noqa: T201 - a command line prints
    return exits.DONE


def skill() -> str:
    """Return the skill, its head included."""
    installed = files("mcp_mailbox").joinpath("SKILL.md")
    # An editable install runs from the checkout, where it stands beside the package.
    found = installed if installed.is_file() else Path(__file__).parents[3] / _SKILL
    return found.read_text(encoding="utf-8")
