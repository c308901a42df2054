"""The post office's process: who may come in, what travels over each relay's connection, when to leave.

Rules listening, the hello, frames, hand-over to a newer version, idle exit, signals and the log. Refuses to know
MCP and mail: those are the `Service`'s, which is opened once the socket listens, so that relays find somebody to
wait for during the second that its imports take.

What each connection needs to be independent of the others: its own task, its own queue, its own patience.
"""

from __future__ import annotations

import contextlib
import gc
import hmac
import json
import logging
import logging.handlers
import os
import resource
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import anyio.abc
import anyio.lowlevel

from . import __version__, frames, machine, rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    OpenService = Callable[["Stop"], AbstractAsyncContextManager["Service"]]

log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 600.0  # default of MCP_MAILBOX_IDLE
HELLO_SECONDS = 10.0  # for a caller's first frame
LEAVE_SECONDS = 0.3  # for what is under way to be answered when we are asked to stop; then the next office is asked
FLUSH_SECONDS = 1.0  # for last frames to be read
REFUSING_SECONDS = 2.0  # how long an office that cannot open its store says so
STUCK_SECONDS = 60.0  # a connection whose queue does not move for this long, and is full, is dropped
STUCK_BYTES = 8 * 1024 * 1024
QUEUE_BYTES = 1024 * 1024  # above this `answer` waits
NOTIFY_BYTES = 256 * 1024  # above this `notify` drops
FIRST_FRAME_LIMIT = frames.COMMAND_LIMIT + 1024
COLLECT_AFTER = (
    10_000  # objects that have come and not gone before the collector looks at them; Python's 700 cost a tenth
)
HEARD_LIMIT = 16  # bytes of what the command line says behind its command
FRAME_LIMIT = frames.LINE_LIMIT + 64
LOG_BYTES = 1024 * 1024
LOG_FILES = 3
CALLS: Final = "mcp_mailbox.calls"  # logs each call of a tool, for somebody who watches: too much for a file

_READ = 262144


class Stop:
    """The wish that this office ends: of a signal, the command line, a newer version, or the service itself."""

    def __init__(self) -> None:
        self.reason = ""
        self.details = ""
        self._event = anyio.Event()

    def request(self, reason: str = frames.STOP, details: str = "") -> None:
        """Ask to stop; the first reason stands."""
        if not self.reason:
            self.reason = reason
            self.details = details
            self._event.set()

    async def wait(self) -> None:
        """Return once somebody asked."""
        await self._event.wait()


