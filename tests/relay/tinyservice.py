"""What the tiny office serves: each method of a line makes one thing happen that a test wants to see."""

from __future__ import annotations

import json
import logging
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from mcp_mailbox import frames, office

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from mcp_mailbox import rendezvous


class DamagedError(Exception):
    """Stands for any refusal of a store: a code and a hint, which may have several lines."""

    code = "store_damaged"
    hint = "Restore\nthe backup."


def wants(home: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((home / "tiny.json").read_text()))
    except FileNotFoundError:
        return {}


def journal(home: Path, **what: object) -> None:
    descriptor = os.open(home / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, json.dumps(what).encode() + b"\n")
    os.close(descriptor)


class Tiny:
    def __init__(self, home: Path, *, stubborn: bool) -> None:
        self.home = home
        self.stubborn = stubborn

    async def command(self, asked: object, asker: office.Asker) -> None:
        if asked == "fail":
            raise ValueError("planted: a bug in a command")
        if asked == "hang":
            journal(self.home, event="hanging")
            try:
                await anyio.sleep_forever()
            finally:
                journal(self.home, event="let go")
        await asker.tell({"told": asked})
        taken = await asker.answer({"asked": asked})
        journal(self.home, event="answered command", taken=taken)

    def busy(self) -> bool:
        return False

    def status(self) -> dict[str, object]:
        return {"mail": 7}

    async def serve(self, connection: office.RelayConnection) -> None:
        hello = connection.hello
        about = {name: getattr(hello, name) for name in ("relay", "epoch", "replay", "previous", "version", "resumed")}
        journal(self.home, event="hello", env=dict(hello.env), bells=sorted(hello.bells), **about)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._leave, connection, tasks.cancel_scope)
            try:
                while True:
                    frame = await connection.receive()
                    self._note(frame, hello.epoch)
                    tasks.start_soon(self._act, connection, frame)
            except anyio.EndOfStream:
                journal(self.home, event="end", relay=hello.relay, epoch=hello.epoch)
            tasks.cancel_scope.cancel()

    def _note(self, frame: office.Frame, epoch: int) -> None:
        journal(
            self.home,
            event="frame",
            kind=frame.kind.decode(),
            serial=frame.serial,
            epoch=epoch,
            length=frame.length or len(frame.line),
            line=frame.line[: frames.HEAD_LIMIT + frames.TAIL_LIMIT].decode("utf-8", "replace"),
        )

    async def _leave(self, connection: office.RelayConnection, serving: anyio.CancelScope) -> None:
        await _leaving(connection)
        journal(self.home, event="leaving", reason=connection.reason)
        if connection.reason == frames.STOP and not self.stubborn:
            serving.cancel()

    async def _act(self, connection: office.RelayConnection, frame: office.Frame) -> None:
        if frame.kind == frames.OVERSIZED:
            await connection.answer(frame.serial, b'{"error":"too long"}')
        if frame.kind not in (frames.MESSAGE, frames.REPLAY):
            return
        try:
            message = json.loads(frame.line)
        except ValueError:
            return
        act = ACTS.get(message.get("method"))
        if act:
            result = await act(connection, frame, message.get("params"))
            if result is not NO_ANSWER:
                answer = {"jsonrpc": "2.0", "id": message.get("id"), "result": result}
                await connection.answer(frame.serial, json.dumps(answer).encode())
                journal(self.home, event="answered", serial=frame.serial)


NO_ANSWER = object()


async def echo(_: office.RelayConnection, __: office.Frame, params: Any) -> object:
    return params


async def initialize(connection: office.RelayConnection, frame: office.Frame, _: Any) -> object:
    await connection.keep(frame.serial)
    return {}


async def forget(connection: office.RelayConnection, frame: office.Frame, params: Any) -> object:
    for serial in [frame.serial, *(params or [])]:
        await connection.forget(serial)
    return NO_ANSWER


async def _leaving(connection: office.RelayConnection) -> None:
    told = anyio.Event()
    connection.on_leave(told.set)
    await told.wait()


async def hang(connection: office.RelayConnection, _: office.Frame, __: Any) -> object:
    await _leaving(connection)
    return "early"


async def answer_later(_: office.RelayConnection, frame: office.Frame, __: Any) -> object:
    return "later" if frame.kind == frames.REPLAY else NO_ANSWER


async def die(_: office.RelayConnection, __: office.Frame, ___: Any) -> object:
    os.kill(os.getpid(), 9)
    return NO_ANSWER


async def fail(_: office.RelayConnection, __: office.Frame, ___: Any) -> object:
    raise RuntimeError("planted: a bug in one relay's service")


async def big(_: office.RelayConnection, __: office.Frame, params: Any) -> object:
    return "x" * int(params)


async def flood(connection: office.RelayConnection, _: office.Frame, params: Any) -> object:
    taken = [await connection.notify(json.dumps({"n": n, "x": "y" * 1000}).encode()) for n in range(params)]
    return taken.count(True)


async def log(_: office.RelayConnection, __: office.Frame, params: Any) -> object:
    for _number in range(params):
        logging.getLogger("mcp_mailbox.tiny").info("x" * 1000)
    return "logged"


async def ring(connection: office.RelayConnection, _: office.Frame, params: Any) -> object:
    kind, text = params
    return await connection.ring(kind, text.encode())


ACTS: dict[str, Callable[[office.RelayConnection, office.Frame, Any], Awaitable[object]]] = {
    "echo": echo,
    "initialize": initialize,
    "forget": forget,
    "hang": hang,
    "answer-later": answer_later,
    "die": die,
    "fail": fail,
    "big": big,
    "flood": flood,
    "log": log,
    "ring": ring,
}


def run(place: rendezvous.Claimed, wanted: dict[str, Any]) -> int:
    for name, value in wanted.get("office", {}).items():
        setattr(office, name, value)
    home = Path(place.home)

    @asynccontextmanager
    async def open_service(stop: office.Stop) -> AsyncIterator[Tiny]:
        if wanted.get("die") == "open":
            raise DamagedError
        if wanted.get("never_opens"):
            await anyio.sleep_forever()
        yield Tiny(home, stubborn=bool(wanted.get("stubborn")))
        journal(home, event="closed", reason=stop.reason)

    return office.run(place, open_service)
