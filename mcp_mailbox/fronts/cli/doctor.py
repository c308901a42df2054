"""`mcp-mailbox doctor`: what is wrong with this installation, and how it is mended. Nothing is changed or started.

A check is a row of `IN_HOME` or `BESIDE`: it yields what it found. A further one is one more row.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mcp_mailbox import __version__, frames, machine, rendezvous
from mcp_mailbox.fronts.cli import exits, hosts, screen, shown, times
from mcp_mailbox.fronts.cli.asking import ask_running
from mcp_mailbox.fronts.cli.running import Standing, unsent
from mcp_mailbox.fronts.cli.screen import Cell

Json = dict[str, Any]
Run = Callable[[argparse.Namespace], int]
OK, WARNING, WRONG = "ok", "warning", "wrong"
_STYLES = {OK: "green", WARNING: "yellow", WRONG: "bold red"}
_LITTLE_ROOM = 200 * 1024 * 1024
"""Bytes of a disk that is nearly full: a store of a busy day needs less."""
_HEAD = b"SQLite format 3\0"
_PATIENCE = 600.0
"""Seconds that the check of a large store may take."""
_SOON = 14 * 24 * 3600.0
"""Seconds before the end of a token in which it is said."""
_LOG_TAIL = 64 * 1024


class Finding(NamedTuple):
    """What was looked at, how it is, and what to do when it is not well."""

    what: str
    how: str
    details: str
    fix: str = ""


class Place(NamedTuple):
    """What all checks need to know."""

    home: Path
    status: Json | None
    """What the post office says of itself; None while none runs."""
    refused: rendezvous.Refused | None
    """Why it says nothing although there is one."""
    registered: Sequence[tuple[hosts.Place, hosts.Registration]]
    """How hosts have us registered."""
    unsent: Mapping[str, Any]
    """What waits for hubs (`unsent.standing`)."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`, which is run by `examine`."""
    parser.add_argument("--quick", action="store_true", help="do not read the whole store")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def examine(chosen: argparse.Namespace, standing: Standing) -> int:
    """Look at everything. `standing` reads what waits for hubs from the home (`unsent.standing`)."""
    home = machine.home()
    status, refused = None, None
    try:
        answer = rendezvous.ask(home, frames.STATUS)
        status = json.loads(answer) if answer is not None else None
    except rendezvous.Refused as trouble:
        refused = trouble
    waits = unsent(home, status or {}, standing)
    place = Place(Path(home), status, refused, list(hosts.registered()), waits)
    found = list(_home(place))
    there = not any(each.what == "home" and each.how == WRONG for each in found)
    # Of what cannot be, nothing in it can be right, nor mended.
    found += [each for check in (IN_HOME if there else ()) + BESIDE for each in check(place)]
    if there and not chosen.quick:
        found += _store_whole(place)
    wrong = any(each.how == WRONG for each in found)
    if chosen.json:
        print(shown.json_page({"ok": not wrong, "findings": [_as_json(each) for each in found]}))  # noqa: T201 - a command line prints
    else:
        for each in found:
            _show(each)
    return exits.NOTHING if wrong else exits.DONE


def _as_json(each: Finding) -> Json:
    return {name: value for name, value in each._asdict().items() if value}


def _show(each: Finding) -> None:
    how, what = Cell(f"{each.how:<7}", _STYLES[each.how]), Cell(f"{each.what:<16}", "bold")
    screen.line(how, what, shown.line(each.details), whole=True)
    if each.fix:
        screen.text([shown.line(each.fix)], " " * 9)


def _home(place: Place) -> Iterator[Finding]:
    """Look at the directory, and whether others can read what is in it."""
    home = place.home
    try:
        found = home.stat()
    except FileNotFoundError:
        yield Finding("home", OK, f"{home} is not there yet; the first call of a host makes it")
        return
    except OSError as error:
        fix = f"Set {machine.HOME_VARIABLE} to a directory that you can write."
        yield Finding("home", WRONG, f"{home}: {error.strerror}", fix)
        return
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.getuid()
        or not os.access(home, os.R_OK | os.W_OK | os.X_OK)
    ):
        fix = f"Set {machine.HOME_VARIABLE} to a directory of your own."
        yield Finding("home", WRONG, f"{home} is no directory of yours that you can write", fix)
        return
    yield Finding("home", OK, str(home))
    reachable = [path.name for path in (home, *sorted(home.iterdir())) if _others_may(path)]
    if reachable:
        names = ", ".join(reachable)
        fix = f"Run `chmod -R go= {home}`: it is your mail."
        yield Finding("permissions", WRONG, f"others may reach {names}", fix)
    else:
        yield Finding("permissions", OK, "nobody else can read it")


