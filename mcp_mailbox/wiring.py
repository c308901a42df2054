"""The only module that knows all parts: it makes the post office's process of a store, the rules and the fronts."""

from __future__ import annotations

import json
import logging
import os
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from mcp_mailbox import addresses, config, files, machine, office
from mcp_mailbox.audit import Trail
from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.config import STORE_FILE
from mcp_mailbox.doorbells.journal import Journal
from mcp_mailbox.engines.sqlite import SqliteStore, open_store
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.frontdoor import FrontDoor
from mcp_mailbox.postoffice import PostOffice
from mcp_mailbox.services import EdgeService, OfficeService
from mcp_mailbox.tokens import LOCAL, Tokens

if TYPE_CHECKING:
    from mcp_mailbox.link.signatures import Key

log = logging.getLogger(__name__)

PARCELS = ".files"
"""Behind the outbox's name: where files lie that are on their way to the hub."""
SEEN = ".seen"
"""As that: what has reached a host and the hub does not know."""
PARCELS_MOST = 1 << 30
"""Bytes of them."""
EDGE_FILE = "edge"
KEY_FILE = "signing-key.json"
_EDGE_BYTES = 16
COPIES = "opened"
"""Where attachments are put for agents to open, in the home directory."""
HANDED = "handed"
"""Where a person's command puts files that it attaches, in the home directory, for as long as it takes."""
_LOOK_EVERY = 1.0
"""Seconds between two looks at whether the store's file is still there."""


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
        async with _branch(home, hub, settings) as service:
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
            service = OfficeService(post_office, tokens, home, trail)
            if door is None:
                yield service
            else:
                async with _http(service, door, stop):
                    yield service
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def _branch(home: str, hub: config.HubSettings, settings: config.OfficeSettings) -> AsyncIterator[office.Service]:
    """Serve this machine's agents what a hub keeps for them."""
    from mcp_mailbox.engines.outbox import open_outbox  # noqa: PLC0415 - only edges need it
    from mcp_mailbox.link.branch import Branch, Shelves  # noqa: PLC0415
    from mcp_mailbox.link.hub import Hub  # noqa: PLC0415
    from mcp_mailbox.link.parcels import Parcels  # noqa: PLC0415
    from mcp_mailbox.link.seen import Seen  # noqa: PLC0415
    from mcp_mailbox.postoffice.copies import Copies  # noqa: PLC0415
    from mcp_mailbox.postoffice.handed import Tray  # noqa: PLC0415

    name = await anyio.to_thread.run_sync(_edge_name, home)
    trusted = await anyio.to_thread.run_sync(_trusted, hub.certificates) if hub.certificates else True
    place = Path(home) / hub.outbox
    async with (
        open_outbox(place) as outbox,
        Hub(hub.url, hub.token, name, trusted, hub.proxy) as asked,
    ):
        key = await anyio.to_thread.run_sync(_signing_key, home) if hub.sign else None
        shelves = Shelves(
            Parcels(place.with_name(place.name + PARCELS), settings.attachments, PARCELS_MOST),
            Tray(Path(home) / HANDED),
            Copies(Path(home) / COPIES),
            Seen(place.with_name(place.name + SEEN)),
        )
        branch = Branch(asked, outbox, SystemClock(), shelves, key, settings.limits.pair)
        branch.log = Journal(Path(home))
        async with branch.running():
            yield EdgeService(branch, home, hub.space)


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
    place = Path(home) / machine.HUB_FILE
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


def _signing_key(home: str) -> Key:
    """Return the key by which this machine signs, made when there is none. Raises Refusal for one that is damaged."""
    from mcp_mailbox.link.signatures import Key, new_key  # noqa: PLC0415 - only who signs needs it

    place = Path(home) / KEY_FILE
    if not place.exists():
        files.replace(str(place), new_key() + "\n")
    try:
        os.close(files.open_private(str(place), os.O_RDONLY))
        return Key(place.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise Refusal(
            Code.BAD_ARGUMENT,
            f"The key {place} cannot be used: {error}.",
            "Put it back from a backup; with another one, others have to trust it anew.",
        ) from error


def _edge_name(home: str) -> str:
    """Return the name of this machine at its hub: random, and kept, so that it is known again."""
    place = Path(home) / EDGE_FILE
    with suppress(OSError):
        if len(known := place.read_text(encoding="ascii").strip()) == 2 * _EDGE_BYTES:
            return known
    files.replace(str(place), secrets.token_hex(_EDGE_BYTES) + "\n")
    return place.read_text(encoding="ascii").strip()


@asynccontextmanager
async def _http(service: OfficeService, door: FrontDoor, stop: office.Stop) -> AsyncIterator[None]:
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
    known = edges.Edges(service.here)
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
