"""The only module that knows all parts: it makes the post office's process of a store, the rules and the fronts."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from mcp_mailbox import __version__, addresses, config, files, frames, office, rendezvous
from mcp_mailbox.audit import Trail
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.config import STORE_FILE
from mcp_mailbox.doorbell import Doorbell, Terms
from mcp_mailbox.doorbells.channel import CAPABILITY
from mcp_mailbox.doorbells.codex import CodexBell
from mcp_mailbox.doorbells.host import bell_of
from mcp_mailbox.doorbells.journal import Journal
from mcp_mailbox.doorbells.kin import nearest
from mcp_mailbox.doorbells.opencode import OpenCodeBell
from mcp_mailbox.engines.sqlite import SqliteStore, open_store
from mcp_mailbox.errors import Code, Refusal
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

log = logging.getLogger(__name__)

TOKEN_FILE = "token"  # noqa: S105 - its name
HUB_FILE = "hub.json"
OUTBOX_FILE = "edge.db"
_FILE_LETTERS = 12
EDGE_FILE = "edge"
_EDGE_BYTES = 16
COPIES = "opened"
"""Where attachments are put for agents to open, in the home directory."""
HANDED = "handed"
"""Where a person's command puts files that it attaches, in the home directory, for as long as it takes."""
_EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - no address of anybody's
_LOOK_EVERY = 1.0
"""Seconds between two looks at whether the store's file is still there."""


@dataclass(frozen=True, slots=True)
class FrontDoor:
    """A socket for HTTP that is bound, and what `serve` was told of it."""

    settings: config.Serving
    listener: socket.socket
    tls: ssl.SSLContext | None
    token_file: Path | None
    """Where the token of the machine's own user stands; None when no token is needed."""

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        scheme = "https" if self.settings.certificate else "http"
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"{scheme}://{host}:{self.port}"

    @property
    def known_as(self) -> str | None:
        """Scheme, host and port for those whom it is for; None when they have no name for it."""
        settings = self.settings
        name = next(iter(settings.hosts), None)
        if name is not None and settings.proxied:
            return f"https://{name}"
        if name is not None and not settings.local:
            port = f":{self.port}" if name.endswith("]") or ":" not in name else ""
            return f"https://{name}{port}"  # without TLS no other address is served
        return self.origin if settings.host not in _EVERYWHERE else None

    @property
    def name(self) -> str:
        """How whoever joins it may call it."""
        return (self.known_as or self.origin).partition("://")[2]

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self.listener.getsockname()[1])


@contextmanager
def front_door(home: str, settings: config.Serving) -> Iterator[FrontDoor]:
    """Take what a server needs first: one that cannot have it must not drive the running post office out.

    Raises Refusal, and rendezvous.Refused for a home that cannot be used.
    """
    from mcp_mailbox.fronts.http import listener  # noqa: PLC0415 - hosts on stdio need no HTTP

    tls = listener.load_tls(settings.certificate, settings.key) if settings.certificate else None
    with closing(listener.bind(settings.host, settings.port)) as bound:
        yield FrontDoor(settings, bound, tls, _token_file(home) if settings.tokens else None)


def _token_file(home: str) -> Path:
    """Return the file, which can be read and written, made when it is not there. Raises Refusal."""
    rendezvous.prepare_home(home)
    path = Path(home) / TOKEN_FILE
    try:
        os.close(files.open_private(str(path), os.O_RDWR))
    except OSError as error:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"{path} cannot be used: {error.strerror}.",
            "Your own token stands there: move what is there away; it is made anew.",
        ) from error
    return path


