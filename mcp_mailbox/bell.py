"""The bell of one process: "look again", without any data.

Rings coalesce: however often it rings before one looks, one looks once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView
from contextlib import contextmanager
from functools import partial

import anyio
import anyio.lowlevel

from mcp_mailbox.addresses import Address

_Key = tuple[str, str]
Hear = Callable[[], None]


class Ear:
    """What one waiter hears. An event is made only while it waits: one that idles is a kilobyte."""

    __slots__ = ("_event", "_heard")

    def __init__(self) -> None:
        self._heard = False
        self._event: anyio.Event | None = None

    def hear(self) -> None:
        """Note a ring."""
        self._heard = True
        if self._event is not None:
            self._event.set()

    def clear(self) -> None:
        """Forget what was heard; call it before looking, so that a ring in between is kept."""
        self._heard = False

    async def wait(self) -> None:
        """Return once it has rung since `clear`."""
        if self._heard:
            await anyio.lowlevel.checkpoint()
            return
        self._event = anyio.Event()
        try:
            await self._event.wait()
        finally:
            self._event = None


class Ending:
    """Happens once: whoever waits for something on somebody's behalf is to come to an end."""

    __slots__ = ("_hear", "_set")

    def __init__(self) -> None:
        self._set = False
        self._hear: list[Hear] = []

    def set(self) -> None:
        """Tell everyone."""
        self._set = True
        for hear in tuple(self._hear):
            hear()

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._set

    @contextmanager
    def telling(self, hear: Hear) -> Iterator[None]:
        """Call `hear` when it happens, or at once when it has, for as long as the block lasts."""
        try:
            self.tell(hear)
            yield
        finally:
            self.untell(hear)

    def tell(self, hear: Hear) -> None:
        """Call `hear` when it happens, or at once when it has, until `untell`."""
        self._hear.append(hear)
        if self._set:
            hear()

    def untell(self, hear: Hear) -> None:
        """Call it no more."""
        self._hear.remove(hear)


class Bell:
    """Who listens for which mailbox."""

    def __init__(self) -> None:
        self._listeners: dict[_Key, dict[object, Hear]] = {}

    @property
    def listened(self) -> KeysView[_Key]:
        """The mailboxes for which somebody listens, by folded name and space."""
        return self._listeners.keys()

    def ring(self, address: Address) -> None:
        """Tell everyone who listens for that mailbox. Listeners must not raise nor wait."""
        for hear in tuple(self._listeners.get(key(address), {}).values()):
            hear()

    def subscribe(self, address: Address, hear: Hear) -> Callable[[], None]:
        """Call `hear` for each ring; return what ends that (idempotent)."""
        token = object()
        self.listen(address, token, hear)
        return partial(self.ignore, address, token)

    def listen(self, address: Address, who: object, hear: Hear) -> None:
        """Call `hear` for each ring, until `ignore` of the same `who`."""
        self._listeners.setdefault(key(address), {})[who] = hear

    def ignore(self, address: Address, who: object) -> None:
        """Tell this one no more; not an error when it is told nothing."""
        own = key(address)
        listeners = self._listeners.get(own, {})
        listeners.pop(who, None)
        if not listeners:
            self._listeners.pop(own, None)

    @contextmanager
    def listening(self, address: Address) -> Iterator[Ear]:
        """Listen for as long as the block lasts."""
        ear = Ear()
        unsubscribe = self.subscribe(address, ear.hear)
        try:
            yield ear
        finally:
            unsubscribe()


def key(address: Address) -> _Key:
    """Return what makes an address the same."""
    return address.folded, address.space
