"""`mcp-mailbox status`, `stop`, `demo`: the post office itself."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp_mailbox import frames, machine, rendezvous
from mcp_mailbox.fronts.cli import exits, registration, screen, shown, times

_RINGS = 200
"""Lines of the log that tell how it is now."""
_HOUR = 3600.0
_PATIENCE = 2.0
"""Seconds in which one that is to be stopped may say what it is."""
_OPENING = 3.0
"""Seconds that one may take to open its store: before that it cannot say who keeps the mail, nor for how long."""
_POLL = 0.05
Run = Callable[[argparse.Namespace], int]
Standing = Callable[[str, Mapping[str, object] | None], Mapping[str, Any]]


def status(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `status`, which is run by `tell`."""
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def stop(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `stop`."""
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    return _stop


def demo(parser: argparse.ArgumentParser) -> Run:
    """`demo` has no arguments."""
    del parser
    return _demo


def stdio(parser: argparse.ArgumentParser) -> None:
    """`stdio` has no arguments, and is run elsewhere (`__main__`): a relay pays for none of this."""
    del parser


def _demo(_: argparse.Namespace) -> int:
    from mcp_mailbox.fronts.cli import demo  # noqa: PLC0415 - the SDK's client takes a second to import

    return demo.run()


def tell(chosen: argparse.Namespace, standing: Standing) -> int:
    """Say how things stand. `standing` reads what waits for hubs from the home (`unsent.standing`)."""
    home = machine.home()
    status: dict[str, Any]
    try:
        answer = _asked(home)
    except rendezvous.Refused as refused:
        if refused.code != "leaving":
            raise
        status = {"running": True, "leaving": True, "home": home}
    else:
        status = {"running": answer is not None, "home": home} | json.loads(answer or b"{}")
        if waits := unsent(home, status, standing):
            status["unsent"] = waits
        if answer is None and (joined := machine.joined(home)) is not None:
            status["joined"] = joined["url"]
        if answer is not None and (silent := _silent(home)):
            status["not_rung"] = silent
    if chosen.json:
        print(json.dumps(status, indent=2))  # noqa: T201 - a command line prints
    else:
        _show(status)
    return exits.DONE


def _asked(home: str) -> bytes | None:
    """Return what the post office says of itself; None when there is none. Raises Refused.

    One that was started a moment ago is asked until it has opened its store, or took too long.
    """
    deadline = time.monotonic() + _OPENING
    while True:
        answer = rendezvous.ask(home, frames.STATUS)
        if answer is None or json.loads(answer)["open"] or time.monotonic() > deadline:
            return answer
        time.sleep(_POLL)  # it tells nobody but those who want mail of it


def unsent(home: str, status: Mapping[str, Any], standing: Standing) -> Mapping[str, Any]:
    """Return what waits for hubs, as far as it is not what the post office tells in its status."""
    told = 1 if "hub" in status else 0
    return standing(home, machine.joined(home)) if len(list(Path(home).glob("edge*.db"))) > told else {}


def _silent(home: str) -> list[str]:
    """Return the mailboxes that were last not rung because a thread has spent its wakes, within the hour."""
    from mcp_mailbox.doorbells import journal  # noqa: PLC0415 - for this command and `doctor` alone

    latest = {each.get("mailbox", ""): each for each in journal.last(Path(home), _RINGS)}
    since = 1000 * (time.time() - _HOUR)
    skipped = {name: each["reason"] for name, each in latest.items() if _is_skipped(each) and each["at"] > since}
    if not skipped:
        return []
    from mcp_mailbox.doorbell import OVER  # noqa: PLC0415 - 10 ms, when there is something to say

    return [name for name, reason in skipped.items() if OVER in reason]


def _is_skipped(each: dict[str, Any]) -> bool:
    return each.get("outcome") == "skipped" and {"at", "reason"} <= each.keys()


def _show(status: dict[str, Any]) -> None:
    pairs: list[tuple[str, str]] = []
    http = status.get("http")
    if status.get("leaving"):
        pairs.append(("post office", "leaving; then a host's next call starts another"))
    elif status["running"]:
        pairs.append(("post office", f"running, version {status['version']}, process {status['pid']}"))
        pairs.append(("since", f"{status['uptime_seconds']:.0f} s"))
        pairs.append(("agents", f"{len(status['relays'])} connected"))
        pairs += _where(status)
        if looped := status.get("loop_guard"):
            ago = times.span(1000 * time.time() - looped["at"])
            said = f"has refused {looped['refused']}, last {shown.line(looped['last'])} {ago} ago"
            pairs.append(("loop guard", said))
        if silent := status.get("not_rung"):
            said = f"{shown.line(', '.join(silent))}: a thread has woken agents too often; `mcp-mailbox doorbells`"
            pairs.append(("not rung", said))
        pairs.append(("socket", str(status["endpoint"])))
        if http:
            pairs.append(("http", f"{http['url']}, {http['sessions']} sessions, {http['requests']} requests open"))
    else:
        pairs.append(("post office", "not running; a host's first call starts it"))
        if joined := status.get("joined"):
            pairs.append(("hub", f"{joined}, joined; it is asked once a post office runs"))
    pairs += _on_disk(status.get("unsent", {}), running=status["running"])
    if attached := status.get("attachments", {}).get("bytes"):
        pairs.append(("attachments", f"{attached / 1e6:.1f} MB"))
    pairs.append(("home", str(status["home"])))
    screen.fields([(name, shown.line(value)) for name, value in pairs])
    _print_lines("Register it (`mcp-mailbox setup` does it for you):", registration.lines())
    if http and http["known_as"]:
        about = f"Or over HTTP, instead of that (a host has one server of a name: {registration.REMOVE} first):"
        lines = registration.http_lines(http["known_as"], status["home"], auth=http["auth"])
        _print_lines(about, lines)
    elif http:
        about = (
            "Over HTTP clients need a name for it: start it with the one in its certificate, or of the proxy in front:"
        )
        _print_lines(about, ["mcp-mailbox serve … --allow-host NAME"])


def _on_disk(unsent: dict[str, Any], *, running: bool) -> list[tuple[str, str]]:
    """Say what waits for hubs, as far as no post office says it that runs."""
    pairs = [("outbox", f"{unsent['unreadable']} cannot be read")] if "unreadable" in unsent else []
    if "outbox" in unsent and not running:
        goes = "it goes out once a post office runs: `mcp-mailbox inbox` starts one"
        pairs.append(("outbox", f"{unsent['outbox']} on the way, the oldest since {unsent['oldest']}; {goes}"))
    if "left" in unsent:
        pairs.append(("outbox", f"{unsent['left']} for a hub that this machine has left; `join` it again to send them"))
    return pairs


def _where(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Say for how long mail is kept; or by which hub, whether that is reached, and what is on its way there."""
    if not status["open"]:
        return [("store", "not open yet; ask again in a moment")]
    hub = status.get("hub")
    if hub is None:
        return [("keeps", _keeps(status.get("keep_days")))]
    since = f" since {hub['unreachable_since']}" if "unreachable_since" in hub else ""
    how = "reached" if hub["reached"] else f"not reached{since}: {hub.get('why') or 'no connection yet'}"
    waits = f"{hub['outbox']} on the way" if hub["outbox"] else "empty"
    oldest = f", the oldest since {hub['oldest']}" if "oldest" in hub else ""
    files = f", {hub['outbox_bytes'] / 1e6:.1f} MB of files" if "outbox_bytes" in hub else ""
    pairs = [("hub", f"{hub['url']}, {how}"), ("outbox", f"{waits}{oldest}{files}")]
    if untold := hub.get("untold"):
        pairs.append(("refused", f"{', '.join(each['id'] for each in untold)}; `mcp-mailbox doctor` says why"))
    return pairs


def _keeps(days: int | None) -> str:
    """Say for how long; None is an older version's, which removes nothing."""
    return f"settled mail for {days} days; MCP_MAILBOX_KEEP_DAYS sets it" if days else "all mail for ever"


def _print_lines(about: str, lines: Sequence[str]) -> None:
    print(f"\n{about}")  # noqa: T201
    screen.text(lines, "  ")


def _stop(chosen: argparse.Namespace) -> int:
    home = machine.home()
    said = _said(home)
    served, waits = bool(said.get("serves")), said.get("hub", {}).get("outbox", 0)
    stopped = rendezvous.stop(home, "command line")
    if chosen.json:
        print(json.dumps({"stopped": stopped, "served": stopped and served}))  # noqa: T201
    elif not stopped:
        print("The post office is not running.")  # noqa: T201
    elif served:
        # Here all looks well: a host's next call starts a post office, which serves nobody else.
        away = "HTTP stays away, and edges are without their hub, until somebody starts `mcp-mailbox serve` again."
        print(f"Stopped. {away} Hosts on stdio start a post office of their own.")  # noqa: T201
    elif waits:
        goes = "Mail for the hub goes out once it runs again"
        print(f"Stopped. {goes} ({waits} waits): the next call of a host, or `mcp-mailbox inbox`, starts it.")  # noqa: T201
    else:
        print("Stopped. The next call of a host starts it again.")  # noqa: T201
    return exits.DONE


def serves(home: str) -> bool:
    """Tell whether what runs there is a `serve`; of one that does not say so nothing is known."""
    return bool(_said(home).get("serves"))


def _said(home: str) -> dict[str, Any]:
    """Return what runs there says of itself soon; nothing when it does not, or nothing runs."""
    try:
        answer = rendezvous.ask(home, frames.STATUS, seconds=_PATIENCE)
    except rendezvous.Refused:
        return {}
    found: dict[str, Any] = json.loads(answer or b"{}")
    return found
