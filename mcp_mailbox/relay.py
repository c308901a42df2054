"""The process that a host starts (`mcp-mailbox stdio`): a pump between the host's pipes and the post office.

Rules lines, serial numbers and what to send again after the post office went away. Refuses to know JSON-RPC: the
office says which lines to keep for later and which to forget, so an old relay works with a newer office.

Each agent has one of these, and its host waits for it: the imports below cost less than a millisecond together.
`_signal` and not `signal` (which imports `enum`); `json` only to tell the host of a failure.

Promises: a line is never lost and its serial never changes while its answer is awaited, so that the office can tell
a repetition from a new request by (relay id, serial). The host sees one answer a request. No descriptor of the host
is ever made non-blocking: that flag belongs to the open file, which a terminal or `2>&1` shares with others.
"""

# ruff: noqa: SIM105, PTH109 - contextlib costs 3 ms, pathlib 8
from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has only `signal`, which imports `enum`
import os
import select
import sys
import time

from . import __version__, frames, machine, rendezvous

TYPE_CHECKING = False  # type checkers take it for true; `typing` itself would cost 4 ms
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence

    from .ringing import Ringing

HELLO_SECONDS = 30.0  # an office that accepted us answers the hello within this
GRACE_SECONDS = 5.0  # how long answers are awaited once the host closed stdin
FAREWELL_SECONDS = 0.25  # how long the office may take to read our last frames
HEALTHY_SECONDS = 30.0  # an epoch this long, or one answer, ends a row of crashes
CRASHES = 5  # reconnects in a row before a request is taken for what kills the office
SERVED_SECONDS = 0.25  # an epoch this long is less of a crash: what kills an office mostly does so when it is read
SERVED_SHARE = 0.2  # and counts so much; what kills it slowly is found in the end
PAUSE_SECONDS = 1.0  # the longest pause between two of them
REST_SECONDS = 30.0  # pause after such a row while the host says nothing
OUTPUT_LIMIT = 1024 * 1024  # bytes that wait for the host to read before we stop reading the office
AWAITED_LIMIT = 64 * 1024 * 1024  # bytes of unanswered lines before we stop reading the host
BELLS = ("CLAUDE_CODE_MESSAGING_SOCKET", "CLAUDE_CODE_MESSAGING_TOKEN")  # what Claude Code gives its servers
REPEATED = 64  # last `w` frames that a new epoch hears again, in case the old office died with them unread

_READ = 65536
_NEVER = float("inf")
_LOST = select.POLLERR | select.POLLHUP | select.POLLNVAL


