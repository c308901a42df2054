"""What a post office's process does for the relays that come: each one's host is served over MCP, and can be rung.

Of a store of this machine's own, or of what a hub keeps; what the command line asks is answered here as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from mcp_mailbox import __version__, addresses, config, frames, office
from mcp_mailbox.audit import Trail
from mcp_mailbox.doorbell import Doorbell, Terms
from mcp_mailbox.doorbells.channel import CAPABILITY
from mcp_mailbox.doorbells.codex import CodexBell
from mcp_mailbox.doorbells.host import bell_of
from mcp_mailbox.doorbells.kin import nearest
from mcp_mailbox.doorbells.opencode import OpenCodeBell
from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts import control
from mcp_mailbox.fronts.audited import Audited
from mcp_mailbox.fronts.mcp.client import Client
from mcp_mailbox.fronts.mcp.server import build_server, serve
from mcp_mailbox.fronts.mcp.wire import Wire
from mcp_mailbox.fronts.verbs import Counter, Here
from mcp_mailbox.postoffice import DAY, Caller, PostOffice, roots
from mcp_mailbox.tokens import LOCAL, Tokens

if TYPE_CHECKING:
    from mcp_mailbox.link.branch import Branch

_AHEAD = 60
"""Seconds by which the store's time may differ from the machine's: more is said in `status`, and by `doctor`."""


class Relays:
    """Serves each relay's host over MCP."""

    def __init__(self, counter: Counter, home: str, space: str = addresses.DEFAULT_SPACE) -> None:
        self.home = home
        self.counter = counter
        self.space = space
        """Of hosts that name none."""
        self.server = build_server()
        self.parents: dict[str, tuple[int, Client]] = {}
        """Of each relay's reader: what has started it, and what is known of it."""
        self.bells: dict[str, tuple[office.RelayConnection, Doorbell]] = {}
        """Of each reader that can be rung: by which connection, and how."""

    async def serve(self, connection: office.RelayConnection) -> None:
        """See `office.Service`."""
        hello = connection.hello
        wrong: Refusal | None = None
        settings, terms = config.HostSettings(self.space, None), Terms()
        try:
            settings = config.host_settings(hello.env, self.space)
            terms = config.bell_terms(hello.env)
        except Refusal as refusal:
            wrong = refusal
        allowed = roots.parse(settings.attach, hello.cwd, self.home)
        caller = Caller(hello.relay, LOCAL, settings.space, files=allowed, exempt=True)
        changed = hello.previous is not None and hello.previous != __version__
        client = Client(
            self.counter,
            caller,
            settings.address,
            resumed=hello.resumed,
            program_changed=changed,
            experimental=CAPABILITY if settings.channels else None,
        )
        client.refuse(wrong)
        client.introduced = partial(self._introduce, connection, client, terms)
        self._remember(connection, client)
        wire = Wire(
            connection, client, hello.epoch, client.ending, discovers=not client.experimental, written=hello.written
        )
        self.counter.arrive(caller)
        self.parents[caller.reader] = (hello.parent, client)
        try:
            await client.prepare()
            await self.counter.greet(caller)
            async with anyio.create_task_group() as tasks:
                client.push_in(tasks)
                connection.on_leave(partial(_end_with, connection, client, wire))
                client.called = lambda: self._called(tasks, connection, client)
                await serve(self.server, client, wire)
                tasks.cancel_scope.cancel()
        finally:
            client.close()
            self.parents.pop(caller.reader, None)
            self.bells.pop(caller.reader, None)
            with anyio.CancelScope(shield=True):
                await self.counter.depart(caller, put_back=self._puts_back(connection))

    def _puts_back(self, connection: office.RelayConnection) -> bool:
        """Whether nobody has seen what is not known to have been seen, now that this connection has ended."""
        del connection
        return True

    def _introduce(self, connection: office.RelayConnection, client: Client, terms: Terms) -> None:
        """Let the host be rung from now on, if it has a bell that is known."""
        hello = connection.hello
        # A relay that is silent names no kind of bell.
        channel = connection.notify if client.experimental and client.shook_hands and hello.bells else None
        thread = lambda: client.thread  # noqa: E731
        bell = bell_of(client.name_of_host, hello.bells, connection.ring, thread, hello.cwd, channel)
        if bell is None:
            return
        if self.bells.get(client.caller.reader, (None, None))[0] is not connection:
            self.bells[client.caller.reader] = (connection, bell)
            if isinstance(bell, CodexBell):  # it starts a server for each of its threads
                self.counter.begins(client.caller, str(hello.parent), resumed=hello.resumed)
            self.counter.attach(client.caller, bell, terms, resumed=hello.resumed)
        else:
            self.counter.reachable(client.caller)  # its thread is known now
        self._note(connection, client)

    def _note(self, connection: office.RelayConnection, client: Client) -> None:
        known = {"name": client.name_of_host, "thread": client.thread, "shook_hands": client.shook_hands}
        connection.note(json.dumps(known))

    def _called(self, tasks: TaskGroup, connection: office.RelayConnection, client: Client) -> None:
        """Learn in which of its conversations the host calls, where that must be asked for while it does."""
        _, bell = self.bells.get(client.caller.reader, (None, None))
        if isinstance(bell, OpenCodeBell):
            tasks.start_soon(self._learn, connection, client, bell)

    async def _learn(self, connection: office.RelayConnection, client: Client, bell: OpenCodeBell) -> None:
        session = await bell.calling()
        if session is not None and session != client.thread:
            client.thread = session
            self.counter.reachable(client.caller)
            self._note(connection, client)

    def _remember(self, connection: office.RelayConnection, client: Client) -> None:
        """Know of the host what the post office before us did: an idle host says nothing."""
        with suppress(ValueError, TypeError, KeyError):
            known = json.loads(connection.hello.note)
            client.name_of_host, client.thread = str(known["name"]), known["thread"]
            client.shook_hands = known.get("shook_hands", False)
            client.introduced()

    def _reader_of(self, ancestors: Sequence[int], thread: str | None) -> Caller | None:
        # Those of one host share a process where it keeps all conversations in one (Codex): then the thread tells.
        known = {reader: (parent, client.thread) for reader, (parent, client) in self.parents.items()}
        for threads in ({thread} - {None}, {None} if thread else {None, *(each for _, each in known.values())}):
            found = nearest(ancestors, {reader: parent for reader, (parent, each) in known.items() if each in threads})
            if found is not None:
                return self.parents[found][1].caller
        return None


