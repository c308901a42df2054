"""One host's connection, as the front sees it: who calls, what it may wait, what it subscribed to."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Generic, TypeVar

import anyio
import anyio.abc
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mcp_mailbox import addresses
from mcp_mailbox.addresses import Address
from mcp_mailbox.bell import Ending
from mcp_mailbox.errors import Blame, Code, Refusal
from mcp_mailbox.fronts.mcp.patience import Patience
from mcp_mailbox.fronts.verbs import Counter
from mcp_mailbox.postoffice import Call, Caller
from mcp_mailbox.postoffice.waits import Wait

T = TypeVar("T")

SUBSCRIPTION_LIMIT = 256
"""Resources that one connection may subscribe to."""

APART = 0.025
"""Seconds between two updates of one resource: less than anybody notices, and than a wake may take."""
PROGRESS_EVERY = 25.0
_WAIT_CAPS = (("claude-code", 1500.0), ("codex", 270.0))
_STDIO_CAPS = (("gemini-cli", 570.0), ("opencode", 600.0))
"""Of hosts that were measured on stdio alone."""
_WAIT_CAP = 55.0
"""Seconds after which a wait answers whatever was asked for: hosts end calls by themselves (docs/hosts.md)."""
_SHOWN = 130
"""Characters of a configured address that are shown: a good one has no more."""


class Coalesced(Generic[T]):
    """What is to be told to a host: the same twice is told once, so it never grows however slowly the host reads.

    However fast it reads, the same comes again only `APART` after it came last: a burst of mail is a few rings.
    """

    __slots__ = ("_added", "_items", "_taken")

    def __init__(self) -> None:
        self._items: dict[T, None] = {}
        self._taken: dict[T, float] = {}
        self._added: anyio.Event | None = None

    def add(self, item: T) -> None:
        """Tell it, behind what waits already."""
        self._items[item] = None
        if self._added is not None:
            self._added.set()

    async def take(self) -> T:
        """Return what has waited longest and may be told, once there is something."""
        while True:
            early = anyio.current_time() - APART
            self._taken = {item: at for item, at in self._taken.items() if at > early}
            for item in self._items:
                if item not in self._taken:
                    del self._items[item]
                    self._taken[item] = early + APART
                    return item
            self._added = anyio.Event()
            rest = min((self._taken[item] - early for item in self._items), default=math.inf)
            with anyio.move_on_after(rest):
                await self._added.wait()


@dataclass(slots=True)
class Request:
    """One request on the wire. `key` is the same when the same request comes again after a crash."""

    key: str
    resumed: bool = False
    leases: bool = False
    """Its answer may carry mail, leased or shown, so it matters whether that reached the host."""
    cancelled: bool = False
    """The host does not want the answer any more."""
    began: float | None = None
    """When it began to wait for mail, by the loop's clock; None: it does not, or that is not known."""
    wait: Wait | None = None
    """What a wait may leave behind when it raises Parked, to be asked again; None where it is not."""
    offer: Callable[[bytes], object] = lambda _: None
    """Tells the host a line before the answer, if that can be done at once: what may as well be lost."""


Context = ServerRequestContext["Client", Request]


def carries_mail(context: Context) -> None:
    """Ask to be told whether the answer reached the host."""
    if context.request is not None:
        context.request.leases = True


def waits(context: Context) -> None:
    """Note that a wait begins. How old one is that an earlier post office has begun is not known."""
    request = context.request
    if request is not None and request.began is None and not request.resumed:
        request.began = anyio.current_time()


def _nothing() -> None:
    pass


