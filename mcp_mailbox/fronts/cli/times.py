"""Times as people write and read them."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds(text: str) -> float:
    """Read a duration: seconds, or a number with its unit. For `argparse`."""
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    try:
        found = float(number) * unit
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!a} is no time: write 90, 90s, 10m, 2h or 3d")
    return found


def since(text: str) -> str:
    """Read a moment, or how long ago that was; return it as RFC 3339. For `argparse`."""
    if text[-1:] in _UNITS:
        return datetime.fromtimestamp(time.time() - seconds(text), UTC).isoformat()
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat()
    except ValueError:
        problem = f"{text!a} is no time: write 2026-11-22, 2026-11-22T18:30 or how long ago, 2h or 3d"
        raise argparse.ArgumentTypeError(problem) from None


def age(moment: str) -> str:
    """Return how long ago it was, in one unit."""
    return span(1000 * (time.time() - datetime.fromisoformat(moment).timestamp()))


def span(ms: float) -> str:
    """Return how long that is, in one unit."""
    passed = max(0.0, ms / 1000)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if passed >= size:
            return f"{int(passed // size)} {unit}"
    return f"{int(passed)} s"


def until(moment: str) -> float:
    """Return in how many seconds it is; below 0 when it is over."""
    return datetime.fromisoformat(moment).timestamp() - time.time()


def local(moment: str) -> str:
    """Return the moment in the time of this machine."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def clock(moment: str) -> str:
    """Return the time of day."""
    return datetime.fromisoformat(moment).astimezone().strftime("%H:%M:%S")


def due(moment: str) -> str | None:
    """Return when it will be, with the date where that is not today; None when it is over. In this machine's time."""
    then, now = datetime.fromisoformat(moment).astimezone(), datetime.now().astimezone()
    if then <= now:
        return None
    return then.strftime("%H:%M" if then.date() == now.date() else "%Y-%m-%d %H:%M")