def _others_may(path: Path) -> bool:
    try:
        found = path.lstat().st_mode
    except OSError:  # gone meanwhile
        return False
    return not stat.S_ISLNK(found) and bool(found & 0o077)


def _room(place: Place) -> Iterator[Finding]:
    """Look at the disk."""
    there = place.home
    while not there.exists() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    details = f"{free / 1e9:.1f} GB free"
    if free < _LITTLE_ROOM:
        yield Finding("disk", WRONG, details, "Free some space: a send that does not fit is refused.")
    else:
        yield Finding("disk", OK, details)


def _office(place: Place) -> Iterator[Finding]:
    """Ask who answers at the socket."""
    if place.refused is not None:
        yield Finding("post office", WRONG, *_in_two(place.refused.hint))
        return
    if place.status is None:
        endpoint = (place.home / "office.endpoint").is_file()
        rest = "; it left no word (killed?), which the next one clears up" if endpoint else ""
        yield Finding("post office", OK, f"not running; a host's first call starts it{rest}")
        return
    status = place.status
    yield Finding("post office", OK, f"process {status['pid']}, agents: {len(status['relays'])}, {status['endpoint']}")
    if not status["open"]:
        yield Finding("post office", WARNING, "it has not opened its store yet", "Look again in a moment.")


def _hub(place: Place) -> Iterator[Finding]:
    """Look whether the hub that keeps the mail is reached, where there is one."""
    hub = place.status.get("hub") if place.status else None
    joined = machine.joined(str(place.home))
    yield from _unsent(place)
    if joined is not None:
        yield from _ending(joined)
    if place.status is None and joined is not None:
        yield Finding("hub", OK, f"{joined['url']} was joined; it is asked once a post office runs")
    if hub is None:
        return
    for each in hub.get("untold", ()):
        said = f"{each['id']} from {each['from']} to {each['to']}, {each['subject']!r}: {each['why']}"
        fix = "Nobody could be told: its mailbox is not there, or not for this machine any more. Send it again."
        yield Finding("refused mail", WARNING, said, fix)
    waits = f"{hub['outbox']} in the outbox" + (f", the oldest since {hub['oldest']}" if "oldest" in hub else "")
    if hub["reached"]:
        yield Finding("hub", OK, f"{hub['url']} is reached; {waits}")
    elif "unreachable_since" in hub:
        fix = (
            _another_token(joined)
            if "token" in hub.get("why", "")
            else "Nothing is lost: what waits goes out by itself. Look after the network, and whether the hub runs."
        )
        since = hub["unreachable_since"]
        yield Finding("hub", WRONG, f"{hub['url']} is not reached since {since}: {hub.get('why')}; {waits}", fix)
    else:
        yield Finding("hub", WARNING, f"{hub['url']} is not reached yet; {waits}", "Look again in a moment.")


def _another_token(joined: Mapping[str, object] | None) -> str:
    """Say how this machine gets another token, and goes on for whom it spoke."""
    if joined is None:
        return "It needs another token: set MCP_MAILBOX_TOKEN, then `mcp-mailbox stop`. What waits is kept meanwhile."
    space = f" --space {joined['space']}" if joined.get("space") else ""
    return (
        f"It needs another token: on the hub `mcp-mailbox invite --principal {joined['principal']}{space}`, then here"
        f" `mcp-mailbox join {joined['url']} CODE`. What waits is kept meanwhile."
    )


def _ending(joined: Mapping[str, object]) -> Iterator[Finding]:
    """Look whether the token that joining has left ends soon."""
    if not isinstance(until := joined.get("expires_at"), str):
        return
    left = times.until(until)
    if left < _SOON:
        how = "has ended" if left <= 0 else "ends"
        yield Finding("token", WARNING, f"this machine's token {how} {times.local(until)}", _another_token(joined))


