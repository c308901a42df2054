"""A tiny office in a process of its own: a service that a test steers through what it sends, and a journal of what arrived.

Started like the real one (`python tiny.py <package directory> office`), so everything but the mail is real. Each
line is JSON with a `method`; the journal (`journal` in the home) has one line per thing that happened, which tests
follow. Environment variables of the office are allow-listed, so what a test wants stands in `tiny.json` in the home.
"""

from __future__ import annotations

import json
import os
import sys
import time

sys.path.insert(0, sys.argv[1])

from mcp_mailbox import rendezvous  # noqa: E402 - the package under test is the one that the test names


def settings(home: str) -> dict[str, object]:
    try:
        with open(os.path.join(home, "tiny.json")) as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return {}


def office() -> int:
    rendezvous.leave_the_host()
    home = rendezvous.home()
    wants = settings(home)
    if wants.get("die") == "start":
        raise SystemExit("planted: no start")
    place = rendezvous.claim(home, [sys.executable, "-P", *sys.argv])
    if place is None:
        return 0
    if wants.get("die") == "claimed":
        os._exit(3)
    place.detach()
    journal(home, event="start", version=rendezvous.__version__, pid=os.getpid(), ppid=os.getppid())
    if wants.get("pause"):
        time.sleep(float(str(wants["pause"])))  # stands for heavy imports
    return serve(place, wants)


def journal(home: str, **what: object) -> None:
    descriptor = os.open(os.path.join(home, "journal"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, json.dumps(what).encode() + b"\n")
    os.close(descriptor)


def serve(place: rendezvous.Claimed, wants: dict[str, object]) -> int:
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    import anyio

    from mcp_mailbox import frames, office

    for name, value in dict(wants.get("office") or {}).items():  # type: ignore[call-overload]
        setattr(office, name, value)
    for name, value in dict(wants.get("rendezvous") or {}).items():  # type: ignore[call-overload]
        setattr(rendezvous, name, value)
    home = place.home

    class Damaged(Exception):
        code = "store_damaged"
        hint = "Restore\nthe backup."

    class Tiny:
        def status(self) -> dict[str, object]:
            return {"mail": 7}

        async def serve(self, connection: office.RelayConnection) -> None:
            hello = connection.hello
            journal(
                home, event="hello", relay=hello.relay, epoch=hello.epoch, replay=hello.replay,
                previous=hello.previous, version=hello.version, env=dict(hello.env), resumed=hello.resumed,
            )  # fmt: skip
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch_leaving, connection, tasks)
                try:
                    while True:
                        frame = await connection.receive()
                        journal(
                            home, event="frame", kind=frame.kind.decode(), serial=frame.serial, epoch=hello.epoch,
                            length=frame.length or len(frame.line), line=frame.line[:100].decode("utf-8", "replace"),
                        )  # fmt: skip
                        tasks.start_soon(self._act, connection, frame)
                except anyio.EndOfStream:
                    journal(home, event="end", relay=hello.relay, epoch=hello.epoch)
                tasks.cancel_scope.cancel()

        async def _watch_leaving(self, connection: office.RelayConnection, tasks: anyio.abc.TaskGroup) -> None:
            await connection.leaving.wait()
            journal(home, event="leaving", reason=connection.reason)
            if connection.reason == frames.STOP and not wants.get("stubborn"):
                tasks.cancel_scope.cancel()

        async def _act(self, connection: office.RelayConnection, frame: office.Frame) -> None:
            if frame.kind == frames.OVERSIZED:
                await connection.answer(frame.serial, b'{"error":"too long"}')
            if frame.kind not in (frames.MESSAGE, frames.REPLAY):
                return
            try:
                message = json.loads(frame.line)
            except ValueError:
                message = {"method": "echo"}
            match message.get("method"):
                case "echo":
                    await self._reply(connection, frame, message, message.get("params"))
                case "initialize":
                    await connection.keep(frame.serial)
                    await self._reply(connection, frame, message, {})
                case "forget":
                    await connection.forget(frame.serial)
                    for serial in message.get("params", []):
                        await connection.forget(serial)
                case "hang":
                    await connection.leaving.wait()
                    if connection.reason == "host":
                        await self._reply(connection, frame, message, "early")
                case "answer-later":
                    # Until the replay: answered in the second epoch.
                    if frame.kind == frames.REPLAY:
                        await self._reply(connection, frame, message, "later")
                case "die":
                    os.kill(os.getpid(), 9)
                case "big":
                    await self._reply(connection, frame, message, "x" * int(message["params"]))
                    journal(home, event="answered", serial=frame.serial)
                case "flood":
                    for number in range(int(message["params"])):
                        await connection.notify(json.dumps({"n": number, "x": "y" * 1000}).encode())
                    await self._reply(connection, frame, message, "flooded")
                case "log":
                    import logging

                    for _ in range(int(message["params"])):
                        logging.getLogger("mcp_mailbox.tiny").info("x" * 1000)
                    await self._reply(connection, frame, message, "logged")

        async def _reply(
            self, connection: office.RelayConnection, frame: office.Frame, message: dict[str, object], result: object
        ) -> None:
            answer = {"jsonrpc": "2.0", "id": message.get("id"), "result": result}
            await connection.answer(frame.serial, json.dumps(answer).encode())

    @asynccontextmanager
    async def open_service(stop: office.Stop) -> AsyncIterator[Tiny]:
        if wants.get("die") == "open":
            raise Damaged
        if wants.get("die") == "kill-open":
            os.kill(os.getpid(), 9)
        yield Tiny()
        journal(home, event="closed", reason=stop.reason)

    return office.run(place, open_service)


if __name__ == "__main__":
    sys.exit(office())
