"""`mcp-mailbox guard`: for git's pre-commit hook; refuses a commit that touches what others hold.

Who commits changes files, so what others share is in the way as well. A reservation is advice: what cannot be looked
up (a post office that does not start, a hub that is away) stops nobody, and is said.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp_mailbox import addresses, machine, rendezvous
from mcp_mailbox.fronts.cli import registration
from mcp_mailbox.fronts.cli.asking import Answered, ask
from mcp_mailbox.reservation import Conflict, Mode, Reservation, told, touched

SWITCH = "MCP_MAILBOX_GUARD"
_STORE = "mail.db"
"""The store in its home (`config.STORE_FILE`): where neither it nor a hub is, nobody holds anything, and nothing is
started."""
_MARK = "# mcp-mailbox guard: "
"""Begins the second line of a hook that is ours."""
_SHOWN = 20
"""Files that are named in one refusal."""
_MISTAKES = {"bad_name", "bad_argument"}
"""Refusals that whoever typed the command can mend."""


def add(guard: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """Add the arguments."""
    guard.add_argument("files", nargs="*", help="look at these instead of what is staged")
    guard.add_argument("--mailbox", metavar="ADDRESS", help="who commits (default: MCP_MAILBOX_ADDRESS, else nobody)")
    guard.add_argument("--space", help="where to look (default: the mailbox's, else that of bare names)")
    guard.add_argument("--install", action="store_true", help="write the hook of the repository that you are in")
    return _run


def _run(chosen: argparse.Namespace) -> int:
    if machine.is_off(SWITCH):
        return 0
    try:
        return _install(chosen) if chosen.install else _guard(chosen)
    except _GitError as error:
        return _say(f"mcp-mailbox: {error}")
    except rendezvous.Refused as refused:  # one code for all that stops a commit: hooks know no others
        return _say(f"mcp-mailbox: {refused.hint}")


def _guard(chosen: argparse.Namespace) -> int:
    home = machine.home()
    if not (machine.has_hub(home) or (Path(home) / _STORE).exists()):
        return 0
    root = Path(_git("rev-parse", "--show-toplevel").rstrip("\n")).resolve()
    paths = _below(root, chosen.files) if chosen.files else _staged()
    space, mailbox = _who(chosen, os.environ)
    found = touched(paths, _held(space, mailbox)) if paths else []
    return _refuse(found, known=mailbox is not None) if found else 0


def _who(chosen: argparse.Namespace, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Return where to look, and who commits."""
    mailbox = chosen.mailbox or environ.get("MCP_MAILBOX_ADDRESS") or None
    own = (mailbox or "").partition("@")[2]
    return chosen.space or own or machine.space(machine.home()), mailbox


def _held(space: str, mailbox: str | None) -> Sequence[Reservation]:
    try:
        found = ask("reservations", space=space, **({"besides": mailbox} if mailbox is not None else {}))
    except rendezvous.Refused as refused:
        # A post office that does not open may say the same of its own settings.
        if isinstance(refused, Answered) and refused.code in _MISTAKES:
            raise
        _say(f"mcp-mailbox: whether others hold what this commit touches was not looked up: {refused.hint}")
        return []
    return [_read(each) for each in found["reservations"]]


def _read(told_of: Mapping[str, Any]) -> Reservation:
    holder = addresses.parse(told_of["holder"], "") if told_of["holder"] is not None else None
    mode, times = Mode(told_of["mode"]), (told_of["made_at"], told_of["until"])
    return Reservation(told_of["name"], holder, "", mode, told_of["note"], *times)


def _refuse(found: Sequence[Conflict], *, known: bool) -> int:
    lines = ["mcp-mailbox: this commit touches what others hold."]
    now = int(time.time() * 1000)
    for each in found[:_SHOWN]:
        note = f": {each.held.note}" if each.held.note else ""
        lines.append(f"  {_printable(each.name)}: {told(each, now)}{note}")
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more")
    lines.append("Wait, or write to them. To commit all the same: MCP_MAILBOX_GUARD=off git commit …, or --no-verify.")
    if not known:
        lines.append("Are they yours? Then say who you are: MCP_MAILBOX_ADDRESS=<your address> git commit …")
    return _say("\n".join(lines))


def _say(text: str) -> int:
    """Say it, and return what a command ends with that has failed."""
    print(text, file=sys.stderr)  # noqa: T201 - a command line prints
    return 1


def _printable(path: str) -> str:
    return path if path.isprintable() else ascii(path)


# -- git


class _GitError(Exception):
    """What git could not do, in its words."""


def _git(*arguments: str) -> str:
    command = ["git", "-c", "diff.relative=false", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - a fixed command, and no shell
    except FileNotFoundError:
        raise _GitError("there is no git to ask.") from None
    except subprocess.CalledProcessError as error:
        raise _GitError(error.stderr.decode(errors="replace").strip()) from None
    return done.stdout.decode(errors="replace")  # a name that is no UTF-8 is covered by patterns all the same


def _changed(*against: str) -> list[str]:
    """Return the files whose staged state is another one; of a renamed file both names."""
    return _git("diff", "--cached", "--name-only", "--no-renames", "-z", *against, "--").split("\0")[:-1]


def _staged() -> list[str]:
    """Return what a commit would change. Of a merge, only what its other side has otherwise: that was theirs to do."""
    changed = _changed()
    try:
        theirs = _git("rev-parse", "--quiet", "--verify", "MERGE_HEAD").strip()
    except _GitError:
        return changed
    merged = set(_changed(theirs))
    return [path for path in changed if path in merged]


def _below(root: Path, files: Sequence[str]) -> list[str]:
    """Return their paths from the root on, but for those elsewhere."""
    here = Path.cwd().resolve()
    paths = [Path(os.path.normpath(here / file)) for file in files]
    return [path.relative_to(root).as_posix() for path in paths if path.is_relative_to(root)]


# -- the hook


def _install(chosen: argparse.Namespace) -> int:
    hook = Path.cwd() / _git("rev-parse", "--git-path", "hooks").rstrip("\n") / "pre-commit"
    given = [f"--{name}={value}" for name in ("space", "mailbox") if (value := getattr(chosen, name))]
    launcher = registration.launcher()
    command = shlex.join([*launcher, "guard", *given])
    text = f"""#!/bin/sh
{_MARK}refuses a commit that touches what others have reserved. {SWITCH}=off lets it through.
if [ -x {shlex.quote(launcher[0])} ]; then exec {command}; fi
"""
    if os.path.lexists(hook):
        present = hook.read_text(errors="replace") if hook.is_file() else ""
        ours = present.startswith(f"#!/bin/sh\n{_MARK}")
        if present == text or (not ours and command in present):
            print(f"{hook} guards this repository already.")  # noqa: T201
            return 0
        if not ours:
            line = f"{command} || exit 1"
            return _say(f"mcp-mailbox: {hook} is not ours, and stays as it is. Add this line to it:\n  {line}")
    hook.parent.mkdir(parents=True, exist_ok=True)
    fresh = hook.with_name(f"{hook.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.chmod(0o755)
    fresh.replace(hook)
    print(f"{hook} guards this repository now.")  # noqa: T201
    return 0
