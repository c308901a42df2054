"""Memories with a bound: what came last stays."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


def trim(known: OrderedDict[Any, Any], most: int) -> None:
    """Forget what came first, until there are no more than that."""
    while len(known) > most:
        known.popitem(last=False)
