"""Readable names for mailboxes that were given none: `amber-otter`. Whether one is free, the engine knows."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

_COLOURS = (
    "amber ash azure beige bronze cobalt copper coral crimson cyan ebony emerald golden green indigo ivory jade "
    "lilac lime maroon mauve ochre olive opal pearl plum rose ruby rust saffron sage scarlet sepia sienna silver "
    "slate teal umber violet"
).split()
_ANIMALS = (
    "badger beaver bison bittern crane curlew dolphin dormouse eagle egret falcon ferret finch fox gannet gecko "
    "grebe hare heron hornet ibex ibis jackdaw kestrel kite lapwing lark lemur linnet lynx magpie marten merlin "
    "newt osprey otter owl petrel pika plover puffin raven robin salmon seal shrew siskin skua sparrow stoat stork "
    "swift tapir tern thrush toad trout vole walrus weasel wren"
).split()


def suggestions() -> Iterator[str]:
    """Yield names without end; after a few, with a number, so that a full space still has one free."""
    tries = 0
    while True:
        name = f"{secrets.choice(_COLOURS)}-{secrets.choice(_ANIMALS)}"
        yield name if tries < 5 else f"{name}-{secrets.randbelow(10 ** min(tries // 5 + 1, 9))}"  # noqa: PLR2004
        tries += 1