class Service(Protocol):
    """What the office serves."""

    async def serve(self, connection: RelayConnection) -> None:
        """Serve one relay; returns when done with it: when it has gone, or is to leave and nothing is under way.

        Is cancelled when the office ends sooner.
        """

    def status(self) -> dict[str, object]:
        """Say how things stand, for `mcp-mailbox status`."""

    def busy(self) -> bool:
        """Whether it has something to do although nobody is connected."""

    async def command(self, asked: object, asker: Asker) -> None:
        """Do what the command line asks, in whatever JSON it wrote, and answer; trouble is in the answer too.

        It is cancelled when whoever asked has gone before it was answered.
        """


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame from a relay. `length` is that of the whole line where `line` is only head and tail (OVERSIZED)."""

    kind: bytes
    serial: int = 0
    line: bytes = b""
    length: int = 0


@dataclass(frozen=True, slots=True)
class Hello:
    """Who connects: the same relay comes back under the same id with a higher epoch."""

    relay: str
    version: str
    epoch: int
    replay: int  # how many of the frames to come the relay has sent before
    previous: str | None  # version of the office of its last epoch
    env: Mapping[str, str]  # its MCP_MAILBOX_* variables
    bells: frozenset[str]  # by what kinds of bells it can ring its host
    parent: int  # the process that started it: its host, or a launcher; 0 when it does not say
    note: str  # what the office of its last epoch wanted the next one to know
    program: tuple[str, ...]
    cwd: str | None = None  # where its host started it, which is where the agent works
    written: int | None = None  # how many `w` are to come for answers of earlier epochs; None of a relay that is older

    @property
    def resumed(self) -> bool:
        """Whether this relay was connected before."""
        return self.epoch > 1


class _Gone(Exception):  # noqa: N818 - the other end left, which is no error
    pass


class _Channel:
    """A socket that speaks in lines. Plain sockets, for the control that streams hide: no buffer but ours."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._received = bytearray()
        self._searched = 0

    async def line(self, limit: int) -> bytes:
        """Return the next line, without its end."""
        while True:
            end = self._received.find(b"\n", self._searched)
            if end >= 0:
                found = bytes(self._received[:end])
                del self._received[: end + 1]
                self._searched = 0
                return found
            self._searched = len(self._received)
            if self._searched > limit:
                raise _Gone
            self._received += await self._block()

    async def _block(self) -> bytes:
        while True:
            try:
                block = self.socket.recv(_READ)
            except BlockingIOError:
                await _ready(anyio.wait_readable, self.socket)
                continue
            except OSError as error:
                raise _Gone from error
            if not block:
                raise _Gone
            return block

    async def send(self, data: bytes, stuck: Callable[[], bool] = lambda: True) -> None:
        """Write everything. After each STUCK_SECONDS in which nothing went out, `stuck` says whether to give up."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                with anyio.move_on_after(STUCK_SECONDS) as patience:
                    await _ready(anyio.wait_writable, self.socket)
                if patience.cancelled_caught and stuck():
                    self.cut()
            except OSError as error:
                raise _Gone from error

    def try_send(self, data: bytes) -> bytes:
        """Write what can be written without waiting; return the rest."""
        try:
            return data[self.socket.send(data) :]
        except OSError:
            return data  # `send` waits for room, or learns that the other end has gone

    def cut(self) -> None:
        """End the connection for whoever reads or writes it."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """Close so that the other end can read what we said last: unread bytes of its own would discard that."""
        with anyio.move_on_after(FLUSH_SECONDS, shield=True):
            with contextlib.suppress(OSError, _Gone):
                self.socket.shutdown(socket.SHUT_WR)
                while True:
                    await self._block()
        self.socket.close()


async def _ready(wait: Callable[[socket.socket], object], sock: socket.socket) -> None:
    try:
        await wait(sock)  # type: ignore[misc]  # anyio types its two waits differently
    except (anyio.ClosedResourceError, ValueError) as error:
        raise _Gone from error


class _Ringing:
    """A ring that a relay was asked for."""

    def __init__(self) -> None:
        self._said = ""
        self._ended = anyio.Event()

    def end(self, said: str) -> None:
        self._said = said
        self._ended.set()

    async def outcome(self) -> str:
        await self._ended.wait()
        return self._said


class RelayConnection:
    """One relay, as the service sees it."""

    def __init__(self, channel: _Channel, hello: Hello) -> None:
        self.hello = hello
        self.reason = ""  # why it leaves: "host", "stop" or "drain"
        self._hears_leave: list[Callable[[], None]] = []
        self._channel = channel
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._moved: anyio.Event | None = None  # the queue shrank; made by who waits for that
        self._tasks: anyio.abc.TaskGroup | None = None  # while it is served
        self._closed = False
        self._rings: dict[int, _Ringing] = {}
        self._rang = 0
        self._serving = anyio.CancelScope()
        self._ended = anyio.Event()

    async def receive(self) -> Frame:
        """Return the relay's next frame; raises EndOfStream when it has gone."""
        while True:
            try:
                text = await self._channel.line(FRAME_LIMIT)
            except _Gone as gone:
                for ringing in self._rings.values():
                    ringing.end("failed the relay has gone")
                raise anyio.EndOfStream from gone
            frame = _read_frame(text)
            if frame.kind == frames.RANG:
                if (asked := self._rings.get(frame.serial)) is not None:
                    asked.end(frame.line.decode("utf-8", "replace"))
                continue
            if frame.kind == frames.END:
                self.leave("host")
            return frame

    async def answer(self, serial: int, line: bytes) -> None:
        """Answer a line; waits while this relay's queue is full. To a relay that has gone: nothing happens."""
        self._put(frames.frame(frames.ANSWER, serial, line))
        while self._queued > QUEUE_BYTES and not self._closed:
            await self._move()

    async def notify(self, line: bytes) -> bool:
        """Send a notification or request, unless this relay's host does not read; tells whether it was taken."""
        await anyio.lowlevel.checkpoint()
        return self.offer(line)

    def offer(self, line: bytes) -> bool:
        """Send it as `notify` does, at once."""
        if self._queued > NOTIFY_BYTES or self._closed:
            return False
        self._put(frames.frame(frames.NOTIFY, line=line))
        return True

    async def keep(self, serial: int) -> None:
        """Have the relay send this line again in every later epoch."""
        self._put(frames.frame(frames.KEEP, serial))
        await anyio.lowlevel.checkpoint()

    async def forget(self, serial: int) -> None:
        """Tell the relay that no answer will come to this line, or that it need no longer be kept."""
        self._put(frames.frame(frames.FORGET, serial))
        await anyio.lowlevel.checkpoint()

    def note(self, text: str) -> None:
        """Have the relay say this line in its next hello: what is to be known of it when this office has died."""
        self._put(frames.frame(frames.NOTE, line=" ".join(text.split()).encode()))

    async def ring(self, kind: str, line: bytes) -> str:
        """Have the relay ring its host by that kind of bell; return what it says came of it."""
        self._rang += 1
        ringing = self._rings[self._rang] = _Ringing()
        self._put(frames.frame(frames.RING, self._rang, kind.encode() + b" " + line))
        try:
            return await ringing.outcome()
        finally:
            self._rings = {serial: each for serial, each in self._rings.items() if each is not ringing}

    def on_leave(self, hear: Callable[[], None]) -> None:
        """Call `hear` when the host has closed stdin or the office stops: waits are to end early. At once, if it has.

        It must not raise nor wait, and is called once.
        """
        if self.reason:
            hear()
        else:
            self._hears_leave.append(hear)

    def leave(self, reason: str) -> None:
        """Ask the service to end its waits; the first reason stands."""
        self.reason = self.reason or reason
        hears, self._hears_leave = self._hears_leave, []
        for hear in hears:
            hear()

    # ---- the office's side

    def _put(self, frame: bytes) -> None:
        if self._closed or (not self._queue and not (frame := self._channel.try_send(frame))):
            return
        self._queue.append(frame)
        self._queued += len(frame)
        if len(self._queue) == 1 and self._tasks is not None:
            self._tasks.start_soon(self._write)  # only now: most connections never have anything queued

    async def _move(self) -> None:
        """Return when the queue has shrunk."""
        if self._moved is None:
            self._moved = anyio.Event()
        await self._moved.wait()

    def _signal(self) -> None:
        if self._moved is not None:
            self._moved.set()
            self._moved = None

    async def _write(self) -> None:
        """Write what is queued."""
        try:
            while self._queue:
                await self._write_one()
        except _Gone:
            self._closed = True
        except BaseException:
            self._closed = True
            raise
        finally:
            self._signal()

    def _end(self) -> None:
        """Take nothing more."""
        self._closed = True
        self._signal()

    async def _write_one(self) -> None:
        """Write what is queued in blocks: a burst of small frames is one system call."""
        block = bytearray()
        count = 0
        while count < len(self._queue) and (not block or len(block) + len(self._queue[count]) <= _READ):
            block += self._queue[count]
            count += 1
        await self._channel.send(bytes(block), lambda: self._queued > STUCK_BYTES)
        for _ in range(count):
            self._queue.popleft()
        self._queued -= len(block)
        self._signal()

    async def _flush(self) -> None:
        while self._queue and not self._closed:
            await self._move()