@asynccontextmanager
async def open_service(home: str, stop: office.Stop, door: FrontDoor | None = None) -> AsyncIterator[office.Service]:
    """Open the store of that home and serve it, over HTTP too when there is a door.

    Raises Refusal when the store or the settings cannot be used.
    """
    settings = config.office_settings(os.environ)
    hub = config.hub_settings(os.environ, await anyio.to_thread.run_sync(_kept_hub, home))
    if hub is not None:
        if door is not None:
            raise Refusal(
                Code.BAD_ARGUMENT,
                f"This machine's mail is kept by {hub.url}: `serve` would serve another store.",
                "Agents come to the hub over HTTP, or start `mcp-mailbox stdio` here.",
            )
        async with _branch(home, hub) as service:
            yield service
        return
    async with open_store(Path(home) / STORE_FILE, SystemClock(), settings.limits) as store:
        post_office = PostOffice(
            store,
            lease_term=settings.lease,
            keep=settings.keep,
            attachments=settings.attachments,
            copies=Path(home) / COPIES,
            handed=Path(home) / HANDED,
            quotas=settings.quotas,
        )
        post_office.doorbells.log = Journal(Path(home))
        audited = settings.audited if settings.audited is not None else door is not None and door.settings.beyond
        trail = Trail(Path(home), store.clock.now) if audited else None
        tokens = Tokens(store)
        async with post_office.business(), anyio.create_task_group() as tasks:
            tasks.start_soon(_leave_a_lost_store, store, stop)
            if trail is not None:
                tasks.start_soon(trail.run)
            service = _Office(post_office, tokens, home, trail)
            if door is None:
                yield service
            else:
                async with _http(service, door, stop):
                    yield service
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def _branch(home: str, hub: config.HubSettings) -> AsyncIterator[office.Service]:
    """Serve this machine's agents what a hub keeps for them."""
    from mcp_mailbox.engines.outbox import open_outbox  # noqa: PLC0415 - only edges need it
    from mcp_mailbox.link.branch import Branch  # noqa: PLC0415
    from mcp_mailbox.link.hub import Hub  # noqa: PLC0415

    name = await anyio.to_thread.run_sync(_edge_name, home)
    trusted = await anyio.to_thread.run_sync(_trusted, hub.certificates) if hub.certificates else True
    async with (
        open_outbox(Path(home) / _outbox_file(hub)) as outbox,
        Hub(hub.url, hub.token, name, trusted) as asked,
    ):
        branch = Branch(asked, outbox, SystemClock())
        async with branch.running():
            yield _Edge(branch, home, hub.space)


def _outbox_file(hub: config.HubSettings) -> str:
    """Return the name of the file for what is on its way: one for each hub, and for whom one speaks there.

    What waits for one must not go to another, nor in somebody else's name; it goes on when that one is joined again.
    """
    if not hub.joined:
        return OUTBOX_FILE
    which = hashlib.sha256(hub.joined.encode()).hexdigest()[:_FILE_LETTERS]
    return f"{Path(OUTBOX_FILE).stem}-{which}.db"


def _trusted(certificates: str) -> ssl.SSLContext:
    """Return whom a hub's certificate is taken from. Raises Refusal when the file that says so cannot be read."""
    try:
        return ssl.create_default_context(cafile=certificates)
    except OSError as error:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"The certificates by which this machine joined its hub cannot be read: {certificates}: {error.strerror}.",
            "Put the file back, or set SSL_CERT_FILE, then run `mcp-mailbox stop`.",
        ) from None


def _kept_hub(home: str) -> dict[str, object] | None:
    """Return what joining a hub has left in the home. Raises Refusal for what cannot be read.

    To serve a store of one's own then would be to take mail that nobody else sees.
    """
    place = Path(home) / HUB_FILE
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        hint = "Mend or remove it, then run `mcp-mailbox join` with a new invitation."
        raise Refusal(
            Code.BAD_ARGUMENT, f"{place}, which says which hub this machine has joined, cannot be read.", hint
        )
    return found


def _edge_name(home: str) -> str:
    """Return the name of this machine at its hub: random, and kept, so that it is known again."""
    place = Path(home) / EDGE_FILE
    with suppress(OSError):
        if len(known := place.read_text(encoding="ascii").strip()) == 2 * _EDGE_BYTES:
            return known
    files.replace(str(place), secrets.token_hex(_EDGE_BYTES) + "\n")
    return place.read_text(encoding="ascii").strip()