def _unsent(place: Place) -> Iterator[Finding]:
    """Look at the outboxes, also while no post office runs that would empty them."""
    said = place.unsent
    if "unreadable" in said:
        yield Finding("outbox", WRONG, f"{said['unreadable']} cannot be read", "Move it away if it cannot be mended.")
    if place.status is None and "outbox" in said:
        details = f"{said['outbox']} wait for the hub, the oldest since {said['oldest']}"
        yield Finding("outbox", WARNING, details, "`mcp-mailbox inbox` starts a post office, which sends them.")
    if others := said.get("left"):
        fix = "They go out when that one is joined again, for the same principal; or remove its edge-*.db."
        yield Finding("outbox", WARNING, f"{others} wait for a hub that this machine has left", fix)


def _in_two(hint: str) -> tuple[str, str]:
    problem, _, fix = hint.partition(". ")
    return problem, fix


def _versions(place: Place) -> Iterator[Finding]:
    """Compare this program, the one that runs, and the newest that was ever used with this store."""
    running = place.status["version"] if place.status else None
    try:
        newest, *program = (place.home / "program").read_text().splitlines()
    except (OSError, ValueError):
        newest, program = __version__, []
    key = rendezvous.version_key
    if running is not None and key(running) < key(__version__):
        serves = place.status is not None and place.status.get("serves")
        fix = "Restart `mcp-mailbox serve`." if serves else "Run `mcp-mailbox stop`; the next call starts this one."
        yield Finding("versions", WARNING, f"{running} is running, this is {__version__}", fix)
    elif key(newest) > key(__version__):
        fix = f"Use that one: {' '.join(program[:1])}. Or upgrade this one."
        yield Finding("versions", WARNING, f"this is {__version__}; {newest} has been used with this store", fix)
    else:
        yield Finding("versions", OK, __version__)


def _store(place: Place) -> Iterator[Finding]:
    """Look at the store's file from outside."""
    file = place.home / "mail.db"
    try:
        with file.open("rb") as opened:
            head = opened.read(len(_HEAD))
    except FileNotFoundError:
        yield Finding("store", OK, "there is no mail yet")
        return
    except OSError as error:
        yield Finding("store", WRONG, f"{file}: {error.strerror}", f"Run `chmod u+rw {file}`.")
        return
    if head != _HEAD:
        fix = "Restore a backup: `mcp-mailbox restore FILE --force` keeps what is there now under another name."
        yield Finding("store", WRONG, f"{file} is no store", fix)
        return
    yield Finding("store", OK, f"{file}, {file.stat().st_size / 1e6:.1f} MB")


def _clock(place: Place) -> Iterator[Finding]:
    """Look whether the store's time, which never runs backwards, is the machine's."""
    ahead = place.status.get("clock_ahead_seconds") if place.status else None
    if ahead is not None:
        said = f"it goes {times.span(1000 * ahead)} ahead of this machine's clock, which was set back"
        fix = "Mail is dated so, and tokens expire so much earlier: `mcp-mailbox token create` makes new ones."
        yield Finding("store, time", WARNING, said, fix)


def _store_whole(place: Place) -> Iterator[Finding]:
    """Let the post office read the whole of it."""
    opened = place.status is not None and place.status["open"]
    try:
        answer = ask_running("check", _PATIENCE) if opened else None
    except rendezvous.Refused as refused:
        if refused.code == "unknown_command":  # `versions` says what to do
            yield Finding("store, whole", OK, "not read: the post office that runs is an older one")
        else:
            yield Finding("store, whole", WRONG, *_in_two(refused.hint))
        return
    if answer is None:
        if (place.home / "mail.db").exists():
            yield Finding("store, whole", OK, "not read: no post office runs; `mcp-mailbox inbox` starts one")
        return
    said = answer["store"]
    if said == "ok":
        yield Finding("store, whole", OK, "SQLite finds nothing wrong")
    else:
        fix = "Run `mcp-mailbox stop`, copy the directory, then restore a backup: `mcp-mailbox restore FILE --force`."
        yield Finding("store, whole", WRONG, said, fix)


def _hosts(place: Place) -> Iterator[Finding]:
    """Look who is set up to use it."""
    for host, each in place.registered:
        yield Finding(host.name, WRONG if each.fix else OK, each.details, each.fix)
    if not place.registered:
        fix = "Run `mcp-mailbox setup`; `mcp-mailbox status` shows lines to do it by hand."
        yield Finding("hosts", WARNING, "no host that is known here has it registered", fix)


def _hooks(place: Place) -> Iterator[Finding]:
    """Look whether what hosts' hooks run is there."""
    del place
    for each in hosts.hooks():
        yield Finding("hooks", WRONG if each.fix else OK, each.details, each.fix)


