"""`mcp-mailbox hook EVENT`: what a host's hook says of mail, in one line or not at all.

Rules how an agent's mailbox is found from a process that its host has started, and how a host wants to be told. Refuses
to know what is worth saying (the post office does). A hook runs at every turn of an agent, so it costs as little as a
relay's start, starts no post office, and is silent about whatever is wrong: it must never keep a host from its work.

The mailbox is that of the server which the same host has started: both have the host as their parent, or as that of a
launcher between. Where none is found, it is the one that MCP_MAILBOX_ADDRESS names.

With `--rewake` it waits in the background (`rewake.py`).
"""

from __future__ import annotations

import os
import select
import sys
import time

from . import frames, machine, processes, rendezvous

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

EVENTS = ("SessionStart", "UserPromptSubmit", "Stop")
REWAKE = "--rewake"
REWAKES = ("SessionStart", "Stop")  # after which a host may be idle
SECONDS = 2.0  # for an office that is busy; a host gives its hooks more
INPUT_SECONDS = 0.2  # for what the host says on stdin, which it has written by the time we look
INPUT_LIMIT = 1024 * 1024
ANCESTORS = 8  # processes between a hook and its host
BETWEEN = ("sh", "bash", "dash", "zsh", "env", "timeout", "nice", "uv", "uvx", "pipx")  # shells, launchers

USAGE = f"""usage: mcp-mailbox hook {{{",".join(EVENTS)}}} [{REWAKE}]

Says that there is mail, as a hook of Claude Code and of Codex; nothing when there is none.
With {REWAKE} ({" and ".join(REWAKES)}): waits for mail, says so on stderr and ends with 2, by which asyncRewake wakes
Claude Code.
"""


def run(arguments: Sequence[str]) -> int:
    """Print what the event's hook is to say; 0 for an event that is known, and what wakes its host when it waited."""
    event, *more = arguments or ("",)
    waits = more == [REWAKE] and event in REWAKES
    if event not in EVENTS or (more and not waits):
        asked = arguments[:1] in (["-h"], ["--help"])
        (sys.stdout if asked else sys.stderr).write(USAGE)
        return 0 if asked else 2
    try:
        if waits:
            from . import rewake  # noqa: PLC0415 - two events of three do without it

            return rewake.run(question(event, heard()), ancestors()[-1])
        said = _ask(event)
        if said:
            sys.stdout.write(said + "\n")
    except Exception:  # noqa: BLE001, S110 - whatever it is, it is not the host's business
        pass
    return 0


def question(event: str, said: dict[str, object]) -> dict[str, object]:
    """Return what the post office must know to find out whose hook this is; `said` is what the host says of it."""
    session = said.get("session_id")
    return {
        "event": event,
        "begins": event == "SessionStart" and said.get("source") in (None, "startup", "resume"),
        "ancestors": ancestors(),
        "thread": session if isinstance(session, str) else None,
        "address": os.environ.get("MCP_MAILBOX_ADDRESS") or None,
        "space": machine.space(machine.home()),
    }


def heard() -> dict[str, object]:
    """Return what the host says on stdin; nothing when it says nothing that can be read."""
    import json  # noqa: PLC0415 - not for `--help`

    said = b""
    deadline = time.monotonic() + INPUT_SECONDS
    while len(said) < INPUT_LIMIT and select.select([0], [], [], max(0.0, deadline - time.monotonic()))[0]:
        block = os.read(0, 65536)
        if not block:
            break
        said += block
    try:
        found = json.loads(said)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _ask(event: str) -> str:
    """Return what the post office would say, as the host wants it; empty when it says nothing."""
    import json  # noqa: PLC0415 - not for `--help`

    asked = {"do": "hook", **question(event, heard())}
    answer = rendezvous.ask(machine.home(), frames.COMMAND, json.dumps(asked).encode().hex(), SECONDS)
    text = json.loads(answer or b"{}").get("text")
    if not text:
        return ""
    if event == "Stop":
        return json.dumps({"decision": "block", "reason": text})
    return json.dumps({"hookSpecificOutput": {"hookEventName": event, "additionalContext": text}})


def ancestors() -> list[int]:
    """Return the ids of the processes that led to this one, the host's last; where /proc is not, the parent's.

    No further: an agent may have started the host, and would be told of by this hook what is that agent's mail.
    """
    found = [os.getppid()]
    while (
        len(found) < ANCESTORS
        and processes.name_of(found[-1]) in BETWEEN
        and (parent := processes.parent_of(found[-1])) > 1
    ):
        found.append(parent)
    return found