class _Leave(Exception):  # noqa: N818 - no error: the way out of the loop
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Inbound:
    """Lines from the host, whole up to the limit; of a longer one its head, its tail and its length."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._dropped = 0  # length so far of a line over the limit

    def feed(self, block: bytes) -> list[tuple[bytes, int]]:
        """Return (line, 0) for each line that ends in this block, (head and tail, length) for one that was too long."""
        if not block and self._rest:
            block = b"\n"  # the last line may lack its end
        self._rest += block
        found: list[tuple[bytes, int]] = []
        start = 0
        while (end := self._rest.find(b"\n", max(start, self._searched))) >= 0:
            self._take(bytes(self._rest[start:end]), found)
            start = end + 1
        del self._rest[:start]
        self._searched = len(self._rest)
        if self._dropped + self._searched > frames.LINE_LIMIT:
            # Head and tail stay (as the start of the line), what is between them goes as it comes.
            del self._rest[frames.HEAD_LIMIT : -frames.TAIL_LIMIT]
            self._dropped += self._searched - len(self._rest)
            self._searched = len(self._rest)
        return found

    def _take(self, line: bytes, found: list[tuple[bytes, int]]) -> None:
        length = self._dropped + len(line)
        self._dropped = 0
        line = line.removesuffix(b"\r")
        if length > frames.LINE_LIMIT:
            found.append((line[: frames.HEAD_LIMIT] + line[frames.HEAD_LIMIT :][-frames.TAIL_LIMIT :], length))
        elif line and not line.isspace():
            found.append((line, 0))


class Relay:
    """One host's relay. Its states are the three shapes of `search` and `channel`.

    search set: looking for the office. channel set: connected. Neither: resting until `wake_at` or the next line.
    """

    def __init__(self, program: Sequence[str] | None, stdin: int, stdout: int) -> None:
        self.stdin, self.stdout = stdin, stdout
        self.home = machine.home()
        self.program = list(program or rendezvous.own_program())
        self.id = os.urandom(16).hex()
        self.poller = select.poll()
        # How our host is rung: by what it gave us when it started us, and by nothing else.
        self.claude_socket, self.claude_token = (os.environ.get(name, "") for name in BELLS)
        self.silent = machine.is_silent()
        self.rings: dict[int, Ringing] = {}
        # the host's side
        self.inbound = _Inbound()
        self.host_open = True
        self.leave_by = _NEVER
        self.output = bytearray()
        self.printed = 0  # bytes ever put into `output`
        self.answers: list[tuple[int, int]] = []  # in `output`: (where the answer ends, counted like `printed`; serial)
        self.refusal: rendezvous.Refused | None = None
        self.told = False  # a request has been answered with the refusal
        # lines
        self.serial = 0
        self.sent = 0  # the highest serial that ever went to an office
        self.lines: dict[int, tuple[bytes, bytes]] = {}  # serial: (kind, line); in serial order
        self.awaited: set[int] = set()
        self.awaited_bytes = 0
        self.kept: set[int] = set()
        self.written: list[int] = []
        # the office's side
        self.epoch = 0
        self.previous = ""
        self.note = ""
        self.search: rendezvous.Search | None = None
        self.channel: _socket.socket | None = None
        self.acknowledged = False
        self.since = 0.0  # hello sent, then hello acknowledged
        self.deaf = False  # the office takes no more, but what it said may still be read
        self.received = bytearray()
        self.searched = 0
        self.outgoing = bytearray()
        self.reconnects = 0.0
        self.wake_at = 0.0

    # ------------------------------------------------------------ the loop

    def run(self) -> int:
        """Pump until the host leaves."""
        try:
            while True:
                self._seek()
                self._turn()
                self._leave_if_done()
        except _Leave as leave:
            return leave.code
        finally:
            self._farewell()

    def _turn(self) -> None:
        """Wait for whatever can go on, and do it."""
        channel = self.channel.fileno() if self.channel else -1
        self._register(channel)
        events = dict(self.poller.poll(self._patience()))
        if events.get(self.stdout, 0) & _LOST:
            raise _Leave(0)  # nobody reads: the office sees us go without `w` and puts the mail back
        if self.stdin in events:
            self._read_host()
        if events.get(self.stdout, 0) & select.POLLOUT:
            self._write_host()
        if self.rings:
            self._go_on_ringing(events)
        if channel in events and self.channel:
            if events[channel] & select.POLLOUT:
                self._write_office()
            if events[channel] & ~select.POLLOUT:
                self._read_office()

    def _register(self, channel: int) -> None:
        # Registered with no events, a descriptor still reports that its other end has gone.
        self.poller.register(self.stdout, select.POLLOUT if self.output else 0)
        self._watch(self.stdin, select.POLLIN if self.host_open and self.awaited_bytes <= AWAITED_LIMIT else 0)
        if channel >= 0:
            reading = select.POLLIN if len(self.output) <= OUTPUT_LIMIT else 0
            self._watch(channel, reading | (select.POLLOUT if self.outgoing and not self.deaf else 0))
        for ring in self.rings.values():
            if ring.descriptor >= 0:
                self._watch(ring.descriptor, ring.events)

    def _watch(self, descriptor: int, events: int) -> None:
        """Watch for these events and no others: a hang-up that we cannot act on yet would spin the loop."""
        if events:
            self.poller.register(descriptor, events)
        else:
            self._unwatch(descriptor)

    def _unwatch(self, descriptor: int) -> None:
        try:
            self.poller.unregister(descriptor)
        except KeyError:
            pass

    def _patience(self) -> float | None:
        """Milliseconds until something is due."""
        due = self.leave_by
        now = time.monotonic()
        if self.search:
            due = min(due, now + rendezvous.POLL_SECONDS)
        elif self.channel and not self.acknowledged:
            due = min(due, self.since + HELLO_SECONDS)
        elif not self.channel and not self.refusal:
            due = min(due, self.wake_at)
        for ring in self.rings.values():
            due = min(due, ring.due)
        return None if due == _NEVER else max(0.0, (due - now) * 1000 + 1)

    def _leave_if_done(self) -> None:
        if time.monotonic() >= self.leave_by:
            raise _Leave(1 if self.refusal else 0)
        if self.output:
            return
        if self.refusal:
            if self.told or not self.host_open:
                raise _Leave(1)
        elif not self.host_open and not self.awaited and not (self.outgoing and not self.deaf):
            raise _Leave(0)

    def _farewell(self) -> None:
        """Let the office read our last frames: a socket closed with unread bytes would take them along."""
        if self.search:
            self.search.close()
        for ring in self.rings.values():
            ring.close()
        if not self.channel:
            return
        try:
            self.channel.shutdown(1)  # SHUT_WR
            deadline = time.monotonic() + FAREWELL_SECONDS
            self.channel.settimeout(FAREWELL_SECONDS)
            while self.channel.recv(_READ) and time.monotonic() < deadline:
                pass
        except OSError:
            pass
        self.channel.close()

    # ------------------------------------------------------------ the host

    def _read_host(self) -> None:
        try:
            block = os.read(self.stdin, _READ)
        except OSError:
            block = b""
        for line, length in self.inbound.feed(block):
            self._accept(line, length)
        if not block:
            self.host_open = False
            self.leave_by = time.monotonic() + GRACE_SECONDS
            self._unwatch(self.stdin)
            self._send(frames.frame(frames.END))

    def _accept(self, line: bytes, length: int) -> None:
        """Give a line its number and send it."""
        self.serial += 1
        kind = frames.MESSAGE
        if length:
            kind, line = frames.OVERSIZED, b"%d %b" % (length, line)
        self.lines[self.serial] = (kind, line)
        self.awaited.add(self.serial)
        self.awaited_bytes += len(line)
        if self.refusal:
            self._answer_errors(self.refusal)
        if self.channel:
            self.sent = self.serial
            self._send(frames.frame(kind, self.serial, line))
        self.wake_at = 0.0

    def _write_host(self) -> None:
        # After POLLOUT a pipe takes PIPE_BUF bytes without blocking, and not one more is promised.
        try:
            count = os.write(self.stdout, self.output[: select.PIPE_BUF])
        except BlockingIOError:
            return  # somebody else made it non-blocking
        except OSError:
            raise _Leave(0) from None
        del self.output[:count]
        while self.answers and self.answers[0][0] <= self.printed - len(self.output):
            self._note_written(self.answers.pop(0)[1])

    def _note_written(self, serial: int) -> None:
        self.written.append(serial)
        del self.written[:-REPEATED]
        self._send(frames.frame(frames.WRITTEN, serial))

    def _print(self, line: bytes, serial: int = 0) -> None:
        self.output += line
        self.output += b"\n"
        self.printed += len(line) + 1
        if serial:
            self.answers.append((self.printed, serial))

    # ------------------------------------------------------------ finding the office

    def _seek(self) -> None:
        """Do what is due about the office: look for it, or give up on one that accepts and says nothing."""
        now = time.monotonic()
        if self.refusal:
            return
        if self.channel:
            if not self.acknowledged and now >= self.since + HELLO_SECONDS:
                self._refuse(rendezvous.unreachable(self.home))
            return
        try:
            if not self.search:
                if now < self.wake_at:
                    return
                self.search = rendezvous.Search(self.home, self.program)
            channel = self.search.attempt()
        except rendezvous.Refused as refused:
            self._refuse(refused)
        else:
            if channel:
                self.search = None
                self._greet(channel)

    def _greet(self, channel: _socket.socket) -> None:
        """Begin an epoch: hello, what the host got last, every line that still matters, all without waiting."""
        self.channel = channel
        self.epoch += 1
        self.acknowledged = self.deaf = False
        self.since = time.monotonic()
        self.received.clear()
        self.searched = 0
        self.outgoing.clear()
        fields = {
            "relay": self.id,
            "version": __version__,
            "program": "\n".join(self.program),
            "epoch": str(self.epoch),
            "replay": str(sum(serial <= self.sent for serial in self.lines)),
            # Those that we say again, and those that the host has yet to read.
            "written": str(len(self.written) + len(self.answers)),
            "bells": self._bells(),
            "parent": str(os.getppid()),
        }
        if self.previous:
            fields["previous"] = self.previous
        try:
            fields["cwd"] = os.getcwd()
        except OSError:
            pass  # somebody removed it
        if self.note:
            fields["note"] = self.note
        if proof := rendezvous.token(self.home):
            fields["token"] = proof
        for name, value in os.environ.items():
            if name.startswith(machine.ENV_PREFIX):
                fields["env." + name] = value
        self.outgoing += frames.hello(fields)
        for serial in self.written:
            self.outgoing += frames.frame(frames.WRITTEN, serial)
        for serial, (kind, line) in self.lines.items():
            again = kind == frames.MESSAGE and serial <= self.sent
            self.outgoing += frames.frame(frames.REPLAY if again else kind, serial, line)
        self.sent = self.serial
        if not self.host_open:
            self.outgoing += frames.frame(frames.END)
        self._write_office()

    def _lose(self, *, rest: bool = False) -> None:
        """End an epoch. What is awaited or kept goes out again in the next one, under the same serials."""
        if self.channel:
            self._unwatch(self.channel.fileno())
            self.channel.close()
            self.channel = None
            self.outgoing.clear()
        now = time.monotonic()
        if self.acknowledged and now - self.since >= HEALTHY_SECONDS:
            self.reconnects = 0.0
        if rest and not self.awaited:
            self.wake_at = _NEVER
            return
        served = self.acknowledged and now - self.since >= SERVED_SECONDS
        self.reconnects += SERVED_SHARE if served else 1.0
        if self.reconnects > CRASHES:
            self._give_up_on_lines()
        elif self.reconnects > 1:
            self.wake_at = now + min(PAUSE_SECONDS, 0.05 * 2 ** (self.reconnects - 2))
        else:
            self.wake_at = 0.0

    def _give_up_on_lines(self) -> None:
        """Take the lines in flight for what kills the office, and go on without them."""
        self.reconnects = 0.0
        self.wake_at = 0.0 if self.awaited else time.monotonic() + REST_SECONDS
        self._answer_errors(
            rendezvous.Refused(
                "office_crashes",
                "The post office ended again and again while this request waited. Its log says why:"
                f" {rendezvous.log_path(self.home)}. Do not repeat the request unchanged.",
            )
        )

    # ------------------------------------------------------------ the office

    def _send(self, frame: bytes) -> None:
        if not self.channel or self.deaf:
            return  # the next epoch's replay has it
        self.outgoing += frame
        if len(self.outgoing) == len(frame):
            self._write_office()

    def _write_office(self) -> None:
        if not self.channel:
            return
        try:
            count = self.channel.send(self.outgoing)
        except BlockingIOError:
            return
        except OSError:
            self.deaf = True  # it may have said why before it closed: read on
            self.outgoing.clear()
            return
        del self.outgoing[:count]

    def _read_office(self) -> None:
        if not self.channel:
            return
        try:
            block = self.channel.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            block = b""
        if not block:
            self._lose()  # with it goes what is left of a frame
            return
        self.received += block
        start = 0
        while self.channel and (end := self.received.find(b"\n", max(start, self.searched))) >= 0:
            self._obey(bytes(self.received[start:end]))
            start = end + 1
        del self.received[:start]
        self.searched = len(self.received)

    def _obey(self, frame: bytes) -> None:
        kind, rest = frame[:1], frame[2:]
        if kind == frames.ANSWER:
            serial, _, line = rest.partition(b" ")
            self._answer(int(serial), line)
        elif kind == frames.NOTIFY:
            self._print(rest)
        elif kind == frames.KEEP:
            if int(rest) in self.lines:
                self.kept.add(int(rest))
        elif kind == frames.FORGET:
            self._settle(int(rest))
            self._forget(int(rest))
        elif kind == frames.HELLO:
            self.acknowledged = True
            self.since = time.monotonic()
            self.previous = rest.decode("ascii", "replace")
        elif kind == frames.BYE:
            self._lose(rest=rest != frames.DRAIN.encode())
        elif kind == frames.REFUSE:
            code, _, hint = rest.decode("utf-8", "replace").partition(" ")
            self._refuse(rendezvous.Refused(code, hint))
        else:
            self._obey_about_the_host(kind, rest)

    def _obey_about_the_host(self, kind: bytes, rest: bytes) -> None:
        if kind == frames.NOTE:
            self.note = rest.decode("utf-8", "replace")
        elif kind == frames.RING:
            serial, _, line = rest.partition(b" ")
            self._ring(int(serial), line)
        # Any other kind is a newer office's, which knows from the hello that we may not know it.

    def _answer(self, serial: int, line: bytes) -> None:
        if serial not in self.awaited:
            return  # a kept line, replayed: the host has its answer
        self.reconnects = 0.0
        self._print(line, serial)
        self._settle(serial)
        if serial not in self.kept:
            self._forget(serial)

    def _settle(self, serial: int) -> None:
        """Await no answer any more."""
        if serial in self.awaited:
            self.awaited.discard(serial)
            self.awaited_bytes -= len(self.lines[serial][1])

    def _forget(self, serial: int) -> None:
        self.kept.discard(serial)
        self.lines.pop(serial, None)

    # ------------------------------------------------------------ the host's bell

    def _bells(self) -> str:
        """Name the kinds of bells that the office may ask us to ring; never what rings them."""
        if self.silent:
            return ""
        claude = [frames.CLAUDE] * bool(self.claude_socket and self.claude_token)
        return " ".join([*claude, frames.CODEX, frames.OPENCODE])

    def _ring(self, serial: int, line: bytes) -> None:
        from . import ringing  # noqa: PLC0415 - only a host that is rung pays for it

        kind, _, told = line.partition(b" ")
        if self.silent or kind.decode("ascii", "replace") not in self._bells().split():
            self._send(frames.frame(frames.RANG, serial, b"failed this host has no such bell"))
            return
        if kind == frames.CLAUDE.encode():
            ring = ringing.claude(self.claude_socket, self.claude_token, told)
        else:
            ring = ringing.codex(told) if kind == frames.CODEX.encode() else ringing.opencode(told)
        self.rings[self.epoch << 32 | serial] = ring
        self._go_on_ringing({})

    def _go_on_ringing(self, events: dict[int, int]) -> None:
        """Take each ring as far as it goes without waiting; tell the office what came of it."""
        for key, ring in list(self.rings.items()):
            if ring.started and ring.descriptor not in events and time.monotonic() < ring.due:
                continue
            descriptor = ring.descriptor
            outcome = ring.advance()
            if descriptor >= 0 and (outcome is not None or ring.descriptor != descriptor):
                self._unwatch(descriptor)
            if outcome is not None:
                del self.rings[key]
                ring.close()
                if key >> 32 == self.epoch:  # who asked is still there
                    self._send(frames.frame(frames.RANG, key & 0xFFFFFFFF, outcome))

    # ------------------------------------------------------------ failure: the only place that reads JSON

    def _refuse(self, refused: rendezvous.Refused) -> None:
        """Work no more: every request, now and later, is answered with the reason."""
        self.refusal = refused
        if self.search:
            self.search.close()
            self.search = None
        if self.channel:
            self._unwatch(self.channel.fileno())
            self.channel.close()
            self.channel = None
            self.outgoing.clear()
        try:
            os.write(2, f"mcp-mailbox: {refused.hint}\n".encode())
        except OSError:
            pass  # a host may have closed it
        self._answer_errors(refused)

    def _answer_errors(self, refused: rendezvous.Refused) -> None:
        """Answer every awaited request with an error, and forget what is awaited."""
        for serial in sorted(self.awaited):
            for request in _requests(*self.lines[serial]):
                self._print(_error(request, refused))  # without `w`: it is not the office's answer
                self.told = refused is self.refusal
            self._settle(serial)
            self._forget(serial)


def _requests(kind: bytes, line: bytes) -> list[object]:
    """Return the ids of the requests in a line (several in a batch)."""
    import json  # noqa: PLC0415 - 11 ms that only a failure pays

    if kind == frames.OVERSIZED:
        # The id stands in the head or in the tail; where it does not, nobody can be told.
        head = line.partition(b" ")[2].decode("utf-8", "replace")
        _, found, rest = head.partition('"id":')
        try:
            return [json.JSONDecoder().raw_decode(rest.lstrip())[0]] if found else []
        except ValueError:
            return []
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return []
    batch = message if isinstance(message, list) else [message]
    return [one["id"] for one in batch if isinstance(one, dict) and "method" in one and "id" in one]


def _error(request: object, refused: rendezvous.Refused) -> bytes:
    import json  # noqa: PLC0415 - as above

    error = {"code": -32000, "message": refused.hint, "data": {"code": refused.code}}
    return json.dumps({"jsonrpc": "2.0", "id": request, "error": error}).encode()


def run(program: Sequence[str] | None = None, *, stdin: int = 0, stdout: int = 1) -> int:
    """Relay between the host at stdin and stdout and the post office, which `program` starts; the exit code."""
    # Ctrl-C reaches the host and us alike: leave at once, without a traceback in the host's log.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    return Relay(program, stdin, stdout).run()


if __name__ == "__main__":
    sys.exit(run())