class Asker:
    """Who asks for a command, as the service sees it: told how far it is, then answered, once."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._patience = anyio.CancelScope()
        self._answered = False
        self._taken = False
        self._heard = anyio.Event()  # it says that it has the answer, or has gone

    async def tell(self, progress: Mapping[str, object]) -> None:
        """Tell how far it is."""
        await self._send(frames.PROGRESS, progress)

    async def answer(self, answer: Mapping[str, object]) -> bool:
        """Answer; return whether whoever asked says that it has done with it what it asked for."""
        self._answered = True
        await self._send(frames.COMMAND, answer)
        await self._heard.wait()
        return self._taken

    async def _send(self, kind: bytes, content: Mapping[str, object]) -> None:
        try:
            await self._channel.send(frames.frame(kind, line=json.dumps(content).encode()))
        except _Gone:
            self._leave()
            await anyio.lowlevel.checkpoint()

    async def _listen(self) -> None:
        """Hear what it says behind its question: that it has the answer, or nothing, and then it goes."""
        with contextlib.suppress(_Gone):
            self._taken = await self._channel.line(HEARD_LIMIT) == frames.WRITTEN
        self._leave()

    def _leave(self) -> None:
        self._heard.set()
        if not self._answered:
            self._patience.cancel()


def _read_frame(text: bytes) -> Frame:
    kind = text[:1]
    serial, line = 0, b""
    has_serial, has_line = frames.FROM_RELAY.get(kind, (False, False))
    try:
        if has_serial:
            number, _, line = text[2:].partition(b" ")
            serial = int(number)
        if kind == frames.OVERSIZED:
            length, _, line = line.partition(b" ")
            return Frame(kind, serial, line, int(length))
    except ValueError as error:
        raise anyio.EndOfStream from error
    return Frame(kind, serial, line if has_line else b"")


class _Office:
    """The process's one office."""

    def __init__(self, place: rendezvous.Claimed, open_service: OpenService, *, stays: bool) -> None:
        self.place = place
        self.stays = stays  # somebody started it by hand: it leaves neither when idle nor for a newer version
        self.open_service = open_service
        self.listener = socket.socket(fileno=place.listener.detach())
        self.listener.setblocking(False)
        self.settings = {name: os.environ.get(name, "") for name in machine.OFFICE_SETTINGS}
        self.began = time.monotonic()
        self.stop = Stop()
        self.opened = anyio.Event()
        self.service: Service | None = None
        self.refusal: rendezvous.Refused | None = None  # what all relays are told, for good
        self.failure: rendezvous.Refused | None = None  # what only who started us by hand is told
        self.relays: dict[str, RelayConnection] = {}
        self.commands = 0  # of the command line, that are under way
        self.occupied = anyio.Event()
        self.vacant = anyio.Event()
        self.accepting = anyio.CancelScope()

    async def run(self) -> int:
        """Serve until somebody asks to stop; the exit code. Raises Refused to who started us by hand, if we cannot."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._hear_signals)
            tasks.start_soon(self._leave_when_idle)
            tasks.start_soon(self._accept, tasks)
            code = await self._serve()
            tasks.cancel_scope.cancel()
        if self.failure:
            raise self.failure
        return code

    async def _serve(self) -> int:
        try:
            async with self.open_service(self.stop) as self.service:
                log.info("open: version %s, process %d, %s", __version__, os.getpid(), self.place.endpoint)
                self.opened.set()
                self.place.lay_aside()
                # What stands by now stays; what comes with a request goes without the collector's help, mostly.
                gc.freeze()
                gc.set_threshold(COLLECT_AFTER)
                await self.stop.wait()
                log.info("leaving: %s %s", self.stop.reason, self.stop.details)
                await self._see_relays_off()
        except Exception as error:  # whatever it is, somebody is told
            if self.opened.is_set():
                log.exception("the post office failed")
            elif self.stays:
                await self._give_up(error)
            else:
                await self._refuse_everyone(error)
            return 1
        return 0

    # ---- coming in

    async def _accept(self, tasks: anyio.abc.TaskGroup) -> None:
        with self.accepting:
            await anyio.lowlevel.checkpoint()  # the service may have failed, and the listener be closed, before we ran
            while True:
                await anyio.wait_readable(self.listener)
                try:
                    caller, _ = self.listener.accept()
                except BlockingIOError:
                    continue
                except OSError as error:  # no descriptors left: those that are open go on
                    log.warning("cannot accept: %s", error)
                    await anyio.sleep(0.1)
                    continue
                caller.setblocking(False)
                tasks.start_soon(self._attend, caller)

    async def _attend(self, caller: socket.socket) -> None:
        channel = _Channel(caller)
        try:
            if rendezvous.peer_uid(caller) in (None, os.getuid()):
                with anyio.fail_after(HELLO_SECONDS):
                    first = await channel.line(FIRST_FRAME_LIMIT)
                await self._greet(channel, first)
        except (_Gone, TimeoutError):
            pass
        except Exception:  # one caller's trouble is not the others'
            log.exception("a caller was let go")
        finally:
            await channel.close()

    async def _greet(self, channel: _Channel, first: bytes) -> None:
        kind, rest = first[:1], first[2:]
        try:
            if kind == frames.HELLO:
                await self._greet_relay(channel, frames.read_hello(rest))
            elif kind in (frames.STATUS, frames.QUIT, frames.COMMAND):
                await self._greet_command_line(channel, kind, rest.decode().split(" "))
        except (ValueError, KeyError) as error:
            log.warning("a caller that speaks no frames of ours: %r", error)

    async def _greet_command_line(self, channel: _Channel, kind: bytes, words: list[str]) -> None:
        if self.place.token and not self._trusts(words.pop()):
            await self._refuse(channel, _FORBIDDEN)
        elif kind == frames.STATUS:
            await channel.send(frames.frame(kind, line=json.dumps(self._status(), default=str).encode()))
        elif kind == frames.COMMAND:
            await self._command(channel, bytes.fromhex(words[0]))
        elif words == [frames.DRAIN] and self.stays:
            await self._refuse(channel, _STAYS)
        else:
            await channel.send(frames.frame(kind))
            if words == [frames.DRAIN]:
                self.stop.request(frames.DRAIN, "for a post office that serves")
            else:
                self.stop.request(frames.STOP, " ".join(words))

    async def _command(self, channel: _Channel, asked: bytes) -> None:
        await self.opened.wait()
        if self.service is None or self.refusal:
            await self._refuse(channel, self.refusal or _GONE)
            return
        request = json.loads(asked)
        asker = Asker(channel)
        self.commands += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(asker._listen)  # noqa: SLF001 - the two classes are one machine
                with asker._patience:  # noqa: SLF001
                    await self.service.command(request, asker)
                tasks.cancel_scope.cancel()
        except Exception:
            log.exception("a command failed")
            hint = f"The command failed: see {rendezvous.log_path(self.place.home)}, or where `serve` was started."
            await self._refuse(channel, rendezvous.Refused("failed", hint))
        finally:
            self.commands -= 1

    async def _greet_relay(self, channel: _Channel, fields: dict[str, str]) -> None:
        hello = _hello(fields)
        if self.place.token and not self._trusts(fields.get("token", "")):
            await self._refuse(channel, _FORBIDDEN)
            return
        if rendezvous.version_key(hello.version) > rendezvous.version_key(__version__):
            self._make_way(hello)
        if not self.stop.reason and (mismatch := self._mismatch(hello.env)):
            await self._refuse(channel, mismatch)
            return
        if not self.stop.reason:
            await self.opened.wait()
        newest = await self._end_earlier_epoch(hello)
        # No await from here to the relay's registration, or a relay could slip in behind those that are seen off.
        if self.stop.reason:
            await channel.send(frames.frame(frames.BYE, line=self.stop.reason.encode()))
        elif self.refusal:
            await self._refuse(channel, self.refusal)
        elif newest:
            await self._serve_relay(RelayConnection(channel, hello))

    def _make_way(self, hello: Hello) -> None:
        """Leave for a newer version, if it is certain that the next office is of that version."""
        try:
            rendezvous.record_program(self.place.home, hello.version, hello.program)
        except OSError as error:  # a full disk; the next relay of that version tries again
            log.warning("version %s cannot be noted (%s); serving on as %s", hello.version, error, __version__)
            return
        if self.stays:
            log.warning("version %s is installed; serving on as %s until restarted", hello.version, __version__)
        else:
            self.stop.request(frames.DRAIN, f"for version {hello.version}")

    async def _refuse(self, channel: _Channel, refused: rendezvous.Refused) -> None:
        hint = " ".join(refused.hint.split())  # a frame is one line
        await channel.send(frames.frame(frames.REFUSE, line=f"{refused.code} {hint}".encode()))

    def _trusts(self, proof: str) -> bool:
        return hmac.compare_digest(proof.encode(), self.place.token.encode())

    def _mismatch(self, env: Mapping[str, str]) -> rendezvous.Refused | None:
        """Compare the office's own settings with what this host wants of them: all hosts share one office."""
        wrong = [
            f"{name} is {self.settings[name] or 'not set'} there and {env[name]} here"
            for name in machine.OFFICE_SETTINGS
            if name in env and env[name] != self.settings[name]
        ]
        if not wrong:
            return None
        return rendezvous.Refused(
            "config_mismatch",
            f"All hosts share the post office of {self.place.home}, which runs with other settings: {'; '.join(wrong)}."
            f" Set the same value in every host, or in none, then run `mcp-mailbox stop`: it starts again on demand."
            f" For a store of its own, set {machine.HOME_VARIABLE} to another directory.",
        )

    # ---- relays

    async def _end_earlier_epoch(self, hello: Hello) -> bool:
        """Let a relay that came back replace itself; False for a connection that was overtaken on the way."""
        while earlier := self.relays.get(hello.relay):
            if earlier.hello.epoch >= hello.epoch:
                return False
            earlier._serving.cancel()  # noqa: SLF001 - the two classes are one machine, split for the service's sake
            await earlier._ended.wait()  # noqa: SLF001
        return True

    async def _serve_relay(self, connection: RelayConnection) -> None:
        hello = connection.hello
        if not self.relays:
            self.vacant = anyio.Event()  # only now: an event that is waited for must not be replaced
            self.occupied.set()
        self.relays[hello.relay] = connection
        log.info("relay %.8s: version %s, epoch %d", hello.relay, hello.version, hello.epoch)
        try:
            await self._converse(connection)
        finally:
            del self.relays[hello.relay]
            connection._ended.set()  # noqa: SLF001
            if not self.relays:
                self.vacant.set()
                self.occupied = anyio.Event()
            log.info("relay %.8s: gone", hello.relay)

    async def _converse(self, connection: RelayConnection) -> None:
        assert self.service is not None  # noqa: S101 - `opened` was awaited
        async with anyio.create_task_group() as connection._tasks:  # noqa: SLF001
            connection._put(frames.frame(frames.HELLO, line=__version__.encode()))  # noqa: SLF001
            with connection._serving:  # noqa: SLF001
                try:
                    await self.service.serve(connection)
                except Exception as error:  # one relay's trouble is not the others'
                    if not _only_the_end(error):
                        log.exception("relay %.8s: failed", connection.hello.relay)
            if self.stop.reason:
                connection._put(frames.frame(frames.BYE, line=self.stop.reason.encode()))  # noqa: SLF001
            with anyio.move_on_after(FLUSH_SECONDS, shield=True):
                await connection._flush()  # noqa: SLF001
            connection._end()  # noqa: SLF001
            connection._tasks.cancel_scope.cancel()  # noqa: SLF001

    # ---- leaving

    async def _see_relays_off(self) -> None:
        self.place.stop_listening()
        self.accepting.cancel()
        self.listener.close()
        relays = list(self.relays.values())
        for connection in relays:
            connection.leave(self.stop.reason)
        if self.stop.reason != frames.DRAIN:  # after a hand-over the successor gets the waits again
            with anyio.move_on_after(LEAVE_SECONDS):
                for connection in relays:
                    await connection._ended.wait()  # noqa: SLF001
        for connection in relays:
            connection._serving.cancel()  # noqa: SLF001
        for connection in relays:
            await connection._ended.wait()  # noqa: SLF001

    async def _refuse_everyone(self, error: BaseException) -> None:
        """Stay for a moment, so that the relays that wait for us learn why there will be no service."""
        self.refusal = _refusal(error, self.place.home)
        log.error("%s", self.refusal.hint, exc_info=error if self.refusal.code == _NO_START else None)
        self.opened.set()
        with anyio.move_on_after(REFUSING_SECONDS):
            await self.stop.wait()

    async def _give_up(self, error: BaseException) -> None:
        """Refuse nobody: what is wrong with a `serve` is no matter of its relays, which start their own office."""
        self.failure = _refusal(error, self.place.home)
        if self.failure.code == _NO_START:
            log.error("the post office failed", exc_info=error)
        await self._see_relays_off()

    async def _leave_when_idle(self) -> None:
        await self.opened.wait()
        while True:
            with anyio.move_on_after(_idle_seconds()) as patience:
                await self.occupied.wait()
            busy = self.stays or self.commands or (self.service is not None and self.service.busy())
            if patience.cancelled_caught and not busy:
                self.stop.request(frames.IDLE)
                return
            if self.relays:
                await self.vacant.wait()

    async def _hear_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                self.stop.request(frames.STOP, signal.Signals(number).name)

    def _status(self) -> dict[str, object]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "home": self.place.home,
            "endpoint": self.place.endpoint,
            "uptime_seconds": round(time.monotonic() - self.began, 1),
            "open": self.service is not None,
            "serves": self.stays,
            "relays": [
                {"relay": hello.relay, "version": hello.version, "epoch": hello.epoch}
                for hello in (connection.hello for connection in self.relays.values())
            ],
            **(self.service.status() if self.service else {}),
        }


