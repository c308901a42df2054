"""Files that are their owner's alone, whatever the umask and whoever made them looser.

Refuses to know what is in them. The relay imports this module before the host sees its first answer: `os` and nothing
else, which the interpreter has imported already.
"""

# ruff: noqa: PTH105, PTH108 - pathlib would cost the relay 8 ms, contextlib 3 ms
from __future__ import annotations

import os


def open_private(path: str, flags: int) -> int:
    """Open the file, which is made when it is not there; return the descriptor."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.fstat(descriptor).st_mode & 0o177:
        os.fchmod(descriptor, 0o600)
    return descriptor


def replace(path: str, text: str) -> None:
    """Replace the file whole: a reader sees the old text or the new one."""
    fresh = f"{path}.{os.getpid()}"
    descriptor = open_private(fresh, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, text.encode("utf-8", "surrogateescape"))
        os.replace(fresh, path)
    except OSError:
        os.unlink(fresh)
        raise
    finally:
        os.close(descriptor)


def read(path: str) -> str:
    """Return what is in it, up to 64 KiB; nothing when it cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 65536).decode("utf-8", "surrogateescape")
    finally:
        os.close(descriptor)
