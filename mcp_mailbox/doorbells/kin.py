"""Which relay belongs to the host that has started a hook: the one whose host is its nearest ancestor.

Between a host and what it starts there may be a launcher (`uvx`, a shell). Ids of processes are the only thing that a
hook and a server of the same host share; where a system does not tell of other processes, parents alone are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mcp_mailbox import processes

_LAUNCHERS = ("uv", "uvx", "npx", "npm", "node", "pipx", "sh", "bash", "dash", "zsh", "python")


def nearest(
    ancestors: Sequence[int],
    parents: Mapping[str, int],
    parent_of: Callable[[int], int] = processes.parent_of,
    called: Callable[[int], str] = processes.name_of,
) -> str | None:
    """Return which of the relays, whose `parents` are given, is a child of the nearest of these; the newest of several.

    None when none is.
    """
    ranks = {pid: rank for rank, pid in enumerate(ancestors)}
    found: list[tuple[int, int, str]] = []
    for age, (reader, parent) in enumerate(parents.items()):
        for distance, pid in enumerate(_hosts(parent, parent_of, called)):
            if pid in ranks:
                found.append((ranks[pid] + distance, -age, reader))
                break
    return min(found)[2] if found else None


def _hosts(parent: int, parent_of: Callable[[int], int], called: Callable[[int], str]) -> Sequence[int]:
    """Return the parent, and that of a launcher too."""
    if parent <= 1:
        return ()
    if not called(parent).startswith(_LAUNCHERS):
        return (parent,)
    beyond = parent_of(parent)
    return (parent, beyond) if beyond > 1 else (parent,)