def _only_the_end(error: Exception) -> bool:
    """Tell whether a service merely let the end of a connection through, bare or out of a task group."""
    if isinstance(error, ExceptionGroup):
        return error.split(anyio.EndOfStream)[1] is None
    return isinstance(error, anyio.EndOfStream)


_FORBIDDEN = rendezvous.Refused("forbidden", "The token is not the one in this office's home directory.")

_STAYS = rendezvous.Refused(
    "serving",
    "Another `mcp-mailbox serve` has this store. `mcp-mailbox status` shows it; end that one first.",
)
_NO_START: Final = "no_start"
_GONE = rendezvous.Refused("stopping", "The post office is stopping. Do the same again.")


def _hello(fields: Mapping[str, str]) -> Hello:
    return Hello(
        relay=fields["relay"],
        version=fields["version"],
        epoch=int(fields["epoch"]),
        replay=int(fields["replay"]),
        previous=fields.get("previous"),
        env={name[4:]: value for name, value in fields.items() if name.startswith("env.")},
        note=fields.get("note", ""),
        parent=int(fields.get("parent", "0")),
        bells=frozenset(fields.get("bells", "").split()),
        program=tuple(fields.get("program", "").splitlines()),
        cwd=fields.get("cwd"),
        written=int(fields["written"]) if "written" in fields else None,
    )