def _doorbells(place: Place) -> Iterator[Finding]:
    """Look which hosts are not rung when mail comes, and whether the last rings came to anything."""
    from mcp_mailbox.doorbell import OVER  # noqa: PLC0415 - as the log
    from mcp_mailbox.doorbells import journal  # noqa: PLC0415 - this check alone reads it

    for (host, _), known in place.registered:
        if known.unrung and not known.fix:
            how = WARNING if known.ring else OK
            if known.ring and _is_rung(place, host.name):
                continue
            yield Finding("doorbells", how, f"{host.title} is not rung: {known.unrung}", known.ring)
    latest = {each["mailbox"]: each for each in journal.last(place.home, _RINGS) if _is_whole(each)}
    failed = [each for each in latest.values() if each["outcome"] == "failed"]
    for each in failed:
        what = f"the last ring for {each['mailbox']} ({each['kind']}) failed: {each['reason']}"
        fix = _MENDS.get(each["reason"], "`mcp-mailbox doorbells` shows the others.")
        yield Finding("doorbells", WARNING, what, fix)
    silent = [each for each in latest.values() if each["outcome"] == "skipped" and OVER in each["reason"]]
    for each in silent:
        what = f"{each['mailbox']} is not rung: {each['reason']}"
        fix = "See whether two agents answer each other for ever; MCP_MAILBOX_WAKES sets how often a thread may ring."
        yield Finding("doorbells", WARNING, what, fix)
    if latest and not failed and not silent:
        yield Finding("doorbells", OK, f"the last rings of {len(latest)} mailboxes came to what they should")


def _loops(place: Place) -> Iterator[Finding]:
    """Look whether agents have gone round in circles since the post office started."""
    if place.status is not None and (looped := place.status.get("loop_guard")):
        ago = times.span(1000 * time.time() - looped["at"])
        what = f"it has refused {looped['refused']} since the post office started, last {looped['last']} {ago} ago"
        fix = (
            f"See what they say: `mcp-mailbox search --from {looped['last']}`. If it is work, raise the limit it names."
        )
        yield Finding("loop guard", WARNING, what, fix)


_RINGS = 200
"""Lines of the log that tell how it is now."""
_MENDS = {
    "its thread is not known before its first call": "It is from its first call on: have it look into its inbox once.",
    "no program codex is found": "Put `codex` into the PATH that the host is started with.",
    "opencode has no port open": "Start it as `opencode --port 0`; which port that is its relay finds.",
    "opencode has no session in its directory": "Say something to it there once: it is woken in that conversation.",
    "opencode asks for a password": "Give it OPENCODE_SERVER_PASSWORD in its environment, from which its relay has it.",
    "no process opencode has started this relay": "Have opencode itself start `mcp-mailbox stdio`.",
    "this system does not tell which port opencode has open": "Have it wait, or run `mcp-mailbox watch`.",
    "this host has no such bell": "Restart the host: its relay is another one than the post office knows.",
}


def _is_rung(place: Place, kind: str) -> bool:
    """Tell whether the last ring by that kind of bell came to something: then no setting is amiss."""
    from mcp_mailbox.doorbells import journal  # noqa: PLC0415 - as above

    rings = [each for each in journal.last(place.home, _RINGS) if _is_whole(each) and each["kind"] == kind]
    return bool(rings) and rings[-1]["outcome"] == "rung"


def _is_whole(each: Json) -> bool:
    return {"mailbox", "kind", "outcome", "reason"} <= each.keys()


def _log(place: Place) -> Iterator[Finding]:
    """Look for what went wrong lately."""
    log = Path(rendezvous.log_path(str(place.home)))
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        yield Finding("log", WRONG, f"{log}: {error.strerror}", f"Run `chmod u+rw {log}`.")
        return
    errors = [line for line in lines if " ERROR " in line or " CRITICAL " in line]
    if errors:
        latest = errors[-1][:200]
        fix = f"See {log}; it may be over by now."
        yield Finding("log", WARNING, f"{len(errors)} errors, the latest: {latest}", fix)
    else:
        yield Finding("log", OK, f"no errors lately in {log}")


Checks = tuple[Callable[[Place], Iterator[Finding]], ...]
IN_HOME: Checks = (_room, _store, _clock, _office, _hub, _versions, _log)
BESIDE: Checks = (_hosts, _hooks, _doorbells, _loops)