class OfficeService(Relays):
    """Serves a store of this machine's own."""

    def __init__(self, post_office: PostOffice, tokens: Tokens, home: str, trail: Trail | None) -> None:
        self.here = Audited(post_office, trail) if trail is not None else Here(post_office)
        super().__init__(self.here, home)
        self.trail = trail
        self.post_office = post_office
        self.tokens = tokens
        self.http: Callable[[], dict[str, Any]] = dict

    def busy(self) -> bool:
        """See `office.Service`."""
        return False

    def status(self) -> dict[str, Any]:
        """See `office.Service`."""
        http = self.http()
        keep_days = self.post_office.retention.keep // DAY
        attached = {"bytes": self.post_office.attachments.stored}
        said: dict[str, Any] = {"readers": self.post_office.present, "keep_days": keep_days, "attachments": attached}
        ahead = self.post_office.clock.now() // 1000 - int(time.time())
        if ahead > _AHEAD:
            said["clock_ahead_seconds"] = ahead
        if (looped := self.post_office.looped) is not None:
            said["loop_guard"] = {"refused": looped[0], "at": looped[1], "last": str(looped[2])}
        return {**said, "audited": self.trail is not None, **({"http": http} if http else {})}

    async def command(self, asked: object, asker: office.Asker) -> None:
        """See `office.Service`."""
        own = (self.tokens, self.post_office)
        await control.command(self.counter, own, asker, asked, self._reader_of, self.trail)


class EdgeService(Relays):
    """Serves what a hub keeps."""

    def __init__(self, branch: Branch, home: str, space: str) -> None:
        super().__init__(branch, home, space)
        self.branch = branch

    def _puts_back(self, connection: office.RelayConnection) -> bool:
        # It is us who leave: its host may still read what it was handed, and the hub asks the next one of us.
        return connection.reason not in {frames.STOP, frames.DRAIN}

    def busy(self) -> bool:
        """See `office.Service`."""
        return bool(self.branch.outbox.waiting)

    def status(self) -> dict[str, Any]:
        """See `office.Service`."""
        return {"readers": self.branch.present, "hub": self.branch.status()}

    async def command(self, asked: object, asker: office.Asker) -> None:
        """See `office.Service`."""
        await control.command(self.counter, None, asker, asked, self._reader_of, keys=self.branch.keyring)


def _end_with(connection: office.RelayConnection, client: Client, wire: Wire) -> None:
    if connection.reason == frames.DRAIN:
        return  # the successor is there at once, and is asked the same again
    if connection.reason == frames.STOP:
        wire.leave()  # first: who is answered here asks again at once
    client.ending.set()