@asynccontextmanager
async def _http(service: _Office, door: FrontDoor, stop: office.Stop) -> AsyncIterator[None]:
    from mcp_mailbox.fronts.http import app, desk, gate, listener, stream, visit  # noqa: PLC0415
    from mcp_mailbox.fronts.http.resource import Resource  # noqa: PLC0415
    from mcp_mailbox.fronts.hub import edges, wire  # noqa: PLC0415
    from mcp_mailbox.fronts.hub.room import StoreRoom  # noqa: PLC0415
    from mcp_mailbox.fronts.join import room as joining  # noqa: PLC0415
    from mcp_mailbox.fronts.mcp.http import clients, room  # noqa: PLC0415

    settings = door.settings
    hosts = gate.LOOPBACK_NAMES | {settings.host.lower(), f"[{settings.host.lower()}]"}
    entrance = gate.Gate(door.port, hosts, frozenset(settings.hosts), settings.origins)
    reception: desk.Desk
    resource = None
    porches = {}
    if door.token_file is not None:
        await service.tokens.default(door.token_file)
        reception = own = desk.TokenDesk(service.tokens)
        if (issued := settings.oauth) is not None:
            from mcp_mailbox.fronts.http import issuer, oauth  # noqa: PLC0415 - who takes no such tokens needs no JWTs

            verifier = oauth.Verifier(issued.issuer, issued.audience, issuer.Keys(issued.issuer, issued.jwks))
            reception = oauth.OAuthDesk(own, issued.issuer, verifier, time.time)
            resource = Resource(issued.audience, issued.issuer, room.PATH)
        porches[joining.PATH] = joining.JoinRoom(service.tokens, door.name, proxied=settings.proxied)
    else:
        reception = desk.OpenDesk(LOCAL)
    streams = stream.OpenStreams()
    making = clients.Clients(service.counter, addresses.DEFAULT_SPACE)
    known = edges.Edges(service.counter)
    rooms: dict[str, visit.Room] = {
        room.PATH: room.McpRoom(service.server, making, streams),
        wire.PATH: StoreRoom(known, streams),
    }
    http = app.App(rooms, reception, entrance, streams, service.post_office.limits, service.trail, resource, porches)
    async with (
        known.running(),
        listener.listening(http, door.listener, door.tls),
        anyio.create_task_group() as tasks,
    ):

        async def close_in_time() -> None:
            await stop.wait()
            await http.close()  # at once, while relays are seen off

        tasks.start_soon(close_in_time)
        url = f"{door.origin}{room.PATH}"
        known_as = f"{door.known_as}{room.PATH}" if door.known_as else None
        service.http = lambda: {"url": url, "known_as": known_as, "auth": settings.tokens, **http.status()}
        how = f"token in {door.token_file}" if door.token_file else "open to everybody on this machine"
        log.info("MCP is at %s (%s); `mcp-mailbox status` says how to register it", url, how)
        yield
        tasks.cancel_scope.cancel()


async def _leave_a_lost_store(store: SqliteStore, stop: office.Stop) -> None:
    """Make way for a post office that opens what is there, when somebody removed or replaced the store's file."""
    while store.place.kept:  # noqa: ASYNC110 - a file system gives no event that is the same everywhere
        await anyio.sleep(_LOOK_EVERY)
    stop.request(details="the store's file was removed or replaced")


class _Relays:
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
        wire = Wire(connection, client, hello.epoch, client.ending, discovers=not client.experimental)
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
                await self.counter.depart(caller)

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


class _Office(_Relays):
    """Serves a store of this machine's own."""

    def __init__(self, post_office: PostOffice, tokens: Tokens, home: str, trail: Trail | None) -> None:
        super().__init__(Audited(post_office, trail) if trail is not None else Here(post_office), home)
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
        if (looped := self.post_office.looped) is not None:
            said["loop_guard"] = {"refused": looped[0], "at": looped[1], "last": str(looped[2])}
        return {**said, "audited": self.trail is not None, **({"http": http} if http else {})}

    async def command(self, asked: object, asker: office.Asker) -> None:
        """See `office.Service`."""
        await control.command(self.tokens, self.post_office, asker, asked, self._reader_of, self.trail)


class _Edge(_Relays):
    """Serves what a hub keeps."""

    def __init__(self, branch: Branch, home: str, space: str) -> None:
        super().__init__(branch, home, space)
        self.branch = branch

    def busy(self) -> bool:
        """See `office.Service`."""
        return bool(self.branch.outbox.waiting)

    def status(self) -> dict[str, Any]:
        """See `office.Service`."""
        return {"readers": self.branch.present, "hub": self.branch.status()}

    async def command(self, asked: object, asker: office.Asker) -> None:
        """See `office.Service`."""
        await control.at_branch(self.branch, asker, asked)


def _end_with(connection: office.RelayConnection, client: Client, wire: Wire) -> None:
    if connection.reason == frames.DRAIN:
        return  # the successor is there at once, and is asked the same again
    if connection.reason == frames.STOP:
        wire.leave()  # first: who is answered here asks again at once
    client.ending.set()
