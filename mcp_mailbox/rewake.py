"""`mcp-mailbox hook EVENT --rewake`: wait for mail in the background, and wake the host by an exit code.

A bell for a host that gave nothing by which it could be rung: Claude Code runs a hook with `asyncRewake` in the
background, and begins a turn when it ends with 2. Rules how long there is reason to wait. Refuses to know when to ring,
which is the post office's business: it waits there as a host's bell, and one that has another bell is sent away.

It sleeps in one `poll` for its host's end and the post office's word, and costs nothing meanwhile.
"""

# ruff: noqa: SIM105 - as in `relay`
from __future__ import annotations

import os
import select
import sys
import time

from . import frames, machine, rendezvous

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
WAKE = 2  # the exit code by which a hook with `asyncRewake` wakes its host
SECONDS = 2.0  # for an office that is busy when it is asked
FIRST_PAUSE = 0.5  # before an office that is away is looked for again; doubled each time
LONGEST_PAUSE = 60.0
START_SECONDS = 60.0  # that a session which begins may take to have an office, and a mailbox in it
GIVE_UP_SECONDS = 600.0  # without an office, once there was one; the next turn's hook begins anew
LOOK_SECONDS = 30.0  # between looks whether the host is there, where a system does not tell


def run(question: dict[str, object], host: int) -> int:
    """Wait until there is something to wake the host for (WAKE), or no reason to wait any more (0).

    `question` is the hook's own, `host` the id of the process that has started it.
    """
    if os.environ.get("CLAUDE_CODE_ENTRYPOINT", "").startswith("sdk"):
        return 0  # `claude -p` runs such a hook in the foreground, and is not there to be woken
    if machine.is_silent():
        return 0
    import json  # noqa: PLC0415 - only who waits pays for it

    asked = {"do": "rewake", **question, "host": host}
    for name in ("quiet", "wakes"):
        if value := os.environ.get(f"MCP_MAILBOX_{name.upper()}"):
            asked[name] = value
    home = machine.home()
    watch = _Watch(host)
    # Else each turn would leave one behind, where there is no mailbox at all.
    patience = START_SECONDS if question["event"] == "SessionStart" else 0.0
    pause, since = 0.0, time.monotonic()
    while watch.sleeps(pause):
        began = time.monotonic()
        answer = json.loads(_waited(watch, home, json.dumps(asked).encode()) or b'{"later": true}')
        if text := answer.get("text"):
            return _tell(text, watch)
        if not answer.get("later"):
            return 0
        now = time.monotonic()
        if now - began > FIRST_PAUSE:  # an office that was there, and has ended: its host was told of what there was
            asked["begins"], pause, since, patience = False, 0.0, now, GIVE_UP_SECONDS
        if now - since >= patience:
            return 0
        pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * pause))
    return 0


def _waited(watch: _Watch, home: str, asked: bytes) -> bytes | None:
    """Return what the office says once it has something to say; None when there is none, or it ends, or the host does.

    The line stays open behind an answer: who gave it learns from us whether it was of use.
    """
    channel = rendezvous.connect(home)
    if channel is None:
        return None
    try:
        words = [asked.hex(), *filter(None, [rendezvous.token(home)])]
        channel.settimeout(SECONDS)
        channel.sendall(frames.frame(frames.COMMAND, line=" ".join(words).encode()))
        line = watch.line(channel)
    except OSError:
        line = b""
    if line[:1] != frames.COMMAND:
        channel.close()
        return None
    watch.channel = channel
    return line[2:]


def _tell(text: str, watch: _Watch) -> int:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
    if watch.channel is not None:
        try:
            watch.channel.sendall(frames.frame(frames.WRITTEN))
        except OSError:
            pass  # it ended meanwhile; the host is woken all the same
    return WAKE


class _Watch:
    """Looks after a process: everything that waits, waits for its end too."""

    def __init__(self, pid: int) -> None:
        self.channel: _socket.socket | None = None
        self._pid = pid
        self._poller = select.poll()
        self._end = _ending_of(pid)
        if self._end >= 0:
            self._poller.register(self._end, select.POLLIN)

    def sleeps(self, seconds: float) -> bool:
        """Sleep; return False once the process has gone."""
        return self._ready(seconds) is not None

    def line(self, channel: _socket.socket) -> bytes:
        """Return the next line from there; less of it when that ends first, or the process does."""
        received = b""
        self._poller.register(channel.fileno(), select.POLLIN)
        try:
            while not received.endswith(b"\n"):
                ready = self._ready(LOOK_SECONDS if self._end < 0 else None)
                block = channel.recv(65536) if ready else b""
                if ready is None or (ready and not block):
                    return b""
                received += block
        finally:
            self._poller.unregister(channel.fileno())
        return received

    def _ready(self, seconds: float | None) -> bool | None:
        """Return whether there is something to read; None once the process has gone."""
        found = self._poller.poll(None if seconds is None else seconds * 1000)
        if any(descriptor == self._end for descriptor, _ in found):
            return None
        if self._end < 0:
            try:
                os.kill(self._pid, 0)
            except OSError:
                return None
        return bool(found)


def _ending_of(pid: int) -> int:
    """Return a descriptor that can be read once the process has gone; -1 where there is none."""
    if sys.platform == "darwin":
        queue = select.kqueue()
        try:
            queue.control([select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)], 0)
            return os.dup(queue.fileno())
        except OSError:
            return -1
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1