def _refusal(error: BaseException, home: str) -> rendezvous.Refused:
    """Turn what kept the service from opening into what its relays are told."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    code, hint = getattr(error, "code", None), getattr(error, "hint", None)
    if code and hint:
        return rendezvous.Refused(str(code), f"{getattr(error, 'problem', '')} {hint}".strip())
    if isinstance(error, OSError) and rendezvous.no_room(error):
        return rendezvous.full(home)
    return rendezvous.Refused(
        _NO_START, f"The post office could not open its store: {error!r}. See {rendezvous.log_path(home)}."
    )


def _idle_seconds() -> float:
    try:
        return float(os.environ.get(machine.IDLE_VARIABLE, IDLE_SECONDS))
    except ValueError:
        return IDLE_SECONDS


class _RotatedLog(logging.handlers.RotatingFileHandler):
    """Takes standard output and standard error along when it rotates: both were opened on the same file."""

    def doRollover(self) -> None:  # noqa: N802 - logging's spelling
        super().doRollover()
        self.take_output()

    def take_output(self) -> None:
        if self.stream:
            os.dup2(self.stream.fileno(), 1)
            os.dup2(self.stream.fileno(), 2)


def _open_log(place: rendezvous.Claimed) -> None:
    """Log our own doings and asyncio's complaints. Not the SDK's: at times it logs what it could not parse: mail."""
    handler: logging.Handler
    shape = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.getLogger(CALLS).setLevel(logging.WARNING)
    if place.detached:
        handler = _RotatedLog(rendezvous.log_path(place.home), maxBytes=LOG_BYTES, backupCount=LOG_FILES)
        handler.take_output()
    elif sys.stderr.isatty():
        from rich.console import Console  # noqa: PLC0415 - only somebody who watches pays for it
        from rich.logging import RichHandler  # noqa: PLC0415

        handler, shape = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%X"), "%(message)s"
        logging.getLogger(CALLS).setLevel(logging.INFO)
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(shape))
    for name in ("mcp_mailbox", "asyncio", "uvicorn"):
        logging.getLogger(name).addHandler(handler)
    logging.getLogger("mcp_mailbox").setLevel(logging.INFO)


def _allow_many_descriptors() -> None:
    """Make room for a descriptor per relay: the usual soft limit of 1,024 is a machine's worth of agents too small."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _note_program(place: rendezvous.Claimed) -> None:
    try:
        rendezvous.record_program(place.home, __version__, place.program)
    except OSError as error:  # a full disk; the next office tries again
        log.warning("this program cannot be noted: %s", error)


def run(place: rendezvous.Claimed, open_service: OpenService, *, stays: bool = False) -> int:
    """Be the office until somebody asks to stop; the exit code.

    `stays`: it serves in the foreground, and raises Refused when it cannot open.
    """

    async def main() -> int:
        return await _Office(place, open_service, stays=stays).run()

    with place:
        place.sign()
        _open_log(place)
        _allow_many_descriptors()
        _note_program(place)
        return anyio.run(main, backend_options={"use_uvloop": True})