_NONE: Mapping[str, dict[str, object]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Subscription:
    """To one resource: which mailbox it is about, if any, what its ring calls and what ends it."""

    address: Address | None
    hear: Callable[[], None]
    end: Callable[[], None]


class Client:
    """State of one connection."""

    __slots__ = (
        "_configured",
        "_configured_by",
        "_patience",
        "_refusal",
        "_subscriptions",
        "_tasks",
        "_trouble",
        "_updated",
        "called",
        "caller",
        "counter",
        "ending",
        "experimental",
        "forgets",
        "introduced",
        "listens",
        "name_of_host",
        "program_changed",
        "progress_every",
        "resumed",
        "shook_hands",
        "thread",
    )

    def __init__(
        self,
        counter: Counter,
        caller: Caller,
        configured: str | None = None,
        *,
        resumed: bool = False,
        program_changed: bool = False,
        progress_every: float = PROGRESS_EVERY,
        configured_by: str = "MCP_MAILBOX_ADDRESS",
        forgets: bool = False,
        patience: Patience | None = None,
        experimental: Mapping[str, dict[str, object]] | None = None,
    ) -> None:
        self.counter = counter
        self.caller = caller
        self.resumed = resumed
        """This host was served before, by a post office that has ended since."""
        self.program_changed = program_changed
        """That was another version of the program: the host's list of tools may be stale."""
        self.progress_every = progress_every
        """Seconds between the signs of life of a wait."""
        self.listens = 0
        """Open streams of `subscriptions/listen`."""
        self.ending = Ending()
        """Set when the host closes or the post office stops: waits end early."""
        self.forgets = forgets
        """This is the state of one request: what a call opens, the next one does not know (HTTP, 2026-07-28)."""
        self.experimental: Mapping[str, dict[str, object]] = experimental or _NONE
        """Capabilities beside the protocol's; with any, a host is led to the handshake of 2025-11-25."""
        self.shook_hands = False
        """Whether the host speaks 2025-11-25, in which a server may say something unasked."""
        self.name_of_host = ""
        """What the host calls itself, once it has said so."""
        self.thread: str | None = None
        """In which of its conversations the host called last, where it tells (Codex)."""
        self.introduced: Callable[[], None] = _nothing
        """Is called when one of these is new."""
        self.called: Callable[[], None] = _nothing
        """Is called when a tool is, before it runs."""
        self._configured = configured
        self._configured_by = configured_by
        self._refusal: Refusal | None = None
        self._trouble: Refusal | None = None
        """Why the configured mailbox is not open yet: nobody's mistake, so it is tried again."""
        self._patience = patience or Patience()
        """Of this host."""
        self._subscriptions: dict[str, _Subscription] = {}
        self._updated: Coalesced[tuple[str, ServerSession]] | None = None
        self._tasks: anyio.abc.TaskGroup | None = None

    async def prepare(self) -> None:
        """Open the mailbox that the configuration names, so that mail can reach it before the first call."""
        if self._configured is not None and self._refusal is None:
            # Several may share a reader's id (HTTP), and each may have a mailbox of its own configured.
            key = f"configured {self._configured} {self.caller.space}"
            try:
                await self.counter.ensure(Call(self.caller, key), self._configured)
            except Refusal as refusal:
                told = Refusal(refusal.code, f"{self._configured_by}: {refusal.problem}", refusal.hint)
                if refusal.blame is Blame.CALLER:
                    self.refuse(told)
                else:
                    self._trouble = told
            else:
                self._trouble = None

    @property
    def refused(self) -> bool:
        """Whether the host's configuration is wrong, or what it names could not be opened."""
        return self._refusal is not None or self._trouble is not None

    def opened(self, address: Address) -> None:
        """Remember the mailbox as one's own, where readers are not known from one connection to the next (HTTP)."""
        if not self.caller.binds:
            self.caller = replace(self.caller, mailbox=str(address))

    def advice(self, opened: Address) -> str | None:
        """Return what to do when the next call, standing alone, does not act for the mailbox that was opened."""
        if not self.forgets or self._means(opened):
            return None
        if self._configured is None:
            return f"Calls stand alone here: pass mailbox='{opened}' in each, unless your host sends Mailbox-Address."
        return (
            f"Pass mailbox='{opened}' in each call; without it you act for {self._configured[:_SHOWN]!r},"
            f" as your host is set up ({self._configured_by})."
        )

    def _means(self, address: Address) -> bool:
        """Tell whether a call that names no mailbox acts for this one."""
        try:
            own = addresses.parse(self._configured or "", self.caller.space)
        except Refusal:
            return False
        return (own.folded, own.space) == (address.folded, address.space)

    def refuse(self, refusal: Refusal | None) -> None:
        """Answer every call with what is wrong with the host's configuration; None: nothing is."""
        self._refusal = refusal

    async def call(self, context: Context, mailbox: str | None = None) -> Call:
        """Return the call that this request is. Raises Refusal when it is about a mailbox that cannot be opened."""
        if mailbox is None:
            if self._trouble is not None:
                await self.prepare()
            refusal = self._refusal or self._trouble
            if refusal is not None:
                raise refusal
        key = context.request.key if context.request else str(context.request_id)
        return Call(self.caller, key, mailbox)

    def explain(self, refusal: Refusal) -> Refusal:
        """Return the refusal with a hint that helps where nothing is remembered from one call to the next."""
        if refusal.code is Code.NO_MAILBOX and self.forgets:
            hint = "Calls stand alone here: pass `mailbox` in each; create_mailbox makes one."
            return Refusal(refusal.code, refusal.problem, hint)
        return refusal

    def name(self, chosen: str | None) -> str | None:
        """Return the name to open: the one that the configuration says, when none was chosen."""
        return chosen if chosen is not None else self._configured

    def heard(self, context: Context) -> None:
        """Note what a request tells of the host beside what it asks."""
        params = context.session.client_params
        name = params.client_info.name if params is not None else self.name_of_host
        said = (context.meta or {}).get("threadId")
        thread = said if isinstance(said, str) else self.thread
        self.shook_hands = context.protocol_version not in MODERN_PROTOCOL_VERSIONS
        if (name, thread) != (self.name_of_host, self.thread):
            self.name_of_host, self.thread = name, thread
            self.introduced()

    def label(self, session: ServerSession) -> str:
        """Return how a person would recognise this host."""
        info = session.client_params.client_info if session.client_params else None
        name = "".join(filter(str.isprintable, f"{info.name} {info.version}"[:60])) if info else "a host"
        return sys.intern(f"{name} ({self.caller.how})")  # as many as wait there have the same

    def cap(self, session: ServerSession) -> float:
        """Return how many seconds a wait may last on this host."""
        name = session.client_params.client_info.name.lower() if session.client_params else ""
        caps = _WAIT_CAPS + (_STDIO_CAPS if self.caller.how == "stdio" else ())
        longest = next((seconds for prefix, seconds in caps if name.startswith(prefix)), _WAIT_CAP)
        return min(longest, self._patience.longest)

    # -- how long the host waits (`wire.Mail`)

    def gave_up(self, request: Request, reason: object, *, late: bool = False) -> None:
        """Learn from a request that the host has cancelled, with the reason that it gave; `late`: it was answered."""
        if request.began is not None:
            self._patience.gave_up(request.began, anyio.current_time(), reason, late=late)

    def left(self, request: Request) -> None:
        """Learn from a request whose stream the host has closed: so it gives up where no request knows of another."""
        if self.forgets:
            self.gave_up(request, None)

    def waited_for(self, request: Request) -> None:
        """Learn from a request that was answered."""
        if request.began is not None:
            self._patience.waited_for(anyio.current_time() - request.began)

    # -- what becomes of the leases of an answer (`wire.Mail`)

    async def reached(self, key: str, *, former: bool = False) -> None:
        """Note that the answer is in the host's hands."""
        await self.counter.reached(self.caller, key, former=former)

    def recalled(self) -> None:
        """Note that all is known of the answers of a post office before this one."""
        self.counter.recalled(self.caller)

    async def missed(self, key: str) -> None:
        """Put back what the answer carried: it is not wanted any more."""
        await self.counter.missed(self.caller, key)

    # -- the subscriptions of 2025-11-25

    def subscribe(self, uri: str, address: Address | None, session: ServerSession, *, resumed: bool) -> None:
        """Send an update for each ring; several before the host reads are one. `address` None never rings."""
        if len(self._subscriptions) >= SUBSCRIPTION_LIMIT and uri not in self._subscriptions:
            raise Refusal(Code.BAD_ARGUMENT, f"{SUBSCRIPTION_LIMIT} resources are subscribed.", "Unsubscribe some.")
        self.unsubscribe(uri)

        def hear() -> None:
            self._updates().add((uri, session))

        end = self.counter.bell.subscribe(address, hear) if address else _nothing
        self._subscriptions[uri] = _Subscription(address, hear, end)
        if self._tasks is not None:
            self._tasks.start_soon(self.push_updates)
            self._tasks = None
        if resumed:
            hear()  # what rang while the post office was away was not heard

    def unsubscribe(self, uri: str) -> None:
        """End it; not an error when there is none."""
        ended = self._subscriptions.pop(uri, None)
        if ended is not None:
            ended.end()

    def ring_all(self) -> None:
        """Tell each subscription once: what was on its way to a host that has gone was not heard."""
        for each in self._subscriptions.values():
            each.hear()

    def push_in(self, tasks: anyio.abc.TaskGroup) -> None:
        """Push updates for as long as these tasks run, once there is a subscription."""
        self._tasks = tasks

    async def push_updates(self) -> None:
        """Send what rang, one URI at a time, at the pace of a host that may be slow."""
        while True:
            uri, session = await self._updates().take()
            if uri in self._subscriptions:
                address = self._subscriptions[uri].address
                await session.send_resource_updated(uri)
                if address is not None:
                    await self.counter.rang(address)

    def _updates(self) -> Coalesced[tuple[str, ServerSession]]:
        """Return what is to be told; there is something for who has subscribed to anything."""
        if self._updated is None:
            self._updated = Coalesced()
        return self._updated

    def close(self) -> None:
        """End all subscriptions."""
        for uri in list(self._subscriptions):
            self.unsubscribe(uri)
