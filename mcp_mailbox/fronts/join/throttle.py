"""How often strangers may try something: so many times a minute from one address, and from all of them together.

What is tried counts from its beginning, so that many at once are no way around it; what has come to something is given
back. Who is behind one address, or one IPv6 network, counts as one.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

TERM = 60.0
"""Seconds in which a budget is whole again."""
EACH = 10
"""Tries of one address in that time."""
TOGETHER = 300
"""Tries of all of them."""
_REMEMBERED = 10_000
"""Addresses; beyond, those that have tried longest ago are forgotten."""
_NETWORK = 64
"""Bits of an IPv6 address that are a customer's network: the rest is for it to choose."""


class _Bucket:
    """So many tries, which come back evenly."""

    def __init__(self, size: int, now: float) -> None:
        self._size = size
        self._left = float(size)
        self._at = now

    def take(self, now: float) -> float:
        """Take one; return 0, or after how many seconds there is one."""
        self._left = min(self._size, self._left + (now - self._at) * self._size / TERM)
        self._at = now
        if self._left < 1:
            return (1 - self._left) * TERM / self._size
        self._left -= 1
        return 0.0

    def give_back(self) -> None:
        self._left = min(self._size, self._left + 1)


class Throttle:
    """The budgets of one server. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all = _Bucket(TOGETHER, clock())
        self._each: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, address: str) -> float:
        """Count a try; return 0 when it may be made, else after how many seconds one may."""
        now, bucket = self._clock(), self._bucket(address)
        return bucket.take(now) or self._all.take(now)

    def give_back(self, address: str) -> None:
        """Take a try back that has come to something."""
        self._bucket(address).give_back()
        self._all.give_back()

    def _bucket(self, address: str) -> _Bucket:
        key = _network(address)
        bucket = self._each.pop(key, None) or _Bucket(EACH, self._clock())
        self._each[key] = bucket
        if len(self._each) > _REMEMBERED:
            self._each.popitem(last=False)
        return bucket


def _network(address: str) -> str:
    """Return what counts as one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:  # noqa: PLR2004
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _NETWORK), strict=False))
